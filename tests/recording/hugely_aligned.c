/* SPDX-License-Identifier: MIT
 *
 * hugely_aligned.c - blocks of an alignment that leaves no room for a header are never samples; nor are the blocks after
 * them in their stead, each of which would stand for tens of thousands.
 *
 * The seed is fixed: of 100 blocks of 16 bytes, at a sample in 512 KiB, none is one.
 */
#define _GNU_SOURCE
#include "mod_alloc.h"

#include <stdlib.h>

#include "sums.h"

enum { BLOCKS = 100, SIZE = 16 };
static const size_t ALIGNMENT = (size_t)64 << 20;

int main(void) {
    sums before = {0}, after = {0};
    mod_alloc_call_sites(add_site, &before);
    for (int i = 0; i < BLOCKS; i++) {
        void *aligned = NULL;
        expect(posix_memalign(&aligned, ALIGNMENT, 4096) == 0, "an aligned block", (uint64_t)i);
        free(malloc(SIZE));
        free(aligned);
    }
    mod_alloc_call_sites(add_site, &after);
    expect(after.allocs - before.allocs <= BLOCKS, "no sample in a block of 16 bytes",
           after.allocs - before.allocs);
    return failures != 0;
}
