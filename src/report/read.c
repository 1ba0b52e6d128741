/* SPDX-License-Identifier: MIT
 *
 * read.c - a region becomes a profile: from a file, a running process, this process, or plain bytes.
 *
 * The bytes are copied once, by pread, so that a file that shrinks (mapped, it would be SIGBUS) or a program that
 * goes on cannot hurt the reader; records that a running program may be changing are taken again, one by one, until
 * their seq holds still. Memory is the profile's arena and, for as long as the reading lasts, one copy of the region
 * without its pages of zeros.
 *
 * Laws
 *   1. nothing in the copy is believed: each ref, count and length is held against the copy's size, each chain
 *      has a greatest length, each string an end.
 *   2. what is wrong is said in one line: source, offset, what was found, what was expected.
 *   3. a program killed in the middle of a write leaves a readable region: what was half written is counted as
 *      torn, not refused.
 */
#include "report/report.h"

#include "base/compiler.h"
#include "region/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The allocator may not be in this process. */
#pragma weak mod_alloc_region

enum { SEQ_TRIES = 100 };
enum { PAGE = 4096, CHUNK = 16 * PAGE }; /* how bytes are read, and what is left out of the copy as zeros */
enum { LARGE_COPY = 1 << 20 };           /* from here on the copy's memory is mapped: zeros cost none of it */

typedef struct reader {
    /* where bytes come from: `fd` at `base` (a file at 0, a process's memory at the region's address), or
     * `memory` */
    int fd;
    uint64_t base;
    const void *memory;
    uint64_t source_size; /* of file or memory; UINT64_MAX = not known */
    bool is_live;
    const char *source;

    uint8_t *copy;
    size_t copy_size;
    uint64_t first,
        size; /* records lie from `first` on, before `size`: the bytes handed out, or one part's end */
    moda_region_header header;
    const moda_inherited *inherited; /* of a forked child */

    moda_arena *arena;
    moda_profile *profile;
    moda_profile_process *process;
    double ns_per_tick;
    uint64_t torn;
    moda_error *error;
} reader;

/* A site with the ref that finds it again. */
typedef struct site_place {
    uint64_t offset;
    uint32_t index;
} site_place;

static bool bad(reader *r, uint64_t offset, const char *what, uint64_t found, const char *expected) {
    return moda_error_set(r->error, "%s: at offset %" PRIu64 ": %s is %" PRIu64 ", expected %s", r->source,
                          offset, what, found, expected);
}

static bool no_memory(reader *r) {
    return moda_error_set(r->error, "%s: not enough memory to read it", r->source);
}

