/* SPDX-License-Identifier: MIT
 *
 * heap_inline.h - the allocator underneath, over mimalloc's internals. Included by hot/unit.c alone, after
 * mimalloc's text; nothing above this file names a mimalloc internal.
 *
 *   heap    one a thread (mi_heap_t); its `keys[0]` holds the thread's shard
 *   page    blocks of one size; `free` is popped by malloc, `local_free` pushed by its thread's free
 *   block   what malloc returns
 *
 * A block is this thread's own if its page belongs to this thread's heap (`xheap`): the same question that
 * mimalloc asks of the segment's thread id, at the same price, but it is false as well for pages of the
 * thread's second heap, where the tracked blocks live. (A second free of one is seen by that, where its page is empty and
 * so no longer marked. The segment's id is 1 % faster in a churn that fits the second cache.)
 */
#include "port/heap_laws.h"

#include "port/heap.h"

#if MI_MALLOC_VERSION == 209
#include "port/v2_0.h"
#else
#include "port/v2_4.h"
#endif

#include <sys/mman.h>

/* The thread's counters, which a heap leads to; what they are is the region's. */
typedef struct moda_shard moda_shard;

#define MODA_SMALL_MAX MI_SMALL_SIZE_MAX
#define MODA_MEDIUM_MAX MI_MEDIUM_OBJ_SIZE_MAX
#define MODA_SLICE_SIZE                                                                                      \
    MI_SEGMENT_SLICE_SIZE /* memory of a segment is committed, and pages begin, at these */
#define MODA_SIZE_MAX ((size_t)PTRDIFF_MAX)

/* A checked build (MI_DEBUG) goes through mimalloc's own pop and push, which fill, check and assert. */
#define MODA_IS_CHECKED (MI_DEBUG > 0)

/* ---- heaps ---- */

/* Never NULL: before a thread's first allocation, and after its end, an empty heap that has no free block. */
MODA_INLINE moda_heap *moda_heap_of_thread(void) {
    return moda_mi_default_heap();
}

MODA_INLINE bool moda_heap_is_live(moda_heap *heap) {
    return mi_heap_is_initialized(heap);
}

MODA_INLINE moda_shard *moda_heap_shard(const moda_heap *heap) {
    return (moda_shard *)heap->keys[0];
}

MODA_INLINE void moda_heap_set_shard(moda_heap *heap, moda_shard *shard) {
    heap->keys[0] = (uintptr_t)shard;
}

/* Another number for each life of a thread's heap. */
MODA_INLINE uintptr_t moda_heap_incarnation(moda_heap *heap) {
    return heap->tld->heap_backing->cookie;
}

/* ---- sizes ---- */

/* Sizes as mimalloc is asked for them: multiples of 16, so that every block is aligned to 16, as the ABI has
 * it. It costs nothing but for requests of up to 8 bytes, which mimalloc would serve with 8. */
MODA_INLINE size_t moda_size_rounded(size_t size) {
    return size ? (size + 15) & ~(size_t)15 : 16;
}

/* What malloc_usable_size reports for a block of this request: the same for each mode, place and time. */
MODA_INLINE size_t moda_block_size_for(size_t size) {
    const size_t rounded = moda_size_rounded(size);
    if (moda_likely(rounded <= MODA_MEDIUM_MAX)) {
        return _mi_bin_size(moda_mi_bin(rounded));
    }
    return moda_mi_large_block_size(rounded);
}

/* The same for a size up to MODA_SMALL_MAX: four classes to each doubling. */
MODA_INLINE size_t moda_block_size_for_small(size_t size) {
    const size_t last = moda_size_rounded(size) - 1;
    const int shift = 61 - __builtin_clzl(last);
    return ((last >> shift) + 1) << shift;
}

/* ---- pages ---- */

/* The page that serves a small size. Odd word sizes are never asked for: sizes are rounded to 16. For size 0 it is
 * a page that never has a free block: the slow path serves it with 16 bytes. */
MODA_INLINE moda_page *moda_heap_small_page(moda_heap *heap, size_t size) {
    return *(moda_page **)((uint8_t *)heap->pages_free_direct + ((size + 15) & ~(size_t)15));
}

