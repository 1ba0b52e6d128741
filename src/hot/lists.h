/* SPDX-License-Identifier: MIT
 *
 * lists.h - the free lists that small mallocs pop: of each size class what one page had, taken over whole.
 *
 * mimalloc's own pop also counts the block as used in its page. Here a page's free list is taken from it in one piece, and
 * all of its blocks count as used there from then on: a malloc stores one word less, finds what it counts beside the list,
 * and touches no page. Blocks come in mimalloc's own order, and a free pushes them on their page as ever.
 *
 *   page      free, local_free                        mimalloc's; pushed by free
 *     | moda_lists_take_over, when a class's list is empty
 *     v
 *   lists     free[class]                             popped by malloc
 *     | moda_lists_give_back, before pages are looked at: each collection, the thread's end
 *     | moda_lists_look, when a new page was needed: lists that nobody pops, in pages where nothing else is in use
 *     v
 *   page      local_free
 *
 * Laws
 *   1. a block in a list counts as used in its page: to mimalloc it is allocated.
 *   2. the lists are the thread's own, and go back before its heap does. Their memory is its slot's, and private: a child
 *      of fork has its own.
 *   3. a signal handler that interrupts us never sees them (hot/handler.inc).
 */
#if !defined(MI_MALLOC_VERSION)
#error "lists.h is part of hot/unit.c"
#endif

/* Of sizes up to MODA_SMALL_MAX: 16, 32 ... 128, then four to each doubling. Class 0 is no size's and never filled: that of
 * size 0, which the slow path serves with 16 bytes, and of a thread without lists. */
#define MODA_LISTS_CLASSES 20

/* A page that is needed again so few looks after it was given up is kept for so many, the next time: a buffer that grows,
 * again and again, uses each size once. */
#define MODA_LISTS_SOON 16
#define MODA_LISTS_KEPT 64

/* A thread's. The class of each size is a byte: two instructions less than to round it up first. */
typedef struct moda_lists {
    void *free[MODA_LISTS_CLASSES + 1];    /* or NULL */
    uint64_t step[MODA_LISTS_CLASSES + 1]; /* const: what a malloc counts, but for the bytes asked for */
    moda_shard *shard;
    uint8_t class_of[MODA_SMALL_MAX + 1]; /* const */
    bool is_zero[MODA_LISTS_CLASSES + 1]; /* the list's blocks, but for their links */
    /* when moda_lists_look last came by: the list, and how many blocks it had, or 0 */
    uint16_t length[MODA_LISTS_CLASSES + 1];
    const void *seen[MODA_LISTS_CLASSES + 1];
    /* by the count of looks: when its page was given up, and until when the next one is kept */
    uint32_t given_up[MODA_LISTS_CLASSES + 1], kept_until[MODA_LISTS_CLASSES + 1];
    uint32_t looks;
    uintptr_t last_medium; /* the page of medium blocks that was made where the heap had no room before */
} __attribute__((aligned(MODA_CACHE_LINE))) moda_lists;

static moda_lists moda_lists_none;  /* never written */
static moda_lists moda_lists_first; /* of slot 0 */

/* moda_lists_none: before the thread's first allocation, near its end, in a handler that has interrupted us. */
static MODA_TLS moda_lists *moda_lists_of_thread = &moda_lists_none;
static MODA_TLS bool moda_lists_are_over; /* the thread ends, and gets none any more */

/* size: up to MODA_SMALL_MAX. */
MODA_INLINE size_t moda_lists_class(const moda_lists *lists, size_t size) {
    return lists->class_of[size];
}

MODA_INLINE size_t moda_lists_block_size(const moda_lists *lists, size_t class) {
    return (size_t)(lists->step[class] >> MODA_WORD_SHIFT);
}

/* Takes the block that the class's list begins with. Its link to the next one is the first word that a malloc reads of it:
 * on a heap larger than the caches a miss, and the one that programs wait for. So the next one's is asked for a malloc
 * ahead (an instruction; clang's whole time 0.983 of what it is without, z3's 0.989, churn that fits no cache 0.979). */
MODA_INLINE void moda_lists_pop(moda_lists *lists, size_t class, void *block) {
    void *next = moda_block_next(block);
    moda_prefetch(next);
    lists->free[class] = next;
}

/* A class's list is empty, and gets what the page has. Its first block, which is to be popped; or NULL. */
MODA_INLINE void *moda_lists_take_over(moda_lists *lists, size_t class, moda_page *page) {
    void *block = moda_page_take_list(page, &lists->is_zero[class]);
    lists->free[class] = block;
    return block;
}

static void moda_lists_page_made(const moda_page *page);

/* A block of any size from the thread's own heap. */
MODA_INLINE void *moda_lists_malloc(moda_heap *heap, size_t size) {
    moda_lists *lists = moda_lists_of_thread;
    const size_t class = size <= MODA_SMALL_MAX ? moda_lists_class(lists, size) : 0;
    if (class != 0) {
        void *block = lists->free[class];
        if (!block) {
            block = moda_lists_take_over(lists, class, moda_heap_small_page(heap, size));
        }
        if (moda_likely(block)) {
            moda_lists_pop(lists, class, block);
            return block;
        }
    }
    void *block = moda_heap_malloc(heap, size);
    if (block && size <= MODA_MEDIUM_MAX) {
        const moda_page *page = moda_page_of(block);
        if (moda_page_has_only(page, 1)) {
            moda_lists_page_made(page);
        }
    }
    return block;
}

/* A page can have been taken from a heap that lives (mimalloc 2.4.1, where it is told to keep to a number of segments): its
 * lists are no longer ours to change. */
