/* SPDX-License-Identifier: MIT
 *
 * heap_laws.h - what heap_inline.h leans on in mimalloc, pinned: a version that changed one of these does not
 * compile. Included by hot/unit.c after mimalloc's text.
 */
#if !defined(MI_MALLOC_VERSION)
#error "heap_laws.h is part of hot/unit.c"
#endif

/* With these a block carries more than its free-list link, or frees must be checked. The checked build
 * (MI_DEBUG > 0) goes through mimalloc's own pop and push instead. */
#if MI_SECURE || MI_PADDING || MI_STAT
#error "build mimalloc without MI_SECURE, MI_PADDING, MI_STAT"
#endif
#if defined(MI_GUARDED) && MI_GUARDED
#error "build mimalloc without MI_GUARDED"
#endif
#if defined(MI_ENCODE_FREELIST) && !MI_DEBUG
#error "build mimalloc without MI_ENCODE_FREELIST"
#endif

#define MODA_HAS_TYPE(type, field, expected)                                                                 \
    _Static_assert(_Generic(&((type *)0)->field, expected * : 1, default : 0), #type "." #field)

_Static_assert(MI_SMALL_SIZE_MAX == 1024, "the small sizes have a direct page each");
_Static_assert(MI_MAX_ALIGN_SIZE == 16, "size classes are multiples of 16 from 16 on");
_Static_assert(MI_PAGES_DIRECT == MI_SMALL_SIZE_MAX / 8 + 1, "one direct page a word size");
_Static_assert(sizeof(mi_page_flags_t) == 1, "both page flags are read as one byte");
MODA_HAS_TYPE(mi_heap_t, pages_free_direct[0], mi_page_t *);
MODA_HAS_TYPE(mi_heap_t, pages[0], mi_page_queue_t);
MODA_HAS_TYPE(mi_heap_t, tld, mi_tld_t *);
MODA_HAS_TYPE(mi_heap_t, cookie, uintptr_t);
/* keys encode the thread_delayed_free list in secure builds; in ours nothing reads them, and keys[0] of a
 * thread's heap holds its shard. (In a checked build they do encode, and any value will do.) */
MODA_HAS_TYPE(mi_heap_t, keys[0], uintptr_t);
_Static_assert(sizeof(((mi_heap_t *)0)->keys) == 2 * sizeof(uintptr_t), "mi_heap_t.keys");
MODA_HAS_TYPE(mi_page_queue_t, first, mi_page_t *);
MODA_HAS_TYPE(mi_page_t, free, mi_block_t *);
MODA_HAS_TYPE(mi_page_t, local_free, mi_block_t *);
MODA_HAS_TYPE(mi_page_t, capacity, uint16_t);
MODA_HAS_TYPE(mi_page_t, next, mi_page_t *);
MODA_HAS_TYPE(mi_page_t, prev, mi_page_t *);
_Static_assert(sizeof(((mi_page_t *)0)->xheap) == sizeof(uintptr_t), "mi_page_t.xheap");
_Static_assert(MI_BIN_HUGE < MI_BIN_FULL, "queues of real sizes come first");

#undef MODA_HAS_TYPE
