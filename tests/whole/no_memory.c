/* SPDX-License-Identifier: MIT
 *
 * no_memory.c - the system gives no more memory (RLIMIT_AS): each call of the family that finds none gives NULL and
 * ENOMEM and counts nothing, a block that could not grow stays as it was, and once memory is there again all goes
 * on. In a thread too. "begin": threads whose first call finds little memory or none (RLIMIT_DATA), wherever that ends.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "whole.h"

/* mimalloc 2.4 has an address range of 1 GiB before the limit is set; large blocks leave up to their own size free in
 * each 32 MiB of it, which the small ones fill. */
enum { BLOCKS = 1000000, LARGE = 1 << 20, SMALL = 200 };
static void *block[BLOCKS];

static void limit_memory(bool is_limited) {
    static struct rlimit before;
    struct rlimit limit;
    if (before.rlim_max == 0) {
        NEED(getrlimit(RLIMIT_AS, &before) == 0, "getrlimit");
    }
    limit = before;
    if (is_limited) {
        size_t pages = 0;
        FILE *statm = fopen("/proc/self/statm", "r");
        NEED(statm != NULL && fscanf(statm, "%zu", &pages) == 1, "statm");
        fclose(statm);
        limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + (200u << 20);
    }
    NEED(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
}

/* Takes blocks until there are no more; how many. */
static size_t fill(size_t size, size_t from) {
    size_t n = from;
    errno = 0;
    while (n < BLOCKS && (block[n] = malloc(size)) != NULL) {
        n++;
    }
    CHECK(n < BLOCKS && errno == ENOMEM, "after %zu blocks of %zu bytes errno is %d", n, size, errno);
    return n;
}

#define FAILS(call)                                                                                          \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        const void *const p_ = (call);                                                                       \
        CHECK(p_ == NULL && errno == ENOMEM, #call " gives %p, errno %d", p_, errno);                        \
    } while (0)

static uint64_t samples(uint64_t *sample_bytes) {
    mod_alloc_sampling_stats stats = {0};
    if (WHOLE_HAS(mod_alloc_sampling)) {
        mod_alloc_sampling(&stats);
    }
    *sample_bytes = stats.sample_bytes;
    return stats.samples;
}

/* Of sizes that nobody has: the blocks behind them are sampled as before. */
static void far_too_large(void) {
    enum { CALLS = 1000, SAMPLED = 1 << 16, EACH = 1000 };
    const size_t nobodys = (size_t)1 << 46;
    void *small = malloc(EACH);
    for (int i = 0; i < CALLS; i++) {
        FAILS(malloc(nobodys));
        FAILS(realloc(small, nobodys));
        FAILS(aligned_alloc(64, nobodys));
        FAILS(aligned_alloc(1 << 20, nobodys));
        free(malloc(EACH));
    }
    free(small);
    uint64_t sample_bytes;
    const uint64_t before = samples(&sample_bytes);
    for (int i = 0; i < SAMPLED; i++) {
        free(malloc(EACH));
    }
    const uint64_t taken = samples(&sample_bytes) - before;
    if (sample_bytes == 1) {
        CHECK_EQ(taken, SAMPLED, "samples behind calls that failed");
    } else if (sample_bytes != 0) { /* of 125 that are to be expected, none: once in e^125 */
        CHECK(taken != 0, "no sample in 64 MiB behind calls that failed");
    }
}

static void run_dry(void) {
    const mod_alloc_stats start = whole_now();
    unsigned char *growing = malloc(LARGE / 2);
    NEED(growing != NULL, "no memory to begin with");
    memset(growing, 0x5A, LARGE / 2);
    const size_t large = fill(LARGE, 0);
    const size_t all = fill(SMALL, large);
    const mod_alloc_stats full = whole_now();
    CHECK_EQ(full.alloc_count - start.alloc_count, all + 1, "allocations");
    CHECK_EQ(full.requested_bytes - start.requested_bytes,
             LARGE / 2 + large * LARGE + (all - large) * (size_t)SMALL, "bytes asked for");
    void *p = &p;
    FAILS(malloc(LARGE));
    FAILS(calloc(LARGE, 1));
    FAILS(calloc(2, LARGE));
    FAILS(realloc(NULL, LARGE));
    FAILS(realloc(growing, 100 * LARGE));
    FAILS(reallocarray(growing, 100, LARGE));
    FAILS(aligned_alloc(64, LARGE));
    FAILS(aligned_alloc(4096, LARGE));
    FAILS(aligned_alloc(1 << 20, LARGE));
    FAILS(aligned_alloc(64 << 20, LARGE));
    FAILS(memalign(512, LARGE));
    FAILS(valloc(LARGE));
    FAILS(pvalloc(LARGE));
    errno = 0;
    CHECK(posix_memalign(&p, 4096, LARGE) == ENOMEM && p == &p && errno == 0,
          "posix_memalign leaves %p, errno %d", p, errno);
    CHECK_CHANGE("calls that found no memory", full, .alloc_count = 0);
    for (size_t i = 0; i < LARGE / 2; i++) {
        NEED(growing[i] == 0x5A, "a block that could not grow has %#x at %zu", growing[i], i);
    }
    free(growing);
    for (size_t i = 0; i < all; i++) {
        free(block[i]);
    }
    const mod_alloc_stats end = whole_now();
    CHECK_EQ(end.current_bytes - start.current_bytes, 0, "bytes left");
    CHECK_EQ(end.live_count - start.live_count, 0, "blocks left");
    CHECK_EQ(end.peak_bytes >= full.current_bytes, 1, "the peak was when memory was short");
    void *again = malloc(LARGE);
    CHECK(again != NULL, "memory that was freed is not given again");
    free(again);
    far_too_large();
}

static void *in_a_thread(void *argument) {
    run_dry();
    return argument;
}

/* ---- threads that begin ---- */

enum { THREADS = 40, STEPS = 32, STEP = 16 << 10 };
static pthread_barrier_t all_are_there;

static void *begins(void *argument) {
    pthread_barrier_wait(&all_are_there);
    for (size_t size = 1; size < 4000; size += 40) {
        errno = 0;
        void *p = size % 3 == 0 ? malloc(size) : size % 3 == 1 ? calloc(1, size) : realloc(NULL, size);
        void *q = size % 2 == 0 ? aligned_alloc(64, 64 * size) : p != NULL ? realloc(p, 3 * size) : NULL;
        CHECK((p != NULL && (q != NULL || size % 2 == 0)) || errno == ENOMEM, "NULL, and errno is %d", errno);
        if (p != NULL && (q == NULL || size % 2 == 0)) {
            free(p);
        }
        free(q);
    }
    return argument;
}

static size_t data_bytes(void) {
    size_t pages[6] = {0};
    FILE *statm = fopen("/proc/self/statm", "r");
    NEED(statm != NULL
             && fscanf(statm, "%zu %zu %zu %zu %zu %zu", &pages[0], &pages[1], &pages[2], &pages[3],
                       &pages[4], &pages[5])
                    == 6,
         "statm");
    fclose(statm);
    return pages[5] * (size_t)sysconf(_SC_PAGESIZE);
}

static int begin_with(size_t bytes) {
    static pthread_t thread[THREADS];
    pthread_attr_t attributes;
    struct rlimit limit;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    NEED(pthread_barrier_init(&all_are_there, NULL, THREADS + 1) == 0, "a barrier");
    for (int i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], &attributes, begins, NULL) == 0, "pthread_create");
    }
    NEED(getrlimit(RLIMIT_DATA, &limit) == 0, "getrlimit");
    limit.rlim_cur = data_bytes() + bytes;
    NEED(setrlimit(RLIMIT_DATA, &limit) == 0, "setrlimit");
    pthread_barrier_wait(&all_are_there);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    return whole_failures != 0;
}

static void threads_begin(void) {
    for (size_t i = 0; i < STEPS; i++) {
        const pid_t pid = fork();
        NEED(pid >= 0, "fork");
        if (pid == 0) {
            _exit(begin_with(i * STEP));
        }
        int status = -1;
        NEED(waitpid(pid, &status, 0) == pid, "waitpid");
        CHECK(status == 0, "threads that begin with %zu KiB: status %#x", i * STEP / 1024, (unsigned)status);
    }
}

int main(int count, char **argument) {
    (void)argument;
    whole_begin();
    if (count > 1) {
        threads_begin();
        return whole_end();
    }
    limit_memory(true);
    void *probe = malloc((size_t)1 << 30);
    if (probe != NULL) {
        printf("the system does not keep to the limit\n");
        return WHOLE_SKIP;
    }
    run_dry();
    malloc_trim(0); /* room for a stack */
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, in_a_thread, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
    limit_memory(false);
    free(memset(malloc(300u << 20), 1, 300u << 20));
    return whole_end();
}
