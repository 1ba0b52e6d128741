/* SPDX-License-Identifier: MIT
 *
 * modules.h - which objects were mapped where, and when, so that addresses can be named later.
 *
 * site_table.c notes the object of each frame of a new site; the slow path of free tells when ld.so has
 * given up an object. Memory is the region's. Notes take a lock where the object is new.
 *
 * `generation` counts the times that objects were found to be gone. A record is good for sites with
 * generation_mapped <= site.generation and (generation_unmapped == 0 or site.generation <
 * generation_unmapped).
 *
 * Without _dl_find_object (glibc before 2.35, other libcs, static programs) only the program itself and the
 * vDSO are known: the other ways to ask ld.so take its locks.
 */
#ifndef MODA_REGION_MODULES_H
#define MODA_REGION_MODULES_H

#include "base/compiler.h"
#include "region/layout.h"

/* Records the objects that the frames of a stack lie in, unless they are recorded or not known. A comparison
 * where the frame before lies in the same object, a few loads where an address around was asked for before. Keeps errno. */
void moda_modules_note(const uint64_t *frames, uint32_t count);

/* An object may be gone: ld.so has freed a link_map, or dlclose has returned. Looks at each record, and closes
 * those whose object is no longer there. */
void moda_modules_check(void);

/* True if an object with one of these addresses was unmapped after that generation. */
bool moda_modules_were_unmapped_since(uint32_t generation, const uint64_t *addresses, uint32_t count);

void moda_modules_fork_prepare(void);
void moda_modules_fork_parent(void);
void moda_modules_fork_child(void);

/* For tests: no two open records overlap, and each is inside the region. */
bool moda_modules_are_valid(void);

#endif