/* The page that a medium size is served from first; NULL if there is none. */
MODA_INLINE moda_page *moda_heap_medium_page(moda_heap *heap, size_t size) {
    return heap->pages[moda_mi_bin(size)].first;
}

MODA_INLINE size_t moda_page_block_size_fast(const moda_page *page) {
    return moda_mi_block_size_fast(page);
}

MODA_INLINE size_t moda_page_block_size(const moda_page *page) {
    return mi_page_block_size(page);
}

MODA_INLINE void *moda_page_first_free(const moda_page *page) {
    return page->free;
}

/* Takes the block that moda_page_first_free gave, and asks for the next one, as moda_lists_pop does. */
MODA_INLINE void moda_page_pop(moda_page *page, void *block) {
    mi_block_t *next = mi_block_next(page, block);
    page->free = next;
    page->used++;
    moda_prefetch(next);
}

MODA_INLINE bool moda_page_is_zero(const moda_page *page) {
#if MI_MALLOC_VERSION == 209
    return page->is_zero;
#else
    return page->free_is_zero;
#endif
}

/* xheap is atomic, and a relaxed load of it costs gcc an instruction more than a plain one; only its equality with
 * this thread's own heap is asked, which no other thread can bring about. */
MODA_INLINE bool moda_page_is_of_heap(const moda_page *page, const moda_heap *heap) {
    uintptr_t owner;
    memcpy(&owner, (const void *)&page->xheap, sizeof owner);
    return owner == (uintptr_t)heap;
}

/* Neither full nor marked: blocks can be pushed without a second look. */
MODA_INLINE bool moda_page_is_plain(const moda_page *page) {
    return page->flags.full_aligned == 0;
}

MODA_INLINE bool moda_page_is_full(const moda_page *page) {
    return mi_page_is_in_full(page);
}

MODA_INLINE bool moda_page_is_marked(const moda_page *page) {
    return mi_page_has_aligned(page);
}

/* From now on no free of a block in this page takes the fast path, until the page is empty. */
MODA_INLINE void moda_page_mark(moda_page *page) {
    mi_page_set_has_aligned(page, true);
}

/* The same of any thread's page. A mark that falls between its owner's load and store of the flags is lost (a few
 * nanoseconds, as the page becomes full or has room again); nothing else ever is. The caller knows of a live block in it. */
MODA_INLINE void moda_page_mark_any(moda_page *page) {
    mi_page_flags_t mark = {0};
    mark.x.has_aligned = true;
    __atomic_fetch_or(&page->flags.full_aligned, mark.full_aligned, __ATOMIC_RELAXED);
}

/* A page that has become empty again and again while it is the only one of its size is retired already. Where
 * plain mimalloc retires it anew each time, half of the instructions of a malloc and free pair go there. */
MODA_INLINE bool moda_page_is_retired(const moda_page *page) {
    return page->retire_expire != 0 && page->next == NULL && page->prev == NULL;
}

/* Gives a block back to its page. True if the page is now empty, and is to be told so. */
MODA_INLINE bool moda_page_push(moda_page *page, void *block) {
    mi_block_set_next(page, block, page->local_free);
    page->local_free = block;
    return --page->used == 0;
}

MODA_INLINE void moda_page_retire(moda_page *page) {
    _mi_page_retire(page);
}

/* The same, and told so. */
MODA_INLINE void moda_page_give_back(moda_page *page, void *block) {
    if (moda_page_push(page, block) && !moda_page_is_retired(page)) {
        moda_page_retire(page);
    }
}

/* The same, and an empty page is given up at once: its memory serves other sizes. */
MODA_INLINE void moda_page_give_back_whole(moda_page *page, void *block) {
    if (moda_page_push(page, block)) {
        _mi_page_free(page, mi_page_queue_of(page), false);
    }
}

/* What the generic path would do first with a page whose free list has run out: take over what its own thread
 * has freed. Other threads' frees are left to the generic path. NULL if there is none. */
MODA_INLINE void *moda_page_refill(moda_page *page) {
    if (MODA_IS_CHECKED || !page->local_free || page->free) {
        return NULL;
    }
    page->free = page->local_free;
    page->local_free = NULL;
#if MI_MALLOC_VERSION == 209
    page->is_zero = false;
#else
    page->free_is_zero = false;
#endif
    page->retire_expire = 0;
    return page->free;
}

