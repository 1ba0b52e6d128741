/* SPDX-License-Identifier: MIT
 *
 * deltas.c - counts at sites, gathered by thread.
 *
 *   moda_site_count_* --> the thread's delta for the site (a set of two entries, by the site's ref)
 *                          | another site wants the entry, or the thread ends
 *                          v
 *                         the site's own counts, under its counts_lock
 *
 * (Where samples are rare a thread has no deltas, and counts at the site.)
 *
 * A hot site is so no shared cache line: a count costs its thread a dozen plain adds on lines of its own. A
 * delta is guarded by its seq (odd while it changes); an entry leaves for its site with both locked in the
 * order site, delta, so a reader who sees the same counts_lock before and after has every figure once.
 *
 * Laws
 *   1. site + deltas = all that was counted, for each figure, whoever holds it.
 *   2. only the owner changes a delta; only who holds counts_lock changes a site's counts.
 *   3. live at the heap's peak: before live figures change, they are saved if their at_peak_epoch is not the
 *      heap's. A peak is noted (its epoch raised) before anything of what follows it is counted. What has
 *      an old epoch has not changed since the peak.
 *   4. a site's own peak is looked for before each fall: live bytes are highest just before one. With one
 *      thread it is exact; with several, deltas that are not yet added are not seen by each other.
 *   5. counting never waits for ever: where a site's lock is not to be had (its holder was interrupted by this
 *      very code), the count is made without it.
 *   6. a fork finds no site half changed: it waits until nobody is at one (shard->is_at_site), and who comes to one then
 *      waits for it. A child would have counts that are in both, site and delta, or in neither.
 *
 * Why 2048 entries: python3 comes by so many sites that of 512 each fourth malloc or free had to change one (2.41
 * times plain's time instead of 2.29); 8192 are no better. They are 384 KiB of the region, resident as far as they are
 * used, and with the threads' memos take at most half of it: of many threads later ones have 512, then 64, then none. The
 * victim among two is chosen by the parity of one's seq: as good as chance, and free.
 */
#include "site/count.h"

#include "os/os.h"
#include "region/region.h"
#include "sample/sampler.h"
#include "shard/shard.h"

#include <string.h>

#define RARE_BYTES (UINT64_C(64) << 10)
#define ENTRIES_SAMPLING 64u
#define ENTRIES_EVERY_SPARING 512u
#define ENTRIES_EVERY 2048u
#define THREADS_EVERY 16u /* for so many more there must be room */
#define THREADS_EVERY_SPARING 4u
#define YIELDS 10000u /* some milliseconds, where the core is free */
#define WAIT_NS UINT64_C(1000000000)

#define load moda_load_relaxed
#define store moda_store_relaxed

/* ---- time: which lives are short ---- */

uint64_t moda_site_short_lived_ticks;
uint64_t moda_site_next_calibration;
uint64_t moda_site_lives_timed = MODA_LIVES_ALL;

MODA_COLD static void calibrate(uint64_t now_ticks) {
    const moda_region_header *header = moda_region();
    const uint64_t ticks = moda_ticks() - header->start_ticks;
    const uint64_t ns = moda_os_monotonic_ns() - header->start_monotonic_ns;
    if (ns == 0) {
        return;
    }
    const double in_ticks = (double)header->short_lived_ns * ((double)ticks / (double)ns);
    store(&moda_site_short_lived_ticks, in_ticks < 0x1p63 ? (uint64_t)in_ticks : UINT64_MAX);
    store(&moda_site_next_calibration, now_ticks + ticks);
}

/* ---- the arithmetic: on a delta's or a site's counts ---- */

MODA_INLINE void add_signed(int64_t *word, int64_t n) {
    store(word, load(word) + n);
}

