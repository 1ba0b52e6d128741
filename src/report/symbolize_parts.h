/* SPDX-License-Identifier: MIT
 *
 * symbolize_parts.h - what the symbolizer is made of. Only symbolize*.c include it.
 *
 *     symbolize.c              all addresses of an object, in the order of its units; what was found is kept
 *       symbolize_objects.c    modules --> objects, opened with elfutils' libdwfl
 *       symbolize_tables.c     symbol tables: the function at an address
 *       symbolize_units.c      DWARF: the unit at an address
 *       symbolize_scopes.c     DWARF: in one unit the function, inlined calls, file and line
 *       symbolize_full_names.c DWARF: of functions without a linkage name, the scopes around them
 *       symbolize_demangle.c   linkage name --> name
 *     symbolize_perf_map.c     run-time compiled code
 *
 * libdwfl's own look-ups (dwfl_module_addrsym, dwfl_module_addrdie without .debug_aranges) walk the whole table each
 * time; so symbols and units are sorted once, and addresses are looked up many at a time.
 *
 * Memory: names, and all else that a result leads to, are the symbolizer's arena's; the arrays are malloc's.
 *
 * Law
 *   a name is given only if the address lies inside the symbol's or DIE's extent, and the file's build id is the
 *   recorded one (where one was recorded).
 */
#ifndef MODA_REPORT_SYMBOLIZE_PARTS_H
#define MODA_REPORT_SYMBOLIZE_PARTS_H

#include "report/symbolize.h"

#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <stdlib.h>

typedef struct moda_dwarf_unit {
    Dwarf_Off die_offset; /* of its first DIE */
    uint64_t size;
} moda_dwarf_unit;

typedef struct moda_object {
    struct moda_object *next;
    const char *path; /* as recorded */
    uint8_t build_id[32];
    uint32_t build_id_length;
    bool is_opened, is_usable;
    int fd; /* of the vDSO's copy, or -1 */
    char *file;
    Dwfl *dwfl;
    Dwfl_Module *module;
    Dwarf *dwarf;
    Dwarf_Addr dwarf_bias;
    uint64_t bytes_read; /* of debug information, with this handle */
    moda_object_facts facts;

    /* symbolize_tables.c */
    struct moda_text_symbol *symbols;
    size_t symbol_count;

    /* symbolize_units.c */
    moda_dwarf_unit *units;
    size_t unit_count;
    struct moda_unit_range *ranges;
    size_t range_count;
    bool is_indexed;

    /* symbolize.c */
    struct moda_result *results; /* open addressing */
    size_t result_count, result_room;
} moda_object;

struct moda_symbolizer {
    moda_symbolizer_options options;
    char *debug_path;
    char *root;
    Dwfl_Callbacks callbacks;
    moda_arena *arena;
    moda_object *objects;
    struct moda_perf_map *perf_maps;

    /* symbolize_demangle.c */
    struct moda_demangled *names; /* open addressing by the linkage name's pointer */
    size_t name_count, name_room;
};

/* An address that is being looked up. */
typedef struct moda_pending {
    uint64_t address; /* in the unit's terms: without bias */
    moda_lookup *lookup;
    uint32_t unit;
    struct moda_scope *innermost;
} moda_pending;

/* ---- symbolize_objects.c ---- */

/* The one of this path and build id; NULL: no memory. */
moda_object *moda_symbolize_object(moda_symbolizer *s, const moda_profile_module *module);
void moda_symbolize_free_objects(moda_symbolizer *s);
/* Opens a handle, again where it was closed. False: there is no file, or it is another build's; `facts` say which. */
bool moda_symbolize_open(moda_symbolizer *s, moda_object *o);
void moda_symbolize_close(moda_object *o);

/* ---- symbolize_tables.c ---- */

void moda_symbolize_load_symbols(moda_symbolizer *s, moda_object *o);
bool moda_symbolize_has_symbol(const moda_object *o, uint64_t address);
bool moda_symbolize_is_symbol(const moda_object *o, uint64_t address, const char *name);
/* The symbol at the address names it, if there is one. */
void moda_symbolize_by_symbol(moda_symbolizer *s, const moda_object *o, uint64_t address,
                              moda_symbol *symbol);
/* gcc leaves the linkage name out for templates over local types; then DW_AT_name has no namespace. The symbol at
 * the function's place has it, and is taken if it is a mangled form of the same name. */
void moda_symbolize_complete(moda_symbolizer *s, const moda_object *o, uint64_t address, moda_symbol *symbol);

/* ---- symbolize_units.c ---- */

bool moda_symbolize_open_dwarf(moda_object *o);
void moda_symbolize_index_units(moda_object *o);
uint32_t moda_symbolize_find_unit(const moda_object *o, uint64_t address); /* UINT32_MAX = none */

/* ---- symbolize_scopes.c ---- */

/* Looks up addresses of one unit, in their order. */
void moda_symbolize_in_unit(moda_symbolizer *s, moda_object *o, moda_pending *all, size_t count);

/* ---- symbolize_full_names.c ---- */

/* Of the functions of one unit; `arena` is for as long as it is looked at. NULL: no memory. */
typedef struct moda_full_names moda_full_names;
moda_full_names *moda_symbolize_full_names(moda_symbolizer *s, moda_arena *arena);
/* The name of a function, or an inlined call of one, as it is or with its scopes; NULL where it has none. */
const char *moda_symbolize_full_name(moda_full_names *names, const Dwarf_Die *function);
bool moda_symbolize_is_cxx(Dwarf_Die *unit_die);

/* ---- symbolize_demangle.c ---- */

/* The name for people; `linkage` is interned. */
const char *moda_symbolize_demangle(moda_symbolizer *s, const char *linkage);

/* ---- symbolize_perf_map.c ---- */

void moda_symbolize_free_perf_maps(moda_symbolizer *s);

/* Of a DIE, or what it is an instance of. */
static inline const char *moda_symbolize_string(Dwarf_Die *die, unsigned name) {
    Dwarf_Attribute attribute;
    return dwarf_formstring(dwarf_attr_integrate(die, name, &attribute));
}

/* Room for one more at the end of an array of `count`. */
static inline bool moda_symbolize_grow(void **array, size_t count, size_t size) {
    if ((count & (count - 1)) != 0 || (count != 0 && count < 64))
        return true; /* room is a power of two */
    const size_t room = count == 0 ? 64 : count * 2;
    void *const grown = realloc(*array, room * size);
    if (grown == NULL)
        return false;
    *array = grown;
    return true;
}

#endif
