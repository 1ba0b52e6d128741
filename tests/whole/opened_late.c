/* SPDX-License-Identifier: MIT
 *
 * opened_late.c - the library, or a plugin that is linked with it, is opened by dlopen in a program that runs on another
 * malloc: in each mode dlopen fails with a text that names the library and says that it cannot be, nothing is
 * written, and the program goes on as before. Blocks and C++ objects that were made before end well after: a malloc
 * that came late would be asked to free what is not its own. In a program that runs on mod-alloc already
 * (argument "preloaded"), dlopen gives the library that is there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/wait.h>

#include "whole.h"

static const struct {
    const char *name;
    int flags;
} modes[] = {
    {"RTLD_LAZY", RTLD_LAZY},
    {"RTLD_NOW", RTLD_NOW},
    {"RTLD_LAZY | RTLD_GLOBAL", RTLD_LAZY | RTLD_GLOBAL},
    {"RTLD_NOW | RTLD_GLOBAL", RTLD_NOW | RTLD_GLOBAL},
    {"RTLD_NOW | RTLD_DEEPBIND", RTLD_NOW | RTLD_DEEPBIND},
    {"RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND", RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND},
};

static void allocate_a_little(void) {
    char *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = malloc(i * 100);
        memset(p[i], 1, i * 100);
    }
    for (size_t i = 0; i < 200; i++) {
        p[i] = realloc(p[i], 5000);
        free(p[i]);
    }
    char *copy = strdup("still works");
    CHECK(strcmp(copy, "still works") == 0, "strdup");
    free(copy);
}

static void is_refused(const char *file, const char *mode, int flags) {
    void *library = dlopen(file, flags);
    const char *text = dlerror();
    CHECK(library == NULL, "dlopen(%s, %s) opens it", file, mode);
    CHECK(text != NULL && strstr(text, "libmod_alloc.so") != NULL && strstr(text, "dlopen") != NULL,
          "dlopen(%s, %s): '%s'", file, mode, text != NULL ? text : "");
    if (library != NULL) {
        dlclose(library);
    }
    allocate_a_little();
}

static int late(char **argument) {
    const char *library = argument[1], *plugin = argument[2], *linked_plugin = argument[3];
    void *cxx = dlopen(plugin, RTLD_LAZY);
    NEED(cxx != NULL, "dlopen: %s", dlerror());
    void *(*get)(size_t) = (void *(*)(size_t))dlsym(cxx, "plugin_new");
    void (*put)(void *) = (void (*)(void *))dlsym(cxx, "plugin_delete");
    NEED(get != NULL && put != NULL, "dlsym: %s", dlerror());
    void *object = get(1000);
    char *block = malloc(1000);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        is_refused(library, modes[i].name, modes[i].flags);
        is_refused(linked_plugin, modes[i].name, modes[i].flags);
    }
    CHECK(dlsym(RTLD_DEFAULT, "mod_alloc_is_active") == NULL, "something of it is left");
    put(object); /* the first call: found only now */
    free(realloc(block, 100000));
    return whole_end();
}

static int preloaded(const char *library_name) {
    whole_begin();
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        void *library = dlopen(library_name, modes[i].flags);
        NEED(library != NULL, "dlopen: %s", dlerror());
        int (*is_active)(void) = (int (*)(void))dlsym(library, "mod_alloc_is_active");
        void (*snapshot)(mod_alloc_stats *) =
            (void (*)(mod_alloc_stats *))dlsym(library, "mod_alloc_snapshot");
        NEED(is_active != NULL && snapshot != NULL, "dlsym: %s", dlerror());
        CHECK(is_active() == 1, "opened again with %s it gives %d", modes[i].name, is_active());
        mod_alloc_stats before, after;
        snapshot(&before);
        free(malloc(100));
        snapshot(&after);
        CHECK_EQ(after.alloc_count - before.alloc_count, 1, modes[i].name);
        dlclose(library);
        allocate_a_little();
    }
    return whole_end();
}

int main(int count, char **argument) {
    NEED(count > 3, "LIBRARY PLUGIN LINKED_PLUGIN");
    if (count > 4) {
        return preloaded(argument[1]);
    }
    int ends[2];
    NEED(pipe(ends) == 0, "pipe");
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(late(argument));
    }
    close(ends[1]);
    char text[4096];
    const size_t used = whole_read(ends[0], text, sizeof text);
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK(status == 0, "the program: status %#x", (unsigned)status);
    CHECK(used == 0, "its stderr: %s", text);
    return whole_end();
}
