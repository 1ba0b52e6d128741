/* SPDX-License-Identifier: MIT
 *
 * plugin.c - built twice with frames of different size and all else alike, to be mapped at the same address one
 * after the other: what a walk remembers of the first must not be used on the second.
 */
#ifndef PLUGIN_FRAME_BYTES
#error "PLUGIN_FRAME_BYTES says how big the frame is"
#endif

void plugin_call(void (*callback)(void)) {
    char local[PLUGIN_FRAME_BYTES];
    __asm__ volatile("" : : "r"(local) : "memory");
    callback();
    __asm__ volatile("" : : "r"(local) : "memory");
}
