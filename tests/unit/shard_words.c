/* SPDX-License-Identifier: MIT
 *
 * What a malloc and a free count lies in one word each; whatever is counted, and however often the words are emptied or
 * wrap around, the sums and the peaks are those of plain counting.
 */
#include "region/region.h"
#include "shard/peak.h"
#include "shard/shard.h"

#include <criterion/criterion.h>

moda_shard *moda_attach(void) {
    return moda_shard_of_thread;
}

static moda_shard *shard;
static int64_t allocs, frees, total, freed, requested, high;

static void prepare(void) {
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    moda_shard_of_thread = shard = moda_registry_take();
    moda_shard_set_countdown(shard, MODA_PUBLISH_BYTES);
    shard->countdown_set = MODA_PUBLISH_BYTES;
}

static void check(void) {
    moda_counts counts;
    moda_totals_of_shard(shard, &counts);
    cr_assert_eq(counts.alloc_count, (uint64_t)allocs);
    cr_assert_eq(counts.free_count, (uint64_t)frees);
    cr_assert_eq(counts.total_bytes, (uint64_t)total);
    cr_assert_eq(counts.freed_bytes, (uint64_t)freed);
    cr_assert_eq(counts.requested_bytes, (uint64_t)requested);
    cr_assert_eq(moda_shard_balance(shard), total - freed);
    cr_assert_eq(moda_shard_live(shard), allocs - frees);
    cr_assert_eq(moda_shard_thread_peak(shard).bytes, high);
}

/* As the fast path and the slow one do it. */
static void allocate(size_t size) {
    const size_t block = (size + 15) / 16 * 16;
    if (block > MODA_PUBLISH_BYTES) {
        moda_shard_count_malloc(shard, block, size);
    } else if (moda_shard_count_malloc_fast(shard, block, size)) {
        moda_shard_give_back(shard, block, size);
        moda_shard_visit(shard);
        moda_shard_set_countdown(shard, shard->countdown_set = MODA_PUBLISH_BYTES);
        moda_shard_count_malloc(shard, block, size);
    }
    allocs++;
    requested += (int64_t)size;
    total += (int64_t)block;
    high = total - freed > high ? total - freed : high;
}

static void release(size_t block) {
    if (block > MODA_WORD_BLOCK_MAX || !moda_shard_count_free_fast(shard, block)) {
        moda_shard_count_free(shard, block);
    }
    frees++;
    freed += (int64_t)block;
}

Test(shard_words, many_small_blocks_between_two_looks, .init = prepare) {
    for (int i = 0; i < 100000; i++) {
        allocate((size_t)i % 16 + 1);
        check();
    }
    for (int i = 0; i < 100000; i++) {
        release(16);
        check();
    }
}

Test(shard_words, more_is_freed_than_a_word_has_room_for, .init = prepare) {
    for (int i = 0; i < 4096; i++) {
        allocate(MODA_WORD_BLOCK_MAX);
    }
    check();
    const moda_peak_mark all = moda_shard_thread_peak(shard);
    for (int i = 0; i < 4000; i++) {
        release(MODA_WORD_BLOCK_MAX);
        check();
    }
    cr_assert_eq(moda_shard_thread_peak(shard).count, all.count);
    allocate(100); /* a new balance far below the peak */
    check();
    release(112);
    check();
    cr_assert_eq(moda_shard_thread_peak(shard).bytes, all.bytes);
}

/* A thread that frees what others allocated: its balance goes on falling, and nobody looks. */
Test(shard_words, a_balance_far_below_zero, .init = prepare) {
    for (int i = 0; i < 5000000; i++) {
        release(1024);
    }
    check();
    allocate(64);
    check();
}

Test(shard_words, blocks_of_any_size, .init = prepare) {
    static const size_t sizes[] = {
        16, 1000, 200000, MODA_WORD_BLOCK_MAX, MODA_WORD_BLOCK_MAX + 16, (size_t)1 << 31, (size_t)1 << 45};
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            allocate(sizes[i]);
            check();
        }
        const moda_peak_mark peak = moda_shard_thread_peak(shard);
        cr_assert_eq(peak.count, allocs - frees, "the last block is among those live at the peak");
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            release((sizes[i] + 15) / 16 * 16);
            check();
        }
        cr_assert_eq(moda_shard_thread_peak(shard).count, peak.count);
        allocate(48);
        check();
        high = total - freed > high ? total - freed : high;
    }
}

/* Blocks live at the peak are those of the first time it was reached. */
Test(shard_words, an_equal_balance_is_no_new_peak, .init = prepare) {
    allocate(64);
    release(64);
    for (int i = 0; i < 4; i++) {
        allocate(16);
    }
    for (int i = 0; i < 4; i++) {
        release(16);
    }
    cr_assert_eq(moda_shard_thread_peak(shard).bytes, 64);
    cr_assert_eq(moda_shard_thread_peak(shard).count, 1);
}

/* A reader that the owner's change does not let go on: the sums are those before it. */
static void check_in_the_middle(void) {
    moda_counts counts;
    cr_assert_not(moda_totals_of_shard(shard, &counts));
    cr_assert_eq((int64_t)counts.alloc_count, allocs);
    cr_assert_eq((int64_t)counts.free_count, frees);
    cr_assert_eq((int64_t)counts.total_bytes, total);
    cr_assert_eq((int64_t)counts.freed_bytes, freed);
    cr_assert_eq((int64_t)counts.requested_bytes, requested);
}

/* The child's thread is another one; the shard's was caught when some of the words had been stored and the others not. */
static void fork_in_the_middle(const moda_shard *before, unsigned stored) {
    if (!(stored & 1)) {
        shard->budget = before->budget;
    }
    if (!(stored & 2)) {
        shard->free_budget = before->free_budget;
    }
    if (!(stored & 4)) {
        shard->alloc_word = before->alloc_word;
    }
    if (!(stored & 8)) {
        shard->free_word = before->free_word;
    }
    if (!(stored & 16)) {
        shard->alloc_base = before->alloc_base;
    }
    shard->before_what =
        stored % 2 == 0 ? MODA_BEFORE_COUNTDOWN : MODA_BEFORE_MARK; /* as it is in the middle */
    shard->seq--;
    check_in_the_middle();
    moda_shard *const of_parent = shard;
    moda_shard_of_thread = moda_registry_take();
    moda_registry_lock();
    moda_registry_fork_child();
    shard = of_parent;
    cr_assert_eq(shard->seq % 2, 0);
}

Test(shard_words, a_child_forked_in_the_middle_of_a_change, .init = prepare) {
    for (unsigned stored = 0; stored < 32; stored++) {
        shard = moda_shard_of_thread; /* maybe one that had an owner before: its counts go on */
        moda_counts counts;
        moda_totals_of_shard(shard, &counts);
        allocs = (int64_t)counts.alloc_count;
        frees = (int64_t)counts.free_count;
        total = (int64_t)counts.total_bytes;
        freed = (int64_t)counts.freed_bytes;
        requested = (int64_t)counts.requested_bytes;
        for (int i = 0; i < 50; i++) {
            allocate(100);
        }
        release(112);
        const moda_shard before = *shard;
        if (stored % 2 == 0) {
            moda_shard_set_countdown(shard, 1000);
        } else {
            moda_shard_set_mark(shard);
        }
        fork_in_the_middle(&before, stored);
        high = moda_shard_thread_peak(shard).bytes;
        check();
    }
}
