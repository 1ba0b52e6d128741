/* SPDX-License-Identifier: MIT
 *
 * make_region.c - the allocator's bookkeeping, played slowly and plainly; see make_region.h.
 *
 * Peaks are noticed as the allocator notices them: before a free, and at the end.
 */
#include "make_region.h"

#include <elf.h>
#include <execinfo.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 64, CLOCK_START = 1000000 };

struct make_region {
    uint8_t *bytes;
    size_t size;
    moda_shard_block *shards;
    uint32_t threads;
    uint64_t now;
    int64_t current, live;
    make_block *blocks; /* all, to free them */
};

struct make_block {
    make_block *next;
    moda_site *site;
    moda_shard *thread;
    uint64_t size, requested, weight, born;
    bool is_freed;
};

moda_region_header *make_region_header(make_region *region) {
    return (moda_region_header *)(void *)region->bytes;
}

uint8_t *make_region_bytes(make_region *region) {
    return region->bytes;
}

void *make_region_at(make_region *region, moda_ref ref) {
    return region->bytes + (size_t)ref * MODA_REF_UNIT;
}

static moda_ref ref_of(make_region *region, const void *record) {
    return (moda_ref)((size_t)((const uint8_t *)record - region->bytes) / MODA_REF_UNIT);
}

static void *hand_out(make_region *region, size_t size) {
    moda_region_header *const h = make_region_header(region);
    const size_t at = h->used;
    size = (size + MODA_REGION_ALIGN - 1) / MODA_REGION_ALIGN * MODA_REGION_ALIGN;
    if (size > region->size - at) {
        fprintf(stderr, "make_region: %zu bytes are too few\n", region->size);
        abort();
    }
    h->used += size;
    return region->bytes + at;
}

make_region *make_region_new(size_t size) {
    make_region *const region = calloc(1, sizeof *region);
    region->size = size + MODA_REGION_FIRST;
    region->bytes = calloc(1, region->size);
    region->now = CLOCK_START;
    moda_region_header *const h = make_region_header(region);
    *h = (moda_region_header){
        .version = MODA_REGION_VERSION,
        .byte_order = MODA_REGION_BYTE_ORDER,
        .header_size = sizeof *h,
        .shard_size = sizeof(moda_shard),
        .site_size = sizeof(moda_site),
        .module_size = sizeof(moda_module),
        .memory_max = 64u << 20,
        .page_size = 4096,
        .pid = (uint32_t)getpid(),
        .parent_pid = (uint32_t)getppid(),
        .start_realtime_ns = 1700000000000000000u,
        .start_monotonic_ns = CLOCK_START,
        .start_ticks = CLOCK_START,
        .mod_alloc_version = "0.1.0",
        .mimalloc_version = "2.0.9",
        .machine = "x86_64",
        .frames_max = 64,
        .seed = 1,
        .short_lived_ns = 1000000,
        .sample_bytes = 1,
        .flags = MODA_REGION_CLEAN_EXIT | MODA_REGION_FILE,
        .used = MODA_REGION_FIRST,
        .peak_epoch = 1,
    };
    memcpy(h->magic, MODA_REGION_MAGIC, sizeof h->magic);
    const ssize_t length = readlink("/proc/self/exe", h->executable, sizeof h->executable - 1);
    if (length < 0)
        strcpy(h->executable, "?");
    snprintf(h->command_line, sizeof h->command_line, "%.500s --example", h->executable);
    region->shards = hand_out(region, sizeof *region->shards + SLOTS * sizeof(moda_shard));
    region->shards->count = SLOTS;
    for (uint32_t i = 0; i < SLOTS; i++)
        region->shards->shard[i].index = i;
    h->shard_blocks = ref_of(region, region->shards);
    h->slot_count = SLOTS;
    moda_site *const overflow = hand_out(region, sizeof *overflow);
    overflow->walk_end = 5;
    overflow->counts.lifetime_min = UINT64_MAX;
    h->overflow_site = ref_of(region, overflow);
    return region;
}

void make_region_free(make_region *region) {
    if (region == NULL)
        return;
    for (make_block *block = region->blocks; block != NULL;) {
        make_block *const next = block->next;
        free(block);
        block = next;
    }
    free(region->bytes);
    free(region);
}

moda_module *make_region_module(make_region *region, const char *path, uint64_t start, uint64_t end,
                                uint64_t load_bias) {
    moda_region_header *const h = make_region_header(region);
    moda_module *const module = hand_out(region, sizeof *module + strlen(path) + 1);
    module->path_length = (uint32_t)strlen(path);
    memcpy(module->path, path, strlen(path) + 1);
    module->start = module->text_start = start;
    module->end = module->text_end = end;
    module->load_bias = load_bias;
    module->generation_mapped = ++h->module_generation;
    module->next = h->modules;
    h->modules = ref_of(region, module);
    h->module_count++;
    return module;
}