/* Takes into `c` a peak of `above` bytes over what is live there now. */
MODA_INLINE void take_peak(moda_site_counts *c, int64_t above_bytes, int64_t above_count) {
    const int64_t bytes = moda_site_live_bytes(c) + above_bytes;
    if (bytes > load(&c->peak_bytes)) {
        store(&c->peak_bytes, bytes);
        store(&c->peak_count, moda_site_live_count(c) + above_count);
    }
}

/* Adds the delta `d` to `c`. The two peaks first: they stand on what is live before. */
static void add_counts(moda_site_counts *c, const moda_site_counts *d, uint64_t epoch) {
    if (load(&c->at_peak_epoch) != epoch) {
        store(&c->at_peak_count, moda_site_live_count(c));
        store(&c->at_peak_bytes, moda_site_live_bytes(c));
        store(&c->at_peak_requested, moda_site_live_requested(c));
        store(&c->at_peak_epoch, epoch);
    }
    const bool has_peak = d->at_peak_epoch == epoch;
    add_signed(&c->at_peak_count, has_peak ? d->at_peak_count : moda_site_live_count(d));
    add_signed(&c->at_peak_bytes, has_peak ? d->at_peak_bytes : moda_site_live_bytes(d));
    add_signed(&c->at_peak_requested, has_peak ? d->at_peak_requested : moda_site_live_requested(d));
    take_peak(c, d->peak_bytes, d->peak_count);
    take_peak(c, moda_site_live_bytes(d), moda_site_live_count(d));
    moda_own_add(&c->alloc_samples, d->alloc_samples);
    moda_own_add(&c->alloc_count, d->alloc_count);
    moda_own_add(&c->alloc_bytes, d->alloc_bytes);
    moda_own_add(&c->alloc_requested, d->alloc_requested);
    moda_own_add(&c->free_samples, d->free_samples);
    moda_own_add(&c->free_count, d->free_count);
    moda_own_add(&c->free_bytes, d->free_bytes);
    moda_own_add(&c->free_requested, d->free_requested);
    moda_own_add(&c->lifetime_count, d->lifetime_count);
    store(&c->lifetime_sum, moda_site_add_lives(load(&c->lifetime_sum), d->lifetime_sum));
    moda_own_add(&c->short_lived_count, d->short_lived_count);
    moda_own_add(&c->remote_free_count, d->remote_free_count);
    moda_own_add(&c->moved_count, d->moved_count);
    if (d->lifetime_min < load(&c->lifetime_min)) {
        store(&c->lifetime_min, d->lifetime_min);
    }
    if (d->lifetime_max > load(&c->lifetime_max)) {
        store(&c->lifetime_max, d->lifetime_max);
    }
}

/* ---- a site's lock ---- */

/* What this thread has locked, or is about to lock, and what the lock then holds: at place 0 with a shard of its own, at
 * the next ones in handlers that have interrupted that, and each other. */
enum { PLACES = 4, NOT_LOCKED = -1 };
typedef struct note {
    moda_site *site; /* or NULL */
    uint32_t word;
} note;
static MODA_TLS struct {
    int depth;             /* the next place */
    note note[PLACES + 1]; /* the last is for all handlers deeper than that, and is of no account */
} locked;

/* Who had it was left, by longjmp out of a handler. If that was just before it took the lock, and another thread has it,
 * that one goes on without: as where law 5 has it. */
static void let_go(note *of) {
    uint32_t word = of->word;
    if (of->site != NULL) {
        __atomic_compare_exchange_n(&of->site->counts_lock, &word, word + 1, false, __ATOMIC_RELEASE,
                                    __ATOMIC_RELAXED);
        of->site = NULL;
    }
}

static int next_place(void) {
    return locked.depth < PLACES ? locked.depth : PLACES;
}

