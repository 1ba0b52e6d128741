/* SPDX-License-Identifier: MIT
 *
 * api.h - how malloc tells that it is ours.
 */
#ifndef MODA_ENTRY_API_H
#define MODA_ENTRY_API_H

#include "base/compiler.h"

/* A size that any malloc can serve: one that is not ours may end the process where it can't. That nobody asks for it but the
 * probe need not be: only while that is under way it is refused. No smaller size is looked at. */
#define MODA_PROBE_SIZE ((size_t)0x1004D4F)

enum { MODA_PROBE_NONE, MODA_PROBE_UNDER_WAY, MODA_PROBE_ARRIVED };
extern MODA_HIDDEN int moda_probe;

#endif
