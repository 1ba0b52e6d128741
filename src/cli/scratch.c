/* SPDX-License-Identifier: MIT
 *
 * scratch.c - a private directory that the program's processes leave their profiles in.
 *
 * /dev/shm first: a profile is a shared mapping that is written all the time, and there the system never
 * writes it to a disk. But in a container it often has 64 MiB, which one large profile or 500 small ones fill: first
 * where there is room for a few large ones or some thousand small ones, else anywhere.
 *
 * The directory is locked (flock) as long as its mod-alloc lives: one that is not was left behind by a mod-alloc
 * that was killed. A later one takes it away, but not while a process still records into it, and where the profile
 * was to be kept, not before a day has passed: it may be all that is left. Such a directory has a link, `output`, to
 * the file that it was meant for.
 */
#include "cli/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define ROOM ((uint64_t)512 << 20)

enum { COPY_BLOCK = 65536, STALE_S = 60, STALE_OUTPUT_S = 24 * 60 * 60 };

static const char prefix[] = "mod-alloc.", prefix_kept[] = "mod-alloc-kept.", output_link[] = "output";

static void sweep(const char *place);

static bool has_room(const char *place) {
    struct statvfs system;
    return statvfs(place, &system) == 0 && (uint64_t)system.f_bavail * system.f_frsize >= ROOM;
}

static bool make_in(moda_cli_scratch *scratch, const char *place) {
    const int length = snprintf(scratch->path, sizeof scratch->path, "%s/%sXXXXXX", place, prefix);
    if (length >= (int)sizeof scratch->path || mkdtemp(scratch->path) == NULL) {
        return false;
    }
    scratch->lock = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (scratch->lock >= 0) {
        flock(scratch->lock, LOCK_EX | LOCK_NB);
    }
    return true;
}

