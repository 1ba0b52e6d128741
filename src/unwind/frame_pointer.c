/* SPDX-License-Identifier: MIT
 *
 * frame_pointer.c - walks a stack along the chain of frame pointers: 1.6 ns a frame, right only where all
 * code was built with them.
 *
 * Called by select.c. The chain must rise strictly, within the stack, 8-aligned, and lead to what may be
 * return addresses; on doubt it ends there. The outermost frames belong to libc's start code, which keeps
 * no frame pointers on x86-64, so that the last two or three frames are asked of the unwind tables (cached
 * rows): if these reach the end, the walk is complete, else what the chain gave stands and is marked.
 */
#include "unwind/walk.h"

enum { OUTERMOST_FRAMES = 4 };

/* Frames in front of the two walks that are alike, counted from the outermost one. */
static uint32_t common_tail(const moda_frame *last, uint32_t last_count, const uint64_t *frames,
                            uint32_t count) {
    uint32_t same = 0;
    while (same < count && same < last_count && last[last_count - 1 - same].pc == frames[count - 1 - same]) {
        same++;
    }
    return same;
}

static void keep_end(moda_unwind_thread *thread, const moda_walk_state *s, bool is_kept) {
    if (thread != NULL) {
        thread->epoch = s->view.epoch;
        thread->is_kept = is_kept;
        thread->needs_last_fp = true;
    }
}

/* Whether no step was tried that looked at the stack and did not like what it saw: then the chain's end hangs on fp. */
static bool ends_by_fp_alone(const moda_stack_range *range, const moda_registers *r) {
    return range->is_own && (r->fp % 8 != 0 || r->fp < r->sp || r->fp > range->high - 16);
}

MODA_READS_STACKS static moda_walk follow(const moda_walk_job *job) {
    moda_stack_own nobody = {0};
    moda_unwind_thread *thread = job->thread;
    moda_walk_state s = {
        .view = moda_row_view_now(),
        .own = thread != NULL ? &thread->own : &nobody,
        .frames = job->frames,
        .kept = thread != NULL ? thread->fresh : NULL,
        .limit = job->limit,
    };
    moda_registers r = {.pc = job->start->pc, .sp = job->start->sp, .fp = job->start->fp};
    moda_stack_enter(s.own, r.sp, &s.range);
    uint32_t count = 0;
    for (;;) {
        if (s.kept != NULL) {
            s.kept[count] = moda_frame_of(&r, MODA_FRAME_BY_FP);
        }
        job->frames[count++] = r.pc;
        if (count == job->limit) {
            keep_end(thread, &s, s.range.is_own);
            return (moda_walk){.count = count, .end = MOD_ALLOC_WALK_CUT};
        }
        if (!moda_frame_pointer_step(&s.range, &r)) {
            break;
        }
    }
    const bool is_end_of_chain = r.fp == 0 && count > 1;
    s.at = r;
    if (job->limit - count > OUTERMOST_FRAMES) {
        s.limit = count + OUTERMOST_FRAMES;
    }
    const bool is_by_fp_alone = ends_by_fp_alone(&s.range, &r);
    const moda_walk rest = moda_tables_walk_from(&s, count - 1);
    keep_end(thread, &s,
             rest.end == MOD_ALLOC_WALK_COMPLETE && is_by_fp_alone && s.range.is_own && s.at.pc != 0);
    if (rest.end == MOD_ALLOC_WALK_COMPLETE) {
        if (s.kept != NULL && rest.count > count) {
            s.kept[count].fp_slot |= MODA_FRAME_BY_FP; /* it had to look wrong */
        }
        return rest;
    }
    return (moda_walk){
        .count = count,
        .end = is_end_of_chain ? MOD_ALLOC_WALK_COMPLETE : MOD_ALLOC_WALK_UNKNOWN,
    };
}

moda_walk moda_frame_pointer_walk(const moda_walk_job *job) {
    moda_walk walk = follow(job);
    moda_unwind_thread *thread = job->thread;
    if (thread != NULL) {
        walk.reused = common_tail(thread->last, thread->count, job->frames, walk.count);
        moda_frame *last = thread->fresh;
        thread->fresh = thread->last;
        thread->last = last;
        thread->head = 0;
        thread->count = walk.count;
    }
    return walk;
}
