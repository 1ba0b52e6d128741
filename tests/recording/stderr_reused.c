/* SPDX-License-Identifier: MIT
 *
 * stderr_reused.c - a program that has closed its standard error and opened a file of its own under that number finds none of
 * our words in it: neither of a child whose profile can't be written, nor of counters that can't be at the end.
 *
 * Runs itself, with both to be written into a folder that it renames.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "need.h"

static const char own[] = "the program's own";

static int inner(void) {
    need(close(2) == 0 && open("data", O_CREAT | O_TRUNC | O_RDWR, 0600) == 2, "data");
    need(rename("there", "gone") == 0, "rename");
    need(write(2, own, sizeof own) == (ssize_t)sizeof own, "write");
    free(malloc(1000));
    const pid_t child = fork();
    if (child == 0) {
        free(malloc(1000));
        exit(0);
    }
    int status = 0;
    need(waitpid(child, &status, 0) == child && status == 0, "the child");
    return 0;
}

int main(int argc, char **argv) {
    need(argc > 1 && (mkdir(argv[1], 0700) == 0 || access(argv[1], W_OK) == 0) && chdir(argv[1]) == 0,
         "a folder");
    if (argc > 2) {
        return inner();
    }
    need(mkdir("there", 0700) == 0, "there");
    const pid_t child = fork();
    if (child == 0) {
        setenv("MOD_ALLOC_PROFILE", "there/profile", 1);
        setenv("MOD_ALLOC_STATS", "there/counters", 1);
        execv("/proc/self/exe", (char *[]){argv[0], ".", "inner", NULL});
        _exit(1);
    }
    int status = 0;
    need(waitpid(child, &status, 0) == child, "waitpid");
    char text[4096];
    const int data = open("data", O_RDONLY);
    const ssize_t size = read(data, text, sizeof text);
    close(data);
    unlink("data");
    unlink("gone/profile");
    need(rmdir("gone") == 0, "the profile was not written where it was to be");
    need(status == 0, "inner");
    need(size == (ssize_t)sizeof own && memcmp(text, own, sizeof own) == 0,
         "there is more in the program's file");
    return 0;
}
