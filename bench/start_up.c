/* SPDX-License-Identifier: MIT
 *
 * start_up.c RUNS PROGRAM [ARG...] - starts PROGRAM that often, one after the other, and ends as they do: what
 * it costs a program to begin and end on one malloc or another. Itself it should run on the system's.
 *
 * START_UP_PRELOAD, if set, becomes the program's LD_PRELOAD.
 */
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"

int main(int argc, char **argv) {
    const char *preload = getenv("START_UP_PRELOAD");
    if (argc < 3 || (preload && setenv("LD_PRELOAD", preload, 1) != 0)) {
        return 2;
    }
    for (size_t left = loop_argument(argc, argv, 1, 1); left > 0; left--) {
        pid_t pid;
        int status;
        if (posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ) != 0 || waitpid(pid, &status, 0) != pid
            || status != 0) {
            return 1;
        }
    }
    return 0;
}
