/* SPDX-License-Identifier: MIT
 *
 * lock.c - the waiting half of lock.h. errno is kept: these run inside malloc.
 */
#include "base/lock.h"

#include <errno.h>

MODA_TLS uint32_t moda_locks_held;
MODA_TLS moda_lock *moda_lock_innermost;

#define SPINS 100

void moda_lock_wait(moda_lock *lock) {
    for (int i = 0; i < SPINS; i++) {
        uint32_t open = 0;
        if (__atomic_compare_exchange_n(&lock->word, &open, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            return;
        }
        moda_pause();
    }
    const int saved_errno = errno;
    /* Whoever has waited takes it as 2, since others may wait too. */
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0) {
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
    }
    errno = saved_errno;
}

void moda_lock_wake(moda_lock *lock) {
    const int saved_errno = errno;
    syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved_errno;
}
