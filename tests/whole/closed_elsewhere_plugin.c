/* SPDX-License-Identifier: MIT
 *
 * closed_elsewhere_plugin.c - built twice with frames of different size and all else alike, to be mapped at the same
 * address one after the other.
 */
#include <stdlib.h>

#ifndef PLUGIN_FRAME_BYTES
#error "PLUGIN_FRAME_BYTES says how big the frame is"
#endif

void *plugin_allocate(size_t size) {
    char local[PLUGIN_FRAME_BYTES];
    __asm__ volatile("" : : "r"(local) : "memory");
    void *p = malloc(size);
    __asm__ volatile("" : "+r"(p) : "r"(local) : "memory");
    return p;
}
