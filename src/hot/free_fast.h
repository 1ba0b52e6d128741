/* SPDX-License-Identifier: MIT
 *
 * free_fast.h - what every free runs.
 *
 *   free
 *   |- push on the page's local list           this file
 *   |- moda_free_emptied   the page is empty   slow.inc; not again and again for one that is retired
 *   |- moda_free_above     the balance is a new peak            slow.inc; once for each, when it is left
 *   `- moda_free_slow      another thread's, tracked, aligned, in a full page or behind the first 64 KiB of one, of a thread
 *                          past its end
 */
#if !defined(MI_MALLOC_VERSION)
#error "free_fast.h is part of hot/unit.c"
#endif

/* slow.inc; it comes later in unit.c, as it has moda_free_own, too. */
static void moda_free_emptied(void *p);
static void moda_free_above(void *p, moda_page *page, moda_shard *shard);
static void moda_free_slow(void *p, moda_slice *slice);

/* A block of this thread's, in a plain page. */
MODA_INLINE void moda_free_own(void *p, moda_page *page, moda_heap *heap) {
    moda_shard *shard = moda_heap_shard(heap);
    if (moda_unlikely(!moda_shard_count_free_fast(shard, moda_page_block_size_fast(page)))) {
        moda_free_above(p, page, shard);
        return;
    }
    if (moda_unlikely(moda_page_push(page, p)) && moda_unlikely(!moda_page_is_retired(page))) {
        moda_free_emptied(p); /* the page's address is not kept for it: an instruction less */
    }
}

MODA_INLINE bool moda_free_is_own(const moda_page *page, const moda_heap *heap) {
    return moda_likely(moda_page_is_of_heap(page, heap)) && moda_likely(moda_page_is_plain(page))
           && !MODA_IS_CHECKED;
}

MODA_INLINE void moda_free_fast(void *p) {
    moda_slice *slice = moda_slice_of_or_null(p);
    if (moda_unlikely(!slice)) {
        return;
    }
    moda_page *page = moda_slice_first(slice);
    moda_heap *heap = moda_heap_of_thread();
    if (moda_unlikely(!moda_free_is_own(page, heap))) {
        moda_free_slow(p, slice);
        return;
    }
    moda_free_own(p, page, heap);
}
