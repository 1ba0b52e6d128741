/* SPDX-License-Identifier: MIT
 *
 * threads.c - counters of several threads: sums, frees on other threads, frees after the allocating
 * thread has ended, slots that outlive their threads, thread snapshots, the bound on the peak.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "whole.h"

#define THREADS 4
#define BLOCKS 20000

static pthread_barrier_t barrier;
static void *handed[THREADS][BLOCKS];
static uint64_t handed_bytes[THREADS];
static mod_alloc_stats before_all;

static size_t size_of(size_t thread, size_t i) {
    static const size_t sizes[] = {1, 16, 40, 100, 256, 1000, 1024, 3000, 20000, 140000};
    return sizes[(i * 7 + thread) % (i % 50 == 0 ? 10 : 8)];
}

static void *allocate_and_free_the_neighbours(void *argument) {
    const size_t id = (size_t)(uintptr_t)argument;
    pthread_barrier_wait(&barrier); /* all threads stand; main takes its snapshot */
    pthread_barrier_wait(&barrier);
    mod_alloc_stats thread_before, thread_after;
    mod_alloc_thread_snapshot(&thread_before);
    uint64_t asked = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        handed[id][i] = malloc(size_of(id, i));
        NEED(handed[id][i] != NULL, "no block of %zu bytes", size_of(id, i));
        handed_bytes[id] += malloc_usable_size(handed[id][i]);
        asked += size_of(id, i);
    }
    mod_alloc_thread_snapshot(&thread_after);
    CHECK_EQ(thread_after.alloc_count - thread_before.alloc_count, BLOCKS, "this thread's allocations");
    CHECK_EQ(thread_after.total_bytes - thread_before.total_bytes, handed_bytes[id], "this thread's bytes");
    CHECK_EQ(thread_after.requested_bytes - thread_before.requested_bytes, asked, "this thread asked for");
    CHECK_EQ(thread_after.free_count, thread_before.free_count, "this thread freed nothing");
    pthread_barrier_wait(&barrier); /* all is allocated; main looks */
    pthread_barrier_wait(&barrier);
    const size_t neighbour = (id + 1) % THREADS;
    for (size_t i = 0; i < BLOCKS; i++) {
        free(handed[neighbour][i]);
    }
    mod_alloc_stats thread_end;
    mod_alloc_thread_snapshot(&thread_end);
    CHECK_EQ(thread_end.free_count - thread_before.free_count, BLOCKS, "frees of another thread's blocks");
    const int64_t balance = (int64_t)(thread_after.current_bytes - handed_bytes[neighbour]);
    CHECK_EQ(thread_end.current_bytes, balance < 0 ? 0 : balance, "a negative balance is shown as 0");
    pthread_barrier_wait(&barrier); /* all is freed; main looks */
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void sums_over_threads(void) {
    pthread_t thread[THREADS];
    memset(handed_bytes, 0, sizeof handed_bytes);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], NULL, allocate_and_free_the_neighbours, (void *)(uintptr_t)i) == 0,
             "no thread");
    }
    pthread_barrier_wait(&barrier);
    before_all = whole_now();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    int64_t bytes = 0, asked = 0;
    for (size_t t = 0; t < THREADS; t++) {
        bytes += (int64_t)handed_bytes[t];
        for (size_t i = 0; i < BLOCKS; i++) {
            asked += (int64_t)size_of(t, i);
        }
    }
    CHECK_CHANGE("all threads have allocated", before_all, .alloc_count = THREADS * BLOCKS,
                 .total_bytes = bytes, .current_bytes = bytes, .live_count = THREADS * BLOCKS,
                 .requested_bytes = asked);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    CHECK_CHANGE("all threads have freed their neighbour's blocks", before_all,
                 .alloc_count = THREADS * BLOCKS, .free_count = THREADS * BLOCKS, .total_bytes = bytes,
                 .requested_bytes = asked);
    const mod_alloc_stats now = whole_now();
    const uint64_t true_peak = before_all.current_bytes + (uint64_t)bytes;
    CHECK(now.peak_bytes + (uint64_t)THREADS * MOD_ALLOC_PEAK_SLACK >= true_peak,
          "peak %" PRIu64 " is lower than the true %" PRIu64 " by more than the slack", now.peak_bytes,
          true_peak);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    pthread_barrier_destroy(&barrier);
}

