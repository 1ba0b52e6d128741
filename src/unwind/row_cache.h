/* SPDX-License-Identifier: MIT
 *
 * row_cache.h - address -> row, remembered for ever, without locks.
 *
 * The walkers ask once for each frame. Any thread; memory from moda_unwind_set_memory's function.
 *
 * Laws
 *   1. a key, once set, never changes: a reader that sees its key may believe the value beside it.
 *   2. a row is a pure function of the code mapped in one epoch, and carries the epoch's tag: writers that
 *      race store the same word, and a row of another epoch is a miss.
 *   3. a table is never unmapped, so that a reader may be in an old one; the newest is published last.
 *   4. no memory, or a full table, costs recomputation and nothing else.
 */
#ifndef MODA_UNWIND_ROW_CACHE_H
#define MODA_UNWIND_ROW_CACHE_H

#include "unwind/row.h"

enum { MODA_ROW_TABLE_FIRST_BITS = 8, MODA_ROW_TABLE_LAST_BITS = 18, MODA_ROW_PROBES_MAX = 32 };

typedef struct moda_row_slot {
    uint64_t key; /* address looked up; 0 = empty */
    moda_row row; /* 0 = not there yet */
} moda_row_slot;

typedef struct moda_row_table {
    struct moda_row_table *older; /* const */
    uint32_t bits;                /* const: the table has 1 << bits slots */
    uint32_t used;
    uint64_t padding[6];
    moda_row_slot slot[];
} moda_row_table;

typedef struct moda_row_cache {
    moda_row_table *table; /* the newest, or NULL */
    uint32_t epoch;        /* how often an object may have been unmapped */
    uint32_t is_growing;
} moda_row_cache;

MODA_HIDDEN extern moda_row_cache moda_rows;

/* The table and epoch that one walk works with. */
typedef struct moda_row_view {
    const moda_row_table *table;
    uint32_t epoch;
    moda_row tag;
} moda_row_view;

MODA_INLINE moda_row moda_row_tag(uint32_t epoch) {
    return (moda_row)(epoch % 255 + 1) << MODA_ROW_EPOCH_SHIFT; /* never 0, so that no row is 0 */
}

MODA_INLINE moda_row_view moda_row_view_now(void) {
    const uint32_t epoch = moda_load_acquire(&moda_rows.epoch);
    return (moda_row_view){
        .table = moda_load_acquire(&moda_rows.table),
        .epoch = epoch,
        .tag = moda_row_tag(epoch),
    };
}

MODA_INLINE size_t moda_row_index(uint64_t key, uint32_t bits) {
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - bits));
}

/* Looks further than the inline part, computes, remembers. */
moda_row moda_row_miss(uintptr_t pc, uint32_t epoch);

/* The row of an address, its tag included. */
MODA_INLINE moda_row moda_row_lookup(const moda_row_view *view, uintptr_t pc) {
    if (moda_likely(view->table != NULL)) {
        const uint32_t bits = view->table->bits;
        const moda_row_slot *slot = &view->table->slot[moda_row_index(pc, bits)];
        for (uint32_t probes = 0; probes < 4; probes++, slot++) {
            const uint64_t key = moda_load_acquire(&slot->key);
            if (moda_likely(key == pc)) {
                const moda_row row = moda_load_acquire(&slot->row);
                if (moda_likely((row & MODA_ROW_EPOCH_MASK) == view->tag))
                    return row;
                break;
            }
            if (key == 0)
                break;
        }
    }
    return moda_row_miss(pc, view->epoch);
}

/* The rules of an address as they stand in the tables, uncached. */
bool moda_row_cache_find_rules(uintptr_t pc, moda_cfi_rules *rules);

/* Whether an address that was found by a guess can be a return address: in an object it must follow a call, or be what a
 * signal handler returns to. Elsewhere, where programs make code as they run and may enter it in any way, there must be
 * memory. */
bool moda_row_cache_may_return_to(uintptr_t pc);

/* Whether an address lies in the dynamic loader. Uncached. */
bool moda_row_cache_is_in_loader(uintptr_t pc);

/* For tests: the rows in the newest table, and its size in bits (0: none). */
uint32_t moda_row_cache_count(uint32_t *bits);

#endif
