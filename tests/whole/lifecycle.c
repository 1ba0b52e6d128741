/* SPDX-License-Identifier: MIT
 *
 * lifecycle.c - the ways in which a process begins another or ends: fork, exec, vfork, posix_spawn, system,
 * popen, daemon, exit, _exit, quick_exit, abort, a signal. Each ends as it would without mod-alloc, allocation
 * works on both sides, and counters go on.
 *
 * Run without arguments it is the test; with one it is the process that ends in the named way.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

#include "whole.h"

extern char **environ;
static char self[4096];

static void allocate_a_little(void) {
    void *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = malloc(i * 31);
        NEED(p[i] != NULL, "no block");
    }
    for (size_t i = 0; i < 200; i++) {
        free(p[i]);
    }
}

/* Frees two blocks, allocates one: exact in whatever process this runs. */
static void count_exactly(const char *where) {
    void *a = malloc(10), *b = malloc(20);
    const int64_t bytes = (int64_t)(malloc_usable_size(a) + malloc_usable_size(b));
    const mod_alloc_stats before = whole_now();
    free(a);
    free(b);
    void *c = malloc(100);
    const int64_t block = (int64_t)malloc_usable_size(c);
    CHECK_CHANGE(where, before, .alloc_count = 1, .free_count = 2, .total_bytes = block,
                 .current_bytes = block - bytes, .live_count = -1, .requested_bytes = 100);
    free(c);
}

static int status_of(pid_t pid) {
    int status = -1;
    NEED(waitpid(pid, &status, 0) == pid, "waitpid: errno %d", errno);
    return status;
}

static void at_exit_allocates(void) {
    allocate_a_little();
    const ssize_t n = write(STDOUT_FILENO, "at exit\n", 8);
    (void)n;
}

static void *sleeper(void *argument) {
    allocate_a_little();
    pause();
    return argument;
}

static void at_thread_end(void *unused) {
    (void)unused;
    for (int i = 0; i < 20; i++) {
        allocate_a_little();
    }
    const ssize_t n = write(STDOUT_FILENO, "at thread's end\n", 16);
    (void)n;
}

/* What this program does when it is started with an argument. */
static int end_like(const char *way) {
    whole_begin();
    void *kept = malloc(1000);
    allocate_a_little();
    pthread_t thread;
    pthread_create(&thread, NULL, sleeper, NULL);
    if (strcmp(way, "return") == 0) {
        atexit(at_exit_allocates);
        return 11;
    }
    if (strcmp(way, "exit") == 0) {
        atexit(at_exit_allocates);
        exit(12);
    }
    if (strcmp(way, "_exit") == 0) {
        atexit(at_exit_allocates);
        _exit(13);
    }
    if (strcmp(way, "quick_exit") == 0) {
        atexit(at_exit_allocates);
        at_quick_exit(allocate_a_little);
        quick_exit(14);
    }
    if (strcmp(way, "abort") == 0) {
        abort();
    }
    if (strcmp(way, "kill") == 0) {
        kill(getpid(), SIGKILL);
    }
    if (strcmp(way, "pthread_exit") == 0) { /* main ends, the other thread goes on until it is killed */
        atexit(at_exit_allocates);
        alarm(1);
        pthread_exit(NULL);
    }
    if (strcmp(way, "pthread_exit of all") == 0) { /* main is the last one, and exits */
        pthread_key_t key;
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        NEED(pthread_key_create(&key, at_thread_end) == 0 && pthread_setspecific(key, &key) == 0, "a key");
        atexit(at_exit_allocates);
        pthread_exit(NULL);
    }
    if (strcmp(way, "thread exit") == 0) {
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        exit(16);
    }
    free(kept);
    return 99;
}

