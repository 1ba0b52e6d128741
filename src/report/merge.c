/* SPDX-License-Identifier: MIT
 *
 * merge.c - several profiles as one: a process tree, or the same program on many machines.
 *
 * Everything is copied into the new profile's arena. Sites keep their process, so that their addresses still
 * resolve in its modules; build.c joins those that look the same once they have names.
 */
#include "report/report.h"

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
    to->alloc_count += more->alloc_count;
    to->free_count += more->free_count;
    to->total_bytes += more->total_bytes;
    to->current_bytes += more->current_bytes;
    to->peak_bytes += more->peak_bytes;
    to->live_count += more->live_count;
    to->peak_live_count += more->peak_live_count;
    to->requested_bytes += more->requested_bytes;
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
    add_stats(&to->totals, &part->totals);
    moda_values_add(&to->site_totals, &part->site_totals);
    for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES; k++)
        to->size_classes[k] += part->size_classes[k];
    to->is_exact = to->is_exact && part->is_exact;
    if (to->sample_bytes == 0)
        to->sample_bytes = part->sample_bytes;
    return true;
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
    if (is_fine)
        return m.to;
    moda_arena_free(arena);
    moda_error_set(error, count == 0 ? "merge: no profiles" : "merge: not enough memory");
    return NULL;
}
