/* SPDX-License-Identifier: MIT
 *
 * symbolize_full_names.c - names of functions that have no mangled one, with the scopes around them.
 *
 * gcc writes no mangled name for members of local types, lambdas among them, and of unnamed namespaces: DW_AT_name is
 * "operator()" for each lambda of a program. They are told apart by the scopes around them, as a demangler would print
 * these: "main::{lambda#2}::operator()", "(anonymous namespace)::pool::take". A lambda's number is its place among the
 * unnamed types of the function, which is that of the text.
 *
 * symbolize_scopes.c asks, for one unit; memory is the arena's that lives as long as the unit is looked at, but for names.
 * A DIE does not know its parent; but children lie behind it in order, so that the way down to one is found by its
 * address. Each parent's children are listed once for a unit.
 */
#include "report/symbolize_parts.h"

#include <dwarf.h>
#include <string.h>

enum { HASH = 256, DEPTH_MAX = 256 };

typedef struct family {
    struct family *next;
    const void *parent; /* its Dwarf_Die.addr */
    Dwarf_Die *children;
    size_t count;
} family;

typedef struct full_name {
    struct full_name *next;
    const void *function;
    const char *name;
} full_name;

struct moda_full_names {
    moda_symbolizer *symbolizer;
    moda_arena *arena;
    family *families[HASH];
    full_name *names[HASH];
};

static size_t hash_scope(const void *address) {
    return (size_t)((uint64_t)(uintptr_t)address * 0x9e3779b97f4a7c15u >> 56) % HASH;
}

static const family *family_of(moda_full_names *names, Dwarf_Die *parent) {
    family **const list = &names->families[hash_scope(parent->addr)];
    for (family *f = *list; f != NULL; f = f->next)
        if (f->parent == parent->addr)
            return f;
    family *const made = moda_arena_alloc(names->arena, sizeof *made);
    if (made == NULL)
        return NULL;
    *made = (family){.next = *list, .parent = parent->addr};
    Dwarf_Die die;
    size_t room = 0;
    for (int left = dwarf_child(parent, &die); left == 0; left = dwarf_siblingof(&die, &die)) {
        if (made->count == room) {
            room = room == 0 ? 16 : room * 2;
            Dwarf_Die *const grown = moda_arena_alloc(names->arena, room * sizeof *grown);
            if (grown == NULL)
                return NULL;
            if (made->count > 0)
                memcpy(grown, made->children, made->count * sizeof *grown);
            made->children = grown;
        }
        made->children[made->count++] = die;
    }
    *list = made;
    return made;
}