MODA_INLINE void *moda_block_next(const void *block) {
    return *(void *const *)block;
}

/* Two lists as one: as many blocks are looked at as the shorter one has. */
MODA_INLINE mi_block_t *moda_blocks_join(mi_block_t *a, mi_block_t *b) {
    mi_block_t *in_a = a, *in_b = b;
    while (moda_block_next(in_a) && moda_block_next(in_b)) {
        in_a = moda_block_next(in_a);
        in_b = moda_block_next(in_b);
    }
    if (!moda_block_next(in_a)) {
        *(void **)in_a = b;
        return a;
    }
    *(void **)in_b = a;
    return b;
}

/* Takes all free blocks of a page from it: its free list, and what its own thread has freed (the generic path would take
 * that only when the list has run out). The page then has all its blocks in use. Other threads' frees are left to the
 * generic path. NULL if there is none. (In this order: who is interrupted here, by a handler that is left by longjmp, has
 * lost blocks, and not any twice.) */
MODA_INLINE void *moda_page_take_list(moda_page *page, bool *is_zero) {
    mi_block_t *const list = page->free;
    mi_block_t *const freed = page->local_free;
    if (moda_unlikely(!list && !freed)) {
        return NULL; /* it may be the shared empty page, which is not written */
    }
    page->used = page->capacity;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    page->free = NULL;
    page->local_free = NULL;
    page->retire_expire = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *is_zero = !freed && moda_page_is_zero(page);
    if (moda_unlikely(list && freed)) { /* a block of a full page, say, that another thread has freed */
        return moda_blocks_join(list, freed);
    }
    return list ? list : freed;
}

MODA_INLINE uint32_t moda_block_list_length(const void *list) {
    uint32_t count = 0;
    for (const void *block = list; block; block = moda_block_next(block)) {
        count++;
    }
    return count;
}

/* Whether so many blocks are all that is in use. */
MODA_INLINE bool moda_page_has_only(const moda_page *page, uint32_t count) {
    return page->used == count;
}

/* Whether a page lies behind another one, or in another segment. */
MODA_INLINE bool moda_page_is_behind(const moda_page *page, uintptr_t other) {
    const uintptr_t at = (uintptr_t)page;
    return at > other || (at ^ other) > MI_SEGMENT_MASK;
}

/* What is left of such a list is free in its page again. at_once: if the page is then empty, it is given up, and its memory
 * serves other sizes. (The caller has let go of the list: who is interrupted here has lost blocks, and not any twice.) */
MODA_INLINE void moda_page_give_list_back(moda_page *page, void *list, bool at_once) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    mi_block_t *last = list;
    uint32_t count = 1;
    for (mi_block_t *block = moda_block_next(list); block; block = moda_block_next(block)) {
        last = block;
        count++;
    }
    MODA_ASSERT(count <= page->used);
    mi_block_set_next(page, last, page->local_free);
    page->local_free = list;
    page->used -= (uint16_t)count;
    if (moda_page_is_full(page)) {
        _mi_page_unfull(page);
    }
    if (page->used == 0 && at_once) {
        _mi_page_free(page, mi_page_queue_of(page), false);
    } else if (page->used == 0 && !moda_page_is_retired(page)) {
        moda_page_retire(page);
    }
}

/* Pages that were empty at some looks are given up. mimalloc looks with each page that it makes. */
MODA_INLINE void moda_heap_age_retired(moda_heap *heap) {
    _mi_heap_collect_retired(heap, false);
}

/* A retired page may have been full since: then it is none of those that mimalloc looks at, though it counts its looks. */
static bool moda_page_retire_if_empty(mi_heap_t *heap, mi_page_queue_t *queue, mi_page_t *page, void *first,
                                      void *second) {
    (void)first;
    (void)second;
    _mi_page_free_collect(page, false);
    if (mi_page_all_free(page)) {
        const size_t bin = (size_t)(queue - heap->pages);
        if (!moda_page_is_retired(page) || bin >= MI_BIN_HUGE) {
            moda_page_retire(page);
        } else if (bin < heap->page_retired_min || bin > heap->page_retired_max) {
            heap->page_retired_min = bin < heap->page_retired_min ? bin : heap->page_retired_min;
            heap->page_retired_max = bin > heap->page_retired_max ? bin : heap->page_retired_max;
        }
    }
    return true;
}

