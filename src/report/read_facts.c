/* SPDX-License-Identifier: MIT
 *
 * read_facts.c - what a process says of itself: its clock, the facts in the header, the timeline.
 *
 * read.c calls, the clock first: ticks become times by it. Memory is the profile's arena.
 */
#include "report/read.h"

#include "base/compiler.h"

#include <string.h>
#include <time.h>

/* ---- clock ---- */

/* A program that waits notes no time: while it runs, its newest moment is now. Unless its clocks are not ours (a
 * container's, another machine's whose process had this number): then they go at another pace than it noted. */
static void take_clock_of_now(moda_reader *r) {
    moda_region_header *const h = &r->header;
    struct timespec now;
    const uint64_t ticks = moda_ticks();
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return;
    const uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (ticks <= h->latest_ticks || ns <= h->latest_monotonic_ns || h->latest_ticks <= h->start_ticks)
        return;
    const double noted = (double)(h->latest_monotonic_ns - h->start_monotonic_ns);
    const double pace = noted / (double)(h->latest_ticks - h->start_ticks);
    const double pace_now = (double)(ns - h->start_monotonic_ns) / (double)(ticks - h->start_ticks);
    if (pace_now < 0.5 * pace || pace_now > 2 * pace)
        return;
    h->latest_ticks = ticks;
    h->latest_monotonic_ns = ns;
}

/* Fields of the header that a running program changes under a seq, until that holds still. */
static void fetch_again(moda_reader *r, size_t seq, size_t fields, size_t size) {
    for (int i = 0; i < MODA_READ_TRIES; i++) {
        uint32_t before, after;
        if (!moda_read_fetch(r, seq, &before, sizeof before))
            break;
        if (before & 1)
            continue;
        if (!moda_read_fetch(r, fields, (uint8_t *)&r->header + fields, size))
            break;
        if (moda_read_fetch(r, seq, &after, sizeof after) && before == after)
            break;
    }
}

void moda_read_clock(moda_reader *r) {
    moda_region_header *const h = &r->header;
    if (r->is_live) {
        fetch_again(r, offsetof(moda_region_header, clock_seq), offsetof(moda_region_header, latest_ticks),
                    16);
        fetch_again(r, offsetof(moda_region_header, peak_seq), offsetof(moda_region_header, peak_bytes), 24);
    }
    if (!r->is_live && ((h->clock_seq & 1) != 0 || (h->peak_seq & 1) != 0))
        r->torn++;
    if (r->is_live)
        take_clock_of_now(r);
    const uint64_t ticks = h->latest_ticks - h->start_ticks;
    const uint64_t ns = h->latest_monotonic_ns - h->start_monotonic_ns;
    const bool is_sane = h->latest_ticks > h->start_ticks && h->latest_monotonic_ns > h->start_monotonic_ns;
    r->ns_per_tick = is_sane ? (double)ns / (double)ticks : 0;
    r->process->duration_ns = is_sane ? ns : 0;
}

static int64_t clamped(double value) {
    if (!(value > 0))
        return 0;
    return value >= 9.2e18 ? INT64_MAX : (int64_t)(value + 0.5);
}

uint64_t moda_read_ticks_to_ns(const moda_reader *r, uint64_t ticks) {
    if (r->header.merged != 0 && r->ns_per_tick > 0)
        return ticks; /* they are nanoseconds, also beyond the 53 bits of a double */
    return (uint64_t)clamped((double)ticks * r->ns_per_tick);
}

static uint64_t since_start(const moda_reader *r, uint64_t ticks) {
    return ticks > r->header.start_ticks ? moda_read_ticks_to_ns(r, ticks - r->header.start_ticks) : 0;
}

/* ---- facts ---- */

static const char *copy_string(moda_reader *r, const char *text, size_t room) {
    return moda_arena_copy(r->arena, text, strnlen(text, room));
}

/* What a merged profile says of a process, since the file's own header is no longer the process's. */
static bool read_merged_facts(moda_reader *r) {
    const uint64_t holder = offsetof(moda_region_header, merged);
    const moda_merged *const m =
        moda_read_record(r, holder, r->header.merged, sizeof *m + 1, "record of what was merged");
    if (m == NULL)
        return false;
    const uint64_t text = moda_read_offset_of(r, m->source);
    if (m->source_length >= r->size - text || m->source[m->source_length] != 0)
        return moda_read_bad(r, moda_read_offset_of(r, &m->source_length), "length of the source's name",
                             m->source_length, "that of a text inside the profile");
    moda_profile_process *const p = r->process;
    p->source = copy_string(r, m->source, SIZE_MAX);
    p->region_used_bytes = m->region_used_bytes;
    p->is_live = m->was_running != 0;
    p->is_growth = m->is_growth != 0;
    r->torn = m->torn;
    return p->source != NULL || moda_read_no_memory(r);
}

