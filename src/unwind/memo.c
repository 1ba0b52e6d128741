/* SPDX-License-Identifier: MIT
 *
 * memo.c - takes a walk apart into the words that it hangs on. See memo.h.
 *
 * Runs once for each walk that was not remembered, while a malloc that is recorded is in flight.
 */
#include "unwind/memo.h"

#include "unwind/walk.h"

#include <string.h>

/* So many of the innermost words may have been stored a moment ago: see memo.h. */
enum { FRESH_WORDS = 4 };

typedef struct words {
    uint32_t count;
    uint64_t value[MODA_MEMO_WORDS_MAX]; /* outermost first */
    uint16_t at[MODA_MEMO_WORDS_MAX];
} words;

void moda_memo_clear(moda_memo *memo, moda_memo_kind kind) {
    memset(memo->entry, 0, moda_memo_entries(kind) * sizeof memo->entry[0]);
}

/* The word that a step went by must hold what the step took it for; and lie in reach of a place. */
MODA_READS_STACKS static bool add_word(words *w, uintptr_t sp, uintptr_t address, uintptr_t expected,
                                       bool is_code) {
    const uintptr_t place = (address - sp) / 8;
    if (w->count == MODA_MEMO_WORDS_MAX || address < sp || address % 8 != 0 || place > UINT16_MAX) {
        return false;
    }
    const uintptr_t value = moda_stack_load(address);
    if ((is_code ? moda_strip_authentication(value) : value) != expected) {
        return false;
    }
    w->value[w->count] = value;
    w->at[w->count] = (uint16_t)place;
    w->count++;
    return true;
}

/* A frame whose CFA was itself read from the stack: a function that realigns it. Any other special step
 * hangs on more than a word or two. */
static bool add_special(words *w, uintptr_t sp, const moda_row_view *view, const moda_frame *inner,
                        const moda_frame *f) {
    const moda_row row = moda_row_lookup(view, inner->pc - 1);
    switch (moda_row_cfa_kind(row)) {
    case MODA_CFA_NO_TABLE: return moda_ra_is_below_cfa && moda_frame_slot(f) == inner->fp;
    case MODA_CFA_AT_FP:
        return moda_ra_is_below_cfa && moda_row_ra_kind(row) == MODA_RA_AT_CFA && (row & MODA_ROW_SIGNAL) == 0
               && add_word(w, sp, inner->fp + (uintptr_t)moda_row_cfa_offset(row), f->sp, false);
    case MODA_CFA_FP:
    case MODA_CFA_SP:
        return moda_ra_is_below_cfa && moda_row_ra_kind(row) == MODA_RA_AT_CFA
               && (row & MODA_ROW_SIGNAL) == 0;
    default: return false;
    }
}

/* All words that frame[1 .. count) were found by. *needs_fp: whether frame[0]'s frame pointer is one, too. */
static bool collect(words *w, const moda_row_view *view, const moda_frame *frame, uint32_t count,
                    bool *needs_fp) {
    const uintptr_t sp = frame[0].sp;
    w->count = 0;
    for (uint32_t i = count - 1; i > 0; i--) {
        const moda_frame *f = &frame[i], *inner = f - 1;
        if ((f->fp_slot & MODA_FRAME_EXACT) != 0) {
            return false;
        }
        const bool is_special = (f->fp_slot & MODA_FRAME_SPECIAL) != 0;
        const uintptr_t slot = moda_frame_slot(f);
        if (slot != moda_frame_slot(inner)) {
            if (*needs_fp && !add_word(w, sp, slot, f->fp, false)) {
                return false;
            }
            *needs_fp = false;
        }
        if ((is_special && !add_special(w, sp, view, inner, f))
            || !add_word(w, sp, moda_frame_ra_slot(f), f->pc, true)) {
            return false;
        }
        *needs_fp = *needs_fp || (f->fp_slot & MODA_FRAME_BY_FP) != 0;
    }
    return true;
}

