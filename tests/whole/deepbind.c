/* SPDX-License-Identifier: MIT
 *
 * deepbind.c - a plugin that is opened with RTLD_DEEPBIND, as PHP opens its extensions: it would find libc's malloc first.
 * Its blocks are ours all the same, and counted; each side frees the other's. It is found by its bare name in the program's
 * own search path: who is in front of dlopen must not stand between it and its caller.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "whole.h"

static void give_and_take(void *plugin) {
    char *(*get)(size_t) = (char *(*)(size_t))dlsym(plugin, "plugin_get");
    void (*put)(void *) = (void (*)(void *))dlsym(plugin, "plugin_put");
    NEED(get != NULL && put != NULL, "dlsym: %s", dlerror());
    for (size_t i = 1; i < 1000; i++) {
        mod_alloc_stats before, during, after;
        mod_alloc_snapshot(&before);
        char *theirs = get(i), *ours = malloc(i);
        mod_alloc_snapshot(&during);
        CHECK_EQ(during.alloc_count - before.alloc_count, 2, "allocations");
        theirs = realloc(theirs, i + 100);
        memset(theirs, 1, i + 100);
        memset(ours, 2, i);
        free(theirs);
        put(ours);
        mod_alloc_snapshot(&after);
        CHECK_EQ(after.live_count, before.live_count, "live blocks");
    }
}

int main(int count, char **argument) {
    NEED(count > 1, "deepbind PLUGIN [NAME]");
    static const int modes[] = {RTLD_NOW | RTLD_DEEPBIND, RTLD_LAZY | RTLD_GLOBAL | RTLD_DEEPBIND, RTLD_NOW};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        for (int k = 1; k < count; k++) {
            void *plugin = dlopen(argument[k], modes[i]);
            NEED(plugin != NULL, "dlopen: %s", dlerror());
            give_and_take(plugin);
            dlclose(plugin);
        }
    }
    CHECK(dlopen("no such object", RTLD_NOW | RTLD_DEEPBIND) == NULL && dlerror() != NULL,
          "an object that is not there");
    return whole_end();
}
