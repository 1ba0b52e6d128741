/* SPDX-License-Identifier: MIT
 *
 * merge.c - several profiles as one: a process tree, or the same program on many machines.
 *
 * Everything is copied into the new profile's arena. Sites keep their process, so that their addresses still
 * resolve in its modules; build.c joins those that look the same once they have names.
 */
#include "report/report.h"

#include <stdlib.h>
#include <string.h>

typedef struct merger {
    moda_profile *to;
    moda_profile_process *processes;
    moda_profile_thread *threads;
    moda_profile_site *sites;
} merger;

static void *copy(moda_arena *arena, const void *from, size_t size) {
    void *const made = moda_arena_alloc(arena, size + 1);
    if (made != NULL && size > 0)
        memcpy(made, from, size);
    return made;
}

static bool copy_process(moda_arena *arena, const moda_profile_process *from, moda_profile_process *to) {
    *to = *from;
    to->source = moda_arena_intern(arena, from->source);
    to->executable = moda_arena_intern(arena, from->executable);
    to->command_line = moda_arena_intern(arena, from->command_line);
    to->timeline = copy(arena, from->timeline, from->timeline_count * sizeof *from->timeline);
    moda_profile_module *const modules = copy(arena, from->modules, from->module_count * sizeof *modules);
    if (to->source == NULL || to->executable == NULL || to->command_line == NULL || to->timeline == NULL
        || modules == NULL)
        return false;
    for (size_t i = 0; i < from->module_count; i++) {
        modules[i].path = moda_arena_intern(arena, from->modules[i].path);
        if (modules[i].path == NULL)
            return false;
    }
    to->modules = modules;
    return true;
}

static void add_stats(mod_alloc_stats *to, const mod_alloc_stats *more) {
    to->alloc_count = moda_count_sum(to->alloc_count, more->alloc_count);
    to->free_count = moda_count_sum(to->free_count, more->free_count);
    to->total_bytes = moda_count_sum(to->total_bytes, more->total_bytes);
    to->current_bytes = moda_count_sum(to->current_bytes, more->current_bytes);
    to->peak_bytes = moda_count_sum(to->peak_bytes, more->peak_bytes);
    to->live_count = moda_count_sum(to->live_count, more->live_count);
    to->peak_live_count = moda_count_sum(to->peak_live_count, more->peak_live_count);
    to->requested_bytes = moda_count_sum(to->requested_bytes, more->requested_bytes);
}

static bool add_part(merger *m, const moda_profile *part) {
    moda_profile *const to = m->to;
    const uint32_t first_process = (uint32_t)to->process_count, first_thread = (uint32_t)to->thread_count;
    for (size_t i = 0; i < part->process_count; i++)
        if (!copy_process(to->arena, &part->processes[i], &m->processes[to->process_count++]))
            return false;
    for (size_t i = 0; i < part->thread_count; i++) {
        moda_profile_thread *const thread = &m->threads[to->thread_count++];
        *thread = part->threads[i];
        thread->process += first_process;
    }
    for (size_t i = 0; i < part->site_count; i++) {
        moda_profile_site *const site = &m->sites[to->site_count++];
        *site = part->sites[i];
        site->process += first_process;
        if (site->thread != UINT32_MAX)
            site->thread += first_thread;
        site->addresses = copy(to->arena, site->addresses, site->address_count * sizeof *site->addresses);
        if (site->addresses == NULL)
            return false;
    }
    for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES; k++)
        to->size_classes[k] = moda_count_sum(to->size_classes[k], part->size_classes[k]);
    to->is_exact = to->is_exact && part->is_exact;
    if (to->sample_bytes == 0)
        to->sample_bytes = part->sample_bytes;
    return true;
}

/* ---- forked children ---- */

/* Numbers of processes are used again: a parent began before its child. */
static bool has_parent(const moda_profile *profile, const moda_profile_process *child) {
    for (size_t i = 0; i < profile->process_count; i++) {
        const moda_profile_process *const p = &profile->processes[i];
        if (p != child && p->pid == child->parent_pid && p->start_realtime_ns <= child->start_realtime_ns)
            return true;
    }
    return false;
}

static int64_t beyond(int64_t value, int64_t inherited) {
    return value > inherited ? value - inherited : 0;
}

