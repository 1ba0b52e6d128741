/* SPDX-License-Identifier: MIT
 *
 * linux.c - os.h on Linux.
 *
 * Calls go through syscall(2): libc's own open, read, write and close are cancellation points, and other
 * preloaded libraries replace them. The exceptions never allocate: clock_gettime (that of vdso_clock.c) and getauxval.
 */
#define _GNU_SOURCE
#include "os/os.h"

#include "base/growing.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <string.h>
#include <unistd.h>

/* As the kernel itself answers: a result, or -errno; errno is left alone. */
static long call(long number, long a, long b, long c, long d, long e, long f) {
    const int saved_errno = errno;
    long result = syscall(number, a, b, c, d, e, f);
    if (result == -1) {
        result = -errno;
    }
    errno = saved_errno;
    return result;
}

/* ---- memory ---- */

size_t moda_os_page_size(void) {
    const size_t size = getauxval(AT_PAGESZ);
    return size != 0 ? size : 4096;
}

static size_t whole_pages(size_t bytes) {
    const size_t page = moda_os_page_size();
    return (bytes + page - 1) & ~(page - 1);
}

static void *map(void *at, size_t bytes, int protection, int flags, int fd) {
    const long result = call(SYS_mmap, (long)at, (long)whole_pages(bytes), protection, flags, fd, 0);
    return result < 0 && result > -4096 ? NULL : (void *)result;
}

void *moda_os_reserve(size_t bytes) {
    void *start = map(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    if (start != NULL) {
        call(SYS_madvise, (long)start, (long)whole_pages(bytes), MADV_NOHUGEPAGE, 0, 0, 0);
    }
    return start;
}

bool moda_os_commit(void *start, size_t bytes) {
    return call(SYS_mprotect, (long)start, (long)whole_pages(bytes), PROT_READ | PROT_WRITE, 0, 0, 0) == 0;
}

void *moda_os_map(size_t bytes) {
    return map(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

void moda_os_unmap(void *start, size_t bytes) {
    call(SYS_munmap, (long)start, (long)whole_pages(bytes), 0, 0, 0, 0);
}

bool moda_os_give_back(void *start, size_t bytes) {
    return call(SYS_madvise, (long)start, (long)whole_pages(bytes), MADV_DONTNEED, 0, 0, 0) == 0;
}

void *moda_os_map_file(int fd, size_t bytes, void *at) {
    return map(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at != NULL ? MAP_FIXED : 0), fd);
}

bool moda_os_map_file_privately(int fd, size_t bytes, void *at) {
    return map(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd) == at;
}

bool moda_os_move(void *from, size_t bytes, void *to) {
    const size_t size = whole_pages(bytes);
    return call(SYS_mremap, (long)from, (long)size, (long)size, MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0)
           == (long)to;
}

bool moda_os_wipe_on_fork(void *start, size_t bytes) {
    return call(SYS_madvise, (long)start, (long)whole_pages(bytes), MADV_WIPEONFORK, 0, 0, 0) == 0;
}

uint64_t moda_os_address_space_limit(void) {
    struct rlimit64 limit;
    const long error = call(SYS_prlimit64, 0, RLIMIT_AS, 0, (long)&limit, 0, 0);
    return error == 0 && limit.rlim_cur != RLIM64_INFINITY ? limit.rlim_cur : UINT64_MAX;
}

/* By what files there are to read, which a sandbox lets through more often than mincore. */
uint64_t moda_os_resident_of(void *start, size_t bytes) {
    const uint64_t is_present = UINT64_C(1) << 63;
    uint64_t entry[64];
    const size_t page = moda_os_page_size();
    const size_t pages = whole_pages(bytes) / page;
    uint64_t resident = 0;
    const int pagemap = moda_os_open("/proc/self/pagemap");
    for (size_t first = 0; pagemap >= 0 && first < pages; first += sizeof entry / sizeof *entry) {
        const size_t left = (pages - first) * sizeof *entry;
        const size_t size = left < sizeof entry ? left : sizeof entry;
        const uint64_t at = ((uintptr_t)start / page + first) * sizeof *entry;
        if (call(SYS_pread64, pagemap, (long)entry, (long)size, (long)at, 0, 0) != (long)size) {
            break;
        }
        for (size_t i = 0; i < size / sizeof *entry; i++) {
            resident += (entry[i] & is_present) != 0 ? page : 0;
        }
    }
    if (pagemap >= 0) {
        moda_os_close(pagemap);
    }
    return resident;
}

/* ---- files ---- */

/* A call that may make a file longer. */
static long call_growing(long number, int fd, long b, long c, long d) {
    const int saved_errno = errno;
    long result = moda_call_growing(number, fd, b, c, d);
    if (result == -1) {
        result = -errno;
    }
    errno = saved_errno;
    return result;
}

static int open_file(const char *path, int flags) {
    return (int)call(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0600, 0, 0);
}

/* Programs expect the lowest free descriptor from open, and may be started with closed standard streams. */
static int move_high(int fd) {
    static const int lowest[] = {1000, 100, STDERR_FILENO + 1};
    for (size_t i = 0; fd >= 0 && i < sizeof lowest / sizeof lowest[0]; i++) {
        const int high = (int)call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest[i], 0, 0, 0);
        if (high >= 0) {
            moda_os_close(fd);
            return high;
        }
    }
    return fd;
}

int moda_os_create(const char *path) {
    return move_high(open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW));
}

