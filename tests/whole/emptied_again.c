/* SPDX-License-Identifier: MIT
 *
 * emptied_again.c - a page that was empty when its thread looked after its memory, was then used up, and is empty again while
 * its thread needs no more of its size, is given up as any other: its memory serves other sizes. The thread looks a few times a
 * second, and each size waits for such a look while its page is empty. When that was is read from the process's own profile.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "region/layout.h"
#include "whole.h"

enum { SIZES = 8, BLOCKS_MAX = 24, PAGE = 512 << 10, OTHER = 500000 };

static const moda_region_header *header;

static uint64_t looks(void) {
    return __atomic_load_n(&header->latest_monotonic_ns, __ATOMIC_RELAXED);
}

/* Until the next look, or so long; after a pause of the system for 1 MB more, in which a look that is due comes. */
static bool small_blocks(double seconds) {
    const uint64_t before = looks();
    const double end = whole_seconds_now() + seconds;
    bool is_over;
    do {
        is_over = whole_seconds_now() >= end;
        for (int i = 0; i < 16000; i++) {
            free(malloc(64));
        }
    } while (looks() == before && !is_over);
    return looks() != before;
}

static void take(void **block, size_t count, size_t size) {
    for (size_t i = 0; i < count; i++) {
        block[i] = malloc(size);
        NEED(block[i] != NULL, "malloc(%zu) gives NULL", size);
        memset(block[i], 1, size);
    }
}

static void give(void **block, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(block[i]);
    }
}

/* Of a page that nothing was taken from before; the next one may lie right behind it. */
static size_t blocks_of_page(size_t size) {
    void *block[BLOCKS_MAX];
    take(block, BLOCKS_MAX, size);
    size_t count = 1;
    while (count < PAGE / size && (uintptr_t)block[count] - (uintptr_t)block[count - 1] == size) {
        count++;
    }
    give(block, BLOCKS_MAX);
    return count;
}

static void empty_again(size_t size) {
    void *block[BLOCKS_MAX], *more;
    const size_t count = blocks_of_page(size);
    do {
        take(block, count, size);
        give(block, count);
    } while (!small_blocks(0.004));
    take(block, count, size);
    take(&more, 1, size); /* of another page */
    give(block, count - 1);
    free(more);
    free(block[count - 1]);
}

/* With another thread, pages that are empty are kept for a hundredth of a second each time that they are looked at. */
static pthread_barrier_t barrier;

static void *waits(void *unused) {
    free(malloc(10));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return unused;
}

int main(void) {
    whole_begin();
    alarm(600); /* needs 4 seconds */
    const int fd = open(getenv("MOD_ALLOC_PROFILE"), O_RDONLY | O_CLOEXEC);
    NEED(fd >= 0, "no profile");
    header = mmap(NULL, sizeof *header, PROT_READ, MAP_SHARED, fd, 0);
    NEED(header != MAP_FAILED, "the profile can't be mapped");
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    NEED(pthread_create(&thread, NULL, waits, NULL) == 0, "no thread");
    pthread_barrier_wait(&barrier);

    static const size_t size[SIZES] = {131072, 98304, 81920, 65536, 57344, 49152, 40960, 32768};
    const size_t before = whole_resident_bytes();
    for (size_t i = 0; i < SIZES; i++) {
        empty_again(size[i]);
    }
    for (int i = 0; i < 2; i++) {
        while (!small_blocks(1)) {
        }
        for (const double end = whole_seconds_now() + 0.1; whole_seconds_now() < end;) {
            free(malloc(64));
        }
    }
    void *other[SIZES];
    take(other, SIZES, OTHER);
    const size_t after = whole_resident_bytes();
    printf("%zu KiB resident, %zu with %d blocks of another size\n", before >> 10, after >> 10, SIZES);
    CHECK(after < before + SIZES * PAGE / 4 * 5, "%zu KiB resident, %zu before", after >> 10, before >> 10);
    give(other, SIZES);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    return whole_end();
}