bool moda_read_facts(moda_reader *r) {
    const moda_region_header *const h = &r->header;
    moda_profile_process *const p = r->process;
    p->source = copy_string(r, r->source, SIZE_MAX);
    p->executable = copy_string(r, h->executable, sizeof h->executable);
    p->command_line = copy_string(r, h->command_line, sizeof h->command_line);
    if (p->source == NULL || p->executable == NULL || p->command_line == NULL)
        return moda_read_no_memory(r);
    p->pid = h->pid;
    p->parent_pid = h->parent_pid;
    p->fork_count = h->fork_count;
    p->start_realtime_ns = h->start_realtime_ns;
    p->exited_cleanly = (h->flags & MODA_REGION_CLEAN_EXIT) != 0;
    p->has_exit_status = p->exited_cleanly;
    p->exit_status = h->exit_status;
    p->is_forked = (h->flags & MODA_REGION_FORKED) != 0;
    p->times_all_lives = (h->flags & MODA_REGION_LIVES_ALL) != 0;
    p->is_live = r->is_live;
    memcpy(p->mod_alloc_version, h->mod_alloc_version, 16);
    memcpy(p->mimalloc_version, h->mimalloc_version, 16);
    memcpy(p->machine, h->machine, 16);
    p->unwinder = h->unwinder;
    p->frames_max = h->frames_max;
    p->page_size = h->page_size;
    p->seed = h->seed;
    p->short_lived_ns = h->short_lived_ns;
    p->threads_ever = h->threads_ever;
    p->threads_now = h->threads_now;
    p->sample_bytes = h->sample_bytes;
    p->sample_changes = h->sample_changes;
    p->dropped_disk = h->dropped_disk;
    p->resident_bytes = h->resident_bytes;
    p->resident_peak_bytes = h->resident_peak_bytes;
    p->heap_committed_bytes = h->heap_committed_bytes;
    p->region_resident_bytes = h->region_resident_bytes;
    p->region_used_bytes = h->used;
    p->region_max_bytes = h->memory_max;
    p->peak_ns = since_start(r, h->peak_ticks);
    if (p->is_forked) {
        p->inherited_bytes = h->inherited_bytes;
        p->inherited_count = h->inherited_count;
    }
    return h->merged == 0 || read_merged_facts(r);
}

/* ---- timeline ---- */

bool moda_read_timeline(moda_reader *r) {
    if (r->header.timeline == 0 || moda_read_is_newer(r, r->header.timeline))
        return true;
    const bool is_merged = r->header.merged != 0; /* then it has no more points than it needs */
    moda_timeline *const t =
        moda_read_record(r, offsetof(moda_region_header, timeline), r->header.timeline,
                         is_merged ? offsetof(moda_timeline, point) : sizeof *t, "timeline");
    if (t == NULL)
        return false;
    if (!is_merged)
        moda_read_settle(r, t, sizeof *t, &t->seq);
    if (t->count > MODA_TIMELINE_POINTS
        || t->count
               > (r->size - moda_read_offset_of(r, t) - offsetof(moda_timeline, point)) / sizeof t->point[0])
        return moda_read_bad(r, moda_read_offset_of(r, &t->count), "number of points", t->count,
                             "at most 1024 and inside the profile");
    moda_timeline_sample *const samples = moda_arena_alloc(r->arena, (t->count + 1u) * sizeof *samples);
    if (samples == NULL)
        return moda_read_no_memory(r);
    for (uint32_t i = 0; i < t->count; i++) {
        const moda_timeline_point *const point = &t->point[i];
        samples[i] = (moda_timeline_sample){
            .time_ns = since_start(r, point->ticks),
            .current_bytes = point->current_bytes,
            .live_count = point->live_count,
            .total_bytes = point->total_bytes,
            .alloc_count = point->alloc_count,
            .resident_bytes = point->resident_bytes,
        };
    }
    r->process->timeline = samples;
    r->process->timeline_count = t->count;
    return true;
}
