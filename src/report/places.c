/* SPDX-License-Identifier: MIT
 *
 * places.c - see places.h.
 */
#include "report/places.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t no_module = 0x80000000u;

static bool no_memory(const moda_places *t) {
    return moda_error_set(t->error, "report: not enough memory");
}

uint64_t moda_places_mix(uint64_t a, uint64_t b) {
    uint64_t x = (a ^ (b * 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    return x * 0x94d049bb133111ebu ^ x >> 32;
}

/* ---- modules ---- */

static int by_start(const void *a, const void *b) {
    const moda_module_range *const x = a, *const y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->module > y->module) - (x->module < y->module);
}

static void to_hex(const moda_profile_module *m, char hex[65]) {
    for (uint32_t i = 0; i < m->build_id_length && i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", m->build_id[i]);
}

static uint32_t join_module(moda_places *t, const moda_profile_module *m, bool is_main) {
    char hex[65] = "";
    to_hex(m, hex);
    for (size_t i = 0; i < t->module_count; i++)
        if (strcmp(t->modules[i].path, m->path) == 0 && strcmp(t->modules[i].build_id, hex) == 0)
            return (uint32_t)i;
    moda_report_module *const to = &t->modules[t->module_count];
    *to = (moda_report_module){
        .path = m->path,
        .start = m->start,
        .end = m->end,
        .file_offset = m->text_file_offset,
        .text_start = m->text_start,
        .text_end = m->text_end,
        .load_bias = m->load_bias,
        .is_main = is_main,
    };
    memcpy(to->build_id, hex, sizeof hex);
    return (uint32_t)t->module_count++;
}

static bool map_process(moda_places *t, uint32_t which) {
    const moda_profile_process *const p = &t->profile->processes[which];
    moda_process_map *const map = &t->maps[which];
    map->ranges = malloc((p->module_count + 1) * sizeof *map->ranges);
    map->joined = malloc((p->module_count + 1) * sizeof *map->joined);
    if (map->ranges == NULL || map->joined == NULL)
        return no_memory(t);
    map->count = p->module_count;
    for (size_t i = 0; i < p->module_count; i++) {
        const moda_profile_module *const m = &p->modules[i];
        map->ranges[i] = (moda_module_range){.start = m->start, .end = m->end, .module = (uint32_t)i};
        const bool is_main = which == 0 && strcmp(m->path, p->executable) == 0;
        map->joined[i] = join_module(t, m, is_main);
    }
    if (map->count > 1)
        qsort(map->ranges, map->count, sizeof *map->ranges, by_start);
    uint64_t reach = 0;
    for (size_t i = 0; i < map->count; i++) {
        if (map->ranges[i].end > reach)
            reach = map->ranges[i].end;
        map->ranges[i].reach = reach;
    }
    return true;
}

/* The executable comes first: pprof takes the first mapping for it. */
static void put_main_first(moda_places *t) {
    for (size_t i = 1; i < t->module_count; i++) {
        if (!t->modules[i].is_main)
            continue;
        const moda_report_module main_module = t->modules[i];
        t->modules[i] = t->modules[0];
        t->modules[0] = main_module;
        for (size_t p = 0; p < t->profile->process_count; p++) {
            for (size_t m = 0; m < t->maps[p].count; m++) {
                uint32_t *const index = &t->maps[p].joined[m];
                *index = *index == 0 ? (uint32_t)i : *index == i ? 0 : *index;
            }
        }
        return;
    }
}

static bool join_modules(moda_places *t) {
    size_t most = 0;
    for (size_t i = 0; i < t->profile->process_count; i++)
        most += t->profile->processes[i].module_count;
    t->modules = moda_arena_alloc(t->arena, (most + 1) * sizeof *t->modules);
    t->maps = calloc(t->profile->process_count, sizeof *t->maps);
    if (t->modules == NULL || t->maps == NULL)
        return no_memory(t);
    for (size_t i = 0; i < t->profile->process_count; i++)
        if (!map_process(t, (uint32_t)i))
            return false;
    put_main_first(t);
    return true;
}

static bool was_mapped(const moda_profile_module *m, uint32_t generation) {
    return m->generation_mapped <= generation
           && (m->generation_unmapped == 0 || m->generation_unmapped > generation);
}

/* Index of the process's module that held the address when the site was made; UINT32_MAX = none. Where only one
 * object was ever mapped there, it is that one, whatever the generations say: an object can be noticed later
 * than its first call. */
static uint32_t find_module(const moda_places *t, uint32_t process, uint64_t address, uint32_t generation) {
    const moda_process_map *const map = &t->maps[process];
    const moda_profile_module *const modules = t->profile->processes[process].modules;
    size_t low = 0, high = map->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (map->ranges[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t found = UINT32_MAX, only = UINT32_MAX;
    size_t candidates = 0;
    for (size_t i = low; i-- > 0 && map->ranges[i].reach > address;) {
        if (address >= map->ranges[i].end)
            continue;
        const uint32_t module = map->ranges[i].module;
        candidates++;
        only = module;
        if (!was_mapped(&modules[module], generation))
            continue;
        if (found == UINT32_MAX || modules[module].generation_mapped > modules[found].generation_mapped)
            found = module;
    }
    return found != UINT32_MAX || candidates != 1 ? found : only;
}

static uint64_t of_call(uint64_t address) {
    return address != 0 ? address - 1 : 0; /* of the call, not of what follows it */
}

uint32_t moda_places_module(const moda_places *t, const moda_profile_site *site, uint64_t address) {
    return find_module(t, site->process, of_call(address), site->generation);
}

/* ---- distinct addresses ---- */

static bool grow_places(moda_places *t) {
    if (t->count == t->room) {
        const size_t room = t->room == 0 ? 1024 : t->room * 2;
        moda_place *const grown = realloc(t->all, room * sizeof *grown);
        if (grown == NULL)
            return no_memory(t);
        t->all = grown;
        t->room = room;
    }
    if (t->count * 2 < t->table_room)
        return true;
    const size_t room = t->table_room == 0 ? 4096 : t->table_room * 2;
    uint32_t *const table = calloc(room, sizeof *table);
    if (table == NULL)
        return no_memory(t);
    for (size_t i = 0; i < t->count; i++) {
        size_t at = moda_places_mix(t->all[i].key_address, t->all[i].key_module) & (room - 1);
        while (table[at] != 0)
            at = (at + 1) & (room - 1);
        table[at] = (uint32_t)i + 1;
    }
    free(t->table);
    t->table = table;
    t->table_room = room;
    return true;
}

static bool intern_place(moda_places *t, const moda_profile_site *site, uint64_t address, uint32_t *index) {
    const uint64_t inside = of_call(address);
    const uint32_t in_process = moda_places_module(t, site, address);
    moda_place made = {
        .address = address, .process = site->process, .process_module = in_process, .module = UINT32_MAX};
    if (in_process != UINT32_MAX) {
        made.module = t->maps[site->process].joined[in_process];
        made.key_module = made.module;
        made.key_address = inside - t->profile->processes[site->process].modules[in_process].load_bias;
    } else {
        made.key_module = no_module | site->process;
        made.key_address = inside;
    }
    if (!grow_places(t))
        return false;
    size_t at = moda_places_mix(made.key_address, made.key_module) & (t->table_room - 1);
    for (; t->table[at] != 0; at = (at + 1) & (t->table_room - 1)) {
        const moda_place *const other = &t->all[t->table[at] - 1];
        if (other->key_address == made.key_address && other->key_module == made.key_module) {
            *index = t->table[at] - 1;
            return true;
        }
    }
    *index = (uint32_t)t->count;
    t->all[t->count++] = made;
    t->table[at] = (uint32_t)t->count;
    return true;
}

static bool collect_places(moda_places *t) {
    size_t all = 0;
    for (size_t i = 0; i < t->profile->site_count; i++)
        all += t->profile->sites[i].address_count;
    t->of_sites = malloc((all + 1) * sizeof *t->of_sites);
    t->begin = malloc((t->profile->site_count + 1) * sizeof *t->begin);
    if (t->of_sites == NULL || t->begin == NULL)
        return no_memory(t);
    size_t at = 0;
    for (size_t i = 0; i < t->profile->site_count; i++) {
        const moda_profile_site *const site = &t->profile->sites[i];
        t->begin[i] = at;
        for (uint32_t k = 0; k < site->address_count; k++)
            if (!intern_place(t, site, site->addresses[k], &t->of_sites[at++]))
                return false;
    }
    t->begin[t->profile->site_count] = at;
    return true;
}

/* ---- all of it ---- */

bool moda_places_find(moda_places *t, const moda_profile *profile, moda_arena *arena, moda_error *error) {
    *t = (moda_places){.profile = profile, .arena = arena, .error = error};
    return join_modules(t) && collect_places(t);
}

void moda_places_free(moda_places *t) {
    for (size_t i = 0; t->maps != NULL && i < t->profile->process_count; i++) {
        free(t->maps[i].ranges);
        free(t->maps[i].joined);
    }
    free(t->maps);
    free(t->all);
    free(t->table);
    free(t->of_sites);
    free(t->begin);
}
