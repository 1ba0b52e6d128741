/* SPDX-License-Identifier: MIT
 *
 * count.h - what every recorded malloc and free counts: inlined into hot/track.inc.
 *
 * The common case alone, in which the calling thread has a delta for the site already: a leaf of some thirty
 * instructions. Whoever gets false calls the function of the same name in deltas.h, which does the rest. Laws: deltas.c.
 */
#ifndef MODA_SITE_COUNT_H
#define MODA_SITE_COUNT_H

#include "region/region.h"
#include "sample/sampler.h"
#include "site/deltas.h"

/* MOD_ALLOC_SHORT_LIVED in ticks, and when to work it out anew: each time the process has twice the age, and so
 * knows the speed of the ticks twice as well. Any thread; torn between the two it is as good. */
extern MODA_HIDDEN uint64_t moda_site_short_lived_ticks;
extern MODA_HIDDEN uint64_t moda_site_next_calibration;

/* ---- the arithmetic: on a delta's or a site's counts ---- */

MODA_INLINE int64_t moda_site_live_count(const moda_site_counts *c) {
    return (int64_t)(moda_load_relaxed(&c->alloc_count) - moda_load_relaxed(&c->free_count));
}

MODA_INLINE int64_t moda_site_live_bytes(const moda_site_counts *c) {
    return (int64_t)(moda_load_relaxed(&c->alloc_bytes) - moda_load_relaxed(&c->free_bytes));
}

MODA_INLINE int64_t moda_site_live_requested(const moda_site_counts *c) {
    return (int64_t)(moda_load_relaxed(&c->alloc_requested) - moda_load_relaxed(&c->free_requested));
}

/* Law 3. */
MODA_INLINE void moda_site_keep_at_peak(moda_site_counts *c) {
    const uint64_t epoch = moda_load_relaxed(&moda_region()->peak_epoch);
    if (moda_unlikely(moda_load_relaxed(&c->at_peak_epoch) != epoch)) {
        moda_store_relaxed(&c->at_peak_count, moda_site_live_count(c));
        moda_store_relaxed(&c->at_peak_bytes, moda_site_live_bytes(c));
        moda_store_relaxed(&c->at_peak_requested, moda_site_live_requested(c));
        moda_store_relaxed(&c->at_peak_epoch, epoch);
    }
}

/* Law 4. */
MODA_INLINE void moda_site_keep_own_peak(moda_site_counts *c) {
    const int64_t live = moda_site_live_bytes(c);
    if (live > moda_load_relaxed(&c->peak_bytes)) {
        moda_store_relaxed(&c->peak_bytes, live);
        moda_store_relaxed(&c->peak_count, moda_site_live_count(c));
    }
}

/* A sample times its weight. In locals, since the compiler can't know that counts don't lie over it. */
typedef struct moda_weighed {
    uint64_t weight_fixed, bytes, requested;
} moda_weighed;

MODA_INLINE moda_weighed moda_site_weigh(const moda_sample *sample) {
    moda_weighed w = {
        .weight_fixed = sample->weight_fixed, .bytes = sample->size, .requested = sample->requested};
    if (moda_unlikely(w.weight_fixed != MODA_COUNT_ONE)) {
        w.bytes = moda_sampler_weigh(w.weight_fixed, w.bytes);
        w.requested = moda_sampler_weigh(w.weight_fixed, w.requested);
    }
    return w;
}

MODA_INLINE void moda_site_add_alloc(moda_site_counts *c, const moda_sample *sample) {
    const moda_weighed w = moda_site_weigh(sample);
    moda_site_keep_at_peak(c);
    moda_own_increment(&c->alloc_samples);
    moda_own_add(&c->alloc_count, w.weight_fixed);
    moda_own_add(&c->alloc_bytes, w.bytes);
    moda_own_add(&c->alloc_requested, w.requested);
}

MODA_INLINE void moda_site_add_leaving(moda_site_counts *c, const moda_sample *sample) {
    const moda_weighed w = moda_site_weigh(sample);
    moda_site_keep_at_peak(c);
    moda_site_keep_own_peak(c);
    moda_own_increment(&c->free_samples);
    moda_own_add(&c->free_count, w.weight_fixed);
    moda_own_add(&c->free_bytes, w.bytes);
    moda_own_add(&c->free_requested, w.requested);
}

