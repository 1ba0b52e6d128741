/* SPDX-License-Identifier: MIT
 *
 * peak.c - the highest balance of the process, and of each open window.
 *
 * A thread's shard knows its own highest balance exactly (the mark). With one thread that is the
 * process's, but for what other slots hold, which then stands still: so the peak is exact. With several
 * threads marks of different moments cannot be added; instead each thread makes its balance known
 * when it has allocated MODA_PUBLISH_BYTES, unless it is within MODA_LEVEL_BYTES of what is known, and the sum of
 * the known balances, when it is above the peak by enough to matter, is confirmed by reading all shards (the known
 * balances are too high where a thread has since freed). What is read is never above what was live at some moment of the
 * reading: see totals.c. So the peak is never too high, and low by at most
 * (threads - 1) x MODA_VERIFY_BYTES + threads x (MODA_PUBLISH_BYTES + MODA_LEVEL_BYTES).
 *
 * What was read before a window opened or the peak was reset may be offered only after that, by a thread that lost its
 * core in between: the clock tells.
 *
 * A thread that is alone need not do so at each look: its mark has the peak. When another thread begins, its balance is
 * made known for it, and from then on it looks each time.
 *
 * No lock: a signal handler may allocate, and so come here, while its thread is in the middle of this.
 */
#include "shard/peak.h"
#include "shard/shard.h"

#include "os/os.h"
#include "region/region.h"

uint64_t moda_peak_clock;

/* Since when a peak counts: what was read when moda_peak_clock was lower is not for it. */
static const uint64_t not_yet = UINT64_MAX;
static uint64_t process_since;

/* The windows' peaks: bit i of window_mask is set while window i is open. */
static uint64_t window_mask;
static struct {
    moda_peak_mark mark;
    uint64_t since;
} window_peak[MOD_ALLOC_WINDOWS_MAX];

/* A level that the process has or had, and moda_peak_clock before it was looked for. */
typedef struct level {
    int64_t bytes;
    int64_t live;
    uint64_t clock;
} level;

static level level_of(const moda_totals *totals) {
    return (level){totals->balance, totals->live, totals->peak_clock};
}