static int64_t less(int64_t a, int64_t b) { /* a damaged profile can hold any number */
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

static int64_t more(int64_t a, uint64_t b) {
    return (int64_t)((uint64_t)a + b);
}

static void take_off(uint64_t *from, int64_t inherited) {
    *from = *from > (uint64_t)inherited ? *from - (uint64_t)inherited : 0;
}

/* What a child has no more of what it inherited it must have freed. */
static uint64_t missing(uint64_t live, int64_t inherited) {
    return live < (uint64_t)inherited ? (uint64_t)inherited - live : 0;
}

/* What a child had no more of its parent's blocks: at the end, and at its peak. */
typedef struct given_up {
    uint64_t bytes, count, peak_bytes, peak_count;
} given_up;

static uint64_t missing_at(int64_t live, int64_t inherited) {
    return inherited > 0 ? missing(live > 0 ? (uint64_t)live : 0, inherited) : 0;
}

static void add_given_up(given_up *g, const moda_profile_site *site) {
    const int64_t *const of = site->values.of;
    g->bytes = moda_count_sum(g->bytes, missing_at(of[MODA_VALUE_LIVE_BYTES], site->inherited_bytes));
    g->count = moda_count_sum(g->count, missing_at(of[MODA_VALUE_LIVE_COUNT], site->inherited_count));
    g->peak_bytes =
        moda_count_sum(g->peak_bytes, missing_at(of[MODA_VALUE_AT_PEAK_BYTES], site->inherited_bytes));
    g->peak_count =
        moda_count_sum(g->peak_count, missing_at(of[MODA_VALUE_AT_PEAK_COUNT], site->inherited_count));
}

static uint64_t at_least(uint64_t value, uint64_t least, uint64_t most) {
    value = value < least ? least : value;
    return value < most ? value : most;
}

/* What a child freed of its parent's blocks is known site by site, as a sum; so it has at least this much of its own. */
static void take_off_site(moda_profile_site *site) {
    int64_t *const of = site->values.of;
    const int64_t live = of[MODA_VALUE_LIVE_BYTES];
    of[MODA_VALUE_LIVE_BYTES] = beyond(live, site->inherited_bytes);
    of[MODA_VALUE_LIVE_COUNT] = beyond(of[MODA_VALUE_LIVE_COUNT], site->inherited_count);
    of[MODA_VALUE_LIVE_REQUESTED_BYTES] =
        beyond(of[MODA_VALUE_LIVE_REQUESTED_BYTES], site->inherited_requested_bytes);
    of[MODA_VALUE_LIVE_WASTE_BYTES] = beyond(of[MODA_VALUE_LIVE_BYTES], of[MODA_VALUE_LIVE_REQUESTED_BYTES]);
    of[MODA_VALUE_AT_PEAK_BYTES] = beyond(of[MODA_VALUE_AT_PEAK_BYTES], site->inherited_bytes);
    of[MODA_VALUE_AT_PEAK_COUNT] = beyond(of[MODA_VALUE_AT_PEAK_COUNT], site->inherited_count);
    of[MODA_VALUE_AT_PEAK_REQUESTED_BYTES] =
        beyond(of[MODA_VALUE_AT_PEAK_REQUESTED_BYTES], site->inherited_requested_bytes);
    of[MODA_VALUE_OWN_PEAK_BYTES] = beyond(of[MODA_VALUE_OWN_PEAK_BYTES], site->inherited_bytes);
    of[MODA_VALUE_OWN_PEAK_COUNT] = beyond(of[MODA_VALUE_OWN_PEAK_COUNT], site->inherited_count);
    site->inherited_bytes = site->inherited_count = site->inherited_requested_bytes = 0;
}

static void take_off_process(moda_profile_process *process, const given_up *g) {
    mod_alloc_stats *const t = &process->totals;
    take_off(&t->current_bytes, process->inherited_bytes - (int64_t)g->bytes);
    take_off(&t->peak_bytes, process->inherited_bytes - (int64_t)g->peak_bytes);
    take_off(&t->live_count, process->inherited_count - (int64_t)g->count);
    take_off(&t->peak_live_count, process->inherited_count - (int64_t)g->peak_count);
    if (t->peak_bytes < t->current_bytes) { /* it had most while it still had its parent's */
        t->peak_bytes = t->current_bytes;
        t->peak_live_count = t->live_count;
    }
    process->inherited_bytes = process->inherited_count = 0;
}

/* Frees of blocks that the parent has allocated, and counts as freed or live itself: off the threads in turn. */
static void take_off_frees(merger *m, uint32_t process, uint64_t bytes, uint64_t count) {
    for (size_t i = 0; i < m->to->thread_count; i++) {
        moda_profile_thread *const thread = &m->threads[i];
        if (thread->process != process)
            continue;
        const uint64_t b = bytes < thread->freed_bytes ? bytes : thread->freed_bytes;
        const uint64_t c = count < thread->stats.free_count ? count : thread->stats.free_count;
        thread->freed_bytes -= b;
        thread->stats.free_count -= c;
        thread->balance_bytes = more(thread->balance_bytes, b);
        thread->balance_count = more(thread->balance_count, c);
        bytes -= b;
        count -= c;
    }
}

/* The balances of a child's threads add up to its live bytes: what the threads are not known to have inherited
 * (the counters were reset since) goes to the first, and then false is returned. */
static bool take_off_threads(merger *m, uint32_t process, int64_t bytes, int64_t count, const given_up *g) {
    moda_profile_thread *first = NULL;
    for (size_t i = 0; i < m->to->thread_count; i++) {
        moda_profile_thread *const thread = &m->threads[i];
        if (thread->process != process)
            continue;
        if (first == NULL)
            first = thread;
        thread->balance_bytes = less(thread->balance_bytes, thread->inherited_bytes);
        thread->balance_count = less(thread->balance_count, thread->inherited_count);
        bytes = less(bytes, thread->inherited_bytes);
        count = less(count, thread->inherited_count);
        thread->inherited_bytes = thread->inherited_count = 0;
    }
    const bool is_known = bytes == 0 && count == 0;
    if (first != NULL && !is_known) {
        first->balance_bytes = more(less(first->balance_bytes, bytes), g->bytes);
        first->balance_count = more(less(first->balance_count, count), g->count);
    }
    return is_known;
}

static bool is_child_of_another(const moda_profile *profile, const moda_profile_process *p) {
    return p->is_forked && p->inherited_bytes >= 0 && p->inherited_count > 0 && has_parent(profile, p);
}

/* By process. The totals alone tell what a child has freed of its parent's blocks only as far as that is more than it has
 * allocated itself; its sites tell more, where every allocation was recorded. Else a leak would hide behind a free. */
static void find_given_up(const merger *m, given_up *of_process) {
    const moda_profile *const to = m->to;
    for (size_t i = 0; i < to->site_count; i++) {
        const uint32_t process = m->sites[i].process;
        const moda_profile_process *const p = &m->processes[process];
        if (p->is_growth && p->sample_bytes == 1 && p->sample_changes == 0)
            add_given_up(&of_process[process], &m->sites[i]);
    }
    for (size_t i = 0; i < to->process_count; i++) {
        const moda_profile_process *const p = &m->processes[i];
        if (!p->is_growth)
            continue;
        const uint64_t bytes = (uint64_t)p->inherited_bytes, count = (uint64_t)p->inherited_count;
        given_up *const g = &of_process[i];
        g->bytes = at_least(g->bytes, missing(p->totals.current_bytes, p->inherited_bytes), bytes);
        g->count = at_least(g->count, missing(p->totals.live_count, p->inherited_count), count);
        g->peak_bytes = at_least(g->peak_bytes, missing(p->totals.peak_bytes, p->inherited_bytes), bytes);
        g->peak_count =
            at_least(g->peak_count, missing(p->totals.peak_live_count, p->inherited_count), count);
    }
}

static bool take_off_inherited(merger *m) {
    moda_profile *const to = m->to;
    bool any = false;
    for (size_t i = 0; i < to->process_count; i++)
        if (is_child_of_another(to, &m->processes[i]))
            any = m->processes[i].is_growth = true;
    if (!any)
        return true;
    given_up *const of_process = calloc(to->process_count, sizeof *of_process);
    if (of_process == NULL)
        return false;
    find_given_up(m, of_process);
    for (uint32_t i = 0; i < to->process_count; i++) {
        moda_profile_process *const p = &m->processes[i];
        const given_up *const g = &of_process[i];
        if (!is_child_of_another(to, p))
            continue;
        if (take_off_threads(m, i, p->inherited_bytes, p->inherited_count, g)) {
            take_off_frees(m, i, g->bytes, g->count);
            take_off(&p->totals.free_count, (int64_t)g->count);
        }
        take_off_process(p, g);
    }
    for (size_t i = 0; i < to->site_count; i++)
        if (m->processes[m->sites[i].process].is_growth)
            take_off_site(&m->sites[i]);
    free(of_process);
    return true;
}

static void sum_up(moda_profile *to) {
    for (size_t i = 0; i < to->process_count; i++)
        add_stats(&to->totals, &to->processes[i].totals);
    for (size_t i = 0; i < to->site_count; i++)
        moda_values_add(&to->site_totals, &to->sites[i].values);
}

moda_profile *moda_profile_merge(const moda_profile *const *parts, size_t count, moda_error *error) {
    size_t processes = 0, threads = 0, sites = 0;
    for (size_t i = 0; i < count; i++) {
        processes += parts[i]->process_count;
        threads += parts[i]->thread_count;
        sites += parts[i]->site_count;
    }
    moda_arena *const arena = moda_arena_new();
    merger m = {.to = arena != NULL ? moda_arena_alloc(arena, sizeof *m.to) : NULL};
    bool is_fine = m.to != NULL && count > 0;
    if (is_fine) {
        m.processes = moda_arena_alloc(arena, processes * sizeof *m.processes + 1);
        m.threads = moda_arena_alloc(arena, threads * sizeof *m.threads + 1);
        m.sites = moda_arena_alloc(arena, sites * sizeof *m.sites + 1);
        *m.to = (moda_profile){.processes = m.processes,
                               .threads = m.threads,
                               .sites = m.sites,
                               .is_exact = true,
                               .arena = arena};
        moda_values_clear(&m.to->site_totals);
        is_fine = m.processes != NULL && m.threads != NULL && m.sites != NULL;
    }
    for (size_t i = 0; is_fine && i < count; i++)
        is_fine = add_part(&m, parts[i]);
    if (is_fine && take_off_inherited(&m)) {
        sum_up(m.to);
        return m.to;
    }
    moda_arena_free(arena);
    moda_error_set(error, count == 0 ? "merge: no profiles" : "merge: not enough memory");
    return NULL;
}
