/* SPDX-License-Identifier: MIT
 *
 * save.c - a profile becomes a region again: what `mod-alloc merge` writes. Layout: region/layout.h, at "merged
 * profiles"; read.c reads it back to the same report, and merge.c merges it again.
 *
 * The file is made in memory, part by part, and put out at once. Memory: malloc's, for as long as it lasts.
 *
 * Laws
 *   1. a stack that several processes have, by places (places.h), is one site, of the first of them.
 *   2. of the modules those are kept that a kept site needs in its process, and of each object the first.
 */
#include "report/places.h"
#include "report/report.h"

#include "region/layout.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof((moda_site_sums *)0)->variance == MODA_VARIANCES * sizeof(double), "as in the model");

typedef struct saver {
    const moda_profile *profile;
    moda_places places;
    uint64_t *keys;      /* by site: hash of its places */
    uint32_t *first_of;  /* by site: the first site of the same stack */
    moda_values *values; /* by site, of those that are the first: the sum */
    bool *is_kept;       /* by process and module, one after another */
    size_t *module_begin;

    uint8_t *bytes;
    size_t used, room;
    bool failed;
    uint64_t part; /* where this process's header is */
} saver;

/* ---- records ---- */

/* Its offset; the bytes are 0. Pointers into `bytes` are good until the next one is made. */
static uint64_t make_record(saver *s, size_t size) {
    const size_t rounded = (size + MODA_REGION_ALIGN - 1) / MODA_REGION_ALIGN * MODA_REGION_ALIGN;
    if (s->used + rounded > s->room) {
        const size_t room = 2 * (s->used + rounded);
        uint8_t *const grown = realloc(s->bytes, room);
        if (grown == NULL) {
            s->failed = true;
            return 0; /* there is room for something at 0 in any case: see moda_profile_write */
        }
        s->bytes = grown;
        s->room = room;
    }
    const uint64_t offset = s->used;
    memset(s->bytes + offset, 0, rounded);
    s->used += rounded;
    return offset;
}

static void *at(const saver *s, uint64_t offset) {
    return s->bytes + offset;
}

static moda_ref ref_of(uint64_t offset) {
    return (moda_ref)(offset / MODA_REF_UNIT);
}

static moda_region_header *header_of(const saver *s) {
    return at(s, s->part);
}

/* ---- header ---- */

static void copy_text(char *to, size_t room, const char *from) {
    if (from != NULL)
        memcpy(to, from, strnlen(from, room - 1)); /* the rest is 0 */
}

static void put_header(saver *s, const moda_profile_process *p) {
    moda_region_header *const h = header_of(s);
    *h = (moda_region_header){
        .version = MODA_REGION_VERSION,
        .byte_order = MODA_REGION_BYTE_ORDER,
        .header_size = sizeof(moda_region_header),
        .shard_size = sizeof(moda_shard),
        .site_size = sizeof(moda_site),
        .module_size = sizeof(moda_module),
        .memory_max = p->region_max_bytes,
        .page_size = p->page_size,
        .pid = p->pid,
        .parent_pid = p->parent_pid,
        .fork_count = p->fork_count,
        .start_realtime_ns = p->start_realtime_ns,
        .frames_max = p->frames_max,
        .unwinder = p->unwinder,
        .seed = p->seed,
        .short_lived_ns = p->short_lived_ns,
        .sample_bytes = p->sample_bytes,
        .sample_changes = p->sample_changes,
        .flags = MODA_REGION_FILE | (p->exited_cleanly ? MODA_REGION_CLEAN_EXIT : 0u)
                 | (p->is_forked ? MODA_REGION_FORKED : 0u)
                 | (p->times_all_lives ? MODA_REGION_LIVES_ALL : 0u),
        .exit_status = p->exit_status,
        .latest_ticks = p->duration_ns,
        .latest_monotonic_ns = p->duration_ns,
        .threads_ever = p->threads_ever,
        .threads_now = p->threads_now,
        .solo_epoch = 1, /* no shard's mark_epoch */
        .peak_epoch = UINT64_MAX,
        .peak_bytes = (int64_t)p->totals.peak_bytes,
        .peak_live = (int64_t)p->totals.peak_live_count,
        .peak_ticks = p->peak_ns,
        .resident_bytes = p->resident_bytes,
        .resident_peak_bytes = p->resident_peak_bytes,
        .heap_committed_bytes = p->heap_committed_bytes,
        .region_resident_bytes = p->region_resident_bytes,
        .dropped_disk = p->dropped_disk,
    };
    memcpy(h->magic, MODA_REGION_MAGIC, sizeof h->magic);
    copy_text(h->mod_alloc_version, sizeof h->mod_alloc_version, p->mod_alloc_version);
    copy_text(h->mimalloc_version, sizeof h->mimalloc_version, p->mimalloc_version);
    copy_text(h->machine, sizeof h->machine, p->machine);
    copy_text(h->executable, sizeof h->executable, p->executable);
    copy_text(h->command_line, sizeof h->command_line, p->command_line);
}