static void read_build_id(const struct dl_phdr_info *info, const ElfW(Phdr) * segment, moda_module *module) {
    const char *at = (const char *)(info->dlpi_addr + segment->p_vaddr);
    const char *const end = at + segment->p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
        const ElfW(Nhdr) *const note = (const ElfW(Nhdr) *)(const void *)at;
        const char *const name = at + sizeof *note;
        const char *const value = name + ((note->n_namesz + 3u) & ~3u);
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && memcmp(name, "GNU", 4) == 0
            && note->n_descsz <= sizeof module->build_id) {
            module->build_id_length = note->n_descsz;
            memcpy(module->build_id, value, note->n_descsz);
        }
        at = value + ((note->n_descsz + 3u) & ~3u);
    }
}

static int add_module(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    make_region *const region = context;
    uint64_t start = UINT64_MAX, end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *const segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD)
            continue;
        const uint64_t from = info->dlpi_addr + segment->p_vaddr;
        if (from < start)
            start = from;
        if (from + segment->p_memsz > end)
            end = from + segment->p_memsz;
    }
    const char *path = info->dlpi_name;
    if (path[0] == 0)
        path = make_region_header(region)->executable;
    else if (strncmp(path, "linux-vdso", 10) == 0)
        path = "[vdso]";
    moda_module *const module = make_region_module(region, path, start, end, info->dlpi_addr);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *const segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_NOTE)
            read_build_id(info, segment, module);
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0) {
            module->text_start = info->dlpi_addr + segment->p_vaddr;
            module->text_end = module->text_start + segment->p_memsz;
            module->text_file_offset = segment->p_offset;
        }
    }
    return 0;
}

void make_region_modules_of_this_process(make_region *region) {
    dl_iterate_phdr(add_module, region);
}

moda_shard *make_region_thread(make_region *region, uint32_t tid, const char *name, uint32_t delta_entries) {
    moda_region_header *const h = make_region_header(region);
    moda_shard *const shard = &region->shards->shard[region->threads++];
    shard->state = MODA_SLOT_TAKEN;
    shard->incarnation = 1;
    shard->tid = tid;
    shard->started_ticks = region->now;
    snprintf(shard->name, sizeof shard->name, "%s", name);
    /* As a real shard's: the differences count, not the numbers. */
    shard->budget = shard->free_budget = 1 << 20;
    shard->alloc_word = moda_word_of_bytes(1 << 20) | MODA_ALLOC_WORD_NEW;
    shard->free_word = moda_word_of_bytes(1 << 20);
    shard->sample_bytes = h->sample_bytes;
    h->threads_ever++;
    h->threads_now++;
    h->solo_epoch++;
    if (delta_entries > 0) {
        moda_delta_cache *const cache =
            hand_out(region, sizeof *cache + delta_entries * sizeof(moda_site_delta));
        cache->entries = delta_entries;
        shard->deltas = ref_of(region, cache);
    }
    return shard;
}

moda_site *make_region_site(make_region *region, const uint64_t *frames, uint32_t count, moda_shard *maker) {
    moda_region_header *const h = make_region_header(region);
    moda_site *const site = hand_out(region, sizeof *site + count * sizeof frames[0]);
    site->id = ++h->site_count;
    site->frame_count = (uint16_t)count;
    site->generation = h->module_generation;
    site->first_slot = maker != NULL ? maker->index : UINT32_MAX;
    site->counts.lifetime_min = UINT64_MAX;
    memcpy(site->frames, frames, count * sizeof frames[0]);
    site->next_in_list = h->site_list;
    h->site_list = ref_of(region, site);
    return site;
}

__attribute__((noinline)) moda_site *make_region_site_here(make_region *region, moda_shard *maker) {
    void *addresses[64];
    uint64_t frames[64];
    const int count = backtrace(addresses, 64);
    int caller = 1; /* in front of it: this function, and under a sanitizer what stands before backtrace */
    while (caller < count && addresses[caller] != __builtin_return_address(0))
        caller++;
    for (int i = caller; i < count; i++)
        frames[i - caller] = (uint64_t)(uintptr_t)addresses[i];
    return make_region_site(region, frames, (uint32_t)(count - caller), maker);
}

void make_region_pass_time(make_region *region, uint64_t ns) {
    region->now += ns;
}

static int64_t site_live(const moda_site_counts *c) {
    return (int64_t)(c->alloc_bytes - c->free_bytes);
}

