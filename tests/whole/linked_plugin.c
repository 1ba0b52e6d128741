/* SPDX-License-Identifier: MIT
 *
 * linked_plugin.c - a plugin that is linked with libmod_alloc.so: it can be opened only where that is loaded
 * already.
 */
#include "mod_alloc.h"

int plugin_is_active(void);

int plugin_is_active(void) {
    return mod_alloc_is_active();
}
