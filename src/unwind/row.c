/* SPDX-License-Identifier: MIT
 *
 * row.c - folds the rules of cfi.c into one word, or says why it can't.
 *
 * Called on a row cache miss. Pure. Expressions are evaluated symbolically: each value is a constant, or
 * sp, fp, or a word at one of these, plus a constant. That covers what occurs in practice: PLT entries (their
 * only unknown is the pc, which is known here), signal frames, and functions that realign their stack.
 */
#include "unwind/row.h"

enum { STACK_MAX = 14, EXPRESSION_OPCODES_MAX = 256 };

typedef enum base { BASE_NONE, BASE_SP, BASE_FP, BASE_AT_SP, BASE_AT_FP, BASE_UNKNOWN } base;

/* base + offset; for BASE_AT_SP and BASE_AT_FP the word at sp or fp + offset. */
typedef struct value {
    base base;
    int64_t offset;
} value;

typedef struct evaluator {
    value stack[STACK_MAX];
    uint32_t depth;
    uintptr_t pc;
    bool is_bad;
} evaluator;

static const value unknown = {.base = BASE_UNKNOWN};

static value constant(uint64_t c) {
    return (value){.base = BASE_NONE, .offset = (int64_t)c};
}

static void push(evaluator *e, value v) {
    if (e->depth == STACK_MAX) {
        e->is_bad = true;
    } else {
        e->stack[e->depth++] = v;
    }
}

static value pick(evaluator *e, uint64_t below_top) {
    if (below_top >= e->depth) {
        e->is_bad = true;
        return unknown;
    }
    return e->stack[e->depth - 1 - below_top];
}

static value pop(evaluator *e) {
    const value top = pick(e, 0);
    if (!e->is_bad) {
        e->depth--;
    }
    return top;
}

static value register_plus(const evaluator *e, uint64_t reg, int64_t offset) {
    if (reg == MODA_DWARF_SP) {
        return (value){.base = BASE_SP, .offset = offset};
    }
    if (reg == MODA_DWARF_FP) {
        return (value){.base = BASE_FP, .offset = offset};
    }
    if (reg == MODA_DWARF_RA && moda_ra_is_below_cfa) { /* breg16 is rip */
        return constant(e->pc + (uint64_t)offset);
    }
    return unknown;
}

static value dereference(value address) {
    if (address.base == BASE_SP) {
        return (value){.base = BASE_AT_SP, .offset = address.offset};
    }
    if (address.base == BASE_FP) {
        return (value){.base = BASE_AT_FP, .offset = address.offset};
    }
    return unknown;
}

static value add(value a, value b) {
    const int64_t sum = (int64_t)((uint64_t)a.offset + (uint64_t)b.offset);
    if (a.base == BASE_NONE && b.base <= BASE_FP) {
        return (value){.base = b.base, .offset = sum};
    }
    if (b.base == BASE_NONE && a.base <= BASE_FP) {
        return (value){.base = a.base, .offset = sum};
    }
    return unknown;
}

static value subtract(value a, value b) {
    const int64_t difference = (int64_t)((uint64_t)a.offset - (uint64_t)b.offset);
    if (b.base == BASE_NONE && a.base <= BASE_FP) {
        return (value){.base = a.base, .offset = difference};
    }
    if (a.base == b.base && a.base <= BASE_FP) {
        return constant((uint64_t)difference);
    }
    return unknown;
}

/* Operators that need two constants. */
static value combine(uint64_t opcode, value a, value b) {
    if (a.base != BASE_NONE || b.base != BASE_NONE) {
        return unknown;
    }
    const uint64_t x = (uint64_t)a.offset, y = (uint64_t)b.offset;
    switch (opcode) {
    case 0x1a: return constant(x & y);
    case 0x21: return constant(x | y);
    case 0x24: return constant(y < 64 ? x << y : 0);
    case 0x25: return constant(y < 64 ? x >> y : 0);
    case 0x27: return constant(x ^ y);
    case 0x29: return constant(x == y);
    case 0x2a: return constant(a.offset >= b.offset);
    case 0x2b: return constant(a.offset > b.offset);
    case 0x2c: return constant(a.offset <= b.offset);
    case 0x2d: return constant(a.offset < b.offset);
    case 0x2e: return constant(x != y);
    default: return unknown;
    }
}

static void run_binary(evaluator *e, uint64_t opcode) {
    const value b = pop(e);
    const value a = pop(e);
    push(e, opcode == 0x22 ? add(a, b) : opcode == 0x1c ? subtract(a, b) : combine(opcode, a, b));
}

