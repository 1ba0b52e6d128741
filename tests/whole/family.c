/* SPDX-License-Identifier: MIT
 *
 * family.c - the malloc family as the C standard, POSIX and glibc's manual have it: errno, alignment, zero
 * sizes, overflow, what each argument may be. It also passes on glibc itself (run without mod-alloc), so
 * that it is glibc's behaviour that is asked for, but where a comment says that the two differ.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "whole.h"

/* In no header of glibc 2.36: the first was taken out of it, the others are C23. */
extern void cfree(void *) __attribute__((weak));
extern void free_sized(void *, size_t) __attribute__((weak));
extern void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

static const size_t too_much[] = {
    SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 15, SIZE_MAX - 4096, SIZE_MAX / 2 + 1, (size_t)PTRDIFF_MAX + 1,
};
#define MIB ((size_t)1 << 20)
#define TOO_MUCH (sizeof too_much / sizeof too_much[0])

/* Fundamental alignment holds for every size: 16 on x86-64 and aarch64. A block smaller than that may be
 * aligned to its own size's power of two: no object that needs more fits in it. */
static void alignment(void) {
    for (size_t size = 0; size < 3000; size++) {
        void *const p[] = {malloc(size), calloc(1, size), realloc(NULL, size)};
        for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
            const size_t want = 16;
            CHECK(p[i] != NULL && (uintptr_t)p[i] % want == 0, "way %zu of %zu bytes is at %p", i, size,
                  p[i]);
        }
        for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
            free(p[i]);
        }
        if (whole_failures > 5) {
            return;
        }
    }
}

static void malloc_of_nothing(void) {
    void *a = malloc(0);
    void *b = malloc(0);
    CHECK(a != NULL && b != NULL, "malloc(0) gives %p, %p", a, b);
    CHECK(a != b, "malloc(0) gives the same block twice");
    free(a);
    free(b);
    a = calloc(0, 10);
    b = calloc(10, 0);
    CHECK(a != NULL && b != NULL && a != b, "calloc of nothing gives %p, %p", a, b);
    free(a);
    free(b);
    void *p = aligned_alloc(64, 0);
    CHECK(p != NULL && (uintptr_t)p % 64 == 0, "aligned_alloc(64, 0) gives %p", p);
    free(p);
}

static void errno_on_failure(void) {
    for (size_t i = 0; i < TOO_MUCH; i++) {
        errno = 0;
        CHECK(malloc(too_much[i]) == NULL, "malloc(%zu)", too_much[i]);
        CHECK(errno == ENOMEM, "malloc(%zu): errno is %d", too_much[i], errno);
        errno = 0;
        CHECK(calloc(1, too_much[i]) == NULL, "calloc(1, %zu)", too_much[i]);
        CHECK(errno == ENOMEM, "calloc(1, %zu): errno is %d", too_much[i], errno);
        errno = 0;
        CHECK(calloc(too_much[i], 3) == NULL, "calloc(%zu, 3)", too_much[i]);
        CHECK(errno == ENOMEM, "calloc(%zu, 3): errno is %d", too_much[i], errno);
        errno = 0;
        CHECK(realloc(NULL, too_much[i]) == NULL, "realloc(NULL, %zu)", too_much[i]);
        CHECK(errno == ENOMEM, "realloc(NULL, %zu): errno is %d", too_much[i], errno);
        errno = 0;
        CHECK(memalign(64, too_much[i]) == NULL, "memalign(64, %zu)", too_much[i]);
        CHECK(errno == ENOMEM, "memalign(64, %zu): errno is %d", too_much[i], errno);
        errno = 0;
        CHECK(aligned_alloc(4096, too_much[i]) == NULL, "aligned_alloc(4096, %zu)", too_much[i]);
        CHECK(errno == ENOMEM, "aligned_alloc(4096, %zu): errno is %d", too_much[i], errno);
        errno = 0;
        CHECK(valloc(too_much[i]) == NULL, "valloc(%zu)", too_much[i]);
        CHECK(errno == ENOMEM, "valloc(%zu): errno is %d", too_much[i], errno);
        errno = 0;
        CHECK(pvalloc(too_much[i]) == NULL, "pvalloc(%zu)", too_much[i]);
        CHECK(errno == ENOMEM, "pvalloc(%zu): errno is %d", too_much[i], errno);
    }
}

