/* SPDX-License-Identifier: MIT
 *
 * region.c - creates, grows, copies and closes the region. See region.h for the laws.
 */
#include "region/region.h"

#include "base/sink.h"
#include "mod_alloc.h"
#include "os/os.h"

#include <errno.h>
#include <string.h>

#define PATH_SIZE 4096u
#define MEMORY_MIN (UINT64_C(1) << 20)
#define COMMIT_STEP (UINT64_C(64) << 10)
#define LIMIT_SHARE 16u
#define SLOTS_SHARE 8u /* of that, where there is no more */
#define SLOTS_ROOM                                                                                           \
    (UINT64_C(32768) * sizeof(moda_shard)) /* Linux's own limit of threads, if nobody has raised it */
#define DISK_RETRY_NS UINT64_C(1000000000)
#define EXECS_MAX 10000u /* images of one process that are kept */

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define VERSION_TEXT                                                                                         \
    TEXT(MOD_ALLOC_VERSION_MAJOR) "." TEXT(MOD_ALLOC_VERSION_MINOR) "." TEXT(MOD_ALLOC_VERSION_PATCH)

moda_region_header *moda_region_header_ptr;

/* A word in a page of its own that the kernel zeroes in a child; constant where the kernel can't. */
static const uint32_t never_forked = MODA_FORK_IS_FAR;
const uint32_t *moda_region_fork_mark = &never_forked;
bool moda_region_is_copy, moda_region_is_late_copy;

static struct {
    int fd; /* of the file; meaningless without MODA_REGION_FILE */
    moda_os_file_id id;
    moda_os_file_id first_stderr; /* what the process began with */
    uint64_t disk_full_until;     /* CLOCK_MONOTONIC */
    char pattern[PATH_SIZE];      /* absolute: the program may change its directory before it forks */
    char path[PATH_SIZE];
} file;

/* ---- paths ---- */

/* A text that grows in a buffer; `fits` stays false once it didn't. */
typedef struct text {
    char *start;
    size_t size;
    size_t used;
    bool fits;
} text;

static void put_char(text *t, char c) {
    if (t->used + 1 < t->size) {
        t->start[t->used++] = c;
    } else {
        t->fits = false;
    }
    t->start[t->used] = '\0';
}

static void put(text *t, const char *s) {
    while (*s != '\0') {
        put_char(t, *s++);
    }
}

static void put_number(text *t, uint64_t value) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (count > 0) {
        put_char(t, digits[--count]);
    }
}

