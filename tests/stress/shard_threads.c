/* SPDX-License-Identifier: MIT
 *
 * shard_threads.c - the counters without the allocator: threads take slots, count allocations and frees on them,
 * leave them; meanwhile others take snapshots, open and close windows of both kinds, and reset. Built with
 * ThreadSanitizer over src/shard, src/region, src/base and src/os. After each round all sums must be exact.
 *
 * shard_threads [threads] [rounds] [operations]
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region/region.h"
#include "shard/shard.h"

/* What hot/ gives: the calling thread's shard. */
MODA_HIDDEN moda_shard *moda_attach(void);
MODA_HIDDEN moda_shard *moda_attach(void) {
    if (!moda_shard_of_thread) {
        moda_shard_of_thread = moda_registry_take();
        if (moda_shard_of_thread) {
            moda_shard_set_countdown(moda_shard_of_thread, MODA_PUBLISH_BYTES);
        }
    }
    return moda_shard_of_thread;
}

static void detach(void) {
    moda_shard *shard = moda_shard_of_thread;
    moda_shard_of_thread = NULL;
    moda_registry_leave(shard);
}

typedef struct {
    int64_t allocs, frees, bytes, freed, requested;
} books;

static int failures;
static int threads = 6, rounds = 20, operations = 20000;
static books book[64];
static int stop;

static void equal(const char *what, int round, int64_t found, int64_t expected) {
    if (found != expected) {
        __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
        fprintf(stderr, "round %d: %s is %" PRId64 ", expected %" PRId64 "\n", round, what, found, expected);
    }
}

static void claim(bool is_so, const char *what, uint64_t found) {
    if (!is_so && __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED) < 20) {
        fprintf(stderr, "not so: %s (%" PRIu64 ")\n", what, found);
    }
}

static uint64_t next_number(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 27);
}

static void count_malloc(moda_shard *shard, size_t bytes, books *b) {
    if (moda_shard_count_malloc_fast(shard, bytes, bytes - 1)) {
        moda_shard_give_back(shard, bytes, bytes - 1);
        moda_shard_visit(shard);
        moda_shard_set_countdown(shard, MODA_PUBLISH_BYTES);
        moda_shard_count_malloc(shard, bytes, bytes - 1);
    }
    b->allocs++;
    b->bytes += (int64_t)bytes;
    b->requested += (int64_t)bytes - 1;
}

static void count_free(moda_shard *shard, size_t bytes, books *b) {
    if (!moda_shard_count_free_fast(shard, bytes)) {
        moda_shard_count_free(shard, bytes);
    }
    b->frees++;
    b->freed += (int64_t)bytes;
}

static void *work(void *argument) {
    const int id = (int)(intptr_t)argument;
    uint64_t state = (uint64_t)id;
    books *b = &book[id];
    moda_shard *shard = moda_attach();
    size_t live[64] = {0};
    for (int i = 0; i < operations; i++) {
        const uint64_t r = next_number(&state);
        const size_t slot = r % 64;
        if (live[slot] == 0) {
            live[slot] = 16 + (r >> 20) % 5000;
            count_malloc(shard, live[slot], b);
        } else {
            count_free(shard, live[slot], b);
            live[slot] = 0;
        }
        if (r >> 54 == 0) {
            mod_alloc_profiler window;
            mod_alloc_stats stats;
            mod_alloc_thread_profiler_start(&window);
            books inside = {0};
            count_malloc(shard, 5000, &inside);
            count_malloc(shard, 3000, &inside);
            count_free(shard, 5000, &inside);
            count_free(shard, 3000, &inside);
            mod_alloc_thread_profiler_stop(&window, &stats);
            b->allocs += 2;
            b->frees += 2;
            b->bytes += 8000;
            b->freed += 8000;
            b->requested += 7998;
            claim(stats.alloc_count == 2 && stats.free_count == 2, "a thread window counts its thread alone",
                  stats.alloc_count);
            claim(stats.peak_bytes == 8000, "a thread window's peak", stats.peak_bytes);
        }
    }
    for (size_t i = 0; i < 64; i++) {
        if (live[i] != 0) {
            count_free(shard, live[i], b);
        }
    }
    detach();
    return NULL;
}

