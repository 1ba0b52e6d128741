/* SPDX-License-Identifier: MIT
 *
 * before_main.c - where every allocation is recorded, the stacks of what constructors allocate are complete: of those that the
 * dynamic loader calls before main, too, and of what it allocates itself. With an argument, the program starts itself again as
 * an argument of the loader.
 */
#include "whole.h"

#include "../loader.h"
#include "before_main_library.h"

enum { IN_LIBRARY, IN_PROGRAM, PLACES };

static unsigned sites_of[PLACES];
static before_main_blocks in_program;

static __attribute__((constructor)) void construct(void) {
    before_main_allocate(&in_program);
    __asm__ volatile(""); /* no tail call */
}

static bool comes_from(const mod_alloc_call_site *site, const before_main_blocks *blocks) {
    for (size_t i = 0; i < site->frame_count; i++) {
        if (site->frames[i] == blocks->caller) {
            return true;
        }
    }
    return false;
}

static int look_at(const mod_alloc_call_site *site, void *context) {
    (void)context;
    const bool is_in[PLACES] = {comes_from(site, before_main_of_library()), comes_from(site, &in_program)};
    for (int place = 0; place < PLACES; place++) {
        if (is_in[place]) {
            sites_of[place]++;
            CHECK_EQ(site->walk_end, MOD_ALLOC_WALK_COMPLETE, "its walk is complete");
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *const loader = argc > 1 ? loader_of_process() : NULL;
    if (loader != NULL) {
        execl(loader, loader, argv[0], (char *)NULL);
        NEED(false, "%s does not run", loader);
    }
    whole_begin();
    mod_alloc_sampling_stats stats;
    mod_alloc_sampling(&stats);
    CHECK_EQ(stats.sample_bytes, 1, "every allocation is recorded");
    for (int end = 0; end < 6; end++) {
        if (end != MOD_ALLOC_WALK_COMPLETE) {
            CHECK_EQ(stats.walks[end], 0, "no walk ended so");
        }
    }
    mod_alloc_call_sites(look_at, NULL);
    CHECK_EQ(sites_of[IN_LIBRARY], 1, "sites of the library's constructor");
    CHECK_EQ(sites_of[IN_PROGRAM], 1, "sites of the program's");
    return whole_end();
}