static void keep_peak(moda_site_counts *c, uint64_t epoch) {
    if (c->at_peak_epoch == epoch)
        return;
    c->at_peak_epoch = epoch;
    c->at_peak_bytes = site_live(c);
    c->at_peak_count = (int64_t)(c->alloc_count - c->free_count);
    c->at_peak_requested = (int64_t)(c->alloc_requested - c->free_requested);
}

static void give_up_delta(make_region *region, moda_site_delta *delta) {
    if (delta->site == 0)
        return;
    const uint64_t epoch = make_region_header(region)->peak_epoch;
    moda_site_counts *const to = &((moda_site *)make_region_at(region, delta->site))->counts;
    moda_site_counts *const from = &delta->counts;
    keep_peak(to, epoch);
    keep_peak(from, epoch);
    if (from->peak_bytes > 0 && site_live(to) + from->peak_bytes > to->peak_bytes) {
        to->peak_count = (int64_t)(to->alloc_count - to->free_count) + from->peak_count;
        to->peak_bytes = site_live(to) + from->peak_bytes;
    }
    to->at_peak_bytes += from->at_peak_bytes;
    to->at_peak_count += from->at_peak_count;
    to->at_peak_requested += from->at_peak_requested;
    to->alloc_samples += from->alloc_samples;
    to->alloc_count += from->alloc_count;
    to->alloc_bytes += from->alloc_bytes;
    to->alloc_requested += from->alloc_requested;
    to->free_samples += from->free_samples;
    to->free_count += from->free_count;
    to->free_bytes += from->free_bytes;
    to->free_requested += from->free_requested;
    to->lifetime_count += from->lifetime_count;
    to->lifetime_sum += from->lifetime_sum;
    if (from->lifetime_min < to->lifetime_min)
        to->lifetime_min = from->lifetime_min;
    if (from->lifetime_max > to->lifetime_max)
        to->lifetime_max = from->lifetime_max;
    to->short_lived_count += from->short_lived_count;
    to->remote_free_count += from->remote_free_count;
    to->moved_count += from->moved_count;
    memset(delta, 0, sizeof *delta);
}

/* Where the thread writes the site's counts, with the peak kept. */
static moda_site_counts *counts_of(make_region *region, moda_shard *thread, moda_site *site) {
    moda_site_counts *counts = &site->counts;
    if (thread->deltas != 0) {
        moda_delta_cache *const cache = make_region_at(region, thread->deltas);
        moda_site_delta *const delta = &cache->delta[site->id & (cache->entries - 1)];
        if (delta->site != ref_of(region, site)) {
            give_up_delta(region, delta);
            delta->site = ref_of(region, site);
            delta->counts.lifetime_min = UINT64_MAX;
            /* What came before is in the site: the delta had nothing at the peak. */
            delta->counts.at_peak_epoch = make_region_header(region)->peak_epoch;
        }
        counts = &delta->counts;
    }
    keep_peak(counts, make_region_header(region)->peak_epoch);
    return counts;
}

static void notice_peak(make_region *region) {
    moda_region_header *const h = make_region_header(region);
    if (region->current <= h->peak_bytes)
        return;
    h->peak_bytes = region->current;
    h->peak_live = region->live;
    h->peak_ticks = region->now;
    h->peak_epoch++;
}

static unsigned size_class(uint64_t size) {
    unsigned k = 0;
    while (k < 63 && (uint64_t)1 << k < size)
        k++;
    return k;
}

make_block *make_region_allocate(make_region *region, moda_shard *thread, moda_site *site,
                                 uint64_t block_size, uint64_t requested, uint64_t weight) {
    make_block *const block = calloc(1, sizeof *block);
    *block = (make_block){.next = region->blocks,
                          .site = site,
                          .thread = thread,
                          .size = block_size,
                          .requested = requested,
                          .weight = weight,
                          .born = region->now};
    region->blocks = block;
    thread->budget += (int64_t)block_size;
    thread->alloc_base++;
    thread->requested_base += requested;
    region->current += (int64_t)block_size;
    region->live++;
    if (site == NULL)
        return block;
    thread->samples++;
    thread->walks[site->walk_end]++;
    thread->size_samples[size_class(block_size)] += weight;
    moda_site_counts *const c = counts_of(region, thread, site);
    c->alloc_samples++;
    c->alloc_count += weight;
    c->alloc_bytes += block_size * weight / MODA_COUNT_ONE;
    c->alloc_requested += requested * weight / MODA_COUNT_ONE;
    if (site_live(c) > c->peak_bytes) {
        c->peak_bytes = site_live(c);
        c->peak_count = (int64_t)(c->alloc_count - c->free_count);
    }
    return block;
}

