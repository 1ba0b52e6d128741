/* SPDX-License-Identifier: MIT
 *
 * victim.c - a command for `mod-alloc compare` whose every figure is known.
 *
 *   victim allocate N SIZE   N blocks of SIZE bytes, one after the other freed; the last one is kept
 *   victim say TEXT          prints TEXT
 *   victim fail STATUS       ends with it, after a line on standard error
 *   victim die               kills itself with SIGABRT
 *   victim sometimes FILE    fails each fourth time it is run (FILE holds the number of runs)
 *   victim moody FILE        prints something else each fourth time it is run
 *   victim alone DIRECTORY   fails if another one of it is running
 *   victim unlike            prints its process id: never the same twice
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int allocate(unsigned long count, unsigned long size) {
    static void *volatile kept;
    for (unsigned long i = 0; i < count; i++) {
        free(kept);
        kept = malloc(size);
    }
    return kept ? 0 : 1;
}

/* The how manieth run this is, by the length of a file. */
static long count_run(const char *path) {
    FILE *file = fopen(path, "a+");
    if (!file) {
        exit(2);
    }
    fputc('.', file);
    const long runs = ftell(file);
    fclose(file);
    return runs;
}

static int be_alone(const char *directory) {
    if (mkdir(directory, 0700) != 0) {
        return 1;
    }
    usleep(5000);
    return rmdir(directory);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    const char *first = argc > 2 ? argv[2] : "";
    if (strcmp(what, "allocate") == 0 && argc == 4) {
        return allocate(strtoul(first, NULL, 10), strtoul(argv[3], NULL, 10));
    }
    if (strcmp(what, "say") == 0) {
        return puts(first) < 0;
    }
    if (strcmp(what, "fail") == 0) {
        fprintf(stderr, "one line\nvictim says no\n");
        return (int)strtol(first, NULL, 10);
    }
    if (strcmp(what, "die") == 0) {
        abort();
    }
    if (strcmp(what, "sometimes") == 0) {
        return count_run(first) % 4 == 3;
    }
    if (strcmp(what, "moody") == 0) {
        return puts(count_run(first) % 4 == 3 ? "no" : "yes") < 0;
    }
    if (strcmp(what, "alone") == 0) {
        return be_alone(first);
    }
    if (strcmp(what, "unlike") == 0) {
        return printf("%d\n", (int)getpid()) < 0;
    }
    return 2;
}
