/* SPDX-License-Identifier: MIT
 *
 * symbolize_scopes.c - addresses of one DWARF unit: function, what was inlined there, file and line.
 *
 * symbolize.c calls, unit by unit. A unit's functions are listed once, and inlined calls are searched with all
 * addresses of a function at the same time. Scopes live in an arena for as long as their unit is looked at.
 */
#include "report/symbolize_parts.h"

#include <dwarf.h>
#include <string.h>

enum { INLINE_DEPTH_MAX = 128, SCOPE_DEPTH_MAX = 256 };

/* A function, or a call of one that was inlined. */
typedef struct moda_scope {
    struct moda_scope *outer;
    Dwarf_Die die;
    uint32_t depth; /* how many are around it */
} scope;

typedef struct unit_view {
    moda_symbolizer *symbolizer;
    moda_object *object;
    Dwarf_Die die; /* of the unit; of its split half, where it has one */
    Dwarf_Die line_die;
    Dwarf_Files *files;
    size_t file_count;
    moda_arena *scopes;          /* for as long as the unit is looked at */
    moda_full_names *full_names; /* NULL: the unit's language has no scopes */
} unit_view;

/* ---- scopes ---- */

/* The addresses in [start, end) of a sorted slice. */
static void narrow(const moda_pending *all, size_t low, size_t high, uint64_t start, uint64_t end,
                   size_t *from, size_t *to) {
    size_t a = low, b = high;
    while (a < b) {
        const size_t middle = a + (b - a) / 2;
        if (all[middle].address < start)
            a = middle + 1;
        else
            b = middle;
    }
    *from = a;
    b = high;
    while (a < b) {
        const size_t middle = a + (b - a) / 2;
        if (all[middle].address < end)
            a = middle + 1;
        else
            b = middle;
    }
    *to = a;
}

static scope *scope_new(unit_view *view, const Dwarf_Die *die, scope *outer) {
    scope *const made = moda_arena_alloc(view->scopes, sizeof *made);
    if (made != NULL)
        *made = (scope){.outer = outer, .die = *die, .depth = outer != NULL ? outer->depth + 1 : 0};
    return made;
}

/* Finds what was inlined at the addresses [low, high), all of which lie in `parent`. */
__attribute__((nonnull)) static void find_inlined(unit_view *view, Dwarf_Die *parent, scope *around,
                                                  moda_pending *all, size_t low, size_t high, int depth) {
    Dwarf_Die die;
    if (depth > SCOPE_DEPTH_MAX || dwarf_child(parent, &die) != 0)
        return;
    do {
        const int tag = dwarf_tag(&die);
        const bool is_inlined = tag == DW_TAG_inlined_subroutine;
        if (!is_inlined && tag != DW_TAG_lexical_block && tag != DW_TAG_try_block
            && tag != DW_TAG_catch_block)
            continue;
        scope *inside = is_inlined ? NULL : around;
        bool has_code = false;
        Dwarf_Addr base, start, end;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(&die, at, &base, &start, &end)) > 0;) {
            has_code = true;
            size_t from, to;
            narrow(all, low, high, start, end, &from, &to);
            if (from == to)
                continue;
            if (inside == NULL)
                inside = around->depth < INLINE_DEPTH_MAX ? scope_new(view, &die, around) : around;
            if (inside == NULL)
                return;
            for (size_t i = from; i < to; i++)
                all[i].innermost = inside;
            find_inlined(view, &die, inside, all, from, to, depth + 1);
        }
        if (!has_code && !is_inlined)
            find_inlined(view, &die, around, all, low, high, depth + 1);
    } while (dwarf_siblingof(&die, &die) == 0);
}

/* If the DIE of a function has code at some of the addresses, they get it as their outermost scope. */
static void place_function(unit_view *view, Dwarf_Die *die, moda_pending *all, size_t count) {
    Dwarf_Addr base, start, end;
    scope *function = NULL;
    for (ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &start, &end)) > 0;) {
        size_t from, to;
        narrow(all, 0, count, start, end, &from, &to);
        if (from == to)
            continue;
        if (function == NULL)
            function = scope_new(view, die, NULL);
        if (function == NULL)
            return;
        for (size_t i = from; i < to; i++)
            all[i].innermost = function;
        if (!view->symbolizer->options.no_inlines)
            find_inlined(view, die, function, all, from, to, 0);
    }
}