static void *allocate_and_end(void *argument) {
    const size_t id = (size_t)(uintptr_t)argument;
    handed_bytes[id] = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        unsigned char *p = malloc(size_of(id, i));
        NEED(p != NULL, "no block of %zu bytes", size_of(id, i));
        p[0] = (unsigned char)i;
        handed[id][i] = p;
        handed_bytes[id] += malloc_usable_size(p);
    }
    return NULL;
}

static void frees_after_the_thread_has_ended(void) {
    pthread_t thread;
    const mod_alloc_stats before = whole_now();
    for (size_t id = 0; id < THREADS; id++) {
        NEED(pthread_create(&thread, NULL, allocate_and_end, (void *)(uintptr_t)id) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    const mod_alloc_stats allocated = whole_now();
    CHECK(allocated.alloc_count >= before.alloc_count + THREADS * BLOCKS,
          "what ended threads allocated is counted: %" PRIu64, allocated.alloc_count - before.alloc_count);
    int64_t bytes = 0;
    for (size_t id = 0; id < THREADS; id++) {
        bytes += (int64_t)handed_bytes[id];
        for (size_t i = 0; i < BLOCKS; i++) {
            unsigned char *p = handed[id][i];
            NEED(p[0] == (unsigned char)i, "block %zu of thread %zu has lost its contents", i, id);
            free(p);
        }
    }
    CHECK_CHANGE("frees after the allocating thread has ended", allocated, .free_count = THREADS * BLOCKS,
                 .current_bytes = -bytes, .live_count = -THREADS * BLOCKS);
}

static void *frees_what_was_handed(void *argument) {
    const size_t id = (size_t)(uintptr_t)argument;
    for (size_t i = 0; i < BLOCKS; i++) {
        free(handed[id][i]);
    }
    return NULL;
}

/* The thread that frees has never allocated: its balance is negative, the sum is right. */
static void a_thread_that_only_frees(void) {
    allocate_and_end((void *)0);
    const mod_alloc_stats before = whole_now();
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, frees_what_was_handed, (void *)0) == 0, "no thread");
    pthread_join(thread, NULL);
    const mod_alloc_stats after = whole_now();
    const whole_change change = whole_changed(&before, &after);
    CHECK_EQ(change.live_count, change.alloc_count - change.free_count, "live = allocated - freed");
    CHECK(after.free_count - before.free_count >= BLOCKS, "frees: %" PRIu64,
          after.free_count - before.free_count);
    CHECK(before.current_bytes - after.current_bytes + 4096 >= handed_bytes[0],
          "current fell by %" PRIu64 ", the blocks had %" PRIu64, before.current_bytes - after.current_bytes,
          handed_bytes[0]);
}

/* Counters are sums over slots; a slot taken over by a new thread goes on from where it stood. */
static void *one_block(void *argument) {
    (void)argument;
    free(malloc(64));
    return NULL;
}

