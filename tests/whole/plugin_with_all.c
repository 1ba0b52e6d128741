/* SPDX-License-Identifier: MIT
 *
 * plugin_with_all.c - a plugin that has libmod_alloc.a in it.
 */
#include <stdlib.h>

int plugin_allocates(void);

int plugin_allocates(void) {
    void *p = malloc(100);
    free(p);
    return p != NULL;
}
