/* SPDX-License-Identifier: MIT
 *
 * guard.h - how inside code sees itself and steps aside.
 *
 * A signal handler may allocate while its thread is in one of our slow paths; what we keep for the thread is
 * then in the middle of a change. The slow paths hold the guard; one that finds it held allocates and counts,
 * but takes no sample, no slot and no maintenance.
 */
#ifndef MODA_HOT_GUARD_H
#define MODA_HOT_GUARD_H

#include "base/compiler.h"

static MODA_TLS bool moda_guard_is_held;

MODA_INLINE bool moda_guard_enter(void) {
    if (moda_guard_is_held) {
        return false;
    }
    moda_guard_is_held = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return true;
}

MODA_INLINE void moda_guard_leave(void) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    moda_guard_is_held = false;
}

#endif