/* Its place; NOT_LOCKED if it was not to be had in some milliseconds (law 5). */
static int lock_site(moda_site *site, int place) {
    moda_os_wait wait = {0};
    note *mine = &locked.note[place];
    locked.depth = place + 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (moda_unlikely(mine->site != NULL) && place < PLACES) {
        let_go(mine); /* of a handler that was left into another one */
    }
    do {
        uint32_t seq = load(&site->counts_lock);
        if ((seq & 1) == 0) {
            mine->word = seq + 1;
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
            mine->site = site;
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
            if (__atomic_compare_exchange_n(&site->counts_lock, &seq, seq + 1, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED)) {
                __atomic_thread_fence(__ATOMIC_RELEASE);
                return place;
            }
            mine->site = NULL;
        }
    } while (moda_os_wait_on(&wait, YIELDS, WAIT_NS));
    locked.depth = place;
    return NOT_LOCKED;
}

static void unlock_site(moda_site *site, int place) {
    if (place != NOT_LOCKED) {
        /* Open, even if somebody has let it go meanwhile. */
        moda_store_release(&site->counts_lock, (load(&site->counts_lock) | 1) + 1);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        locked.note[place].site = NULL;
        for (int i = place + 1; moda_unlikely(i < locked.depth) && i < PLACES; i++) {
            let_go(&locked.note[i]); /* of a handler that was left into one that is at its end */
        }
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        locked.depth = place;
    }
}

/* ---- at a site, or waiting for a fork ---- */

static moda_shard *forking; /* of the thread that is about to fork; the orphan if it has none */

MODA_INLINE bool is_own(const moda_shard *shard) {
    return shard != NULL && shard->state != MODA_SLOT_ORPHAN;
}

/* After lock_site(), whose exchange orders this behind what is_at_site was set to: whoever sets `forking` sees that, or is
 * seen here. */
MODA_INLINE bool may_stay_at_site(const moda_shard *shard) {
    const moda_shard *by = __atomic_load_n(&forking, __ATOMIC_SEQ_CST);
    return moda_likely(by == NULL) || by == shard;
}

MODA_COLD static int wait_for_fork(moda_shard *shard, moda_site *site, int place) {
    moda_os_wait wait = {0};
    bool goes_on = true;
    while (goes_on && !may_stay_at_site(shard)) {
        unlock_site(site, place);
        moda_store_release(&shard->is_at_site, 0);
        goes_on = moda_os_wait_on(&wait, MODA_FORK_YIELDS, MODA_FORK_NS);
        store(&shard->is_at_site, 1);
        place = lock_site(site, 0);
    }
    return place;
}

MODA_INLINE int enter_site(moda_shard *shard, moda_site *site) {
    if (!is_own(shard)) {
        return lock_site(site, next_place());
    }
    store(&shard->is_at_site, 1);
    const int place = lock_site(site, 0);
    return moda_likely(may_stay_at_site(shard)) ? place : wait_for_fork(shard, site, place);
}

MODA_INLINE void leave_site(moda_shard *shard, moda_site *site, int place) {
    unlock_site(site, place);
    if (is_own(shard)) {
        moda_store_release(&shard->is_at_site, 0);
    }
}

/* Threads that have lost their core in the middle are waited for; one that is held there by a handler, not for ever. */
void moda_site_hold_counts(void) {
    moda_os_wait wait = {0};
    moda_shard *mine = moda_shard_mine();
    __atomic_store_n(&forking, mine != NULL ? mine : moda_shard_orphan, __ATOMIC_SEQ_CST);
    const uint32_t count = moda_load_relaxed(&moda_region()->slot_count);
    for (uint32_t i = 0; i < count; i++) {
        const moda_shard *shard = moda_registry_slot(i);
        while (shard != NULL && shard != mine && __atomic_load_n(&shard->is_at_site, __ATOMIC_SEQ_CST) != 0
               && moda_os_wait_on(&wait, MODA_FORK_YIELDS, WAIT_NS)) {
        }
    }
}

void moda_site_let_counts_go(void) {
    moda_store_release(&forking, NULL);
}

/* ---- a thread's deltas ---- */

