/* SPDX-License-Identifier: MIT
 *
 * read.c - a region becomes a profile: from a file, a running process, this process, or plain bytes.
 *
 * cli/ and programs (api.c) call. A region is one process's, or several's that were merged: a part each, one after
 * another. How bytes are taken, and the laws of reading, are in read.h.
 */
#include "report/read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The allocator may not be in this process. */
#pragma weak mod_alloc_region

/* ---- all of it ---- */

/* A process that was killed or ended by _exit has noted its clock at its last slow path; a peak, or a point of the
 * timeline, may be newer. */
static void reach_newest_moment(moda_profile_process *p) {
    if (p->duration_ns != 0 && p->peak_ns > p->duration_ns)
        p->duration_ns = p->peak_ns;
    for (size_t i = 0; p->duration_ns != 0 && i < p->timeline_count; i++)
        if (p->timeline[i].time_ns > p->duration_ns)
            p->duration_ns = p->timeline[i].time_ns;
}

static bool read_lists(moda_reader *r) {
    moda_read_clock(r);
    if (!moda_read_facts(r) || !moda_read_modules(r) || !moda_read_threads(r) || !moda_read_sites(r)
        || !moda_read_timeline(r))
        return false;
    reach_newest_moment(r->process);
    r->process->torn = r->torn;
    r->profile->totals = r->process->totals;
    r->profile->is_exact = r->process->sample_bytes == 1 && r->process->sample_changes == 0;
    r->profile->sample_bytes = r->process->sample_bytes;
    return true;
}

/* The process whose header `r` has; the copy is there. */
static moda_profile *read_process(moda_reader *r) {
    r->arena = moda_arena_new();
    r->profile = r->arena != NULL ? moda_arena_alloc(r->arena, sizeof *r->profile) : NULL;
    r->process = r->profile != NULL ? moda_arena_alloc(r->arena, sizeof *r->process) : NULL;
    r->torn = 0;
    bool is_fine = false;
    if (r->process == NULL) {
        moda_read_no_memory(r);
    } else {
        r->profile->arena = r->arena;
        r->profile->processes = r->process;
        r->profile->process_count = 1;
        is_fine = read_lists(r);
    }
    if (is_fine)
        return r->profile;
    moda_arena_free(r->arena);
    return NULL;
}

/* The next part's header, checked; parts follow one another, so a chain of them ends. */
static bool next_part(moda_reader *r, uint64_t begin, uint64_t end, uint64_t *next) {
    const uint64_t holder = begin + offsetof(moda_region_header, next_process);
    *next = (uint64_t)r->header.next_process * MODA_REF_UNIT;
    if (*next == 0) {
        *next = end;
        return true;
    }
    if (r->header.merged == 0)
        return moda_read_bad(r, holder, "the ref to a next process", r->header.next_process,
                             "0 in a program's profile");
    r->first = begin + (begin == 0 ? MODA_REGION_FIRST : sizeof r->header);
    r->size = end;
    return moda_read_record(r, holder, r->header.next_process, sizeof r->header, "next process") != NULL;
}

static bool read_parts(moda_reader *r, moda_profile ***parts, size_t *count) {
    const uint64_t end = r->size;
    for (uint64_t begin = 0, next; begin < end; begin = next) {
        if (begin > 0) {
            memcpy(&r->header, r->copy + begin, sizeof r->header);
            if (!moda_read_check_header(r, begin))
                return false;
        }
        if (begin > 0 && r->header.merged == 0)
            return moda_read_bad(r, begin + offsetof(moda_region_header, merged),
                                 "the ref to what was merged", 0, "a record");
        if (!next_part(r, begin, end, &next))
            return false;
        r->first = begin + (begin == 0 ? MODA_REGION_FIRST : sizeof r->header);
        r->size = next;
        moda_profile *const part = read_process(r);
        moda_profile **const grown = part != NULL ? realloc(*parts, (*count + 1) * sizeof *grown) : NULL;
        if (grown == NULL) {
            moda_profile_free(part);
            return part != NULL && moda_read_no_memory(r);
        }
        *parts = grown;
        (*parts)[(*count)++] = part;
    }
    return true;
}

static moda_profile *read_region(moda_reader *r) {
    moda_profile **parts = NULL, *profile = NULL;
    size_t count = 0;
    if (moda_read_take_copy(r) && read_parts(r, &parts, &count)) {
        profile =
            count == 1 ? parts[0] : moda_profile_merge((const moda_profile *const *)parts, count, r->error);
        count = count == 1 ? 0 : count;
    }
    for (size_t i = 0; i < count; i++)
        moda_profile_free(parts[i]);
    free(parts);
    moda_read_free_copy(r);
    return profile;
}

