/* SPDX-License-Identifier: MIT
 *
 * symbolize_tables.c - function symbols: the name that an object's symbol table has for an address.
 *
 * symbolize.c loads a table once and names by it what DWARF knows nothing of; symbolize_scopes.c completes names.
 *
 * Laws
 *   1. the table is sorted by start, of several at one place the best last; the innermost extent names an address.
 *   2. a symbol without a size reaches to the next one, within 64 KiB, and only in a table that has static functions.
 */
#include "report/symbolize_parts.h"

#include <gelf.h>
#include <string.h>

typedef struct moda_text_symbol {
    uint64_t start, end; /* end: exclusive; furthest of this and all before is in `reach` */
    uint64_t reach;
    const char *name;
    uint32_t rank; /* of several at one place: the greatest */
} text_symbol;

static bool has_full_table(Elf *elf) {
    if (elf == NULL)
        return false;
    Elf_Scn *section = NULL;
    GElf_Shdr header;
    while ((section = elf_nextscn(elf, section)) != NULL)
        if (gelf_getshdr(section, &header) != NULL && header.sh_type == SHT_SYMTAB)
            return true;
    return false;
}

static int by_start(const void *a, const void *b) {
    const text_symbol *const x = a, *const y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return strcmp(x->name, y->name);
}

static uint32_t rank_of(const GElf_Sym *symbol, const char *name) {
    const unsigned binding = GELF_ST_BIND(symbol->st_info);
    uint32_t rank = binding == STB_GLOBAL ? 30 : binding == STB_WEAK ? 20 : 10;
    if (symbol->st_size > 0)
        rank += 100;
    if (GELF_ST_TYPE(symbol->st_info) != STT_NOTYPE)
        rank += 50;
    if (name[0] == '_')
        rank -= 5; /* of two names for one place people know the other */
    return rank;
}

static bool is_function(const GElf_Sym *symbol, GElf_Word section, const char *name) {
    if (name == NULL || name[0] == 0 || section == SHN_UNDEF || section == SHN_ABS)
        return false;
    const unsigned type = GELF_ST_TYPE(symbol->st_info);
    const bool is_label = type == STT_NOTYPE && name[0] != '$' && name[0] != '.';
    return type == STT_FUNC || type == STT_GNU_IFUNC || is_label;
}

static void set_extents(moda_object *o) {
    uint64_t next_start = UINT64_MAX;
    for (size_t i = o->symbol_count; i-- > 0;) { /* without a size: up to the next symbol, within reason */
        text_symbol *const t = &o->symbols[i];
        if (i + 1 < o->symbol_count && o->symbols[i + 1].start > t->start)
            next_start = o->symbols[i + 1].start;
        if (t->end == t->start && next_start != UINT64_MAX && next_start - t->start < 65536)
            t->end = next_start;
    }
    uint64_t reach = 0;
    for (size_t i = 0; i < o->symbol_count; i++) {
        if (o->symbols[i].end > reach)
            reach = o->symbols[i].end;
        o->symbols[i].reach = reach;
    }
}

void moda_symbolize_load_symbols(moda_symbolizer *s, moda_object *o) {
    const int count = dwfl_module_getsymtab(o->module);
    if (count <= 0)
        return;
    GElf_Addr bias;
    Dwarf_Addr dwarf_bias;
    Dwarf *const dwarf = s->options.no_lines ? NULL : dwfl_module_getdwarf(o->module, &dwarf_bias);
    /* A table of exported symbols alone has holes where static functions are: there a symbol without a size
     * says nothing about what follows it. */
    const bool is_full = has_full_table(dwfl_module_getelf(o->module, &bias))
                         || (dwarf != NULL && has_full_table(dwarf_getelf(dwarf)));
    o->symbols = calloc((size_t)count, sizeof *o->symbols);
    if (o->symbols == NULL)
        return;
    for (int i = 1; i < count; i++) {
        GElf_Sym symbol;
        GElf_Addr address;
        GElf_Word section;
        const char *const name =
            dwfl_module_getsym_info(o->module, i, &symbol, &address, &section, NULL, NULL);
        if (!is_function(&symbol, section, name) || (symbol.st_size == 0 && !is_full))
            continue;
        o->symbols[o->symbol_count++] = (text_symbol){
            .start = address,
            .end = address + symbol.st_size,
            .name = moda_arena_intern(s->arena, name),
            .rank = rank_of(&symbol, name),
        };
        if (o->symbols[o->symbol_count - 1].name == NULL)
            o->symbol_count--;
    }
    if (o->symbol_count > 1)
        qsort(o->symbols, o->symbol_count, sizeof *o->symbols, by_start);
    set_extents(o);
    o->facts.has_symbols = o->symbol_count > 0;
}

static const text_symbol *find_symbol(const moda_object *o, uint64_t address) {
    size_t low = 0, high = o->symbol_count; /* low: how many start at or before the address */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (o->symbols[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    /* Innermost extent first: those that start last; the list is sorted so that the best of equals is last. */
    for (size_t i = low; i-- > 0 && o->symbols[i].reach > address;)
        if (address < o->symbols[i].end)
            return &o->symbols[i];
    return NULL;
}

bool moda_symbolize_has_symbol(const moda_object *o, uint64_t address) {
    return find_symbol(o, address) != NULL;
}

bool moda_symbolize_is_symbol(const moda_object *o, uint64_t address, const char *name) {
    const text_symbol *const found = find_symbol(o, address);
    return found != NULL && strcmp(found->name, name) == 0;
}

void moda_symbolize_by_symbol(moda_symbolizer *s, const moda_object *o, uint64_t address,
                              moda_symbol *symbol) {
    const text_symbol *const found = find_symbol(o, address);
    if (found == NULL)
        return;
    symbol->linkage_name = found->name;
    symbol->function = moda_symbolize_demangle(s, found->name);
}

void moda_symbolize_complete(moda_symbolizer *s, const moda_object *o, uint64_t address,
                             moda_symbol *symbol) {
    const char *const name = symbol->function;
    if (name == NULL || symbol->linkage_name != name)
        return;
    const text_symbol *const found = find_symbol(o, address);
    if (found == NULL || (strncmp(found->name, "_Z", 2) != 0 && strncmp(found->name, "_R", 2) != 0))
        return;
    const size_t length = strcspn(name, "<( ");
    if (length == 0 || memmem(found->name, strlen(found->name), name, length) == NULL)
        return;
    symbol->linkage_name = found->name;
    symbol->function = moda_symbolize_demangle(s, found->name);
}
