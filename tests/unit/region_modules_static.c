/* SPDX-License-Identifier: MIT
 *
 * A static program is one object, with its build id, whichever of its addresses is asked for first.
 */
#include "region/modules.h"

#include "site_rooms.h"

#include <stdio.h>

extern char __executable_start, etext; /* of the linker */

static void check(bool claim, const char *what) {
    if (!claim) {
        fprintf(stderr, "region_modules_static: not so: %s\n", what);
        abort();
    }
}

int main(void) {
    check(make_rooms((uint64_t)16 << 20, 64, NULL), "the region is there");
    const uintptr_t start = (uintptr_t)&__executable_start;
    const uintptr_t end = (uintptr_t)&etext;
    for (uintptr_t address = end - 1; address >= start + 4096; address -= 4096) {
        moda_modules_note(&(uint64_t){address}, 1);
    }
    moda_modules_note(&(uint64_t){start}, 1);
    moda_modules_note(&(uint64_t){(uintptr_t)&make_stack}, 1);
    moda_modules_check();
    const moda_module *module = moda_region_at(moda_region()->modules);
    check(moda_region()->module_count == 1, "one object");
    check(moda_region()->module_generation == 0, "nothing went away");
    check(module->start == start && module->end >= end, "all of it");
    check(module->text_start <= (uintptr_t)&main && (uintptr_t)&main < module->text_end, "its text");
    check(module->path[0] == '/', "its path");
    check(moda_modules_are_valid(), "the laws");
    return 0;
}
