/* SPDX-License-Identifier: MIT
 *
 * shard.h - one thread's counters: what their owner does to them, and how others read them.
 *
 * The fields and the arithmetic stand in region/layout.h. The owner alone writes, with plain one-word
 * stores that no other thread's write can meet; readers load relaxed. Where several words change together
 * (the mark moves, the countdown is set anew) `seq` is odd meanwhile. The process's sums are taken by
 * totals.c, slots are given out by registry.c, peaks are peak.c and windows window.c.
 *
 * Laws
 *   1. a fast path does no atomic read-modify-write and writes no line that another thread writes;
 *   2. a slot is never unmapped, and its counters go on where its last thread left them: the process's
 *      totals are the plain sum over all slots;
 *   3. every slow path leaves the countdown at most MODA_PUBLISH_BYTES, but for a sample that is about to be
 *      counted: at most MODA_COUNTDOWN_MAX.
 */
#ifndef MODA_SHARD_SHARD_H
#define MODA_SHARD_SHARD_H

#include "base/compiler.h"
#include "mod_alloc.h"
#include "region/layout.h"
#include "region/region.h"

/* A thread looks whether to make its balance known at the latest after it has allocated this many bytes, and does
 * if the balance is further than MODA_LEVEL_BYTES from what is known. MODA_VERIFY_BYTES may be lost besides, for each
 * thread but one. Together, for n threads, n x (192 + 16) + (n - 1) x 96 KiB: never more than the (n - 1) x 512 KiB that
 * the public header promises. */
#define MODA_PUBLISH_BYTES (192 * 1024)
#define MODA_LEVEL_BYTES (16 * 1024)
#define MODA_COUNTDOWN_MAX (2 * MODA_PUBLISH_BYTES)
_Static_assert(MODA_COUNTDOWN_MAX < 1 << MODA_WORD_BLOCK_SHIFT
                   && MODA_COUNTDOWN_MAX / 16 < 1 << (MODA_WORD_SHIFT - MODA_WORD_BLOCK_SHIFT),
               "what fast paths count between two settings of the countdown has room in the word");

/* What a new sum of balances must exceed the peak by, for each thread but one, before all shards are read to
 * confirm it. */
#define MODA_VERIFY_BYTES (96 * 1024)

/* The calling thread's shard; NULL before its first allocation and after its last destructor. */
extern MODA_TLS moda_shard *moda_shard_of_thread MODA_HIDDEN;

/* While a signal handler runs that has interrupted our own code, that is NULL, and this is the thread's. */
extern MODA_TLS moda_shard *moda_shard_set_aside MODA_HIDDEN;

MODA_INLINE moda_shard *moda_shard_mine(void) {
    moda_shard *shard = moda_shard_of_thread;
    return moda_likely(shard != NULL) ? shard : moda_shard_set_aside;
}

/* Counts what no thread's shard can: allocations of threads past their end. Atomic. */
extern moda_shard *moda_shard_orphan MODA_HIDDEN;

/* ---- the owner ---- */

/* Makes the balance known, looks for a new peak. Own shard only. */
void moda_shard_publish(moda_shard *shard);

/* The slow paths' part, each MODA_PUBLISH_BYTES: the same, where the balance is not level. Those of a thread that is alone
 * may be left out: see moda_shard_is_solo. */
void moda_shard_visit(moda_shard *shard);

MODA_INLINE void moda_shard_seq_begin(moda_shard *shard) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    moda_own_increment_32(&shard->seq);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

MODA_INLINE void moda_shard_seq_end(moda_shard *shard) {
    __atomic_thread_fence(__ATOMIC_RELEASE);
    moda_own_increment_32(&shard->seq);
}

/* Own shard only: a signal handler has come in the middle of a change, it may be, and was left by longjmp. Else the shard
 * would be in that change for ever, and whoever reads it waits for its end. What the handler freed is not counted then. */
void moda_shard_recover(moda_shard *shard);

MODA_INLINE int64_t moda_shard_countdown(const moda_shard *shard) {
    return moda_alloc_word_bytes(moda_load_relaxed(&shard->alloc_word));
}

MODA_INLINE int64_t moda_shard_freed_mark(const moda_shard *shard) {
    return moda_free_word_bytes(moda_load_relaxed(&shard->free_word));
}

