/* SPDX-License-Identifier: MIT
 *
 * window.c - what happened between start and stop: the public snapshots, windows and reset.
 *
 * Called by the program. The struct is the program's memory; nothing of ours points into it, so a window
 * that is never stopped, or whose struct is gone, harms nobody.
 *
 * A thread window's peak: the shard's mark is lowered to the balance at start, and what the mark was is
 * kept in the entry of the window opened before it. window_mark[i] is then the highest balance between
 * the i-th start and the next; a window's peak is the highest over its own entry and all later ones. One
 * that found no room reads from the entry before it on, or the thread's peak: never too low.
 */
#include "shard/peak.h"
#include "shard/shard.h"

#include "region/region.h"

#include <string.h>

typedef struct window {
    int64_t net_bytes;
    int64_t net_count;
    moda_counts at_start;
    int64_t balance;
    int64_t live;
    uint32_t index; /* process: of the peak; thread: of the entry's id */
    uint32_t is_open;
} window;

_Static_assert(sizeof(window) <= sizeof(mod_alloc_profiler), "a window fits the public struct");

static uint64_t not_negative(int64_t n) {
    return n > 0 ? (uint64_t)n : 0;
}

static uint64_t less(uint64_t now, uint64_t base) {
    return now > base ? now - base : 0;
}

/* Never wraps: a malloc counts its block before it knows whether a slow path will, and then takes that back; a window that
 * opens in between has begun one too high. */
static void fill_counts(mod_alloc_stats *stats, const moda_counts *now, const moda_counts *start) {
    stats->alloc_count = less(now->alloc_count, start->alloc_count);
    stats->free_count = less(now->free_count, start->free_count);
    stats->total_bytes = less(now->total_bytes, start->total_bytes);
    stats->requested_bytes = less(now->requested_bytes, start->requested_bytes);
}

void mod_alloc_snapshot(mod_alloc_stats *stats) {
    memset(stats, 0, sizeof *stats);
    if (!moda_region()) {
        return;
    }
    moda_totals totals;
    moda_totals_read(&totals);
    const moda_peak_mark peak = moda_peak_now(&totals);
    fill_counts(stats, &totals.since, &(moda_counts){0});
    stats->current_bytes = not_negative(totals.balance);
    stats->live_count = not_negative(totals.live);
    stats->peak_bytes = not_negative(peak.bytes);
    stats->peak_live_count = not_negative(peak.count);
}

/* What the caller's own shard has counted since it took the slot or since the last reset; without a copy, as long as
 * nobody resets meanwhile. */
static void fill_own_counts(mod_alloc_stats *stats, const moda_shard *shard, const moda_counts *counts) {
    const uint32_t before = moda_load_acquire(&shard->base_seq);
    const moda_counts *base = moda_load_relaxed(&shard->base.alloc_count) > shard->started.alloc_count
                                  ? &shard->base
                                  : &shard->started;
    stats->alloc_count = less(counts->alloc_count, moda_load_relaxed(&base->alloc_count));
    stats->free_count = less(counts->free_count, moda_load_relaxed(&base->free_count));
    stats->total_bytes = less(counts->total_bytes, moda_load_relaxed(&base->total_bytes));
    stats->requested_bytes = less(counts->requested_bytes, moda_load_relaxed(&base->requested_bytes));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (moda_unlikely((before & 1) || moda_load_relaxed(&shard->base_seq) != before)) {
        moda_counts since;
        moda_totals_since(shard, counts, &shard->started, &since);
        fill_counts(stats, &since, &(moda_counts){0});
    }
}

void mod_alloc_thread_snapshot(mod_alloc_stats *stats) {
    const moda_shard *shard = moda_shard_mine();
    if (!shard) {
        memset(stats, 0, sizeof *stats);
        return;
    }
    memset(stats->reserved, 0, sizeof stats->reserved);
    moda_counts counts;
    moda_counts_load(shard, &counts);
    fill_own_counts(stats, shard, &counts);
    const int64_t start = moda_counts_balance(&shard->started);
    const int64_t start_live = moda_counts_live(&shard->started);
    const int64_t balance = moda_counts_balance(&counts);
    const int64_t live = moda_counts_live(&counts);
    moda_peak_mark peak = moda_shard_thread_peak(shard);
    stats->current_bytes = not_negative(balance - start);
    stats->live_count = not_negative(live - start_live);
    stats->peak_bytes = not_negative(peak.bytes - start);
    stats->peak_live_count = not_negative(peak.count - start_live);
}

void mod_alloc_reset(void) {
    moda_shard *mine = moda_attach();
    if (mine) {
        moda_registry_reset(mine);
    }
}