static void clear(moda_site_delta *delta, moda_ref site) {
    moda_site_counts *c = &delta->counts;
    store(&delta->site, site);
    uint64_t *word = (uint64_t *)(void *)c;
    for (size_t i = 0; i < sizeof *c / sizeof *word; i++) {
        store(&word[i], 0);
    }
    store(&c->lifetime_min, UINT64_MAX);
}

/* Without the lock: a hint, of one word. */
static bool is_young(const moda_site *site) {
    return load(&site->counts.alloc_samples) < moda_site_lives_timed;
}

/* The entry's figures go to their site; then it is `next`'s, or empty. */
static void evict(moda_shard *shard, moda_site_delta *delta, moda_ref next) {
    moda_site *site = moda_region_at(delta->site);
    const int place = site != NULL ? enter_site(shard, site) : NOT_LOCKED;
    const uint32_t seq = moda_site_begin_change(delta);
    if (site != NULL) {
        add_counts(&site->counts, &delta->counts, load(&moda_region()->peak_epoch));
    }
    clear(delta, next);
    const bool is_old = next != 0 && !is_young(moda_region_at(next));
    moda_site_end_change(delta, (seq & ~MODA_DELTA_IS_OLD) | (is_old ? MODA_DELTA_IS_OLD : 0));
    if (site != NULL) {
        leave_site(shard, site, place);
    }
}

void moda_site_flush(moda_shard *shard) {
    moda_delta_cache *cache = moda_region_at(shard->deltas);
    for (uint32_t i = 0; cache != NULL && i < cache->entries; i++) {
        if (cache->delta[i].site != 0) {
            evict(shard, &cache->delta[i], 0);
        }
    }
}

void moda_site_recover(moda_shard *shard) {
    for (int i = 0; i < PLACES; i++) {
        let_go(&locked.note[i]);
    }
    locked.depth = 0;
    moda_store_release(&shard->is_at_site, 0);
    moda_delta_cache *cache = moda_region_at(shard->deltas);
    for (uint32_t i = 0; cache != NULL && i < cache->entries; i++) {
        if ((load(&cache->delta[i].seq) & 1) != 0) {
            moda_site_end_change(&cache->delta[i], load(&cache->delta[i].seq));
        }
    }
}

static uint32_t entries_wanted(const moda_shard *shard) {
    const uint64_t left = moda_region_left_for_speed() / sizeof(moda_site_delta);
    if (shard->sample_bytes != 1 || left < THREADS_EVERY_SPARING * ENTRIES_EVERY_SPARING) {
        return ENTRIES_SAMPLING;
    }
    return left < THREADS_EVERY * ENTRIES_EVERY ? ENTRIES_EVERY_SPARING : ENTRIES_EVERY;
}

/* One sample in 64 KiB or more: most find their delta taken by another site, and would touch, besides the site that is
 * to be counted at, a delta of three lines and the site that it leaves for. No site is so hot. */
static bool are_samples_rare(const moda_shard *shard) {
    return shard->sample_bytes == 0 || shard->sample_bytes >= RARE_BYTES;
}

/* The shard's cache: made at its first sample, made anew, larger, where every allocation is now to be counted; NULL if
 * samples are rare, or there is no room. */
static moda_delta_cache *provide_cache(moda_shard *shard) {
    if (!moda_region_has(shard)) { /* readers find deltas by the region's shards */
        return NULL;
    }
    moda_delta_cache *cache = moda_region_at(shard->deltas);
    if (cache != NULL ? cache->entries > ENTRIES_SAMPLING || shard->sample_bytes != 1
                      : are_samples_rare(shard)) {
        return cache;
    }
    const uint32_t entries = entries_wanted(shard);
    if (cache != NULL && entries <= cache->entries) {
        return cache;
    }
    moda_delta_cache *larger =
        moda_region_alloc_for_speed(sizeof *larger + entries * sizeof larger->delta[0]);
    if (larger == NULL) {
        return cache;
    }
    larger->entries = entries;
    moda_site_flush(shard);
    moda_store_release(&shard->deltas, moda_region_ref(larger));
    return larger;
}