/* mimalloc's collection, but for the last page of a size: where that is empty now, it is given up only once it has not been
 * needed for some time. Its thread would make it anew, and in memory not touched before (200 threads with something to do
 * once a second: 119 MB resident, plain 99; so 97). */
MODA_INLINE void moda_heap_tidy(moda_heap *heap) {
    if (moda_heap_is_live(heap)) {
        moda_mi_heap_collect_by(heap, moda_page_retire_if_empty);
    }
}

/* Memory of the thread between pages goes back to the system at last, where there is more than twice as much as it has
 * allocated lately. mimalloc does so as pages come and go, but puts it off by a millisecond with each page that goes, and
 * 2.0.9 gives a segment that has become empty back to the same thread, put off anew: memory that was free for seconds
 * (eight threads: all of 230 MB). */
MODA_INLINE void moda_heap_return_spans(moda_heap *heap, uint64_t allocated) {
    const mi_span_queue_t *const queues = heap->tld->segments.spans;
    uint64_t bytes = 0;
    for (int pass = 0; pass < 2 && (pass == 0 || bytes / 2 >= allocated); pass++) {
        for (size_t i = 0; i <= MI_SEGMENT_BIN_MAX; i++) {
            for (const mi_slice_t *span = queues[i].first; span; span = span->next) {
                mi_segment_t *segment = _mi_ptr_segment(span);
                if (!moda_mi_has_put_off(segment)) {
                    continue;
                }
                if (pass == 0) {
                    bytes += (uint64_t)span->slice_count * MI_SEGMENT_SLICE_SIZE;
                } else {
                    moda_mi_return_put_off(segment);
                }
            }
        }
    }
}

/* Takes back what other threads have freed in this heap's full pages. mimalloc does this in its generic path, 2.4.1 each
 * hundredth time there; but that path is taken seldom here, in the second heap only for samples, and large blocks, mostly
 * samples, have a page each, full at once (four threads that free each other's blocks: 380 MiB resident instead of the
 * 240 of plain mimalloc). */
MODA_INLINE void moda_heap_take_back(moda_heap *heap) {
    if (moda_unlikely(mi_atomic_load_ptr_relaxed(mi_block_t, &heap->thread_delayed_free) != NULL)) {
        _mi_heap_delayed_free_partial(heap);
    }
}

/* ---- blocks ---- */

/* The 64 KiB of a segment that a block lies in: what the segment's head has of them, less where the first such stands
 * there. Most pages are one slice. Of a longer one the first slice is the page, and the others' entries have no heap: they
 * are zeroed with their segment, and with each page that is given up (mi_segment_page_clear). So a page of a thread's own
 * heap can be seen without a look at where the slice's page begins: two instructions less, and no load that the next ones
 * wait for. */
typedef struct moda_slice moda_slice;

/* NULL for NULL. The segment lies at p - 1 rounded down; for NULL that is negative, as no address of a program is, and the
 * rounding has set the flag already. */
MODA_INLINE moda_slice *moda_slice_of_or_null(const void *p) {
    const intptr_t segment = ((intptr_t)p - 1) & ~(intptr_t)MI_SEGMENT_MASK;
    if (moda_unlikely(segment < 0)) {
        return NULL;
    }
    const size_t index = (size_t)((intptr_t)p - segment) >> MI_SEGMENT_SLICE_SHIFT;
    uint8_t *slice = (uint8_t *)segment + moda_times(index, sizeof(mi_slice_t));
    moda_keep(slice); /* or gcc takes an instruction more to add up */
    moda_assume(slice != NULL);
    return (moda_slice *)slice;
}

/* The page that begins with this slice, if it belongs to a heap; else nothing that has one. */
MODA_INLINE moda_page *moda_slice_first(moda_slice *slice) {
    return (moda_page *)((mi_segment_t *)slice)->slices;
}

MODA_INLINE moda_page *moda_slice_page(moda_slice *slice) {
    moda_page *first = moda_slice_first(slice);
    return (moda_page *)((uint8_t *)first - first->slice_offset);
}