int moda_os_open(const char *path) {
    return open_file(path, O_RDONLY | O_NONBLOCK); /* a pipe that stands there would be waited for */
}

int moda_os_open_memory(void) {
    return moda_os_open("/proc/self/mem");
}

bool moda_os_copy(int memory, void *to, const void *from, size_t bytes) {
    return call(SYS_pread64, memory, (long)to, (long)bytes, (long)from, 0, 0) == (long)bytes;
}

int moda_os_open_for_writing(const char *path) {
    return move_high(open_file(path, O_RDWR | O_NOFOLLOW));
}

void moda_os_close(int fd) {
    call(SYS_close, fd, 0, 0, 0, 0, 0);
}

void moda_os_hold(int fd) {
    call(SYS_flock, fd, LOCK_EX | LOCK_NB, 0, 0, 0, 0);
}

bool moda_os_is_held(int fd) {
    return call(SYS_flock, fd, LOCK_SH | LOCK_NB, 0, 0, 0, 0) == -EWOULDBLOCK;
}

void moda_os_unlink_file(const char *path) {
    struct stat status;
    if (call(SYS_newfstatat, AT_FDCWD, (long)path, (long)&status, AT_SYMLINK_NOFOLLOW, 0, 0) == 0
        && S_ISREG(status.st_mode)) {
        call(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0, 0, 0);
    }
}

bool moda_os_rename(const char *from, const char *to) {
    return call(SYS_renameat2, AT_FDCWD, (long)from, AT_FDCWD, (long)to, 0, 0) == 0;
}

bool moda_os_identify(int fd, moda_os_file_id *id) {
    struct stat status;
    if (call(SYS_fstat, fd, (long)&status, 0, 0, 0, 0) != 0) {
        return false;
    }
    *id = (moda_os_file_id){.device = status.st_dev, .inode = status.st_ino};
    return true;
}

bool moda_os_is_file(int fd, const moda_os_file_id *id) {
    moda_os_file_id now;
    return moda_os_identify(fd, &now) && now.device == id->device && now.inode == id->inode;
}

