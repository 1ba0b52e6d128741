/* SPDX-License-Identifier: MIT
 *
 * memo.h - remembers where whole walks led, for the words of the stack that they were read from.
 *
 * hot/track.inc asks before it walks, and tells what a walk led to. A walk is a
 * function of the registers that it begins with, of the words of the stack that it reads, and of the rows: if the
 * registers and each of these words are what they were, so is the outcome. Exact, therefore, as the incremental walk is
 * (tables.c), but with nothing to step, hash or compare: 4 to 5 instructions a word, and mostly one word a frame.
 *
 *   entry  [ pc sp fp | value, end | place ] --> values [ w0 w1 ... ] places [ a0 a1 ... ]     word at sp + 8 a == w
 *
 * Words that lie side by side, as a frame pointer and a return address do, are compared as one of 16 bytes (walks by
 * frame pointers: 3 ns of a pair at 16 frames). Not the innermost ones: a load of two words that the
 * program has just stored waits until both have reached the cache.
 *
 * A frame pointer is compared only where a later step went by it: in code that keeps none, the register holds
 * whatever the program computes with.
 *
 * One thread's, in memory of its slot, and used under its guard (hot/guard.h): signal handlers are kept out.
 */
#ifndef MODA_UNWIND_MEMO_H
#define MODA_UNWIND_MEMO_H

#include "unwind/row_cache.h"
#include "unwind/unwind.h"

enum { MODA_MEMO_WAYS = 4, MODA_MEMO_WORDS_MAX = 128 };

/* Two sizes. Where every allocation is recorded a thread comes by hundreds of walks again and again. Samples are few, and
 * each page that is touched for them costs as much as one of them. */
typedef enum moda_memo_kind { MODA_MEMO_SMALL, MODA_MEMO_LARGE } moda_memo_kind;

MODA_INLINE uint32_t moda_memo_set_bits(moda_memo_kind kind) {
    return kind == MODA_MEMO_LARGE ? 8 : 6;
}

/* Of 24 words, 546 or 136 walks fill the ring: what does not fit is what was remembered longest ago. */
MODA_INLINE uint32_t moda_memo_ring_bytes(moda_memo_kind kind) {
    return kind == MODA_MEMO_LARGE ? 1u << 17 : 1u << 15;
}

typedef uint64_t moda_memo_pair __attribute__((vector_size(16)));
typedef uint64_t moda_memo_stack_pair __attribute__((vector_size(16), aligned(8), may_alias));

typedef struct moda_memo_entry {
    uintptr_t pc; /* 0 = empty */
    uintptr_t sp;
    uintptr_t fp;
    uintptr_t fp_mask;      /* 0: fp does not matter */
    uint64_t place;         /* of its words: bytes written to the ring before them */
    uint32_t value;         /* what the walk led to */
    uint8_t pairs_of_words; /* in the ring, first: a multiple of 4 */
    uint8_t words;          /* then: a multiple of 4 */
    uint8_t end;            /* mod_alloc_walk_end */
    uint8_t padding;
} moda_memo_entry;

typedef struct moda_memo {
    uint64_t written; /* bytes, to the ring */
    uint32_t epoch;   /* of the rows that the walks went by */
    uint32_t generation;
    uint32_t next_way;
    uint32_t room; /* moda_memo_kind: the largest that there is memory for */
    uint32_t padding[10];
    moda_memo_entry entry[]; /* and behind them the ring */
} moda_memo;
_Static_assert(sizeof(moda_memo) % 16 == 0 && sizeof(moda_memo_entry) * MODA_MEMO_WAYS % 16 == 0
                   && MODA_MEMO_WORDS_MAX <= UINT8_MAX - 3,
               "pairs are aligned, words counted in a byte");

MODA_INLINE size_t moda_memo_entries(moda_memo_kind kind) {
    return (size_t)MODA_MEMO_WAYS << moda_memo_set_bits(kind);
}

MODA_INLINE size_t moda_memo_size(moda_memo_kind kind) {
    return sizeof(moda_memo) + moda_memo_entries(kind) * sizeof(moda_memo_entry) + moda_memo_ring_bytes(kind);
}