/* The law that moda_slice_first leans on. */
MODA_INLINE bool moda_slice_is_as_said(const void *p, const moda_page *page) {
    const moda_page *first = moda_slice_first(moda_slice_of_or_null(p));
    return first == page || moda_page_is_of_heap(first, NULL);
}

typedef struct moda_block_place {
    mi_segment_t *segment;
    moda_page *page;
} moda_block_place;

MODA_INLINE moda_page *moda_page_of(const void *p) {
    return _mi_segment_page_of(_mi_ptr_segment(p), p);
}

MODA_INLINE moda_block_place moda_block_find(const void *p) {
    mi_segment_t *segment = _mi_ptr_segment(p);
    return (moda_block_place){segment, _mi_segment_page_of(segment, p)};
}

MODA_INLINE moda_block_place moda_block_place_in(const void *p, moda_page *page) {
    return (moda_block_place){_mi_ptr_segment(p), page};
}

/* The start of the block that p points into. A division, where the size is no power of two. */
MODA_INLINE void *moda_block_start(moda_block_place place, void *p) {
    return moda_mi_block_of(place.segment, place.page, p);
}

MODA_INLINE bool moda_block_is_local(moda_block_place place) {
    return moda_mi_thread_id() == mi_atomic_load_relaxed(&place.segment->thread_id);
}

/* Whether p can be a block: its segment carries the process's cookie. Reads the segment's header, whose page
 * moda_block_find has read from already. */
MODA_INLINE bool moda_block_is_plausible(moda_block_place place, const void *p) {
    return ((uintptr_t)p & 7) == 0 && _mi_ptr_cookie(place.segment) == place.segment->cookie;
}

/* Whether an address that may be anything is one of ours; touches nothing there. False also for some blocks of
 * ours: those that lie above mimalloc's map of segments. */
MODA_INLINE bool moda_block_is_known(const void *p) {
    return mi_is_in_heap_region(p);
}

/* No block of this page is in use: what is freed there was free. */
MODA_INLINE bool moda_page_is_unused(const moda_page *page) {
    return page->used == 0;
}

/* Any block, from any thread; p may point into it. */
MODA_INLINE void moda_block_free(void *p) {
    const moda_block_place place = moda_block_find(p);
    _mi_free_generic(place.segment, place.page, moda_block_is_local(place), p);
}

/* Puts a block on its page's list of other threads' frees, which is what mimalloc does with most. False, and nothing done,
 * where there is more to do: the page is full and its owner is to be told, or a segment changes hands or is given up. */
MODA_INLINE bool moda_page_push_remote(moda_block_place place, mi_block_t *block) {
    if (moda_unlikely(place.segment->kind == MI_SEGMENT_HUGE || moda_mi_is_up_for_reclaim(place.segment))) {
        return false;
    }
    mi_thread_free_t seen = mi_atomic_load_relaxed(&place.page->xthread_free);
    do {
        if (moda_unlikely(mi_tf_delayed(seen) == MI_USE_DELAYED_FREE)) {
            return false;
        }
        mi_block_set_next(place.page, block, mi_tf_block(seen));
    } while (!mi_atomic_cas_weak_release(&place.page->xthread_free, &seen, mi_tf_set_block(seen, block)));
    return true;
}

/* A block of another thread's page that is not marked. */
MODA_INLINE void moda_block_free_remote(moda_block_place place, void *block) {
    if (MODA_IS_CHECKED || moda_unlikely(!moda_page_push_remote(place, block))) {
        moda_mi_free_remote(place.segment, place.page, block);
    }
}

/* A block of this thread's own page, by its start; the page may be marked or full. */
MODA_INLINE void moda_block_free_local(moda_page *page, void *block) {
#if MI_MALLOC_VERSION == 209
    _mi_free_block(page, true, block);
#else
    mi_free_block_local(page, block, false, true, true);
#endif
}

/* For a pointer that will lie at least 16 bytes inside a block: how many of the block's bytes are not the program's. It is
 * noted in front of it. */
MODA_INLINE void moda_block_note_unusable(void *p, size_t unusable) {
    ((size_t *)p)[-1] = unusable;
}