static MODA_COLD void moda_lists_free_each(void *list) {
    while (list) {
        void *next = moda_block_next(list);
        moda_block_free(list);
        list = next;
    }
}

static MODA_COLD void moda_lists_give_back(void) {
    moda_lists *lists = moda_lists_of_thread;
    const moda_heap *heap = moda_heap_of_thread();
    for (size_t class = 1; class <= MODA_LISTS_CLASSES; class ++) {
        void *list = lists->free[class];
        if (!list) {
            continue;
        }
        moda_page *page = moda_page_of(list);
        lists->free[class] = NULL;
        if (moda_likely(moda_page_is_of_heap(page, heap))) {
            moda_page_give_list_back(page, list, false);
        } else {
            moda_lists_free_each(list);
        }
    }
}

/* A page of another size was made, for want of memory that is free in pages of its own. So each list that has not been popped
 * since the last time, in a page where nothing else is in use, goes back, and the page is given up: without it a thread that
 * needs one size after another would keep a page of each (eight threads and 1 MiB at a time: 23 MiB resident, plain 14.5).
 * One list a time is counted, unless it is the one that was. */
static MODA_COLD void moda_lists_look(void) {
    moda_lists *lists = moda_lists_of_thread;
    bool has_counted = false;
    lists->looks++;
    for (size_t class = 1; class <= MODA_LISTS_CLASSES; class ++) {
        void *list = lists->free[class];
        if (list != lists->seen[class]) {
            lists->seen[class] = list;
            lists->length[class] = 0;
        } else if (list && (int32_t)(lists->looks - lists->kept_until[class]) >= 0) {
            if (lists->length[class] == 0 && !has_counted) {
                lists->length[class] = (uint16_t)moda_block_list_length(list);
                has_counted = true;
            }
            moda_page *page = moda_page_of(list);
            if (lists->length[class] != 0 && moda_page_has_only(page, lists->length[class])
                && moda_page_is_of_heap(page, moda_heap_of_thread())) {
                lists->free[class] = NULL;
                lists->given_up[class] = lists->looks;
                moda_page_give_list_back(page, list, true);
            }
        }
    }
}

/* A page has its first block. Pages of medium blocks come and go with each few blocks (a buffer that grows to 64 KiB needs
 * one at each step): of these only where the heap grows, behind all before it or in another segment. */
static void moda_lists_page_made(const moda_page *page) {
    moda_lists *lists = moda_lists_of_thread;
    if (lists == &moda_lists_none) {
        return;
    }
    if (moda_page_block_size_fast(page) > MODA_SMALL_MAX) {
        if (!moda_page_is_behind(page, lists->last_medium)) {
            return;
        }
        lists->last_medium = (uintptr_t)page;
    } else {
        const size_t class = moda_lists_class(lists, moda_page_block_size_fast(page));
        if (lists->given_up[class] && lists->looks - lists->given_up[class] < MODA_LISTS_SOON) {
            lists->kept_until[class] = lists->looks + MODA_LISTS_KEPT;
        }
    }
    moda_lists_look();
}

static MODA_COLD void moda_lists_set_shard(moda_shard *shard) {
    if (moda_lists_of_thread != &moda_lists_none) {
        moda_lists_of_thread->shard = shard;
    }
}

static MODA_COLD void moda_lists_fill_in(moda_lists *lists, moda_shard *shard) {
    memset(lists, 0, sizeof *lists);
    lists->shard = shard;
    size_t class = 0;
    for (size_t size = 1, last; size <= MODA_SMALL_MAX; size = last + 1) {
        last = moda_block_size_for_small(size);
        lists->step[++class] = moda_shard_step(last, 0);
        memset(&lists->class_of[size], (int)class, last - size + 1);
    }
    moda_check(class == MODA_LISTS_CLASSES);
}

/* Those of a slot; NULL if there is no memory. In a few pages, where each thread's own would take one. */
static MODA_COLD moda_lists *moda_lists_of_slot(uint32_t index) {
    enum { IN_CHUNK = 64, CHUNKS = 1024 };
    static moda_lists *chunks[CHUNKS];
    if (index == 0) {
        return &moda_lists_first;
    }
    if (index / IN_CHUNK >= CHUNKS) {
        return NULL;
    }
    moda_lists **chunk = &chunks[index / IN_CHUNK];
    moda_lists *lists = moda_load_acquire(chunk);
    if (!lists) {
        moda_lists *made = moda_os_map(IN_CHUNK * sizeof *made);
        if (!made) {
            return NULL;
        }
        if (__atomic_compare_exchange_n(chunk, &lists, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            lists = made;
        } else {
            moda_os_unmap(made, IN_CHUNK * sizeof *made);
        }
    }
    return &lists[index % IN_CHUNK];
}

/* The thread has its heap, and now its lists. Without, if there is no memory for them, all goes by the slow path. */
static MODA_COLD void moda_lists_begin(moda_shard *shard) {
    if (MODA_IS_CHECKED || moda_lists_are_over || moda_lists_of_thread != &moda_lists_none
        || shard->state == MODA_SLOT_HIDDEN || !moda_process_watch_lists()) {
        return;
    }
    moda_lists *lists = moda_lists_of_slot(shard->index);
    if (lists) {
        moda_lists_fill_in(lists, shard);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        moda_lists_of_thread = lists;
    }
}

/* Before mimalloc gives up the thread's heap. */
static MODA_COLD void moda_lists_end(void) {
    moda_lists_give_back();
    moda_lists_of_thread = &moda_lists_none;
}