static int run_self(const char *way, char *output, size_t size) {
    int ends[2];
    NEED(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    const pid_t pid = fork();
    NEED(pid >= 0, "fork");
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl(self, self, way, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while (used + 1 < size && (got = read(ends[0], output + used, size - used - 1)) > 0) {
        used += (size_t)got;
    }
    output[used] = 0;
    close(ends[0]);
    return status_of(pid);
}

static void the_ways_to_end(void) {
    static const struct {
        const char *way;
        bool signalled;
        int value;
        const char *output;
    } ways[] = {
        {"return", false, 11, "at exit\n"},
        {"exit", false, 12, "at exit\n"},
        {"_exit", false, 13, ""},
        {"quick_exit", false, 14, ""},
        {"abort", true, SIGABRT, ""},
        {"kill", true, SIGKILL, ""},
        {"pthread_exit", true, SIGALRM, ""},
        {"thread exit", false, 16, ""},
        {"pthread_exit of all", false, 0, "at thread's end\nat exit\n"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        char output[256];
        const int status = run_self(ways[i].way, output, sizeof output);
        const bool signalled = WIFSIGNALED(status);
        const int value = signalled ? WTERMSIG(status) : WEXITSTATUS(status);
        CHECK(signalled == ways[i].signalled && value == ways[i].value,
              "a process that ends by %s: %s %d, expected %s %d", ways[i].way,
              signalled ? "signal" : "status", value, ways[i].signalled ? "signal" : "status", ways[i].value);
        CHECK(strcmp(output, ways[i].output) == 0, "a process that ends by %s writes '%s', expected '%s'",
              ways[i].way, output, ways[i].output);
    }
}

static void a_vfork_child_that_ends(void) {
    const mod_alloc_stats before = whole_now();
    for (int i = 0; i < 50; i++) {
        const pid_t pid = vfork();
        if (pid == 0) {
            _exit(5);
        }
        const int status = status_of(pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5, "vfork, _exit(5): status %#x", (unsigned)status);
    }
    CHECK_CHANGE("vfork", before, .alloc_count = 0);
    count_exactly("after vfork");
}

static void a_vfork_child_that_execs(void) {
    const pid_t pid = vfork();
    if (pid == 0) {
        execl(self, self, "exit", (char *)NULL);
        _exit(127);
    }
    const int status = status_of(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 12, "vfork, exec: status %#x", (unsigned)status);
    count_exactly("after vfork and exec");
}

static void spawned(void) {
    for (int i = 0; i < 10; i++) {
        char *const arguments[] = {self, (char *)"_exit", NULL};
        pid_t pid = 0;
        const int error = posix_spawn(&pid, self, NULL, NULL, arguments, environ);
        NEED(error == 0, "posix_spawn gives %d", error);
        const int status = status_of(pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 13, "posix_spawn: status %#x", (unsigned)status);
    }
    count_exactly("after posix_spawn");
}

static void through_a_shell(void) {
    char command[4200];
    snprintf(command, sizeof command, "'%s' exit > /dev/null", self);
    int status = system(command);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 12, "system: status %#x", (unsigned)status);
    snprintf(command, sizeof command, "'%s' exit", self);
    FILE *stream = popen(command, "r");
    NEED(stream != NULL, "popen");
    char line[100] = "";
    CHECK(fgets(line, sizeof line, stream) != NULL && strcmp(line, "at exit\n") == 0, "popen reads '%s'",
          line);
    status = pclose(stream);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 12, "pclose: status %#x", (unsigned)status);
    count_exactly("after system and popen");
}

/* fork, and in the child fork again: each has counters of its own. */
static void a_row_of_forks(int depth) {
    void *mine = malloc(5000);
    const pid_t pid = fork();
    NEED(pid >= 0, "fork");
    if (pid == 0) {
        count_exactly("in a forked child");
        free(mine);
        allocate_a_little();
        if (depth > 0) {
            a_row_of_forks(depth - 1);
        }
        exit(whole_end());
    }
    count_exactly("in the parent, while the child runs");
    const int status = status_of(pid);
    CHECK(status == 0, "forked child at depth %d: status %#x", depth, (unsigned)status);
    free(mine);
}

static void failed_exec_goes_on(void) {
    const mod_alloc_stats before = whole_now();
    CHECK(execl("/nonexistent/program", "program", (char *)NULL) == -1, "exec");
    CHECK_CHANGE("an exec that fails", before, .alloc_count = 0);
    count_exactly("after an exec that failed");
}

static void a_daemon(void) {
    int ends[2];
    NEED(pipe(ends) == 0, "pipe");
    const pid_t pid = fork();
    NEED(pid >= 0, "fork");
    if (pid == 0) {
        if (daemon(1, 1) != 0) {
            _exit(1);
        }
        count_exactly("in a daemon");
        allocate_a_little();
        const char result = whole_failures == 0 ? 'y' : 'n';
        const ssize_t n = write(ends[1], &result, 1);
        exit(n == 1 ? 0 : 1);
    }
    close(ends[1]);
    char result = '?';
    const ssize_t got = read(ends[0], &result, 1);
    CHECK(got == 1 && result == 'y', "the daemon says '%c'", result);
    close(ends[0]);
    CHECK(status_of(pid) == 0, "the daemon's parent");
}

int main(int count, char **argument) {
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    NEED(length > 0, "/proc/self/exe");
    if (count > 1) {
        return end_like(argument[1]);
    }
    whole_begin();
    allocate_a_little();
    the_ways_to_end();
    a_vfork_child_that_ends();
    a_vfork_child_that_execs();
    spawned();
    through_a_shell();
    a_row_of_forks(4);
    failed_exec_goes_on();
    a_daemon();
    return whole_end();
}
