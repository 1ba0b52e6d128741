/* SPDX-License-Identifier: MIT
 *
 * timeline.h - how the totals went over time: points in the region, evenly spaced, at most
 * MODA_TIMELINE_POINTS of them.
 *
 * hot/track.inc asks at each visit. When the record is full, every second point goes and the spacing doubles.
 */
#ifndef MODA_SAMPLE_TIMELINE_H
#define MODA_SAMPLE_TIMELINE_H

#include "base/compiler.h"

/* Ticks at which the next point is due; UINT64_MAX while there is no timeline. */
extern MODA_HIDDEN uint64_t moda_timeline_next;

/* Once, when the region is there. Without room it does nothing. */
void moda_timeline_create(uint64_t ticks_per_ms);

/* Adds a point. Another thread at it, or a signal handler within it: then none is added. */
MODA_COLD void moda_timeline_note(uint64_t now);

/* In a forked child: begins anew. */
void moda_timeline_fork_child(void);

#endif