static void slots_are_reused(void) {
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, one_block, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    const mod_alloc_stats before = whole_now();
    for (int i = 0; i < 500; i++) {
        NEED(pthread_create(&thread, NULL, one_block, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    const mod_alloc_stats after = whole_now();
    CHECK(after.alloc_count - before.alloc_count >= 500, "500 threads: %" PRIu64 " allocations",
          after.alloc_count - before.alloc_count);
    CHECK(after.free_count - before.free_count >= 500, "500 threads: %" PRIu64 " frees",
          after.free_count - before.free_count);
    CHECK(after.current_bytes < before.current_bytes + 65536, "500 threads: current grew by %" PRIu64,
          after.current_bytes - before.current_bytes);
}

/* A thread that begins in a slot of an ended one starts from 0. */
static void *fresh_thread(void *argument) {
    (void)argument;
    mod_alloc_stats stats;
    mod_alloc_thread_snapshot(&stats);
    CHECK(stats.alloc_count <= 2 && stats.free_count <= 2,
          "a new thread has %" PRIu64 " allocations, %" PRIu64 " frees", stats.alloc_count, stats.free_count);
    void *p = malloc(100);
    const uint64_t block = malloc_usable_size(p);
    mod_alloc_stats after;
    mod_alloc_thread_snapshot(&after);
    CHECK_EQ(after.alloc_count, stats.alloc_count + 1, "a new thread's first block");
    CHECK_EQ(after.current_bytes, stats.current_bytes + block, "a new thread's first block");
    CHECK_EQ(after.live_count, stats.live_count + 1, "a new thread's first block");
    free(p);
    return NULL;
}

static void thread_counts_begin_at_zero(void) {
    pthread_t thread;
    for (int i = 0; i < 20; i++) {
        NEED(pthread_create(&thread, NULL, fresh_thread, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    }
}

static void *cross_realloc(void *argument) {
    return realloc(argument, 50000);
}

static void realloc_on_another_thread(void) {
    char *p = malloc(500);
    memset(p, 'x', 500);
    pthread_t thread;
    void *q = NULL;
    const mod_alloc_stats before = whole_now();
    NEED(pthread_create(&thread, NULL, cross_realloc, p) == 0, "no thread");
    pthread_join(thread, &q);
    NEED(q != NULL && ((char *)q)[499] == 'x', "contents are lost");
    free(q);
    const mod_alloc_stats after = whole_now();
    CHECK(after.requested_bytes - before.requested_bytes >= 50000, "requested");
    const whole_change change = whole_changed(&before, &after);
    CHECK_EQ(change.live_count, change.alloc_count - 1 - change.free_count, "all but the realloc are blocks");
}

enum { GROWN_BLOCKS = 210, GROWN_SIZE = 16 * 1024 };
static void *grown[GROWN_BLOCKS];

/* Returns the bytes of its blocks, which it has freed again. */
static void *grow_and_shrink(void *unused) {
    (void)unused;
    static void *mine[GROWN_BLOCKS / 2];
    size_t bytes = 0;
    for (size_t i = 0; i < GROWN_BLOCKS / 2; i++) {
        mine[i] = malloc(GROWN_SIZE);
        bytes += malloc_usable_size(mine[i]);
    }
    for (size_t i = 0; i < GROWN_BLOCKS / 2; i++) {
        free(mine[i]);
    }
    return (void *)(uintptr_t)bytes;
}

/* A thread that is alone need not make known what it allocates; when it is no more, all of it is known. */
static void a_second_thread_beside_one_that_has_grown(void) {
    mod_alloc_reset();
    const mod_alloc_stats before = whole_now();
    uint64_t bytes = before.current_bytes;
    for (size_t i = 0; i < GROWN_BLOCKS; i++) {
        grown[i] = malloc(GROWN_SIZE);
        bytes += malloc_usable_size(grown[i]);
    }
    pthread_t thread;
    void *bytes_of_thread = NULL;
    NEED(pthread_create(&thread, NULL, grow_and_shrink, NULL) == 0, "no thread");
    pthread_join(thread, &bytes_of_thread);
    bytes += (uintptr_t)bytes_of_thread;
    const mod_alloc_stats after = whole_now();
    CHECK(after.peak_bytes + MOD_ALLOC_PEAK_SLACK >= bytes,
          "peak %" PRIu64 " is lower than the true %" PRIu64 " by more than the slack", after.peak_bytes,
          bytes);
    for (size_t i = 0; i < GROWN_BLOCKS; i++) {
        free(grown[i]);
    }
}

int main(void) {
    whole_begin();
    a_second_thread_beside_one_that_has_grown();
    for (int i = 0; i < 3; i++) {
        sums_over_threads();
    }
    frees_after_the_thread_has_ended();
    frees_after_the_thread_has_ended();
    a_thread_that_only_frees();
    slots_are_reused();
    thread_counts_begin_at_zero();
    realloc_on_another_thread();
    return whole_end();
}