/* Bytes that the program may use from p on: of an untracked block, or of one that p points into, as noted. (Where
 * mimalloc itself has aligned p nothing is noted: then to the block's end.) */
MODA_INLINE size_t moda_block_room(void *p) {
    const moda_block_place place = moda_block_find(p);
    const size_t block_size = moda_page_block_size(place.page);
    if (moda_likely(!moda_page_is_marked(place.page))) {
        return block_size;
    }
    const size_t before = (size_t)((uint8_t *)p - (uint8_t *)moda_block_start(place, p));
    const size_t noted = before >= 16 ? ((const size_t *)p)[-1] : before;
    return block_size - (noted >= before && noted < block_size ? noted : before);
}

/* Blocks whose size a fast path could read wrongly, or could not count, are kept from it. */
MODA_INLINE void *moda_block_settle(void *block) {
    if (block) {
        moda_page *page = moda_page_of(block);
        if (moda_unlikely(moda_page_block_size(page) > MODA_WORD_BLOCK_MAX)) {
            moda_page_mark(page);
        }
    }
    return block;
}

/* mimalloc's generic path: collects, finds or makes a page. size is rounded. NULL if there is no memory. */
MODA_INLINE void *moda_heap_malloc_generic(moda_heap *heap, size_t size) {
    if (moda_unlikely(size > MODA_SIZE_MAX)) {
        return NULL;
    }
    return moda_block_settle(moda_mi_malloc_generic(heap, size));
}

/* The same for a size that has a class: up to MODA_MEDIUM_MAX, rounded. */
MODA_INLINE void *moda_heap_malloc_class(moda_heap *heap, size_t size) {
    return moda_mi_malloc_generic(heap, size);
}

/* A page that has a free block of a size that has a class; NULL: the generic path is to be asked. Not in a checked
 * build. */
MODA_INLINE moda_page *moda_heap_find_page(moda_heap *heap, size_t size) {
    return moda_mi_find_page(heap, size);
}

/* A block of it was taken. */
MODA_INLINE void moda_page_was_taken_from(moda_page *page) {
    moda_mi_page_was_taken_from(page);
}

MODA_INLINE void *moda_page_take(moda_page *page) {
    void *block = page ? moda_page_first_free(page) : NULL;
    if (!block && page) {
        block = moda_page_refill(page);
    }
    if (block) {
        moda_page_pop(page, block);
    }
    return block;
}

/* A block of any size from a heap. */
MODA_INLINE void *moda_heap_malloc(moda_heap *heap, size_t size) {
    const size_t rounded = moda_size_rounded(size);
    if (!MODA_IS_CHECKED && moda_likely(rounded <= MODA_MEDIUM_MAX)) {
        moda_page *page = rounded <= MODA_SMALL_MAX ? moda_heap_small_page(heap, rounded)
                                                    : moda_heap_medium_page(heap, rounded);
        /* Not the shared empty page of a size that has none yet: its lists are empty, and stay so. */
        void *block = moda_page_take(page);
        if (block) {
            return block;
        }
    }
    return size <= MODA_SIZE_MAX ? moda_heap_malloc_generic(heap, rounded) : NULL;
}

/* A block of this class, or of a larger one up to twice as large, that was in use a short time ago: warm memory. NULL if
 * there is none. The generic path would first use up the free list, whose blocks may never have been touched (of more than
 * 1 KiB, four at a time are linked). size is rounded, and at most MODA_MEDIUM_MAX / 2. */
MODA_INLINE void *moda_heap_malloc_warm(moda_heap *heap, size_t size) {
    const uint8_t last = moda_mi_bin(2 * size);
    for (uint8_t bin = moda_mi_bin(size); bin <= last; bin++) {
        moda_page *page = heap->pages[bin].first;
        mi_block_t *block = page ? page->local_free : NULL;
        if (block) {
            page->local_free = mi_block_next(page, block);
            page->used++;
            page->retire_expire = 0;
            return block;
        }
        if (page && page->free && moda_page_block_size_fast(page) <= 1024) { /* linked, and so touched */
            return moda_page_take(page);
        }
    }
    return NULL;
}