void mod_alloc_profiler_start(mod_alloc_profiler *profiler) {
    window *w = (window *)profiler;
    memset(profiler, 0, sizeof *profiler);
    moda_shard *mine = moda_attach();
    if (!mine) {
        return;
    }
    moda_totals totals;
    w->index = moda_peak_window_open(mine, &totals);
    w->at_start = totals.counts;
    w->balance = totals.balance;
    w->live = totals.live;
    w->is_open = 1;
}

void mod_alloc_profiler_stop(mod_alloc_profiler *profiler, mod_alloc_stats *stats) {
    window *w = (window *)profiler;
    moda_shard *mine = w->is_open ? moda_attach() : NULL;
    if (stats) {
        memset(stats, 0, sizeof *stats);
    }
    if (!mine) {
        return;
    }
    moda_totals totals;
    const moda_peak_mark peak = moda_peak_window_close(mine, w->index, &totals);
    w->is_open = 0;
    w->net_bytes = totals.balance - w->balance;
    w->net_count = totals.live - w->live;
    if (stats) {
        fill_counts(stats, &totals.counts, &w->at_start);
        stats->current_bytes = not_negative(w->net_bytes);
        stats->live_count = not_negative(w->net_count);
        stats->peak_bytes = not_negative(peak.bytes);
        stats->peak_live_count = not_negative(peak.count);
    }
}

/* ---- one thread ---- */

void mod_alloc_thread_profiler_start(mod_alloc_profiler *profiler) {
    window *w = (window *)profiler;
    moda_shard *shard = moda_attach();
    w->is_open = 0;
    if (!shard) {
        return;
    }
    moda_shard_lower_mark(shard);
    moda_totals_of_shard(shard, &w->at_start);
    w->balance = moda_shard_balance(shard);
    w->live = moda_shard_live(shard);
    w->index = ++shard->window_next_id;
    w->is_open = 1;
    uint32_t n = shard->thread_windows;
    if (n < MODA_THREAD_WINDOWS) {
        shard->window_id[n] = w->index;
        shard->window_mark[n] = (moda_peak_mark){w->balance, w->live};
        shard->thread_windows = n + 1;
    }
}

/* The window's entry (1-based). Of one that found no room: the newest of those opened before it, which has since kept what
 * it would have; 0 if those are all stopped. */
static uint32_t find_entry(const moda_shard *shard, uint32_t id) {
    uint32_t i = shard->thread_windows;
    while (i > 0 && (int32_t)(shard->window_id[i - 1] - id) > 0) {
        i--;
    }
    return i;
}

/* Takes the i-th entry (1-based) out; what it knew belongs to the one before it too. */
static void remove_entry(moda_shard *shard, uint32_t i) {
    const uint32_t n = shard->thread_windows;
    if (i > 1 && shard->window_mark[i - 1].bytes > shard->window_mark[i - 2].bytes) {
        shard->window_mark[i - 2] = shard->window_mark[i - 1];
    }
    for (; i < n; i++) {
        shard->window_mark[i - 1] = shard->window_mark[i];
        shard->window_id[i - 1] = shard->window_id[i];
    }
    shard->thread_windows = n - 1;
}

static moda_peak_mark higher(moda_peak_mark a, moda_peak_mark b) {
    return b.bytes > a.bytes ? b : a;
}

moda_peak_mark moda_shard_thread_peak(const moda_shard *shard) {
    return higher(moda_shard_high(shard), shard->thread_peak);
}

void mod_alloc_thread_profiler_stop(mod_alloc_profiler *profiler, mod_alloc_stats *stats) {
    window *w = (window *)profiler;
    moda_shard *shard = w->is_open ? moda_shard_mine() : NULL;
    if (stats) {
        memset(stats, 0, sizeof *stats);
    }
    w->net_bytes = w->net_count = 0;
    if (!shard) {
        return;
    }
    w->is_open = 0;
    moda_peak_mark peak = moda_shard_high(shard);
    const uint32_t entry = find_entry(shard, w->index);
    if (entry) {
        moda_peak_mark *top = &shard->window_mark[shard->thread_windows - 1];
        *top = higher(*top, peak);
        for (uint32_t i = entry; i <= shard->thread_windows; i++) {
            peak = higher(peak, shard->window_mark[i - 1]);
        }
        if (shard->window_id[entry - 1] == w->index) {
            remove_entry(shard, entry);
        }
    } else {
        peak = moda_shard_thread_peak(shard);
    }
    moda_counts now;
    moda_totals_of_shard(shard, &now);
    w->net_bytes = moda_shard_balance(shard) - w->balance;
    w->net_count = moda_shard_live(shard) - w->live;
    if (stats) {
        fill_counts(stats, &now, &w->at_start);
        stats->current_bytes = not_negative(w->net_bytes);
        stats->live_count = not_negative(w->net_count);
        stats->peak_bytes = not_negative(peak.bytes - w->balance);
        stats->peak_live_count = not_negative(peak.count - w->live);
    }
}