bool moda_cli_scratch_make(moda_cli_scratch *scratch, moda_error *error) {
    const char *const places[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    const size_t count = sizeof places / sizeof *places;
    for (size_t i = 0; i < 2 * count; i++) {
        const char *const place = places[i % count];
        if (place == NULL || place[0] != '/') {
            continue;
        }
        if (i < count) {
            sweep(place);
        }
        if ((i >= count || has_room(place)) && make_in(scratch, place)) {
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

void moda_cli_scratch_is_for(const moda_cli_scratch *scratch, const char *output) {
    char link[PATH_MAX + sizeof output_link], here[PATH_MAX], target[2 * PATH_MAX] = "";
    if (output[0] != '/' && getcwd(here, sizeof here) != NULL) {
        snprintf(target, sizeof target, "%s/", here);
    }
    strncat(target, output, sizeof target - strlen(target) - 1);
    snprintf(link, sizeof link, "%s/%s", scratch->path, output_link);
    if (symlink(target, link) != 0) {
        return; /* it is then kept for a minute */
    }
}

void moda_cli_scratch_keep(moda_cli_scratch *scratch) {
    char kept[PATH_MAX];
    const char *const name = strrchr(scratch->path, '/') + 1;
    const int length = snprintf(kept, sizeof kept, "%.*s%s%s", (int)(name - scratch->path), scratch->path,
                                prefix_kept, name + sizeof prefix - 1);
    if (length < (int)sizeof kept && rename(scratch->path, kept) == 0) {
        strcpy(scratch->path, kept);
    }
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

/* Does a process have files of this directory mapped? One that does not let us see that is believed to, if a profile
 * has its number. */
static bool maps_from(int directory, const char *name, const char *pid) {
    char path[64 + NAME_MAX];
    snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *const maps = fopen(path, "re");
    if (maps == NULL) {
        snprintf(path, sizeof path, "%s.prof", pid);
        return (errno == EACCES || errno == EPERM) && faccessat(directory, path, F_OK, 0) == 0;
    }
    char *line = NULL;
    size_t size = 0;
    bool is_found = false;
    snprintf(path, sizeof path, "/%s/", name);
    while (!is_found && getline(&line, &size, maps) > 0) {
        is_found = strstr(line, path) != NULL;
    }
    free(line);
    fclose(maps);
    return is_found;
}

static bool is_recorded_into(int directory, const char *name) {
    DIR *const processes = opendir("/proc");
    bool is_found = false;
    for (struct dirent *entry; processes != NULL && !is_found && (entry = readdir(processes)) != NULL;) {
        is_found =
            entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && maps_from(directory, name, entry->d_name);
    }
    if (processes != NULL) {
        closedir(processes);
    }
    return is_found;
}

/* Ours, locked by nobody, not made just now (its maker may not have come to lock it), and nobody's any more. */
static bool is_stale(int directory, const char *name) {
    struct stat status, link;
    if (fstat(directory, &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid()) {
        return false;
    }
    const bool has_output = fstatat(directory, output_link, &link, AT_SYMLINK_NOFOLLOW) == 0;
    if (status.st_mtime + (has_output ? STALE_OUTPUT_S : STALE_S) >= time(NULL)
        || flock(directory, LOCK_EX | LOCK_NB) != 0) {
        return false;
    }
    if (is_recorded_into(directory, name)) {
        futimens(directory, NULL); /* from now on it is stale again */
        return false;
    }
    return true;
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
            if (directory >= 0 && is_stale(directory, names[i])) {
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

/* at -1: where the last write ended */
static bool write_all(int fd, const char *bytes, size_t length, off_t at) {
    while (length > 0) {
        const ssize_t n = at < 0 ? write(fd, bytes, length) : pwrite(fd, bytes, length, at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        bytes += n;
        length -= (size_t)n;
        at += at < 0 ? 0 : n;
    }
    return true;
}

/* `is_whole`: byte after byte, for what has no holes, as a pipe. */
static bool copy(int from, int to, bool is_whole) {
    char block[COPY_BLOCK];
    off_t at = 0;
    for (ssize_t n; (n = pread(from, block, sizeof block, at)) != 0; at += n) {
        if (n < 0
            || ((is_whole || !is_zero(block, (size_t)n))
                && !write_all(to, block, (size_t)n, is_whole ? -1 : at))) {
            return false;
        }
    }
    return is_whole || ftruncate(to, at) == 0;
}

/* A device, a pipe or the like is written in place. */
static bool is_replaceable(const char *path) {
    struct stat status;
    return lstat(path, &status) != 0 || S_ISREG(status.st_mode);
}

static void name_temporary(char *temporary, size_t size, const char *path) {
    snprintf(temporary, size, "%.*s.%ld.tmp", PATH_MAX, path, (long)getpid());
}

bool moda_cli_can_write(const char *path, moda_error *error) {
    char temporary[PATH_MAX + 32];
    struct stat status;
    bool is_possible;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        is_possible = false;
    } else if (is_replaceable(path)) {
        name_temporary(temporary, sizeof temporary, path);
        const int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        is_possible = fd >= 0;
        if (is_possible) {
            close(fd);
            unlink(temporary);
        }
    } else {
        is_possible = access(path, W_OK) == 0;
    }
    return is_possible || moda_error_set(error, "%s: cannot be written: %s", path, strerror(errno));
}

bool moda_cli_copy_file(const char *from, const char *to, moda_error *error) {
    char temporary[PATH_MAX + 32];
    const bool is_whole = !is_replaceable(to);
    name_temporary(temporary, sizeof temporary, to);
    const int source = open(from, O_RDONLY | O_CLOEXEC);
    const int target = is_whole ? open(to, O_WRONLY | O_TRUNC | O_CLOEXEC)
                                : open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool is_done = source >= 0 && target >= 0 && copy(source, target, is_whole);
    int number = errno;
    if (source >= 0) {
        close(source);
    }
    if (target >= 0 && close(target) != 0 && is_done) {
        is_done = false;
        number = errno;
    }
    if (is_done && !is_whole && rename(temporary, to) != 0) {
        is_done = false;
        number = errno;
    }
    if (!is_done) {
        if (target >= 0 && !is_whole) {
            unlink(temporary);
        }
        return moda_error_set(error, "%s: cannot be written: %s", to, strerror(number));
    }
    return true;
}
