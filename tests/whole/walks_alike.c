/* SPDX-License-Identifier: MIT
 *
 * walks_alike.c - stacks that differ in a single return address, at each depth in turn, are sites of their own, and each
 * keeps its count: what is remembered of a walk holds for that walk alone.
 *
 * Each level of the recursion makes the next call from one of two places: the same frames at the same addresses, and
 * one bit for each level that says which. Pattern k, made (k + 1) times a round, turns the call at level k the other way;
 * all are made in turn, so that each walk follows one that is almost the same.
 */
#include "whole.h"

enum { LEVELS = 24, PATTERNS = LEVELS + 1, ROUNDS = 40, SIZE = 48 };
#define USUAL 0x5a5a5au

static __attribute__((noinline)) void *reach(unsigned level, unsigned turns) {
    void *p;
    if (level == LEVELS) {
        p = malloc(SIZE);
        __asm__ volatile("# the allocation" : "+r"(p) : : "memory");
    } else if ((turns >> level & 1) != 0) {
        __asm__ volatile("# one way" : "+r"(turns) : : "memory"); /* or the compiler makes one call of both */
        p = reach(level + 1, turns);
        __asm__ volatile("# and back" : "+r"(p) : : "memory");
    } else {
        __asm__ volatile("# the other" : "+r"(turns) : : "memory");
        p = reach(level + 1, turns);
        __asm__ volatile("# and back from there" : "+r"(p) : : "memory");
    }
    return p;
}

static unsigned sites_with[PATTERNS + 1]; /* by their count in rounds; the last: of any other count */

static int look_at(const mod_alloc_call_site *site, void *context) {
    (void)context;
    if (site->frame_count > LEVELS && site->frames[0] - (uintptr_t)reach < 512
        && site->frames[LEVELS] - (uintptr_t)reach < 512) {
        const uint64_t rounds = site->alloc_count / ROUNDS;
        const bool is_right = site->alloc_count % ROUNDS == 0 && rounds >= 1 && rounds <= PATTERNS;
        sites_with[is_right ? rounds - 1 : PATTERNS]++;
        CHECK(is_right, "a site has %" PRIu64 " blocks", site->alloc_count);
        CHECK_EQ(site->free_count, site->alloc_count, "all are freed");
    }
    return 0;
}

int main(void) {
    whole_begin();
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned left = 0; left < PATTERNS;
             left++) { /* first each pattern once, then all but the first, ... */
            for (unsigned k = left; k < PATTERNS; k++) {
                const unsigned turned = k < LEVELS ? 1u << k : 0;
                void *p = reach(0, USUAL ^ turned);
                NEED(p != NULL, "no block of %d bytes", SIZE);
                free(p);
            }
        }
    }
    mod_alloc_call_sites(look_at, NULL);
    for (int k = 0; k < PATTERNS; k++) {
        CHECK(sites_with[k] == 1, "%u sites of %d blocks", sites_with[k], (k + 1) * ROUNDS);
    }
    return whole_end();
}