/* ---- which lives are timed ----
 *
 * The clock costs 13 to 19 ns, as much as all else that a malloc or a free of the short way does besides the walk (on
 * virtual machines of two makers), and a life needs it twice. So where every allocation is recorded each life is timed at
 * a site only until MODA_LIVES_ALL blocks were born there; then one in MODA_LIVES_STRIDE, which counts as so many.
 * MOD_ALLOC_LIFETIMES=all has each of them timed.
 *
 *   estimate   The sum of (1/p) x over the lives that are chosen, each with the chance p, has the mean of the sum of x
 *              over all (Horvitz and Thompson 1952): of lives, of their lengths, of short ones. Its variance is
 *              (1/p - 1) x^2, summed. The mean life is the quotient of two such sums, which vary together: exact where
 *              all lives are equally long.
 *   chance     A hash of how many blocks the thread has recorded, and of its stream's seed: no address, clock or size goes
 *              in, so whether a life is chosen tells nothing about how long it will be, and no period of the program's
 *              meets one of the choice.
 *   each       How many blocks a site has is what its delta says, and its own counts where the delta was made anew: then
 *              MODA_DELTA_IS_OLD is in the delta's seq, so that an allocation still reads one cache line.
 */

/* In a delta's seq: of a site that had MODA_LIVES_ALL blocks when the delta began. (A seq that counts so far that it sets
 * or clears this bit belongs to a delta with more blocks than that.) */
#define MODA_DELTA_IS_OLD (UINT32_C(1) << 31)

MODA_INLINE bool moda_site_times_each(const moda_site_delta *delta) {
    return (moda_load_relaxed(&delta->seq) & MODA_DELTA_IS_OLD) == 0
           && moda_load_relaxed(&delta->counts.alloc_samples) < moda_site_lives_timed;
}

MODA_INLINE bool moda_life_is_chosen(uint64_t stream, uint64_t number) {
    uint64_t hash = (stream + number) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return hash >> (64 - MODA_LIVES_SHIFT) == 0;
}

/* Where every allocation is recorded. */
MODA_INLINE moda_born moda_site_begin_life_at(const moda_shard *shard, const moda_site_delta *delta) {
    if (moda_unlikely(moda_site_times_each(delta))) {
        return moda_ticks();
    }
    return moda_life_is_chosen(shard->random, shard->samples) ? moda_ticks() | MODA_BORN_FOR_MANY
                                                              : MODA_BORN_UNTIMED;
}

/* Ticks x weight. One of a few dozen bytes that stands for as many as 512 KiB hold, and has lived for days, is too much. */
MODA_INLINE uint64_t moda_site_weigh_life(uint64_t weight_fixed, uint64_t ticks) {
    const unsigned __int128 weighed =
        ((unsigned __int128)weight_fixed * ticks + MODA_COUNT_ONE / 2) / MODA_COUNT_ONE;
    return moda_likely(weighed <= UINT64_MAX) ? (uint64_t)weighed : UINT64_MAX;
}

MODA_INLINE void moda_site_add_lifetime(moda_site_counts *c, const moda_sample *sample,
                                        const moda_sample_end *end) {
    const uint64_t born_ticks = end->born & ~MODA_BORN_FOR_MANY;
    /* Cores' clocks may differ by a little: no life is shorter than nothing. */
    const uint64_t ticks = end->now_ticks > born_ticks ? end->now_ticks - born_ticks : 0;
    const uint64_t weight_fixed = sample->weight_fixed
                                  << (end->born >= MODA_BORN_FOR_MANY ? MODA_LIVES_SHIFT : 0);
    moda_own_add(&c->lifetime_count, weight_fixed);
    moda_store_relaxed(&c->lifetime_sum, moda_site_add_lives(moda_load_relaxed(&c->lifetime_sum),
                                                             moda_site_weigh_life(weight_fixed, ticks)));
    if (ticks < moda_load_relaxed(&c->lifetime_min)) {
        moda_store_relaxed(&c->lifetime_min, ticks);
    }
    if (ticks > moda_load_relaxed(&c->lifetime_max)) {
        moda_store_relaxed(&c->lifetime_max, ticks);
    }
    if (ticks < moda_load_relaxed(&moda_site_short_lived_ticks)) {
        moda_own_add(&c->short_lived_count, weight_fixed);
    }
}