/* Finds the functions in which the addresses lie; those inside of other functions (members of local types, as
 * lambdas are) only if asked to, since it takes a walk through all of the unit. */
static void find_functions(unit_view *view, Dwarf_Die *parent, moda_pending *all, size_t count,
                           bool is_thorough, int depth) {
    Dwarf_Die die;
    if (depth > SCOPE_DEPTH_MAX || dwarf_child(parent, &die) != 0)
        return;
    do {
        bool is_parent = false;
        switch (dwarf_tag(&die)) {
        case DW_TAG_subprogram:
            place_function(view, &die, all, count);
            is_parent = is_thorough;
            break;
        case DW_TAG_namespace:
        case DW_TAG_module: is_parent = true; break;
        case DW_TAG_lexical_block:
        case DW_TAG_structure_type:
        case DW_TAG_class_type:
        case DW_TAG_union_type: is_parent = is_thorough; break;
        default: break;
        }
        if (is_parent)
            find_functions(view, &die, all, count, is_thorough, depth + 1);
    } while (dwarf_siblingof(&die, &die) == 0);
}

/* Looks again, more thoroughly, for the addresses that have no function though the symbol table knows one. */
static void find_missed_functions(unit_view *view, moda_pending *all, size_t count) {
    moda_pending *rest = NULL;
    size_t missed = 0;
    for (size_t i = 0; i < count; i++) {
        if (all[i].innermost != NULL
            || !moda_symbolize_has_symbol(view->object, all[i].address + view->object->dwarf_bias))
            continue;
        if (rest == NULL)
            rest = moda_arena_alloc(view->scopes, (count - i) * sizeof *rest);
        if (rest == NULL)
            return;
        rest[missed++] = all[i];
    }
    if (missed == 0)
        return;
    find_functions(view, &view->die, rest, missed, true, 0);
    for (size_t i = 0, k = 0; i < count && k < missed; i++)
        if (all[i].lookup == rest[k].lookup)
            all[i].innermost = rest[k++].innermost;
}

/* ---- names and lines ---- */

static uint32_t attribute_number(Dwarf_Die *die, unsigned name, bool is_integrated) {
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    Dwarf_Attribute *const found =
        is_integrated ? dwarf_attr_integrate(die, name, &attribute) : dwarf_attr(die, name, &attribute);
    return dwarf_formudata(found, &value) == 0 && value <= UINT32_MAX ? (uint32_t)value : 0;
}

static void name_function(unit_view *view, Dwarf_Die *die, moda_symbol *symbol) {
    moda_symbolizer *const s = view->symbolizer;
    const char *linkage = moda_symbolize_string(die, DW_AT_linkage_name);
    if (linkage == NULL)
        linkage = moda_symbolize_string(die, DW_AT_MIPS_linkage_name);
    const char *const name = linkage != NULL ? linkage : moda_symbolize_string(die, DW_AT_name);
    if (name == NULL)
        return;
    symbol->linkage_name = moda_arena_intern(s->arena, name);
    if (symbol->linkage_name == NULL)
        return;
    symbol->function =
        linkage != NULL ? moda_symbolize_demangle(s, symbol->linkage_name) : symbol->linkage_name;
    symbol->function_line = attribute_number(die, DW_AT_decl_line, true);
}

/* A name that is not a mangled one gets the scopes around it; not that of an extern "C" function, which the symbol table
 * knows by it. */
static void add_scopes(unit_view *view, const scope *function, uint64_t address, moda_symbol *symbol) {
    if (view->full_names == NULL || symbol->function == NULL || symbol->function != symbol->linkage_name
        || (function->outer == NULL && moda_symbolize_is_symbol(view->object, address, symbol->function)))
        return;
    const char *const name = moda_symbolize_full_name(view->full_names, &function->die);
    if (name != NULL)
        symbol->function = name;
}

