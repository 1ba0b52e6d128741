/* SPDX-License-Identifier: MIT
 *
 * lists.c CASE - the free lists that a thread's small mallocs are popped from belong to pages: what is left of them goes
 * back there.
 *
 *   ends      threads that come and go, each with a list of every size, leave nothing behind
 *   trim      malloc_trim gives up pages of which all blocks are free, though most lie in a list
 *   collect   so does the slow path, now and then
 *   pages     an empty page becomes memory for other sizes where time goes by and little is allocated
 *   sizes     a thread that needs one size after another keeps no page of each
 *   again     a destructor that allocates behind mimalloc's, and is left by a handler's longjmp out of free, goes on
 *   zeroed    calloc gives zeroes from each list: new, used again, taken back and taken again
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "whole.h"

#ifdef WHOLE_PRELOADED
#pragma weak mod_alloc_mimalloc_version
#endif

#define CLASSES 20
#define PAGE_BYTES ((size_t)64 * 1024)
#define KB ((size_t)1024)

/* The largest size of each class: 16 ... 128 by 16, then four to each doubling. */
static size_t class_size(int class) {
    if (class < 8) {
        return (size_t)(class + 1) * 16;
    }
    const int doubling = (class - 8) / 4, quarter = (class - 8) % 4;
    return ((size_t)128 << doubling) / 4 * (size_t)(5 + quarter);
}

/* So many bytes' worth of a class is written and freed. */
static void use(int class, size_t bytes) {
    static void *block[PAGE_BYTES / 16];
    const size_t size = class_size(class), count = (bytes + size - 1) / size;
    for (size_t i = 0; i < count; i++) {
        block[i] = malloc(size);
        NEED(block[i] != NULL, "malloc gives NULL");
        memset(block[i], 1, size);
    }
    for (size_t i = 0; i < count; i++) {
        free(block[i]);
    }
}

static void *use_each(void *bytes) {
    for (int class = 0; class < CLASSES; class ++) {
        use(class, *(size_t *)bytes);
    }
    return NULL;
}

/* One needs much; the next gets that as a list, and needs a part of it. */
static void run_threads(int count) {
    for (int i = 0; i < count; i++) {
        size_t bytes = i % 2 == 0 ? 32 * KB : 16;
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, use_each, &bytes) == 0, "no thread");
        pthread_join(thread, NULL);
    }
}

static void ends(void) {
    run_threads(20);
    const size_t before = whole_resident_bytes();
    run_threads(200);
    const size_t after = whole_resident_bytes();
    CHECK(after < before + 4096 * KB, "%zu KiB more are resident after 200 threads", (after - before) / KB);
}

/* Of each class most of a page is free, and lies in the list: what was freed is taken over when the new has run out. */
static void fill_lists(void) {
    for (int class = 0; class < CLASSES; class ++) {
        use(class, PAGE_BYTES - 8 * KB);
    }
    for (int class = 0; class < CLASSES; class ++) {
        use(class, 8 * KB);
    }
}

/* By 11 KiB a class: 220 KiB. (At once 876 KiB in all; little by little 270 to 500, as pages become other sizes' before;
 * where lists do not go back, 132 at most.) */
static bool has_fallen(size_t before, size_t after) {
    return after + CLASSES * 11 * KB < before;
}

static void trim(void) {
    fill_lists();
    const size_t before = whole_resident_bytes();
    malloc_trim(0);
    const size_t after = whole_resident_bytes();
    CHECK(has_fallen(before, after), "%zu KiB were resident, and %zu are after malloc_trim", before / KB,
          after / KB);
}

/* 3 seconds by the clock and 1000 turns: a loaded machine has its turns too. */
static void collect(void) {
    if (strncmp(mod_alloc_mimalloc_version(), "2.0.", 4) != 0) {
        _exit(WHOLE_SKIP); /* later ones keep the memory of a page that they give up until they are forced */
    }
    fill_lists();
    const size_t before = whole_resident_bytes();
    const double begin = whole_seconds_now();
    size_t after = before;
    for (int turn = 0; !has_fallen(before, after) && (whole_seconds_now() < begin + 3 || turn < 1000);
         turn++) {
        for (int i = 0; i < 8; i++) {
            free(malloc(5000));
        }
        usleep(1000);
        after = whole_resident_bytes();
    }
    CHECK(has_fallen(before, after), "%zu KiB were resident, and %zu are after 3 seconds", before / KB,
          after / KB);
}

