/* SPDX-License-Identifier: MIT
 *
 * The lock excludes, wakes its waiters, can be tried, is open again in a forked child, and is let go of where who held it
 * was left.
 */
#include "base/lock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
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
    lock.word |= 1; /* as if another thread of the parent waited */
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
    lock.word |= 1;
    errno = ENOTTY;
    moda_lock_release(&lock, MODA_LOCK_REGION);
    cr_assert_eq(errno, ENOTTY);
}

static void *take_once(void *at) {
    moda_lock_take(at, MODA_LOCK_REGION);
    moda_lock_release(at, MODA_LOCK_REGION);
    return NULL;
}

/* Whom the release woke was left before it took the lock. */
Test(base_lock, a_lost_wake_is_not_waited_for_for_ever, .timeout = 600) {
    pthread_t waiter;
    moda_lock_take(&lock, MODA_LOCK_REGION);
    const uint32_t held = __atomic_load_n(&lock.word, __ATOMIC_SEQ_CST);
    cr_assert_eq(pthread_create(&waiter, NULL, take_once, &lock), 0);
    while (__atomic_load_n(&lock.word, __ATOMIC_SEQ_CST) == held) {
        sched_yield(); /* until it says that it waits */
    }
    for (int i = 0; i < 1000; i++) {
        sched_yield();
    }
    __atomic_store_n(&lock.word, 0, __ATOMIC_SEQ_CST);
    pthread_join(waiter, NULL);
}

#if defined(__x86_64__)
/* The processor's own single steps: each is a signal, and the handler of the chosen one does not return. */
static volatile long steps, leave_at;
static sigjmp_buf outside;
static moda_lock inner;

static void at_each_step(int number) {
    (void)number;
    if (++steps == leave_at) {
        siglongjmp(outside, 1);
    }
}

static inline __attribute__((always_inline)) void set_steps(bool is_on) {
    __asm__ volatile("sub $128, %%rsp; pushfq; andq $~0x100, (%%rsp); orq %0, (%%rsp); popfq; add $128, %%rsp"
                     :
                     : "r"(is_on ? UINT64_C(0x100) : UINT64_C(0))
                     : "cc", "memory");
}

static void take_two(void) {
    moda_lock_take(&lock, MODA_LOCK_REGISTRY);
    moda_lock_take(&inner, MODA_LOCK_SITES);
    moda_lock_release(&inner, MODA_LOCK_SITES);
    moda_lock_release(&lock, MODA_LOCK_REGISTRY);
}

/* At instruction `at`, if there are so many. */
static bool leave(long at) {
    steps = 0;
    leave_at = at;
    if (sigsetjmp(outside, 1) != 0) {
        return true;
    }
    set_steps(true);
    take_two();
    set_steps(false);
    return false;
}

Test(base_lock, whatever_a_thread_held_where_it_was_left_is_abandoned) {
    long held = 0;
    signal(SIGTRAP, at_each_step);
    for (volatile long at = 1; leave(at); at++) {
        held += lock.word != 0 || inner.word != 0;
        moda_lock_abandon();
        cr_assert_eq(lock.word, 0, "left at instruction %ld", at);
        cr_assert_eq(inner.word, 0, "left at instruction %ld", at);
    }
    cr_assert_gt(held, 10);
}

static void *hold(void *unused) {
    moda_lock_take(&lock, MODA_LOCK_REGISTRY);
    return unused;
}

Test(base_lock, another_threads_lock_is_not_abandoned) {
    pthread_t holder;
    cr_assert_eq(pthread_create(&holder, NULL, hold, NULL), 0);
    pthread_join(holder, NULL);
    signal(SIGTRAP, at_each_step);
    for (volatile long at = 1; at < 300; at++) { /* while it spins */
        cr_assert(leave(at));
        moda_lock_abandon();
        cr_assert_neq(lock.word, 0, "left at instruction %ld", at);
    }
}
#endif

#if MODA_ASSERT_LEVEL >= 1
Test(base_lock, falling_order_is_caught, .signal = SIGABRT) {
    static moda_lock other;
    moda_lock_take(&lock, MODA_LOCK_REGION);
    moda_lock_take(&other, MODA_LOCK_REGISTRY);
}
#endif
