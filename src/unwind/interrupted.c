/* SPDX-License-Identifier: MIT
 *
 * interrupted.c - what a signal interrupted: entry/signals.c asks, in the handler.
 *
 * By unwind tables, from the exact instruction on; the thread's own walk is not touched, since it may be what was
 * interrupted. In code without tables a step is guessed, as in any walk.
 */
#include "unwind/interrupted.h"

#include "unwind/context.h"
#include "unwind/walk.h"

enum { FRAMES_MAX = 10 };

moda_interrupted moda_interrupted_of(const void *context) {
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;
    return (moda_interrupted){.pc = moda_context_pc(m),
                              .sp = moda_context_sp(m),
                              .fp = moda_context_fp(m),
                              .ra = moda_context_ra(m)};
}

MODA_READS_STACKS bool moda_interrupted_is_in(const moda_interrupted *at, bool (*is_there)(uintptr_t pc)) {
    moda_stack_own nobody = {
        .is_known = true}; /* any stack: a thread's own costs a system call a page of its depth */
    uint64_t frames[FRAMES_MAX];
    moda_walk_state s = {
        .at = {.pc = at->pc,
               .sp = at->sp,
               .fp = at->fp,
               .ra = moda_strip_authentication(at->ra),
               .is_exact = true},
        .view = moda_row_view_now(),
        .own = &nobody,
        .frames = frames,
        .limit = FRAMES_MAX,
        .may_guess = true,
    };
    moda_stack_enter(s.own, s.at.sp, &s.range);
    s.range.pages_left = 8; /* frames of libc's and of ours are small */
    const moda_walk walk = moda_tables_walk_from(&s, 0);
    for (uint32_t i = 0; i < walk.count; i++) {
        if (is_there((uintptr_t)frames[i])) {
            return true;
        }
    }
    return false;
}