/* Blocks live, where the two words have counted this many. */
MODA_INLINE int64_t moda_shard_live_of(const moda_shard *shard, uint64_t blocks) {
    return (int64_t)(blocks + moda_load_relaxed(&shard->alloc_base) - moda_load_relaxed(&shard->free_base)
                     - moda_load_relaxed(&shard->realloc_count));
}

MODA_INLINE int64_t moda_shard_live(const moda_shard *shard) {
    return moda_shard_live_of(shard, moda_alloc_word_blocks(moda_load_relaxed(&shard->alloc_word))
                                         - moda_free_word_blocks(moda_load_relaxed(&shard->free_word)));
}

/* total - freed; may be negative: a thread can free what others allocated. */
MODA_INLINE int64_t moda_shard_balance(const moda_shard *shard) {
    return moda_load_relaxed(&shard->budget) - moda_shard_countdown(shard)
           - moda_load_relaxed(&shard->free_budget) + moda_shard_freed_mark(shard);
}

MODA_INLINE int64_t moda_shard_mark(const moda_shard *shard) {
    return moda_load_relaxed(&shard->budget) - moda_load_relaxed(&shard->free_budget);
}

/* More was freed since the mark was set than free_word has room for. */
MODA_INLINE bool moda_shard_has_wrapped(const moda_shard *shard) {
    return moda_load_relaxed(&shard->free_word) >> MODA_WORD_SHIFT >= MODA_WORD_BYTES_MAX;
}

MODA_INLINE bool moda_shard_is_above_mark(const moda_shard *shard) {
    return moda_own_is_less(&shard->alloc_word, &shard->free_word) && !moda_shard_has_wrapped(shard);
}

MODA_INLINE bool moda_shard_is_below_mark(const moda_shard *shard) {
    return moda_shard_freed_mark(shard) < moda_shard_countdown(shard);
}

/* The highest balance since the mark was last moved, with the blocks live then. */
MODA_INLINE moda_peak_mark moda_shard_high(const moda_shard *shard) {
    if (moda_shard_is_above_mark(shard)) {
        return (moda_peak_mark){moda_shard_balance(shard), moda_shard_live(shard)};
    }
    return (moda_peak_mark){moda_shard_mark(shard), moda_load_relaxed(&shard->mark_live)};
}

MODA_INLINE void moda_shard_store_mark(moda_peak_mark *mark, moda_peak_mark value) {
    moda_store_relaxed(&mark->bytes, value.bytes);
    moda_store_relaxed(&mark->count, value.count);
}

/* Sets the mark to the balance as it is now: upwards because a peak is about to be left, or downwards because
 * a window begins. Steps are added, not results stored: a signal handler in between that allocates moves the words too, and
 * no sum may lose that. It does not move the mark: seq is odd then. */
MODA_INLINE void moda_shard_set_mark(moda_shard *shard) {
    moda_store_relaxed(&shard->before.freed_bytes,
                       (uint64_t)(shard->free_budget - moda_shard_freed_mark(shard)));
    moda_shard_seq_begin(shard);
    const int64_t allocs = moda_load_relaxed(&shard->alloc_word);
    const int64_t frees = moda_load_relaxed(&shard->free_word);
    const int64_t freed_mark = moda_free_word_bytes(frees);
    int64_t freed_blocks = frees - moda_word_of_bytes(freed_mark);
    moda_keep(freed_blocks); /* or it is a mask, in one more register */
    const uint64_t blocks = moda_alloc_word_blocks(allocs) - (uint64_t)freed_blocks;
    const int64_t step = freed_mark - moda_alloc_word_bytes(allocs);
    moda_own_subtract(&shard->free_budget, (uint64_t)step);
    moda_own_subtract(&shard->free_word, (uint64_t)moda_word_of_bytes(step));
    moda_store_relaxed(&shard->mark_live, moda_shard_live_of(shard, blocks));
    moda_shard_seq_end(shard);
}

void moda_shard_raise_mark(moda_shard *shard); /* moda_shard_set_mark, in peak.c */

/* Sets the countdown without a change to any sum. freed_mark goes up with it: where nothing is freed for long it stands
 * ever farther above, and would run over its room. */
