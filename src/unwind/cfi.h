/* SPDX-License-Identifier: MIT
 *
 * cfi.h - reads .eh_frame: for one address, the rules that find its caller's registers.
 *
 * row.c folds the rules into one word; registers.c evaluates them as they stand. Pure: no memory of its own,
 * any thread, and not one byte is read outside [low, high) whatever the tables hold. Needs 1.5 KiB of stack.
 */
#ifndef MODA_UNWIND_CFI_H
#define MODA_UNWIND_CFI_H

#include "unwind/machine.h"

/* Where an object's tables are. */
typedef struct moda_cfi_object {
    uintptr_t header;    /* of its .eh_frame_hdr */
    uintptr_t low, high; /* readable memory around it, which must hold .eh_frame too */
} moda_cfi_object;

typedef enum moda_cfi_kind {
    MODA_CFI_SAME = 0,   /* the caller's value is still in the register */
    MODA_CFI_UNDEFINED,  /* no caller's value: for the return address, the outermost frame */
    MODA_CFI_OFFSET,     /* saved at CFA + offset */
    MODA_CFI_EXPRESSION, /* saved at the address that the expression gives */
    MODA_CFI_OTHER       /* any rule that compilers do not emit for these registers */
} moda_cfi_kind;

typedef struct moda_cfi_rule {
    union {
        int64_t offset;
        const uint8_t *expression;
    } at;
    uint32_t expression_length;
    uint8_t kind; /* moda_cfi_kind */
} moda_cfi_rule;

typedef struct moda_cfi_rules {
    moda_cfi_rule reg[MODA_TRACKED_REGISTERS];
    moda_cfi_rule cfa;     /* OFFSET: cfa_register + offset, or EXPRESSION (of the CFA itself) */
    uint32_t cfa_register; /* DWARF number */
    bool is_signal_frame;
} moda_cfi_rules;

typedef enum moda_cfi_result {
    MODA_CFI_FOUND,
    MODA_CFI_NONE,   /* no table, or none of its entries covers the address */
    MODA_CFI_DAMAGED /* or of a form that no linker writes today */
} moda_cfi_result;

moda_cfi_result moda_cfi_find(const moda_cfi_object *object, uintptr_t pc, moda_cfi_rules *rules);

/* A cursor that never leaves its bounds: reading past the end sets is_bad and yields 0. */
typedef struct moda_cfi_cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool is_bad;
} moda_cfi_cursor;

uint64_t moda_cfi_fixed(moda_cfi_cursor *cursor, size_t bytes);
int64_t moda_cfi_signed(moda_cfi_cursor *cursor, size_t bytes);
uint64_t moda_cfi_uleb(moda_cfi_cursor *cursor);
int64_t moda_cfi_sleb(moda_cfi_cursor *cursor);

#endif