/* A page for a medium size that links none of its blocks. NULL: there is none to be had now. */
static MODA_NOINLINE moda_page *moda_heap_bare_page(moda_heap *heap, size_t size) {
    mi_page_queue_t *queue = mi_page_queue(heap, size);
    _mi_heap_collect_retired(heap, false);
    mi_page_t *page = moda_mi_segment_page(heap, queue->block_size);
    if (page) {
        page->free = (mi_block_t *)page; /* a page that has a list is not given another one */
        mi_page_init(heap, page, queue->block_size, heap->tld);
        MODA_ASSERT(page->capacity == 0);
        page->free = NULL;
        mi_page_queue_push(heap, queue, page);
    }
    return page;
}

/* A block of a medium size that was never in use, where mimalloc would link four: that many page faults, and memory that
 * may stay unused for ever. NULL: the generic path is to be asked, which also finds what was freed. Not in a checked
 * build. size is rounded. */
MODA_INLINE void *moda_heap_malloc_untouched(moda_heap *heap, size_t size) {
    moda_page *page = moda_heap_medium_page(heap, size);
    if (!page) {
        page = moda_heap_bare_page(heap, size);
    }
    if (!page || page->free || page->local_free || mi_page_thread_free(page)
        || page->capacity == page->reserved) {
        return NULL;
    }
    void *block = (uint8_t *)moda_mi_page_start(page) + page->capacity * moda_page_block_size_fast(page);
    page->capacity++;
    page->used++;
    page->retire_expire = 0;
    return block;
}

/* ---- apart from the thread's heap ---- */

/* From now on the calling thread has the empty heap: no fast path is reached, and the slow ones see it. */
MODA_INLINE void moda_heap_step_aside(void) {
    _mi_heap_default = (mi_heap_t *)&_mi_heap_empty;
}

MODA_INLINE void moda_heap_step_back(moda_heap *heap) {
    _mi_heap_default = heap;
}

/* Where mimalloc asks the system for memory it takes a random number from the thread's heap, for the address; the empty one
 * is read-only. This stands in for it: nothing else of it is used. */
static mi_heap_t moda_mi_heap_apart;

MODA_INLINE void moda_heap_prepare_apart(void) {
    _mi_random_split(&_mi_heap_main.random, &moda_mi_heap_apart.random);
}

/* A block of at least `size` bytes that touches no heap, whatever the thread was doing to its own; *room: its bytes. Its
 * page is marked. NULL if there is no memory. */
MODA_INLINE void *moda_block_apart(size_t size, size_t *room) {
    mi_heap_t *const before = _mi_heap_default;
    _mi_heap_default = &moda_mi_heap_apart;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    mi_page_t *page = moda_mi_page_apart(_mi_os_good_alloc_size(size));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    _mi_heap_default = before;
    if (!page) {
        return NULL;
    }
    mi_atomic_store_release(&_mi_page_segment(page)->thread_id, (uintptr_t)0);
    page->reserved = page->capacity = 1;
    page->used = 1;
    moda_page_mark(page);
    *room = moda_page_block_size(page);
    return moda_mi_page_start(page);
}

/* Any thread. */
MODA_INLINE void moda_block_free_apart(void *block) {
    mi_page_t *page = moda_page_of(block);
    moda_page_push(page, block);
    mi_page_set_has_aligned(page, false);
    _mi_segment_page_free(page, true, &moda_mi_segments_apart);
}

/* ---- alignment ---- */

/* The size to ask for, so that each block of the class is aligned by its place; 0 if there is none that is no larger
 * than a block to align within would be. Always the same answer for the same request, so that counts do not
 * hang on addresses. */
MODA_INLINE size_t moda_size_naturally_aligned(size_t size, size_t alignment) {
    if (alignment > MI_SEGMENT_SLICE_SIZE || size > MODA_SIZE_MAX - 2 * alignment) {
        return 0;
    }
    const size_t largest = moda_block_size_for(moda_size_rounded(size) + alignment - 1);
    for (size_t wanted = moda_size_rounded(size); wanted <= largest; wanted++) {
        wanted = moda_block_size_for((wanted + alignment - 1) & ~(alignment - 1));
        if (moda_mi_is_naturally_aligned(wanted, alignment)) {
            return wanted <= largest ? wanted : 0;
        }
    }
    return 0;
}