static void success_leaves_errno(void) {
    errno = 4711;
    void *p = malloc(100);
    p = realloc(p, 100000);
    void *q = calloc(3, 400000);
    free(p);
    free(q);
    free(NULL);
    p = malloc((size_t)40 << 20);
    free(p);
    p = aligned_alloc(256, 512);
    free(p);
    /* POSIX (issue 8) and glibc since 2.33: free keeps errno; the others may not set it to 0. */
    CHECK(errno == 4711, "errno became %d", errno);
}

static void calloc_overflow(void) {
    static const size_t pairs[][2] = {
        {(size_t)1 << 32, (size_t)1 << 32},
        {SIZE_MAX / 2 + 1, 2},
        {SIZE_MAX, SIZE_MAX},
        {3, SIZE_MAX / 2},
        {(size_t)1 << 63, 2},
        {65537, SIZE_MAX / 65536},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        errno = 0;
        void *p = calloc(pairs[i][0], pairs[i][1]);
        CHECK(p == NULL && errno == ENOMEM, "calloc(%zu, %zu) gives %p, errno %d", pairs[i][0], pairs[i][1],
              p, errno);
        errno = 0;
        p = reallocarray(NULL, pairs[i][0], pairs[i][1]);
        CHECK(p == NULL && errno == ENOMEM, "reallocarray(NULL, %zu, %zu) gives %p, errno %d", pairs[i][0],
              pairs[i][1], p, errno);
    }
}

static void realloc_keeps(void) {
    unsigned char *p = NULL;
    size_t old = 0;
    uint64_t state = 3;
    for (int i = 0; i < 3000; i++) {
        const size_t size = 1 + whole_random(&state) % (i % 100 == 0 ? 2000000 : 5000);
        unsigned char *q = realloc(p, size);
        NEED(q != NULL, "realloc(%p, %zu) gives NULL", (void *)p, size);
        const size_t kept = old < size ? old : size;
        for (size_t k = 0; k < kept; k++) {
            NEED(q[k] == (unsigned char)(k * 7 + old), "realloc %zu to %zu: byte %zu", old, size, k);
        }
        for (size_t k = 0; k < size; k++) {
            q[k] = (unsigned char)(k * 7 + size);
        }
        p = q;
        old = size;
    }
    errno = 0;
    CHECK(realloc(p, SIZE_MAX - 4096) == NULL && errno == ENOMEM, "realloc too large: errno %d", errno);
    for (size_t k = 0; k < old; k++) {
        NEED(p[k] == (unsigned char)(k * 7 + old), "a realloc that failed harmed the block at %zu", k);
    }
    free(p);
}

static void reallocarrays(void) {
    int *p = reallocarray(NULL, 10, sizeof *p);
    CHECK(p != NULL, "reallocarray(NULL, 10, 4)");
    p[9] = 99;
    p = reallocarray(p, 10000, sizeof *p);
    CHECK(p != NULL && p[9] == 99, "reallocarray(p, 10000, 4)");
    errno = 0;
    CHECK(reallocarray(p, SIZE_MAX / 2, 4) == NULL && errno == ENOMEM, "overflow: errno %d", errno);
    CHECK(p[9] == 99, "the block is still there after an overflow");
    free(p);
}

