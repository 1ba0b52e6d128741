/* SPDX-License-Identifier: MIT
 *
 * lock.c - the waiting half of lock.h. errno is kept: these run inside malloc.
 */
#include "base/lock.h"

#include <errno.h>
#include <time.h>

MODA_TLS uint32_t moda_locks_held;
MODA_TLS moda_lock *moda_lock_taken[MODA_LOCK_COUNT];

#define SPINS 100

/* A thread that was woken may leave by longjmp before it takes the lock: then nobody else is woken for it. */
static const struct timespec sleep_at_most = {.tv_nsec = 100 * 1000 * 1000};

/* Whoever has waited takes it as waited for, since others may wait, too. */
static bool take_waited_for(moda_lock *lock) {
    uint32_t open = 0;
    return __atomic_compare_exchange_n(&lock->word, &open, moda_lock_me() | MODA_LOCK_IS_WAITED_FOR, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void moda_lock_wait(moda_lock *lock) {
    for (int i = 0; i < SPINS; i++) {
        if (moda_load_relaxed(&lock->word) == 0 && moda_lock_take_open(lock)) {
            return;
        }
        moda_pause();
    }
    const int saved_errno = errno;
    while (!take_waited_for(lock)) {
        uint32_t held = moda_load_relaxed(&lock->word);
        const uint32_t waited_for = held | MODA_LOCK_IS_WAITED_FOR;
        if (held != 0
            && (held == waited_for
                || __atomic_compare_exchange_n(&lock->word, &held, waited_for, false, __ATOMIC_RELAXED,
                                               __ATOMIC_RELAXED))) {
            syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, waited_for, &sleep_at_most, NULL, 0);
        }
    }
    errno = saved_errno;
}

void moda_lock_wake(moda_lock *lock) {
    const int saved_errno = errno;
    syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved_errno;
}

void moda_lock_abandon(void) {
    for (int order = 0; order < MODA_LOCK_COUNT; order++) {
        moda_lock *lock = moda_lock_taken[order];
        if (lock != NULL && (moda_load_relaxed(&lock->word) & ~MODA_LOCK_IS_WAITED_FOR) == moda_lock_me()) {
            moda_lock_let_go(lock);
        }
    }
    if (MODA_ASSERT_LEVEL >= 1) {
        moda_locks_held = 0;
    }
}
