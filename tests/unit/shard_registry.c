/* SPDX-License-Identifier: MIT
 *
 * Each slot is in the sums once, wherever it found room; and in a forked child's region as it was at one moment.
 */
#include "region/region.h"
#include "shard/shard.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

moda_shard *moda_attach(void) {
    return moda_shard_of_thread;
}

static void take_slots(uint32_t count, size_t bytes) {
    for (uint32_t i = 0; i < count; i++) {
        moda_shard *shard = moda_registry_take();
        cr_assert_not_null(shard);
        moda_shard_set_countdown(shard, MODA_PUBLISH_BYTES);
        moda_shard_count_malloc(shard, bytes, bytes);
    }
}

/* A disk that is full for a while: slots are then in memory of our own, and, where there is room again, in the region. */
Test(shard_registry, slots_that_found_no_room_in_the_region_count_once) {
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    moda_region_header *header = moda_region();
    const uint64_t memory_max = header->memory_max;
    take_slots(7, 16);
    header->memory_max = (header->used + header->page_size - 1) / header->page_size * header->page_size;
    take_slots(32, 160);
    header->memory_max = memory_max;
    take_slots(32, 1600);
    moda_totals totals;
    moda_totals_read(&totals);
    cr_assert_eq(header->slot_count, 1 + 7 + 32 + 32);
    cr_assert_eq(totals.counts.alloc_count, 7 + 32 + 32);
    cr_assert_eq(totals.counts.total_bytes, 7 * 16 + 32 * 160 + 32 * 1600, "%zu bytes",
                 (size_t)totals.counts.total_bytes);
    for (uint32_t i = 0; i < header->slot_count; i++) {
        cr_assert_eq(moda_registry_slot(i)->index, i);
    }
}

/* memcpy, as region.c calls it, with other threads' turns in its middle, each time elsewhere. */
void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__wrap_memcpy(void *to, const void *from, size_t bytes);

static bool copies_slowly;

void *__wrap_memcpy(void *to, const void *from, size_t bytes) {
    enum { PIECE = 8, PIECES = 1024, APART = 61 };
    static size_t turn;
    size_t i = 0;
    for (turn++; copies_slowly && i < PIECES && (i + 1) * PIECE <= bytes; i++) {
        __real_memcpy((char *)to + i * PIECE, (const char *)from + i * PIECE, PIECE);
        if ((i + turn) % APART == 0) {
            sched_yield();
        }
    }
    __real_memcpy((char *)to + i * PIECE, (const char *)from + i * PIECE, bytes - i * PIECE);
    return to;
}

static moda_shard *counting;
static int counting_ends;

/* One block is live, or none; how much was allocated is moved from word to word all the time. */
static void *counts_all_the_time(void *unused) {
    while (!__atomic_load_n(&counting_ends, __ATOMIC_RELAXED)) {
        moda_shard_set_countdown(counting, MODA_PUBLISH_BYTES);
        for (int i = 0; i < 20; i++) {
            moda_shard_count_malloc_fast(counting, 4096, 4000);
            if (!moda_shard_count_free_fast(counting, 4096)) {
                moda_shard_count_free(counting, 4096);
            }
        }
    }
    return unused;
}

Test(shard_registry, a_child_has_what_each_thread_had_at_one_moment) {
    enum { FORKS = 30 };
    char directory[] = "/tmp/moda-registry-XXXXXX", path[64], command[64];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/%%p", directory);
    const moda_region_options options = {
        .path = path, .memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    counting = moda_registry_take();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, counts_all_the_time, NULL), 0);
    int wrong = 0;
    for (int i = 0; i < FORKS; i++) {
        copies_slowly = true;
        moda_registry_lock();
        moda_region_fork_prepare();
        const pid_t child = fork();
        copies_slowly = false;
        if (child == 0) {
            if (!moda_region_fork_child()) {
                _exit(2);
            }
            moda_registry_fork_child();
            const int64_t balance = moda_shard_balance(counting), live = moda_shard_live(counting);
            _exit((balance == 0 || balance == 4096) && (live == 0 || live == 1) ? 0 : 1);
        }
        moda_region_fork_parent();
        moda_registry_unlock();
        int status = 0;
        cr_assert_eq(waitpid(child, &status, 0), child);
        wrong += status != 0;
    }
    __atomic_store_n(&counting_ends, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(wrong, 0, "%d of %d children began with what no moment had", wrong, FORKS);
}