/* The last child that does not begin behind `target`: the target, or around it. */
static Dwarf_Die *child_towards(const family *f, const Dwarf_Die *target) {
    size_t low = 0, high = f->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((uintptr_t)f->children[middle].addr <= (uintptr_t)target->addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &f->children[low - 1] : NULL;
}

static bool is_type_scope(Dwarf_Die *die) {
    const int tag = dwarf_tag(die);
    return tag == DW_TAG_structure_type || tag == DW_TAG_class_type || tag == DW_TAG_union_type;
}

static const char *type_name(Dwarf_Die *die) {
    const char *const name = moda_symbolize_string(die, DW_AT_name);
    return name != NULL && strncmp(name, "<lambda", 7) != 0 ? name : NULL;
}

/* Unnamed types in a function up to `last`, those in its blocks too. */
static size_t count_unnamed(moda_full_names *names, Dwarf_Die *function, const Dwarf_Die *last, int depth) {
    const family *const f = depth < DEPTH_MAX ? family_of(names, function) : NULL;
    size_t count = 0;
    for (size_t i = 0; f != NULL && i < f->count; i++) {
        Dwarf_Die *const die = &f->children[i];
        if ((uintptr_t)die->addr > (uintptr_t)last->addr)
            break;
        if (dwarf_tag(die) == DW_TAG_lexical_block)
            count += count_unnamed(names, die, last, depth + 1);
        else
            count += is_type_scope(die) && type_name(die) == NULL;
    }
    return count;
}

/* What an inlined or outlined instance is one of, and of that the declaration in its class. */
static Dwarf_Die declaration_of(const Dwarf_Die *die) {
    Dwarf_Die at = *die;
    for (int i = 0; i < 8; i++) {
        Dwarf_Attribute attribute;
        Dwarf_Die next;
        if ((dwarf_attr(&at, DW_AT_abstract_origin, &attribute) == NULL
             && dwarf_attr(&at, DW_AT_specification, &attribute) == NULL)
            || dwarf_formref_die(&attribute, &next) == NULL)
            break;
        at = next;
    }
    return at;
}

static const char *full_name_of(moda_full_names *names, const Dwarf_Die *function, int depth);

/* Goes down to `target` and writes the scopes on the way, each with "::" behind it. False where the way is lost. */
static bool put_scopes(moda_full_names *names, const Dwarf_Die *target, moda_out *out, int depth) {
    Dwarf_Die die = *target, at, outer;
    if (dwarf_diecu(&die, &at, NULL, NULL) == NULL)
        return false;
    outer = at; /* the function or namespace around types without a name */
    for (int i = 0; i < DEPTH_MAX; i++) {
        const family *const f = family_of(names, &at);
        Dwarf_Die *const next = f != NULL ? child_towards(f, target) : NULL;
        if (next == NULL || next->addr == target->addr)
            return next != NULL;
        at = *next;
        const char *name = NULL;
        if (dwarf_tag(&at) == DW_TAG_namespace) {
            name = moda_symbolize_string(&at, DW_AT_name);
            moda_out_format(out, "%s::", name != NULL ? name : "(anonymous namespace)");
        } else if (is_type_scope(&at)) {
            name = type_name(&at);
            if (name != NULL)
                moda_out_format(out, "%s::", name);
            else
                moda_out_format(out, "{lambda#%zu}::", count_unnamed(names, &outer, &at, 0));
        } else if (dwarf_tag(&at) == DW_TAG_subprogram) {
            name = full_name_of(names, &at, depth + 1); /* with the scopes around it */
            out->length = 0;
            moda_out_format(out, "%s::", name != NULL ? name : "?");
        } else {
            continue;
        }
        outer = at;
    }
    return false;
}

/* The function's name with its scopes; NULL where it has no name. */
static const char *full_name_of(moda_full_names *names, const Dwarf_Die *function, int depth) {
    moda_symbolizer *const s = names->symbolizer;
    Dwarf_Die die = declaration_of(function), given = *function;
    const char *linkage = moda_symbolize_string(&given, DW_AT_linkage_name);
    if (linkage != NULL)
        linkage = moda_arena_intern(s->arena, linkage);
    if (linkage != NULL)
        return moda_symbolize_demangle(s, linkage);
    full_name **const list = &names->names[hash_scope(die.addr)];
    for (full_name *n = *list; n != NULL; n = n->next)
        if (n->function == die.addr)
            return n->name;
    const char *const plain = moda_symbolize_string(&given, DW_AT_name);
    full_name *const made = moda_arena_alloc(names->arena, sizeof *made);
    if (plain == NULL || made == NULL)
        return NULL;
    moda_out out;
    moda_out_to_buffer(&out);
    const bool is_found = depth < 16 && put_scopes(names, &die, &out, depth);
    if (!is_found)
        out.length = 0;
    moda_out_text(&out, plain);
    moda_out_char(&out, 0);
    *made = (full_name){.next = *list, .function = die.addr};
    made->name = moda_arena_intern(s->arena, !out.failed && out.buffer != NULL ? out.buffer : plain);
    *list = made;
    free(out.buffer);
    return made->name;
}

bool moda_symbolize_is_cxx(Dwarf_Die *unit_die) {
    switch (dwarf_srclang(unit_die)) {
    case DW_LANG_C_plus_plus:
    case DW_LANG_C_plus_plus_03:
    case DW_LANG_C_plus_plus_11:
    case DW_LANG_C_plus_plus_14:
    case 0x2b: /* 17 and 20: not in every dwarf.h */
    case 0x2c: return true;
    default: return false;
    }
}

moda_full_names *moda_symbolize_full_names(moda_symbolizer *s, moda_arena *arena) {
    moda_full_names *const names = moda_arena_alloc(arena, sizeof *names);
    if (names != NULL)
        *names = (moda_full_names){.symbolizer = s, .arena = arena};
    return names;
}

const char *moda_symbolize_full_name(moda_full_names *names, const Dwarf_Die *function) {
    return full_name_of(names, function, 0);
}
