/* SPDX-License-Identifier: MIT
 *
 * caller.h - where the program called from.
 *
 * The fast functions keep no frame and end in tail calls; so at the start of a slow function the stack is as
 * the program's call instruction left it: its return address, its stack pointer and its frame pointer are those
 * of this function's own frame. In a build without tail calls the first frames are our own, and lie in the
 * sections below: the walk drops them (moda_caller_is_ours).
 */
#ifndef MODA_HOT_CALLER_H
#define MODA_HOT_CALLER_H

#include "unwind/unwind.h"

typedef moda_unwind_start moda_caller;

/* The frame pointer is kept in functions that use this; its slot holds the caller's. */
#define MODA_CALLER                                                                                          \
    ((moda_caller){.pc = (uintptr_t)__builtin_return_address(0),                                             \
                   .sp = (uintptr_t)__builtin_dwarf_cfa(),                                                   \
                   .fp = *(uintptr_t *)__builtin_frame_address(0)})

/* Functions that the program calls, and those that they tail-call. */
#define MODA_ENTRY MODA_EXPORT __attribute__((section("moda_entry")))
#define MODA_SLOW MODA_NOINLINE __attribute__((section("moda_entry")))

extern const char __start_moda_entry[] MODA_HIDDEN;
extern const char __stop_moda_entry[] MODA_HIDDEN;

MODA_INLINE bool moda_caller_is_ours(uintptr_t pc) {
    return pc - (uintptr_t)__start_moda_entry <= (uintptr_t)__stop_moda_entry - (uintptr_t)__start_moda_entry;
}

#endif
