/* SPDX-License-Identifier: MIT
 *
 * api.h - how malloc tells that it is ours.
 */
#ifndef MODA_ENTRY_API_H
#define MODA_ENTRY_API_H

#include "base/compiler.h"

/* A size that no malloc can serve and no program asks for. */
#define MODA_PROBE_SIZE (SIZE_MAX - 0x4D4F4441)

extern MODA_HIDDEN bool moda_probe_arrived;

#endif
