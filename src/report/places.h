/* SPDX-License-Identifier: MIT
 *
 * places.h - the distinct addresses of a profile: the modules of all its processes are joined, and each address of
 * each site becomes a place. build.c names places; save.c joins sites by them.
 *
 * Memory: the joined modules are the arena's; all else is malloc's and goes with moda_places_free.
 *
 * Laws
 *   1. a place is (module, address in its file), so that the same code in two processes is one place wherever it
 *      was mapped; without a module it is (process, address).
 *   2. places are numbered in the order in which sites lead to them.
 */
#ifndef MODA_REPORT_PLACES_H
#define MODA_REPORT_PLACES_H

#include "report/report.h"

typedef struct moda_module_range {
    uint64_t start, end, reach; /* reach: furthest end of this and those before */
    uint32_t module;            /* index into the process's modules */
} moda_module_range;

typedef struct moda_process_map {
    moda_module_range *ranges;
    size_t count;
    uint32_t *joined; /* index into moda_places.modules, by index into the process's modules */
} moda_process_map;

typedef struct moda_place {
    uint64_t address; /* as recorded, of the first process */
    uint64_t key_address;
    uint32_t key_module;               /* joined module, or no module and the process */
    uint32_t module;                   /* joined module or UINT32_MAX */
    uint32_t process, process_module;  /* where it was met first */
    const struct moda_symbol *symbols; /* build.c's */
    uint32_t symbol_count;
} moda_place;

typedef struct moda_places {
    const moda_profile *profile;
    moda_arena *arena;
    moda_error *error;

    moda_process_map *maps; /* by process */
    moda_report_module *modules;
    size_t module_count;

    moda_place *all;
    size_t count, room;
    uint32_t *table; /* index + 1; open addressing */
    size_t table_room;

    uint32_t *of_sites; /* of all sites, one after another, innermost first */
    size_t *begin;      /* by site; one more at the end */
} moda_places;

/* False with a message where memory runs out; moda_places_free in either case. */
bool moda_places_find(moda_places *places, const moda_profile *profile, moda_arena *arena, moda_error *error);
void moda_places_free(moda_places *places);

/* Index of the process's module that held the return address when the site was made; UINT32_MAX = none. */
uint32_t moda_places_module(const moda_places *places, const moda_profile_site *site, uint64_t address);

/* A hash of two words. */
uint64_t moda_places_mix(uint64_t a, uint64_t b);

#endif
