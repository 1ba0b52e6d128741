/* SPDX-License-Identifier: MIT
 *
 * rows.c - each row of the table of what is counted: one call at a time, the change of each counter.
 */
#define _GNU_SOURCE
#include "whole.h"

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)

/* Around each limit at which mimalloc, or we, take another path. */
static const size_t sizes[] = {
    0,
    1,
    7,
    8,
    9,
    15,
    16,
    17,
    24,
    25,
    48,
    64,
    100,
    128,
    255,
    256,
    257,
    511,
    512,
    513,
    1000,
    1016,
    1023,
    1024,
    1025,
    2048,
    4000,
    4096,
    8191,
    8192,
    8193,
    16384,
    16385,
    65536,
    100000,
    128 * KIB - 1,
    128 * KIB,
    128 * KIB + 1,
    200000,
    512 * KIB,
    512 * KIB + 1,
    MIB,
    4 * MIB,
    4 * MIB + 1,
    16 * MIB - 1,
    16 * MIB,
    16 * MIB + 1,
    17 * MIB,
    32 * MIB,
    33 * MIB,
    100 * MIB,
    GIB,
    GIB + 1,
};
#define SIZES (sizeof sizes / sizeof sizes[0])

static int64_t usable(void *p) {
    return (int64_t)malloc_usable_size(p);
}

static const char *row(const char *call, size_t size) {
    static char text[128];
    snprintf(text, sizeof text, "%s of %zu bytes", call, size);
    return text;
}

static void allocate_and_free(size_t size) {
    mod_alloc_stats before = whole_now();
    void *p = malloc(size);
    NEED(p != NULL, "malloc(%zu) gives NULL", size);
    int64_t block = usable(p);
    CHECK(block >= (int64_t)size, "malloc(%zu): usable size is %" PRId64, size, block);
    CHECK_CHANGE(row("malloc", size), before, .alloc_count = 1, .total_bytes = block, .current_bytes = block,
                 .live_count = 1, .requested_bytes = (int64_t)size);
    before = whole_now();
    free(p);
    CHECK_CHANGE(row("free", size), before, .free_count = 1, .current_bytes = -block, .live_count = -1);

    before = whole_now();
    p = calloc(size, 1);
    NEED(p != NULL, "calloc(%zu, 1) gives NULL", size);
    block = usable(p);
    CHECK_CHANGE(row("calloc", size), before, .alloc_count = 1, .total_bytes = block, .current_bytes = block,
                 .live_count = 1, .requested_bytes = (int64_t)size);
    free(p);
    CHECK_CHANGE(row("calloc and free", size), before, .alloc_count = 1, .free_count = 1,
                 .total_bytes = block, .requested_bytes = (int64_t)size);
}

static void calloc_asks_for_the_product(void) {
    const mod_alloc_stats before = whole_now();
    void *p = calloc((size_t)7, 13);
    const int64_t block = usable(p);
    CHECK_CHANGE("calloc(7, 13)", before, .alloc_count = 1, .total_bytes = block, .current_bytes = block,
                 .live_count = 1, .requested_bytes = 91);
    free(p);
}

/* An over-aligned block may be larger than what malloc_usable_size tells; but free takes off exactly what
 * the allocation added. */
static void aligned(const char *call, void *p, size_t size, size_t alignment, const mod_alloc_stats *before) {
    NEED(p != NULL, "%s(%zu, %zu) gives NULL", call, alignment, size);
    CHECK((uintptr_t)p % alignment == 0, "%s(%zu, %zu) gives %p", call, alignment, size, p);
    const mod_alloc_stats after = whole_now();
    const whole_change change = whole_changed(before, &after);
    const int64_t block = change.total_bytes;
    CHECK(block >= usable(p), "%s(%zu, %zu): counted %" PRId64 ", usable %" PRId64, call, alignment, size,
          block, usable(p));
    CHECK(block <= usable(p) + (int64_t)(alignment < 256 && size <= 64 * KIB ? 0 : alignment),
          "%s(%zu, %zu): counted %" PRId64 ", usable %" PRId64, call, alignment, size, block, usable(p));
    /* size + alignment, rounded up by at most a quarter of it and a page of the OS, is more than plenty */
    const int64_t most = (int64_t)((size + alignment) * 5 / 4 + 64 * KIB);
    CHECK(block <= most || size > 4 * MIB, "%s(%zu, %zu): counted %" PRId64, call, alignment, size, block);
    whole_compare(__FILE__, __LINE__, row(call, size), change,
                  (whole_change){.alloc_count = 1,
                                 .total_bytes = block,
                                 .current_bytes = block,
                                 .live_count = 1,
                                 .requested_bytes = (int64_t)size});
    const mod_alloc_stats before_free = whole_now();
    free(p);
    CHECK_CHANGE(row("free of an aligned block", size), before_free, .free_count = 1, .current_bytes = -block,
                 .live_count = -1);
}