/* False: errno says why; 0 = the source ends there. */
static bool fetch(const reader *r, uint64_t offset, void *to, size_t length) {
    errno = 0;
    if (r->source_size != UINT64_MAX && (offset > r->source_size || length > r->source_size - offset))
        return false;
    if (r->memory != NULL) {
        /* The program's threads may be writing here: word by word, and no caching by the compiler. */
        const volatile uint8_t *const from = (const volatile uint8_t *)r->memory + offset;
        size_t i = 0;
        if (((uintptr_t)from & 7) == 0 && ((uintptr_t)to & 7) == 0)
            for (; i + 8 <= length; i += 8)
                *(uint64_t *)(void *)((uint8_t *)to + i) =
                    *(const volatile uint64_t *)(const volatile void *)(from + i);
        for (; i < length; i++)
            ((uint8_t *)to)[i] = from[i];
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        return true;
    }
    for (size_t done = 0; done < length;) {
        const ssize_t n = pread(r->fd, (char *)to + done, length - done, (off_t)(r->base + offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = 0;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* After a fetch that failed; `expected` bytes had been there, or had been promised. */
static bool cannot_fetch(reader *r, uint64_t expected) {
    const int why = errno;
    struct stat status;
    if (why != 0)
        return moda_error_set(r->error, "%s: cannot be read up to offset %" PRIu64 ": %s", r->source,
                              expected, strerror(why));
    if (r->fd >= 0 && fstat(r->fd, &status) == 0 && S_ISREG(status.st_mode))
        r->source_size = (uint64_t)status.st_size; /* it may have been cut since */
    if (r->source_size < expected)
        return moda_error_set(
            r->error, "%s: at offset %" PRIu64 ": the file ends, expected %" PRIu64 " bytes (truncated?)",
            r->source, r->source_size, expected);
    return moda_error_set(r->error, "%s: ended while it was read, expected %" PRIu64 " bytes", r->source,
                          expected);
}

/* The record at a ref, or NULL with a message. `least` bytes of it lie inside the copy. */
static void *record(reader *r, uint64_t holder, moda_ref ref, size_t least, const char *what) {
    const uint64_t offset = (uint64_t)ref * MODA_REF_UNIT;
    if (offset >= r->first && offset % MODA_REGION_ALIGN == 0 && offset <= r->size
        && least <= r->size - offset)
        return r->copy + offset;
    moda_error_set(r->error,
                   "%s: at offset %" PRIu64 ": the ref to a %s leads to offset %" PRIu64
                   ", expected a multiple of %u from %" PRIu64
                   " on, with %zu bytes before the end at %" PRIu64,
                   r->source, holder, what, offset, MODA_REGION_ALIGN, r->first, least, r->size);
    return NULL;
}

static uint64_t offset_of(const reader *r, const void *in_copy) {
    return (uint64_t)((const uint8_t *)in_copy - r->copy);
}

/* In a region that is being written a list may have grown since the copy was begun. */
static bool is_newer_than_copy(const reader *r, moda_ref ref) {
    return r->is_live && (uint64_t)ref * MODA_REF_UNIT >= r->size;
}

/* Brings the copy of a record guarded by a seq into one consistent state. */
static void settle(reader *r, void *in_copy, size_t size, const uint32_t *seq) {
    if (!r->is_live) {
        if (*seq & 1)
            r->torn++;
        return;
    }
    const uint64_t offset = offset_of(r, in_copy), seq_offset = offset_of(r, seq);
    for (int i = 0; i < SEQ_TRIES; i++) {
        uint32_t before, after;
        if (!fetch(r, seq_offset, &before, sizeof before))
            break;
        if (before & 1)
            continue;
        if (!fetch(r, offset, in_copy, size))
            break;
        if (!fetch(r, seq_offset, &after, sizeof after))
            break;
        if (before == after)
            return;
    }
    r->torn++;
}

/* ---- header ---- */

static bool check_header(reader *r, uint64_t base) {
    const moda_region_header *const h = &r->header;
    if (moda_region_is_unfinished(h) && h->byte_order == MODA_REGION_BYTE_ORDER)
        return moda_error_set(r->error,
                              "%s: at offset %" PRIu64 ": unfinished: process %" PRIu32
                              " was killed (or still is) in the middle of making it, expected \"%s\"",
                              r->source, base, h->pid, MODA_REGION_MAGIC);
    if (moda_region_is_unfinished(h))
        return moda_error_set(r->error,
                              "%s: at offset %" PRIu64
                              ": zeros: not a mod-alloc profile, or unfinished: its process was"
                              " killed as it began, expected \"%s\"",
                              r->source, base, MODA_REGION_MAGIC);
    if (memcmp(h->magic, MODA_REGION_MAGIC, sizeof h->magic) != 0)
        return moda_error_set(r->error, "%s: at offset %" PRIu64 ": not a mod-alloc profile, expected \"%s\"",
                              r->source, base, MODA_REGION_MAGIC);
    if (h->byte_order == __builtin_bswap32(MODA_REGION_BYTE_ORDER))
        return moda_error_set(
            r->error,
            "%s: at offset %" PRIu64 ": written on a machine of the other byte order, expected 0x%08x",
            r->source, base + offsetof(moda_region_header, byte_order), MODA_REGION_BYTE_ORDER);
    if (h->byte_order != MODA_REGION_BYTE_ORDER)
        return bad(r, base + offsetof(moda_region_header, byte_order), "byte order mark", h->byte_order,
                   "16909060");
    if (h->version != MODA_REGION_VERSION)
        return moda_error_set(
            r->error, "%s: at offset %" PRIu64 ": profile version %" PRIu32 ", expected %u%s", r->source,
            base + offsetof(moda_region_header, version), h->version, MODA_REGION_VERSION,
            h->version > MODA_REGION_VERSION ? " (a newer mod-alloc wrote it)" : "");
    static const struct {
        size_t field, size;
        const char *name;
    } sizes[] = {
        {offsetof(moda_region_header, header_size), sizeof(moda_region_header), "header size"},
        {offsetof(moda_region_header, shard_size), sizeof(moda_shard), "shard size"},
        {offsetof(moda_region_header, site_size), sizeof(moda_site), "site size"},
        {offsetof(moda_region_header, module_size), sizeof(moda_module), "module size"},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint32_t found;
        memcpy(&found, (const char *)h + sizes[i].field, sizeof found);
        char expected[24];
        snprintf(expected, sizeof expected, "%zu", sizes[i].size);
        if (found != sizes[i].size)
            return bad(r, base + sizes[i].field, sizes[i].name, found, expected);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t size) {
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Memory of zeros; of a large one only what is written to costs memory. */
static bool make_copy(reader *r, size_t size) {
    r->copy_size = size;
    if (size < LARGE_COPY) {
        r->copy = calloc(1, size);
        return r->copy != NULL;
    }
    void *const mapped =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    r->copy = mapped != MAP_FAILED ? mapped : NULL;
    return r->copy != NULL;
}

static void free_copy(reader *r) {
    if (r->copy_size < LARGE_COPY)
        free(r->copy);
    else if (r->copy != NULL)
        munmap(r->copy, r->copy_size);
    r->copy = NULL;
}

/* Page by page, but for those of zeros: a file may be holes for its most part. */
static bool fill_copy(reader *r) {
    uint8_t *const chunk = malloc(CHUNK);
    if (chunk == NULL)
        return no_memory(r);
    bool is_fine = true;
    for (size_t at = 0; is_fine && at < r->copy_size; at += CHUNK) {
        const size_t left = r->copy_size - at, length = left < CHUNK ? left : CHUNK;
        is_fine = fetch(r, at, chunk, length);
        for (size_t k = 0; is_fine && k < length; k += PAGE) {
            const size_t n = length - k < PAGE ? length - k : PAGE;
            if (!is_zero(chunk + k, n))
                memcpy(r->copy + at + k, chunk + k, n);
        }
    }
    if (!is_fine)
        cannot_fetch(r, r->copy_size);
    free(chunk);
    return is_fine;
}

/* The header, checked, and a copy of all that has been handed out. */
static bool take_copy(reader *r) {
    memset(&r->header, 0, sizeof r->header);
    const uint64_t header_size = sizeof r->header;
    if (r->source_size != UINT64_MAX && r->source_size < MODA_REGION_FIRST) {
        const size_t some = r->source_size < header_size ? (size_t)r->source_size : (size_t)header_size;
        if (some < sizeof r->header.magic || !fetch(r, 0, &r->header, some)
            || memcmp(r->header.magic, MODA_REGION_MAGIC, sizeof r->header.magic) != 0)
            return moda_error_set(
                r->error, "%s: at offset 0: not a mod-alloc profile (%" PRIu64 " bytes), expected \"%s\"",
                r->source, r->source_size, MODA_REGION_MAGIC);
        return moda_error_set(r->error,
                              "%s: at offset %" PRIu64 ": ends inside the header, expected at least %u"
                              " bytes",
                              r->source, r->source_size, MODA_REGION_FIRST);
    }
    if (!fetch(r, 0, &r->header, sizeof r->header))
        return cannot_fetch(r, MODA_REGION_FIRST);
    if (!check_header(r, 0))
        return false;
    /* Taken after the header's links: what they lead to lies below it. */
    uint64_t used;
    if (!fetch(r, offsetof(moda_region_header, used), &used, sizeof used))
        used = r->header.used;
    r->header.used = used;
    if (used < MODA_REGION_FIRST || used > (uint64_t)UINT32_MAX * MODA_REF_UNIT)
        return bad(r, offsetof(moda_region_header, used), "the size in use", used,
                   "a size between the header's and 64 GiB");
    if (used > r->source_size && r->is_live && r->fd >= 0) { /* it has grown since it was opened */
        struct stat status;
        if (fstat(r->fd, &status) == 0)
            r->source_size = (uint64_t)status.st_size;
    }
    if (r->source_size != UINT64_MAX && used > r->source_size)
        return moda_error_set(
            r->error, "%s: at offset %" PRIu64 ": the file ends, expected %" PRIu64 " bytes (truncated?)",
            r->source, r->source_size, used);
    if (!make_copy(r, (size_t)used))
        return no_memory(r);
    if (!fill_copy(r))
        return false;
    r->first = MODA_REGION_FIRST;
    r->size = used;
    return true;
}

static const char *copy_string(reader *r, const char *text, size_t room) {
    return moda_arena_copy(r->arena, text, strnlen(text, room));
}

/* A program that waits notes no time: while it runs, its newest moment is now. Unless its clocks are not ours (a
 * container's, another machine's whose process had this number): then they go at another pace than it noted. */
static void take_clock_of_now(reader *r) {
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

static void read_clock(reader *r) {
    moda_region_header *const h = &r->header;
    for (int i = 0; r->is_live && i < SEQ_TRIES; i++) {
        uint32_t before, after;
        if (!fetch(r, offsetof(moda_region_header, clock_seq), &before, 4))
            break;
        if (before & 1)
            continue;
        if (!fetch(r, offsetof(moda_region_header, latest_ticks), &h->latest_ticks, 16))
            break;
        if (fetch(r, offsetof(moda_region_header, clock_seq), &after, 4) && before == after)
            break;
    }
    for (int i = 0; r->is_live && i < SEQ_TRIES; i++) {
        uint32_t before, after;
        if (!fetch(r, offsetof(moda_region_header, peak_seq), &before, 4))
            break;
        if (before & 1)
            continue;
        if (!fetch(r, offsetof(moda_region_header, peak_bytes), &h->peak_bytes, 24))
            break;
        if (fetch(r, offsetof(moda_region_header, peak_seq), &after, 4) && before == after)
            break;
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

static uint64_t ticks_to_ns(const reader *r, uint64_t ticks) {
    if (r->header.merged != 0 && r->ns_per_tick > 0)
        return ticks; /* they are nanoseconds, also beyond the 53 bits of a double */
    return (uint64_t)clamped((double)ticks * r->ns_per_tick);
}

static uint64_t since_start(const reader *r, uint64_t ticks) {
    return ticks > r->header.start_ticks ? ticks_to_ns(r, ticks - r->header.start_ticks) : 0;
}

/* What a merged profile says of a process, since the file's own header is no longer the process's. */
static bool read_merged_facts(reader *r) {
    const uint64_t holder = offsetof(moda_region_header, merged);
    const moda_merged *const m =
        record(r, holder, r->header.merged, sizeof *m + 1, "record of what was merged");
    if (m == NULL)
        return false;
    const uint64_t text = offset_of(r, m->source);
    if (m->source_length >= r->size - text || m->source[m->source_length] != 0)
        return bad(r, offset_of(r, &m->source_length), "length of the source's name", m->source_length,
                   "that of a text inside the profile");
    moda_profile_process *const p = r->process;
    p->source = copy_string(r, m->source, SIZE_MAX);
    p->region_used_bytes = m->region_used_bytes;
    p->is_live = m->was_running != 0;
    p->is_growth = m->is_growth != 0;
    r->torn = m->torn;
    return p->source != NULL || no_memory(r);
}

static bool read_facts(reader *r) {
    const moda_region_header *const h = &r->header;
    moda_profile_process *const p = r->process;
    p->source = copy_string(r, r->source, SIZE_MAX);
    p->executable = copy_string(r, h->executable, sizeof h->executable);
    p->command_line = copy_string(r, h->command_line, sizeof h->command_line);
    if (p->source == NULL || p->executable == NULL || p->command_line == NULL)
        return no_memory(r);
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

/* ---- modules ---- */

static bool check_module(reader *r, const moda_module *m) {
    const uint64_t offset = offset_of(r, m);
    if (m->build_id_length > sizeof m->build_id)
        return bad(r, offset + offsetof(moda_module, build_id_length), "build id length", m->build_id_length,
                   "at most 32");
    const uint64_t path = offset + offsetof(moda_module, path);
    if (m->path_length >= r->size - path)
        return bad(r, offset + offsetof(moda_module, path_length), "path length", m->path_length,
                   "one that ends inside the profile");
    if (m->path[m->path_length] != 0)
        return bad(r, path + m->path_length, "the path's last byte", (unsigned char)m->path[m->path_length],
                   "0");
    if (m->start > m->end)
        return bad(r, offset + offsetof(moda_module, start), "module start", m->start, "at most its end");
    return true;
}

static bool read_modules(reader *r) {
    const uint64_t most = r->size / sizeof(moda_module) + 1;
    size_t count = 0;
    uint64_t holder = offsetof(moda_region_header, modules);
    for (moda_ref ref = r->header.modules; ref != 0;) {
        const moda_module *const m = record(r, holder, ref, sizeof *m + 1, "module");
        if (m == NULL || !check_module(r, m))
            return false;
        if (++count > most)
            return bad(r, holder, "length of the list of modules", count, "no cycle");
        holder = offset_of(r, m);
        ref = m->next;
    }
    moda_profile_module *const modules = moda_arena_alloc(r->arena, (count + 1) * sizeof *modules);
    if (modules == NULL)
        return no_memory(r);
    size_t i = count; /* the list begins with the newest */
    for (moda_ref ref = r->header.modules; ref != 0 && i > 0;) {
        const moda_module *const m =
            (const moda_module *)(const void *)(r->copy + (uint64_t)ref * MODA_REF_UNIT);
        moda_profile_module *const to = &modules[--i];
        *to = (moda_profile_module){
            .path = moda_arena_intern(r->arena, m->path),
            .start = m->start,
            .end = m->end,
            .load_bias = m->load_bias,
            .text_start = m->text_start,
            .text_end = m->text_end,
            .text_file_offset = m->text_file_offset,
            .generation_mapped = m->generation_mapped,
            .generation_unmapped = m->generation_unmapped,
            .build_id_length = m->build_id_length,
        };
        memcpy(to->build_id, m->build_id, sizeof to->build_id);
        if (to->path == NULL)
            return no_memory(r);
        ref = m->next;
    }
    r->process->modules = modules;
    r->process->module_count = count;
    return true;
}

static int64_t as_int(uint64_t value) {
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* Fixed point to blocks. */
static int64_t blocks(uint64_t count) {
    return as_int(count / MODA_COUNT_ONE + (count % MODA_COUNT_ONE >= MODA_COUNT_ONE / 2));
}

/* ---- threads ---- */

/* Neither thinks of overflow: a damaged profile holds any number. */
static int64_t difference(uint64_t a, uint64_t b) {
    return (int64_t)(a - b);
}
static int64_t plus(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static void read_shard(reader *r, moda_shard *shard, moda_profile_thread *thread) {
    settle(r, shard, sizeof *shard, &shard->seq);
    settle(r, &shard->base, sizeof shard->base, &shard->base_seq);
    const uint64_t total = (uint64_t)shard->budget - (uint64_t)moda_alloc_word_bytes(shard->alloc_word);
    const uint64_t freed = (uint64_t)shard->free_budget - (uint64_t)moda_free_word_bytes(shard->free_word);
    const uint64_t allocations = shard->alloc_base + moda_alloc_word_blocks(shard->alloc_word);
    const uint64_t frees = shard->free_base + moda_free_word_blocks(shard->free_word);
    const uint64_t requested = shard->requested_base + moda_alloc_word_requested(shard->alloc_word);
    *thread = (moda_profile_thread){
        .index = shard->index,
        .tid = shard->tid,
        .incarnation = shard->incarnation,
        .is_alive = shard->state == MODA_SLOT_TAKEN,
        .is_orphan = shard->state == MODA_SLOT_ORPHAN,
        .stats =
            {
                .alloc_count = allocations - shard->base.alloc_count,
                .free_count = frees - shard->base.free_count,
                .total_bytes = total - shard->base.total_bytes,
                .requested_bytes = requested - shard->base.requested_bytes,
                .current_bytes = total - freed,
                .live_count = allocations - frees - shard->realloc_count,
            },
        .freed_bytes = freed - shard->base.freed_bytes,
        .balance_bytes = difference(total, freed),
        .balance_count = difference(allocations, frees + shard->realloc_count),
        .samples = shard->samples,
        .dropped = shard->dropped,
    };
    if ((r->header.flags & MODA_REGION_FORKED) != 0) { /* a child's bases are its counts at the fork */
        const moda_counts *const base = &shard->base;
        thread->inherited_bytes = difference(base->total_bytes, base->freed_bytes);
        thread->inherited_count = difference(base->alloc_count, base->free_count + base->realloc_count);
    }
    memcpy(thread->name, shard->name, sizeof thread->name - 1);
    memcpy(thread->walks, shard->walks, sizeof thread->walks);
}

/* A lone thread's highest balance lies in its shard until it publishes it: see layout.h at solo_epoch. */
static void raise_lone_peak(const reader *r, const moda_shard *shard, int64_t others, int64_t others_live,
                            int64_t *peak, int64_t *peak_live) {
    if (r->header.threads_now != 1 || shard->state != MODA_SLOT_TAKEN
        || shard->mark_epoch != r->header.solo_epoch)
        return;
    const int64_t mark = difference((uint64_t)shard->budget, (uint64_t)shard->free_budget);
    const bool is_pending = shard->pending.bytes > mark;
    const int64_t candidate = plus(others, is_pending ? shard->pending.bytes : mark);
    if (candidate <= *peak)
        return;
    *peak = candidate;
    *peak_live = plus(others_live, is_pending ? shard->pending.count : shard->mark_live);
}

static bool walk_shards(reader *r, size_t *slots) {
    uint64_t blocks = 0;
    *slots = 0;
    uint64_t holder = offsetof(moda_region_header, shard_blocks);
    for (moda_ref ref = r->header.shard_blocks; ref != 0 && !is_newer_than_copy(r, ref);) {
        const moda_shard_block *const block = record(r, holder, ref, sizeof *block, "block of shards");
        if (block == NULL)
            return false;
        holder = offset_of(r, block);
        if (block->count > (r->size - holder - sizeof *block) / sizeof(moda_shard))
            return bad(r, holder + offsetof(moda_shard_block, count), "number of shards", block->count,
                       "as many as fit before the end");
        if (++blocks > r->size / sizeof *block)
            return bad(r, holder, "length of the list of shard blocks", blocks, "no cycle");
        *slots += block->count;
        if (*slots > r->size / sizeof(moda_shard))
            return bad(r, holder, "number of shards in all", *slots, "as many as fit; shards overlap");
        ref = block->next;
    }
    return true;
}

static bool is_used(const moda_shard *shard) {
    return shard->state != MODA_SLOT_FREE || shard->incarnation != 0 || shard->alloc_base != 0
           || shard->free_base != 0;
}

static int by_slot(const void *a, const void *b) {
    const uint32_t x = ((const moda_profile_thread *)a)->index, y = ((const moda_profile_thread *)b)->index;
    return (x > y) - (x < y);
}

static bool read_threads(reader *r) {
    size_t slots;
    if (!walk_shards(r, &slots))
        return false;
    moda_profile_thread *const threads = moda_arena_alloc(r->arena, (slots + 1) * sizeof *threads);
    if (threads == NULL)
        return no_memory(r);
    moda_profile_process *const p = r->process;
    size_t count = 0;
    int64_t current = 0, live = 0;
    for (moda_ref ref = r->header.shard_blocks; ref != 0 && !is_newer_than_copy(r, ref);) {
        moda_shard_block *const block = (moda_shard_block *)(void *)(r->copy + (uint64_t)ref * MODA_REF_UNIT);
        for (uint32_t i = 0; i < block->count; i++) {
            if (!is_used(&block->shard[i]))
                continue;
            moda_profile_thread *const thread = &threads[count++];
            read_shard(r, &block->shard[i], thread);
            p->totals.alloc_count += thread->stats.alloc_count;
            p->totals.free_count += thread->stats.free_count;
            p->totals.total_bytes += thread->stats.total_bytes;
            p->totals.requested_bytes += thread->stats.requested_bytes;
            current = plus(current, thread->balance_bytes);
            live = plus(live, thread->balance_count);
            p->samples += thread->samples;
            p->dropped += thread->dropped;
            for (int k = 0; k < 6; k++)
                p->walks[k] += thread->walks[k];
            for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES; k++)
                r->profile->size_classes[k] =
                    moda_count_sum(r->profile->size_classes[k], block->shard[i].size_samples[k]);
        }
        ref = block->next;
    }
    int64_t peak = r->header.peak_bytes, peak_live = r->header.peak_live;
    if (current > peak) {
        peak = current;
        peak_live = live;
    }
    size_t at = 0;
    for (moda_ref ref = r->header.shard_blocks; ref != 0 && !is_newer_than_copy(r, ref);) {
        const moda_shard_block *const block =
            (const moda_shard_block *)(const void *)(r->copy + (uint64_t)ref * MODA_REF_UNIT);
        for (uint32_t i = 0; i < block->count; i++) {
            if (!is_used(&block->shard[i]) || at >= count)
                continue;
            const moda_profile_thread *const thread = &threads[at++];
            raise_lone_peak(r, &block->shard[i],
                            difference((uint64_t)current, (uint64_t)thread->balance_bytes),
                            difference((uint64_t)live, (uint64_t)thread->balance_count), &peak, &peak_live);
        }
        ref = block->next;
    }
    if (current >= peak) {
        r->header.peak_epoch =
            UINT64_MAX; /* the peak is now: each site's live figures are those of the peak */
    }
    p->totals.current_bytes = current > 0 ? (uint64_t)current : 0;
    p->totals.live_count = live > 0 ? (uint64_t)live : 0;
    p->totals.peak_bytes = peak > 0 ? (uint64_t)peak : 0;
    p->totals.peak_live_count = peak_live > 0 ? (uint64_t)peak_live : 0;
    for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES; k++)
        r->profile->size_classes[k] = (uint64_t)blocks(r->profile->size_classes[k]);
    if (count > 1)
        qsort(threads, count, sizeof *threads, by_slot);
    r->profile->threads = threads;
    r->profile->thread_count = count;
    return true;
}

/* ---- sites ---- */

static int64_t not_negative(int64_t value) {
    return value > 0 ? value : 0;
}

typedef struct at_peak {
    int64_t count, bytes, requested;
} at_peak;

static at_peak counts_at_peak(const moda_site_counts *c, uint64_t epoch) {
    if (c->at_peak_epoch == epoch)
        return (at_peak){
            .count = c->at_peak_count, .bytes = c->at_peak_bytes, .requested = c->at_peak_requested};
    return (at_peak){
        .count = difference(c->alloc_count, c->free_count),
        .bytes = difference(c->alloc_bytes, c->free_bytes),
        .requested = difference(c->alloc_requested, c->free_requested),
    };
}

static int64_t wrapping_sum(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* Adds a delta to what its site has, as the thread will when it gives the delta up. */
static void add_delta(moda_site_counts *to, const moda_site_counts *delta, uint64_t epoch) {
    const at_peak a = counts_at_peak(to, epoch), b = counts_at_peak(delta, epoch);
    const int64_t reached = wrapping_sum(difference(to->alloc_bytes, to->free_bytes), delta->peak_bytes);
    if (delta->peak_bytes > 0 && reached > to->peak_bytes) {
        to->peak_bytes = reached;
        to->peak_count = wrapping_sum(difference(to->alloc_count, to->free_count), delta->peak_count);
    }
    to->alloc_samples += delta->alloc_samples;
    to->alloc_count += delta->alloc_count;
    to->alloc_bytes += delta->alloc_bytes;
    to->alloc_requested += delta->alloc_requested;
    to->free_samples += delta->free_samples;
    to->free_count += delta->free_count;
    to->free_bytes += delta->free_bytes;
    to->free_requested += delta->free_requested;
    to->lifetime_count += delta->lifetime_count;
    to->lifetime_sum = moda_site_add_lives(to->lifetime_sum, delta->lifetime_sum);
    if (delta->lifetime_count != 0) {
        if (delta->lifetime_min < to->lifetime_min)
            to->lifetime_min = delta->lifetime_min;
        if (delta->lifetime_max > to->lifetime_max)
            to->lifetime_max = delta->lifetime_max;
    }
    to->short_lived_count += delta->short_lived_count;
    to->remote_free_count += delta->remote_free_count;
    to->moved_count += delta->moved_count;
    to->at_peak_epoch = epoch;
    to->at_peak_count = wrapping_sum(a.count, b.count);
    to->at_peak_bytes = wrapping_sum(a.bytes, b.bytes);
    to->at_peak_requested = wrapping_sum(a.requested, b.requested);
}

/* Variance of an estimate that n samples add up to `sum`, standing for `count` allocations. A sample of
 * probability p = 1/w contributes w x, and the unbiased estimate of the variance is the sum of
 * (1 - p) (w x)^2 (Horvitz and Thompson 1952). Of a site only n, the sum and the mean w = count / n are known,
 * so each sample is taken as the mean one: sum^2 / n * (1 - n / count). It is 0 where all were sampled, and
 * too low where one site mixes very different sizes. */
static double variance(double sum, double samples, double count) {
    if (samples <= 0 || count <= samples)
        return 0;
    return sum * sum / samples * (1 - samples / count);
}

/* Deltas of several threads are added in an order in which they did not happen, and can hide a peak; but it was
 * never below what was live at the process's peak, nor below what is live now. */
static void take_own_peak(const moda_site_counts *c, at_peak peak, int64_t *of) {
    int64_t bytes = not_negative(c->peak_bytes), count = c->peak_count;
    if (peak.bytes > bytes) {
        bytes = peak.bytes;
        count = peak.count;
    }
    if (of[MODA_VALUE_LIVE_BYTES] > bytes) {
        bytes = of[MODA_VALUE_LIVE_BYTES];
        count = difference(c->alloc_count, c->free_count);
    }
    of[MODA_VALUE_OWN_PEAK_BYTES] = bytes;
    of[MODA_VALUE_OWN_PEAK_COUNT] = blocks((uint64_t)not_negative(count));
}

/* What a forked child had of a site's blocks at the fork: never more than was counted. */
static moda_site_inherited inherited_at(const reader *r, const moda_site *site) {
    static const moda_site_inherited nothing;
    if (r->inherited == NULL || site->id >= r->inherited->count)
        return nothing;
    moda_site_inherited had = r->inherited->of[site->id];
    const moda_site_counts *const c = &site->counts;
    had.samples = had.samples < c->alloc_samples ? had.samples : c->alloc_samples;
    had.count = had.count < c->alloc_count ? had.count : c->alloc_count;
    had.bytes = had.bytes < c->alloc_bytes ? had.bytes : c->alloc_bytes;
    had.requested = had.requested < c->alloc_requested ? had.requested : c->alloc_requested;
    return had;
}

static void convert_counts(const reader *r, const moda_site_counts *c, const moda_site_inherited *had,
                           moda_values *v) {
    moda_values_clear(v);
    int64_t *const of = v->of;
    of[MODA_VALUE_ALLOCATED_BYTES] = as_int(c->alloc_bytes - had->bytes);
    of[MODA_VALUE_ALLOCATED_COUNT] = blocks(c->alloc_count - had->count);
    of[MODA_VALUE_REQUESTED_BYTES] = as_int(c->alloc_requested - had->requested);
    of[MODA_VALUE_WASTE_BYTES] =
        not_negative(of[MODA_VALUE_ALLOCATED_BYTES] - of[MODA_VALUE_REQUESTED_BYTES]);
    of[MODA_VALUE_FREED_BYTES] = as_int(c->free_bytes);
    of[MODA_VALUE_FREED_COUNT] = blocks(c->free_count);
    of[MODA_VALUE_LIVE_BYTES] = not_negative(difference(c->alloc_bytes, c->free_bytes));
    of[MODA_VALUE_LIVE_COUNT] = blocks((uint64_t)not_negative(difference(c->alloc_count, c->free_count)));
    of[MODA_VALUE_LIVE_REQUESTED_BYTES] = not_negative(difference(c->alloc_requested, c->free_requested));
    of[MODA_VALUE_LIVE_WASTE_BYTES] =
        not_negative(of[MODA_VALUE_LIVE_BYTES] - of[MODA_VALUE_LIVE_REQUESTED_BYTES]);
    const at_peak peak = counts_at_peak(c, r->header.peak_epoch);
    of[MODA_VALUE_AT_PEAK_BYTES] = not_negative(peak.bytes);
    of[MODA_VALUE_AT_PEAK_COUNT] = blocks((uint64_t)not_negative(peak.count));
    of[MODA_VALUE_AT_PEAK_REQUESTED_BYTES] = not_negative(peak.requested);
    take_own_peak(c, peak, of);
    of[MODA_VALUE_LIFETIME_COUNT] = blocks(moda_site_ended(c));
    of[MODA_VALUE_LIFETIME_NS] = as_int(ticks_to_ns(r, moda_site_of_all_lives(c, c->lifetime_sum)));
    if (c->lifetime_count != 0) {
        of[MODA_VALUE_LIFETIME_MIN_NS] = as_int(ticks_to_ns(r, c->lifetime_min));
        of[MODA_VALUE_LIFETIME_MAX_NS] = as_int(ticks_to_ns(r, c->lifetime_max));
    }
    of[MODA_VALUE_TEMPORARY_COUNT] = blocks(moda_site_of_all_lives(c, c->short_lived_count));
    of[MODA_VALUE_REMOTE_FREE_COUNT] = blocks(c->remote_free_count);
    of[MODA_VALUE_SAMPLES] = as_int(c->alloc_samples - had->samples);
    of[MODA_VALUE_FREED_SAMPLES] = as_int(c->free_samples);

    const double samples = (double)c->alloc_samples, count = (double)c->alloc_count / MODA_COUNT_ONE;
    const double live = (double)not_negative(difference(c->alloc_samples, c->free_samples));
    const double live_count =
        (double)not_negative(difference(c->alloc_count, c->free_count)) / MODA_COUNT_ONE;
    /* How many samples were live at the peak is not kept: as many as the mean weight says. */
    const double peak_count = (double)not_negative(peak.count) / MODA_COUNT_ONE;
    const double peak_samples = count > 0 ? peak_count * samples / count : 0;
    const double own_samples = (double)of[MODA_VALUE_SAMPLES];
    const double own_count = (double)(c->alloc_count - had->count) / MODA_COUNT_ONE;
    v->variance[MODA_VARIANCE_ALLOCATED_BYTES] =
        variance((double)of[MODA_VALUE_ALLOCATED_BYTES], own_samples, own_count);
    v->variance[MODA_VARIANCE_ALLOCATED_COUNT] = variance(own_count, own_samples, own_count);
    v->variance[MODA_VARIANCE_LIVE_BYTES] = variance((double)of[MODA_VALUE_LIVE_BYTES], live, live_count);
    v->variance[MODA_VARIANCE_LIVE_COUNT] = variance(live_count, live, live_count);
    v->variance[MODA_VARIANCE_AT_PEAK_BYTES] =
        variance((double)of[MODA_VALUE_AT_PEAK_BYTES], peak_samples, peak_count);
    v->variance[MODA_VARIANCE_AT_PEAK_COUNT] = variance(peak_count, peak_samples, peak_count);
}

static bool check_site(reader *r, const moda_site *site) {
    const uint64_t offset = offset_of(r, site);
    const size_t behind = r->header.merged != 0 ? sizeof(moda_site_sums) / sizeof site->frames[0] : 0;
    if (site->frame_count > MODA_FRAMES_MAX
        || site->frame_count + behind > (r->size - offset - sizeof *site) / sizeof site->frames[0])
        return bad(r, offset + offsetof(moda_site, frame_count), "number of frames", site->frame_count,
                   "at most 512 and inside the profile");
    if (site->walk_end > MOD_ALLOC_WALK_NONE)
        return bad(r, offset + offsetof(moda_site, walk_end), "how the walk ended", site->walk_end, "0 to 5");
    return true;
}

static int by_offset(const void *a, const void *b) {
    const uint64_t x = ((const site_place *)a)->offset, y = ((const site_place *)b)->offset;
    return (x > y) - (x < y);
}

static uint32_t thread_of_slot(const moda_profile *profile, uint32_t slot) {
    const moda_profile_thread key = {.index = slot};
    const moda_profile_thread *const found =
        profile->thread_count == 0
            ? NULL
            : bsearch(&key, profile->threads, profile->thread_count, sizeof key, by_slot);
    return found != NULL ? (uint32_t)(found - profile->threads) : UINT32_MAX;
}

/* A delta in use, with its site. */
typedef struct held {
    moda_site_delta *delta;
    moda_site *site;
} held;

typedef struct held_list {
    held *all;
    size_t count, room;
    bool *is_seen; /* by place: caches already listed */
} held_list;

static bool list_delta(reader *r, const site_place *places, size_t count, moda_site_delta *delta,
                       held_list *list) {
    if (delta->site == 0 && !r->is_live)
        return true;
    settle(r, delta, sizeof *delta, &delta->seq);
    if (delta->site == 0 || is_newer_than_copy(r, delta->site))
        return true;
    const site_place key = {.offset = (uint64_t)delta->site * MODA_REF_UNIT};
    const site_place *const place = count > 0 ? bsearch(&key, places, count, sizeof key, by_offset) : NULL;
    if (place == NULL && r->is_live)
        return true; /* made since the list was read */
    if (place == NULL)
        return bad(r, offset_of(r, &delta->site), "a delta's site", delta->site,
                   "the ref of a site in the list of sites");
    if (list->count == list->room) {
        const size_t room = list->room == 0 ? 256 : list->room * 2;
        held *const grown = realloc(list->all, room * sizeof *grown);
        if (grown == NULL)
            return no_memory(r);
        list->all = grown;
        list->room = room;
    }
    list->all[list->count++] = (held){.delta = delta, .site = (moda_site *)(void *)(r->copy + place->offset)};
    return true;
}

static bool list_cache(reader *r, const site_place *places, size_t count, const moda_shard *shard,
                       held_list *list) {
    if (shard->deltas == 0 || is_newer_than_copy(r, shard->deltas))
        return true;
    moda_delta_cache *const cache =
        record(r, offset_of(r, &shard->deltas), shard->deltas, sizeof *cache, "cache of deltas");
    if (cache == NULL)
        return false;
    const uint64_t offset = offset_of(r, cache);
    if (cache->entries > (r->size - offset - sizeof *cache) / sizeof cache->delta[0])
        return bad(r, offset, "number of deltas", cache->entries, "as many as fit before the end");
    /* Two shards that share a cache would count it twice, and a damaged profile could make the reading take for
     * ever. */
    if (list->is_seen[offset / MODA_REGION_ALIGN])
        return bad(r, offset_of(r, &shard->deltas), "the ref to a cache of deltas", shard->deltas,
                   "one that no other shard has");
    list->is_seen[offset / MODA_REGION_ALIGN] = true;
    for (uint32_t i = 0; i < cache->entries; i++)
        if (!list_delta(r, places, count, &cache->delta[i], list))
            return false;
    return true;
}

/* A thread gives a delta up by adding it to the site and emptying it: taken at different moments the two would
 * count it twice or not at all. So the site is taken again until the delta holds still around it. */
static void take_together(reader *r, held *pair) {
    if (!r->is_live)
        return;
    for (int i = 0; i < SEQ_TRIES; i++) {
        const uint32_t seq = pair->delta->seq;
        settle(r, &pair->site->counts_lock, sizeof *pair->site - offsetof(moda_site, counts_lock),
               &pair->site->counts_lock);
        uint32_t now;
        if (!fetch(r, offset_of(r, &pair->delta->seq), &now, sizeof now))
            break;
        if (now == seq)
            return;
        const moda_ref site = pair->delta->site;
        settle(r, pair->delta, sizeof *pair->delta, &pair->delta->seq);
        if (pair->delta->site != site) { /* it is another site's by now: this site has all */
            settle(r, &pair->site->counts_lock, sizeof *pair->site - offsetof(moda_site, counts_lock),
                   &pair->site->counts_lock);
            pair->delta = NULL;
            return;
        }
    }
    r->torn++;
}

/* Adds what each thread still holds to the sites' counts in the copy. */
static bool add_deltas(reader *r, const site_place *places, size_t count, bool *is_seen) {
    held_list list = {.is_seen = is_seen};
    bool is_fine = true;
    for (moda_ref ref = r->header.shard_blocks; is_fine && ref != 0 && !is_newer_than_copy(r, ref);) {
        const moda_shard_block *const block =
            (const moda_shard_block *)(const void *)(r->copy + (uint64_t)ref * MODA_REF_UNIT);
        for (uint32_t i = 0; is_fine && i < block->count; i++)
            is_fine = list_cache(r, places, count, &block->shard[i], &list);
        ref = block->next;
    }
    for (size_t i = 0; is_fine && i < list.count; i++)
        take_together(r, &list.all[i]);
    for (size_t i = 0; is_fine && i < list.count; i++)
        if (list.all[i].delta != NULL)
            add_delta(&list.all[i].site->counts, &list.all[i].delta->counts, r->header.peak_epoch);
    free(list.all);
    return is_fine;
}

static bool take_site(reader *r, uint64_t holder, moda_ref ref, site_place *place) {
    moda_site *const site = record(r, holder, ref, sizeof *site, "site");
    if (site == NULL || !check_site(r, site))
        return false;
    settle(r, &site->counts_lock, sizeof *site - offsetof(moda_site, counts_lock), &site->counts_lock);
    place->offset = offset_of(r, site);
    return true;
}

static bool collect_sites(reader *r, site_place **places, size_t *count) {
    const uint64_t most = r->size / sizeof(moda_site) + 2;
    size_t room = r->header.site_count < most ? r->header.site_count + 2u : 1024;
    site_place *list = malloc(room * sizeof *list);
    size_t n = 0;
    bool is_fine = list != NULL;
    if (is_fine && r->header.overflow_site != 0)
        is_fine =
            take_site(r, offsetof(moda_region_header, overflow_site), r->header.overflow_site, &list[n++]);
    uint64_t holder = offsetof(moda_region_header, site_list);
    for (moda_ref ref = r->header.site_list; is_fine && ref != 0;) {
        if (n > most)
            is_fine = bad(r, holder, "length of the list of sites", n, "no cycle");
        if (is_fine && n == room) {
            site_place *const grown = realloc(list, 2 * room * sizeof *list);
            room *= 2;
            if (grown == NULL)
                is_fine = no_memory(r);
            else
                list = grown;
        }
        if (!is_fine || !take_site(r, holder, ref, &list[n])) {
            is_fine = false;
            break;
        }
        holder = list[n].offset;
        ref = ((const moda_site *)(const void *)(r->copy + list[n].offset))->next_in_list;
        if (ref != 0 && ref == r->header.overflow_site)
            ref = 0; /* it may end the list */
        n++;
    }
    if (!is_fine && list == NULL)
        no_memory(r);
    *places = list;
    *count = n;
    return is_fine;
}

/* The figures of a site of a merged profile that its counts cannot say. */
static void take_sums(const moda_site_sums *sums, moda_values *v) {
    v->of[MODA_VALUE_WASTE_BYTES] = not_negative(sums->waste_bytes);
    v->of[MODA_VALUE_LIVE_BYTES] = not_negative(sums->live_bytes);
    v->of[MODA_VALUE_LIVE_COUNT] = not_negative(sums->live_count);
    v->of[MODA_VALUE_LIVE_REQUESTED_BYTES] = not_negative(sums->live_requested);
    v->of[MODA_VALUE_LIVE_WASTE_BYTES] = not_negative(sums->live_waste);
    for (int i = 0; i < MODA_VARIANCES; i++) {
        double variance;
        memcpy(&variance, &sums->variance[i], sizeof variance);
        v->variance[i] = variance >= 0 && variance < 1e300 ? variance : 0; /* no NaN */
    }
}

static bool convert_site(reader *r, const moda_site *site, moda_profile_site *to) {
    *to = (moda_profile_site){
        .address_count = site->frame_count,
        .id = site->id,
        .thread = thread_of_slot(r->profile, site->first_slot),
        .generation = site->generation,
        .walk_end = site->walk_end,
        .guessed = site->guessed,
    };
    uint64_t *const addresses = moda_arena_alloc(r->arena, (size_t)site->frame_count * 8 + 1);
    if (addresses == NULL)
        return no_memory(r);
    memcpy(addresses, site->frames, (size_t)site->frame_count * 8);
    to->addresses = addresses;
    const moda_site_inherited had = inherited_at(r, site);
    to->inherited_bytes = as_int(had.bytes);
    to->inherited_count = blocks(had.count);
    to->inherited_requested_bytes = as_int(had.requested);
    convert_counts(r, &site->counts, &had, &to->values);
    if (r->header.merged != 0)
        take_sums((const moda_site_sums *)(const void *)&site->frames[site->frame_count], &to->values);
    moda_values_add(&r->profile->site_totals, &to->values);
    return true;
}

static bool find_inherited(reader *r) {
    const uint64_t holder = offsetof(moda_region_header, inherited);
    r->inherited = NULL;
    if (r->header.inherited == 0 || is_newer_than_copy(r, r->header.inherited))
        return true;
    const moda_inherited *const found =
        record(r, holder, r->header.inherited, sizeof *found, "list of what was inherited");
    if (found == NULL)
        return false;
    const uint64_t offset = offset_of(r, found);
    if (found->count > (r->size - offset - sizeof *found) / sizeof found->of[0])
        return bad(r, offset, "number of sites with inherited blocks", found->count,
                   "as many as fit before the end");
    r->inherited = found;
    return true;
}

static bool read_sites(reader *r) {
    site_place *places;
    size_t count;
    bool is_fine = find_inherited(r);
    is_fine = collect_sites(r, &places, &count) && is_fine;
    if (is_fine && count > 1)
        qsort(places, count, sizeof *places, by_offset);
    for (size_t i = 1; is_fine && i < count; i++)
        if (places[i].offset < places[i - 1].offset + sizeof(moda_site))
            is_fine = bad(r, places[i].offset, "the place of a site", places[i].offset,
                          "one that overlaps no other site");
    bool *const is_seen = is_fine ? calloc((size_t)(r->size / MODA_REGION_ALIGN) + 1, sizeof *is_seen) : NULL;
    moda_profile_site *const sites = is_fine ? moda_arena_alloc(r->arena, (count + 1) * sizeof *sites) : NULL;
    if (is_fine && (is_seen == NULL || sites == NULL))
        is_fine = no_memory(r);
    is_fine = is_fine && add_deltas(r, places, count, is_seen);
    moda_values_clear(&r->profile->site_totals);
    size_t kept = 0;
    for (size_t i = 0; is_fine && i < count; i++) {
        const moda_site *const site = (const moda_site *)(const void *)(r->copy + places[i].offset);
        /* An overflow site that was never needed is no site. */
        if (site->id == 0 && site->counts.alloc_samples == 0 && site->counts.free_samples == 0)
            continue;
        is_fine = convert_site(r, site, &sites[kept++]);
    }
    free(is_seen);
    free(places);
    r->profile->sites = sites;
    r->profile->site_count = kept;
    return is_fine;
}

/* ---- timeline ---- */

static bool read_timeline(reader *r) {
    if (r->header.timeline == 0 || is_newer_than_copy(r, r->header.timeline))
        return true;
    const bool is_merged = r->header.merged != 0; /* then it has no more points than it needs */
    moda_timeline *const t = record(r, offsetof(moda_region_header, timeline), r->header.timeline,
                                    is_merged ? offsetof(moda_timeline, point) : sizeof *t, "timeline");
    if (t == NULL)
        return false;
    if (!is_merged)
        settle(r, t, sizeof *t, &t->seq);
    if (t->count > MODA_TIMELINE_POINTS
        || t->count > (r->size - offset_of(r, t) - offsetof(moda_timeline, point)) / sizeof t->point[0])
        return bad(r, offset_of(r, &t->count), "number of points", t->count,
                   "at most 1024 and inside the profile");
    moda_timeline_sample *const samples = moda_arena_alloc(r->arena, (t->count + 1u) * sizeof *samples);
    if (samples == NULL)
        return no_memory(r);
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

/* A process that was killed or ended by _exit has noted its clock at its last slow path; a peak, or a point of the
 * timeline, may be newer. */
static void reach_newest_moment(moda_profile_process *p) {
    if (p->duration_ns != 0 && p->peak_ns > p->duration_ns)
        p->duration_ns = p->peak_ns;
    for (size_t i = 0; p->duration_ns != 0 && i < p->timeline_count; i++)
        if (p->timeline[i].time_ns > p->duration_ns)
            p->duration_ns = p->timeline[i].time_ns;
}

/* ---- all of it ---- */

static bool read_lists(reader *r) {
    read_clock(r);
    if (!read_facts(r) || !read_modules(r) || !read_threads(r) || !read_sites(r) || !read_timeline(r))
        return false;
    reach_newest_moment(r->process);
    r->process->torn = r->torn;
    r->profile->totals = r->process->totals;
    r->profile->is_exact = r->process->sample_bytes == 1 && r->process->sample_changes == 0;
    r->profile->sample_bytes = r->process->sample_bytes;
    return true;
}

/* The process whose header `r` has; the copy is there. */
static moda_profile *read_process(reader *r) {
    r->arena = moda_arena_new();
    r->profile = r->arena != NULL ? moda_arena_alloc(r->arena, sizeof *r->profile) : NULL;
    r->process = r->profile != NULL ? moda_arena_alloc(r->arena, sizeof *r->process) : NULL;
    r->torn = 0;
    bool is_fine = false;
    if (r->process == NULL) {
        no_memory(r);
    } else {
        r->profile->arena = r->arena;
        r->profile->processes = r->process;
        r->profile->process_count = 1;
        is_fine = read_lists(r);
    }
    if (is_fine)
        return r->profile;
    moda_arena_free(r->arena);
    return NULL;
}

/* The next part's header, checked; parts follow one another, so a chain of them ends. */
static bool next_part(reader *r, uint64_t begin, uint64_t end, uint64_t *next) {
    const uint64_t holder = begin + offsetof(moda_region_header, next_process);
    *next = (uint64_t)r->header.next_process * MODA_REF_UNIT;
    if (*next == 0) {
        *next = end;
        return true;
    }
    if (r->header.merged == 0)
        return bad(r, holder, "the ref to a next process", r->header.next_process,
                   "0 in a program's profile");
    r->first = begin + (begin == 0 ? MODA_REGION_FIRST : sizeof r->header);
    r->size = end;
    return record(r, holder, r->header.next_process, sizeof r->header, "next process") != NULL;
}

static bool read_parts(reader *r, moda_profile ***parts, size_t *count) {
    const uint64_t end = r->size;
    for (uint64_t begin = 0, next; begin < end; begin = next) {
        if (begin > 0) {
            memcpy(&r->header, r->copy + begin, sizeof r->header);
            if (!check_header(r, begin))
                return false;
        }
        if (begin > 0 && r->header.merged == 0)
            return bad(r, begin + offsetof(moda_region_header, merged), "the ref to what was merged", 0,
                       "a record");
        if (!next_part(r, begin, end, &next))
            return false;
        r->first = begin + (begin == 0 ? MODA_REGION_FIRST : sizeof r->header);
        r->size = next;
        moda_profile *const part = read_process(r);
        moda_profile **const grown = part != NULL ? realloc(*parts, (*count + 1) * sizeof *grown) : NULL;
        if (grown == NULL) {
            moda_profile_free(part);
            return part != NULL && no_memory(r);
        }
        *parts = grown;
        (*parts)[(*count)++] = part;
    }
    return true;
}

static moda_profile *read_region(reader *r) {
    moda_profile **parts = NULL, *profile = NULL;
    size_t count = 0;
    if (take_copy(r) && read_parts(r, &parts, &count)) {
        profile =
            count == 1 ? parts[0] : moda_profile_merge((const moda_profile *const *)parts, count, r->error);
        count = count == 1 ? 0 : count;
    }
    for (size_t i = 0; i < count; i++)
        moda_profile_free(parts[i]);
    free(parts);
    free_copy(r);
    return profile;
}

moda_profile *moda_profile_read_memory(const void *region, size_t size, const char *source, bool is_live,
                                       moda_error *error) {
    reader r = {.fd = -1,
                .memory = region,
                .source_size = size,
                .is_live = is_live,
                .source = source,
                .error = error};
    return read_region(&r);
}

moda_profile *moda_profile_read_self(moda_error *error) {
    size_t size = 0;
    const void *const region = mod_alloc_region != NULL ? mod_alloc_region(&size) : NULL;
    if (region == NULL) {
        moda_error_set(error, "this process: has no profile, expected it to run on mod-alloc");
        return NULL;
    }
    /* Other threads go on: it may be larger by now than it was said to be, and all that is in use can be read. */
    return moda_profile_read_memory(region, SIZE_MAX, "this process", true, error);
}

/* Whether the process that writes this region may still run; a wrong yes only costs time. */
static bool may_be_live(int fd) {
    moda_region_header header;
    if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return false;
    if ((header.flags & MODA_REGION_CLEAN_EXIT) != 0 || header.pid == 0 || header.merged != 0)
        return false;
    char path[64];
    snprintf(path, sizeof path, "/proc/%" PRIu32, header.pid);
    return access(path, F_OK) == 0;
}

moda_profile *moda_profile_read_file(const char *path, moda_error *error) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        moda_error_set(error, "%s: cannot be opened: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    moda_profile *profile = NULL;
    if (!S_ISREG(status.st_mode)) {
        moda_error_set(error, "%s: is not a regular file, expected a profile", path);
    } else {
        reader r = {.fd = fd,
                    .source_size = (uint64_t)status.st_size,
                    .is_live = may_be_live(fd),
                    .source = path,
                    .error = error};
        profile = read_region(&r);
    }
    close(fd);
    return profile;
}

/* ---- a running process ---- */

typedef struct mapping {
    uint64_t start, end, offset;
    bool is_shared, is_writable;
    char path[PATH_MAX];
} mapping;

static bool parse_mapping(const char *line, mapping *m) {
    char flags[8] = "";
    int at = 0;
    m->path[0] = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %n", &m->start, &m->end, flags,
               &m->offset, &at)
        < 4)
        return false;
    m->is_shared = flags[3] == 's';
    m->is_writable = flags[1] == 'w';
    if (at > 0) {
        snprintf(m->path, sizeof m->path, "%s", line + at);
        m->path[strcspn(m->path, "\n")] = 0;
    }
    return true;
}

/* The header in another process's memory, if a region of that process begins at `address`. */
static bool is_region_at(int memory, uint64_t address, uint32_t pid) {
    moda_region_header header;
    char magic[8];
    if (pread(memory, magic, sizeof magic, (off_t)address) != (ssize_t)sizeof magic
        || memcmp(magic, MODA_REGION_MAGIC, sizeof magic) != 0)
        return false;
    return pread(memory, &header, sizeof header, (off_t)address) == (ssize_t)sizeof header
           && header.byte_order == MODA_REGION_BYTE_ORDER && header.region_base == address
           && header.pid == pid;
}

/* The kernel joins neighbouring mappings, so the region may begin inside one. */
static uint64_t find_inside(int memory, const mapping *m, uint32_t pid) {
    enum { STEP = 4096 };
    const uint64_t most = (uint64_t)1 << 32;
    for (uint64_t at = m->start; at < m->end && at - m->start < most; at += STEP)
        if (is_region_at(memory, at, pid))
            return at;
    return 0;
}

/* First at the mappings' starts, which is quick, then inside them. */
static uint64_t find_in_memory(FILE *maps, int memory, uint32_t pid) {
    char line[PATH_MAX + 128];
    static const bool thorough[] = {false, true};
    for (int pass = 0; pass < 2; pass++) {
        rewind(maps);
        while (fgets(line, sizeof line, maps) != NULL) {
            mapping m;
            if (!parse_mapping(line, &m) || !m.is_writable)
                continue;
            const bool is_candidate = m.path[0] == 0 || strncmp(m.path, "[anon", 5) == 0 || m.is_shared;
            if (!is_candidate)
                continue;
            if (!thorough[pass] && is_region_at(memory, m.start, pid))
                return m.start;
            if (thorough[pass] && !m.is_shared) {
                const uint64_t found = find_inside(memory, &m, pid);
                if (found != 0)
                    return found;
            }
        }
    }
    return 0;
}

/* The file that the process keeps its region in; it can be read without any right over the process. */
static int open_region_file(FILE *maps, pid_t pid, uint32_t inner) {
    char line[PATH_MAX + 128];
    while (fgets(line, sizeof line, maps) != NULL) {
        mapping m;
        if (!parse_mapping(line, &m) || !m.is_shared || m.offset != 0 || m.path[0] != '/')
            continue;
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "/proc/%ld/root%s", (long)pid, m.path);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
            fd = open(m.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
            continue;
        moda_region_header header;
        if (pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header
            && memcmp(header.magic, MODA_REGION_MAGIC, sizeof header.magic) == 0 && header.pid == inner)
            return fd;
        close(fd);
    }
    return -1;
}

/* What the process takes itself for: in a container it has another number than outside. */
static uint32_t inner_pid(pid_t pid) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *const status = fopen(path, "re");
    uint32_t inner = (uint32_t)pid;
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        const char *const last = strrchr(line, '\t');
        if (strncmp(line, "NSpid:", 6) == 0 && last != NULL)
            inner = (uint32_t)strtoul(last, NULL, 10);
    }
    if (status != NULL)
        fclose(status);
    return inner;
}

moda_profile *moda_profile_read_process(pid_t pid, moda_error *error) {
    if (pid == getpid())
        return moda_profile_read_self(error);
    char source[64], path[64];
    snprintf(source, sizeof source, "process %ld", (long)pid);
    snprintf(path, sizeof path, "/proc/%ld/maps", (long)pid);
    FILE *const maps = fopen(path, "re");
    if (maps == NULL) {
        if (errno == ENOENT)
            moda_error_set(error, "%s: there is no such process, nor a file of that name", source);
        else
            moda_error_set(error, "%s: %s cannot be opened: %s", source, path, strerror(errno));
        return NULL;
    }
    reader r = {.fd = -1, .source_size = UINT64_MAX, .is_live = true, .source = source, .error = error};
    r.fd = open_region_file(maps, pid, inner_pid(pid));
    if (r.fd >= 0) {
        struct stat status;
        if (fstat(r.fd, &status) == 0)
            r.source_size = (uint64_t)status.st_size;
    } else {
        snprintf(path, sizeof path, "/proc/%ld/mem", (long)pid);
        r.fd = open(path, O_RDONLY | O_CLOEXEC);
        if (r.fd < 0) {
            moda_error_set(error,
                           "%s: %s cannot be opened: %s (it needs the same user, and"
                           " kernel.yama.ptrace_scope 0; or run the program with MOD_ALLOC_PROFILE=FILE)",
                           source, path, strerror(errno));
        } else if ((r.base = find_in_memory(maps, r.fd, inner_pid(pid))) == 0) {
            moda_error_set(error, "%s: no profile in its memory, expected it to run on mod-alloc", source);
            close(r.fd);
            r.fd = -1;
        }
    }
    fclose(maps);
    if (r.fd < 0)
        return NULL;
    moda_profile *const profile = read_region(&r);
    close(r.fd);
    return profile;
}

moda_profile *moda_profile_read(const char *file_or_pid, moda_error *error) {
    char *end;
    errno = 0;
    const long pid = strtol(file_or_pid, &end, 10);
    const bool is_number = *file_or_pid >= '1' && *file_or_pid <= '9' && *end == 0 && errno == 0;
    if (is_number && pid <= INT_MAX && access(file_or_pid, F_OK) != 0)
        return moda_profile_read_process((pid_t)pid, error);
    return moda_profile_read_file(file_or_pid, error);
}

void moda_profile_free(moda_profile *profile) {
    if (profile != NULL)
        moda_arena_free(profile->arena);
}