int moda_os_allocate(int fd, uint64_t from, uint64_t to) {
    long result;
    do {
        result = call_growing(SYS_fallocate, fd, 0, (long)from, (long)(to - from));
    } while (result == -EINTR);
    if (result != -EOPNOTSUPP && result != -ENOSYS) {
        return (int)-result;
    }
    /* File systems that don't know how: zeros take their space as they are written. */
    static const char zeros[4096];
    for (uint64_t offset = from; offset < to; offset += sizeof zeros) {
        const uint64_t left = to - offset;
        if (!moda_os_write_at(fd, zeros, left < sizeof zeros ? (size_t)left : sizeof zeros, offset)) {
            return ENOSPC;
        }
    }
    return 0;
}

long moda_os_read(int fd, void *buffer, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        const long result = call(SYS_read, fd, (long)((char *)buffer + done), (long)(bytes - done), 0, 0, 0);
        if (result == -EINTR) {
            continue;
        }
        if (result < 0) {
            return result;
        }
        if (result == 0) {
            break;
        }
        done += (size_t)result;
    }
    return (long)done;
}

/* offset -1: where the descriptor stands. */
static bool write_all(int fd, const char *bytes, size_t count, int64_t offset) {
    while (count > 0) {
        const long result = offset < 0
                                ? call_growing(SYS_write, fd, (long)bytes, (long)count, 0)
                                : call_growing(SYS_pwrite64, fd, (long)bytes, (long)count, (long)offset);
        if (result == -EINTR) {
            continue;
        }
        if (result <= 0) {
            return false;
        }
        bytes += result;
        count -= (size_t)result;
        offset += offset < 0 ? 0 : result;
    }
    return true;
}

bool moda_os_write(int fd, const void *bytes, size_t count) {
    return write_all(fd, bytes, count, -1);
}

bool moda_os_write_at(int fd, const void *bytes, size_t count, uint64_t offset) {
    return write_all(fd, bytes, count, (int64_t)offset);
}

size_t moda_os_read_file(const char *path, char *buffer, size_t size) {
    const int fd = moda_os_open(path);
    if (fd < 0) {
        return 0;
    }
    const long read = moda_os_read(fd, buffer, size);
    moda_os_close(fd);
    return read > 0 ? (size_t)read : 0;
}

/* ---- time ---- */