static void name_line(unit_view *view, uint64_t address, moda_symbol *symbol) {
    Dwarf_Line *const line = dwarf_getsrc_die(&view->line_die, address);
    if (line == NULL)
        return;
    int number = 0, column = 0;
    const char *const file = dwarf_linesrc(line, NULL, NULL);
    if (file == NULL || dwarf_lineno(line, &number) != 0)
        return;
    dwarf_linecol(line, &column);
    symbol->file = moda_arena_intern(view->symbolizer->arena, file);
    symbol->line = number > 0 ? (uint32_t)number : 0;
    symbol->column = column > 0 ? (uint32_t)column : 0;
}

/* Where the function outside of an inlined one calls it. */
static void name_call(unit_view *view, Dwarf_Die *inlined, moda_symbol *caller) {
    const uint32_t file = attribute_number(inlined, DW_AT_call_file, false);
    if (file < view->file_count) {
        const char *const path = dwarf_filesrc(view->files, file, NULL, NULL);
        if (path != NULL && strcmp(path, "???") != 0)
            caller->file = moda_arena_intern(view->symbolizer->arena, path);
    }
    caller->line = attribute_number(inlined, DW_AT_call_line, false);
    caller->column = attribute_number(inlined, DW_AT_call_column, false);
}

/* Writes down what was found for one address. */
static void conclude(unit_view *view, moda_pending *p) {
    moda_symbolizer *const s = view->symbolizer;
    const uint32_t count = p->innermost != NULL ? p->innermost->depth + 1 : 1;
    moda_symbol *const symbols = moda_arena_alloc(s->arena, count * sizeof *symbols);
    if (symbols == NULL)
        return;
    name_line(view, p->address, &symbols[0]);
    uint32_t at = 0;
    for (scope *each = p->innermost; each != NULL; each = each->outer, at++) {
        name_function(view, &each->die, &symbols[at]);
        symbols[at].inline_depth = each->depth;
        if (each->outer != NULL)
            name_call(view, &each->die, &symbols[at + 1]);
    }
    const uint64_t address = p->address + view->object->dwarf_bias;
    if (symbols[count - 1].function == NULL)
        moda_symbolize_by_symbol(s, view->object, address, &symbols[count - 1]);
    else
        moda_symbolize_complete(s, view->object, address, &symbols[count - 1]);
    at = 0;
    for (const scope *each = p->innermost; each != NULL; each = each->outer, at++)
        add_scopes(view, each, address, &symbols[at]);
    if (count > 1)
        view->object->facts.has_inlines = true;
    p->lookup->symbols = symbols;
    p->lookup->symbol_count = count;
}

void moda_symbolize_in_unit(moda_symbolizer *s, moda_object *o, moda_pending *all, size_t count) {
    unit_view view = {.symbolizer = s, .object = o, .scopes = moda_arena_new()};
    const moda_dwarf_unit *const u = &o->units[all[0].unit];
    if (view.scopes != NULL && dwarf_offdie(o->dwarf, u->die_offset, &view.line_die) != NULL) {
        view.die = view.line_die;
        Dwarf_Die die, split;
        if (dwarf_cu_info(view.line_die.cu, NULL, NULL, &die, &split, NULL, NULL, NULL) == 0
            && dwarf_tag(&split) != DW_TAG_invalid)
            view.die = split;
        if (moda_symbolize_is_cxx(&view.die))
            view.full_names = moda_symbolize_full_names(s, view.scopes);
        if (dwarf_getsrcfiles(&view.line_die, &view.files, &view.file_count) != 0)
            view.file_count = 0;
        find_functions(&view, &view.die, all, count, false, 0);
        find_missed_functions(&view, all, count);
        for (size_t i = 0; i < count; i++)
            conclude(&view, &all[i]);
        o->bytes_read += u->size;
    }
    moda_arena_free(view.scopes);
}
