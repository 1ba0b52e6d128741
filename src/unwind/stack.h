/* SPDX-License-Identifier: MIT
 *
 * stack.h - which words of a stack a walk may read.
 *
 * Never through pthread_getattr_np: that allocates, and reads /proc for the main thread. Instead
 *   main thread    up to __libc_stack_end, and 128 MiB below (the kernel maps nothing else there); where the limit
 *                  lets it go deeper, as far down as each page was found readable
 *   other threads  up to the thread's control block, which glibc puts at the top of every thread's stack,
 *                  as far down as each page was found readable
 *                  (0.17 us a page, once: 0.35 ms for 8 MiB, 10 ms for 256)
 *   any other      a coroutine's or a signal handler's stack, a part of a split one (gcc -fsplit-stack): page by page, anew in each walk, since such
 *                  stacks come and go
 */
#ifndef MODA_UNWIND_STACK_H
#define MODA_UNWIND_STACK_H

#include "unwind/machine.h"

enum {
    MODA_RED_ZONE_BYTES = 128,   /* a saved register may lie this far below sp */
    MODA_FOREIGN_PAGES_MAX = 256 /* pages of a foreign stack that one walk looks at */
};

/* What a thread knows of its own stack. Zeroed = nothing yet. */
typedef struct moda_stack_own {
    uintptr_t low;     /* readable from here .. */
    uintptr_t high;    /* .. to here */
    uintptr_t barrier; /* a page below that can't be read: what lies under it is never this stack */
    bool is_known;
    bool is_main;
} moda_stack_own;

/* The words that the running walk may read: from sp - MODA_RED_ZONE_BYTES to high. */
typedef struct moda_stack_range {
    uintptr_t high;
    bool is_own;           /* false: high moves up while pages are found readable */
    uint8_t switches_left; /* times the walk may go over to another stack, at a signal frame */
    uint16_t pages_left;
} moda_stack_range;

/* The range for a walk that begins at sp. */
void moda_stack_enter_slow(moda_stack_own *own, uintptr_t sp, moda_stack_range *range);

MODA_INLINE void moda_stack_enter(moda_stack_own *own, uintptr_t sp, moda_stack_range *range) {
    range->switches_left = 4;
    range->pages_left = MODA_FOREIGN_PAGES_MAX;
    if (moda_likely(sp - own->low < own->high - own->low)) {
        range->high = own->high;
        range->is_own = true;
    } else {
        moda_stack_enter_slow(own, sp, range);
    }
}

/* Whether the range reaches up to `end`; a foreign one grows if it can. */
bool moda_stack_reach_slow(moda_stack_range *range, uintptr_t end);

MODA_INLINE bool moda_stack_reaches(moda_stack_range *range, uintptr_t end) {
    return moda_likely(end <= range->high) || (!range->is_own && moda_stack_reach_slow(range, end));
}

/* Goes over to the stack that a signal interrupted, or, `is_split`, to an older part of a split one: of those a walk may
 * see as many as it has frames. */
bool moda_stack_switch(moda_stack_own *own, uintptr_t sp, bool is_split, moda_stack_range *range);

/* Whether the page of an address can be read. Costs a system call (0.2 us). */
bool moda_stack_page_is_readable(uintptr_t address);

/* Whether it could be, now or when it was last asked for. */
bool moda_stack_page_was_readable(uintptr_t address);

#endif
