/* SPDX-License-Identifier: MIT
 *
 * other_malloc.c - a program with a malloc of its own, linked with libmod_alloc.so all the same: mod_alloc_is_active()
 * is 0, every other call does no harm and gives 0. Where MOD_ALLOC_STATS or MOD_ALLOC_PROFILE is set mod-alloc says in
 * one line on stderr that it is not active, else nothing; the file that they name is not touched. The test is in the
 * program itself: it starts itself with an argument and reads what that writes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "whole.h"

/* ---- the malloc: from front to back, nothing is given back ---- */

static _Alignas(16) char memory[64 << 20];
static size_t used;

void *malloc(size_t size) {
    const size_t rounded = ((size + 15) & ~(size_t)15) + 16;
    NEED(size <= sizeof memory, "malloc(%zu): this malloc ends the process there", size);
    if (used + rounded > sizeof memory) {
        errno = ENOMEM;
        return NULL;
    }
    const size_t at = __atomic_fetch_add(&used, rounded, __ATOMIC_RELAXED);
    *(size_t *)(void *)(memory + at) = size;
    return memory + at + 16;
}

void free(void *p) {
    if (p != NULL) {
        NEED((char *)p > memory && (char *)p < memory + sizeof memory, "free(%p): not from this malloc", p);
        memset(p, 0xDD, ((size_t *)p)[-2]);
    }
}

void *calloc(size_t count, size_t size) {
    void *p = count == 0 || size <= SIZE_MAX / count ? malloc(count * size) : NULL;
    return p != NULL ? memset(p, 0, count * size) : NULL;
}

void *realloc(void *p, size_t size) {
    void *block = malloc(size);
    if (p != NULL && block != NULL) {
        const size_t old = ((size_t *)p)[-2];
        memcpy(block, p, old < size ? old : size);
        free(p);
    }
    return block;
}

void *memalign(size_t alignment, size_t size) {
    char *block = malloc(size + 2 * alignment);
    if (block == NULL) {
        return NULL;
    }
    char *p = block + alignment - (uintptr_t)block % alignment;
    ((size_t *)(void *)p)[-2] = size;
    return p;
}

/* ---- the program ---- */

void cfree(void *p);

/* Members of the family that this malloc lacks: whoever has them must give and take its blocks. */
static void borrow(void) {
    for (size_t i = 1; i < 100; i++) {
        char *p = reallocarray(NULL, i, 10);
        NEED(p != NULL, "reallocarray(NULL, %zu, 10)", i);
        memset(p, 1, i * 10);
        p = reallocarray(p, i, 20);
        CHECK(p != NULL && p[i * 10 - 1] == 1, "reallocarray's block of %zu bytes", i * 20);
        free(p);
    }
    void *pages = pvalloc(1);
    NEED(pages != NULL, "pvalloc(1)");
    free(pages);
    cfree(malloc(10));
    void *volatile none = reallocarray(NULL, SIZE_MAX / 2, 3);
    CHECK(none == NULL && errno == ENOMEM, "reallocarray of too much: %p", none);
}

static void expect_nothing(const mod_alloc_stats *stats, const char *name) {
    static const mod_alloc_stats nothing;
    CHECK(memcmp(stats, &nothing, sizeof nothing) == 0, "%s: %" PRIu64 " allocations, %" PRIu64 " bytes",
          name, stats->alloc_count, stats->current_bytes);
}

static void *allocate(void *argument) {
    for (size_t i = 0; i < 1000; i++) {
        char *p = calloc(i, 10);
        p = realloc(p, i * 3 + 1);
        free(p);
    }
    free(strdup("text"));
    borrow();
    return argument;
}

static int visit(const mod_alloc_call_site *site, void *context) {
    (void)site;
    ++*(int *)context;
    return 0;
}

static int program(void) {
    CHECK_EQ(mod_alloc_is_active(), 0, "mod_alloc_is_active()");
    mod_alloc_set_sampling(1);
    mod_alloc_profiler process, thread;
    mod_alloc_profiler_start(&process);
    mod_alloc_thread_profiler_start(&thread);
    pthread_t other;
    NEED(pthread_create(&other, NULL, allocate, NULL) == 0, "pthread_create");
    allocate(NULL);
    pthread_join(other, NULL);
    mod_alloc_stats stats;
    mod_alloc_thread_profiler_stop(&thread, &stats);
    expect_nothing(&stats, "a thread window");
    mod_alloc_profiler_stop(&process, &stats);
    expect_nothing(&stats, "a window");
    CHECK(process.net_bytes == 0 && thread.net_bytes == 0, "windows' growth");
    mod_alloc_snapshot(&stats);
    expect_nothing(&stats, "mod_alloc_snapshot");
    mod_alloc_thread_snapshot(&stats);
    expect_nothing(&stats, "mod_alloc_thread_snapshot");
    mod_alloc_reset();
    int sites = 0;
    mod_alloc_call_sites(visit, &sites);
    size_t count = 0;
    mod_alloc_call_sites_free(mod_alloc_call_sites_get(&count));
    CHECK(sites <= 1 && count <= 1, "%d sites visited, %zu in the array", sites,
          count); /* the overflow site */
    CHECK_EQ(mod_alloc_sites_dropped(), 0, "mod_alloc_sites_dropped()");
    CHECK(strcmp(mod_alloc_version(), "") != 0 && strcmp(mod_alloc_mimalloc_version(), "") != 0, "versions");
    const pid_t pid = fork();
    if (pid == 0) {
        allocate(NULL);
        exit(mod_alloc_is_active() == 0 ? whole_end() : 1);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK_EQ(status, 0, "a forked child");
    return whole_end();
}

/* What the program writes on stderr with an environment of this one variable more. */
static void run_program(char *self, const char *name, const char *value, char *text, size_t size) {
    int ends[2];
    NEED(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        unsetenv("MOD_ALLOC_STATS");
        unsetenv("MOD_ALLOC_PROFILE");
        if (name != NULL) {
            setenv(name, value, 1);
        }
        execl("/proc/self/exe", self, "program", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    whole_read(ends[0], text, size);
    close(ends[0]);
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK(status == 0, "the program: status %#x, stderr: %s", (unsigned)status, text);
}

int main(int count, char **argument) {
    if (count > 1) {
        return program();
    }
    char text[4096], path[] = "/tmp/other_malloc.XXXXXX";
    run_program(argument[0], NULL, NULL, text, sizeof text);
    CHECK(strcmp(text, "") == 0, "nothing was asked for, and it says '%s'", text);
    const int file = mkstemp(path);
    NEED(file >= 0 && write(file, "mine", 4) == 4, "%s", path);
    static const char *const variables[] = {"MOD_ALLOC_STATS", "MOD_ALLOC_PROFILE"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        run_program(argument[0], variables[i], path, text, sizeof text);
        const char *newline = strchr(text, '\n');
        CHECK(strncmp(text, "mod-alloc: not active", 21) == 0 && newline != NULL && newline[1] == 0,
              "%s: not one line that says so: '%s'", variables[i], text);
        const int again = open(path, O_RDONLY | O_CLOEXEC);
        char kept[8] = "";
        CHECK(read(again, kept, sizeof kept - 1) == 4 && strcmp(kept, "mine") == 0,
              "%s: the file is written by one who is not malloc", variables[i]);
        close(again);
    }
    run_program(argument[0], "MOD_ALLOC_STATS", "stderr", text, sizeof text);
    CHECK(strncmp(text, "mod-alloc: not active", 21) == 0 && strstr(text, "allocated") == NULL,
          "a table of zeros: '%s'", text);
    close(file);
    unlink(path);
    return whole_end();
}
