/* SPDX-License-Identifier: MIT
 *
 * gdb_layout.c - prints where gdb_stacks.py finds in a process's memory what was recorded: a name and a number a
 * line. So that it needs no debug information of the library.
 */
#include <stdio.h>

#include "live/header.h"
#include "mod_alloc.h"
#include "region/layout.h"
#include "unwind/row_cache.h"

int main(void) {
    const struct {
        const char *name;
        size_t value;
    } fields[] = {
        {"small_header", MODA_LIVE_SMALL_SIZE},
        {"large_header", MODA_LIVE_LARGE_SIZE},
        {"header_site", offsetof(moda_live_header, site)},
        {"ref_unit", MODA_REF_UNIT},
        {"site_frame_count", offsetof(moda_site, frame_count)},
        {"site_walk_end", offsetof(moda_site, walk_end)},
        {"site_frames", offsetof(moda_site, frames)},
        {"walk_complete", MOD_ALLOC_WALK_COMPLETE},
        {"walk_cut", MOD_ALLOC_WALK_CUT},
        {"rows_table", offsetof(moda_row_cache, table)},
        {"table_bits", offsetof(moda_row_table, bits)},
        {"table_slots", offsetof(moda_row_table, slot)},
        {"slot_size", sizeof(moda_row_slot)},
        {"slot_row", offsetof(moda_row_slot, row)},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        printf("%s %zu\n", fields[i].name, fields[i].value);
    }
    return 0;
}
