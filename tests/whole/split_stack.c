/* SPDX-License-Identifier: MIT
 *
 * split_stack.c - a program compiled with -fsplit-stack, every allocation recorded: a walk goes on from each part of the
 * stack to the older one, up to main, or to the start of a thread.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "whole.h"

enum { DEPTH = 60, MAIN_SIZE = 1000, THREAD_SIZE = 3000 };

static void *kept[2 * DEPTH];
static uintptr_t place[DEPTH];

/* One block at each depth, of a size that tells it. */
static __attribute__((noinline)) int deep(int depth, int size) {
    volatile char room[2000];
    memset((char *)room, depth, sizeof room);
    place[depth] = (uintptr_t)room;
    kept[depth + (size == MAIN_SIZE ? 0 : DEPTH)] = malloc((size_t)(size + depth));
    return depth + 1 < DEPTH ? deep(depth + 1, size) + room[depth] : room[depth];
}

/* Frames of one part lie close together, downwards. */
static void check_is_split(const char *whose) {
    int parts = 1;
    for (int i = 1; i < DEPTH; i++) {
        parts += place[i] > place[i - 1] || place[i - 1] - place[i] > 3000;
    }
    CHECK(parts > 5, "the stack of %s has %d parts", whose, parts);
}

static void *thread_main(void *unused) {
    CHECK(deep(0, THREAD_SIZE) != 0, "nothing");
    check_is_split("a thread");
    return unused;
}

static int sites_seen;

static int look_at(const mod_alloc_call_site *site, void *unused) {
    (void)unused;
    const uintptr_t function = (uintptr_t)deep;
    const int size = site->alloc_requested_bytes >= THREAD_SIZE ? THREAD_SIZE : MAIN_SIZE;
    const int depth = (int)site->alloc_requested_bytes - size;
    if (site->frame_count == 0 || site->frames[0] - function >= 512 || depth < 0 || depth >= DEPTH) {
        return 0;
    }
    sites_seen++;
    CHECK(site->walk_end == MOD_ALLOC_WALK_COMPLETE, "depth %d, size %d: the walk's end is %d", depth, size,
          (int)site->walk_end);
    int calls = 0;
    for (size_t i = 0; i < site->frame_count; i++) {
        calls += site->frames[i] - function < 512;
    }
    CHECK_EQ(calls, depth + 1, "frames of the function");
    return 0;
}

int main(void) {
    whole_begin();
    CHECK(deep(0, MAIN_SIZE) != 0, "nothing");
    check_is_split("main");
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, thread_main, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
    mod_alloc_call_sites(look_at, NULL);
    CHECK_EQ(sites_seen, 2 * DEPTH, "sites");
    return whole_end();
}