/* For alignments above MODA_ALIGNMENT_MAX: a segment of its own. */
MODA_INLINE void *moda_heap_malloc_hugely_aligned(moda_heap *heap, size_t size, size_t alignment) {
    return moda_block_settle(mi_heap_malloc_aligned_at(heap, size, alignment, 0));
}

/* ---- the end of a thread's heaps ---- */

typedef bool moda_wait_is_over(uint64_t *since_ns);

typedef struct moda_remote_wait {
    moda_wait_is_over *is_over;
    uint64_t since_ns;
    bool is_given_up;
} moda_remote_wait;

static bool moda_page_end_remote_frees(mi_heap_t *heap, mi_page_queue_t *queue, mi_page_t *page, void *first,
                                       void *second) {
    (void)heap;
    (void)queue;
    (void)second;
    moda_remote_wait *wait = first;
    while (!wait->is_given_up && !_mi_page_try_use_delayed_free(page, MI_NEVER_DELAYED_FREE, false)) {
        wait->is_given_up = wait->is_over(&wait->since_ns); /* it is in its middle */
    }
    return !wait->is_given_up;
}

/* A free of another thread's block in a full page tells the heap, and the heap's end waits for that, page by page. Here it
 * does so already, but no longer than is_over says. False: one is in its middle still, and may yet write to the heap. */
MODA_INLINE bool moda_heap_end_remote_frees(moda_heap *heap, moda_wait_is_over *is_over) {
    moda_remote_wait wait = {.is_over = is_over};
    for (mi_heap_t *each = heap->tld->heaps; each; each = each->next) {
        moda_mi_heap_visit_pages(each, moda_page_end_remote_frees, &wait, NULL);
    }
    return !wait.is_given_up;
}

/* Signal handlers of this process are left by longjmp: one has been. */
MODA_INLINE void moda_heap_expect_left_handlers(void) {
    moda_mi_expect_left_handlers();
}

/* The thread's heap never ends: mimalloc's destructor does not see it, and its memory is nobody else's. Its blocks can be
 * freed as ever, but what is free in its pages is lost. */
MODA_INLINE void moda_heap_strand(void) {
    pthread_setspecific(moda_mi_thread_key(), NULL);
    moda_heap_step_aside();
}

/* ---- zeroing ---- */

/* From this size on zero pages come from the system instead of a memset: they take no memory before they are
 * used. (mimalloc's own calloc of huge blocks is not right before 2.1.4, and touches all of it before
 * 2.2.7.) */
#define MODA_ZERO_BY_SYSTEM (4u << 20)

MODA_INLINE void moda_zero_large(void *start, size_t size) {
    const uintptr_t page = _mi_os_page_size();
    const uintptr_t begin = ((uintptr_t)start + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)start + size) & ~(page - 1);
    const int saved = errno;
    if (madvise((void *)begin, end - begin, MADV_DONTNEED) != 0) {
        memset(start, 0, size); /* locked memory, or huge pages given by the user */
    } else {
        memset(start, 0, begin - (uintptr_t)start);
        memset((void *)end, 0, (uintptr_t)start + size - end);
    }
    errno = saved;
}

/* ---- the second heap, of tracked blocks ---- */

MODA_INLINE moda_heap *moda_heap_new_tracked(moda_heap *heap) {
    moda_heap *tracked = mi_heap_new();
    if (tracked) {
        tracked->keys[0] = heap->keys[0];
        moda_mi_heap_will_absorb(heap->tld->heap_backing);
    }
    return tracked;
}

/* ---- process, thread, fork ---- */

/* The thread's heap is about to end; it has ended. */
MODA_INLINE void moda_heap_before_end(void) {
    moda_mi_look_at_abandoned_once();
}

MODA_INLINE void moda_heap_after_end(void) {
    moda_mi_look_at_abandoned_freely();
}

/* The calling thread's heap, made if need be; NULL if there is no memory. */
MODA_INLINE moda_heap *moda_heap_begin(void) {
    moda_heap_after_end(); /* of a heap that comes back to life */
    mi_thread_init();
    moda_heap *heap = moda_mi_default_heap();
    return moda_heap_is_live(heap) ? heap : NULL;
}
