/* SPDX-License-Identifier: MIT
 *
 * symbolize_units.c - the units of an object's DWARF: which one has code at an address.
 *
 * symbolize.c has them indexed once: each compilation unit's ranges are read from its first DIE.
 */
#include "report/symbolize_parts.h"

#include <dwarf.h>

typedef struct moda_unit_range {
    uint64_t start, end, reach;
    uint32_t unit;
} unit_range;

static int by_range_start(const void *a, const void *b) {
    const unit_range *const x = a, *const y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static bool add_range(moda_object *o, uint64_t start, uint64_t end, uint32_t which) {
    if (start >= end || start + o->dwarf_bias == 0)
        return true; /* functions the linker has dropped begin at 0 */
    if (!moda_symbolize_grow((void **)&o->ranges, o->range_count, sizeof *o->ranges))
        return false;
    o->ranges[o->range_count++] =
        (unit_range){.start = start + o->dwarf_bias, .end = end + o->dwarf_bias, .unit = which};
    return true;
}

/* A unit that does not say where its code is: its functions do. */
static void add_ranges_of_functions(moda_object *o, Dwarf_Die *parent, uint32_t which, int depth) {
    Dwarf_Die die;
    if (depth > 8 || dwarf_child(parent, &die) != 0)
        return;
    do {
        const int tag = dwarf_tag(&die);
        if (tag == DW_TAG_namespace || tag == DW_TAG_module)
            add_ranges_of_functions(o, &die, which, depth + 1);
        if (tag != DW_TAG_subprogram)
            continue;
        Dwarf_Addr base, start, end;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(&die, at, &base, &start, &end)) > 0;)
            if (!add_range(o, start, end, which))
                return;
    } while (dwarf_siblingof(&die, &die) == 0);
}

bool moda_symbolize_open_dwarf(moda_object *o) {
    if (o->dwarf != NULL)
        return true;
    o->dwarf = dwfl_module_getdwarf(o->module, &o->dwarf_bias);
    return o->dwarf != NULL;
}

void moda_symbolize_index_units(moda_object *o) {
    o->is_indexed = true;
    if (!moda_symbolize_open_dwarf(o))
        return;
    Dwarf_CU *cu = NULL;
    Dwarf_Die die, split;
    uint8_t type;
    Dwarf_Off last = 0;
    while (dwarf_get_units(o->dwarf, cu, &cu, NULL, &type, &die, &split) == 0) {
        const Dwarf_Off offset = dwarf_dieoffset(&die);
        if (o->unit_count > 0)
            o->units[o->unit_count - 1].size = offset - last;
        last = offset;
        if (type != DW_UT_compile && type != DW_UT_skeleton)
            continue;
        if (!moda_symbolize_grow((void **)&o->units, o->unit_count, sizeof *o->units))
            return;
        const uint32_t which = (uint32_t)o->unit_count++;
        o->units[which] = (moda_dwarf_unit){.die_offset = offset};
        Dwarf_Addr base, start, end;
        const size_t before = o->range_count;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(&die, at, &base, &start, &end)) > 0;)
            if (!add_range(o, start, end, which))
                return;
        if (o->range_count == before && !dwarf_hasattr(&die, DW_AT_ranges)
            && !dwarf_hasattr(&die, DW_AT_low_pc))
            add_ranges_of_functions(o, &die, which, 0);
    }
    if (o->range_count > 1)
        qsort(o->ranges, o->range_count, sizeof *o->ranges, by_range_start);
    uint64_t reach = 0;
    for (size_t i = 0; i < o->range_count; i++) {
        if (o->ranges[i].end > reach)
            reach = o->ranges[i].end;
        o->ranges[i].reach = reach;
    }
    o->facts.has_lines = o->range_count > 0;
}

uint32_t moda_symbolize_find_unit(const moda_object *o, uint64_t address) {
    size_t low = 0, high = o->range_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (o->ranges[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i-- > 0 && o->ranges[i].reach > address;)
        if (address < o->ranges[i].end)
            return o->ranges[i].unit;
    return UINT32_MAX;
}
