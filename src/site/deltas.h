/* SPDX-License-Identifier: MIT
 *
 * deltas.h - what happens to a site's blocks, counted where the thread that counts meets no other.
 *
 * hot/slow.c counts each tracked block at its birth, its death, and when realloc takes it elsewhere. See
 * deltas.c for how, and for the laws. Every function may be called with a shard of the calling thread, with
 * the orphan shard, or with NULL: the latter two count at the site itself, under its lock. NULL is for
 * who may have interrupted another of these calls on this thread (a signal handler).
 */
#ifndef MODA_SITE_DELTAS_H
#define MODA_SITE_DELTAS_H

#include "base/compiler.h"
#include "region/layout.h"

/* How many of a site's lives are timed before it is one in MODA_LIVES_STRIDE: MODA_LIVES_ALL, or more than there are. */
extern MODA_HIDDEN uint64_t moda_site_lives_timed;

/* A tracked block. At its end it must be described as it was at its birth, or the site would keep a rest. */
typedef struct moda_sample {
    uint64_t weight_fixed; /* allocations that it stands for, x 65536: moda_sampler_weight_fixed */
    uint64_t size;         /* block size */
    uint64_t requested;
} moda_sample;

/* When a block was born, as its header keeps it: the clock's ticks; MODA_BORN_FOR_MANY besides, where its life stands
 * for MODA_LIVES_STRIDE lives; or MODA_BORN_UNTIMED. */
typedef uint64_t moda_born;
#define MODA_BORN_UNTIMED UINT64_C(0)
#define MODA_BORN_FOR_MANY (UINT64_C(1) << 63)

/* How a block's life ended. */
typedef struct moda_sample_end {
    moda_born born;
    uint64_t now_ticks; /* of no account where it is untimed */
    bool is_remote;     /* freed on another thread than it was allocated on */
} moda_sample_end;

/* A block begins its life at `site`: when, where its life is to be timed. Before it is counted there. */
moda_born moda_site_begin_life(const moda_shard *shard, const moda_site *site);

/* The order matters for peaks: note the heap's peak first (moda_shard_note_peak), then count the free; for a
 * realloc: the move away from the old site, then the alloc at the new one. */
void moda_site_count_alloc(moda_shard *shard, moda_site *site, const moda_sample *sample);
void moda_site_count_free(moda_shard *shard, moda_site *site, const moda_sample *sample,
                          const moda_sample_end *end);
/* realloc takes the block to another site (or to another size, or out of the samples): as a free, but no life
 * ends. */
void moda_site_count_moved(moda_shard *shard, moda_site *site, const moda_sample *sample);

/* A sample in the shard's own figures: samples, how its walk ended, its size class. Owner or orphan. */
void moda_site_note_sample(moda_shard *shard, uint8_t walk_end, const moda_sample *sample);

/* The thread ends: its deltas are added to their sites. */
void moda_site_flush(moda_shard *shard);

/* Around fork, under the registry's lock: from the one on no thread changes a site's counts, but the one that forks.
 * Bounded: a thread that does not come to an end with what it is at is not waited for longer than a second. */
void moda_site_hold_counts(void);
void moda_site_let_counts_go(void);

/* A signal handler has come in the middle of what the thread counts, it may be, and was left by longjmp: what it would have
 * held for ever, others get. What was being counted may be missing, or be there twice. */
void moda_site_recover(moda_shard *shard);

/* Site and all threads' deltas. Allocates nothing, takes no lock. True if they are of one moment; false where that was
 * not to be had in some milliseconds: a thread that died in the middle of a change, or that this one has
 * interrupted. Then they are nearly so. */
bool moda_site_read(const moda_site *site, moda_site_counts *counts);

/* For tests, while nobody counts: each delta is in its place, and none is being changed. */
bool moda_site_deltas_are_valid(const moda_shard *shard);

#endif