static void put_merged(saver *s, const moda_profile_process *p) {
    const size_t length = strlen(p->source);
    const uint64_t offset = make_record(s, sizeof(moda_merged) + length + 1);
    moda_merged *const m = at(s, offset);
    if (s->failed)
        return;
    m->region_used_bytes = p->region_used_bytes;
    m->torn = p->torn;
    m->was_running = p->is_live;
    m->is_growth = p->is_growth;
    m->source_length = (uint32_t)length;
    memcpy(m->source, p->source, length);
    header_of(s)->merged = ref_of(offset);
}

/* ---- modules ---- */

static void put_module(saver *s, const moda_profile_module *from) {
    const size_t length = strlen(from->path);
    const uint64_t offset = make_record(s, sizeof(moda_module) + length + 1);
    moda_module *const m = at(s, offset);
    if (s->failed)
        return;
    *m = (moda_module){
        .next = header_of(s)->modules,
        .generation_mapped = from->generation_mapped,
        .generation_unmapped = from->generation_unmapped,
        .path_length = (uint32_t)length,
        .start = from->start,
        .end = from->end,
        .load_bias = from->load_bias,
        .text_start = from->text_start,
        .text_end = from->text_end,
        .text_file_offset = from->text_file_offset,
        .build_id_length = from->build_id_length,
    };
    memcpy(m->build_id, from->build_id, sizeof m->build_id);
    memcpy(m->path, from->path, length);
    header_of(s)->modules = ref_of(offset);
    header_of(s)->module_count++;
}

static void put_modules(saver *s, size_t process) {
    const moda_profile_process *const p = &s->profile->processes[process];
    for (size_t i = 0; i < p->module_count && !s->failed; i++)
        if (s->is_kept[s->module_begin[process] + i])
            put_module(s, &p->modules[i]);
}

/* ---- threads ---- */

/* The counts are such that read.c finds again what it once found. */
static void put_shard(moda_shard *shard, const moda_profile_thread *t) {
    const uint64_t freed = t->stats.total_bytes - (uint64_t)t->balance_bytes;
    const uint64_t frees = t->stats.alloc_count - (uint64_t)t->balance_count;
    *shard = (moda_shard){
        .alloc_word = MODA_ALLOC_WORD_NEW,
        .alloc_base = t->stats.alloc_count,
        .free_base = frees,
        .requested_base = t->stats.requested_bytes,
        .budget = (int64_t)t->stats.total_bytes,
        .free_budget = (int64_t)freed,
        .state = t->is_orphan  ? MODA_SLOT_ORPHAN
                 : t->is_alive ? MODA_SLOT_TAKEN
                               : MODA_SLOT_FREE,
        .index = t->index,
        .incarnation = t->incarnation,
        .tid = t->tid,
        .base = {.freed_bytes = freed - t->freed_bytes, .free_count = frees - t->stats.free_count},
        .samples = t->samples,
        .dropped = t->dropped,
    };
    memcpy(shard->walks, t->walks, sizeof shard->walks);
    memcpy(shard->name, t->name, sizeof shard->name);
}

