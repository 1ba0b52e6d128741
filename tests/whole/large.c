/* SPDX-License-Identifier: MIT
 *
 * large.c - large and over-aligned blocks: zeroed, aligned, not resident before they are touched, and the
 * places where mimalloc 2.0.9 by itself goes wrong: memalign of 256, 512 and 1024 bytes; calloc of 512 MiB
 * (resident at once); calloc of more than 2 GiB out of a reserved arena (zeroed only up to 2 GiB: run with
 * the argument "arena" and MIMALLOC_RESERVE_OS_MEMORY=3GiB; it dirties 2.5 GiB).
 */
#define _GNU_SOURCE
#include "whole.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static bool is_zero(const unsigned char *p, size_t size, size_t step) {
    for (size_t i = 0; i < size; i += step) {
        if (p[i] != 0) {
            CHECK(p[i] == 0, "calloc of %zu bytes: byte %zu is %d", size, i, p[i]);
            return false;
        }
    }
    return true;
}

/* mimalloc before 2.1.0: a power of two from 256 to 1024 with at least that alignment was misaligned. */
static void aligned_powers_of_two(void) {
    enum { blocks = 40 };
    for (size_t size = 128; size <= 2048; size *= 2) {
        for (size_t alignment = 32; alignment <= 4096; alignment *= 2) {
            void *p[blocks];
            for (int i = 0; i < blocks; i++) {
                const int way = i % 3;
                if (way == 0) {
                    CHECK(posix_memalign(&p[i], alignment, size) == 0, "posix_memalign(%zu, %zu) fails",
                          alignment, size);
                } else {
                    p[i] = way == 1 ? aligned_alloc(alignment, size) : memalign(alignment, size);
                }
                CHECK(p[i] != NULL && (uintptr_t)p[i] % alignment == 0,
                      "block %d of %zu bytes aligned to %zu is at %p", i, size, alignment, p[i]);
                CHECK(malloc_usable_size(p[i]) >= size, "usable size of an aligned block: %zu of %zu",
                      malloc_usable_size(p[i]), size);
                memset(p[i], 0xEE, size);
            }
            for (int i = 0; i < blocks; i++) {
                free(p[i]);
            }
        }
    }
}

/* The same in sizes that share pages with plain blocks, contents checked: nothing overlaps. */
static void aligned_blocks_do_not_overlap(void) {
    enum { blocks = 600 };
    static unsigned char *p[blocks];
    static size_t size[blocks];
    uint64_t state = 7;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < blocks; i++) {
            size[i] = whole_random(&state) % 2000 + 1;
            const size_t alignment = (size_t)16 << whole_random(&state) % 7;
            p[i] = i % 2 == 0 ? malloc(size[i]) : memalign(alignment, size[i]);
            NEED(p[i] != NULL, "no block");
            size[i] = malloc_usable_size(p[i]);
            memset(p[i], i & 0xFF, size[i]);
        }
        for (int i = 0; i < blocks; i++) {
            for (size_t k = 0; k < size[i]; k++) {
                NEED(p[i][k] == (unsigned char)i, "block %d of %zu bytes: byte %zu is %d, expected %d", i,
                     size[i], k, p[i][k], i & 0xFF);
            }
            free(p[i]);
        }
    }
}

static void calloc_gives_zeroes(void) {
    static const size_t sizes[] = {1,   100,     1024,     1025,         5000,     65536,    131072,   131073,
                                   MIB, 5 * MIB, 16 * MIB, 16 * MIB + 1, 17 * MIB, 40 * MIB, 100 * MIB};
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            const size_t size = sizes[i];
            unsigned char *p = malloc(size);
            NEED(p != NULL, "malloc(%zu) gives NULL", size);
            memset(p, 0xFF, malloc_usable_size(p));
            free(p);
            p = calloc(1, size);
            NEED(p != NULL, "calloc(1, %zu) gives NULL", size);
            is_zero(p, size, 1);
            memset(p, 0xFF, size);
            free(p);
        }
    }
}

static void large_blocks_are_not_touched(void) {
    const size_t before = whole_resident_bytes();
    unsigned char *p = malloc(GIB);
    NEED(p != NULL, "malloc of 1 GiB gives NULL");
    size_t grown = whole_resident_bytes() - before;
    CHECK((ssize_t)grown < (ssize_t)(8 * MIB), "malloc of 1 GiB: %zu bytes became resident", grown);
    p[0] = p[GIB / 2] = p[GIB - 1] = 1;
    free(p);

    const size_t before_calloc = whole_resident_bytes();
    unsigned char *q = calloc(512, MIB);
    NEED(q != NULL, "calloc of 512 MiB gives NULL");
    grown = whole_resident_bytes() - before_calloc;
    CHECK((ssize_t)grown < (ssize_t)(16 * MIB), "calloc of 512 MiB: %zu bytes became resident", grown);
    is_zero(q, 512 * MIB, 65537);
    is_zero(q, 4096, 1);
    free(q);
    const size_t after = whole_resident_bytes();
    CHECK((ssize_t)(after - before) < (ssize_t)(32 * MIB), "after free %zu bytes more are resident",
          after - before);
}

static void calloc_of_more_than_2_gib(void) {
    const size_t size = 2 * GIB + 300 * MIB;
    unsigned char *p = calloc(1, size);
    if (p == NULL) {
        CHECK(errno == ENOMEM, "calloc of %zu bytes fails with errno %d", size, errno);
        return; /* a small machine, or ulimit -v */
    }
    is_zero(p, size, 1009 * 4096 + 1);
    is_zero(p + 2 * GIB - 4096, 8192, 1);
    is_zero(p + size - 4096, 4096, 1);
    CHECK(malloc_usable_size(p) >= size, "usable size is %zu", malloc_usable_size(p));
    free(p);
}

static void calloc_out_of_a_dirty_arena(void) {
    const size_t size = 2 * GIB + 500 * MIB;
    unsigned char *p = malloc(size);
    NEED(p != NULL, "malloc of %zu bytes gives NULL", size);
    for (size_t i = 0; i < size; i += 4096) {
        p[i] = 0xAA;
    }
    const unsigned char *const first = p;
    free(p);
    p = calloc(1, size);
    NEED(p != NULL, "calloc of %zu bytes gives NULL", size);
    (void)first;
    is_zero(p, size, 4096);
    free(p);
}

int main(int count, char **argument) {
    if (count > 1 && strcmp(argument[1], "arena") == 0) {
        calloc_out_of_a_dirty_arena();
        return whole_end();
    }
    aligned_powers_of_two();
    aligned_blocks_do_not_overlap();
    calloc_gives_zeroes();
    large_blocks_are_not_touched();
    calloc_of_more_than_2_gib();
    return whole_end();
}
