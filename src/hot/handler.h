/* SPDX-License-Identifier: MIT
 *
 * handler.h - a signal handler that has interrupted our own code, and allocates: between entry/signals.c, which runs the
 * program's handlers, and hot/handler.inc.
 */
#ifndef MODA_HOT_HANDLER_H
#define MODA_HOT_HANDLER_H

#include "base/compiler.h"
#include "port/heap.h"
#include "region/layout.h"

/* What the thread had before a handler, in its caller's frame; and the stack pointers inside the handler: from low up to
 * high. */
typedef struct moda_handler_call {
    uintptr_t low, high;
    moda_heap *heap, *heap_aside;
    struct moda_lists *lists, *lists_aside;
    moda_shard *shard, *shard_aside;
    uint32_t depth;
    bool guard_was_held;
} moda_handler_call;

/* Whether the calling thread is in such a handler. */
bool moda_handler_is_running(void);

/* Whether a signal that came at this stack pointer has interrupted one: then its handler is one, too. It may run on another
 * stack. */
bool moda_handler_is_interrupted(uintptr_t sp);

/* In a forked child: what the parent's other threads were doing never goes on. */
void moda_handler_after_fork(void);

/* The thread ends, and so do the handlers that it is in: it has left them by pthread_exit or longjmp. */
void moda_handler_forget(void);

/* Around the program's handler: the thread's heap, its shard and what it keeps for samples are left alone meanwhile. A
 * handler that leaves by longjmp is noticed at the thread's next allocation. */
void moda_handler_enter(moda_handler_call *call);
void moda_handler_leave(const moda_handler_call *call);

#endif
