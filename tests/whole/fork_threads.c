/* SPDX-License-Identifier: MIT
 *
 * fork_threads.c - a process whose threads allocate all the time forks hundreds of times. Each child must
 * be able to allocate, to free what the parent allocated, to start threads, to fork again and to end; and
 * its counters must be exact from its first instruction. "storm" lets several threads fork at once, and the
 * children too. A child that hangs is killed after a minute and counts as a failure.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "whole.h"

#define THREADS 3
#define HELD 64

static int stop;
static void *held[THREADS][HELD]; /* complete blocks, each filled with its slot's number */
static pthread_mutex_t held_lock[THREADS] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                             PTHREAD_MUTEX_INITIALIZER};

static void *allocate_all_the_time(void *argument) {
    const size_t id = (size_t)(uintptr_t)argument;
    uint64_t state = id;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        void *burst[200];
        for (size_t i = 0; i < 200; i++) {
            const uint64_t r = whole_random(&state);
            burst[i] = i % 50 == 49 ? memalign(256, r % 70000) : malloc(r % (i % 64 == 63 ? 3000000 : 3000));
        }
        for (size_t i = 0; i < 200; i++) {
            free(burst[i]);
        }
        const size_t slot = whole_random(&state) % HELD;
        unsigned char *p = malloc(100);
        memset(p, (int)slot, 100);
        pthread_mutex_lock(&held_lock[id]);
        void *old = held[id][slot];
        held[id][slot] = p;
        pthread_mutex_unlock(&held_lock[id]);
        free(old);
    }
    return NULL;
}

static void *short_thread(void *argument) {
    (void)argument;
    void *p[50];
    for (size_t i = 0; i < 50; i++) {
        p[i] = malloc(i * 100);
        NEED(p[i] != NULL, "no block in a thread of the child");
    }
    for (size_t i = 0; i < 50; i++) {
        free(p[i]);
    }
    return NULL;
}

/* Runs in the child; the parent's locks were held around fork, so the held blocks are whole. */
static void child(int depth) {
    const mod_alloc_stats before = whole_now();
    enum { blocks = 300 };
    void *p[blocks];
    int64_t bytes = 0, asked = 0;
    for (size_t i = 0; i < blocks; i++) {
        const size_t size = i % 100 == 99 ? 2000000 : i * 13;
        p[i] = malloc(size);
        NEED(p[i] != NULL, "no block of %zu bytes in the child", size);
        memset(p[i], 1, size);
        bytes += (int64_t)malloc_usable_size(p[i]);
        asked += (int64_t)size;
    }
    CHECK_CHANGE("the child's allocations", before, .alloc_count = blocks, .total_bytes = bytes,
                 .current_bytes = bytes, .live_count = blocks, .requested_bytes = asked);
    for (size_t i = 0; i < blocks; i++) {
        free(p[i]);
    }
    int64_t freed = 0, freed_bytes = 0;
    for (size_t t = 0; t < THREADS; t++) {
        for (size_t i = 0; i < HELD; i++) {
            unsigned char *q = held[t][i];
            if (q != NULL) {
                NEED(q[0] == i && q[99] == i, "the child's copy of a block has %d, expected %zu", q[0], i);
                freed++;
                freed_bytes += (int64_t)malloc_usable_size(q);
                free(q);
            }
        }
    }
    CHECK_CHANGE("the child frees what the parent's threads allocated", before, .alloc_count = blocks,
                 .free_count = blocks + freed, .total_bytes = bytes, .current_bytes = -freed_bytes,
                 .live_count = -freed, .requested_bytes = asked);
    const mod_alloc_stats now = whole_now();
    CHECK(now.peak_bytes >= before.current_bytes + (uint64_t)bytes,
          "the child's peak %" PRIu64 " is lower than what it held, %" PRIu64, now.peak_bytes,
          before.current_bytes + (uint64_t)bytes);
    CHECK(now.peak_bytes < (uint64_t)1 << 40 && now.live_count < 1000000, "a child's counter has wrapped");
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, short_thread, NULL) == 0, "no thread in the child");
    pthread_join(thread, NULL);
    if (depth > 0) {
        const pid_t grandchild = fork();
        NEED(grandchild >= 0, "the child cannot fork");
        if (grandchild == 0) {
            memset(held, 0, sizeof held);
            child(depth - 1);
            _exit(whole_end());
        }
        int status = 0;
        NEED(waitpid(grandchild, &status, 0) == grandchild && status == 0, "grandchild: status %#x", status);
    }
}

/* Waits a minute for a child that needs milliseconds. */
static void wait_for(pid_t pid, int turn) {
    int status = 0;
    for (int i = 0; i < 60000; i++) {
        const pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid) {
            CHECK(status == 0, "child %d: status %#x", turn, (unsigned)status);
            return;
        }
        const struct timespec nap = {.tv_nsec = i < 1000 ? 50000 : 1000000};
        nanosleep(&nap, NULL);
    }
    CHECK(false, "child %d hangs", turn);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

static pid_t fork_with_whole_blocks(void) {
    for (int i = 0; i < THREADS; i++) {
        pthread_mutex_lock(&held_lock[i]);
    }
    const pid_t pid = fork();
    if (pid != 0) {
        for (int i = 0; i < THREADS; i++) {
            pthread_mutex_unlock(&held_lock[i]);
        }
    }
    return pid;
}

static void *fork_in_a_storm(void *argument) {
    const int turns = *(int *)argument;
    for (int i = 0; i < turns; i++) {
        const pid_t pid = fork();
        NEED(pid >= 0, "fork fails: %d", errno);
        if (pid == 0) {
            memset(held, 0, sizeof held);
            child(2);
            _exit(whole_end());
        }
        wait_for(pid, i);
    }
    return NULL;
}

int main(int count, char **argument) {
    whole_begin();
    const bool storm = count > 1 && strcmp(argument[1], "storm") == 0;
    int turns = count > 2 ? atoi(argument[2]) : storm ? 40 : 300;
    pthread_t thread[THREADS], storming[3];
    for (size_t i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], NULL, allocate_all_the_time, (void *)(uintptr_t)i) == 0, "no thread");
    }
    if (storm) {
        for (int i = 0; i < 3; i++) {
            NEED(pthread_create(&storming[i], NULL, fork_in_a_storm, &turns) == 0, "no thread");
        }
        for (int i = 0; i < 3; i++) {
            pthread_join(storming[i], NULL);
        }
    } else {
        for (int i = 0; i < turns && whole_failures < 5; i++) {
            const pid_t pid = fork_with_whole_blocks();
            NEED(pid >= 0, "fork fails: %d", errno);
            if (pid == 0) {
                child(i % 50 == 0 ? 1 : 0);
                _exit(whole_end());
            }
            wait_for(pid, i);
        }
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    /* The parent's own counters were not disturbed. */
    int64_t blocks = 0, bytes = 0;
    const mod_alloc_stats before = whole_now();
    for (size_t t = 0; t < THREADS; t++) {
        for (size_t i = 0; i < HELD; i++) {
            blocks += held[t][i] != NULL;
            bytes += (int64_t)malloc_usable_size(held[t][i]);
            free(held[t][i]);
        }
    }
    CHECK_CHANGE("the parent", before, .free_count = blocks, .current_bytes = -bytes, .live_count = -blocks);
    return whole_end();
}
