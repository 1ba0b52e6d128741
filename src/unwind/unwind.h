/* SPDX-License-Identifier: MIT
 *
 * unwind.h - fills an array with return addresses, from inside malloc.
 *
 * Called from hot/slow.c when an allocation is sampled. A walker takes no lock, calls no libc function but
 * memcpy, memset, _dl_find_object and makecontext (coroutine.c), allocates nothing, and reads only the known
 * stack, unwind tables of mapped objects, and its own memory (from moda_unwind_set_memory's function). errno
 * stays as it is.
 *
 * The room's files: select.c frame_pointer.c tables.c cfi.c row.c row_cache.c stack.c
 * registers.c coroutine.c
 */
#ifndef MODA_UNWIND_UNWIND_H
#define MODA_UNWIND_UNWIND_H

#include "base/compiler.h"

/* The registers in the program's function that called us, just after that call returns: pc is the return
 * address, sp the stack pointer then (the CFA of our entry function), fp the frame pointer register. */
typedef struct moda_unwind_start {
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t fp;
} moda_unwind_start;

typedef enum moda_walker_id {
    MODA_UNWIND_AUTO = 0, /* tables, with a frame-pointer step through code that has none */
    MODA_UNWIND_FP = 1,
    MODA_UNWIND_TABLES = 2
} moda_walker_id;

typedef struct moda_walk {
    uint32_t count;  /* frames written */
    uint32_t reused; /* of these, the outermost ones taken over from the thread's last walk unchanged:
                              frames[count - reused .. count) are equal to the tail of the last walk */
    uint8_t end;     /* mod_alloc_walk_end */
    uint8_t guessed; /* frames found by a guess (at most 255) */
} moda_walk;

/* What one thread's walker keeps between walks: where its stack lies, and its last walk. Zeroed memory is
 * the initial state; the owner gives it back when the thread ends. Size is a few KiB. */
typedef struct moda_unwind_thread moda_unwind_thread;
size_t moda_unwind_thread_size(uint32_t frames_max);

/* Once, before the first walk: which walker, and how many frames at most. */
void moda_unwind_initialize(moda_walker_id walker_id, uint32_t frames_max);
const char *moda_unwind_walker_name(void); /* as in MOD_ALLOC_UNWIND */

/* Memory for the row cache comes from here (zeroed, never given back; NULL = no more). Set before the first
 * walk. */
typedef void *moda_unwind_memory(size_t bytes);
void moda_unwind_set_memory(moda_unwind_memory *memory);

/* Walks. frames has room for frames_max. thread may be NULL (then nothing is reused). Return addresses are
 * written as they are (not minus one), frames[0] = start->pc. A walk inside a walk of the same thread (in a
 * signal handler) reuses nothing, and later walks' `reused` does not refer to it. */
moda_walk moda_unwind(const moda_unwind_start *start, moda_unwind_thread *thread, uint64_t *frames);

/* An object may have been unmapped (ld.so freed its link_map, or dlclose returned): rows of it are no
 * longer believed. */
void moda_unwind_forget(void);

/* Whether there is a dynamic loader: the program's, or one that was told to run it (then AT_BASE is 0). */
bool moda_unwind_has_loader(void);

/* Around fork: no table of rows is made meanwhile, so that a copy of the memory has all that the child is led to. False:
 * one is just being made. Over is for the parent, unless it was false; and for the child in any case, where nobody is at
 * it any more. */
bool moda_unwind_fork_prepare(void);
void moda_unwind_fork_over(void);

/* Whether block is a link_map that a walk has met: free() asks, cheaply, for blocks of a likely size only.
 * True once for each link_map that dies: then call moda_unwind_forget. */
bool moda_unwind_knows_link_map(const void *block);

#endif
