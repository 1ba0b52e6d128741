/* SPDX-License-Identifier: MIT
 *
 * three_blocks.c - for the scripts: a program with an output and a status of its own, and a handful of
 * allocations: three blocks of 1000, 2000 and 3000 bytes, of which two are freed; one large block at the peak.
 * The argument is how it ends: return (default), exit, _exit, quick_exit, fork, exec.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "whole.h"

static void *thread(void *argument) {
    free(malloc(10));
    return argument;
}

int main(int count, char **argument) {
    const char *way = count > 1 ? argument[1] : "return";
    void *a = malloc(1000), *b = malloc(2000), *c = malloc(3000), *d = malloc(1000000);
    memset(d, 1, 1000000);
    free(d);
    free(b);
    free(a);
    pthread_t one;
    pthread_create(&one, NULL, thread, c);
    pthread_join(one, NULL);
    const char text[] = "the program's own output\n";
    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0) {
        return 1;
    }
    if (strcmp(way, "exit") == 0) {
        exit(42);
    }
    if (strcmp(way, "_exit") == 0) {
        _exit(42);
    }
    if (strcmp(way, "quick_exit") == 0) {
        quick_exit(42);
    }
    if (strcmp(way, "exec") == 0) {
        execlp("true", "true", (char *)NULL);
    }
    if (strcmp(way, "fork") == 0) {
        const pid_t pid = fork();
        if (pid == 0) {
            free(malloc(5));
            exit(0);
        }
        int status = 1;
        waitpid(pid, &status, 0);
        return status == 0 ? 42 : 1;
    }
    return 42;
}