moda_profile *moda_profile_read_memory(const void *region, size_t size, const char *source, bool is_live,
                                       moda_error *error) {
    moda_reader r = {.fd = -1,
                     .memory = region,
                     .source_size = size,
                     .is_live = is_live,
                     .source = source,
                     .error = error};
    return read_region(&r);
}

moda_profile *moda_profile_read_self(moda_error *error) {
    size_t size = 0;
    const void *const region = mod_alloc_region != NULL ? mod_alloc_region(&size) : NULL;
    if (region == NULL) {
        moda_error_set(error, "this process: has no profile, expected it to run on mod-alloc");
        return NULL;
    }
    /* Other threads go on: it may be larger by now than it was said to be, and all that is in use can be read. */
    return moda_profile_read_memory(region, SIZE_MAX, "this process", true, error);
}

/* Whether the process that writes this region may still run; a wrong yes only costs time. */
static bool may_be_live(int fd) {
    moda_region_header header;
    if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return false;
    if ((header.flags & MODA_REGION_CLEAN_EXIT) != 0 || header.pid == 0 || header.merged != 0)
        return false;
    char path[64];
    snprintf(path, sizeof path, "/proc/%" PRIu32, header.pid);
    return access(path, F_OK) == 0;
}

moda_profile *moda_profile_read_file(const char *path, moda_error *error) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        moda_error_set(error, "%s: cannot be opened: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    moda_profile *profile = NULL;
    if (!S_ISREG(status.st_mode)) {
        moda_error_set(error, "%s: is not a regular file, expected a profile", path);
    } else {
        moda_reader r = {.fd = fd,
                         .source_size = (uint64_t)status.st_size,
                         .is_live = may_be_live(fd),
                         .source = path,
                         .error = error};
        profile = read_region(&r);
    }
    close(fd);
    return profile;
}

/* ---- a running process ---- */

typedef struct mapping {
    uint64_t start, end, offset;
    bool is_shared, is_writable;
    char path[PATH_MAX];
} mapping;

static bool parse_mapping(const char *line, mapping *m) {
    char flags[8] = "";
    int at = 0;
    m->path[0] = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %n", &m->start, &m->end, flags,
               &m->offset, &at)
        < 4)
        return false;
    m->is_shared = flags[3] == 's';
    m->is_writable = flags[1] == 'w';
    if (at > 0) {
        snprintf(m->path, sizeof m->path, "%s", line + at);
        m->path[strcspn(m->path, "\n")] = 0;
    }
    return true;
}

/* The header in another process's memory, if a region of that process begins at `address`. */
static bool is_region_at(int memory, uint64_t address, uint32_t pid) {
    moda_region_header header;
    char magic[8];
    if (pread(memory, magic, sizeof magic, (off_t)address) != (ssize_t)sizeof magic
        || memcmp(magic, MODA_REGION_MAGIC, sizeof magic) != 0)
        return false;
    return pread(memory, &header, sizeof header, (off_t)address) == (ssize_t)sizeof header
           && header.byte_order == MODA_REGION_BYTE_ORDER && header.region_base == address
           && header.pid == pid;
}

/* The kernel joins neighbouring mappings, so the region may begin inside one. */
static uint64_t find_inside(int memory, const mapping *m, uint32_t pid) {
    enum { STEP = 4096 };
    const uint64_t most = (uint64_t)1 << 32;
    for (uint64_t at = m->start; at < m->end && at - m->start < most; at += STEP)
        if (is_region_at(memory, at, pid))
            return at;
    return 0;
}

/* First at the mappings' starts, which is quick, then inside them. */
static uint64_t find_in_memory(FILE *maps, int memory, uint32_t pid) {
    char line[PATH_MAX + 128];
    static const bool thorough[] = {false, true};
    for (int pass = 0; pass < 2; pass++) {
        rewind(maps);
        while (fgets(line, sizeof line, maps) != NULL) {
            mapping m;
            if (!parse_mapping(line, &m) || !m.is_writable)
                continue;
            const bool is_candidate = m.path[0] == 0 || strncmp(m.path, "[anon", 5) == 0 || m.is_shared;
            if (!is_candidate)
                continue;
            if (!thorough[pass] && is_region_at(memory, m.start, pid))
                return m.start;
            if (thorough[pass] && !m.is_shared) {
                const uint64_t found = find_inside(memory, &m, pid);
                if (found != 0)
                    return found;
            }
        }
    }
    return 0;
}

