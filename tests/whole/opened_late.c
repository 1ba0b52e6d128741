/* SPDX-License-Identifier: MIT
 *
 * opened_late.c - the library is opened by dlopen in a program that runs on another malloc. Either that fails
 * with a text that dlerror gives, or it says in one line that it is not active, all its figures are 0, and the
 * program's malloc stays what it was. The argument is the library; its stderr is looked at by the program
 * itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/wait.h>

#include "whole.h"

static int late(const char *library_name) {
    char *before = malloc(1000);
    void *library = dlopen(library_name, RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) {
        const char *text = dlerror();
        fprintf(stderr, "mod-alloc: %s\n", text != NULL ? text : "");
        return text != NULL ? 0 : 1;
    }
    int (*is_active)(void) = (int (*)(void))dlsym(library, "mod_alloc_is_active");
    void (*snapshot)(mod_alloc_stats *) = (void (*)(mod_alloc_stats *))dlsym(library, "mod_alloc_snapshot");
    NEED(is_active != NULL && snapshot != NULL, "dlsym: %s", dlerror());
    CHECK(is_active() == 0, "mod_alloc_is_active() is %d in a program whose malloc is another", is_active());
    char *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = malloc(i * 100);
        memset(p[i], 1, i * 100);
    }
    before = realloc(before, 100000);
    for (size_t i = 0; i < 200; i++) {
        free(p[i]);
    }
    free(before);
    mod_alloc_stats stats;
    memset(&stats, 0xFF, sizeof stats);
    snapshot(&stats);
    CHECK(stats.alloc_count == 0 && stats.current_bytes == 0 && stats.peak_bytes == 0
              && stats.free_count == 0,
          "figures of a malloc that is not used: %" PRIu64 " allocations, %" PRIu64 " bytes",
          stats.alloc_count, stats.current_bytes);
    char *copy = strdup("still works");
    CHECK(strcmp(copy, "still works") == 0, "strdup");
    free(copy);
    dlclose(library);
    free(malloc(100));
    return whole_end();
}

int main(int count, char **argument) {
    NEED(count > 1, "which library?");
    int ends[2];
    NEED(pipe(ends) == 0, "pipe");
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(late(argument[1]));
    }
    close(ends[1]);
    char text[4096];
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], text + used, sizeof text - 1 - used)) > 0) {
        used += (size_t)got;
    }
    text[used] = 0;
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK(status == 0, "the program: status %#x, stderr: %s", (unsigned)status, text);
    CHECK(strstr(text, "mod-alloc") != NULL || strstr(text, "mod_alloc") != NULL,
          "opened too late, it does not say so; stderr is '%s'", text);
    const char *newline = strchr(text, '\n');
    CHECK(newline != NULL && newline[1] == 0, "more or less than one line: '%s'", text);
    printf("%s", text);
    return whole_end();
}
