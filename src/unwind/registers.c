/* SPDX-License-Identifier: MIT
 *
 * registers.c - the step over the few frames whose CFA is neither on sp nor on the frame pointer.
 *
 * Known case: ld.so's _dl_runtime_resolve keeps its CFA in rbx, and is on the stack when binding a symbol for
 * the first time allocates (an ifunc resolver, a dependency added). tables.c comes here, seldom, so that this
 * starts over from its own frame with all registers that survive calls, reads each frame's rules afresh, and
 * follows them up to the frame in question and over it. Only plain rules; no signal frame in between.
 */
#include "unwind/walk.h"

enum { FRAMES_BETWEEN_MAX = 600 };

typedef struct full_registers {
    uintptr_t value[MODA_TRACKED_REGISTERS]; /* value[MODA_REG_RA] is the pc */
    uintptr_t sp;
    uintptr_t fp_slot; /* where fp was loaded from, 0 = not yet */
} full_registers;

static bool find_cfa(const full_registers *r, const moda_cfi_rules *rules, uintptr_t *cfa) {
    const int index = moda_tracked_index(rules->cfa_register);
    if (rules->cfa.kind != MODA_CFI_OFFSET || rules->is_signal_frame) {
        return false;
    }
    if (rules->cfa_register != MODA_DWARF_SP && (index < 0 || index == MODA_REG_RA)) {
        return false;
    }
    const uintptr_t base = rules->cfa_register == MODA_DWARF_SP ? r->sp : r->value[index];
    *cfa = base + (uintptr_t)rules->cfa.at.offset;
    return *cfa > r->sp && *cfa % 8 == 0;
}

MODA_READS_STACKS static bool step(moda_walk_state *s, full_registers *r, uintptr_t lookup_pc) {
    moda_cfi_rules rules;
    uintptr_t cfa;
    if (!moda_row_cache_find_rules(lookup_pc, &rules) || !find_cfa(r, &rules, &cfa)
        || !moda_stack_reaches(&s->range, cfa) || rules.reg[MODA_REG_RA].kind != MODA_CFI_OFFSET) {
        return false;
    }
    for (unsigned i = 0; i < MODA_TRACKED_REGISTERS; i++) {
        const moda_cfi_rule *rule = &rules.reg[i];
        if (rule->kind == MODA_CFI_SAME || rule->kind == MODA_CFI_UNDEFINED) {
            continue;
        }
        const uintptr_t slot = cfa + (uintptr_t)rule->at.offset;
        if (rule->kind != MODA_CFI_OFFSET || slot % 8 != 0 || slot >= cfa
            || slot + MODA_RED_ZONE_BYTES < r->sp) {
            return false;
        }
        r->value[i] = moda_stack_load(slot);
        if (i == MODA_REG_FP) {
            r->fp_slot = slot;
        }
    }
    r->sp = cfa;
    return true;
}

MODA_NOINLINE MODA_READS_STACKS bool moda_registers_step(moda_walk_state *s) {
    full_registers r = {.sp = 0};
    if (!moda_can_capture || s->at.is_exact) {
        return false;
    }
    moda_capture_registers(r.value, &r.sp);
    uintptr_t lookup_pc = r.value[MODA_REG_RA];
    for (uint32_t i = 0; r.sp != s->at.sp; i++) {
        if (i == FRAMES_BETWEEN_MAX || r.sp > s->at.sp || !step(s, &r, lookup_pc)) {
            return false;
        }
        lookup_pc = r.value[MODA_REG_RA] - 1;
    }
    if (r.value[MODA_REG_RA] != s->at.pc || r.value[MODA_REG_FP] != s->at.fp) {
        return false;
    }
    r.fp_slot = s->at.fp_slot;
    if (!step(s, &r, lookup_pc)) {
        return false;
    }
    s->at = (moda_registers){
        .pc = r.value[MODA_REG_RA],
        .sp = r.sp,
        .fp = r.value[MODA_REG_FP],
        .fp_slot = r.fp_slot,
    };
    return true;
}
