/* SPDX-License-Identifier: MIT
 *
 * interrupted.h - what a signal interrupted.
 */
#ifndef MODA_UNWIND_INTERRUPTED_H
#define MODA_UNWIND_INTERRUPTED_H

#include "base/compiler.h"

typedef struct moda_interrupted {
    uintptr_t pc, sp, fp;
    uintptr_t ra; /* aarch64: x30 */
} moda_interrupted;

/* From the third argument of a handler that has SA_SIGINFO. */
moda_interrupted moda_interrupted_of(const void *context);

/* Whether the instruction itself, or one that waits for a call of it to return, lies where `is_there` says. Looks through a
 * few frames: as many as functions of libc have among themselves. Takes no lock, allocates nothing; 2.5 KiB of stack. */
bool moda_interrupted_is_in(const moda_interrupted *at, bool (*is_there)(uintptr_t pc));

#endif