/* DWARF 5 section 2.5, as far as compilers use it in call frame information. */
static void run_opcode(evaluator *e, moda_cfi_cursor *p) {
    const uint64_t opcode = moda_cfi_fixed(p, 1);
    uint64_t reg;
    if (opcode >= 0x30 && opcode <= 0x4f) { /* lit0.. */
        push(e, constant(opcode - 0x30));
        return;
    }
    if (opcode >= 0x70 && opcode <= 0x8f) { /* breg0.. */
        push(e, register_plus(e, opcode - 0x70, moda_cfi_sleb(p)));
        return;
    }
    switch (opcode) {
    case 0x03: /* addr */
    case 0x0e: /* const8u, const8s */
    case 0x0f: push(e, constant(moda_cfi_fixed(p, 8))); return;
    case 0x06: /* deref */ push(e, dereference(pop(e))); return;
    case 0x08: push(e, constant(moda_cfi_fixed(p, 1))); return;
    case 0x09: push(e, constant((uint64_t)moda_cfi_signed(p, 1))); return;
    case 0x0a: push(e, constant(moda_cfi_fixed(p, 2))); return;
    case 0x0b: push(e, constant((uint64_t)moda_cfi_signed(p, 2))); return;
    case 0x0c: push(e, constant(moda_cfi_fixed(p, 4))); return;
    case 0x0d: push(e, constant((uint64_t)moda_cfi_signed(p, 4))); return;
    case 0x10: /* constu */ push(e, constant(moda_cfi_uleb(p))); return;
    case 0x11: /* consts */ push(e, constant((uint64_t)moda_cfi_sleb(p))); return;
    case 0x12: /* dup */ push(e, pick(e, 0)); return;
    case 0x13: /* drop */ pop(e); return;
    case 0x14: /* over */ push(e, pick(e, 1)); return;
    case 0x15: /* pick */ push(e, pick(e, moda_cfi_fixed(p, 1))); return;
    case 0x1a: /* and, minus, or, plus, shl, shr, xor, eq .. ne */
    case 0x1c:
    case 0x21:
    case 0x22:
    case 0x24:
    case 0x25:
    case 0x27:
    case 0x29:
    case 0x2a:
    case 0x2b:
    case 0x2c:
    case 0x2d:
    case 0x2e: run_binary(e, opcode); return;
    case 0x23: /* plus_uconst */ push(e, add(pop(e), constant(moda_cfi_uleb(p)))); return;
    case 0x92: /* bregx */
        reg = moda_cfi_uleb(p);
        push(e, register_plus(e, reg, moda_cfi_sleb(p)));
        return;
    case 0x96: /* nop */ return;
    default: e->is_bad = true; return;
    }
}

static value evaluate(const moda_cfi_rule *rule, uintptr_t pc, const value *first) {
    evaluator e = {.pc = pc};
    if (first != NULL) {
        push(&e, *first);
    }
    moda_cfi_cursor p = {
        .at = rule->at.expression,
        .end = rule->at.expression + rule->expression_length,
    };
    for (uint32_t steps = 0; p.at < p.end; steps++) {
        run_opcode(&e, &p);
        if (e.is_bad || p.is_bad || steps == EXPRESSION_OPCODES_MAX) {
            return unknown;
        }
    }
    return pop(&e);
}

static value find_cfa(const moda_cfi_rules *rules, uintptr_t pc) {
    if (rules->cfa.kind == MODA_CFI_EXPRESSION) {
        return evaluate(&rules->cfa, pc, NULL);
    }
    if (rules->cfa.kind != MODA_CFI_OFFSET || rules->cfa_register == MODA_DWARF_RA) {
        return unknown;
    }
    const evaluator none = {.pc = pc};
    return register_plus(&none, rules->cfa_register, rules->cfa.at.offset);
}

/* An offset in units of 8 that fits `bits` with its sign. */
static bool fits(int64_t offset, unsigned bits) {
    const int64_t limit = (int64_t)8 << (bits - 1);
    return offset % 8 == 0 && offset >= -limit && offset < limit;
}

static moda_row field(int64_t offset, unsigned bits, unsigned shift) {
    return ((moda_row)(offset / 8) & (((moda_row)1 << bits) - 1)) << shift;
}

