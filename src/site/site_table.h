/* SPDX-License-Identifier: MIT
 *
 * site_table.h - gives each distinct call stack a record and a small number, once.
 *
 * hot/slow.c asks while a sampled malloc is in flight; visit.c and the report library read at any time.
 * See site_table.c for the structure and its laws.
 */
#ifndef MODA_SITE_SITE_TABLE_H
#define MODA_SITE_SITE_TABLE_H

#include "base/compiler.h"
#include "region/layout.h"
#include "unwind/unwind.h"

/* Once, when the region is there: the table with its first buckets (rounded up to a power of two, but no more than an
 * eighth of the region), and the overflow site. False if the region has no room even for that. */
bool moda_site_table_create(uint64_t buckets);

/* What one thread remembers between two stacks: the hash of its last one by prefixes, and where it found the
 * last few hundred. Zeroed memory is the initial state; one thread's at a time. About 4.3 KiB. */
typedef struct moda_site_thread moda_site_thread;
size_t moda_site_thread_size(uint32_t frames_max);

/* The site of a stack, made if it is new; the overflow site where there is no room for it (counted in
 * shard->dropped), or no frame. Never NULL.
 * thread: NULL, or the memory that was given for each earlier walk with the same moda_unwind_thread: its
 * last stack must be that of the walker, or reused frames would get the hash of others. Where a walk
 * was made and not interned, call moda_site_thread_forget.
 * Takes a lock only for a new stack; not to be called from a signal handler that interrupted it. */
moda_site *moda_site_intern(moda_shard *shard, moda_site_thread *thread, const moda_walk *walk,
                            const uint64_t *frames);
void moda_site_thread_forget(moda_site_thread *thread);

moda_site *moda_site_overflow(void);

/* Around fork: no thread is in the middle of an insert; in the child (after moda_region_fork_child) the
 * buckets are linked anew from the list of sites, and locks of threads that are no more are opened. */
void moda_site_fork_prepare(void);
void moda_site_fork_parent(void);
void moda_site_fork_child(void);

/* The laws, walked; for tests, while nobody inserts. */
bool moda_site_table_is_valid(void);

#endif
