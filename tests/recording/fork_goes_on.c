/* SPDX-License-Identifier: MIT
 *
 * fork_goes_on.c - a child begins with what its parent had at the fork, though the thread that has forked goes on at once,
 * and counts in the file that the child has its copy from.
 *
 * Run with MOD_ALLOC_PROFILE naming a file. Whether the parent is ahead of its child is the scheduler's to say: of
 * forty times it is so in most.
 */
#define _GNU_SOURCE
#include "mod_alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "need.h"

enum { FORKS = 40, HELD = 1000, MORE = 200000, STEP = 100, SIZE = 100 };

static void *block[HELD + MORE];

typedef struct live {
    uint64_t bytes, count, at_sites;
} live;

static int add_site(const mod_alloc_call_site *site, void *context) {
    *(uint64_t *)context += site->live_bytes;
    return 0;
}

static live live_now(void) {
    mod_alloc_stats now;
    live l = {0};
    mod_alloc_call_sites(add_site, &l.at_sites);
    mod_alloc_snapshot(&now);
    l.bytes = now.current_bytes;
    l.count = now.live_count;
    return l;
}

static void allocate(int from, int to) {
    for (int i = from; i < to; i++) {
        block[i] = malloc(SIZE);
    }
}

int main(void) {
    char path[4200];
    allocate(0, HELD);
    for (int i = 0; i < FORKS; i++) {
        const live before = live_now();
        const pid_t child = fork();
        need(child >= 0, "fork");
        if (child == 0) {
            const live begun = live_now();
            need(begun.count == before.count, "the blocks that the child has");
            need(begun.bytes == before.bytes, "their bytes");
            need(begun.at_sites == before.at_sites, "their bytes at their sites");
            _exit(0);
        }
        int status = 0;
        int held = HELD;
        pid_t ended;
        while ((ended = waitpid(child, &status, WNOHANG)) == 0) {
            const int end = held + STEP <= HELD + MORE ? held + STEP : held;
            allocate(held, end);
            held = end;
        }
        for (int k = HELD; k < held; k++) {
            free(block[k]);
        }
        need(ended == child, "waitpid");
        snprintf(path, sizeof path, "%s.%d", getenv("MOD_ALLOC_PROFILE"), (int)child);
        unlink(path);
        need(status == 0, "a child has found what is not so");
    }
    return 0;
}
