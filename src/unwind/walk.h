/* SPDX-License-Identifier: MIT
 *
 * walk.h - what the walkers share: a thread's memory, the state of a walk, and the walkers' own face.
 */
#ifndef MODA_UNWIND_WALK_H
#define MODA_UNWIND_WALK_H

#include "mod_alloc.h"
#include "unwind/row_cache.h"
#include "unwind/stack.h"
#include "unwind/unwind.h"

/* The registers of one frame. */
typedef struct moda_registers {
    uintptr_t pc, sp, fp;
    uintptr_t fp_slot; /* where fp was loaded from */
    uintptr_t ra;      /* aarch64, if is_exact: x30, where a leaf function has its return address */
    bool is_exact;     /* pc is an interrupted instruction, not a return address */
} moda_registers;

/* A frame of a thread's last walk. Its pc was read at sp - 8 on x86-64, behind fp on aarch64, or else the
 * frame is marked special. */
typedef struct moda_frame {
    uintptr_t sp;
    uintptr_t pc;
    uintptr_t fp;
    uintptr_t fp_slot; /* and the MODA_FRAME_ bits, which no user address has */
} moda_frame;

#define MODA_FRAME_SPECIAL ((uintptr_t)1 << 63) /* found by more than two loads: step again to verify */
#define MODA_FRAME_EXACT ((uintptr_t)1 << 62)   /* as registers.is_exact; then also special */
#define MODA_FRAME_BY_FP ((uintptr_t)1 << 61)   /* the step that found it went by the inner frame's fp */
#define MODA_FRAME_BITS (MODA_FRAME_SPECIAL | MODA_FRAME_EXACT | MODA_FRAME_BY_FP)

MODA_INLINE uintptr_t moda_frame_slot(const moda_frame *f) {
    return f->fp_slot & ~MODA_FRAME_BITS;
}

/* Where the pc of a frame that is not special was read. */
MODA_INLINE uintptr_t moda_frame_ra_slot(const moda_frame *f) {
    return moda_ra_is_below_cfa ? f->sp - 8 : moda_frame_slot(f) + 8;
}

MODA_INLINE moda_frame moda_frame_of(const moda_registers *r, uintptr_t bits) {
    return (moda_frame){
        .sp = r->sp,
        .pc = r->pc,
        .fp = r->fp,
        .fp_slot = r->fp_slot | bits | (r->is_exact ? MODA_FRAME_EXACT : 0),
    };
}

struct moda_unwind_thread {
    moda_stack_own own;
    uint32_t is_busy; /* a walk is in progress: one in a signal handler must not touch what follows */
    uint32_t epoch;   /* of the last walk */
    /* The last walk: last[head .. head + count), innermost first; `last` is one half of `frames`, the
     * walk in progress fills the other. */
    moda_frame *last;
    moda_frame *fresh;
    uint32_t head;
    uint32_t count;
    uint8_t end;
    bool is_kept;         /* all of the last walk is there, and hangs on words of the own stack alone */
    bool needs_last_fp;   /* its end hangs on the outermost frame's fp */
    uintptr_t unsaved_fp; /* fp_slot of frames whose fp the walk has not loaded from the stack yet */
    moda_frame frames[];
};

/* A walk in progress. The loops keep the registers in variables of their own; `at` is where they meet the
 * functions for the rarer steps. */
typedef struct moda_walk_state {
    moda_registers at;
    moda_row_view view;
    moda_stack_range range;
    moda_stack_own *own;
    uint64_t *frames;
    moda_frame *kept; /* NULL, or where moda_tables_walk_from notes its frames, by the index of frames */
    uint32_t limit;
    bool may_guess;
    uint8_t guessed;
} moda_walk_state;

typedef struct moda_walk_job {
    const moda_unwind_start *start;
    moda_unwind_thread *thread; /* or NULL */
    uint64_t *frames;
    uint32_t limit;
} moda_walk_job;

moda_walk moda_tables_walk(const moda_walk_job *job);          /* what has no table: ends there */
moda_walk moda_tables_walk_guessing(const moda_walk_job *job); /* .. is passed by frame pointer */
moda_walk moda_frame_pointer_walk(const moda_walk_job *job);   /* fp; tables only for the outermost frames */

/* Goes on by tables from s->at, whose frame is to be frames[count], without the thread's last walk. */
moda_walk moda_tables_walk_from(moda_walk_state *s, uint32_t count);

/* A step from s->at over a frame whose CFA hangs on a register that the walk does not carry along. Uncached,
 * some microseconds. */
bool moda_registers_step(moda_walk_state *s);

/* Whether it is where the function of a coroutine returns to that was made by makecontext. */
bool moda_is_end_of_coroutine(uintptr_t pc);

MODA_INLINE uintptr_t moda_stack_load(uintptr_t address) {
    return *(const moda_stack_word *)address;
}

/* One frame by frame pointer, where it is plausible: the record lies above sp, in the stack, and holds what
 * may be a return address. */
MODA_INLINE bool moda_frame_pointer_step(moda_stack_range *range, moda_registers *r) {
    const uintptr_t fp = r->fp;
    if (fp % 8 != 0 || fp < r->sp || fp + 16 < fp || !moda_stack_reaches(range, fp + 16))
        return false;
    const uintptr_t pc = moda_strip_authentication(moda_stack_load(fp + 8));
    if (pc < MODA_PAGE_BYTES || pc >> 48 != 0 || (pc >= r->sp && pc < range->high))
        return false;
    r->pc = pc;
    r->sp = fp + 16;
    r->fp = moda_stack_load(fp);
    r->fp_slot = fp;
    r->is_exact = false;
    return true;
}

#endif
