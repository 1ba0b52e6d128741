/* SPDX-License-Identifier: MIT
 *
 * What the system is asked for, it gives; errno stays as it was.
 */
#include "os/os.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

Test(os_linux, reserved_space_can_be_used_once_committed) {
    const size_t page = moda_os_page_size();
    char *space = moda_os_reserve(100 * page);
    cr_assert_not_null(space);
    cr_assert(moda_os_commit(space, 10 * page));
    cr_assert_eq(space[10 * page - 1], 0);
    space[10 * page - 1] = 1;
    cr_assert(moda_os_commit(space, 20 * page));
    cr_assert_eq(space[10 * page - 1], 1);
    cr_assert_eq(moda_os_resident_of(space, 20 * page), page);
    moda_os_unmap(space, 100 * page);
}

Test(os_linux, reserved_space_is_no_memory_yet, .signal = SIGSEGV) {
    volatile char *space = moda_os_reserve(4096);
    space[0] = 1;
}

Test(os_linux, what_cannot_be_had_is_null_and_errno_is_kept) {
    errno = 1234;
    cr_assert_null(moda_os_reserve((size_t)1 << 62));
    cr_assert_null(moda_os_map((size_t)1 << 62));
    cr_assert_eq(moda_os_open("/there/is/no/such/file"), -ENOENT);
    cr_assert_eq(moda_os_create("/there/is/no/such/directory"), -ENOENT);
    cr_assert_eq(errno, 1234);
}

Test(os_linux, a_moved_page_keeps_its_bytes) {
    const size_t page = moda_os_page_size();
    char *from = moda_os_map(page);
    char *to = moda_os_map(page);
    from[7] = 7;
    cr_assert(moda_os_move(from, page, to));
    cr_assert_eq(to[7], 7);
}

Test(os_linux, a_page_is_wiped_in_a_child_only) {
    char *mark = moda_os_map(4096);
    if (madvise(mark, 4096, 12345) == 0) {
        cr_skip_test("an emulator takes any advice, and wipes nothing");
    }
    cr_assert(moda_os_wipe_on_fork(mark, 4096));
    mark[0] = 1;
    const pid_t child = fork();
    if (child == 0) {
        _exit(mark[0]);
    }
    int status;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);
    cr_assert_eq(mark[0], 1);
}

Test(os_linux, files_are_made_anew_only_with_high_numbers_and_0600) {
    char path[] = "/tmp/moda-os-XXXXXX";
    cr_assert_not_null(mkdtemp(path));
    char file[64];
    char link[64];
    snprintf(file, sizeof file, "%s/file", path);
    snprintf(link, sizeof link, "%s/link", path);
    const int fd = moda_os_create(file);
    cr_assert_geq(fd, 100);
    cr_assert_eq(moda_os_create(file), -EEXIST);
    struct stat status;
    fstat(fd, &status);
    cr_assert_eq(status.st_mode & 0777, 0600);
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    cr_assert_eq(moda_os_allocate(fd, 0, 65536), 0);
    fstat(fd, &status);
    cr_assert_eq(status.st_size, 65536);
    cr_assert_geq(status.st_blocks * 512, 65536);
    cr_assert(moda_os_write_at(fd, "hello", 5, 65534));
    char text[8] = "";
    const int other = moda_os_open(file);
    lseek(other, 65534, SEEK_SET);
    cr_assert_eq(moda_os_read(other, text, sizeof text), 5);
    cr_assert_str_eq(text, "hello");
    moda_os_file_id a;
    moda_os_file_id b;
    cr_assert(moda_os_identify(fd, &a) && moda_os_identify(other, &b));
    cr_assert(a.device == b.device && a.inode == b.inode);
    cr_assert_not(moda_os_identify(9999, &a));

    cr_assert_eq(symlink(file, link), 0);
    cr_assert_eq(moda_os_open_for_writing(link), -ELOOP);
    moda_os_unlink_file(link);
    cr_assert_eq(access(link, F_OK), 0, "links are left alone");
    moda_os_unlink_file(path);
    cr_assert_eq(access(path, F_OK), 0, "directories too");
    moda_os_unlink_file(file);
    cr_assert_neq(access(file, F_OK), 0);
    unlink(link);
    rmdir(path);
}