static void aligned_calls(size_t size, size_t alignment) {
    mod_alloc_stats before = whole_now();
    void *p = NULL;
    const int error = posix_memalign(&p, alignment, size);
    NEED(error == 0, "posix_memalign(%zu, %zu) gives %d", alignment, size, error);
    aligned("posix_memalign", p, size, alignment, &before);
    before = whole_now();
    aligned("aligned_alloc", aligned_alloc(alignment, size), size, alignment, &before);
    before = whole_now();
    aligned("memalign", memalign(alignment, size), size, alignment, &before);
}

static void page_aligned_calls(void) {
    mod_alloc_stats before = whole_now();
    aligned("valloc", valloc((size_t)100), 100, 4096, &before);
    before = whole_now();
    void *p = pvalloc((size_t)100);
    NEED(p != NULL, "pvalloc(100) gives NULL");
    const mod_alloc_stats after = whole_now();
    const whole_change change = whole_changed(&before, &after);
    CHECK_EQ(change.alloc_count, 1, "pvalloc(100)");
    CHECK(change.requested_bytes == 100 || change.requested_bytes == 4096,
          "pvalloc(100): requested_bytes changed by %" PRId64, change.requested_bytes);
    CHECK(change.total_bytes >= 4096, "pvalloc(100): total_bytes changed by %" PRId64, change.total_bytes);
    free(p);
}

/* One call of realloc: the counters' change follows from the block sizes before and after. */
static void *reallocated(void *p, size_t size) {
    const int64_t old_block = usable(p);
    const mod_alloc_stats before = whole_now();
    void *q = realloc(p, size);
    NEED(q != NULL, "realloc to %zu gives NULL", size);
    const int64_t new_block = usable(q);
    CHECK(new_block >= (int64_t)size, "realloc to %zu: usable size is %" PRId64, size, new_block);
    const int64_t growth = new_block - old_block;
    CHECK_CHANGE(row(growth == 0  ? "realloc that stays"
                     : growth > 0 ? "realloc that grows"
                                  : "realloc that shrinks",
                     size),
                 before, .alloc_count = 1, .total_bytes = growth > 0 ? growth : 0, .current_bytes = growth,
                 .requested_bytes = (int64_t)size);
    return q;
}

static void reallocs(void) {
    static const struct {
        size_t from, to;
    } steps[] = {
        {100, 101},
        {100, 112},
        {100, 60},
        {100, 10},
        {10, 1000},
        {1000, 1001},
        {1000, 1500},
        {1024, 1025},
        {5000, 4900},
        {5000, 100},
        {1, 1},
        {8, 16},
        {16, 8},
        {100000, 100001},
        {100000, 200000},
        {200000, 150000},
        {200000, 5},
        {MIB, MIB + 1},
        {MIB, 17 * MIB},
        {17 * MIB, MIB},
        {20 * MIB, 19 * MIB},
        {20 * MIB, 64 * MIB},
        {64 * MIB, 16},
        {16, 64 * MIB},
        {GIB, GIB + 4096},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        unsigned char *p = (unsigned char *)malloc(steps[i].from);
        NEED(p != NULL, "malloc(%zu) gives NULL", steps[i].from);
        const bool small = steps[i].from < 32 * MIB && steps[i].to < 32 * MIB;
        if (small) {
            memset(p, 0x5A, steps[i].from);
        }
        p = reallocated(p, steps[i].to);
        const size_t kept = steps[i].from < steps[i].to ? steps[i].from : steps[i].to;
        for (size_t k = 0; small && k < kept; k++) {
            NEED(p[k] == 0x5A, "realloc %zu to %zu: byte %zu is %d", steps[i].from, steps[i].to, k, p[k]);
        }
        const int64_t block = usable(p);
        const mod_alloc_stats before = whole_now();
        free(p);
        CHECK_CHANGE(row("free after realloc", steps[i].to), before, .free_count = 1, .current_bytes = -block,
                     .live_count = -1);
    }
}