/* Everything that others may do at any time. */
static void *watch(void *argument) {
    const bool resets = argument != NULL;
    uint64_t peak_before = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        mod_alloc_stats stats;
        mod_alloc_profiler window, second;
        mod_alloc_snapshot(&stats);
        claim(stats.alloc_count < (uint64_t)1 << 40, "alloc_count has not wrapped", stats.alloc_count);
        claim(stats.total_bytes < (uint64_t)1 << 48, "total_bytes has not wrapped", stats.total_bytes);
        claim(stats.current_bytes < (uint64_t)1 << 30, "current_bytes is possible", stats.current_bytes);
        claim(stats.peak_bytes < (uint64_t)1 << 30, "peak_bytes is possible", stats.peak_bytes);
        mod_alloc_profiler_start(&window);
        mod_alloc_profiler_start(&second);
        mod_alloc_snapshot(&stats);
        mod_alloc_profiler_stop(&window, &stats);
        claim(stats.peak_bytes < (uint64_t)1 << 30, "a window's peak is possible", stats.peak_bytes);
        claim(stats.alloc_count < (uint64_t)1 << 40, "a window has not wrapped", stats.alloc_count);
        mod_alloc_profiler_stop(&second, &stats);
        if (resets) {
            mod_alloc_reset();
            peak_before = 0;
        }
        mod_alloc_thread_snapshot(&stats);
        claim(stats.alloc_count == 0, "this thread allocates nothing", stats.alloc_count);
    }
    (void)peak_before;
    return NULL;
}

static void run_round(int round) {
    const bool resets = round % 2 == 1;
    pthread_t worker[64], watcher[2];
    memset(book, 0, sizeof book);
    mod_alloc_stats before, after;
    mod_alloc_snapshot(&before);
    stop = 0;
    for (int i = 0; i < 2; i++) {
        pthread_create(&watcher[i], NULL, watch, resets && i == 0 ? (void *)1 : NULL);
    }
    for (int i = 0; i < threads; i++) {
        pthread_create(&worker[i], NULL, work, (void *)(intptr_t)i);
    }
    books sum = {0};
    for (int i = 0; i < threads; i++) {
        pthread_join(worker[i], NULL);
        sum.allocs += book[i].allocs;
        sum.frees += book[i].frees;
        sum.bytes += book[i].bytes;
        sum.freed += book[i].freed;
        sum.requested += book[i].requested;
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(watcher[0], NULL);
    pthread_join(watcher[1], NULL);
    mod_alloc_snapshot(&after);
    if (!resets) {
        equal("alloc_count", round, (int64_t)(after.alloc_count - before.alloc_count), sum.allocs);
        equal("free_count", round, (int64_t)(after.free_count - before.free_count), sum.frees);
        equal("total_bytes", round, (int64_t)(after.total_bytes - before.total_bytes), sum.bytes);
        equal("requested_bytes", round, (int64_t)(after.requested_bytes - before.requested_bytes),
              sum.requested);
    }
    equal("live_count", round, (int64_t)(after.live_count - before.live_count), sum.allocs - sum.frees);
    equal("current_bytes", round, (int64_t)(after.current_bytes - before.current_bytes),
          sum.bytes - sum.freed);
}

int main(int count, char **argument) {
    threads = count > 1 ? atoi(argument[1]) : threads;
    rounds = count > 2 ? atoi(argument[2]) : rounds;
    operations = count > 3 ? atoi(argument[3]) : operations;
    const moda_region_options options = {
        .memory_max = 16 << 20, .frames_max = 16, .mimalloc_version = "none"};
    if (threads > 64 || !moda_region_create(&options) || !moda_registry_initialize()) {
        fprintf(stderr, "no region\n");
        return 1;
    }
    for (int round = 0; round < rounds && failures == 0; round++) {
        run_round(round);
    }
    return failures == 0 ? 0 : 1;
}