/* The frame pointer's part of a row; false: not expressible. */
static bool fold_fp(const moda_cfi_rules *rules, uintptr_t pc, const value *cfa, moda_row *row,
                    int64_t *fp_offset) {
    const moda_cfi_rule *rule = &rules->reg[MODA_REG_FP];
    unsigned kind = MODA_FP_SAME;
    *fp_offset = 0;
    if (rule->kind == MODA_CFI_OFFSET) {
        kind = MODA_FP_AT_CFA;
        *fp_offset = rule->at.offset;
        if (moda_ra_is_below_cfa && *fp_offset >= 0) {
            return false;
        }
    } else if (rule->kind == MODA_CFI_EXPRESSION) {
        const value address = evaluate(rule, pc, cfa);
        if (address.base != BASE_FP && address.base != BASE_SP) {
            return false;
        }
        kind = address.base == BASE_FP ? MODA_FP_AT_FP : MODA_FP_AT_SP;
        *fp_offset = address.offset;
    } else if (rule->kind == MODA_CFI_OTHER) {
        return false;
    }
    *row |= (moda_row)kind << 3 | field(*fp_offset, 16, 16);
    return fits(*fp_offset, 16);
}

static bool fold_ra_x86(const moda_cfi_rules *rules, uintptr_t pc, const value *cfa, moda_row *row) {
    const moda_cfi_rule *rule = &rules->reg[MODA_REG_RA];
    if (rule->kind == MODA_CFI_OFFSET) {
        return rule->at.offset == -8;
    }
    if (rule->kind != MODA_CFI_EXPRESSION) {
        return false;
    }
    const value address = evaluate(rule, pc, cfa);
    *row |= (moda_row)MODA_RA_NEXT << 5;
    return cfa->base == BASE_AT_SP && address.base == BASE_SP && address.offset == cfa->offset + 8;
}

static bool fold_ra_aarch64(const moda_cfi_rules *rules, int64_t fp_offset, moda_row *row) {
    const moda_cfi_rule *rule = &rules->reg[MODA_REG_RA];
    if (rule->kind == MODA_CFI_SAME) {
        *row |= (moda_row)MODA_RA_IN_REGISTER << 5;
        return true;
    }
    if (rule->kind != MODA_CFI_OFFSET) {
        return false;
    }
    if (moda_row_fp_kind(*row) == MODA_FP_SAME) { /* its offset field is free */
        fp_offset = rule->at.offset;
        *row |= field(fp_offset, 16, 16);
    }
    const int64_t delta = (int64_t)((uint64_t)rule->at.offset - (uint64_t)fp_offset);
    *row |= field(delta, 8, 32);
    return moda_row_fp_kind(*row) <= MODA_FP_AT_CFA && fits(fp_offset, 16) && fits(delta, 8);
}

static moda_row fold(const moda_cfi_rules *rules, uintptr_t pc) {
    if (rules->reg[MODA_REG_RA].kind == MODA_CFI_UNDEFINED) {
        return MODA_CFA_END;
    }
    const value cfa = find_cfa(rules, pc);
    if (cfa.base == BASE_UNKNOWN || cfa.base == BASE_NONE) {
        const bool is_register =
            rules->cfa.kind == MODA_CFI_OFFSET && moda_tracked_index(rules->cfa_register) > MODA_REG_RA;
        return is_register ? MODA_CFA_REGISTER : MODA_CFA_OPAQUE;
    }
    static const uint8_t kind_of_base[] = {
        [BASE_SP] = MODA_CFA_SP,
        [BASE_FP] = MODA_CFA_FP,
        [BASE_AT_SP] = MODA_CFA_AT_SP,
        [BASE_AT_FP] = MODA_CFA_AT_FP,
    };
    moda_row row = kind_of_base[cfa.base] | field(cfa.offset, 24, 40);
    int64_t fp_offset;
    if (!fits(cfa.offset, 24) || !fold_fp(rules, pc, &cfa, &row, &fp_offset)) {
        return MODA_CFA_OPAQUE;
    }
    if (moda_ra_is_below_cfa ? !fold_ra_x86(rules, pc, &cfa, &row)
                             : !fold_ra_aarch64(rules, fp_offset, &row)) {
        return MODA_CFA_OPAQUE;
    }
    if (rules->is_signal_frame) {
        row |= MODA_ROW_SIGNAL;
    }
    return row;
}

moda_row moda_row_compile(const moda_cfi_object *object, uintptr_t pc) {
    moda_cfi_rules rules;
    switch (moda_cfi_find(object, pc, &rules)) {
    case MODA_CFI_FOUND: return fold(&rules, pc);
    case MODA_CFI_NONE: return MODA_CFA_NO_TABLE;
    default: return MODA_CFA_OPAQUE;
    }
}
