/* SPDX-License-Identifier: MIT
 *
 * deepbind_plugin.c - allocates and frees for deepbind.c.
 */
#include <stdlib.h>

char *plugin_get(size_t size);
void plugin_put(void *p);

char *plugin_get(size_t size) {
    return malloc(size);
}

void plugin_put(void *p) {
    free(p);
}