static void posix_memaligns(void) {
    static const size_t wrong[] = {0, 1, 2, 4, 3, 24, 48, 100, SIZE_MAX};
    void *const untouched = (void *)0x1234;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        void *p = untouched;
        errno = 0;
        const int error = posix_memalign(&p, wrong[i], 100);
        CHECK(error == EINVAL, "posix_memalign of alignment %zu gives %d", wrong[i], error);
        CHECK(p == untouched, "posix_memalign that fails sets the pointer to %p", p);
    }
    for (size_t i = 0; i < TOO_MUCH; i++) {
        void *p = untouched;
        const int error = posix_memalign(&p, 64, too_much[i]);
        CHECK(error == ENOMEM, "posix_memalign(64, %zu) gives %d", too_much[i], error);
        CHECK(p == untouched, "posix_memalign that fails sets the pointer to %p", p);
    }
    for (size_t alignment_ = sizeof(void *); alignment_ <= (size_t)1 << 24; alignment_ *= 2) {
        for (size_t size = 0; size <= 5000; size += 1250) {
            void *p = NULL;
            const int error = posix_memalign(&p, alignment_, size);
            NEED(error == 0 && p != NULL && (uintptr_t)p % alignment_ == 0,
                 "posix_memalign(%zu, %zu) gives %d, %p", alignment_, size, error, p);
            memset(p, 1, size);
            free(p);
        }
    }
}

static void aligned_allocs(void) {
    /* glibc 2.36 rounds a bad alignment up; C17 says it shall fail: mod-alloc fails with EINVAL. */
    static const size_t wrong[] = {0, 3, 24, 100};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0] && whole_is_active(); i++) {
        errno = 0;
        void *p = aligned_alloc(wrong[i], 96);
        CHECK(p == NULL && errno == EINVAL, "aligned_alloc(%zu, 96) gives %p, errno %d", wrong[i], p, errno);
        free(p);
    }
    /* The size need not be a multiple of the alignment (C17 DR 460, glibc). */
    for (size_t alignment_ = 1; alignment_ <= 65536; alignment_ *= 2) {
        for (size_t size = 1; size < 70000; size = size * 3 + 1) {
            unsigned char *p = aligned_alloc(alignment_, size);
            NEED(p != NULL && (uintptr_t)p % alignment_ == 0, "aligned_alloc(%zu, %zu) gives %p", alignment_,
                 size, (void *)p);
            const size_t usable = malloc_usable_size(p);
            CHECK(usable >= size, "usable size %zu of %zu", usable, size);
            memset(p, 0xA5, usable);
            free(p);
        }
    }
}

static void page_aligned(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t size = 0; size < 20000; size += 1111) {
        void *p = valloc(size);
        CHECK(p != NULL && (uintptr_t)p % page == 0, "valloc(%zu) gives %p", size, p);
        free(p);
        p = pvalloc(size);
        CHECK(p != NULL && (uintptr_t)p % page == 0, "pvalloc(%zu) gives %p", size, p);
        CHECK(malloc_usable_size(p) >= (size + page - 1) / page * page, "pvalloc(%zu): usable size %zu", size,
              malloc_usable_size(p));
        free(p);
    }
}

static void usable_sizes(void) {
    CHECK(malloc_usable_size(NULL) == 0, "malloc_usable_size(NULL) is %zu", malloc_usable_size(NULL));
    for (size_t size = 0; size < 300000; size = size + 1 + size / 3) {
        unsigned char *p = malloc(size);
        const size_t usable = malloc_usable_size(p);
        CHECK(usable >= size, "usable size %zu of %zu", usable, size);
        memset(p, 0x77, usable);
        unsigned char *next = malloc(size);
        memset(next, 0x88, malloc_usable_size(next));
        for (size_t i = 0; i < usable; i++) {
            NEED(p[i] == 0x77, "the usable bytes of a block of %zu overlap its neighbour at %zu", size, i);
        }
        free(p);
        free(next);
    }
}

