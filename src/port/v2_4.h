/* SPDX-License-Identifier: MIT
 *
 * v2_4.h - mimalloc 2.4.1: where its names and signatures differ from earlier ones.
 */
_Static_assert(MI_MALLOC_VERSION == 20401, "v2_4.h is for mimalloc 2.4.1");
_Static_assert(_Generic(((mi_page_t *)0)->block_size, size_t : 1, default : 0), "mi_page_t.block_size");
_Static_assert(_Generic(((mi_page_t *)0)->used, uint16_t : 1, default : 0), "mi_page_t.used");

#define MODA_HEAP_VERSION "2.4.1"

MODA_INLINE mi_heap_t *moda_mi_default_heap(void) {
    return mi_prim_get_default_heap();
}

MODA_INLINE uintptr_t moda_mi_thread_id(void) {
    return _mi_prim_thread_id();
}

MODA_INLINE size_t moda_mi_block_size_fast(const mi_page_t *page) {
    return page->block_size;
}

/* Names its arenas by a prctl that older kernels refuse: errno is the program's all the same. */
MODA_INLINE void *moda_mi_malloc_generic(mi_heap_t *heap, size_t size) {
    const int saved = errno;
    void *block = _mi_malloc_generic(heap, size, false, 0, NULL);
    errno = saved;
    return block;
}

/* A page with a free block of a size that has a class, found as the generic path does. NULL: there is none, or the
 * generic path has other work to do, as each hundredth time. */
MODA_INLINE mi_page_t *moda_mi_find_page(mi_heap_t *heap, size_t size) {
    if (moda_unlikely(heap->generic_count >= 99)) {
        return NULL;
    }
    heap->generic_count++;
    const int saved = errno;
    mi_page_t *page = mi_page_queue_find_free_ex(heap, mi_page_queue(heap, size), true);
    errno = saved;
    return page;
}

/* A block was taken from a page that moda_mi_find_page found: the only one of a page is not looked for again. */
MODA_INLINE void moda_mi_page_was_taken_from(mi_page_t *page) {
    if (moda_unlikely(page->reserved == page->used)) {
        mi_page_to_full(page, mi_page_queue_of(page));
    }
}

MODA_INLINE void *moda_mi_block_of(mi_segment_t *segment, mi_page_t *page, void *p) {
    (void)segment;
    return _mi_page_ptr_unalign(page, p);
}

MODA_INLINE void moda_mi_heap_visit_pages(mi_heap_t *heap, heap_page_visitor_fun *visit, void *first,
                                          void *second) {
    mi_heap_visit_pages(heap, visit, true, first, second);
}

/* What a collection does besides its look at each page; nothing is forced, and full pages are left out. */
MODA_INLINE void moda_mi_heap_collect_by(mi_heap_t *heap, heap_page_visitor_fun *visit) {
    _mi_heap_delayed_free_partial(heap);
    _mi_heap_collect_retired(heap, false);
    mi_heap_visit_pages(heap, visit, false, NULL, NULL);
    _mi_abandoned_collect(heap, false, &heap->tld->segments);
    _mi_arenas_collect(false);
    _mi_stats_merge_thread(heap->tld);
}

/* A thread that frees a block of an ended one's segment may take that over. */
MODA_INLINE bool moda_mi_is_up_for_reclaim(const mi_segment_t *segment) {
    return mi_atomic_load_relaxed(&segment->thread_id) == 0;
}

/* A block of another thread's page that is not marked. */
MODA_INLINE void moda_mi_free_remote(mi_segment_t *segment, mi_page_t *page, void *block) {
    mi_free_block_mt(page, segment, block, block, false);
}

MODA_INLINE uint8_t moda_mi_bin(size_t size) {
    return (uint8_t)_mi_bin(size);
}

/* Above the medium sizes a block has a page of its own; a huge one, a segment, and all of it. */
MODA_INLINE size_t moda_mi_large_block_size(size_t size) {
    const size_t wanted = _mi_os_good_alloc_size(size);
    return wanted > MI_LARGE_OBJ_SIZE_MAX ? _mi_align_up(wanted, MI_SEGMENT_SLICE_SIZE) : wanted;
}

MODA_INLINE pthread_key_t moda_mi_thread_key(void) {
    return _mi_heap_default_key;
}

/* Blocks of a size that is a multiple of the alignment are aligned. */
MODA_INLINE bool moda_mi_is_naturally_aligned(size_t block_size, size_t alignment) {
    return block_size <= MI_MAX_ALIGN_GUARANTEE && (block_size & (alignment - 1)) == 0;
}

#define MODA_ALIGNMENT_MAX MI_BLOCK_ALIGNMENT_MAX