/* SIGXFSZ, whose default kills, comes of no call of ours; that of the program stays. */
Test(os_linux, a_file_does_not_grow_past_the_limit_and_no_signal_comes) {
    char path[] = "/tmp/moda-os-XXXXXX";
    const int fd = mkstemp(path);
    unlink(path);
    const struct rlimit limit = {.rlim_cur = 100000, .rlim_max = RLIM_INFINITY};
    const pid_t child = fork();
    if (child == 0) {
        sigset_t file_size;
        sigset_t pending;
        sigemptyset(&file_size);
        sigaddset(&file_size, SIGXFSZ);
        setrlimit(RLIMIT_FSIZE, &limit);
        static char text[60000];
        int failed = moda_os_allocate(fd, 0, 65536) != 0;
        failed |= (moda_os_allocate(fd, 65536, 131072) != EFBIG) << 1;
        failed |= moda_os_write_at(fd, text, sizeof text, 65536) << 2;
        failed |= (lseek(fd, 0, SEEK_END) != 100000 || moda_os_write(fd, text, 1)) << 3;
        sigpending(&pending);
        failed |= sigismember(&pending, SIGXFSZ) << 4;
        sigprocmask(SIG_BLOCK, &file_size, NULL);
        failed |= (write(fd, text, 1) != -1 || moda_os_write(fd, text, 1)) << 5;
        sigpending(&pending);
        failed |= !sigismember(&pending, SIGXFSZ) << 6;
        _exit(failed);
    }
    int status = -1;
    waitpid(child, &status, 0);
    close(fd);
    cr_assert_eq(status, 0);
}

static void *note_tid(void *tid) {
    *(uint32_t *)tid = moda_os_tid();
    return NULL;
}

Test(os_linux, a_thread_that_ended_is_gone) {
    cr_assert_eq(moda_os_tid(), (uint32_t)getpid());
    cr_assert_eq(moda_os_pid(), (uint32_t)getpid());
    cr_assert_eq(moda_os_parent_pid(), (uint32_t)getppid());
    cr_assert_not(moda_os_thread_is_gone(moda_os_tid()));
    uint32_t tid;
    pthread_t thread;
    pthread_create(&thread, NULL, note_tid, &tid);
    pthread_join(thread, NULL);
    cr_assert_neq(tid, moda_os_tid());
    /* join returns when the kernel has cleared the thread's id word, just before the id goes. */
    for (int i = 0; i < 1000 && !moda_os_thread_is_gone(tid); i++) {
        usleep(1000);
    }
    cr_assert(moda_os_thread_is_gone(tid));
}

Test(os_linux, texts_are_cut_to_size) {
    char name[16];
    prctl(PR_SET_NAME, "a name of more than fifteen", 0, 0, 0);
    moda_os_thread_name(name);
    cr_assert_str_eq(name, "a name of more ");
    char path[512];
    const size_t length = moda_os_executable(path, sizeof path);
    cr_assert_eq(length, strlen(path));
    cr_assert_not_null(strstr(path, "unit_os_linux"));
    char cut[5];
    cr_assert_eq(moda_os_executable(cut, sizeof cut), 4);
    cr_assert_eq(strncmp(cut, path, 4), 0);
    cr_assert_eq(cut[4], '\0');
    char line[4096];
    cr_assert_eq(moda_os_command_line(line, sizeof line), strlen(line));
    FILE *file = fopen("/proc/self/cmdline", "r");
    char words[4096];
    const size_t words_length = fread(words, 1, sizeof words, file);
    cr_assert_gt(words_length, 1);
    fclose(file);
    for (size_t i = 0; i + 1 < words_length; i++) { /* NUL between the words and behind the last */
        cr_assert_eq(line[i], words[i] == '\0' ? ' ' : words[i]);
    }
    char directory[4096];
    char *expected = getcwd(NULL, 0);
    moda_os_working_directory(directory, sizeof directory);
    cr_assert_str_eq(directory, expected);
    free(expected);
}

static bool hide_proc(void) {
    return (unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0)
           && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
           && mount("none", "/proc", "tmpfs", 0, NULL) == 0;
}

Test(os_linux, without_proc_the_executable_is_what_exec_was_given) {
    const pid_t child = fork();
    if (child == 0) {
        if (!hide_proc()) {
            _exit(77);
        }
        char path[512];
        char cut[5];
        int failed = moda_os_executable(path, sizeof path) != strlen(path);
        failed |= (strstr(path, "unit_os_linux") == NULL) << 1;
        failed |= (moda_os_executable(cut, sizeof cut) != 4 || strncmp(cut, path, 4) != 0 || cut[4] != '\0')
                  << 2;
        _exit(failed);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        cr_skip_test("no file system can be mounted here");
    }
    cr_assert_eq(status, 0);
}

