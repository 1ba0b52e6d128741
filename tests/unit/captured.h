/* SPDX-License-Identifier: MIT
 *
 * captured.h - runs a function in a child process and keeps what it wrote to stderr and how it ended.
 */
#ifndef MODA_TESTS_CAPTURED_H
#define MODA_TESTS_CAPTURED_H

#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct captured {
    char text[4096]; /* NUL-terminated; at most this much is kept */
    int status;      /* as waitpid tells it */
} captured;

static inline captured capture_stderr(void (*function)(void *), void *argument) {
    captured result = {.text = "", .status = -1};
    int ends[2];
    if (pipe(ends) != 0) {
        return result;
    }
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        function(argument);
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got; used < sizeof result.text - 1
                      && (got = read(ends[0], result.text + used, sizeof result.text - 1 - used)) > 0;) {
        used += (size_t)got;
    }
    close(ends[0]);
    result.text[used] = '\0';
    waitpid(child, &result.status, 0);
    char *const emulator = strstr(result.text, "qemu: uncaught target signal"); /* its own line, not ours */
    if (emulator != NULL) {
        *emulator = '\0';
    }
    return result;
}

#endif