static void other_ways_to_free(void) {
    if (!whole_is_active()) {
        return;
    }
    NEED(cfree != NULL, "cfree is not there: programs of glibc before 2.26 use it");
    NEED(free_sized != NULL && free_aligned_sized != NULL,
         "C23's free_sized, free_aligned_sized are not there");
    const mod_alloc_stats before = whole_now();
    for (size_t size = 0; size < 100000; size = size * 2 + 1) {
        cfree(malloc(size));
        free_sized(malloc(size), size);
        free_sized(calloc(1, size), size);
        free_aligned_sized(aligned_alloc(64, size), 64, size);
        free_aligned_sized(aligned_alloc(512, size), 512, size);
    }
    cfree(NULL);
    free_sized(NULL, 0);
    free_aligned_sized(NULL, 64, 0);
    const mod_alloc_stats after = whole_now();
    CHECK_EQ(after.live_count, before.live_count, "all is freed");
    CHECK_EQ(after.current_bytes, before.current_bytes, "all is freed");
    CHECK_EQ(after.free_count - before.free_count, after.alloc_count - before.alloc_count,
             "one free a block");
}

static void tuning_and_statistics(void) {
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1 || whole_is_active(), "mallopt");
    const int given = mallopt(M_TRIM_THRESHOLD, 1 << 20);
    CHECK(given == 0 || given == 1, "mallopt gives %d", given);
    const int trimmed = malloc_trim(0);
    CHECK(trimmed == 0 || trimmed == 1, "malloc_trim gives %d", trimmed);

    void *held = malloc(3000000);
    const struct mallinfo2 large = mallinfo2();
    free(held);
    const struct mallinfo2 small = mallinfo2();
    CHECK(large.uordblks + large.hblkhd >= small.uordblks + small.hblkhd + 3000000,
          "mallinfo2: in use %zu with a block of 3 MB, %zu without", large.uordblks + large.hblkhd,
          small.uordblks + small.hblkhd);
    if (whole_is_active()) {
        const mod_alloc_stats now = whole_now();
        const struct mallinfo2 info = mallinfo2();
        CHECK_EQ(info.uordblks, now.current_bytes, "mallinfo2.uordblks is current_bytes");
    }

    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    NEED(stream != NULL, "open_memstream");
    CHECK(malloc_info(0, stream) == 0, "malloc_info(0) fails");
    fclose(stream);
    CHECK(length > 0 && strncmp(text, "<malloc", 7) == 0 && strstr(text, "</malloc>") != NULL,
          "malloc_info writes %zu bytes: %.60s", length, text);
    free(text);
    errno = 0;
    const int refused = malloc_info(1, stderr);
    CHECK(refused != 0, "malloc_info(1) gives %d; only 0 is defined", refused);

    fflush(stderr);
    const int saved = dup(STDERR_FILENO);
    int ends[2];
    NEED(pipe(ends) == 0, "pipe");
    dup2(ends[1], STDERR_FILENO);
    malloc_stats();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(ends[1]);
    close(saved);
    char report[4096];
    const ssize_t got = read(ends[0], report, sizeof report - 1);
    close(ends[0]);
    CHECK(got > 0, "malloc_stats writes nothing on stderr");
}

/* The number behind what stands in malloc_info's text; SIZE_MAX: it does not stand there. */
static size_t malloc_info_says(const char *before) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    NEED(stream != NULL && malloc_info(0, stream) == 0, "malloc_info");
    fclose(stream);
    const char *at = strstr(text, before);
    const size_t size = at != NULL ? strtoull(at + strlen(before), NULL, 10) : SIZE_MAX;
    free(text);
    return size;
}

static void expect_system(size_t least, size_t most, const char *when) {
    const struct mallinfo2 info = mallinfo2();
    CHECK(info.arena >= info.uordblks && info.arena >= least && info.arena <= most,
          "%s: arena %zu, live %zu, expected %zu to %zu", when, info.arena, info.uordblks, least, most);
    CHECK_EQ(info.fordblks, info.arena - info.uordblks, "fordblks");
    const size_t current = malloc_info_says("<system type=\"current\" size=\"");
    CHECK(current >= least && current <= most + MIB, "%s: malloc_info says %zu, expected %zu to %zu", when,
          current, least, most);
}