/* In fixed point, as a region has it: at most what a word holds. */
static uint64_t fixed_count(uint64_t count) {
    return count <= UINT64_MAX / MODA_COUNT_ONE ? count * MODA_COUNT_ONE : UINT64_MAX;
}

static void put_threads(saver *s, uint32_t process) {
    const moda_profile *const profile = s->profile;
    uint32_t count = 0, n = 0;
    for (size_t i = 0; i < profile->thread_count; i++)
        count += profile->threads[i].process == process;
    const uint64_t offset = make_record(s, sizeof(moda_shard_block) + count * sizeof(moda_shard));
    moda_shard_block *const block = at(s, offset);
    if (s->failed)
        return;
    block->count = count;
    for (size_t i = 0; i < profile->thread_count; i++)
        if (profile->threads[i].process == process)
            put_shard(&block->shard[n++], &profile->threads[i]);
    /* Block sizes are known of all processes together: the first thread of all tells them. */
    for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES && count > 0 && profile->threads[0].process == process; k++)
        block->shard[0].size_samples[k] = fixed_count(profile->size_classes[k]);
    header_of(s)->shard_blocks = ref_of(offset);
    header_of(s)->slot_count = count;
}

/* ---- sites ---- */

static bool is_same_stack(const saver *s, size_t a, size_t b) {
    const size_t *const begin = s->places.begin;
    const size_t length = begin[a + 1] - begin[a];
    return s->keys[a] == s->keys[b] && length == begin[b + 1] - begin[b]
           && (s->profile->sites[a].id == 0) == (s->profile->sites[b].id == 0)
           && memcmp(&s->places.of_sites[begin[a]], &s->places.of_sites[begin[b]],
                     length * sizeof *s->places.of_sites)
                  == 0;
}

static bool join_sites(saver *s) {
    const size_t count = s->profile->site_count;
    size_t room = 64;
    while (room < 2 * count + 2)
        room *= 2;
    uint32_t *const table = calloc(room, sizeof *table); /* index + 1 */
    s->keys = calloc(count + 1, sizeof *s->keys);
    s->first_of = calloc(count + 1, sizeof *s->first_of);
    s->values = calloc(count + 1, sizeof *s->values);
    const bool is_fine = table != NULL && s->keys != NULL && s->first_of != NULL && s->values != NULL;
    for (size_t i = 0; is_fine && i < count; i++) {
        const moda_profile_site *const site = &s->profile->sites[i];
        uint64_t key = site->id == 0;
        for (size_t k = s->places.begin[i]; k < s->places.begin[i + 1]; k++)
            key = moda_places_mix(key, s->places.of_sites[k] + 1u);
        s->keys[i] = key;
        size_t slot = key & (room - 1);
        while (table[slot] != 0 && !is_same_stack(s, table[slot] - 1, i))
            slot = (slot + 1) & (room - 1);
        if (table[slot] == 0) {
            table[slot] = (uint32_t)i + 1;
            moda_values_clear(&s->values[i]);
        }
        s->first_of[i] = table[slot] - 1;
        moda_values_add(&s->values[s->first_of[i]], &site->values);
    }
    free(table);
    return is_fine;
}

static uint64_t fixed(int64_t count) {
    return count > 0 ? fixed_count((uint64_t)count) : 0;
}

static int64_t fixed_signed(int64_t count) {
    const uint64_t made = fixed(count);
    return made <= INT64_MAX ? (int64_t)made : INT64_MAX;
}