static void realloc_of_null_is_malloc(void) {
    const mod_alloc_stats before = whole_now();
    void *p = realloc(NULL, (size_t)123);
    const int64_t block = usable(p);
    CHECK_CHANGE("realloc(NULL, 123)", before, .alloc_count = 1, .total_bytes = block, .current_bytes = block,
                 .live_count = 1, .requested_bytes = 123);
    free(p);
}

/* The backing allocator decides whether this gives a block or frees; the counters must say the same. */
static void realloc_to_nothing(void) {
    void *p = malloc(300);
    const int64_t old_block = usable(p);
    const mod_alloc_stats before = whole_now();
    void *q = realloc(p, (size_t)0);
    if (q == NULL) {
        CHECK_CHANGE("realloc(p, 0) that frees", before, .free_count = 1, .current_bytes = -old_block,
                     .live_count = -1);
        return;
    }
    const int64_t growth = usable(q) - old_block;
    CHECK_CHANGE("realloc(p, 0) that gives a block", before, .alloc_count = 1,
                 .total_bytes = growth > 0 ? growth : 0, .current_bytes = growth);
    free(q);
}

static void reallocarray_asks_for_the_product(void) {
    const mod_alloc_stats before = whole_now();
    void *p = reallocarray(NULL, (size_t)10, 12);
    const int64_t block = usable(p);
    CHECK_CHANGE("reallocarray(NULL, 10, 12)", before, .alloc_count = 1, .total_bytes = block,
                 .current_bytes = block, .live_count = 1, .requested_bytes = 120);
    free(p);
}

static void realloc_of_an_aligned_block(void) {
    mod_alloc_stats before = whole_now();
    unsigned char *p = (unsigned char *)aligned_alloc(4096, 8192);
    memset(p, 0x33, 8192);
    p = (unsigned char *)realloc(p, (size_t)100000);
    NEED(p != NULL, "realloc of an aligned block gives NULL");
    CHECK(p[0] == 0x33 && p[8191] == 0x33, "contents are lost");
    p = (unsigned char *)realloc(p, (size_t)50);
    free(p);
    const mod_alloc_stats after = whole_now();
    const whole_change change = whole_changed(&before, &after);
    CHECK_EQ(change.alloc_count, 3, "aligned_alloc, realloc, realloc");
    CHECK_EQ(change.free_count, 1, "and one free");
    CHECK_EQ(change.live_count, 0, "nothing is live");
    CHECK_EQ(change.current_bytes, 0, "nothing is live");
    CHECK_EQ(change.requested_bytes, 8192 + 100000 + 50, "each request");
}

