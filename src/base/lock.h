/* SPDX-License-Identifier: MIT
 *
 * lock.h - the small lock, and the one enum of lock order.
 *
 * For rare paths only: no malloc, free or walk takes a lock on its way. Four bytes; zeroed memory is an open
 * lock; a short spin, then a futex. Not recursive. A signal handler must not wait for a lock that the
 * thread it interrupted may hold: it uses moda_lock_try. One that is left by longjmp would leave the lock held for ever:
 * whoever notices calls moda_lock_abandon. That the word says who holds it is for this: a note of what a thread has taken
 * would be wrong between the one and the other, whichever comes first.
 *
 * Laws
 *   1. a thread takes locks in rising order of moda_lock_order, so that no two can wait for each other
 *      (checked with MOD_ALLOC_ASSERTS=on);
 *   2. nothing that allocates from malloc, and no callback of the program, runs under a lock;
 *   3. before fork every lock is taken, in order; the parent releases them, the child resets them, since the
 *      word in the child is a copy and its waiters do not exist;
 *   4. an order has one lock, which is there as long as the process.
 */
#ifndef MODA_BASE_LOCK_H
#define MODA_BASE_LOCK_H

#include "base/check.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef enum moda_lock_order {
    MODA_LOCK_PROCESS,  /* entry: start, fork, exit, set_sampling */
    MODA_LOCK_REGISTRY, /* shard: slots, base counts */
    MODA_LOCK_WINDOWS,  /* shard: process windows */
    MODA_LOCK_PEAK,     /* shard: the process's peak */
    MODA_LOCK_SITES,    /* site: growing the table */
    MODA_LOCK_MODULES,  /* region: the list of modules */
    MODA_LOCK_TIMELINE, /* region: the timeline */
    MODA_LOCK_REGION,   /* region: growing */
    MODA_LOCK_UNWIND,   /* unwind: the row cache's memory */
    MODA_LOCK_COUNT
} moda_lock_order;

/* 0 open; else who holds it, as moda_lock_me() has it, and bit 0 if somebody waits. */
typedef struct moda_lock {
    uint32_t word;
} moda_lock;

#define MODA_LOCK_IS_WAITED_FOR 1u

/* The locks that this thread holds, a bit each; kept when asserts are on. */
extern MODA_TLS MODA_HIDDEN uint32_t moda_locks_held;

/* What this thread has ever begun to take, by its order. */
extern MODA_TLS MODA_HIDDEN moda_lock *moda_lock_taken[MODA_LOCK_COUNT];

/* This thread, by where its thread-local data lies: two threads' are never in one page. (4 TiB apart they would be the
 * same: then moda_lock_abandon may let go of the other's lock.) */
MODA_INLINE uint32_t moda_lock_me(void) {
    return (uint32_t)((uintptr_t)&moda_lock_taken / 4096 << 2) | 2;
}

/* Before it is taken. */
MODA_INLINE void moda_lock_note(moda_lock *lock, moda_lock_order order) {
    moda_lock_taken[order] = lock;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

MODA_INLINE void moda_lock_note_taken(moda_lock_order order) {
    if (MODA_ASSERT_LEVEL >= 1) {
        if (moda_unlikely((moda_locks_held >> order) != 0)) {
            moda_fatal_lock_order(order, moda_locks_held);
        }
        moda_locks_held |= 1u << order;
    }
}

MODA_INLINE void moda_lock_note_released(moda_lock_order order) {
    if (MODA_ASSERT_LEVEL >= 1) {
        moda_locks_held &= ~(1u << order);
    }
}

/* Waits until the lock is open, and takes it. In lock.c, as the rest. */
MODA_COLD MODA_HIDDEN void moda_lock_wait(moda_lock *lock);
MODA_COLD MODA_HIDDEN void moda_lock_wake(moda_lock *lock);

/* The thread has left, by longjmp out of a signal handler, what it was doing under locks: others get them. What they guard
 * is as it was left: of use, for each list is whole at each step, though a number may be given twice. */
MODA_COLD MODA_HIDDEN void moda_lock_abandon(void);

MODA_INLINE bool moda_lock_take_open(moda_lock *lock) {
    uint32_t open = 0;
    return __atomic_compare_exchange_n(&lock->word, &open, moda_lock_me(), false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

MODA_INLINE bool moda_lock_try(moda_lock *lock, moda_lock_order order) {
    moda_lock_note(lock, order);
    if (!moda_lock_take_open(lock)) {
        return false;
    }
    moda_lock_note_taken(order);
    return true;
}

MODA_INLINE void moda_lock_take(moda_lock *lock, moda_lock_order order) {
    moda_lock_note_taken(order);
    moda_lock_note(lock, order);
    if (!moda_lock_take_open(lock)) {
        moda_lock_wait(lock);
    }
}

MODA_INLINE void moda_lock_let_go(moda_lock *lock) {
    if (moda_unlikely((__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) & MODA_LOCK_IS_WAITED_FOR)
                      != 0)) {
        moda_lock_wake(lock);
    }
}

MODA_INLINE void moda_lock_release(moda_lock *lock, moda_lock_order order) {
    moda_lock_note_released(order);
    moda_lock_let_go(lock);
}

/* In a forked child, whose one thread was the one that took it before the fork. */
MODA_INLINE void moda_lock_reset(moda_lock *lock, moda_lock_order order) {
    moda_lock_note_released(order);
    __atomic_store_n(&lock->word, 0, __ATOMIC_RELEASE);
}

#endif