static moda_site_counts counts_of(const moda_values *v) {
    const int64_t *const of = v->of;
    const bool has_lives = of[MODA_VALUE_LIFETIME_COUNT] > 0;
    return (moda_site_counts){
        .alloc_samples = (uint64_t)of[MODA_VALUE_SAMPLES],
        .alloc_count = fixed(of[MODA_VALUE_ALLOCATED_COUNT]),
        .alloc_bytes = (uint64_t)of[MODA_VALUE_ALLOCATED_BYTES],
        .alloc_requested = (uint64_t)of[MODA_VALUE_REQUESTED_BYTES],
        .free_samples = (uint64_t)of[MODA_VALUE_FREED_SAMPLES],
        .free_count = fixed(of[MODA_VALUE_FREED_COUNT]),
        .free_bytes = (uint64_t)of[MODA_VALUE_FREED_BYTES],
        .lifetime_count = fixed(of[MODA_VALUE_LIFETIME_COUNT]),
        .lifetime_sum = (uint64_t)of[MODA_VALUE_LIFETIME_NS],
        .lifetime_min = has_lives ? (uint64_t)of[MODA_VALUE_LIFETIME_MIN_NS] : UINT64_MAX,
        .lifetime_max = (uint64_t)of[MODA_VALUE_LIFETIME_MAX_NS],
        .short_lived_count = fixed(of[MODA_VALUE_TEMPORARY_COUNT]),
        .moved_count = fixed(of[MODA_VALUE_FREED_COUNT] - of[MODA_VALUE_LIFETIME_COUNT]),
        .remote_free_count = fixed(of[MODA_VALUE_REMOTE_FREE_COUNT]),
        .at_peak_epoch = UINT64_MAX,
        .at_peak_count = fixed_signed(of[MODA_VALUE_AT_PEAK_COUNT]),
        .at_peak_bytes = of[MODA_VALUE_AT_PEAK_BYTES],
        .at_peak_requested = of[MODA_VALUE_AT_PEAK_REQUESTED_BYTES],
        .peak_bytes = of[MODA_VALUE_OWN_PEAK_BYTES],
        .peak_count = fixed_signed(of[MODA_VALUE_OWN_PEAK_COUNT]),
    };
}

static moda_site_sums sums_of(const moda_values *v) {
    moda_site_sums sums = {
        .waste_bytes = v->of[MODA_VALUE_WASTE_BYTES],
        .live_bytes = v->of[MODA_VALUE_LIVE_BYTES],
        .live_count = v->of[MODA_VALUE_LIVE_COUNT],
        .live_requested = v->of[MODA_VALUE_LIVE_REQUESTED_BYTES],
        .live_waste = v->of[MODA_VALUE_LIVE_WASTE_BYTES],
    };
    memcpy(sums.variance, v->variance, sizeof sums.variance);
    return sums;
}

static void put_site(saver *s, size_t index) {
    const moda_profile_site *const from = &s->profile->sites[index];
    const size_t frames = from->address_count * sizeof(uint64_t);
    const uint64_t offset = make_record(s, sizeof(moda_site) + frames + sizeof(moda_site_sums));
    moda_site *const site = at(s, offset);
    if (s->failed)
        return;
    moda_region_header *const h = header_of(s);
    site->id = from->id;
    site->frame_count = (uint16_t)from->address_count;
    site->walk_end = from->walk_end;
    site->guessed = from->guessed;
    site->generation = from->generation;
    site->first_slot = from->thread != UINT32_MAX ? s->profile->threads[from->thread].index : UINT32_MAX;
    site->counts = counts_of(&s->values[index]);
    if (frames > 0)
        memcpy(site->frames, from->addresses, frames);
    const moda_site_sums sums = sums_of(&s->values[index]);
    memcpy(&site->frames[from->address_count], &sums, sizeof sums);
    if (from->id == 0) {
        h->overflow_site = ref_of(offset);
    } else {
        site->next_in_list = h->site_list;
        h->site_list = ref_of(offset);
        h->site_count++;
    }
}

/* ---- which modules are needed ---- */

static void keep_modules_of(saver *s, size_t site) {
    const moda_profile_site *const from = &s->profile->sites[site];
    for (uint32_t k = 0; k < from->address_count; k++) {
        const uint32_t module = moda_places_module(&s->places, from, from->addresses[k]);
        if (module != UINT32_MAX)
            s->is_kept[s->module_begin[from->process] + module] = true;
    }
}