MODA_INLINE void moda_shard_set_countdown(moda_shard *shard, int64_t bytes) {
    if (moda_unlikely(moda_shard_freed_mark(shard) - moda_shard_countdown(shard) > MODA_WORD_BYTES_MAX / 4)) {
        moda_shard_raise_mark(shard);
    }
    const int64_t allocs = moda_load_relaxed(&shard->alloc_word);
    const int64_t free_word = moda_load_relaxed(&shard->free_word);
    const uint64_t blocks = moda_alloc_word_blocks(allocs);
    const uint64_t requested = moda_alloc_word_requested(allocs);
    const uint64_t frees = moda_free_word_blocks(free_word);
    const uint64_t less = (uint64_t)(moda_alloc_word_bytes(allocs) - bytes);
    moda_counts *before = &shard->before;
    moda_store_relaxed(&before->alloc_count, shard->alloc_base + blocks);
    moda_store_relaxed(&before->requested_bytes, shard->requested_base + requested);
    moda_store_relaxed(&before->free_count, shard->free_base + frees);
    moda_store_relaxed(&before->total_bytes, (uint64_t)(shard->budget - moda_alloc_word_bytes(allocs)));
    moda_store_relaxed(&before->freed_bytes,
                       (uint64_t)(shard->free_budget - moda_free_word_bytes(free_word)));
    moda_store_relaxed(&shard->before_what, MODA_BEFORE_COUNTDOWN);
    moda_shard_seq_begin(shard);
    moda_own_add(&shard->alloc_base, blocks);
    moda_own_add(&shard->requested_base, requested);
    moda_own_add(&shard->free_base, frees);
    moda_own_subtract(&shard->alloc_word, (less << MODA_WORD_SHIFT) - (uint64_t)(MODA_WORD_LOW & ~allocs));
    moda_own_subtract(&shard->free_word, (less << MODA_WORD_SHIFT) + frees);
    moda_own_subtract(&shard->budget, less);
    moda_own_subtract(&shard->free_budget, less);
    moda_shard_seq_end(shard);
    moda_store_relaxed(&shard->before_what, MODA_BEFORE_MARK);
}

/* What a malloc counts, on the fast path: 3 instructions. True if the countdown is below 0 now: then it is to be given
 * back. block_size: no more than MODA_PUBLISH_BYTES, which the lower bits have room for. */
MODA_INLINE uint64_t moda_shard_step(size_t block_size, size_t requested) {
    return ((uint64_t)block_size << MODA_WORD_SHIFT) + (UINT64_C(1) << MODA_WORD_BLOCK_SHIFT) + requested;
}
MODA_INLINE bool moda_shard_count_step(moda_shard *shard, uint64_t step) {
    return moda_own_subtract_is_negative(&shard->alloc_word, step);
}
MODA_INLINE bool moda_shard_count_malloc_fast(moda_shard *shard, size_t block_size, size_t requested) {
    return moda_shard_count_step(shard, moda_shard_step(block_size, requested));
}
MODA_INLINE void moda_shard_give_back(moda_shard *shard, size_t block_size, size_t requested) {
    moda_own_subtract(&shard->alloc_word, 0 - moda_shard_step(block_size, requested));
}

/* What a free counts, on the fast path: 6 instructions. False, and nothing done, if the mark is to be looked after first,
 * by moda_shard_look_at_mark: a peak is always reached just before a free. block_size: up to MODA_WORD_BLOCK_MAX. */
MODA_INLINE bool moda_shard_count_free_fast(moda_shard *shard, size_t block_size) {
    if (moda_unlikely(moda_own_is_less(&shard->alloc_word, &shard->free_word))) {
        return false;
    }
    moda_own_subtract(&shard->free_word, ((uint64_t)block_size << MODA_WORD_SHIFT) - 1);
    return true;
}

/* What it counts where the balance is above the mark, which moves up to it first. False, and nothing done, if it only looks
 * so because free_word has wrapped. */
MODA_INLINE bool moda_shard_count_free_above(moda_shard *shard, size_t block_size) {
    if (moda_unlikely(moda_shard_has_wrapped(shard))) {
        return false;
    }
    moda_shard_set_mark(shard);
    moda_own_subtract(&shard->free_word, ((uint64_t)block_size << MODA_WORD_SHIFT) - 1);
    return true;
}

