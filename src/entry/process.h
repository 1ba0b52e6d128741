/* SPDX-License-Identifier: MIT
 *
 * process.h - load, fork, thread end, exit.
 */
#ifndef MODA_ENTRY_PROCESS_H
#define MODA_ENTRY_PROCESS_H

#include "region/layout.h"
#include "base/compiler.h"

/* Once for the process, by its first allocation or by our constructor, whichever is first: options, region,
 * slots, keys, fork handlers. */
void moda_process_begin(void);

/* Our destructors shall run for the calling thread: the one behind that of mimalloc's, the one before it. */
void moda_process_watch_thread(moda_shard *shard);
bool moda_process_watch_lists(void); /* false: it cannot be */

/* In hot/attach.inc. */
void moda_detach_lists(void);
bool moda_detach(void);

/* In a child that moda_region_forked_unseen finds: one of a raw clone, of _Fork, which run no handlers. */
void moda_process_forked_unseen(void);

/* Now and then from a slow path: clocks, resident memory, timeline, a fork that nobody told us of. */
void moda_process_maintain(void);

/* How much the heap has from the system, for who reads the region: opens a file, 10 us to 0.4 ms. */
void moda_process_note_heap(void);

#endif