static bool choose_modules(saver *s) {
    const moda_profile *const profile = s->profile;
    s->module_begin = calloc(profile->process_count + 1, sizeof *s->module_begin);
    if (s->module_begin == NULL)
        return false;
    for (size_t i = 0; i < profile->process_count; i++)
        s->module_begin[i + 1] = s->module_begin[i] + profile->processes[i].module_count;
    s->is_kept = calloc(s->module_begin[profile->process_count] + 1, sizeof *s->is_kept);
    bool *const is_known = calloc(s->places.module_count + 1, sizeof *is_known);
    for (size_t i = 0; s->is_kept != NULL && is_known != NULL && i < profile->process_count; i++) {
        for (size_t k = 0; k < profile->processes[i].module_count; k++) {
            bool *const known = &is_known[s->places.maps[i].joined[k]];
            s->is_kept[s->module_begin[i] + k] = !*known;
            *known = true;
        }
    }
    const bool is_fine = s->is_kept != NULL && is_known != NULL;
    free(is_known);
    for (size_t i = 0; is_fine && i < profile->site_count; i++)
        if (s->first_of[i] == i)
            keep_modules_of(s, i);
    return is_fine;
}

/* ---- timeline ---- */

static void put_timeline(saver *s, const moda_profile_process *p) {
    if (p->timeline_count == 0)
        return;
    const uint64_t offset =
        make_record(s, offsetof(moda_timeline, point) + p->timeline_count * sizeof(moda_timeline_point));
    moda_timeline *const t = at(s, offset);
    if (s->failed)
        return;
    t->count = (uint32_t)p->timeline_count;
    for (size_t i = 0; i < p->timeline_count; i++) {
        const moda_timeline_sample *const from = &p->timeline[i];
        t->point[i] = (moda_timeline_point){
            .ticks = from->time_ns,
            .current_bytes = from->current_bytes,
            .live_count = from->live_count,
            .total_bytes = from->total_bytes,
            .alloc_count = from->alloc_count,
            .resident_bytes = from->resident_bytes,
        };
    }
    header_of(s)->timeline = ref_of(offset);
}

/* ---- all of it ---- */

/* Sites are in the order of their processes, as the reader and merge.c leave them. */
static void put_processes(saver *s) {
    const moda_profile *const profile = s->profile;
    size_t site = 0;
    for (uint32_t i = 0; i < profile->process_count && !s->failed; i++) {
        const uint64_t begin = make_record(s, i == 0 ? MODA_REGION_FIRST : sizeof(moda_region_header));
        if (i > 0 && !s->failed)
            header_of(s)->next_process = ref_of(begin);
        s->part = begin;
        if (s->failed)
            return;
        put_header(s, &profile->processes[i]);
        put_merged(s, &profile->processes[i]);
        put_modules(s, i);
        put_threads(s, i);
        for (; site < profile->site_count && profile->sites[site].process == i && !s->failed; site++)
            if (s->first_of[site] == site)
                put_site(s, site);
        put_timeline(s, &profile->processes[i]);
    }
}

bool moda_profile_write(const moda_profile *profile, moda_out *out, moda_error *error) {
    saver s = {.profile = profile, .room = (size_t)1 << 20};
    moda_arena *const arena = moda_arena_new();
    s.bytes = malloc(s.room);
    bool is_fine = arena != NULL && s.bytes != NULL;
    if (is_fine)
        is_fine = moda_places_find(&s.places, profile, arena, error) && join_sites(&s) && choose_modules(&s);
    if (is_fine) {
        put_processes(&s);
        is_fine = !s.failed && s.used <= (uint64_t)UINT32_MAX * MODA_REF_UNIT;
    }
    if (is_fine) {
        moda_region_header *const h = at(&s, 0);
        h->used = h->committed = s.used;
        moda_out_bytes(out, s.bytes, s.used);
    }
    if (s.places.profile != NULL)
        moda_places_free(&s.places);
    moda_arena_free(arena);
    free(s.keys);
    free(s.first_of);
    free(s.values);
    free(s.is_kept);
    free(s.module_begin);
    free(s.bytes);
    return is_fine || moda_error_set(error, "merge: not enough memory");
}