MODA_COLD static moda_site_delta *take_entry(moda_shard *shard, moda_ref site) {
    moda_delta_cache *cache = provide_cache(shard);
    if (cache == NULL) {
        return NULL;
    }
    moda_site_delta *set = moda_site_set_of(cache, site);
    moda_site_delta *entry = &set[set[0].site == 0 ? 0 : set[1].site == 0 ? 1 : (set[0].seq >> 1) & 1];
    evict(shard, entry, site);
    return entry;
}

/* The same, or a new one; NULL: count at the site. */
static moda_site_delta *provide_delta(moda_shard *shard, const moda_site *site) {
    moda_site_delta *delta = moda_site_find_delta(shard, moda_region_ref(site));
    if (delta != NULL || !is_own(shard)) {
        return delta;
    }
    return take_entry(shard, moda_region_ref(site));
}

/* ---- counting: the common case is a leaf, all else a tail call ---- */

typedef enum event { EVENT_ALLOC, EVENT_FREE, EVENT_MOVED } event;

static void count(moda_site_counts *c, event what, const moda_sample *sample, const moda_sample_end *end) {
    switch (what) {
    case EVENT_ALLOC: moda_site_add_alloc(c, sample); break;
    case EVENT_FREE: moda_site_add_free(c, sample, end); break;
    case EVENT_MOVED:
        moda_site_add_leaving(c, sample);
        moda_own_add(&c->moved_count, sample->weight_fixed);
        break;
    }
}

MODA_COLD static void count_slow(moda_shard *shard, moda_site *site, event what, const moda_sample *sample,
                                 const moda_sample_end *end) {
    if (what == EVENT_FREE && moda_site_is_calibration_due(end)) {
        calibrate(end->now_ticks);
    }
    moda_site_delta *delta = provide_delta(shard, site);
    if (delta != NULL) {
        const uint32_t seq = moda_site_begin_change(delta);
        count(&delta->counts, what, sample, end);
        moda_site_end_change(delta, seq);
        return;
    }
    const int place = enter_site(shard, site);
    count(&site->counts, what, sample, end);
    leave_site(shard, site, place);
}

moda_born moda_site_begin_life(const moda_shard *shard, const moda_site *site) {
    if (shard->sample_bytes != 1 || shard->state == MODA_SLOT_ORPHAN) {
        return moda_ticks();
    }
    const moda_site_delta *delta = moda_site_find_delta(shard, moda_region_ref(site));
    if (delta != NULL) {
        return moda_site_begin_life_at(shard, delta);
    }
    if (is_young(site) || !moda_life_is_chosen(shard->random, shard->samples)) {
        return is_young(site) ? moda_ticks() : MODA_BORN_UNTIMED;
    }
    return moda_ticks() | MODA_BORN_FOR_MANY;
}

void moda_site_count_alloc(moda_shard *shard, moda_site *site, const moda_sample *sample) {
    if (moda_unlikely(!moda_site_try_count_alloc(shard, moda_region_ref(site), sample))) {
        count_slow(shard, site, EVENT_ALLOC, sample, NULL);
    }
}

void moda_site_count_free(moda_shard *shard, moda_site *site, const moda_sample *sample,
                          const moda_sample_end *end) {
    if (moda_unlikely(!moda_site_try_count_free(shard, moda_region_ref(site), sample, end))) {
        count_slow(shard, site, EVENT_FREE, sample, end);
    }
}

void moda_site_count_moved(moda_shard *shard, moda_site *site, const moda_sample *sample) {
    count_slow(shard, site, EVENT_MOVED, sample, NULL);
}

void moda_site_note_sample(moda_shard *shard, uint8_t walk_end, const moda_sample *sample) {
    if (moda_likely(shard->state != MODA_SLOT_ORPHAN)) {
        moda_site_note_own_sample(shard, walk_end, sample);
        return;
    }
    (void)moda_add_relaxed(&shard->samples, 1);
    (void)moda_add_relaxed(&shard->walks[walk_end], 1);
    (void)moda_add_relaxed(&shard->size_samples[moda_site_size_class(sample->size)], sample->weight_fixed);
}

