/* SPDX-License-Identifier: MIT
 *
 * select.c - the table of walkers, and the one entry of this room.
 *
 * hot/slow.c calls while a sampled malloc is in flight, on any thread, with the thread's own memory. A walk
 * inside a walk (a signal handler that allocates) goes without that memory.
 */
#include "unwind/walk.h"

typedef struct walker {
    const char *name;
    moda_walk (*walk)(const moda_walk_job *job);
} walker;

/* By moda_walker_id. Tables come first on aarch64 too, though compilers keep frame records there: the record
 * that the kernel makes for a signal handler does not say where the signal struck, tables do. */
static const walker walkers[] = {
    [MODA_UNWIND_AUTO] = {"auto", moda_tables_walk_guessing},
    [MODA_UNWIND_FP] = {"fp", moda_frame_pointer_walk},
    [MODA_UNWIND_TABLES] = {"tables", moda_tables_walk},
};

static const walker *selected = &walkers[MODA_UNWIND_AUTO];
static uint32_t frames_limit = 64;

size_t moda_unwind_thread_size(uint32_t frames_max) {
    return sizeof(moda_unwind_thread) + 2 * (size_t)frames_max * sizeof(moda_frame);
}

void moda_unwind_initialize(moda_walker_id walker_id, uint32_t frames_max) {
    selected = &walkers[walker_id];
    frames_limit = frames_max;
}

const char *moda_unwind_walker_name(void) {
    return selected->name;
}

static void prepare(moda_unwind_thread *thread) {
    thread->last = thread->frames;
    thread->fresh = thread->frames + frames_limit;
}

MODA_READS_STACKS moda_walk moda_unwind(const moda_unwind_start *start, moda_unwind_thread *thread,
                                        uint64_t *frames) {
    moda_walk_job job = {.start = start, .frames = frames, .limit = frames_limit};
    if (thread == NULL || thread->is_busy != 0) {
        return selected->walk(&job);
    }
    job.thread = thread;
    thread->is_busy = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (moda_unlikely(thread->last == NULL)) {
        prepare(thread);
    }
    const moda_walk walk = selected->walk(&job);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->is_busy = 0;
    return walk;
}