static void what_fails_counts_nothing(void) {
    void *held = malloc(100);
    void *out = NULL;
    mod_alloc_stats before = whole_now();
    free((void *)NULL);
    CHECK_CHANGE("free(NULL)", before, .alloc_count = 0);
    CHECK(malloc(SIZE_MAX) == NULL, "malloc(SIZE_MAX)");
    CHECK(malloc((size_t)PTRDIFF_MAX + 1) == NULL, "malloc(PTRDIFF_MAX + 1)");
    CHECK(malloc((size_t)PTRDIFF_MAX - 100) == NULL, "malloc(PTRDIFF_MAX - 100)");
    CHECK(malloc((size_t)1 << 56) == NULL, "malloc(2^56)");
    CHECK_CHANGE("malloc that fails", before, .alloc_count = 0);
    CHECK(calloc((size_t)1 << 33, (size_t)1 << 33) == NULL, "calloc(2^33, 2^33)");
    CHECK(calloc((size_t)1 << 28, (size_t)1 << 28) == NULL, "calloc(2^28, 2^28)");
    CHECK_CHANGE("calloc that fails", before, .alloc_count = 0);
    CHECK(realloc(held, SIZE_MAX - 64) == NULL, "realloc(p, SIZE_MAX - 64)");
    CHECK(realloc(held, (size_t)1 << 56) == NULL, "realloc(p, 2^56)");
    CHECK(reallocarray(held, (size_t)1 << 33, (size_t)1 << 33) == NULL, "reallocarray(p, 2^33, 2^33)");
    CHECK_CHANGE("realloc that fails", before, .alloc_count = 0);
    CHECK(posix_memalign(&out, (size_t)24, 8) == EINVAL, "posix_memalign(24, 8)");
    CHECK(posix_memalign(&out, 64, SIZE_MAX - 32) == ENOMEM, "posix_memalign(64, SIZE_MAX - 32)");
    CHECK(memalign(64, SIZE_MAX - 32) == NULL, "memalign(64, SIZE_MAX - 32)");
    CHECK(aligned_alloc(4096, (size_t)1 << 56) == NULL, "aligned_alloc(4096, 2^56)");
    CHECK(pvalloc(SIZE_MAX - 10) == NULL, "pvalloc(SIZE_MAX - 10)");
    CHECK_CHANGE("an aligned call that fails", before, .alloc_count = 0);
    CHECK(usable(held) >= 100, "the block that a failed realloc left: usable %" PRId64, usable(held));
    free(held);
}

static void what_libc_allocates_counts(void) {
    mod_alloc_stats before = whole_now();
    char *copy = strdup("twelve bytes");
    int64_t block = usable(copy);
    CHECK_CHANGE("strdup", before, .alloc_count = 1, .total_bytes = block, .current_bytes = block,
                 .live_count = 1, .requested_bytes = 13);
    free(copy);
    before = whole_now();
    char *text = NULL;
    const int length = asprintf(&text, "%0300d", 7);
    CHECK_EQ(length, 300, "asprintf");
    free(text);
    const mod_alloc_stats after = whole_now();
    CHECK(after.alloc_count > before.alloc_count, "asprintf allocates");
    CHECK_EQ(after.live_count, before.live_count, "asprintf and free");
    CHECK_EQ(after.current_bytes, before.current_bytes, "asprintf and free");
}

static void thread_counts_are_the_process_counts(void) {
    mod_alloc_stats process, thread;
    mod_alloc_snapshot(&process);
    mod_alloc_thread_snapshot(&thread);
    CHECK_EQ(thread.alloc_count, process.alloc_count, "one thread: its count is the process's");
    CHECK_EQ(thread.free_count, process.free_count, "one thread");
    CHECK_EQ(thread.total_bytes, process.total_bytes, "one thread");
    CHECK_EQ(thread.requested_bytes, process.requested_bytes, "one thread");
    CHECK_EQ(thread.current_bytes, process.current_bytes, "one thread");
    CHECK_EQ(thread.live_count, process.live_count, "one thread");
}

int main(void) {
    whole_begin();
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < SIZES; i++) {
            allocate_and_free(sizes[i]);
        }
        calloc_asks_for_the_product();
        for (size_t alignment = 16; alignment <= 64 * KIB; alignment *= 2) {
            for (size_t i = 0; i < SIZES; i++) {
                if (sizes[i] <= 64 * KIB) {
                    aligned_calls(sizes[i], alignment);
                }
            }
        }
        aligned_calls(MIB, MIB);
        aligned_calls(17 * MIB, 2 * MIB);
        aligned_calls(100, 4 * MIB);
        page_aligned_calls();
        reallocs();
        realloc_of_null_is_malloc();
        realloc_to_nothing();
        reallocarray_asks_for_the_product();
        realloc_of_an_aligned_block();
        what_fails_counts_nothing();
        what_libc_allocates_counts();
    }
    thread_counts_are_the_process_counts();
    return whole_end();
}