MODA_INLINE const uint8_t *moda_memo_ring(const moda_memo *memo, moda_memo_kind kind) {
    return (const uint8_t *)(const void *)(memo->entry + moda_memo_entries(kind));
}

/* Nothing is remembered: at a thread's begin. */
void moda_memo_clear(moda_memo *memo, moda_memo_kind kind);

/* After the walk from `start`, the last one of `thread`: it led to `value`, which holds until an object is unmapped
 * or `generation` changes. Walks that are not known to hang on words of the thread's own stack alone are
 * not kept. */
void moda_memo_keep(moda_memo *memo, moda_memo_kind kind, const moda_unwind_start *start,
                    const moda_unwind_thread *thread, const moda_walk *walk, uint32_t value,
                    uint32_t generation);

MODA_INLINE moda_memo_entry *moda_memo_set(moda_memo *memo, moda_memo_kind kind, uintptr_t pc, uintptr_t sp) {
    const uint64_t hash = (pc ^ (sp << 20)) * UINT64_C(0x9e3779b97f4a7c15);
    return &memo->entry[(hash >> (64 - moda_memo_set_bits(kind))) * MODA_MEMO_WAYS];
}

MODA_INLINE MODA_READS_STACKS moda_memo_pair moda_memo_load_pair(const moda_stack_word *words) {
    return *(const moda_memo_stack_pair *)words;
}

MODA_INLINE MODA_READS_STACKS bool moda_memo_holds(const moda_memo *memo, moda_memo_kind kind,
                                                   const moda_memo_entry *entry) {
    const moda_stack_word *const sp = (const moda_stack_word *)entry->sp;
    const uint8_t *const ring = moda_memo_ring(memo, kind) + entry->place % moda_memo_ring_bytes(kind);
    const moda_memo_pair *pair = (const moda_memo_pair *)(const void *)ring;
    const moda_memo_pair *const end_of_pairs = pair + entry->pairs_of_words;
    const uint64_t *value = (const uint64_t *)(const void *)end_of_pairs;
    const uint64_t *const end = value + entry->words;
    const uint16_t *at = (const uint16_t *)(const void *)end;
    for (; value != end; value += 4, at += 4) {
        if (((sp[at[0]] ^ value[0]) | (sp[at[1]] ^ value[1]) | (sp[at[2]] ^ value[2])
             | (sp[at[3]] ^ value[3]))
            != 0) {
            return false;
        }
    }
    for (; pair != end_of_pairs; pair += 4, at += 4) {
        const moda_memo_pair differs =
            (moda_memo_load_pair(&sp[at[0]]) ^ pair[0]) | (moda_memo_load_pair(&sp[at[1]]) ^ pair[1])
            | (moda_memo_load_pair(&sp[at[2]]) ^ pair[2]) | (moda_memo_load_pair(&sp[at[3]]) ^ pair[3]);
        if ((differs[0] | differs[1]) != 0) {
            return false;
        }
    }
    return true;
}

/* The entry of an earlier walk that this one would repeat; NULL if none is known. */
MODA_INLINE MODA_READS_STACKS const moda_memo_entry *moda_memo_find(moda_memo *memo, moda_memo_kind kind,
                                                                    const moda_unwind_start *start,
                                                                    uint32_t generation) {
    if (moda_unlikely(memo->epoch != moda_load_acquire(&moda_rows.epoch) || memo->generation != generation)) {
        return NULL;
    }
    const moda_memo_entry *entry = moda_memo_set(memo, kind, start->pc, start->sp);
    for (uint32_t way = 0; way < MODA_MEMO_WAYS; way++, entry++) {
        if (entry->pc == start->pc && entry->sp == start->sp
            && ((entry->fp ^ start->fp) & entry->fp_mask) == 0
            && memo->written - entry->place <= moda_memo_ring_bytes(kind)
            && moda_memo_holds(memo, kind, entry)) {
            return entry;
        }
    }
    return NULL;
}

#endif