/* `since` is looked at behind the old peak: if the peak begins anew after that, the exchange fails. */
static bool raise(int64_t *bytes, int64_t *live, const uint64_t *since, level to) {
    int64_t old = moda_load_acquire(bytes);
    while (to.bytes > old && to.clock >= moda_load_acquire(since)) {
        if (__atomic_compare_exchange_n(bytes, &old, to.bytes, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            moda_store_relaxed(live, to.live);
            return true;
        }
    }
    return false;
}

/* From now on it takes in what is read from now on; `lowest` is below any of that. */
static void begin_anew(int64_t *bytes, int64_t *live, uint64_t *since, int64_t lowest) {
    moda_store_release(since, not_yet);
    moda_store_relaxed(live, 0);
    moda_store_release(bytes, lowest);
    moda_store_release(since, __atomic_add_fetch(&moda_peak_clock, 1, __ATOMIC_ACQ_REL));
}

static void raise_process(level to) {
    moda_region_header *header = moda_region();
    if (raise(&header->peak_bytes, &header->peak_live, &process_since, to)) {
        moda_store_relaxed(&header->peak_ticks, moda_ticks());
        moda_add_relaxed(&header->peak_epoch, 1);
    }
}

/* Peak and windows take it in. */
static void offer(level to) {
    raise_process(to);
    for (uint64_t mask = moda_load_acquire(&window_mask); mask; mask &= mask - 1) {
        const int i = __builtin_ctzll(mask);
        raise(&window_peak[i].mark.bytes, &window_peak[i].mark.count, &window_peak[i].since, to);
    }
}

static void offer_totals(const moda_totals *totals) {
    if (totals->is_level) {
        offer(level_of(totals));
    }
}

/* The lowest level at which a new sum matters: the peak, or an open window's. */
static int64_t lowest_peak(void) {
    int64_t lowest = moda_load_relaxed(&moda_region()->peak_bytes);
    for (uint64_t mask = moda_load_relaxed(&window_mask); mask; mask &= mask - 1) {
        const int64_t peak = moda_load_relaxed(&window_peak[__builtin_ctzll(mask)].mark.bytes);
        lowest = peak < lowest ? peak : lowest;
    }
    return lowest;
}

/* The highest balance of a shard since its mark_epoch. The fence: who finds its balance above the mark, and that unmoved
 * afterwards, knows that nothing was freed in between. */
static moda_peak_mark high_of(const moda_shard *shard) {
    moda_peak_mark high = {moda_shard_mark(shard), moda_load_relaxed(&shard->mark_live)};
    if (moda_shard_is_above_mark(shard)) {
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        high = (moda_peak_mark){moda_shard_balance(shard), moda_shard_live(shard)};
    }
    const int64_t pending = moda_load_relaxed(&shard->pending.bytes);
    if (pending > high.bytes) {
        high = (moda_peak_mark){pending, moda_load_relaxed(&shard->pending.count)};
    }
    return high;
}

/* What all slots but the only thread's and the orphan's hold: it stands still while no thread comes or goes. */
static moda_peak_mark held_by_ended;

/* What is live besides the only thread's balance. Inlined: moda_shard_note_peak is a leaf then. */
MODA_INLINE int64_t bytes_of_others(void) {
    return moda_load_relaxed(&held_by_ended.bytes) + moda_shard_balance(moda_shard_orphan);
}

static moda_peak_mark others(void) {
    return (moda_peak_mark){
        .bytes = bytes_of_others(),
        .count = moda_load_relaxed(&held_by_ended.count) + moda_shard_live(moda_shard_orphan),
    };
}

static void note_others(const moda_shard *shard) {
    moda_totals totals;
    moda_totals_read(&totals);
    moda_store_relaxed(&held_by_ended.bytes,
                       totals.balance - moda_shard_balance(shard) - moda_shard_balance(moda_shard_orphan));
    moda_store_relaxed(&held_by_ended.count,
                       totals.live - moda_shard_live(shard) - moda_shard_live(moda_shard_orphan));
}

/* The process's high-water mark while this shard's thread was the only one. Anyone may ask: false where the owner is in
 * the middle of a change, or another thread has begun. The owner's mallocs and frees do no harm: one that frees from above
 * the mark moves that first. */
static bool read_solo_high(const moda_shard *shard, level *high) {
    enum { TRIES = 64, YIELDS = 500 };
    high->clock = moda_load_acquire(&moda_peak_clock);
    for (int i = 0; i < TRIES + YIELDS; i++) {
        const uint32_t before = moda_load_acquire(&shard->seq);
        const moda_peak_mark own = high_of(shard);
        const moda_peak_mark rest = others();
        high->bytes = own.bytes + rest.bytes;
        high->live = own.count + rest.count;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!(before & 1) && moda_load_relaxed(&shard->seq) == before) {
            return moda_shard_is_solo(shard);
        }
        if (shard == moda_shard_mine()) {
            return false; /* we have interrupted it */
        }
        if (i < TRIES) {
            moda_pause();
        } else {
            moda_os_yield();
        }
    }
    return false;
}

static MODA_NOINLINE void offer_solo(const moda_shard *shard) {
    level high;
    if (read_solo_high(shard, &high)) {
        offer(high);
    }
}

static void offer_sum(void) {
    moda_totals totals;
    moda_totals_read(&totals);
    offer_totals(&totals);
}

/* Where every allocation is recorded: of equal peaks within so many allocations the first one's time stands for all. A loop
 * of malloc and free at the peak then reads the clock each 16th time only. */
#define PEAK_TIME_SAMPLES 16u
static uint64_t peak_time_known_at; /* a number of the only thread's samples */

/* Marks are trusted from here on: what they were before came from a time with other threads. */
static void begin_solo(moda_shard *shard) {
    moda_shard_lower_mark(shard);
    moda_shard_store_mark(&shard->pending, (moda_peak_mark){.bytes = INT64_MIN});
    note_others(shard);
    moda_store_relaxed(&peak_time_known_at, moda_load_relaxed(&shard->samples) - PEAK_TIME_SAMPLES);
    moda_store_relaxed(&shard->mark_epoch, moda_load_relaxed(&moda_region()->solo_epoch));
}

/* A thread's balance made known for it; not over what it made known itself meanwhile: that is newer. */
static void publish_for(moda_shard *shard) {
    int64_t old = moda_load_acquire(&shard->published);
    moda_counts counts;
    moda_totals_of_shard(shard, &counts);
    const int64_t balance = moda_counts_balance(&counts);
    if (balance != old
        && __atomic_compare_exchange_n(&shard->published, &old, balance, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED)) {
        moda_add_relaxed(&moda_region()->published_sum, balance - old);
    }
}

/* Every thread's: frees on the fast path tell nobody. */
static void publish_others(void) {
    const uint32_t count = moda_load_acquire(&moda_region()->slot_count);
    for (uint32_t i = 1; i < count; i++) {
        moda_shard *shard = moda_registry_slot(i);
        if (shard) {
            publish_for(shard);
        }
    }
}

