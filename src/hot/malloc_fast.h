/* SPDX-License-Identifier: MIT
 *
 * malloc_fast.h - what every malloc runs.
 *
 *   malloc
 *   |- pop of the size class's list (lists.h)                   this file; 99 % of calls
 *   |- moda_malloc_medium    above 1 KiB: pop by size class    slow.inc; where mimalloc has its slow path
 *   |- moda_malloc_due       countdown below zero              slow.inc; each 32 KiB, each sample, or,
 *   |                                                          when every allocation is sampled, always
 *   `- moda_malloc_slow      no free block: first call of a    slow.inc; each few hundred calls
 *                            thread, page used up
 *
 * One question is asked, "is the countdown below zero", before the block is taken; it is asked by counting the
 * block, all in one word, and moda_malloc_due first takes that back. Every exit is a return or a tail call.
 */
#if !defined(MI_MALLOC_VERSION)
#error "malloc_fast.h is part of hot/unit.c"
#endif

typedef void *moda_allocator(size_t size);

/* What is tail-called: above the small sizes, where there is no free block, and when the countdown has run out. */
MODA_INLINE void *moda_pop_fast(size_t size, moda_allocator *large, moda_allocator *slow,
                                moda_allocator *due) {
    moda_lists *lists = moda_lists_of_thread;
    if (moda_unlikely(size > MODA_SMALL_MAX)) {
        return large(size);
    }
    size_t class = moda_lists_class(lists, size);
    void *block = lists->free[class];
    moda_keep(class);
    moda_keep_as_result(block);
    if (moda_unlikely(!block)) {
        return slow(size);
    }
    if (moda_unlikely(moda_shard_count_step(lists->shard, lists->step[class] + size))) {
        return due(size);
    }
    moda_keep(class);
    moda_lists_pop(lists, class, block);
    return block;
}

MODA_INLINE void *moda_malloc_fast(size_t size) {
    return moda_pop_fast(size, moda_malloc_medium, moda_malloc_slow, moda_malloc_due);
}

/* The same, zeroed. A list that came zeroed from the system has only the links to clear. */
MODA_INLINE void *moda_zalloc_fast(size_t size) {
    moda_lists *lists = moda_lists_of_thread;
    if (moda_unlikely(size > MODA_SMALL_MAX)) {
        return moda_zalloc_slow(size);
    }
    size_t class = moda_lists_class(lists, size);
    void *block = lists->free[class];
    moda_keep(class);
    if (moda_unlikely(!block)) {
        return moda_zalloc_slow(size);
    }
    const uint64_t step = lists->step[class];
    if (moda_unlikely(moda_shard_count_step(lists->shard, step + size))) {
        return moda_zalloc_due(size);
    }
    moda_keep(class);
    moda_lists_pop(lists, class, block);
    if (lists->is_zero[class]) {
        *(uintptr_t *)block = 0;
        return block;
    }
    return memset(block, 0, (size_t)(step >> MODA_WORD_SHIFT));
}
