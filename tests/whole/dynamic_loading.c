/* SPDX-License-Identifier: MIT
 *
 * dynamic_loading.c - libraries come and go while the program allocates: what they allocate counts, blocks
 * outlive the library that allocated them, nothing is left. The argument is the library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>

#include "whole.h"

static const char *plugin;

static void open_work_close(void) {
    void *library = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    NEED(library != NULL, "dlopen: %s", dlerror());
    int (*work)(int) = (int (*)(int))dlsym(library, "plugin_work");
    void *(*get)(size_t) = (void *(*)(size_t))dlsym(library, "plugin_block");
    void (*put)(void *) = (void (*)(void *))dlsym(library, "plugin_free");
    NEED(work != NULL && get != NULL && put != NULL, "dlsym: %s", dlerror());
    CHECK_EQ(work(50), 151, "plugin_work");
    const mod_alloc_stats before = whole_now();
    void *theirs = get(2222);
    const int64_t block = (int64_t)malloc_usable_size(theirs);
    CHECK_CHANGE("a block of the library", before, .alloc_count = 1, .total_bytes = block,
                 .current_bytes = block, .live_count = 1, .requested_bytes = 2222);
    void *ours = malloc(333);
    put(ours);
    memset(theirs, 7, 2222);
    CHECK(dlclose(library) == 0, "dlclose: %s", dlerror());
    CHECK(((unsigned char *)theirs)[2221] == 7, "a block outlives its library");
    free(theirs);
}

static void *in_a_thread(void *argument) {
    for (int i = 0; i < 10; i++) {
        open_work_close();
    }
    return argument;
}

int main(int count, char **argument) {
    whole_begin();
    NEED(count > 1, "which library?");
    plugin = argument[1];
    open_work_close();
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, in_a_thread, NULL);
        pthread_join(thread, NULL);
    }
    const mod_alloc_stats before = whole_now();
    for (int i = 0; i < 100; i++) {
        open_work_close();
    }
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, in_a_thread, NULL);
        pthread_join(thread, NULL);
    }
    const mod_alloc_stats after = whole_now();
    /* The dynamic linker may keep a table or two that it will use again. */
    CHECK(after.live_count - before.live_count <= 20, "after 150 loads %" PRIu64 " blocks more are live",
          after.live_count - before.live_count);
    return whole_end();
}