static void publish(moda_shard *shard, int64_t balance) {
    moda_region_header *header = moda_region();
    const int64_t old = __atomic_exchange_n(&shard->published, balance, __ATOMIC_RELAXED);
    const int64_t sum = moda_add_relaxed(&header->published_sum, balance - old) + balance - old;
    const uint32_t threads = moda_load_relaxed(&header->threads_now);
    if (threads > 1 && sum > lowest_peak() + (int64_t)(threads - 1) * MODA_VERIFY_BYTES) {
        publish_others();
        offer_sum();
    }
}

static void look_for_peak_solo(moda_shard *shard) {
    if (!moda_shard_is_solo(shard)) {
        begin_solo(shard);
    }
    if (high_of(shard).bytes + bytes_of_others() > lowest_peak()) {
        offer_solo(shard);
    }
}

void moda_shard_publish(moda_shard *shard) {
    publish(shard, moda_shard_balance(shard));
    if (moda_load_relaxed(&moda_region()->threads_now) == 1) {
        look_for_peak_solo(shard);
    }
}

/* A thread whose balance stays where it is known to be writes no line that another one reads. */
void moda_shard_visit(moda_shard *shard) {
    if (moda_unlikely(shard->state == MODA_SLOT_HIDDEN)) {
        return;
    }
    const int64_t balance = moda_shard_balance(shard);
    const uint64_t moved = (uint64_t)(balance - moda_load_relaxed(&shard->published)) + MODA_LEVEL_BYTES;
    if (moved > 2 * MODA_LEVEL_BYTES) {
        publish(shard, balance);
    }
    if (moda_load_relaxed(&moda_region()->threads_now) == 1) {
        look_for_peak_solo(shard);
    }
}

void moda_shard_note_peak(moda_shard *shard) {
    moda_region_header *header = moda_region();
    if (!moda_shard_is_solo(shard)) {
        return; /* known to the publish threshold only */
    }
    const int64_t sum = bytes_of_others() + moda_shard_balance(shard);
    if (sum > moda_load_relaxed(&header->peak_bytes)) {
        offer_solo(shard);
    } else if (sum == moda_load_relaxed(&header->peak_bytes)) {
        /* The latest of equal peaks is the one that sites are shown at, as in DHAT. Nobody else is there to count. */
        moda_own_increment(&header->peak_epoch);
        const uint64_t samples = moda_load_relaxed(&shard->samples);
        if (samples - moda_load_relaxed(&peak_time_known_at) >= PEAK_TIME_SAMPLES) {
            moda_store_relaxed(&peak_time_known_at, samples);
            moda_store_relaxed(&header->peak_ticks, moda_ticks());
        }
    }
}

void moda_shard_lower_mark(moda_shard *shard) {
    const moda_peak_mark high = high_of(shard);
    const moda_peak_mark mark = moda_shard_high(shard);
    moda_shard_store_mark(&shard->pending, high);
    if (mark.bytes > shard->thread_peak.bytes) {
        moda_shard_store_mark(&shard->thread_peak, mark);
    }
    if (shard->thread_windows && mark.bytes > shard->window_mark[shard->thread_windows - 1].bytes) {
        shard->window_mark[shard->thread_windows - 1] = mark;
    }
    moda_shard_set_mark(shard);
}

MODA_COLD void moda_shard_raise_mark(moda_shard *shard) {
    moda_shard_set_mark(shard);
}

/* More was freed since the mark was set than its word has room for: the mark goes down to the balance. */
MODA_COLD void moda_shard_wrap(moda_shard *shard) {
    moda_shard_lower_mark(shard);
}

/* A change of the budgets moves the mark too: so it is set to the balance first. After it a byte below: the block is yet
 * to be counted, and is among the blocks live at the new mark. The next malloc looks when a sample is due. */
MODA_COLD void moda_shard_allocate_huge(moda_shard *shard, size_t block_size) {
    shard->sample_left -= shard->countdown_set - moda_shard_countdown(shard) + (int64_t)block_size;
    shard->countdown_set = -1;
    moda_shard_set_countdown(shard, -1);
    moda_shard_lower_mark(shard);
    moda_shard_seq_begin(shard);
    moda_own_subtract(&shard->budget, 0 - (uint64_t)block_size);
    moda_own_subtract(&shard->free_budget, 0 - UINT64_C(1));
    moda_own_subtract(&shard->free_word, 0 - (uint64_t)moda_word_of_bytes(1));
    moda_shard_seq_end(shard);
}