/* What is written to the ring, the n-th word from the innermost one on. */
typedef struct list {
    uint32_t count;
    uint8_t word[MODA_MEMO_WORDS_MAX + 3];
} list;

/* The last one again and again until they are a multiple of four. */
static void fill_up(list *l) {
    for (; l->count % 4 != 0; l->count++) {
        l->word[l->count] = l->word[l->count - 1];
    }
}

/* Innermost first, since that is where stacks differ soonest. A pair goes by its lower word; words are in the order of
 * frames, in which a frame pointer comes after the return address above it. */
static void sort_out(const words *w, list *single, list *pair) {
    single->count = pair->count = 0;
    for (uint32_t n = 0; n < w->count; n++) {
        const uint32_t i = w->count - 1 - n;
        if (n >= FRESH_WORDS && i > 0 && w->at[i - 1] + 1 == w->at[i]) {
            pair->word[pair->count++] = (uint8_t)(i - 1);
            n++;
        } else {
            single->word[single->count++] = (uint8_t)i;
        }
    }
    fill_up(single);
    fill_up(pair);
}

static void write_words(moda_memo *memo, moda_memo_kind kind, moda_memo_entry *entry, const words *w) {
    list single, pair;
    sort_out(w, &single, &pair);
    const uint64_t values = 2 * pair.count + single.count;
    const uint64_t bytes = (8 * values + 2 * (pair.count + single.count) + 15) & ~(uint64_t)15;
    const uint32_t ring_bytes = moda_memo_ring_bytes(kind);
    const uint64_t left = ring_bytes - memo->written % ring_bytes;
    entry->place = memo->written + (left < bytes ? left : 0);
    entry->pairs_of_words = (uint8_t)pair.count;
    entry->words = (uint8_t)single.count;
    memo->written = entry->place + bytes;
    uint64_t *value = (uint64_t *)(uintptr_t)(moda_memo_ring(memo, kind) + entry->place % ring_bytes);
    uint16_t *at = (uint16_t *)(void *)(value + values);
    for (uint32_t i = 0; i < pair.count; i++) {
        *value++ = w->value[pair.word[i]];
        *value++ = w->value[pair.word[i] + 1];
    }
    for (uint32_t i = 0; i < single.count; i++) {
        *value++ = w->value[single.word[i]];
        *at++ = w->at[single.word[i]];
    }
    for (uint32_t i = 0; i < pair.count; i++) {
        *at++ = w->at[pair.word[i]];
    }
}

void moda_memo_keep(moda_memo *memo, moda_memo_kind kind, const moda_unwind_start *start,
                    const moda_unwind_thread *thread, const moda_walk *walk, uint32_t value,
                    uint32_t generation) {
    const moda_row_view view = moda_row_view_now();
    if (memo->epoch != view.epoch || memo->generation != generation) {
        moda_memo_clear(memo, kind);
        memo->epoch = view.epoch;
        memo->generation = generation;
    }
    const moda_frame *frame = thread->last + thread->head;
    words w;
    bool needs_fp = thread->needs_last_fp;
    if (!thread->is_kept || thread->epoch != view.epoch || thread->count != walk->count || walk->count < 2
        || frame[0].pc != start->pc || frame[0].sp != start->sp || frame[0].fp != start->fp
        || !collect(&w, &view, frame, walk->count, &needs_fp)) {
        return;
    }
    moda_memo_entry *entry =
        moda_memo_set(memo, kind, start->pc, start->sp) + memo->next_way++ % MODA_MEMO_WAYS;
    entry->pc = 0; /* until it is whole: a signal handler may leave it by longjmp */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    write_words(memo, kind, entry, &w);
    entry->sp = start->sp;
    entry->fp = start->fp;
    entry->fp_mask = needs_fp ? ~(uintptr_t)0 : 0;
    entry->value = value;
    entry->end = walk->end;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    entry->pc = start->pc;
}