/* The file that the process keeps its region in; it can be read without any right over the process. */
static int open_region_file(FILE *maps, pid_t pid, uint32_t inner) {
    char line[PATH_MAX + 128];
    while (fgets(line, sizeof line, maps) != NULL) {
        mapping m;
        if (!parse_mapping(line, &m) || !m.is_shared || m.offset != 0 || m.path[0] != '/')
            continue;
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "/proc/%ld/root%s", (long)pid, m.path);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
            fd = open(m.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
            continue;
        moda_region_header header;
        if (pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header
            && memcmp(header.magic, MODA_REGION_MAGIC, sizeof header.magic) == 0 && header.pid == inner)
            return fd;
        close(fd);
    }
    return -1;
}

/* What the system says of a process; 0: it does not. */
typedef struct process_status {
    uint64_t inner_pid; /* what it takes itself for: in a container it has another number than outside */
    uint64_t resident_kib, resident_peak_kib;
} process_status;

static process_status read_status(pid_t pid) {
    process_status status = {.inner_pid = (uint64_t)pid};
    const struct {
        const char *key;
        uint64_t *number; /* the last one of the line */
    } lines[] = {{"NSpid:", &status.inner_pid},
                 {"VmRSS:", &status.resident_kib},
                 {"VmHWM:", &status.resident_peak_kib}};
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *const file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *const last = strrchr(line, '\t');
        for (size_t i = 0; last != NULL && i < sizeof lines / sizeof *lines; i++)
            if (strncmp(line, lines[i].key, strlen(lines[i].key)) == 0)
                *lines[i].number = strtoull(last, NULL, 10);
    }
    if (file != NULL)
        fclose(file);
    return status;
}

/* A process looks at its own memory as it ends. Of the profile all that it uses is taken for resident. */
static void note_resident(moda_profile_process *p, const process_status *status) {
    if (p->resident_bytes != 0)
        return;
    p->resident_bytes = status->resident_kib * 1024;
    p->resident_peak_bytes = status->resident_peak_kib * 1024;
    p->region_resident_bytes = p->region_used_bytes;
}

moda_profile *moda_profile_read_process(pid_t pid, moda_error *error) {
    if (pid == getpid())
        return moda_profile_read_self(error);
    char source[64], path[64];
    snprintf(source, sizeof source, "process %ld", (long)pid);
    snprintf(path, sizeof path, "/proc/%ld/maps", (long)pid);
    FILE *const maps = fopen(path, "re");
    if (maps == NULL) {
        if (errno == ENOENT)
            moda_error_set(error, "%s: there is no such process, nor a file of that name", source);
        else
            moda_error_set(error, "%s: %s cannot be opened: %s", source, path, strerror(errno));
        return NULL;
    }
    moda_reader r = {.fd = -1, .source_size = UINT64_MAX, .is_live = true, .source = source, .error = error};
    const process_status now = read_status(pid);
    const uint32_t inner = (uint32_t)now.inner_pid;
    r.fd = open_region_file(maps, pid, inner);
    if (r.fd >= 0) {
        struct stat status;
        if (fstat(r.fd, &status) == 0)
            r.source_size = (uint64_t)status.st_size;
    } else {
        snprintf(path, sizeof path, "/proc/%ld/mem", (long)pid);
        r.fd = open(path, O_RDONLY | O_CLOEXEC);
        if (r.fd < 0) {
            moda_error_set(error,
                           "%s: %s cannot be opened: %s (it needs the same user, and"
                           " kernel.yama.ptrace_scope 0; or run the program with MOD_ALLOC_PROFILE=FILE)",
                           source, path, strerror(errno));
        } else if ((r.base = find_in_memory(maps, r.fd, inner)) == 0) {
            moda_error_set(error, "%s: no profile in its memory, expected it to run on mod-alloc", source);
            close(r.fd);
            r.fd = -1;
        }
    }
    fclose(maps);
    if (r.fd < 0)
        return NULL;
    moda_profile *const profile = read_region(&r);
    close(r.fd);
    if (profile != NULL && profile->process_count == 1)
        note_resident(r.process, &now);
    return profile;
}

moda_profile *moda_profile_read(const char *file_or_pid, moda_error *error) {
    char *end;
    errno = 0;
    const long pid = strtol(file_or_pid, &end, 10);
    const bool is_number = *file_or_pid >= '1' && *file_or_pid <= '9' && *end == 0 && errno == 0;
    if (is_number && pid <= INT_MAX && access(file_or_pid, F_OK) != 0)
        return moda_profile_read_process((pid_t)pid, error);
    return moda_profile_read_file(file_or_pid, error);
}

void moda_profile_free(moda_profile *profile) {
    if (profile != NULL)
        moda_arena_free(profile->arena);
}
