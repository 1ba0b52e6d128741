/* SPDX-License-Identifier: MIT
 *
 * closed_again.c - a plugin that has libmod_alloc.a in it is opened by dlopen and closed: on a thread that ends
 * afterwards, twice on the main thread, and in a process that exits afterwards. What it has registered for these ends
 * must still be there.
 */
#include <dlfcn.h>
#include <pthread.h>

#include "whole.h"

static void *open_and_close(void *path) {
    void *plugin = dlopen(path, RTLD_NOW);
    NEED(plugin != NULL, "dlopen: %s", dlerror());
    int (*allocates)(void) = (int (*)(void))dlsym(plugin, "plugin_allocates");
    NEED(allocates != NULL, "dlsym: %s", dlerror());
    CHECK(allocates(), "the plugin cannot allocate");
    CHECK(dlclose(plugin) == 0, "dlclose: %s", dlerror());
    free(malloc(1000));
    return NULL;
}

int main(int count, char **argument) {
    NEED(count == 2, "usage: closed_again PLUGIN");
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, open_and_close, argument[1]) == 0, "no thread");
    pthread_join(thread, NULL);
    open_and_close(argument[1]);
    open_and_close(argument[1]);
    return whole_end();
}
