/* SPDX-License-Identifier: MIT
 *
 * live.c - the secret that headers of tracked blocks are checked with.
 */
#include "live/header.h"

uint64_t moda_live_secret;

void moda_live_initialize(uint64_t random) {
    moda_live_secret = random;
}
