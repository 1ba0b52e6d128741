/* SPDX-License-Identifier: MIT
 *
 * make_region.h - builds regions by hand, as region/layout.h says, for tests of what reads them.
 *
 * It plays the allocator: blocks are allocated and freed one by one at call sites, on threads, and the
 * region holds exactly what a profiled program's would. Figures are therefore known in advance. Not for more
 * than one thread at a time.
 */
#ifndef MODA_TESTS_MAKE_REGION_H
#define MODA_TESTS_MAKE_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "region/layout.h"

typedef struct make_region make_region;
typedef struct make_block make_block;

/* Room for `size` bytes of records. One tick is one nanosecond, the clock starts at 1,000,000. */
make_region *make_region_new(size_t size);
void make_region_free(make_region *region);

/* The bytes; make_region_finish brings header, peak and clock up to date and returns their number. */
uint8_t *make_region_bytes(make_region *region);
size_t make_region_finish(make_region *region);
bool make_region_save(make_region *region, const char *path); /* finishes, and writes a file */
moda_region_header *make_region_header(make_region *region);
void *make_region_at(make_region *region, moda_ref ref);

/* Modules: one by one, or those of this process with their build ids. */
moda_module *make_region_module(make_region *region, const char *path, uint64_t start, uint64_t end,
                                uint64_t load_bias);
void make_region_modules_of_this_process(make_region *region);

/* A thread; the first call makes room for 64 of them. With delta_entries > 0 (a power of two) it gathers
 * deltas, as real threads do, instead of writing to the sites. */
moda_shard *make_region_thread(make_region *region, uint32_t tid, const char *name, uint32_t delta_entries);

/* A site with the given return addresses, innermost first. */
moda_site *make_region_site(make_region *region, const uint64_t *frames, uint32_t count, moda_shard *maker);
/* The site of the place it is called from (by backtrace()), and its callers, up to main. */
moda_site *make_region_site_here(make_region *region, moda_shard *maker);

void make_region_pass_time(make_region *region, uint64_t ns);

/* One allocation; weight 65536 = it stands for itself. site NULL: not sampled. */
make_block *make_region_allocate(make_region *region, moda_shard *thread, moda_site *site,
                                 uint64_t block_size, uint64_t requested, uint64_t weight);
void make_region_release(make_region *region, moda_shard *thread, make_block *block);

/* A timeline of `count` points, growing by one MiB each. */
void make_region_timeline(make_region *region, uint32_t count);

/* A small exact profile of this process: known sites in nested, inlined, static and library functions, three
 * threads, freed and live blocks, a peak that is over. The figures are in make_region.c. */
make_region *make_region_example(void);
/* `count` sites of random depth whose addresses lie in the text of this process's modules. */
make_region *make_region_large(uint32_t count);

#endif
