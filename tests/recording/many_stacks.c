/* SPDX-License-Identifier: MIT
 *
 * many_stacks.c - a million allocations, each from a stack of its own: what finds no room in the region is counted,
 * not lost.
 *
 * Run with MOD_ALLOC_SAMPLE=1: argument "full" (MOD_ALLOC_MEMORY=1M: most go to the overflow site) or "room"
 * (MOD_ALLOC_MEMORY=1G: none does). Exits 0 if all figures are right.
 */
#include "sums.h"

#include <stdlib.h>
#include <string.h>

enum { STACKS = 1000000, DEPTH = 20, SIZE = 32 };

static void *left(unsigned path, int depth);

/* One bit of the path a frame. The barrier behind the call keeps it from being a jump. */
static __attribute__((noinline)) void *right(unsigned path, int depth) {
    void *p = depth == 0   ? malloc(SIZE)
              : (path & 1) ? right(path >> 1, depth - 1)
                           : left(path >> 1, depth - 1);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static __attribute__((noinline)) void *left(unsigned path, int depth) {
    void *p = depth == 0   ? malloc(SIZE)
              : (path & 1) ? right(path >> 1, depth - 1)
                           : left(path >> 1, depth - 1);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

int main(int argc, char **argv) {
    const int is_full = argc > 1 && strcmp(argv[1], "full") == 0;
    sums before = {0}, after = {0};
    mod_alloc_stats first, last;
    mod_alloc_call_sites(add_site, &before);
    mod_alloc_snapshot(&first);
    for (unsigned i = 0; i < STACKS; i++) {
        free(left(i, DEPTH));
    }
    mod_alloc_snapshot(&last);
    mod_alloc_call_sites(add_site, &after);
    mod_alloc_sampling_stats sampling;
    mod_alloc_sampling(&sampling);
    expect(last.alloc_count - first.alloc_count == STACKS, "the counters have each allocation",
           last.alloc_count - first.alloc_count);
    expect(last.total_bytes - first.total_bytes == (uint64_t)STACKS * SIZE, "and each byte",
           last.total_bytes - first.total_bytes);
    expect(after.allocs - before.allocs == STACKS, "the sites have each allocation",
           after.allocs - before.allocs);
    expect(after.bytes - before.bytes == (uint64_t)STACKS * SIZE, "and each byte",
           after.bytes - before.bytes);
    expect(after.frees - before.frees == STACKS, "and each free", after.frees - before.frees);
    expect(sampling.region_bytes_used <= sampling.region_bytes_max, "the region keeps to its bound",
           sampling.region_bytes_used);
    expect(mod_alloc_sites_dropped() == sampling.dropped, "both calls say the same", sampling.dropped);
    if (is_full) {
        expect(sampling.dropped > STACKS / 2, "most find no room", sampling.dropped);
        expect(after.overflow_allocs == sampling.dropped, "and are all at the overflow site",
               after.overflow_allocs);
    } else {
        expect(sampling.dropped == 0, "all find room", sampling.dropped);
        expect(sampling.sites >= STACKS, "each stack is a site of its own", sampling.sites);
    }
    return failures != 0;
}