/* The same for slow paths, of any block; in peak.c the parts that are rare. */
void moda_shard_wrap(moda_shard *shard);
void moda_shard_allocate_huge(moda_shard *shard, size_t block_size);
void moda_shard_free_huge(moda_shard *shard, size_t block_size);

MODA_INLINE void moda_shard_look_at_mark(moda_shard *shard) {
    if (moda_unlikely(moda_own_is_less(&shard->alloc_word, &shard->free_word))) {
        if ((moda_load_relaxed(&shard->seq) & 1) != 0) {
            return; /* we are in a signal handler, and who was interrupted is at it */
        }
        if (moda_unlikely(moda_shard_has_wrapped(shard))) {
            moda_shard_wrap(shard);
        } else {
            moda_shard_set_mark(shard);
        }
    }
}

MODA_INLINE void moda_shard_allocate_bytes(moda_shard *shard, size_t block_size) {
    if (moda_unlikely(block_size > MODA_WORD_BLOCK_MAX
                      || moda_shard_countdown(shard) < -MODA_WORD_BLOCK_MAX)) {
        moda_shard_allocate_huge(shard, block_size);
        return;
    }
    moda_own_subtract(&shard->alloc_word, (uint64_t)block_size << MODA_WORD_SHIFT);
}

MODA_INLINE void moda_shard_free_bytes(moda_shard *shard, size_t block_size) {
    moda_shard_look_at_mark(shard);
    if (moda_unlikely(block_size > MODA_WORD_BLOCK_MAX)) {
        moda_shard_free_huge(shard, block_size);
        return;
    }
    moda_own_subtract(&shard->free_word, (uint64_t)block_size << MODA_WORD_SHIFT);
}

/* One more allocation, but for its bytes. */
MODA_INLINE void moda_shard_count_request(moda_shard *shard, size_t requested) {
    moda_own_increment(&shard->alloc_base);
    moda_own_add(&shard->requested_base, requested);
}

/* The shard's thread is the only one, and its marks are of a time when it was: then the mark keeps the process's peak,
 * too, and nobody needs to know the balance meanwhile. */
MODA_INLINE bool moda_shard_is_solo(const moda_shard *shard) {
    const moda_region_header *header = moda_region();
    return moda_load_relaxed(&header->threads_now) == 1
           && moda_load_relaxed(&shard->mark_epoch) == moda_load_relaxed(&header->solo_epoch);
}

/* A block large enough to matter for the process's peak by itself is made known at once: it may be gone before
 * anybody looks. (The mark of a thread that is alone has it; only when it was is not known then.) */
MODA_INLINE void moda_shard_look_at_large(moda_shard *shard, size_t block_size) {
    if (moda_unlikely(block_size >= MODA_PUBLISH_BYTES)
        && (shard->sample_bytes != 0 || !moda_shard_is_solo(shard))
        && (moda_load_relaxed(&shard->seq) & 1) == 0) {
        moda_shard_visit(shard);
    }
}

MODA_INLINE void moda_shard_count_malloc(moda_shard *shard, size_t block_size, size_t requested) {
    moda_shard_allocate_bytes(shard, block_size);
    moda_shard_count_request(shard, requested);
    moda_shard_look_at_large(shard, block_size);
}

MODA_INLINE void moda_shard_count_free(moda_shard *shard, size_t block_size) {
    moda_shard_free_bytes(shard, block_size);
    moda_own_increment(&shard->free_base);
}

/* What a realloc counts: a block that grew or shrank by `growth`, asked to be `requested`. */
MODA_INLINE void moda_shard_count_realloc(moda_shard *shard, int64_t growth, size_t requested) {
    if (growth > 0) {
        moda_shard_allocate_bytes(shard, (size_t)growth);
    } else {
        moda_shard_free_bytes(shard, (size_t)-growth);
    }
    moda_own_increment(&shard->realloc_count);
    moda_shard_count_request(shard, requested);
    if (growth > 0) {
        moda_shard_look_at_large(shard, (size_t)growth);
    }
}

/* The orphan shard's counts: any thread, atomic. */
void moda_shard_orphan_malloc(size_t block_size, size_t requested);
void moda_shard_orphan_free(size_t block_size);
void moda_shard_orphan_realloc(int64_t growth, size_t requested);

