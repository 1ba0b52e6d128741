/* SPDX-License-Identifier: MIT
 *
 * cxx_late.c - a C program that opens a C++ object, as python3 does: the C++ library comes with it, in nobody's scope
 * but that object's. There, too, operator new runs the new-handler and throws std::bad_alloc where there is no memory,
 * nothrow forms give NULL, and what dlerror says of the program's own failures is the program's.
 *
 * cxx_late PLUGIN
 */
#include <dlfcn.h>

#include "whole.h"

int main(int count, char **argument) {
    whole_begin();
    NEED(count == 2, "usage: cxx_late PLUGIN");
    CHECK(dlsym(RTLD_DEFAULT, "__cxa_begin_catch") == NULL, "a C++ library is there from the start");
    dlerror();
    void *plugin = dlopen(argument[1], RTLD_NOW | RTLD_LOCAL);
    NEED(plugin != NULL, "%s", dlerror());
    int (*plugin_try)(void);
    *(void **)(void *)&plugin_try = dlsym(plugin, "plugin_try");
    NEED(plugin_try != NULL, "%s", dlerror());
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(plugin_try(), 0, "what went wrong in the plugin");
        CHECK(dlerror() == NULL, "dlerror tells of what was not the program's");
    }
    CHECK(dlclose(plugin) == 0, "dlclose");
    return whole_end();
}
