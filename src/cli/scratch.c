/* SPDX-License-Identifier: MIT
 *
 * scratch.c - a private directory that the program's processes leave their profiles in.
 *
 * /dev/shm first: a profile is a shared mapping that is written all the time, and there the system never
 * writes it to a disk.
 *
 * The directory is locked (flock) as long as its mod-alloc lives: one that is not was left behind by a mod-alloc
 * that was killed, and the next one takes it away.
 */
#include "cli/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { COPY_BLOCK = 65536, STALE_S = 60 };

static const char prefix[] = "mod-alloc.";

static void sweep(const char *place);

bool moda_cli_scratch_make(moda_cli_scratch *scratch, moda_error *error) {
    const char *const places[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (places[i] == NULL || places[i][0] != '/') {
            continue;
        }
        sweep(places[i]);
        const int length = snprintf(scratch->path, sizeof scratch->path, "%s/%sXXXXXX", places[i], prefix);
        if (length < (int)sizeof scratch->path && mkdtemp(scratch->path) != NULL) {
            scratch->lock = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (scratch->lock >= 0) {
                flock(scratch->lock, LOCK_EX | LOCK_NB);
            }
            return true;
        }
    }
    scratch->path[0] = '\0';
    return moda_error_set(error, "no directory for the profile can be made in /dev/shm, TMPDIR or /tmp: %s",
                          strerror(errno));
}

static int by_name(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

char **moda_cli_scratch_list(const moda_cli_scratch *scratch, const char *part, size_t *count) {
    char **names = NULL;
    *count = 0;
    DIR *const directory = opendir(scratch->path);
    if (directory == NULL) {
        return NULL;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0
            || strstr(entry->d_name, part) == NULL) {
            continue;
        }
        char **const grown = realloc(names, (*count + 1) * sizeof *names);
        char *const name = strdup(entry->d_name);
        if (grown == NULL || name == NULL) {
            free(name);
            names = grown != NULL ? grown : names;
            break;
        }
        names = grown;
        names[(*count)++] = name;
    }
    closedir(directory);
    if (*count > 1) {
        qsort(names, *count, sizeof *names, by_name);
    }
    return names;
}

static void remove_directory(const moda_cli_scratch *scratch) {
    size_t count;
    char **const names = moda_cli_scratch_list(scratch, "", &count);
    const int directory = open(scratch->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    for (size_t i = 0; i < count; i++) {
        unlinkat(directory, names[i], 0);
        free(names[i]);
    }
    free(names);
    close(directory);
    rmdir(scratch->path);
}

void moda_cli_scratch_remove(moda_cli_scratch *scratch) {
    if (scratch->path[0] == '\0') {
        return;
    }
    remove_directory(scratch);
    scratch->path[0] = '\0';
    if (scratch->lock >= 0) {
        close(scratch->lock);
    }
}

/* Ours, locked by nobody, and not made just now (its maker may not have come to lock it). */
static bool is_stale(int directory) {
    struct stat status;
    return fstat(directory, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid()
           && status.st_mtime + STALE_S < time(NULL) && flock(directory, LOCK_EX | LOCK_NB) == 0;
}

static void sweep(const char *place) {
    moda_cli_scratch around = {.path = ""};
    size_t count;
    snprintf(around.path, sizeof around.path, "%s", place);
    char **const names = moda_cli_scratch_list(&around, "", &count);
    for (size_t i = 0; i < count; i++) {
        moda_cli_scratch old = {.path = ""};
        const int length = snprintf(old.path, sizeof old.path, "%s/%s", place, names[i]);
        if (strncmp(names[i], prefix, sizeof prefix - 1) == 0 && length < (int)sizeof old.path) {
            const int directory = open(old.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (directory >= 0 && is_stale(directory)) {
                remove_directory(&old);
            }
            if (directory >= 0) {
                close(directory);
            }
        }
        free(names[i]);
    }
    free(names);
}

static bool is_zero(const char *bytes, size_t length) {
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static bool write_all(int fd, const char *bytes, size_t length, off_t at) {
    while (length > 0) {
        const ssize_t n = pwrite(fd, bytes, length, at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        bytes += n;
        length -= (size_t)n;
        at += n;
    }
    return true;
}

static bool copy(int from, int to) {
    char block[COPY_BLOCK];
    off_t at = 0;
    for (ssize_t n; (n = pread(from, block, sizeof block, at)) != 0; at += n) {
        if (n < 0 || (!is_zero(block, (size_t)n) && !write_all(to, block, (size_t)n, at))) {
            return false;
        }
    }
    return ftruncate(to, at) == 0;
}

bool moda_cli_copy_file(const char *from, const char *to, moda_error *error) {
    char temporary[PATH_MAX + 32];
    snprintf(temporary, sizeof temporary, "%.*s.%ld.tmp", PATH_MAX, to, (long)getpid());
    const int source = open(from, O_RDONLY | O_CLOEXEC);
    const int target = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool is_done = source >= 0 && target >= 0 && copy(source, target);
    int number = errno;
    if (source >= 0) {
        close(source);
    }
    if (target >= 0 && close(target) != 0 && is_done) {
        is_done = false;
        number = errno;
    }
    if (is_done && rename(temporary, to) != 0) {
        is_done = false;
        number = errno;
    }
    if (!is_done) {
        if (target >= 0) {
            unlink(temporary);
        }
        return moda_error_set(error, "%s: cannot be written: %s", to, strerror(number));
    }
    return true;
}