/* ---- reading ---- */

/* Word by word: each is whole, and the thread sanitizer sees what is meant. */
static void copy_counts(moda_site_counts *to, const moda_site_counts *from) {
    uint64_t *out = (uint64_t *)(void *)to;
    const uint64_t *in = (const uint64_t *)(const void *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *out; i++) {
        out[i] = load(&in[i]);
    }
}

/* Adds one delta. False if it was being changed. */
static bool add_delta(moda_site_counts *counts, const moda_site_delta *delta, moda_ref ref, uint64_t epoch) {
    moda_site_counts copy;
    const uint32_t seq = moda_load_acquire(&delta->seq);
    const bool is_its = load(&delta->site) == ref;
    if (is_its) {
        copy_counts(&copy, &delta->counts);
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (is_its) {
        add_counts(counts, &copy, epoch);
    }
    return (seq & 1) == 0 && load(&delta->seq) == seq;
}

static bool add_deltas(moda_site_counts *counts, moda_ref ref, uint64_t epoch) {
    bool is_steady = true;
    const moda_shard_block *block = moda_region_at(moda_load_acquire(&moda_region()->shard_blocks));
    for (; block != NULL; block = moda_region_at(moda_load_acquire(&block->next))) {
        for (uint32_t i = 0; i < block->count; i++) {
            moda_delta_cache *cache = moda_region_at(moda_load_acquire(&block->shard[i].deltas));
            if (cache != NULL) {
                const moda_site_delta *set = moda_site_set_of(cache, ref);
                is_steady = add_delta(counts, &set[0], ref, epoch) && is_steady;
                is_steady = add_delta(counts, &set[1], ref, epoch) && is_steady;
            }
        }
    }
    return is_steady;
}

/* Where a peak was noted meanwhile, what was not yet read may have changed since: its live figures are of neither. */
static bool read_once(const moda_site *site, moda_site_counts *counts) {
    const uint32_t seq = moda_load_acquire(&site->counts_lock);
    const uint64_t epoch = moda_load_acquire(&moda_region()->peak_epoch);
    copy_counts(counts, &site->counts);
    if (counts->at_peak_epoch != epoch) {
        counts->at_peak_count = moda_site_live_count(counts);
        counts->at_peak_bytes = moda_site_live_bytes(counts);
        counts->at_peak_requested = moda_site_live_requested(counts);
        counts->at_peak_epoch = epoch;
    }
    take_peak(counts, 0, 0);
    const bool is_steady = add_deltas(counts, moda_region_ref(site), epoch);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return is_steady && (seq & 1) == 0 && load(&site->counts_lock) == seq
           && load(&moda_region()->peak_epoch) == epoch;
}

bool moda_site_read(const moda_site *site, moda_site_counts *counts) {
    moda_os_wait wait = {0};
    do {
        if (read_once(site, counts)) {
            return true;
        }
        /* The writer may have lost its core in the middle of a change. */
    } while (moda_os_wait_on(&wait, YIELDS, WAIT_NS));
    return false;
}

bool moda_site_deltas_are_valid(const moda_shard *shard) {
    moda_delta_cache *cache = moda_region_at(shard->deltas);
    for (uint32_t i = 0; cache != NULL && i < cache->entries; i++) {
        const moda_site_delta *delta = &cache->delta[i];
        if ((delta->seq & 1) != 0) {
            return false;
        }
        if (delta->site != 0) {
            const moda_site_delta *set = moda_site_set_of(cache, delta->site);
            const bool is_twice = set[0].site == set[1].site;
            if ((delta != &set[0] && delta != &set[1]) || is_twice) {
                return false;
            }
        }
    }
    return true;
}
