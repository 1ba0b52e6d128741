/* SPDX-License-Identifier: MIT
 *
 * read_copy.c - where a profile's bytes come from: the copy of a region, and how records are found and settled in it.
 *
 * read.c takes a copy and frees it; all read*.c find their records here. The copy is malloc's, a large one mapped.
 *
 * Laws
 *   1. a byte of the source is asked for with pread, or read as volatile: the source may change, shrink or go.
 *   2. a record lies whole in the copy, aligned, behind the header and before the end of its part.
 *   3. a record whose seq does not hold still is taken as it is, and counted as torn.
 */
#include "report/read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, CHUNK = 16 * PAGE }; /* how bytes are read, and what is left out of the copy as zeros */
enum { LARGE_COPY = 1 << 20 };           /* from here on the copy's memory is mapped: zeros cost none of it */

bool moda_read_bad(moda_reader *r, uint64_t offset, const char *what, uint64_t found, const char *expected) {
    return moda_error_set(r->error, "%s: at offset %" PRIu64 ": %s is %" PRIu64 ", expected %s", r->source,
                          offset, what, found, expected);
}

bool moda_read_no_memory(moda_reader *r) {
    return moda_error_set(r->error, "%s: not enough memory to read it", r->source);
}

bool moda_read_fetch(const moda_reader *r, uint64_t offset, void *to, size_t length) {
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
static bool cannot_fetch(moda_reader *r, uint64_t expected) {
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

void *moda_read_record(moda_reader *r, uint64_t holder, moda_ref ref, size_t least, const char *what) {
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

void moda_read_settle(moda_reader *r, void *in_copy, size_t size, const uint32_t *seq) {
    if (!r->is_live) {
        if (*seq & 1)
            r->torn++;
        return;
    }
    const uint64_t offset = moda_read_offset_of(r, in_copy), seq_offset = moda_read_offset_of(r, seq);
    for (int i = 0; i < MODA_READ_TRIES; i++) {
        uint32_t before, after;
        if (!moda_read_fetch(r, seq_offset, &before, sizeof before))
            break;
        if (before & 1)
            continue;
        if (!moda_read_fetch(r, offset, in_copy, size))
            break;
        if (!moda_read_fetch(r, seq_offset, &after, sizeof after))
            break;
        if (before == after)
            return;
    }
    r->torn++;
}

/* ---- the copy ---- */

bool moda_read_check_header(moda_reader *r, uint64_t base) {
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
        return moda_read_bad(r, base + offsetof(moda_region_header, byte_order), "byte order mark",
                             h->byte_order, "16909060");
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
            return moda_read_bad(r, base + sizes[i].field, sizes[i].name, found, expected);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t size) {
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Memory of zeros; of a large one only what is written to costs memory. */
static bool make_copy(moda_reader *r, size_t size) {
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

void moda_read_free_copy(moda_reader *r) {
    if (r->copy_size < LARGE_COPY)
        free(r->copy);
    else if (r->copy != NULL)
        munmap(r->copy, r->copy_size);
    r->copy = NULL;
}

/* Page by page, but for those of zeros: a file may be holes for its most part. */
static bool fill_copy(moda_reader *r) {
    uint8_t *const chunk = malloc(CHUNK);
    if (chunk == NULL)
        return moda_read_no_memory(r);
    bool is_fine = true;
    for (size_t at = 0; is_fine && at < r->copy_size; at += CHUNK) {
        const size_t left = r->copy_size - at, length = left < CHUNK ? left : CHUNK;
        is_fine = moda_read_fetch(r, at, chunk, length);
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

/* Says what a source is that ends inside the header. */
static bool refuse_short(moda_reader *r) {
    const uint64_t header_size = sizeof r->header;
    const size_t some = r->source_size < header_size ? (size_t)r->source_size : (size_t)header_size;
    if (some < sizeof r->header.magic || !moda_read_fetch(r, 0, &r->header, some)
        || memcmp(r->header.magic, MODA_REGION_MAGIC, sizeof r->header.magic) != 0)
        return moda_error_set(r->error,
                              "%s: at offset 0: not a mod-alloc profile (%" PRIu64 " bytes), expected \"%s\"",
                              r->source, r->source_size, MODA_REGION_MAGIC);
    return moda_error_set(r->error,
                          "%s: at offset %" PRIu64 ": ends inside the header, expected at least %u"
                          " bytes",
                          r->source, r->source_size, MODA_REGION_FIRST);
}

/* How many bytes have been handed out; all of them are there. */
static bool take_used(moda_reader *r) {
    /* Taken after the header's links: what they lead to lies below it. */
    uint64_t used;
    if (!moda_read_fetch(r, offsetof(moda_region_header, used), &used, sizeof used))
        used = r->header.used;
    r->header.used = used;
    if (used < MODA_REGION_FIRST || used > (uint64_t)UINT32_MAX * MODA_REF_UNIT)
        return moda_read_bad(r, offsetof(moda_region_header, used), "the size in use", used,
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
    return true;
}

bool moda_read_take_copy(moda_reader *r) {
    memset(&r->header, 0, sizeof r->header);
    if (r->source_size != UINT64_MAX && r->source_size < MODA_REGION_FIRST)
        return refuse_short(r);
    if (!moda_read_fetch(r, 0, &r->header, sizeof r->header))
        return cannot_fetch(r, MODA_REGION_FIRST);
    if (!moda_read_check_header(r, 0) || !take_used(r))
        return false;
    if (!make_copy(r, (size_t)r->header.used))
        return moda_read_no_memory(r);
    if (!fill_copy(r))
        return false;
    r->first = MODA_REGION_FIRST;
    r->size = r->header.used;
    return true;
}
