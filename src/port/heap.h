/* SPDX-License-Identifier: MIT
 *
 * heap.h - the allocator underneath, in our words: what any room may ask of it.
 *
 * The implementation is heap_inline.h, over mimalloc's internals, in the one translation unit that holds
 * mimalloc (hot/unit.c). Blocks from here are not counted.
 */
#ifndef MODA_PORT_HEAP_H
#define MODA_PORT_HEAP_H

#include "base/compiler.h"

#include <pthread.h>

/* A thread's heap. */
typedef struct mi_heap_s moda_heap;
/* The 64 KiB or more that blocks of one size come from. mimalloc's word, used in port/ and hot/ alone. */
typedef struct mi_page_s moda_page;

/* "2.0.9" */
const char *moda_heap_version(void);

/* Bytes that the heap has from the system now, live or free, in what of it can be found: it can be less than is live.
 * Microseconds; 0.4 ms for a heap of gigabytes. */
size_t moda_heap_committed_bytes(void);
/* The same, where `live` bytes are in use: those are from the system, wherever they lie. */
size_t moda_heap_system_bytes(size_t live);

/* Once, before the first block. */
void moda_heap_begin_process(void);

/* The key whose destructor gives up a thread's heap. */
pthread_key_t moda_heap_thread_key(void);

/* In a forked child. */
void moda_heap_after_fork(void);

/* Gives unused memory of a heap of this thread back to the system: pages that no longer are needed. force: all that can be
 * found, slowly. */
void moda_heap_collect(moda_heap *heap, bool force);

#endif