MODA_COLD void moda_shard_free_huge(moda_shard *shard, size_t block_size) {
    moda_shard_lower_mark(shard);
    moda_own_subtract(&shard->free_budget, 0 - (uint64_t)block_size);
}

void moda_peak_threads_changed(moda_shard *only) {
    if (only) {
        offer_solo(only);
    }
    moda_region_header *header = moda_region();
    moda_store_relaxed(&header->solo_epoch, header->solo_epoch + 1);
    if (only) {
        publish_for(only); /* alone, it did not do so at each visit; from now on it does */
    }
}

moda_peak_mark moda_peak_now(const moda_totals *totals) {
    const moda_region_header *header = moda_region();
    const uint32_t count = moda_load_acquire(&header->slot_count);
    for (uint32_t i = 1; i < count && moda_load_relaxed(&header->threads_now) == 1; i++) {
        const moda_shard *shard = moda_registry_slot(i);
        if (shard && moda_load_relaxed(&shard->state) == MODA_SLOT_TAKEN && moda_shard_is_solo(shard)) {
            offer_solo(shard);
        }
    }
    offer_totals(totals);
    moda_peak_mark peak = {moda_load_relaxed(&header->peak_bytes), moda_load_relaxed(&header->peak_live)};
    if (totals->is_level && totals->balance > peak.bytes) { /* in the middle of a reset */
        peak = (moda_peak_mark){totals->balance, totals->live};
    }
    return peak;
}

/* Open windows and the process keep what the only thread's mark has; then that begins anew. */
static void leave_mark(moda_shard *mine) {
    moda_shard_publish(mine);
    if (moda_shard_is_solo(mine)) {
        begin_solo(mine);
    }
}

void moda_peak_reset(moda_shard *mine) {
    moda_region_header *header = moda_region();
    leave_mark(mine);
    begin_anew(&header->peak_bytes, &header->peak_live, &process_since, 0);
    offer_sum();
    moda_store_relaxed(&header->peak_ticks, moda_ticks());
    moda_add_relaxed(&header->peak_epoch, 1);
}

void moda_peak_fork_child(void) {
    moda_region_header *header = moda_region();
    moda_store_relaxed(&header->solo_epoch, header->solo_epoch + 1);
    moda_shard *mine = moda_shard_mine();
    if (mine) {
        publish_others();
        begin_solo(mine);
    }
    for (int i = 0; i < MOD_ALLOC_WINDOWS_MAX; i++) { /* some thread may have been about to open one */
        window_peak[i].since = moda_peak_clock;
    }
    moda_totals totals;
    moda_totals_read(&totals);
    moda_store_relaxed(&header->inherited_bytes, totals.balance);
    moda_store_relaxed(&header->inherited_count, totals.live);
    moda_store_relaxed(&header->peak_bytes, totals.balance);
    moda_store_relaxed(&header->peak_live, totals.live);
    moda_add_relaxed(&header->peak_epoch, 1);
}

/* A free entry for a window, now ours to write; MODA_NO_WINDOW if there is none. */
static uint32_t take_window(void) {
    uint64_t mask = moda_load_relaxed(&window_mask);
    uint32_t index;
    do {
        if (mask == UINT64_MAX) {
            return MODA_NO_WINDOW;
        }
        index = (uint32_t)__builtin_ctzll(~mask);
    } while (!__atomic_compare_exchange_n(&window_mask, &mask, mask | 1ull << index, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return index;
}

uint32_t moda_peak_window_open(moda_shard *mine, moda_totals *totals) {
    leave_mark(mine);
    const uint32_t index = take_window();
    if (index != MODA_NO_WINDOW) {
        begin_anew(&window_peak[index].mark.bytes, &window_peak[index].mark.count, &window_peak[index].since,
                   INT64_MIN);
    }
    moda_totals_read(totals);
    offer_totals(totals);
    return index;
}

moda_peak_mark moda_peak_window_close(moda_shard *mine, uint32_t index, moda_totals *totals) {
    moda_shard_publish(mine);
    moda_totals_read(totals);
    const moda_peak_mark all = moda_peak_now(totals);
    if (index == MODA_NO_WINDOW) {
        return all;
    }
    const moda_peak_mark peak = {moda_load_relaxed(&window_peak[index].mark.bytes),
                                 moda_load_relaxed(&window_peak[index].mark.count)};
    __atomic_fetch_and(&window_mask, ~(1ull << index), __ATOMIC_RELEASE);
    return peak;
}
