/* SPDX-License-Identifier: MIT
 *
 * peak.h - the process's peak and the windows': what registry.c and window.c ask of peak.c.
 */
#ifndef MODA_SHARD_PEAK_H
#define MODA_SHARD_PEAK_H

#include "shard/shard.h"

#define MODA_NO_WINDOW UINT32_MAX

/* Sets the mark down to the balance; what it was is kept for the process's peak and the thread's windows. */
void moda_shard_lower_mark(moda_shard *shard);

/* The peak becomes the balance. `mine` is the caller's shard. Under the registry's lock. */
void moda_peak_reset(moda_shard *mine);

/* A window of the process; MODA_NO_WINDOW if all are in use. `totals` are those of its first moment. */
uint32_t moda_peak_window_open(moda_shard *mine, moda_totals *totals);
moda_peak_mark moda_peak_window_close(moda_shard *mine, uint32_t index, moda_totals *totals);

#endif