/* Seconds and, for processes that begin in the same one, six digits behind them. */
static void put_time(text *t, uint64_t ns) {
    put_number(t, ns / 1000000000u);
    put_char(t, '.');
    for (uint64_t digit = 100000000u; digit >= 1000; digit /= 10) {
        put_char(t, (char)('0' + ns / digit % 10));
    }
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

bool moda_region_expand_path(const char *pattern, const char *program, uint32_t pid, uint32_t fork_count,
                             uint64_t start_ns, char *path, size_t size) {
    text t = {.start = path, .size = size, .fits = true};
    bool is_own = fork_count == 0;
    path[0] = '\0';
    for (; *pattern != '\0'; pattern++) {
        if (*pattern != '%' || pattern[1] == '\0') {
            put_char(&t, *pattern);
            continue;
        }
        is_own |= pattern[1] == 'p' || pattern[1] == 'n' || pattern[1] == 't';
        switch (*++pattern) {
        case 'p': put_number(&t, pid); break;
        case 'e': put(&t, *base_name(program) != '\0' ? base_name(program) : "unknown"); break;
        case 'n': put_number(&t, fork_count); break;
        case 't': put_time(&t, start_ns); break;
        case '%': put_char(&t, '%'); break;
        default: /* not one of ours: as it stands */ put_char(&t, '%'); put_char(&t, *pattern);
        }
    }
    if (!is_own) {
        put_char(&t, '.');
        put_number(&t, pid);
    }
    return t.fits;
}

static bool set_pattern(const char *pattern) {
    text t = {.start = file.pattern, .size = sizeof file.pattern, .fits = true};
    if (pattern[0] != '/') {
        /* Percent signs of the directory are doubled: they are no pattern. */
        char directory[PATH_SIZE];
        moda_os_working_directory(directory, sizeof directory);
        for (const char *c = directory; *c != '\0'; c++) {
            put_char(&t, *c);
            if (*c == '%') {
                put_char(&t, '%');
            }
        }
        put_char(&t, '/');
    }
    put(&t, pattern);
    return t.fits;
}

static const char *reason(int error) {
    switch (error) {
    case EACCES: return "permission denied";
    case EPERM: return "operation not permitted";
    case ENOENT: return "no such directory";
    case ENOTDIR: return "not a directory";
    case EISDIR: return "is a directory";
    case EEXIST: return "exists and is no regular file";
    case ENOSPC: return "no space left on device";
    case EDQUOT: return "disk quota exceeded";
    case EFBIG: return "file too large";
    case EROFS: return "read-only file system";
    case EMFILE:
    case ENFILE: return "too many open files";
    case ENAMETOOLONG: return "file name too long";
    case ENOMEM: return "out of memory";
    case ENOSYS: return "function not implemented, or not allowed here";
    default: return NULL;
    }
}

static void warn_no_file(const char *path, int error) {
    char buffer[512];
    moda_sink sink;
    if (!moda_os_is_file(2, &file.first_stderr)) {
        return; /* in a child: by now the program has something else there */
    }
    moda_sink_to_fd(&sink, 2, buffer, sizeof buffer);
    moda_sink_text(&sink, "mod-alloc: profile file ");
    moda_sink_text(&sink, path);
    moda_sink_text(&sink, ": ");
    if (reason(error) != NULL) {
        moda_sink_text(&sink, reason(error));
    } else {
        moda_sink_text(&sink, "error ");
        moda_sink_decimal(&sink, (uint64_t)error);
    }
    moda_sink_text(&sink, "; the profile is kept in memory only\n");
    moda_sink_flush(&sink);
}

/* ---- memory ---- */

static uint64_t round_up(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}

static uint64_t round_down(uint64_t value, uint64_t step) {
    return value / step * step;
}

static uint64_t capacity(const moda_region_header *header) {
    return round_down(header->memory_max, header->page_size);
}

/* Address space of the region: memory_max, and what slots may take beyond. */
static uint64_t span;

static uint64_t lower(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* ---- the file's place ---- */

typedef enum place_holder { NOBODY, EARLIER_IMAGE, ANOTHER } place_holder;

static bool is_whole(const moda_region_header *header) {
    return memcmp(header->magic, MODA_REGION_MAGIC, sizeof header->magic) == 0;
}

/* By the number of the process, as it is here. */
static place_holder whose(const moda_region_header *there, bool is_begun) {
    const moda_region_header *const parent = moda_region_header_ptr; /* in a fork */
    const uint64_t start = moda_os_process_start(there->pid);
    const bool is_running = start != 0 && (there->process_start == 0 || there->process_start == start);
    if (there->pid == moda_os_pid()) {
        return is_running && !is_begun ? EARLIER_IMAGE : NOBODY;
    }
    if (is_begun) {
        return is_running ? ANOTHER : NOBODY;
    }
    const bool is_sibling = parent != NULL && there->parent_pid == parent->pid
                            && there->start_monotonic_ns >= parent->start_monotonic_ns;
    return is_sibling || (is_running && (there->flags & MODA_REGION_CLEAN_EXIT) == 0) ? ANOTHER : NOBODY;
}

/* Whose profile stands at this path, as far as it concerns us. In doubt somebody's: a profile too many is better than one
 * lost. A process of another container, whose number means nothing here, is known by its lock. */
static place_holder who_holds(const char *path) {
    moda_region_header there = {0};
    const int fd = moda_os_open(path);
    if (fd < 0) {
        return NOBODY;
    }
    const long size = moda_os_read(fd, &there, sizeof there);
    const bool is_held = moda_os_is_held(fd);
    moda_os_close(fd);
    const bool is_begun = moda_region_is_unfinished(&there);
    if (is_begun && there.version == 0 && (is_held || moda_region_header_ptr != NULL)) {
        return ANOTHER; /* that is just being made, perhaps a sibling's */
    }
    if (size != (long)sizeof there || !(is_begun || is_whole(&there))
        || there.version != MODA_REGION_VERSION) {
        return NOBODY;
    }
    const place_holder holder = whose(&there, is_begun);
    return holder == NOBODY && is_held && (there.flags & MODA_REGION_CLEAN_EXIT) == 0 ? ANOTHER : holder;
}

static bool append_number(char *path, const char *before, uint64_t number) {
    text t = {.start = path, .size = PATH_SIZE, .used = strlen(path), .fits = true};
    put(&t, before);
    put_number(&t, number);
    return t.fits;
}

/* path becomes path.execN: N is the first that is not an earlier image's. */
static void move_earlier_image(const char *path) {
    char to[PATH_SIZE];
    for (uint32_t n = 1; n < EXECS_MAX; n++) {
        strcpy(to, path);
        if (!append_number(to, ".exec", n)) {
            return;
        }
        if (who_holds(to) == NOBODY) {
            moda_os_rename(path, to);
            return;
        }
    }
}

/* Sees to it that file.path can be ours. */
static void make_way(void) {
    /* More than once where each of several containers has a process 1. */
    place_holder holder = who_holds(file.path);
    while (holder == ANOTHER && append_number(file.path, ".", moda_os_pid())) {
        holder = who_holds(file.path);
    }
    if (holder == EARLIER_IMAGE) {
        move_earlier_image(file.path);
    }
    moda_os_unlink_file(file.path);
}

/* A new file at file.path with disk space for `bytes`, and what `fill` writes to it, mapped for all of the span, `at` there
 * or anywhere (NULL); NULL with *error set, and what was mapped at `at` may be gone then. */
static void *create_file(uint64_t bytes, bool (*fill)(int fd), void *at, int *fd, int *error) {
    *fd = moda_os_create(file.path);
    if (*fd == -EEXIST) {
        make_way();
        *fd = moda_os_create(file.path);
    }
    if (*fd < 0) {
        *error = -*fd;
        return NULL;
    }
    moda_os_hold(*fd);
    moda_os_file_id id;
    *error = moda_os_identify(*fd, &id) ? moda_os_allocate(*fd, 0, bytes) : EIO;
    if (*error == 0 && fill != NULL && !fill(*fd)) {
        *error = EIO;
    }
    void *start = *error == 0 ? moda_os_map_file(*fd, span, at) : NULL;
    if (start != NULL) {
        file.id = id;
        return start;
    }
    *error = *error != 0 ? *error : ENOMEM;
    moda_os_close(*fd);
    moda_os_unlink_file(file.path);
    return NULL;
}

/* The descriptor, if the program has not closed it meanwhile and opened something else under its number. */
static int own_descriptor(void) {
    if (moda_os_is_file(file.fd, &file.id)) {
        return file.fd;
    }
    const int fd = moda_os_open_for_writing(file.path);
    if (fd >= 0 && moda_os_is_file(fd, &file.id)) {
        file.fd = fd;
        return fd;
    }
    if (fd >= 0) {
        moda_os_close(fd);
    }
    return -EBADF;
}

static bool allocate_disk(moda_region_header *header, uint64_t from, uint64_t to) {
    const uint64_t now = moda_os_monotonic_ns();
    const int fd = now >= moda_load_relaxed(&file.disk_full_until) ? own_descriptor() : -EBADF;
    if (fd >= 0 && moda_os_allocate(fd, from, to) == 0) {
        return true;
    }
    if (fd >= 0) {
        moda_store_relaxed(&file.disk_full_until, now + DISK_RETRY_NS);
    }
    (void)moda_add_relaxed(&header->dropped_disk, 1);
    return false;
}

/* Makes everything below `end` usable, and some more, so that this stays rare. Two threads may do it at once:
 * committing twice does no harm, and `committed` only rises. */
static bool grow(moda_region_header *header, uint64_t end) {
    uint64_t committed = moda_load_acquire(&header->committed);
    if (end <= committed) {
        return true;
    }
    uint64_t target = lower(round_up(end + end / 8, COMMIT_STEP), capacity(header));
    if (target < end) { /* slots beyond memory_max */
        target = lower(round_up(end, COMMIT_STEP), round_down(span, header->page_size));
    }
    const bool is_done = (header->flags & MODA_REGION_FILE) != 0
                             ? allocate_disk(header, committed, target)
                             : moda_os_commit((char *)header + committed, target - committed);
    if (!is_done) {
        return false;
    }
    while (committed < target
           && !__atomic_compare_exchange_n(&header->committed, &committed, target, false, __ATOMIC_RELEASE,
                                           __ATOMIC_RELAXED)) {
    }
    return true;
}

static void *alloc_below(moda_region_header *header, uint64_t end, size_t bytes) {
    if (bytes > end) {
        return NULL;
    }
    const uint64_t size = round_up(bytes, MODA_REGION_ALIGN);
    uint64_t used = moda_load_relaxed(&header->used);
    do {
        if (used + size > end || !grow(header, used + size)) {
            return NULL;
        }
    } while (!__atomic_compare_exchange_n(&header->used, &used, used + size, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return (char *)header + used;
}

void *moda_region_alloc(size_t bytes) {
    moda_region_header *header = moda_region_header_ptr;
    return header != NULL ? alloc_below(header, capacity(header), bytes) : NULL;
}

void *moda_region_alloc_for_slots(size_t bytes) {
    moda_region_header *header = moda_region_header_ptr;
    return header != NULL ? alloc_below(header, round_down(span, header->page_size), bytes) : NULL;
}

bool moda_region_has(const void *record) {
    return (uintptr_t)record - (uintptr_t)moda_region_header_ptr < span;
}

static uint64_t for_speed_used;

uint64_t moda_region_left_for_speed(void) {
    const moda_region_header *header = moda_region_header_ptr;
    const uint64_t most = header != NULL ? header->memory_max / 2 : 0;
    const uint64_t used = moda_load_relaxed(&for_speed_used);
    return used < most ? most - used : 0;
}

void *moda_region_alloc_for_speed(size_t bytes) {
    void *memory = bytes <= moda_region_left_for_speed() ? moda_region_alloc(bytes) : NULL;
    if (memory != NULL) {
        (void)moda_add_relaxed(&for_speed_used, bytes);
    }
    return memory;
}

/* ---- the image ---- */

#define PART_SHIFT_MIN 12u
#define IMAGE_PARTS 8192u
#define IMAGE_RESERVED (UINT64_C(16) << 20) /* not more, for programs that limit themselves later */

/* What the region in a file held just before a fork. Private memory: the child has it as it was then, while in the file the
 * parent's threads, the one that has forked among them, go on counting. Some address space for it is had when the region
 * is created: a child that can have no file moves it over its parent's, whatever limits there are by then. Where they were
 * there from the beginning, or the region has grown beyond that, an image has some for as long as it is needed. */
static struct {
    moda_region_header *start; /* or NULL */
    uint64_t bytes;            /* of address space */
    uint64_t committed;        /* of them */
    bool is_taken;
    uint32_t part_shift;                  /* how many bytes a part is */
    uint64_t is_filled[IMAGE_PARTS / 64]; /* parts that are not all zero */
} image;

static void choose_parts(uint64_t bytes) {
    image.part_shift = PART_SHIFT_MIN;
    while (bytes >> image.part_shift >= IMAGE_PARTS) {
        image.part_shift++;
    }
    memset(image.is_filled, 0, sizeof image.is_filled);
}

static uint64_t part_bytes(void) {
    return UINT64_C(1) << image.part_shift;
}

static void set_filled(uint64_t at) {
    image.is_filled[(at >> image.part_shift) / 64] |= UINT64_C(1) << (at >> image.part_shift) % 64;
}

static bool is_filled(uint64_t at) {
    return (image.is_filled[(at >> image.part_shift) / 64] >> (at >> image.part_shift) % 64 & 1) != 0;
}

/* What is not zero, to a file that is. */
static bool write_image(int fd) {
    const uint64_t bytes = image.start->committed;
    for (uint64_t at = 0, end; at < bytes; at = end) {
        const bool is_wanted = is_filled(at);
        for (end = at; end < bytes && is_filled(end) == is_wanted; end += part_bytes()) {
        }
        end = lower(end, bytes);
        if (is_wanted && !moda_os_write_at(fd, (const char *)image.start + at, end - at, at)) {
            return false;
        }
    }
    return true;
}

static bool reserve_image(uint64_t bytes) {
    if (image.start == NULL) {
        image.start = moda_os_reserve(bytes);
        image.bytes = bytes;
        image.committed = 0;
    }
    return image.start != NULL;
}

static void unmap_image(void) {
    moda_os_unmap(image.start, image.bytes);
    image.start = NULL;
}

static bool commit_image(uint64_t bytes) {
    if (image.start != NULL && bytes > image.bytes) {
        unmap_image(); /* the region has grown */
    }
    if (!reserve_image(bytes)) {
        return false;
    }
    if (bytes > image.committed) {
        if (!moda_os_commit(image.start, bytes)) {
            return false;
        }
        image.committed = bytes;
    }
    return true;
}

/* What is left of it is zero: nothing, where there can't be another. */
static void drop_image(void) {
    const bool is_kept =
        image.bytes == lower(span, IMAGE_RESERVED) && (moda_region_header_ptr->flags & MODA_REGION_FILE) != 0;
    image.is_taken = false;
    if (image.start != NULL && !(is_kept && moda_os_give_back(image.start, image.committed))) {
        unmap_image();
    }
}

/* ---- creation ---- */

static void copy_text(char *to, size_t size, const char *from) {
    size_t i = 0;
    for (; from != NULL && from[i] != '\0' && i + 1 < size; i++) {
        to[i] = from[i];
    }
    to[i] = '\0';
}

/* The process that this one is a fork of. Not what the system calls the parent, which may have ended by now (a daemon's), or
 * be in another container. */
static uint32_t forked_from;

/* What is true from now on for this process, be it the first or a forked child. */
static void stamp_process(moda_region_header *header) {
    header->pid = moda_os_pid();
    header->parent_pid = forked_from != 0 ? forked_from : moda_os_parent_pid();
    header->process_start = (header->flags & MODA_REGION_FILE) != 0 ? moda_os_process_start(header->pid) : 0;
    header->start_realtime_ns = moda_os_realtime_ns();
    header->start_monotonic_ns = moda_os_monotonic_ns();
    header->start_ticks = moda_ticks();
}

static void fill_header(moda_region_header *header, const moda_region_options *options) {
    header->byte_order = MODA_REGION_BYTE_ORDER;
    header->header_size = sizeof *header;
    header->shard_size = sizeof(moda_shard);
    header->site_size = sizeof(moda_site);
    header->module_size = sizeof(moda_module);
    header->region_base = (uint64_t)(uintptr_t)header;
    copy_text(header->mod_alloc_version, sizeof header->mod_alloc_version, VERSION_TEXT);
    copy_text(header->mimalloc_version, sizeof header->mimalloc_version, options->mimalloc_version);
    copy_text(header->machine, sizeof header->machine, MODA_MACHINE);
    header->frames_max = options->frames_max;
    header->unwinder = options->unwinder;
    header->seed = options->seed;
    header->short_lived_ns = options->short_lived_ns;
    header->flags |= options->times_all_lives ? MODA_REGION_LIVES_ALL : 0u;
    header->sample_bytes = options->sample_bytes;
    moda_os_executable(header->executable, sizeof header->executable);
    moda_os_command_line(header->command_line, sizeof header->command_line);
    header->used = MODA_REGION_FIRST;
    header->peak_epoch = 1;
    stamp_process(header);
}

/* A reader who finds this finds the rest. */
static void set_magic(moda_region_header *header) {
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(header->magic, MODA_REGION_MAGIC, sizeof header->magic);
}

/* A watched page: the one piece of memory that tells a child from its parent without a system call. */
static void watch_for_forks(void) {
    const size_t page = moda_os_page_size();
    uint32_t *mark = moda_os_map(page);
    if (mark == NULL || !moda_os_wipe_on_fork(mark, page)) {
        return;
    }
    moda_store_relaxed(mark, MODA_FORK_IS_FAR);
    moda_region_fork_mark = mark;
}

static moda_region_header *create_in_memory(uint64_t *memory_max) {
    void *start = moda_os_reserve(span);
    while (start == NULL && span / 2 >= MEMORY_MIN) {
        span /= 2;
        start = moda_os_reserve(span);
    }
    *memory_max = lower(*memory_max, span - span / SLOTS_SHARE);
    if (start != NULL && moda_os_commit(start, COMMIT_STEP)) {
        return start;
    }
    if (start != NULL) {
        moda_os_unmap(start, span);
    }
    return NULL;
}

static bool expand(const char *program, uint32_t fork_count) {
    return moda_region_expand_path(file.pattern, program, moda_os_pid(), fork_count, moda_os_realtime_ns(),
                                   file.path, sizeof file.path);
}

static moda_region_header *create_in_file(const char *pattern) {
    char program[512];
    moda_os_executable(program, sizeof program);
    int error = ENAMETOOLONG;
    (void)moda_os_identify(2, &file.first_stderr);
    copy_text(file.path, sizeof file.path, pattern);
    if (set_pattern(pattern) && expand(program, 0)) {
        moda_region_header *header = create_file(COMMIT_STEP, NULL, NULL, &file.fd, &error);
        if (header != NULL) {
            header->flags = MODA_REGION_FILE;
            if (moda_os_address_space_limit() == UINT64_MAX) {
                (void)reserve_image(lower(span, IMAGE_RESERVED));
            }
            return header;
        }
    }
    warn_no_file(file.path, error);
    return NULL;
}

/* Address space that is limited is the program's, all but a small share. Sets the span too. */
static uint64_t memory_max_of(const moda_region_options *options) {
    const uint64_t share = moda_os_address_space_limit() / LIMIT_SHARE;
    const uint64_t most = lower(options->memory_max, share - share / SLOTS_SHARE);
    const uint64_t memory_max = most < MEMORY_MIN ? MEMORY_MIN : most;
    const uint64_t refs_reach = (uint64_t)UINT32_MAX * MODA_REF_UNIT;
    span = lower(memory_max + SLOTS_ROOM, lower(share, refs_reach));
    span = span < memory_max ? memory_max : span;
    return memory_max;
}

bool moda_region_create(const moda_region_options *options) {
    uint64_t memory_max = memory_max_of(options);
    const bool wants_file = options->path != NULL && options->path[0] != '\0' && !moda_os_is_secure();
    moda_region_header *header = wants_file ? create_in_file(options->path) : NULL;
    if (header == NULL) {
        header = create_in_memory(&memory_max);
    }
    if (header == NULL) {
        return false;
    }
    header->memory_max = memory_max;
    header->page_size = (uint32_t)moda_os_page_size();
    header->committed = COMMIT_STEP;
    fill_header(header, options);
    watch_for_forks();
    moda_region_header_ptr = header;
    moda_region_touch_clock();
    header->version = MODA_REGION_VERSION;
    set_magic(header);
    return true;
}

/* ---- fork ---- */

static MODA_TLS bool is_forking; /* this thread */

static void mark_forks(uint32_t how) {
    if (moda_region_fork_mark != &never_forked) {
        moda_store_release((uint32_t *)(uintptr_t)moda_region_fork_mark, how);
    }
}

/* Copied while threads go on, the records would be of many moments: a block's birth at one site, and not its end at another.
 * So nothing more is recorded; what is being recorded just now is over in less than a microsecond, but where a thread has
 * lost its core in the middle. */
static void hold_records(void) {
    enum { PAUSES = 100 };
    is_forking = true;
    mark_forks(MODA_FORK_IS_NEAR);
    for (int i = 0; i < PAUSES; i++) {
        moda_pause();
    }
}

static void let_records_go(void) {
    if (is_forking) {
        is_forking = false;
        mark_forks(MODA_FORK_IS_FAR);
    }
}

/* Bounded, should the thread that forks never come back. */
void moda_region_wait_for_fork(void) {
    moda_os_wait wait = {0};
    while (!is_forking && moda_load_acquire(moda_region_fork_mark) == MODA_FORK_IS_NEAR
           && moda_os_wait_on(&wait, MODA_FORK_YIELDS, MODA_FORK_NS)) {
    }
}

/* False if the shard's thread has counted meanwhile. */
static bool copy_counts_once(moda_shard *copy, const moda_shard *from) {
    enum { WORDS = offsetof(moda_shard, seq) / sizeof(uint64_t) };
    const uint64_t *const word = (const uint64_t *)(const void *)from;
    uint64_t *const copied = (uint64_t *)(void *)copy;
    copy->seq = moda_load_acquire(&from->seq);
    for (int i = 0; i < WORDS; i++) {
        copied[i] = moda_load_relaxed(&word[i]);
    }
    copy->realloc_count = moda_load_relaxed(&from->realloc_count);
    copy->before_what = moda_load_relaxed(&from->before_what);
    copy->before = from->before;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    bool is_same = moda_load_relaxed(&from->seq) == copy->seq
                   && moda_load_relaxed(&from->realloc_count) == copy->realloc_count;
    for (int i = 0; i < WORDS; i++) {
        is_same &= moda_load_relaxed(&word[i]) == copied[i];
    }
    return is_same;
}

/* What each shard counts, as it was at one moment: words that do not belong together would be wrong for ever. Its thread
 * counts each few nanoseconds, so these words are read by themselves. */
static void copy_counts(moda_region_header *copy, const moda_region_header *from) {
    enum { TRIES = 1000 };
    uint64_t at = (uint64_t)copy->shard_blocks * MODA_REF_UNIT;
    while (at != 0 && at + sizeof(moda_shard_block) <= copy->used) {
        moda_shard_block *block = (moda_shard_block *)(void *)((char *)copy + at);
        const moda_shard_block *source = (const moda_shard_block *)(const void *)((const char *)from + at);
        for (uint32_t i = 0; i < block->count; i++) {
            for (int n = 0; n < TRIES && !copy_counts_once(&block->shard[i], &source->shard[i]); n++) {
                moda_pause();
            }
            set_filled((uint64_t)((const char *)&block->shard[i] - (const char *)copy));
            set_filled((uint64_t)((const char *)(&block->shard[i] + 1) - (const char *)copy) - 1);
        }
        at = (uint64_t)block->next * MODA_REF_UNIT;
    }
}

/* Most of a region is: tables that are hardly filled, slots that no thread has had. Whole records. */
static bool is_zero(const char *start, uint64_t size) {
    const uint64_t *const word = (const uint64_t *)(const void *)start;
    uint64_t bits = 0;
    for (uint64_t i = 0; i < size / sizeof *word && bits == 0; i += MODA_REGION_ALIGN / sizeof *word) {
        bits = word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6]
               | word[i + 7];
    }
    return bits == 0;
}

/* Copies what a region holds while others may still write to it; the copy has its header already. That order
 * matters: the header's lists lead only to records that were whole before it was copied. Links that are set
 * later than that, in records, may lead behind the copy: cut_links. */
static void copy_records(moda_region_header *copy, const moda_region_header *from) {
    const char *const start = (const char *)from;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    for (uint64_t at = MODA_REGION_FIRST, size; at < copy->used; at += size) {
        size = lower(MODA_REGION_FIRST, copy->used - at);
        if (!is_zero(start + at, size)) {
            memcpy((char *)copy + at, start + at, size);
            set_filled(at);
        }
    }
    copy_counts(copy, from);
}

static void take_image(void) {
    enum { TRIES = 4 };
    const moda_region_header *header = moda_region_header_ptr;
    for (int i = 0; i < TRIES && !image.is_taken; i++) {
        const uint64_t bytes = moda_load_acquire(&header->committed);
        if (!commit_image(bytes)) {
            return;
        }
        choose_parts(bytes);
        set_filled(0);
        memcpy(image.start, header, MODA_REGION_FIRST);
        if (image.start->used <= bytes) { /* or it has grown meanwhile */
            copy_records(image.start, header);
            image.is_taken = true;
        }
    }
}

void moda_region_fork_prepare(void) {
    const moda_region_header *header = moda_region_header_ptr;
    if (header != NULL && (header->flags & MODA_REGION_FILE) != 0) {
        hold_records();
        take_image();
    }
}

void moda_region_fork_parent(void) {
    let_records_go();
    if (image.start != NULL) {
        drop_image();
    }
}

static void cut_link(moda_ref *link, uint64_t end) {
    if (*link >= end) {
        *link = 0;
    }
}

static void cut_links(moda_region_header *header) {
    const uint64_t end = header->used / MODA_REF_UNIT;
    moda_shard_block *block = moda_region_at(header->shard_blocks);
    while (block != NULL) {
        for (uint32_t i = 0; i < block->count; i++) {
            cut_link(&block->shard[i].deltas, end);
            cut_link(&block->shard[i].scratch, end);
            cut_link(&block->shard[i].memo, end);
        }
        const moda_shard_block *next = block->next < end ? moda_region_at(block->next) : NULL;
        if (next == NULL || next->count == 0) {
            block->next = 0;
        }
        block = moda_region_at(block->next);
    }
}

/* The image becomes the child's: all but the magic, so that one killed before moda_region_fork_done leaves what nobody takes
 * for a profile. */
static void begin_copy(moda_region_header *copy) {
    memset(copy->magic, 0, sizeof copy->magic);
    stamp_process(copy);
}

/* In a file of the child's own, mapped where its parent's was. No more of it than there is: many a child adds nothing. */
static bool copy_to_file(moda_region_header *copy) {
    int error = ENAMETOOLONG;
    copy->committed = round_up(copy->used, copy->page_size);
    if (expand(copy->executable, copy->fork_count + 1)
        && create_file(copy->committed, write_image, moda_region_header_ptr, &file.fd, &error) != NULL) {
        return true;
    }
    warn_no_file(file.path, error);
    return false;
}

/* An image as large as the region, if there is address space for that. */
static void widen_image(void) {
    moda_region_header *const wide = moda_os_reserve(span);
    if (wide == NULL) {
        return;
    }
    if (!moda_os_commit(wide, image.committed)) {
        moda_os_unmap(wide, span);
        return;
    }
    memcpy(wide, image.start, image.start->used);
    unmap_image();
    image.start = wide;
    image.bytes = span;
}

/* In memory: the image is moved over the parent's mapping, in two parts, since they are protected differently. No limit of
 * address space stands against that. What the image does not reach is not used any more. */
static bool move_to_memory(moda_region_header *copy) {
    char *const to = (char *)moda_region_header_ptr;
    const uint64_t committed = image.committed;
    const uint64_t rest = image.bytes - committed;
    copy->flags &= ~(uint32_t)MODA_REGION_FILE;
    copy->committed = committed;
    if (!moda_os_move(copy, committed, to)) {
        return false;
    }
    const bool has_rest = rest == 0 || moda_os_move((char *)copy + committed, rest, to + committed);
    if (!has_rest || image.bytes < span) {
        span = has_rest ? image.bytes : committed;
        moda_region_header_ptr->memory_max = lower(moda_region_header_ptr->memory_max, span);
    }
    image.start = NULL;
    return true;
}

/* A write that changes nothing, of a page that others may write to: it becomes ours as it is at that moment. */
static void make_page_ours(char *page) {
    char byte = __atomic_load_n(page, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(page, &byte, byte, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    }
}

/* Where there is no address space for an image (ulimit -v), or no moving it (a sandbox): the image over the original, or page
 * by page, the header's first. Nothing can be added; so what is reserved for that goes, which may be what the limit lacks. */
static bool copy_in_place(int parents_fd) {
    moda_region_header *header = moda_region_header_ptr;
    const uint64_t step = header->page_size;
    const uint64_t most =
        lower(round_up(2 * header->committed, step), round_down(span, step)); /* it may grow meanwhile */
    moda_os_unmap((char *)header + most, span - most);
    if (!moda_os_map_file_privately(parents_fd, most, header)) {
        return false;
    }
    make_page_ours((char *)header);
    const uint64_t committed = header->committed;
    if (committed > most) {
        return false;
    }
    for (uint64_t at = step; at < committed; at += step) {
        make_page_ours((char *)header + at);
    }
    if (image.is_taken) {
        memcpy(header, image.start, image.start->used);
        memset((char *)header + header->used, 0, committed - header->used);
    }
    header->committed = header->memory_max = span = committed;
    header->flags &= ~(uint32_t)MODA_REGION_FILE;
    stamp_process(header);
    return true;
}

static bool replace_by_image(void) {
    if (!image.is_taken) {
        take_image(); /* a child that ran no handlers */
    }
    if (!image.is_taken) {
        return false;
    }
    begin_copy(image.start);
    if (copy_to_file(image.start)) {
        return true;
    }
    if (image.bytes < span) {
        widen_image();
    }
    return move_to_memory(image.start);
}

/* The parent's mapping gives way to a copy at the same addresses. */
static bool take_own_copy(void) {
    const int parents_fd = own_descriptor();
    if (!replace_by_image() && !(parents_fd >= 0 && copy_in_place(parents_fd))) {
        return false;
    }
    if (parents_fd >= 0) {
        moda_os_close(parents_fd);
    }
    cut_links(moda_region_header_ptr);
    drop_image(); /* nor does the child need it any more */
    return true;
}

bool moda_region_fork_child(void) {
    moda_region_header *header = moda_region_header_ptr;
    if (header == NULL) {
        return true;
    }
    forked_from = header->pid;
    moda_region_is_copy = (header->flags & MODA_REGION_FILE) != 0;
    moda_region_is_late_copy = moda_region_is_copy && !image.is_taken;
    const bool is_own = !moda_region_is_copy || take_own_copy();
    mark_forks(MODA_FORK_IS_FAR); /* done, and not to be tried again */
    if (!is_own) {
        return false;
    }
    if (!moda_region_is_copy) {
        stamp_process(header);
    }
    header->fork_count++;
    header->flags = (header->flags | MODA_REGION_FORKED) & ~(uint32_t)MODA_REGION_CLEAN_EXIT;
    header->exit_status = 0;
    header->clock_seq = 0;
    moda_region_touch_clock();
    return true;
}

void moda_region_fork_done(void) {
    moda_region_header *header = moda_region_header_ptr;
    if (header != NULL && !is_whole(header)) {
        set_magic(header);
    }
}

/* ---- clocks, sizes, end ---- */

void moda_region_touch_clock(void) {
    moda_region_header *header = moda_region_header_ptr;
    if (header == NULL) {
        return;
    }
    uint32_t seq = moda_load_relaxed(&header->clock_seq);
    if ((seq & 1) != 0
        || !__atomic_compare_exchange_n(&header->clock_seq, &seq, seq + 1, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
        return; /* somebody is at it */
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    moda_store_relaxed(&header->latest_ticks, moda_ticks());
    moda_store_relaxed(&header->latest_monotonic_ns, moda_os_monotonic_ns());
    moda_store_release(&header->clock_seq, seq + 2);
}

void moda_region_note_resident(void) {
    moda_region_header *header = moda_region_header_ptr;
    if (header == NULL) {
        return;
    }
    moda_store_relaxed(&header->resident_bytes, moda_os_resident_bytes());
    moda_store_relaxed(&header->resident_peak_bytes, moda_os_resident_peak_bytes());
    const uint64_t used = round_up(moda_load_relaxed(&header->used), header->page_size);
    moda_store_relaxed(&header->region_resident_bytes, moda_os_resident_of(header, used));
}

void moda_region_finish(int status) {
    moda_region_header *header = moda_region_header_ptr;
    if (header == NULL) {
        return;
    }
    const uint32_t flags = moda_load_relaxed(&header->flags);
    if ((flags & (MODA_REGION_FILE | MODA_REGION_CLEAN_EXIT)) == MODA_REGION_FILE) {
        moda_region_note_resident(); /* nobody reads what is gone with its process */
    }
    moda_region_touch_clock();
    moda_store_relaxed(&header->exit_status, (uint32_t)status);
    __atomic_fetch_or(&header->flags, (uint32_t)MODA_REGION_CLEAN_EXIT, __ATOMIC_RELEASE);
}

const char *moda_region_path(void) {
    const moda_region_header *header = moda_region_header_ptr;
    return header != NULL && (header->flags & MODA_REGION_FILE) != 0 ? file.path : NULL;
}