static uint64_t clock_ns(clockid_t clock) {
    struct timespec time = {0};
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t moda_os_monotonic_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t moda_os_realtime_ns(void) {
    return clock_ns(CLOCK_REALTIME);
}

/* ---- the process and the thread ---- */

uint32_t moda_os_pid(void) {
    return (uint32_t)call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

uint32_t moda_os_parent_pid(void) {
    return (uint32_t)call(SYS_getppid, 0, 0, 0, 0, 0, 0);
}

uint32_t moda_os_tid(void) {
    return (uint32_t)call(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

bool moda_os_thread_is_gone(uint32_t tid) {
    return call(SYS_tgkill, (long)moda_os_pid(), (long)tid, 0, 0, 0, 0) == -ESRCH;
}

void moda_os_thread_name(char name[16]) {
    name[0] = '\0';
    call(SYS_prctl, PR_GET_NAME, (long)name, 0, 0, 0, 0);
    name[15] = '\0';
}

bool moda_os_is_secure(void) {
    return getauxval(AT_SECURE) != 0;
}

/* Without /proc: as it was called for, perhaps from a directory or by a script. */
static size_t executable_by_call(char *path, size_t size) {
    const char *called = (const char *)getauxval(AT_EXECFN);
    size_t end = 0;
    for (; called != NULL && called[end] != '\0' && end + 1 < size; end++) {
        path[end] = called[end];
    }
    path[end] = '\0';
    return end;
}

size_t moda_os_executable(char *path, size_t size) {
    const long length =
        call(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)path, (long)(size - 1), 0, 0);
    if (length <= 0) {
        return executable_by_call(path, size);
    }
    path[length] = '\0';
    return (size_t)length;
}

size_t moda_os_command_line(char *line, size_t size) {
    size_t end = moda_os_read_file("/proc/self/cmdline", line, size - 1);
    while (end > 0 && line[end - 1] == '\0') {
        end--;
    }
    for (size_t i = 0; i < end; i++) {
        if (line[i] == '\0') {
            line[i] = ' ';
        }
    }
    line[end] = '\0';
    return end;
}

size_t moda_os_working_directory(char *path, size_t size) {
    const long length = call(SYS_getcwd, (long)path, (long)size, 0, 0, 0, 0); /* counts the NUL */
    const size_t end = length > 0 && path[0] == '/' ? (size_t)length - 1 : 0;
    path[end] = '\0';
    return end;
}

/* The decimal number at `text`, behind blanks. */
static uint64_t parse_number(const char *text, const char *end) {
    uint64_t value = 0;
    while (text < end && (*text == ' ' || *text == '\t')) {
        text++;
    }
    for (; text < end && *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (uint64_t)(*text - '0');
    }
    return value;
}

/* The 22nd field of /proc/PID/stat. The second, the name in parentheses, may hold anything. */
uint64_t moda_os_process_start(uint32_t pid) {
    enum { FIELDS_BEHIND_NAME = 20 };
    char path[32] = "/proc/";
    size_t length = strlen(path);
    char digits[10];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + pid % 10);
        pid /= 10;
    } while (pid > 0);
    while (count > 0) {
        path[length++] = digits[--count];
    }
    memcpy(path + length, "/stat", sizeof "/stat");
    char text[1024];
    const char *const end = text + moda_os_read_file(path, text, sizeof text);
    const char *at = end;
    while (at > text && at[-1] != ')') {
        at--;
    }
    for (unsigned fields = 0; at < end && fields < FIELDS_BEHIND_NAME; at++) {
        fields += *at == ' ';
    }
    return parse_number(at, end);
}

uint64_t moda_os_resident_bytes(void) {
    char text[128];
    const char *end = text + moda_os_read_file("/proc/self/statm", text, sizeof text);
    const char *second = text;
    while (second < end && *second != ' ') {
        second++;
    }
    return parse_number(second, end) * moda_os_page_size();
}

uint64_t moda_os_resident_peak_bytes(void) {
    static const char key[] = "\nVmHWM:";
    char text[2048];
    const size_t length = moda_os_read_file("/proc/self/status", text, sizeof text);
    for (size_t i = 0; i + sizeof key <= length; i++) {
        size_t matched = 0;
        while (matched < sizeof key - 1 && text[i + matched] == key[matched]) {
            matched++;
        }
        if (matched == sizeof key - 1) {
            return parse_number(text + i + matched, text + length) * 1024;
        }
    }
    return 0;
}

void moda_os_yield(void) {
    call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

bool moda_os_wait_on(moda_os_wait *wait, uint32_t yields, uint64_t ns) {
    enum { SPINS = 100 };
    if (wait->looks < SPINS) {
        moda_pause();
    } else {
        const uint64_t now = moda_os_monotonic_ns();
        wait->end_ns = wait->looks == SPINS ? now + ns : wait->end_ns;
        if (wait->looks - SPINS >= yields || now >= wait->end_ns) {
            return false;
        }
        moda_os_yield();
    }
    wait->looks++;
    return true;
}

/* ---- signals ---- */

static moda_signal_set signal_bit(int number) {
    return (moda_signal_set)1 << (number - 1);
}

uint64_t moda_os_hold_signals(void) {
    const moda_signal_set faults = signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL)
                                   | signal_bit(SIGFPE) | signal_bit(SIGTRAP) | signal_bit(SIGSYS);
    const moda_signal_set held = ~faults;
    moda_signal_set before = 0;
    call(SYS_rt_sigprocmask, SIG_BLOCK, (long)(intptr_t)&held, (long)(intptr_t)&before, sizeof before, 0, 0);
    return before;
}

void moda_os_let_signals(uint64_t before) {
    call(SYS_rt_sigprocmask, SIG_SETMASK, (long)(intptr_t)&before, 0, sizeof before, 0, 0);
}
