/* SPDX-License-Identifier: MIT
 *
 * v2_0.h - mimalloc 2.0.9 (Debian 12): where its names and signatures differ from later ones.
 */
_Static_assert(MI_MALLOC_VERSION == 209, "v2_0.h is for mimalloc 2.0.9");
_Static_assert(_Generic(((mi_page_t *)0)->xblock_size, uint32_t : 1, default : 0), "mi_page_t.xblock_size");
_Static_assert(_Generic(((mi_page_t *)0)->used, uint32_t : 1, default : 0), "mi_page_t.used");

#define MODA_HEAP_VERSION "2.0.9"

MODA_INLINE mi_heap_t *moda_mi_default_heap(void) {
    return mi_get_default_heap();
}

MODA_INLINE uintptr_t moda_mi_thread_id(void) {
    return _mi_thread_id();
}

/* Right up to 2 GiB, where it saturates: no fast path reads it there. */
MODA_INLINE size_t moda_mi_block_size_fast(const mi_page_t *page) {
    return page->xblock_size;
}

MODA_INLINE void *moda_mi_malloc_generic(mi_heap_t *heap, size_t size) {
    return _mi_malloc_generic(heap, size, false, 0);
}

/* A page with a free block of a size that has a class, found as the generic path does. NULL: there is none, or the
 * generic path has something to do first. (What it calls besides, programs would have to register; ours cannot.) */
MODA_INLINE mi_page_t *moda_mi_find_page(mi_heap_t *heap, size_t size) {
    if (moda_unlikely(mi_atomic_load_ptr_relaxed(mi_block_t, &heap->thread_delayed_free) != NULL)) {
        return NULL;
    }
    return mi_page_queue_find_free_ex(heap, mi_page_queue(heap, size), true);
}

/* A block was taken from a page that moda_mi_find_page found. */
MODA_INLINE void moda_mi_page_was_taken_from(mi_page_t *page) {
    (void)page;
}

MODA_INLINE void *moda_mi_block_of(mi_segment_t *segment, mi_page_t *page, void *p) {
    return _mi_page_ptr_unalign(segment, page, p);
}

MODA_INLINE void moda_mi_heap_visit_pages(mi_heap_t *heap, heap_page_visitor_fun *visit, void *first,
                                          void *second) {
    mi_heap_visit_pages(heap, visit, first, second);
}

/* How many segments this thread may still take from the abandoned list. */
static MODA_TLS size_t moda_mi_pops_left = SIZE_MAX;

/* A collection takes each segment from there, looks through all of its pages, and puts it aside; but once the list is empty
 * what was put aside is the list again, and 2.0.9 goes on, 1024 times in all. Each thread's end is such a collection: with a
 * single segment that was left behind it took 60 us, and ten times as long where its pages are many. So: as many as there
 * are. */
MODA_INLINE void moda_mi_look_at_abandoned_once(void) {
    moda_mi_pops_left =
        mi_atomic_load_relaxed(&abandoned_count) + mi_atomic_load_relaxed(&abandoned_visited_count);
}

MODA_INLINE void moda_mi_look_at_abandoned_freely(void) {
    moda_mi_pops_left = SIZE_MAX;
}

/* What a collection does besides its look at each page; nothing is forced, nor waited for: who frees a block of a full page
 * may be interrupted in the middle, and never go on. */
MODA_INLINE void moda_mi_heap_collect_by(mi_heap_t *heap, heap_page_visitor_fun *visit) {
    _mi_heap_delayed_free_partial(heap);
    _mi_heap_collect_retired(heap, false);
    mi_heap_visit_pages(heap, visit, NULL, NULL);
    moda_mi_look_at_abandoned_once();
    _mi_abandoned_collect(heap, false, &heap->tld->segments);
    moda_mi_look_at_abandoned_freely();
    _mi_segment_cache_collect(false, &heap->tld->os);
}

/* A thread that frees a block of an ended one's segment may take that over. */
MODA_INLINE bool moda_mi_is_up_for_reclaim(const mi_segment_t *segment) {
    (void)segment;
    return false;
}

/* A block of another thread's page that is not marked. */
MODA_INLINE void moda_mi_free_remote(mi_segment_t *segment, mi_page_t *page, void *block) {
    (void)segment;
    _mi_free_block_mt(page, block);
}

MODA_INLINE uint8_t moda_mi_bin(size_t size) {
    return mi_bin(size);
}

/* Above the medium sizes a block has a page of its own, and all of it: whole slices of 64 KiB, or, above
 * 512 KiB, of 512. */
MODA_INLINE size_t moda_mi_large_block_size(size_t size) {
    const size_t wanted = _mi_os_good_alloc_size(size);
    if (wanted > MI_LARGE_OBJ_SIZE_MAX) {
        return _mi_align_up(wanted, MI_SEGMENT_SLICE_SIZE);
    }
    return _mi_align_up(wanted, wanted > MI_MEDIUM_PAGE_SIZE ? MI_MEDIUM_PAGE_SIZE : MI_SEGMENT_SLICE_SIZE);
}

MODA_INLINE pthread_key_t moda_mi_thread_key(void) {
    return _mi_heap_default_key;
}