void make_region_release(make_region *region, moda_shard *thread, make_block *block) {
    if (block->is_freed)
        abort();
    block->is_freed = true;
    notice_peak(region);
    thread->free_budget += (int64_t)block->size;
    thread->free_base++;
    region->current -= (int64_t)block->size;
    region->live--;
    if (block->site == NULL)
        return;
    moda_site_counts *const c = counts_of(region, thread, block->site);
    const uint64_t life = region->now - block->born;
    c->free_samples++;
    c->free_count += block->weight;
    c->free_bytes += block->size * block->weight / MODA_COUNT_ONE;
    c->free_requested += block->requested * block->weight / MODA_COUNT_ONE;
    c->lifetime_count += block->weight;
    c->lifetime_sum += life * block->weight / MODA_COUNT_ONE;
    if (life < c->lifetime_min)
        c->lifetime_min = life;
    if (life > c->lifetime_max)
        c->lifetime_max = life;
    if (life < make_region_header(region)->short_lived_ns)
        c->short_lived_count += block->weight;
    if (thread != block->thread)
        c->remote_free_count += block->weight;
}

void make_region_timeline(make_region *region, uint32_t count) {
    moda_timeline *const line = hand_out(region, sizeof *line);
    line->count = count;
    line->interval_ticks = 1000000;
    for (uint32_t i = 0; i < count; i++) {
        line->point[i] = (moda_timeline_point){.ticks = CLOCK_START + (i + 1) * line->interval_ticks,
                                               .current_bytes = (uint64_t)(i + 1) << 20,
                                               .live_count = (i + 1) * 10,
                                               .total_bytes = (uint64_t)(i + 1) << 21,
                                               .alloc_count = (i + 1) * 20,
                                               .resident_bytes = (uint64_t)(i + 2) << 20};
    }
    make_region_header(region)->timeline = ref_of(region, line);
}

size_t make_region_finish(make_region *region) {
    moda_region_header *const h = make_region_header(region);
    notice_peak(region);
    h->latest_ticks = h->latest_monotonic_ns = region->now;
    h->committed = h->used;
    h->published_sum = region->current;
    for (uint32_t i = 0; i < SLOTS; i++) {
        moda_shard *const shard = &region->shards->shard[i];
        shard->published = shard->budget - moda_alloc_word_bytes(shard->alloc_word) - shard->free_budget
                           + moda_free_word_bytes(shard->free_word);
    }
    if (h->resident_bytes == 0) {
        h->heap_committed_bytes = (uint64_t)region->current + (1u << 20);
        h->resident_bytes = h->heap_committed_bytes + (3u << 20);
        h->resident_peak_bytes = (uint64_t)h->peak_bytes + (5u << 20);
        h->region_resident_bytes = h->used;
    }
    return h->used;
}

bool make_region_save(make_region *region, const char *path) {
    const size_t size = make_region_finish(region);
    FILE *const file = fopen(path, "we");
    if (file == NULL)
        return false;
    const bool is_written = fwrite(region->bytes, 1, size, file) == size;
    return fclose(file) == 0 && is_written;
}

/* ---- the example: what each function allocates is in its name ---- */

static volatile int sink;

__attribute__((noinline)) static moda_site *ten_blocks_of_100(make_region *region, moda_shard *thread) {
    moda_site *const site = make_region_site_here(region, thread);
    sink++;
    return site;
}

__attribute__((always_inline)) static inline moda_site *inlined_inner(make_region *region,
                                                                      moda_shard *thread) {
    moda_site *const site = make_region_site_here(region, thread);
    sink++;
    return site;
}

__attribute__((always_inline)) static inline moda_site *inlined_outer(make_region *region,
                                                                      moda_shard *thread) {
    moda_site *const site = inlined_inner(region, thread);
    sink++;
    return site;
}

__attribute__((noinline)) static moda_site *five_blocks_of_4096_inlined(make_region *region,
                                                                        moda_shard *thread) {
    moda_site *const site = inlined_outer(region, thread);
    sink++;
    return site;
}

__attribute__((noinline)) static moda_site *recursive(make_region *region, moda_shard *thread, int depth) {
    moda_site *const site =
        depth > 0 ? recursive(region, thread, depth - 1) : make_region_site_here(region, thread);
    sink++;
    return site;
}

typedef struct callback {
    make_region *region;
    moda_shard *thread;
    moda_site *site;
} callback;

