/* SPDX-License-Identifier: MIT
 *
 * read.h - the reader: what the read*.c share while a region becomes a profile. Only they include it.
 *
 *     read_copy.c                bytes of a file, a process or memory --> the copy; a ref --> a record in it
 *     read_facts.c .. _sites.c   records of the copy --> the profile
 *     read.c                     all of it, for each process of a region
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
#ifndef MODA_REPORT_READ_H
#define MODA_REPORT_READ_H

#include "report/report.h"

#include "region/layout.h"

enum { MODA_READ_TRIES = 100 }; /* to find a seq that holds still */

typedef struct moda_reader {
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
    /* records lie from `first` on, before `size`: the bytes handed out, or one part's end */
    uint64_t first, size;
    moda_region_header header;
    const moda_inherited *inherited; /* of a forked child */

    moda_arena *arena;
    moda_profile *profile;
    moda_profile_process *process;
    double ns_per_tick;
    uint64_t torn;
    moda_error *error;
} moda_reader;

/* ---- read_copy.c: false or NULL with a message, but for the fetch ---- */

bool moda_read_bad(moda_reader *r, uint64_t offset, const char *what, uint64_t found, const char *expected);
bool moda_read_no_memory(moda_reader *r);

/* Takes the header, checked, and a copy of all that has been handed out. */
bool moda_read_take_copy(moda_reader *r);
void moda_read_free_copy(moda_reader *r);
bool moda_read_check_header(moda_reader *r, uint64_t base);

/* Bytes of the source, not of the copy. False: errno says why; 0 = the source ends there. */
bool moda_read_fetch(const moda_reader *r, uint64_t offset, void *to, size_t length);
/* The record at a ref that stands at the offset `holder`. `least` bytes of it lie inside the copy. */
void *moda_read_record(moda_reader *r, uint64_t holder, moda_ref ref, size_t least, const char *what);
/* Brings the copy of a record guarded by a seq into one consistent state. */
void moda_read_settle(moda_reader *r, void *in_copy, size_t size, const uint32_t *seq);

/* The record at a ref that moda_read_record has led to before. */
static inline void *moda_read_again(const moda_reader *r, moda_ref ref) {
    return r->copy + (uint64_t)ref * MODA_REF_UNIT;
}

static inline uint64_t moda_read_offset_of(const moda_reader *r, const void *in_copy) {
    return (uint64_t)((const uint8_t *)in_copy - r->copy);
}

/* In a region that is being written a list may have grown since the copy was begun. */
static inline bool moda_read_is_newer(const moda_reader *r, moda_ref ref) {
    return r->is_live && (uint64_t)ref * MODA_REF_UNIT >= r->size;
}

/* ---- records to the profile, in this order: all times need the clock, sites need the threads ---- */

void moda_read_clock(moda_reader *r);
bool moda_read_facts(moda_reader *r);
bool moda_read_modules(moda_reader *r);
/* Checks the list of shards, and finds out whether the peak is now. */
bool moda_read_threads(moda_reader *r);
bool moda_read_sites(moda_reader *r);
bool moda_read_timeline(moda_reader *r);

uint64_t moda_read_ticks_to_ns(const moda_reader *r, uint64_t ticks);          /* after the clock */
uint32_t moda_read_thread_of_slot(const moda_profile *profile, uint32_t slot); /* UINT32_MAX = none */

/* ---- sites: read_sites.c and read_deltas.c ---- */

/* Adds what each thread still holds to the sites' counts in the copy. `sites`: their offsets, in order. */
bool moda_read_add_deltas(moda_reader *r, const uint64_t *sites, size_t count);
int moda_read_by_offset(const void *a, const void *b);

typedef struct moda_at_peak {
    int64_t count, bytes, requested;
} moda_at_peak;
/* What a site, or a delta, had when the process's balance was highest: `epoch` is that of the peak. */
moda_at_peak moda_read_at_peak(const moda_site_counts *c, uint64_t epoch);

/* ---- numbers: a damaged profile holds any ---- */

/* Neither of the two thinks of overflow. */
static inline int64_t moda_read_minus(uint64_t a, uint64_t b) {
    return (int64_t)(a - b);
}
static inline int64_t moda_read_plus(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static inline int64_t moda_read_as_int(uint64_t value) {
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* Fixed point to blocks. */
static inline int64_t moda_read_blocks(uint64_t count) {
    return moda_read_as_int(count / MODA_COUNT_ONE + (count % MODA_COUNT_ONE >= MODA_COUNT_ONE / 2));
}

#endif