/* Pages start at a slice, of 64 KiB, or for blocks of up to 1 KiB 384 bytes behind it; so a block whose size is a multiple
 * of the alignment is aligned if the start is. (2.0.9's own rule is wrong: its issue 700.) */
MODA_INLINE bool moda_mi_is_naturally_aligned(size_t block_size, size_t alignment) {
    return (block_size & (alignment - 1)) == 0
           && alignment <= (block_size <= 1024 ? MI_MAX_ALIGN_GUARANTEE : MI_SEGMENT_SLICE_SIZE);
}

#define MODA_ALIGNMENT_MAX MI_ALIGNMENT_MAX

/* Handlers of this process leave by longjmp: one has. */
static bool moda_mi_handlers_leave;

MODA_INLINE void moda_mi_expect_left_handlers(void) {
    moda_store_relaxed(&moda_mi_handlers_leave, true);
}

/* Takes a segment from the abandoned list. While a thread reads there a count is raised, and whoever gives a segment back to
 * the system waits for that: a handler left by longjmp there would leave it raised for ever. So none comes meanwhile, once
 * one has ever been left; before that nobody pays for it (a thread can come here a thousand times as it begins, and with two
 * system calls each 8,000 short threads take 5 times as long). */
static mi_segment_t *moda_mi_abandoned_pop_(void) {
    if (moda_mi_pops_left == 0) {
        return NULL;
    }
    moda_mi_pops_left--;
    if (moda_likely(!moda_load_relaxed(&moda_mi_handlers_leave))
        || (mi_tagged_segment_ptr(mi_atomic_load_relaxed(&abandoned)) == NULL
            && mi_atomic_load_ptr_relaxed(mi_segment_t, &abandoned_visited) == NULL)) {
        return moda_mi_abandoned_pop_void();
    }
    const uint64_t signals = moda_os_hold_signals();
    mi_segment_t *segment = moda_mi_abandoned_pop_void();
    moda_os_let_signals(signals);
    return segment;
}

/* A reader of the abandoned list that forked away never comes back to say that it is done; the child would
 * wait for it at its next thread's end. */
MODA_INLINE void moda_mi_fork_child(void) {
    mi_atomic_store_release(&abandoned_readers, (size_t)0);
}

MODA_INLINE void moda_mi_heap_will_absorb(mi_heap_t *heap) {
    (void)heap; /* 2.0.9 keeps no sum of the full pages */
}

/* Pages with one block each, in a segment of their own that belongs to no thread. Nothing of a heap is read or written,
 * and the arenas below are lock-free. Of what mimalloc keeps for a thread's segments only sums are written for one such:
 * shared by whoever comes here, since nobody reads them. */
static mi_os_tld_t moda_mi_os_apart = {.stats = &_mi_stats_main};
static mi_segments_tld_t moda_mi_segments_apart = {.stats = &_mi_stats_main, .os = &moda_mi_os_apart};

MODA_INLINE mi_page_t *moda_mi_page_apart(size_t size) {
    return mi_segment_huge_page_alloc(size, 0, _mi_arena_id_none(), &moda_mi_segments_apart,
                                      &moda_mi_os_apart);
}

/* A page for blocks of this size, not initialized; NULL if there is none to be had now. */
MODA_INLINE mi_page_t *moda_mi_segment_page(mi_heap_t *heap, size_t block_size) {
    return _mi_segment_page_alloc(heap, block_size, 0, &heap->tld->segments, &heap->tld->os);
}

MODA_INLINE void *moda_mi_page_start(mi_page_t *page) {
    size_t size;
    return _mi_segment_page_start(_mi_page_segment(page), page, &size);
}

/* False while a thread is reading the abandoned list: giving a segment back waits for it, and it may be who was
 * interrupted. */
MODA_INLINE bool moda_mi_frees_at_once(void) {
    return mi_atomic_load_acquire(&abandoned_readers) == 0;
}

/* Which segments there are, a word of mimalloc's map at a time: bit i stands for one at `first` and i times the size of
 * a segment. The map ends at 20 TiB; those above 1 GiB lie behind. */
typedef struct moda_mi_cursor {
    size_t word;
} moda_mi_cursor;

static bool moda_mi_next_segments(moda_mi_cursor *at, uintptr_t *bits, uintptr_t *first) {
    if (at->word >= MI_SEGMENT_MAP_WSIZE) {
        return false;
    }
    *bits = mi_atomic_load_relaxed(&mi_segment_map[at->word]);
    *first = at->word++ * MI_INTPTR_BITS * MI_SEGMENT_SIZE;
    return true;
}

/* Memory between its pages is to go back to the system, later. */
MODA_INLINE bool moda_mi_has_put_off(const mi_segment_t *segment) {
    return segment->decommit_expire != 0 && !mi_commit_mask_is_empty(&segment->decommit_mask);
}

MODA_INLINE void moda_mi_return_put_off(mi_segment_t *segment) {
    mi_segment_delayed_decommit(segment, true, &_mi_stats_main);
}

/* Hands unused memory back only when told to: the slow path does, on a timer. */
#define MODA_HEAP_COLLECT_INTERVAL_MS 250