static void write_blocks(size_t size) {
    void *block[4];
    for (int i = 0; i < 4; i++) {
        block[i] = malloc(size);
        NEED(block[i] != NULL, "malloc gives NULL");
        memset(block[i], 1, size);
    }
    for (int i = 0; i < 4; i++) {
        free(block[i]);
    }
}

/* Where few bytes come to pass as time goes by, an empty page of medium blocks still becomes memory for other sizes. */
static void pages(void) {
    write_blocks(120 * KB);
    const size_t before = whole_resident_bytes();
    for (int turn = 0; turn < 80; turn++) {
        for (const double begin = whole_seconds_now(); whole_seconds_now() < begin + 0.0004;) {
        }
        for (int i = 0; i < 8; i++) {
            free(malloc(5000));
        }
    }
    write_blocks(100 * KB);
    const size_t after = whole_resident_bytes();
    CHECK(after < before + 200 * KB, "%zu KiB were resident, and are %zu", before / KB, after / KB);
}

/* All 20 have 960 KiB, and a page that is given up serves the next one but one. */
static void sizes(void) {
    use(0, 48 * KB);
    const size_t before = whole_resident_bytes();
    for (int class = 0; class < CLASSES; class ++) {
        use(class, 48 * KB);
    }
    const size_t after = whole_resident_bytes();
    CHECK(after < before + 600 * KB, "%zu KiB were resident, and %zu are", before / KB, after / KB);
}

static __thread sigjmp_buf back;
static pthread_key_t key;
static char *nowhere;

static void leave(int number) {
    static volatile sig_atomic_t times;
    (void)number;
    if (++times > 1000) {
        _exit(1); /* what was to go on faults itself */
    }
    siglongjmp(back, 1);
}

/* The first round's allocations bring a heap back to life, which has no lists. */
static void allocate_again(void *count) {
    const pthread_key_t mine = key;
    void *kept = malloc(40);
    if (sigsetjmp(back, 1) == 0) {
        free(nowhere);
        NEED(false, "no fault in free");
    }
    for (size_t size = 1; size <= 1024; size++) {
        void *p = malloc(size);
        NEED(p != NULL, "malloc gives NULL");
        memset(p, 1, size);
        free(p);
    }
    free(kept);
    ++*(int *)count;
    pthread_setspecific(mine, count);
}

static void *allocate_and_end(void *count) {
    free(malloc(40));
    pthread_setspecific(key, count);
    return NULL;
}

static void again(void) {
    nowhere = mmap(NULL, (size_t)128 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(nowhere != MAP_FAILED, "mmap: %s", strerror(errno));
    nowhere += ((size_t)64 << 20) + 4096;
    const struct sigaction action = {.sa_handler = leave};
    NEED(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction: %s", strerror(errno));
    NEED(pthread_key_create(&key, allocate_again) == 0, "no key");
    for (int i = 0; i < 10; i++) {
        int count = 0;
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, allocate_and_end, &count) == 0, "no thread");
        pthread_join(thread, NULL);
        CHECK(count >= 1, "the destructor ran %d times", count);
    }
}

static void check_zeroed(int class, const char *when) {
    const size_t size = class_size(class);
    const size_t count = 2 * PAGE_BYTES / size;
    static unsigned char *block[2 * PAGE_BYTES / 16];
    for (size_t i = 0; i < count; i++) {
        block[i] = calloc(1, size);
        NEED(block[i] != NULL, "calloc gives NULL");
        size_t at = 0;
        while (at < size && block[i][at] == 0) {
            at++;
        }
        CHECK(at == size, "%s: byte %zu of %zu is %d", when, at, size, block[i][at]);
        memset(block[i], 0xA5, size);
    }
    for (size_t i = 0; i < count; i++) {
        free(block[i]);
    }
}

static void zeroed(void) {
    for (int class = 0; class < CLASSES; class ++) {
        check_zeroed(class, "new");
        check_zeroed(class, "again");
    }
    malloc_trim(0);
    for (int class = 0; class < CLASSES; class ++) {
        check_zeroed(class, "after malloc_trim");
    }
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {{"ends", ends},   {"trim", trim},   {"collect", collect}, {"pages", pages},
                 {"sizes", sizes}, {"again", again}, {"zeroed", zeroed}};
    whole_begin();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (count > 1 && strcmp(arguments[1], cases[i].name) == 0) {
            cases[i].run();
            return whole_end();
        }
    }
    return 2;
}