/* Leaves the stack below full of what the line is searched for. */
static __attribute__((noinline)) void leave_parentheses(void) {
    char text[16384];
    memset(text, ')', sizeof text);
    __asm__ volatile("" : : "r"(text) : "memory");
}

/* It was once: and a process that had no start then was taken for one that had ended. */
Test(os_linux, what_lies_behind_the_line_is_not_searched_for_a_processes_name) {
    const uint64_t mine = moda_os_process_start(moda_os_pid());
    leave_parentheses();
    cr_assert_eq(moda_os_process_start(moda_os_pid()), mine);
}

Test(os_linux, a_process_is_named_by_pid_and_start) {
    const uint64_t mine = moda_os_process_start(moda_os_pid());
    cr_assert_gt(mine, 0);
    cr_assert_eq(moda_os_process_start(moda_os_pid()), mine);
    cr_assert_eq(moda_os_process_start(0x7FFFFFFF), 0, "there is none");
    const uint32_t parent = moda_os_pid();
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NAME, ") 1 (2 3)"); /* stands in the same line */
        usleep(30000);                   /* the clock's tick is 10 ms */
        const pid_t younger = fork();
        if (younger == 0) {
            _exit(moda_os_process_start(moda_os_pid()) > moda_os_process_start(parent) ? 0 : 1);
        }
        int status = -1;
        waitpid(younger, &status, 0);
        _exit(status == 0 && moda_os_process_start(parent) == mine
                      && moda_os_process_start(moda_os_pid()) >= mine
                  ? 0
                  : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);
    cr_assert_eq(moda_os_process_start((uint32_t)child), 0, "it has ended");
}

Test(os_linux, resident_memory_grows_where_it_is_touched) {
    enum { SIZE = 32 << 20 };
    const uint64_t before = moda_os_resident_bytes();
    cr_assert_gt(before, 100000);
    char *memory = moda_os_map(SIZE);
    memset(memory, 1, SIZE);
    cr_assert_geq(moda_os_resident_bytes(), before + SIZE * 9 / 10);
    moda_os_unmap(memory, SIZE);
    cr_assert_leq(moda_os_resident_bytes(), before + SIZE / 2);
    cr_assert_geq(moda_os_resident_peak_bytes(), before + SIZE * 9 / 10);
}

Test(os_linux, clocks_run) {
    const uint64_t monotonic = moda_os_monotonic_ns();
    const uint64_t ticks = moda_ticks();
    cr_assert_gt(moda_os_realtime_ns(), UINT64_C(1700000000) * 1000000000u);
    usleep(2000);
    cr_assert_geq(moda_os_monotonic_ns(), monotonic + 2000000);
    cr_assert_gt(moda_ticks(), ticks);
}

Test(os_linux, a_wait_ends_after_so_many_looks_or_so_much_time) {
    moda_os_wait wait = {0};
    unsigned looks = 0;
    while (moda_os_wait_on(&wait, 50, UINT64_MAX / 4)) {
        looks++;
    }
    cr_assert_gt(looks, 50);
    cr_assert_lt(looks, 1000);
    wait = (moda_os_wait){0};
    const uint64_t begin = moda_os_monotonic_ns();
    while (moda_os_wait_on(&wait, UINT32_MAX, 2000000)) {
    }
    cr_assert_geq(moda_os_monotonic_ns() - begin, 2000000);
}

Test(os_linux, what_is_not_there_is_not_copied) {
    const char text[] = "some bytes";
    char copy[sizeof text] = "";
    const int memory = moda_os_open_memory();
    if (memory < 0) {
        cr_skip("no /proc/self/mem here");
    }
    cr_assert(moda_os_copy(memory, copy, text, sizeof text));
    cr_assert_str_eq(copy, text);
    char *gone = moda_os_map(4096);
    cr_assert(moda_os_copy(memory, copy, gone, sizeof text));
    moda_os_unmap(gone, 4096);
    cr_assert(!moda_os_copy(memory, copy, gone, sizeof text));
    moda_os_close(memory);
}
