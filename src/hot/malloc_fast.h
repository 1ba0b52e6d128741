/* SPDX-License-Identifier: MIT
 *
 * malloc_fast.h - what every malloc runs.
 *
 *   malloc
 *   |- pop of the direct page's free list                      this file; 99 % of calls
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
    moda_heap *heap = moda_heap_of_thread();
    if (moda_unlikely(size > MODA_SMALL_MAX)) {
        return large(size);
    }
    moda_page *page = moda_heap_small_page(heap, size);
    void *block = moda_page_first_free(page);
    moda_keep_as_result(block);
    if (moda_unlikely(!block) || MODA_IS_CHECKED) {
        return slow(size);
    }
    moda_shard *shard = moda_heap_shard(heap);
    if (moda_unlikely(moda_shard_count_malloc_fast(shard, moda_page_block_size_fast(page), size))) {
        return due(size);
    }
    moda_page_pop(page, block);
    return block;
}

MODA_INLINE void *moda_malloc_fast(size_t size) {
    return moda_pop_fast(size, moda_malloc_medium, moda_malloc_slow, moda_malloc_due);
}

/* The same, zeroed. A page that came zeroed from the system has only the free-list link to clear. */
MODA_INLINE void *moda_zalloc_fast(size_t size) {
    moda_heap *heap = moda_heap_of_thread();
    if (moda_unlikely(size > MODA_SMALL_MAX)) {
        return moda_zalloc_slow(size);
    }
    moda_page *page = moda_heap_small_page(heap, size);
    void *block = moda_page_first_free(page);
    if (moda_unlikely(!block) || MODA_IS_CHECKED) {
        return moda_zalloc_slow(size);
    }
    moda_shard *shard = moda_heap_shard(heap);
    const size_t block_size = moda_page_block_size_fast(page);
    if (moda_unlikely(moda_shard_count_malloc_fast(shard, block_size, size))) {
        return moda_zalloc_due(size);
    }
    moda_page_pop(page, block);
    if (moda_page_is_zero(page)) {
        *(uintptr_t *)block = 0;
        return block;
    }
    return memset(block, 0, block_size);
}
