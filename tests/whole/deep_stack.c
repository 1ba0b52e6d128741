/* SPDX-License-Identifier: MIT
 *
 * deep_stack.c - a thread that first allocates deep in a big stack: its walks arrive all the same. The argument says which
 * thread: thread, or main (which needs a limit that a program gets by being started anew).
 */
#include <pthread.h>
#include <sys/resource.h>

#include "whole.h"

enum { SIZE = 77, TIMES = 10 };
#define THREAD_BYTES ((size_t)40 << 20)
#define MAIN_BYTES ((size_t)200 << 20)
#define MORE_BYTES ((size_t)24 << 20)

static __attribute__((noinline)) void go_deep(size_t bytes) {
    char local[bytes];
    __asm__ volatile("" : : "r"(local) : "memory");
    for (int i = 0; i < TIMES; i++) {
        free(malloc(SIZE));
    }
    __asm__ volatile("" : : "r"(local) : "memory");
}

static void *in_thread(void *argument) {
    go_deep(THREAD_BYTES);
    return argument;
}

static int look_at(const mod_alloc_call_site *site, void *count) {
    if (site->alloc_count != 0 && site->alloc_requested_bytes == site->alloc_count * SIZE) {
        CHECK_EQ(site->walk_end, MOD_ALLOC_WALK_COMPLETE, "how the walk ended");
        *(uint64_t *)count += site->alloc_count;
    }
    return 0;
}

int main(int count, char **argument) {
    whole_begin();
    NEED(count > 1, "which thread?");
    if (strcmp(argument[1], "main") == 0) {
        struct rlimit limit;
        getrlimit(RLIMIT_STACK, &limit);
        limit.rlim_cur = limit.rlim_max;
        if (limit.rlim_max > 2 * MAIN_BYTES && setrlimit(RLIMIT_STACK, &limit) == 0) {
            execl("/proc/self/exe", argument[0], "deep", (char *)NULL);
        }
        return WHOLE_SKIP;
    }
    if (strcmp(argument[1], "deep") == 0) {
        go_deep(MAIN_BYTES);
    } else {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, THREAD_BYTES + MORE_BYTES);
        NEED(pthread_create(&thread, &attributes, in_thread, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    uint64_t blocks = 0;
    mod_alloc_call_sites(look_at, &blocks);
    CHECK_EQ(blocks, TIMES, "blocks");
    return whole_end();
}