/* In glibc's words, system's max is the highest that it was: never below what it is. */
static void info_is_true(void) {
    if (!whole_is_active()) {
        return;
    }
    const mod_alloc_stats now = whole_now();
    char peak[80];
    snprintf(peak, sizeof peak, "<total type=\"peak\" count=\"%llu\" size=\"",
             (unsigned long long)now.peak_live_count);
    CHECK_EQ(malloc_info_says(peak), now.peak_bytes, "malloc_info's peak");
    CHECK(malloc_info_says("<system type=\"max\" size=\"")
              >= malloc_info_says("<system type=\"current\" size=\""),
          "malloc_info: from the system at most less than now");
}

/* What the heap has from the system, through blocks that come and go. */
static void system_bytes(void) {
    if (!whole_is_active()) {
        return;
    }
    const size_t large = 64 * MIB;
    for (int i = 0; i < 1000; i++) {
        char *p = malloc(large);
        NEED(p != NULL, "malloc of 64 MiB");
        p[0] = p[large - 1] = 1;
        free(p);
    }
    expect_system(0, 200 * MIB, "after 1000 blocks of 64 MiB");
    void *aligned[] = {aligned_alloc(32 * MIB, 32 * MIB), aligned_alloc(8 * MIB, 1024 * MIB)};
    if (aligned[0] != NULL && aligned[1] != NULL) { /* address space may be short */
        expect_system(1056 * MIB, 1400 * MIB, "with aligned blocks of 1056 MiB");
    }
    free(aligned[0]);
    free(aligned[1]);
    char *kept[64];
    for (size_t i = 0; i < 64; i++) {
        kept[i] = malloc(MIB);
        NEED(kept[i] != NULL, "malloc of 1 MiB");
        memset(kept[i], 1, MIB);
    }
    expect_system(64 * MIB, 300 * MIB, "with 64 blocks of 1 MiB");
    for (size_t i = 0; i < 64; i++) {
        free(kept[i]);
    }
    const size_t before = mallinfo2().arena;
    const int trimmed = malloc_trim(0);
    const size_t after = mallinfo2().arena;
    CHECK_EQ(trimmed, after < before, "malloc_trim tells whether memory went back");
    expect_system(0, 200 * MIB, "when all is freed");
}

static void names_are_ours(void) {
    if (!whole_is_active()) {
        return;
    }
    static const char *const names[] = {
        "malloc",        "calloc",
        "realloc",       "reallocarray",
        "free",          "cfree",
        "aligned_alloc", "posix_memalign",
        "memalign",      "valloc",
        "pvalloc",       "malloc_usable_size",
        "free_sized",    "free_aligned_sized",
        "mallinfo2",     "malloc_trim",
        "mallopt",       "malloc_info",
        "malloc_stats",  "__libc_malloc",
        "__libc_free",
    };
    Dl_info ours;
    void *const snapshot = dlsym(RTLD_DEFAULT, "mod_alloc_snapshot");
    if (snapshot == NULL || dladdr(snapshot, &ours) == 0) {
        return; /* linked statically without exported names */
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        Dl_info info = {0};
        void *const address = dlsym(RTLD_DEFAULT, names[i]);
        CHECK(address != NULL, "%s is not defined", names[i]);
        if (address != NULL && dladdr(address, &info) != 0) {
            CHECK(info.dli_fbase == ours.dli_fbase, "%s comes from %s, not from %s", names[i], info.dli_fname,
                  ours.dli_fname);
        }
    }
}

int main(void) {
    alignment();
    malloc_of_nothing();
    errno_on_failure();
    success_leaves_errno();
    calloc_overflow();
    realloc_keeps();
    reallocarrays();
    posix_memaligns();
    aligned_allocs();
    page_aligned();
    usable_sizes();
    other_ways_to_free();
    tuning_and_statistics();
    system_bytes();
    info_is_true();
    names_are_ours();
    return whole_end();
}
