/* SPDX-License-Identifier: MIT
 *
 * The lock excludes, wakes its waiters, can be tried, and is open again in a forked child.
 */
#include "base/lock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define THREADS 4
#define TURNS 50000

static moda_lock lock;
static uint64_t guarded[2]; /* under the lock: equal whenever it is open */

static void *take_turns(void *unused) {
    (void)unused;
    for (int i = 0; i < TURNS; i++) {
        moda_lock_take(&lock, MODA_LOCK_REGISTRY);
        const uint64_t before = guarded[0];
        guarded[0] = before + 1;
        if (i % 1000 == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL); /* so that waiters reach the futex */
        }
        if (guarded[1] != before) {
            guarded[1] = UINT64_MAX / 2; /* never equal again */
        }
        guarded[1]++;
        moda_lock_release(&lock, MODA_LOCK_REGISTRY);
    }
    return NULL;
}

Test(base_lock, threads_exclude_each_other, .timeout = 600) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, take_turns, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    cr_assert_eq(guarded[0], (uint64_t)THREADS * TURNS);
    cr_assert_eq(guarded[1], guarded[0]);
    cr_assert_eq(lock.word, 0);
}

Test(base_lock, a_held_lock_cannot_be_taken_by_trying) {
    cr_assert(moda_lock_try(&lock, MODA_LOCK_REGION));
    cr_assert_not(moda_lock_try(&lock, MODA_LOCK_UNWIND));
    moda_lock_release(&lock, MODA_LOCK_REGION);
    cr_assert(moda_lock_try(&lock, MODA_LOCK_REGION));
}

Test(base_lock, a_child_starts_with_an_open_lock_after_reset) {
    moda_lock_take(&lock, MODA_LOCK_REGION);
    lock.word = 2; /* as if another thread of the parent waited */
    const pid_t child = fork();
    if (child == 0) {
        moda_lock_reset(&lock, MODA_LOCK_REGION);
        moda_lock_take(&lock, MODA_LOCK_REGION);
        moda_lock_release(&lock, MODA_LOCK_REGION);
        _exit(lock.word == 0 ? 17 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 17);
}

Test(base_lock, waking_keeps_errno) {
    moda_lock_take(&lock, MODA_LOCK_REGION);
    lock.word = 2;
    errno = ENOTTY;
    moda_lock_release(&lock, MODA_LOCK_REGION);
    cr_assert_eq(errno, ENOTTY);
}

#if MODA_ASSERT_LEVEL >= 1
Test(base_lock, falling_order_is_caught, .signal = SIGABRT) {
    static moda_lock other;
    moda_lock_take(&lock, MODA_LOCK_REGION);
    moda_lock_take(&other, MODA_LOCK_REGISTRY);
}
#endif
