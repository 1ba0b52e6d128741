/* SPDX-License-Identifier: MIT
 *
 * row.h - how to get from one frame to its caller, in one word.
 *
 * What compilers emit for call sites needs nothing but the stack pointer and the frame pointer (checked at
 * 590,000 call sites of stock binaries: exceptions are a handful of assembly functions), so that a row of
 * the unwind tables folds into 64 bits:
 *
 *   bits 0-2 how the CFA is found   3-4 the caller's frame pointer   5-6 the return address
 *   bit 7    signal frame           8-15 epoch (row_cache.c)         16-31 frame pointer's offset / 8
 *   32-39    return address's offset / 8 above the frame pointer's   40-63 CFA's offset / 8
 *
 * CFA is DWARF's word for the stack pointer's value before the call that made the frame.
 */
#ifndef MODA_UNWIND_ROW_H
#define MODA_UNWIND_ROW_H

#include "unwind/cfi.h"

typedef uint64_t moda_row; /* 0 = none */

enum {
    MODA_CFA_SP = 0,       /* sp + offset */
    MODA_CFA_FP = 1,       /* fp + offset */
    MODA_CFA_AT_SP = 2,    /* the word at sp + offset: signal frames */
    MODA_CFA_AT_FP = 3,    /* the word at fp + offset: functions that realign their stack */
    MODA_CFA_END = 4,      /* the outermost frame */
    MODA_CFA_NO_TABLE = 5, /* no row: a guess by frame pointer is allowed */
    MODA_CFA_OPAQUE = 6,   /* a row that this form can't hold, or damaged tables: no guess */
    MODA_CFA_REGISTER = 7  /* the CFA hangs on another register that survives calls */
};
enum {
    MODA_FP_SAME = 0,
    MODA_FP_AT_CFA = 1, /* at CFA + offset */
    MODA_FP_AT_FP = 2,  /* at fp + offset */
    MODA_FP_AT_SP = 3   /* at sp + offset */
};
enum {
    MODA_RA_AT_CFA = 0,     /* x86-64: at CFA - 8; aarch64: at CFA + offset */
    MODA_RA_NEXT = 1,       /* in the word after the one that holds the CFA: signal frames of x86-64 */
    MODA_RA_IN_REGISTER = 2 /* aarch64, interrupted before x30 was saved */
};

#define MODA_ROW_SIGNAL ((moda_row)1 << 7)
#define MODA_ROW_EPOCH_SHIFT 8
#define MODA_ROW_EPOCH_MASK ((moda_row)0xff << MODA_ROW_EPOCH_SHIFT)
/* All bits but the offsets and the lowest one of the CFA and frame pointer kinds: 0 in a plain row. */
#define MODA_ROW_SPECIAL_MASK ((moda_row)0x00f6)

MODA_INLINE unsigned moda_row_cfa_kind(moda_row row) {
    return (unsigned)row & 7;
}
MODA_INLINE unsigned moda_row_fp_kind(moda_row row) {
    return (unsigned)(row >> 3) & 3;
}
MODA_INLINE unsigned moda_row_ra_kind(moda_row row) {
    return (unsigned)(row >> 5) & 3;
}
MODA_INLINE intptr_t moda_row_cfa_offset(moda_row row) {
    return ((intptr_t)row >> 40) * 8;
}
MODA_INLINE intptr_t moda_row_fp_offset(moda_row row) {
    return (intptr_t)(int16_t)(row >> 16) * 8;
}
MODA_INLINE intptr_t moda_row_ra_offset(moda_row row) {
    return moda_row_fp_offset(row) + (intptr_t)(int8_t)(row >> 32) * 8;
}

/* The row of an address, without an epoch. Never 0. */
moda_row moda_row_compile(const moda_cfi_object *object, uintptr_t pc);

#endif
