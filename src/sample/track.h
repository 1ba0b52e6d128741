/* SPDX-License-Identifier: MIT
 *
 * track.h - sampling as the process switches it: what entry/ asks of hot/track.inc.
 */
#ifndef MODA_SAMPLE_TRACK_H
#define MODA_SAMPLE_TRACK_H

#include "base/compiler.h"

/* Once, before the first sample. */
void moda_track_initialize(uint64_t sample_bytes, uint64_t seed);

/* Our constructor runs: all of libc is there. */
void moda_track_program_begins(void);

/* Around fork: locks of sites, modules and walker; the region's image. */
void moda_track_before_fork(void);
void moda_track_after_fork(void);
void moda_track_fork_child(void);

#endif