/* Every-allocation mode, before the free of a tracked block: if the heap stands at its peak, that peak is
 * noted now, so that each site's live figures at it are kept. */
void moda_shard_note_peak(moda_shard *shard);

/* The highest balance of this thread since it took the slot. */
moda_peak_mark moda_shard_thread_peak(const moda_shard *shard);

/* The calling thread's shard, taken if it has none yet; NULL while that itself is under way (a signal handler that
 * came in between), or if there is no memory at all. In hot/attach.inc, which also makes the thread's heap; a
 * test of this room alone brings its own. */
moda_shard *moda_attach(void);

/* ---- slots: registry.c ---- */

/* Once, when the region is there. */
bool moda_registry_initialize(void);

/* A slot for the calling thread: one that was left, or one of a thread that is gone without a word, or a new
 * one; NULL if there is no memory. */
moda_shard *moda_registry_take(void);

/* The calling thread ends. */
void moda_registry_leave(moda_shard *shard);

/* The n-th slot, 0-based; NULL beyond the last. The orphan shard is slot 0. */
moda_shard *moda_registry_slot(uint32_t index);

/* Counts begin anew: mod_alloc_reset. `mine` is the caller's shard. */
void moda_registry_reset(moda_shard *mine);

/* Held around fork, so that no thread holds it in the child. */
void moda_registry_lock(void);
void moda_registry_unlock(void);
/* In the child: the calling thread is the only one; its counts begin anew as after a reset. */
void moda_registry_fork_child(void);

/* ---- sums: totals.c ---- */

typedef struct moda_totals {
    moda_counts counts;  /* since the process began */
    moda_counts since;   /* since the last reset */
    int64_t balance;     /* bytes live: never more than at some moment of the call, if is_level */
    int64_t live;        /* blocks live */
    bool is_level;       /* each shard could be read whole */
    uint64_t peak_clock; /* moda_peak_clock before anything was read */
} moda_totals;

MODA_INLINE int64_t moda_counts_live(const moda_counts *counts) {
    return (int64_t)(counts->alloc_count - counts->free_count - counts->realloc_count);
}

MODA_INLINE int64_t moda_counts_balance(const moda_counts *counts) {
    return (int64_t)(counts->total_bytes - counts->freed_bytes);
}

/* What a shard's words say; of one moment where the caller is its owner. */
MODA_INLINE void moda_counts_load(const moda_shard *shard, moda_counts *counts) {
    const int64_t allocs = moda_load_relaxed(&shard->alloc_word);
    const int64_t frees = moda_load_relaxed(&shard->free_word);
    counts->alloc_count = moda_load_relaxed(&shard->alloc_base) + moda_alloc_word_blocks(allocs);
    counts->free_count = moda_load_relaxed(&shard->free_base) + moda_free_word_blocks(frees);
    counts->realloc_count = moda_load_relaxed(&shard->realloc_count);
    counts->requested_bytes = moda_load_relaxed(&shard->requested_base) + moda_alloc_word_requested(allocs);
    counts->total_bytes = (uint64_t)(moda_load_relaxed(&shard->budget) - moda_alloc_word_bytes(allocs));
    counts->freed_bytes = (uint64_t)(moda_load_relaxed(&shard->free_budget) - moda_free_word_bytes(frees));
}

void moda_totals_read(moda_totals *totals);
/* One shard's counts. False if its owner was in the middle of a change all the while: then they are those before it, but for
 * what a handler counted that has come in the middle. */
bool moda_totals_of_shard(const moda_shard *shard, moda_counts *counts);

/* What a shard has counted since the last reset, or since `from` where that is later. */
void moda_totals_since(const moda_shard *shard, const moda_counts *counts, const moda_counts *from,
                       moda_counts *since);

/* ---- peaks: peak.c ---- */

/* Some thread came or went: whose marks can be trusted for the process has changed. Under the registry's
 * lock; `only` is the shard whose mark was good until now, or NULL. */
void moda_peak_threads_changed(moda_shard *only);
/* Grows with each window that opens and each reset: what was read before is no peak of theirs. */
extern uint64_t moda_peak_clock MODA_HIDDEN;
/* Peak as of now, never lower than it was without a reset in between. */
moda_peak_mark moda_peak_now(const moda_totals *totals);
/* After fork, in the child. */
void moda_peak_fork_child(void);

#endif