/* Called by the C library's qsort: frames of another module lie in between. */
static callback *in_callback;
static int compare_and_allocate(const void *a, const void *b) {
    if (in_callback->site == NULL)
        in_callback->site = make_region_site_here(in_callback->region, in_callback->thread);
    return (*(const char *)a > *(const char *)b) - (*(const char *)a < *(const char *)b);
}

__attribute__((noinline)) static moda_site *one_block_of_a_mebibyte_in_qsort(make_region *region,
                                                                             moda_shard *thread) {
    callback call = {.region = region, .thread = thread};
    char letters[] = "cab";
    in_callback = &call;
    qsort(letters, 3, 1, compare_and_allocate);
    sink++;
    return call.site;
}

/* Totals: 10 x 112 (100 asked) + 5 x 4096 + 3 x 64 (60) + 1 MiB + 1000 x 16 (1), 1019 blocks.
 * Freed: 6 of the 112s by another thread, all 1000 of 16 at once, the mebibyte. The peak is just before the
 * mebibyte goes: everything but the 1000 small ones, which come later and go one by one. */
make_region *make_region_example(void) {
    make_region *const region = make_region_new(1u << 20);
    make_region_modules_of_this_process(region);
    moda_shard *const main_thread = make_region_thread(region, 1000, "example", 8);
    moda_shard *const worker = make_region_thread(region, 1001, "worker", 0);
    moda_shard *const orphan = make_region_thread(region, 0, "", 0);
    orphan->state = MODA_SLOT_ORPHAN;
    make_region_header(region)->threads_now = 2;

    moda_site *const small = ten_blocks_of_100(region, main_thread);
    moda_site *const pages = five_blocks_of_4096_inlined(region, main_thread);
    moda_site *const deep = recursive(region, worker, 5);
    moda_site *const big = one_block_of_a_mebibyte_in_qsort(region, main_thread);
    moda_site *const temporary = ten_blocks_of_100(region, main_thread);
    const uint64_t strange[] = {0x1234, 0x5678};
    moda_site *const nowhere = make_region_site(region, strange, 2, worker);
    nowhere->walk_end = 4;

    make_block *smalls[10];
    for (int i = 0; i < 10; i++)
        smalls[i] = make_region_allocate(region, main_thread, small, 112, 100, 65536);
    for (int i = 0; i < 5; i++)
        make_region_allocate(region, main_thread, pages, 4096, 4096, 65536);
    for (int i = 0; i < 3; i++)
        make_region_allocate(region, worker, deep, 64, 60, 65536);
    make_block *const mebibyte = make_region_allocate(region, main_thread, big, 1u << 20, 1u << 20, 65536);
    make_region_pass_time(region, 5000000);
    make_region_release(region, main_thread, mebibyte);
    for (int i = 0; i < 1000; i++) {
        make_block *const block = make_region_allocate(region, main_thread, temporary, 16, 1, 65536);
        make_region_pass_time(region, 100);
        make_region_release(region, main_thread, block);
    }
    for (int i = 0; i < 6; i++)
        make_region_release(region, worker, smalls[i]);
    make_region_allocate(region, worker, nowhere, 32, 32, 65536);
    make_region_timeline(region, 5);
    make_region_pass_time(region, 5000000);
    return region;
}

typedef struct text_ranges {
    uint64_t start[64], end[64];
    int count;
} text_ranges;

static int add_text(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    text_ranges *const ranges = context;
    for (int i = 0; i < info->dlpi_phnum && ranges->count < 64; i++) {
        const ElfW(Phdr) *const segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_X) == 0)
            continue;
        ranges->start[ranges->count] = info->dlpi_addr + segment->p_vaddr;
        ranges->end[ranges->count++] = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
    }
    return 0;
}

make_region *make_region_large(uint32_t count) {
    make_region *const region = make_region_new((size_t)count * 640 + (1u << 20));
    make_region_modules_of_this_process(region);
    moda_shard *const thread = make_region_thread(region, 1000, "large", 0);
    text_ranges text = {.count = 0};
    dl_iterate_phdr(add_text, &text);
    uint64_t random = 88172645463325252u; /* xorshift64 */
    for (uint32_t i = 0; i < count; i++) {
        uint64_t frames[40];
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        const uint32_t depth = 4 + (uint32_t)(random % 36);
        for (uint32_t k = 0; k < depth; k++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            const int which = (int)(random % (uint64_t)text.count);
            frames[k] = text.start[which] + (random >> 20) % (text.end[which] - text.start[which]);
        }
        moda_site *const site = make_region_site(region, frames, depth, thread);
        make_region_allocate(region, thread, site, 16 + i % 4096, 1 + i % 4096, 65536);
    }
    make_region_pass_time(region, 1000000000);
    return region;
}
