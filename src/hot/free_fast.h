/* SPDX-License-Identifier: MIT
 *
 * free_fast.h - what every free runs.
 *
 *   free
 *   |- push on the page's local list           this file
 *   |- moda_free_emptied   the page is empty   slow.inc; not again and again for one that is retired
 *   |- moda_free_above     the balance is a new peak            slow.inc; once for each, when it is left
 *   `- moda_free_slow      another thread's, tracked, aligned, in a full page, of a thread past its end
 */
#if !defined(MI_MALLOC_VERSION)
#error "free_fast.h is part of hot/unit.c"
#endif

MODA_INLINE void moda_free_fast(void *p) {
    moda_page *page = moda_page_of_or_null(p);
    if (moda_unlikely(!page)) {
        return;
    }
    moda_heap *heap = moda_heap_of_thread();
    if (moda_unlikely(!moda_page_is_of_heap(page, heap)) || moda_unlikely(!moda_page_is_plain(page))
        || MODA_IS_CHECKED) {
        moda_free_slow(p, page);
        return;
    }
    moda_shard *shard = moda_heap_shard(heap);
    if (moda_unlikely(!moda_shard_count_free_fast(shard, moda_page_block_size_fast(page)))) {
        moda_free_above(p, page, shard);
        return;
    }
    if (moda_unlikely(moda_page_push(page, p)) && moda_unlikely(!moda_page_is_retired(page))) {
        moda_free_emptied(p); /* the page's address is not kept for it: an instruction less */
    }
}