MODA_INLINE void moda_mi_fork_child(void) {
    /* Locks of rare paths, held for no longer than a list operation; the child has one thread, so they can only
     * be held by one that is gone. */
    mi_lock_init(&mi_subproc_default.abandoned_os_lock);
    mi_lock_init(&mi_subproc_default.abandoned_os_visit_lock);
}

/* Called for a heap that may take over another's pages. 2.4.1 keeps the bytes in a heap's full pages, for its own
 * checks alone, but mi_heap_absorb, by which a thread's end hands over the pages of its second heap, does not hand
 * over that sum: its checked build would then stop where such a page leaves the list of full ones. */
MODA_INLINE void moda_mi_heap_will_absorb(mi_heap_t *heap) {
    if (MI_DEBUG > 0) {
        heap->pages_full_size += (size_t)1 << 48;
    }
}

/* Pages with one block each, in a segment of their own that belongs to no thread. Nothing of a heap is read or written,
 * and the arenas below are lock-free. Of what mimalloc keeps for a thread's segments only sums are written for one such:
 * shared by whoever comes here, since nobody reads them. */
static mi_segments_tld_t moda_mi_segments_apart = {.subproc = &mi_subproc_default, .stats = &_mi_stats_main};

MODA_INLINE mi_page_t *moda_mi_page_apart(size_t size) {
    mi_page_t *page = mi_segment_huge_page_alloc(size, 0, _mi_arena_id_none(), &moda_mi_segments_apart);
    if (page) {
        size_t page_size;
        page->page_start = _mi_segment_page_start(_mi_page_segment(page), page, &page_size);
    }
    return page;
}

/* A page for blocks of this size, not initialized; NULL if there is none to be had now. */
MODA_INLINE mi_page_t *moda_mi_segment_page(mi_heap_t *heap, size_t block_size) {
    const int saved = errno;
    mi_page_t *page = _mi_segment_page_alloc(heap, block_size, 0, &heap->tld->segments);
    errno = saved;
    return page;
}

MODA_INLINE void *moda_mi_page_start(mi_page_t *page) {
    return page->page_start;
}

/* Which segments there may be, a word at a time: bit i stands for one at `first` and i times the size of a segment. Blocks
 * in use of arenas first, some of which are the rest of a segment before, then the map of those outside. It ends at 48
 * TiB; those above 1 GiB lie behind. */
typedef struct moda_mi_cursor {
    size_t part, word;
} moda_mi_cursor;

static bool moda_mi_next_segments(moda_mi_cursor *at, uintptr_t *bits, uintptr_t *first) {
    for (; at->part < MI_MAX_ARENAS; at->part++, at->word = 0) {
        mi_arena_t *arena = mi_atomic_load_ptr_acquire(mi_arena_t, &mi_arenas[at->part]);
        if (arena && at->word < arena->field_count) {
            const size_t left = arena->block_count - at->word * MI_BITMAP_FIELD_BITS;
            *bits = mi_atomic_load_relaxed(&arena->blocks_inuse[at->word]);
            if (left < MI_BITMAP_FIELD_BITS) {
                *bits &= ((uintptr_t)1 << left) - 1; /* what is no block counts as used */
            }
            *first = (uintptr_t)arena->start + at->word++ * MI_BITMAP_FIELD_BITS * MI_ARENA_BLOCK_SIZE;
            return true;
        }
    }
    for (; at->part - MI_MAX_ARENAS < MI_SEGMENT_MAP_MAX_PARTS; at->part++, at->word = 0) {
        const size_t index = at->part - MI_MAX_ARENAS;
        mi_segmap_part_t *part = mi_atomic_load_ptr_acquire(mi_segmap_part_t, &mi_segment_map[index]);
        if (part && at->word < MI_SEGMENT_MAP_PART_ENTRIES) {
            *bits = mi_atomic_load_relaxed(&part->map[at->word]);
            *first = index * MI_SEGMENT_MAP_PART_SPAN + at->word++ * MI_INTPTR_BITS * MI_SEGMENT_SIZE;
            return true;
        }
    }
    return false;
}

MODA_INLINE bool moda_mi_frees_at_once(void) {
    return true;
}

MODA_INLINE void moda_mi_look_at_abandoned_once(void) {
    /* 2.4 has a cursor. */
}

MODA_INLINE void moda_mi_look_at_abandoned_freely(void) {
}

MODA_INLINE void moda_mi_expect_left_handlers(void) {
}

/* Memory between its pages is to go back to the system, later. */
MODA_INLINE bool moda_mi_has_put_off(const mi_segment_t *segment) {
    return segment->purge_expire != 0 && !mi_commit_mask_is_empty(&segment->purge_mask);
}

MODA_INLINE void moda_mi_return_put_off(mi_segment_t *segment) {
    mi_segment_try_purge(segment, true);
}

/* 2.4.1 gives memory back by itself, but only while the generic path runs; now and then we ask. */
#define MODA_HEAP_COLLECT_INTERVAL_MS 500