MODA_INLINE void moda_site_add_free(moda_site_counts *c, const moda_sample *sample,
                                    const moda_sample_end *end) {
    moda_site_add_leaving(c, sample);
    if (end->born != MODA_BORN_UNTIMED) {
        moda_site_add_lifetime(c, sample, end);
    }
    if (moda_unlikely(end->is_remote)) {
        moda_own_add(&c->remote_free_count, sample->weight_fixed);
    }
}

/* ---- a thread's deltas ---- */

/* Odd whatever it was: one that a fork or a dead thread left odd is so taken up again. The value is handed
 * on to the end: reading it again there would wait for this store (3 ns of a pair at one hot site). */
MODA_INLINE uint32_t moda_site_begin_change(moda_site_delta *delta) {
    const uint32_t seq = moda_load_relaxed(&delta->seq) | 1u;
    moda_store_relaxed(&delta->seq, seq);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return seq;
}

MODA_INLINE void moda_site_end_change(moda_site_delta *delta, uint32_t seq) {
    moda_store_release(&delta->seq, seq + 1);
}

/* The set of two where a site's delta can be. */
MODA_INLINE moda_site_delta *moda_site_set_of(moda_delta_cache *deltas, moda_ref site) {
    return &deltas->delta[((site * UINT32_C(0x9e3779b1)) >> 16) & (deltas->entries - 2)];
}

/* The calling thread's delta for a site; NULL if there is none (yet). */
MODA_INLINE moda_site_delta *moda_site_find_delta(const moda_shard *shard, moda_ref site) {
    if (moda_unlikely(shard == NULL || shard->deltas == 0)) {
        return NULL;
    }
    moda_site_delta *set = moda_site_set_of(moda_region_at(shard->deltas), site);
    if (moda_likely(set[0].site == site)) {
        return &set[0];
    }
    return set[1].site == site ? &set[1] : NULL;
}

/* ---- a whole event ---- */

MODA_INLINE bool moda_site_is_calibration_due(const moda_sample_end *end) {
    return end->born != MODA_BORN_UNTIMED && end->now_ticks >= moda_load_relaxed(&moda_site_next_calibration);
}

MODA_INLINE uint32_t moda_site_size_class(uint64_t size) {
    const uint32_t class = size <= 1 ? 0 : 64 - (uint32_t)__builtin_clzll(size - 1);
    return class < MODA_SIZE_CLASSES ? class : MODA_SIZE_CLASSES - 1;
}

/* A sample in its thread's own shard's figures. */
MODA_INLINE void moda_site_note_own_sample(moda_shard *shard, uint8_t walk_end, const moda_sample *sample) {
    moda_own_increment(&shard->samples);
    moda_own_increment(&shard->walks[walk_end]);
    moda_own_add(&shard->size_samples[moda_site_size_class(sample->size)], sample->weight_fixed);
}

MODA_INLINE void moda_site_count_alloc_at(moda_site_delta *delta, const moda_sample *sample) {
    const uint32_t seq = moda_site_begin_change(delta);
    moda_site_add_alloc(&delta->counts, sample);
    moda_site_end_change(delta, seq);
}

MODA_INLINE void moda_site_count_free_at(moda_site_delta *delta, const moda_sample *sample,
                                         const moda_sample_end *end) {
    const uint32_t seq = moda_site_begin_change(delta);
    moda_site_add_free(&delta->counts, sample, end);
    moda_site_end_change(delta, seq);
}

MODA_INLINE bool moda_site_try_count_alloc(const moda_shard *shard, moda_ref site,
                                           const moda_sample *sample) {
    moda_site_delta *delta = moda_site_find_delta(shard, site);
    if (moda_unlikely(delta == NULL)) {
        return false;
    }
    moda_site_count_alloc_at(delta, sample);
    return true;
}

MODA_INLINE bool moda_site_try_count_free(const moda_shard *shard, moda_ref site, const moda_sample *sample,
                                          const moda_sample_end *end) {
    moda_site_delta *delta = moda_site_find_delta(shard, site);
    if (moda_unlikely(delta == NULL || moda_site_is_calibration_due(end))) {
        return false;
    }
    moda_site_count_free_at(delta, sample, end);
    return true;
}

#endif
