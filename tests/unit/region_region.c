/* SPDX-License-Identifier: MIT
 *
 * The region grows, fills, outlives its program, and is its own in a forked child.
 */
#include "region/region.h"

#include "os/os.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)

static char directory[64] = "/tmp/moda-region-XXXXXX";

static void make_directory(void) {
    cr_assert_not_null(mkdtemp(directory));
}

static void remove_directory(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

static const char *in_directory(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static bool create(const char *path, uint64_t memory_max) {
    const moda_region_options options = {
        .path = path,
        .memory_max = memory_max,
        .sample_bytes = 512,
        .seed = 9,
        .short_lived_ns = 100,
        .frames_max = 64,
        .mimalloc_version = "2.0.9",
    };
    return moda_region_create(&options);
}

static int exit_code(pid_t child) {
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* User-mode emulators take any advice on memory, and do nothing. */
static bool reads_advice(void) {
    return madvise(moda_os_map(4096), 4096, 12345) != 0;
}

/* Bytes of memory written and owned by this process alone. Residence as a whole would not do: the kernel maps
 * pages of a library around the one that was asked for, and counts roughly. */
static size_t own_bytes(void) {
    FILE *rollup = fopen("/proc/self/smaps_rollup", "r");
    cr_assert_not_null(rollup);
    char line[256];
    size_t kib = 0;
    bool found = false;
    while (fgets(line, sizeof line, rollup) != NULL) {
        found |= sscanf(line, "Private_Dirty: %zu", &kib) == 1;
    }
    fclose(rollup);
    cr_assert(found);
    return kib * 1024;
}

/* ---- memory ---- */

Test(region, the_header_says_what_it_is) {
    cr_assert(create(NULL, 4 * MIB));
    const moda_region_header *header = moda_region();
    cr_assert_arr_eq(header->magic, MODA_REGION_MAGIC, 8);
    cr_assert_eq(header->version, MODA_REGION_VERSION);
    cr_assert_eq(header->pid, (uint32_t)getpid());
    cr_assert_eq(header->region_base, (uint64_t)(uintptr_t)header);
    cr_assert_eq(header->memory_max, 4 * MIB);
    cr_assert_eq(header->seed, 9);
    cr_assert_str_eq(header->mimalloc_version, "2.0.9");
    cr_assert_str_eq(header->mod_alloc_version, "0.1.0");
    cr_assert_not_null(strstr(header->executable, "unit_region_region"));
    cr_assert_eq(header->flags, 0);
    cr_assert_null(moda_region_path());
}

Test(region, memory_is_zero_aligned_and_has_a_ref) {
    cr_assert(create(NULL, 4 * MIB));
    cr_assert_eq(moda_region_ref(NULL), 0);
    cr_assert_null(moda_region_at(0));
    char *end = (char *)moda_region() + MODA_REGION_FIRST;
    for (size_t size = 1; size < 100000; size = size * 2 + 3) {
        char *memory = moda_region_alloc(size);
        cr_assert_eq(memory, end, "handed out from front to back");
        cr_assert_eq((uintptr_t)memory % MODA_REGION_ALIGN, 0);
        for (size_t i = 0; i < size; i++) {
            cr_assert_eq(memory[i], 0);
        }
        memset(memory, 1, size);
        cr_assert_eq(moda_region_at(moda_region_ref(memory)), memory);
        end = memory + (size + 63) / 64 * 64;
    }
    cr_assert_eq(moda_region()->used, (uint64_t)(end - (char *)moda_region()));
}

Test(region, little_of_it_is_resident_at_first) {
    if (!reads_advice()) {
        cr_skip_test("an emulator takes no advice on huge pages");
    }
    const size_t before = own_bytes();
    cr_assert(create(NULL, 64 * MIB));
    moda_region_alloc(200000);
    cr_assert_eq(moda_os_resident_of(moda_region(), 64 * MIB), moda_os_page_size());
    cr_assert_leq(own_bytes(), before + 256 * 1024, "less than a huge page of any kind");
}

Test(region, it_fills_to_the_last_byte_and_then_gives_nothing) {
    cr_assert(create(NULL, MIB));
    size_t total = MODA_REGION_FIRST;
    char *memory;
    while ((memory = moda_region_alloc(960)) != NULL) {
        memory[959] = 1;
        total += 960;
    }
    cr_assert_gt(total + 960, MIB);
    while (total + 64 <= MIB) {
        cr_assert_not_null(moda_region_alloc(64));
        total += 64;
    }
    cr_assert_null(moda_region_alloc(1));
    cr_assert_null(moda_region_alloc(SIZE_MAX));
    cr_assert_null(moda_region_alloc(SIZE_MAX - 62));
    cr_assert_eq(moda_region()->dropped_disk, 0);
}

Test(region, what_is_for_speed_takes_half_at_most) {
    cr_assert(create(NULL, MIB));
    while (moda_region_alloc_for_speed(60000) != NULL) {
    }
    cr_assert_leq(moda_region()->used, MODA_REGION_FIRST + MIB / 2);
    cr_assert_lt(moda_region_left_for_speed(), 60000);
    while (moda_region_alloc(1000) != NULL) {
    }
    cr_assert_gt(moda_region()->used, MIB - 1024, "the rest is the others'");
    cr_assert_gt(moda_region_left_for_speed(), 1000);
    cr_assert_null(moda_region_alloc_for_speed(1000));
}

#define THREADS 4
#define TURNS 20000

static void *take_memory(void *owner) {
    const unsigned char mine = *(const unsigned char *)owner;
    unsigned char **taken = calloc(TURNS, sizeof *taken);
    for (size_t i = 0; i < TURNS; i++) {
        taken[i] = moda_region_alloc(1 + i % 300);
        memset(taken[i], mine, 1 + i % 300);
    }
    uintptr_t wrong = 0;
    for (size_t i = 0; i < TURNS; i++) {
        wrong += taken[i][0] != mine || taken[i][i % 300] != mine;
    }
    free(taken);
    return (void *)wrong;
}

Test(region, threads_never_get_the_same_memory) {
    cr_assert(create(NULL, 64 * MIB));
    pthread_t threads[THREADS];
    static unsigned char names[THREADS] = {1, 2, 3, 4};
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, take_memory, &names[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        cr_assert_null(wrong);
    }
}

Test(region, it_takes_less_where_address_space_is_short) {
#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("AddressSanitizer needs the address space itself");
#endif
    const struct rlimit limit = {.rlim_cur = 1024 * MIB, .rlim_max = 1024 * MIB};
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    if (moda_os_reserve(2048 * MIB) != NULL) {
        cr_skip_test("the system does not keep to the limit");
    }
    cr_assert(create(NULL, 4096 * MIB));
    cr_assert_eq(moda_region()->memory_max, 56 * MIB); /* the rest is the program's */
    cr_assert_not_null(moda_region_alloc(100000));
    while (moda_region_alloc(100000) != NULL) {
    }
    cr_assert_not_null(moda_region_alloc_for_slots(7 * MIB));
    cr_assert_null(moda_region_alloc_for_slots(2 * MIB));
    cr_assert_null(moda_region_alloc(100000));
}

Test(region, slots_find_room_where_nothing_else_does) {
    enum { SLOTS = 32768 };
    cr_assert(create(NULL, 2 * MIB));
    char *last = NULL, *memory;
    while ((memory = moda_region_alloc(960)) != NULL) {
        last = memory;
    }
    cr_assert_leq(last + 960, (char *)moda_region() + 2 * MIB);
    for (int i = 0; i < SLOTS / 32; i++) {
        memory = moda_region_alloc_for_slots(32 * sizeof(moda_shard));
        cr_assert(memory != NULL && moda_region_has(memory + 32 * sizeof(moda_shard) - 1), "at block %d", i);
        memset(memory, 1, 32 * sizeof(moda_shard));
        cr_assert_eq(moda_region_at(moda_region_ref(memory)), memory);
    }
    cr_assert_null(moda_region_alloc(64));
    cr_assert_null(moda_region_alloc_for_slots(32 * sizeof(moda_shard)));
    cr_assert_null(moda_region_alloc_for_slots(SIZE_MAX));
    cr_assert_leq(moda_region()->used, moda_region()->committed);
}

/* ---- paths ---- */

Test(region, patterns_are_expanded) {
    static const struct {
        const char *pattern;
        uint32_t fork_count;
        const char *path;
    } rows[] = {
        {"/a/b.prof", 0, "/a/b.prof"},
        {"%p", 0, "123"},
        {"x.%e.%p.%n.prof", 7, "x.sqlite3.123.7.prof"},
        {"%t-%%p", 0, "1700000000.012345-%p"},
        {"%z%", 0, "%z%"},
        {"", 0, ""},
        /* a forked child's */
        {"b.prof", 1, "b.prof.123"},
        {"%e%%p.%n", 2, "sqlite3%p.2"},
        {"%t", 1, "1700000000.012345"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[64];
        cr_assert(moda_region_expand_path(rows[i].pattern, "/usr/bin/sqlite3", 123, rows[i].fork_count,
                                          1700000000012345678u, path, sizeof path));
        cr_assert_str_eq(path, rows[i].path);
    }
    char unnamed[32];
    cr_assert(moda_region_expand_path("np.%e.prof", "", 1, 0, 0, unnamed, sizeof unnamed));
    cr_assert_str_eq(unnamed, "np.unknown.prof");
    char small[8];
    cr_assert_not(moda_region_expand_path("1234567%p", "x", 1, 0, 0, small, sizeof small));
    cr_assert_str_eq(small, "1234567");
    cr_assert(moda_region_expand_path("123456%p", "x", 1, 0, 0, small, sizeof small));
}

/* ---- files ---- */

static void read_header(const char *path, moda_region_header *header) {
    const int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(read(fd, header, sizeof *header), (ssize_t)sizeof *header);
    close(fd);
}

Test(region_file, it_is_whole_after_a_kill, .init = make_directory, .fini = remove_directory) {
    const pid_t child = fork();
    if (child == 0) {
        if (!create(in_directory("killed"), 8 * MIB)) {
            _exit(1);
        }
        char *memory = moda_region_alloc(3 * MIB);
        memset(memory, 'x', 3 * MIB);
        kill(getpid(), SIGKILL);
    }
    cr_assert_eq(exit_code(child), -SIGKILL);
    moda_region_header header;
    read_header(in_directory("killed"), &header);
    cr_assert_arr_eq(header.magic, MODA_REGION_MAGIC, 8);
    cr_assert_eq(header.pid, (uint32_t)child);
    cr_assert_eq(header.flags, MODA_REGION_FILE);
    cr_assert_eq(header.used, MODA_REGION_FIRST + 3 * MIB);
    struct stat status;
    cr_assert_eq(stat(in_directory("killed"), &status), 0);
    cr_assert_eq((uint64_t)status.st_size, header.committed);
    cr_assert_eq(status.st_mode & 0777, 0600);
    const int fd = open(in_directory("killed"), O_RDONLY);
    char last = 0;
    cr_assert_eq(pread(fd, &last, 1, (off_t)header.used - 1), 1);
    cr_assert_eq(last, 'x');
    close(fd);
}

Test(region_file, a_good_end_is_marked, .init = make_directory, .fini = remove_directory) {
    cr_assert(create(in_directory("ended"), 8 * MIB));
    cr_assert_str_eq(moda_region_path(), in_directory("ended"));
    usleep(1000);
    moda_region_finish(3);
    moda_region_header header;
    read_header(in_directory("ended"), &header);
    cr_assert_eq(header.flags, MODA_REGION_FILE | MODA_REGION_CLEAN_EXIT);
    cr_assert_eq(header.exit_status, 3);
    cr_assert_eq(header.clock_seq % 2, 0);
    cr_assert_geq(header.latest_monotonic_ns, header.start_monotonic_ns + 1000000);
    cr_assert_gt(header.latest_ticks, header.start_ticks);
    cr_assert_gt(header.resident_bytes, 0);
    cr_assert_geq(header.resident_peak_bytes, header.resident_bytes * 9 / 10);
    cr_assert_gt(header.region_resident_bytes, 0);
}

Test(region_file, an_older_file_is_replaced_not_written, .init = make_directory, .fini = remove_directory) {
    char older[128];
    strcpy(older, in_directory("profile"));
    FILE *file = fopen(older, "w");
    fputs("older", file);
    fflush(file);
    cr_assert(create(older, 4 * MIB));
    struct stat before;
    struct stat now;
    fstat(fileno(file), &before);
    stat(older, &now);
    cr_assert_neq(before.st_ino, now.st_ino);
    cr_assert_eq(before.st_size, 5);
    fclose(file);
}

Test(region_file, a_link_is_not_followed, .init = make_directory, .fini = remove_directory) {
    char target[128];
    strcpy(target, in_directory("target"));
    FILE *file = fopen(target, "w");
    fclose(file);
    cr_assert_eq(symlink(target, in_directory("link")), 0);
    cr_assert(create(in_directory("link"), 4 * MIB), "memory takes its place");
    cr_assert_null(moda_region_path());
    cr_assert_eq(moda_region()->flags, 0);
    struct stat status;
    stat(target, &status);
    cr_assert_eq(status.st_size, 0);
    cr_assert_not_null(moda_region_alloc(100000));
}

Test(region_file, a_path_that_cannot_be_is_told_in_one_line, .init = make_directory,
     .fini = remove_directory) {
    char text[256] = "";
    const int capture = open(in_directory("stderr"), O_RDWR | O_CREAT, 0600);
    const int saved = dup(2);
    dup2(capture, 2);
    const bool is_created = create("/there/is/no/such/directory/x", 4 * MIB);
    dup2(saved, 2);
    cr_assert(is_created);
    cr_assert_gt(pread(capture, text, sizeof text - 1, 0), 0);
    cr_assert_str_eq(text, "mod-alloc: profile file /there/is/no/such/directory/x: no such directory;"
                           " the profile is kept in memory only\n");
    cr_assert_not_null(moda_region_alloc(MIB));
}

Test(region_file, it_grows_though_the_program_closed_every_descriptor, .init = make_directory,
     .fini = remove_directory) {
    const pid_t child = fork();
    if (child == 0) {
        if (!create(in_directory("closed"), 8 * MIB)) {
            _exit(1);
        }
        for (int fd = 3; fd < 2000; fd++) {
            close(fd);
        }
        /* The number is another file's now: that one must not grow. */
        const int other = open(in_directory("other"), O_RDWR | O_CREAT, 0600);
        dup2(other, 1000);
        if (chdir("/") != 0) {
            _exit(2);
        }
        char *memory = moda_region_alloc(2 * MIB);
        if (memory == NULL) {
            _exit(3);
        }
        memset(memory, 1, 2 * MIB);
        struct stat status;
        _exit(fstat(other, &status) != 0 || status.st_size != 0);
    }
    cr_assert_eq(exit_code(child), 0);
}

Test(region_file, a_full_disk_is_a_drop, .init = make_directory, .fini = remove_directory) {
    if (mount("none", directory, "tmpfs", 0, "size=1M") != 0) {
        cr_skip_test("a small file system can be mounted by root only: %s", strerror(errno));
    }
    const pid_t child = fork();
    if (child == 0) {
        if (!create(in_directory("full"), 64 * MIB)) {
            _exit(1);
        }
        size_t given = 0;
        char *memory;
        while ((memory = moda_region_alloc(1000)) != NULL) {
            memset(memory, 1, 1000); /* SIGBUS, were it not on disk */
            given += 1000;
        }
        if (given < MIB / 2 || moda_region()->dropped_disk != 1) {
            _exit(2);
        }
        moda_region_alloc(1000);
        _exit(moda_region()->dropped_disk == 2 ? 0 : 3);
    }
    const int code = exit_code(child);
    umount(directory);
    cr_assert_eq(code, 0);
}

Test(region_file, a_disk_full_from_the_start_means_memory, .init = make_directory, .fini = remove_directory) {
    if (mount("none", directory, "tmpfs", 0, "size=32K") != 0) {
        cr_skip_test("a small file system can be mounted by root only: %s", strerror(errno));
    }
    const bool is_created = create(in_directory("full"), 64 * MIB);
    const bool has_file = moda_region_path() != NULL;
    const bool is_left = access(in_directory("full"), F_OK) == 0;
    char *memory = moda_region_alloc(MIB);
    memset(memory, 1, MIB);
    umount(directory);
    cr_assert(is_created);
    cr_assert_not(has_file);
    cr_assert_not(is_left);
}

/* ---- fork ---- */

Test(region_fork, a_child_in_memory_has_its_own_copy) {
    cr_assert(create(NULL, 4 * MIB));
    char *memory = moda_region_alloc(100);
    memory[0] = 1;
    cr_assert_not(moda_region_forked_unseen());
    const bool is_seen = reads_advice();
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) {
        const bool was_unseen = moda_region_forked_unseen();
        const bool is_done = moda_region_fork_child();
        const moda_region_header *header = moda_region();
        memory[0]++;
        _exit(was_unseen == is_seen && is_done && !moda_region_forked_unseen() && memory[0] == 2
                      && header->pid == (uint32_t)getpid() && header->parent_pid == (uint32_t)parent
                      && header->flags == MODA_REGION_FORKED && header->fork_count == 1
                  ? 0
                  : 1);
    }
    cr_assert_eq(exit_code(child), 0);
    cr_assert_eq(memory[0], 1);
    cr_assert_not(moda_region_forked_unseen());
}

Test(region_fork, a_raw_clone_is_seen) {
    if (!reads_advice()) {
        cr_skip_test("an emulator wipes no pages on fork");
    }
    cr_assert(create(NULL, 4 * MIB));
    const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        const bool was_unseen = moda_region_forked_unseen();
        moda_region_fork_child();
        syscall(SYS_exit_group, was_unseen && !moda_region_forked_unseen() ? 0 : 1);
    }
    cr_assert_eq(exit_code(child), 0);
}

static void check_child_file(const char *pattern, bool has_same_name) {
    cr_assert(create(in_directory(pattern), 8 * MIB));
    char parents[256];
    strcpy(parents, moda_region_path());
    char *memory = moda_region_alloc(MIB);
    memset(memory, 'p', MIB);
    const pid_t child = fork();
    if (child == 0) {
        const bool is_done = moda_region_fork_child();
        memory[0] = 'c';
        char *more = moda_region_alloc(2 * MIB);
        if (!is_done || moda_region_path() == NULL || strcmp(moda_region_path(), parents) == 0
            || more == NULL) {
            _exit(1);
        }
        memset(more, 'c', 2 * MIB);
        moda_region_fork_done();
        moda_region_finish(0);
        _exit(memory[MIB - 1] == 'p' ? 0 : 2);
    }
    cr_assert_eq(exit_code(child), 0);
    cr_assert_eq(memory[0], 'p');
    cr_assert_eq(moda_region()->used, MODA_REGION_FIRST + MIB);
    char name[300];
    if (has_same_name) {
        snprintf(name, sizeof name, "%s.%d", parents, (int)child);
    } else {
        snprintf(name, sizeof name, "%s/%d.%d", directory, (int)child, 1);
    }
    moda_region_header header;
    read_header(name, &header);
    cr_assert_arr_eq(header.magic, MODA_REGION_MAGIC, 8);
    cr_assert_eq(header.pid, (uint32_t)child);
    cr_assert_eq(header.parent_pid, (uint32_t)getpid());
    cr_assert_eq(header.fork_count, 1);
    cr_assert_eq(header.flags, MODA_REGION_FILE | MODA_REGION_FORKED | MODA_REGION_CLEAN_EXIT);
    cr_assert_eq(header.used, MODA_REGION_FIRST + 3 * MIB);
    read_header(parents, &header);
    cr_assert_eq(header.pid, (uint32_t)getpid());
    cr_assert_eq(header.fork_count, 0);
}

/* It had its parent's header once, and was taken for a profile of the parent. */
Test(region_fork, a_child_killed_before_its_copy_is_done_leaves_no_profile, .init = make_directory,
     .fini = remove_directory) {
    if (!reads_advice()) {
        cr_skip_test(
            "an emulator shows a process to itself otherwise than to others: who lives cannot be known");
    }
    cr_assert(create(in_directory("prof.%n"), 8 * MIB));
    memset(moda_region_alloc(MIB), 'p', MIB);
    int ready[2];
    cr_assert_eq(pipe(ready), 0);
    const pid_t killed = fork();
    if (killed == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* it goes with us, where a claim below does not hold */
        const char is_done = moda_region_fork_child();
        _exit(write(ready[1], &is_done, 1) == 1 && pause());
    }
    char is_done = 0;
    cr_assert_eq(read(ready[0], &is_done, 1), 1);
    cr_assert(is_done);
    moda_region_header header;
    read_header(in_directory("prof.1"), &header);
    cr_assert(moda_region_is_unfinished(&header));
    cr_assert_eq(header.pid, (uint32_t)killed);
    /* While that one lives, it is not taken from it. */
    const pid_t sibling = fork();
    if (sibling == 0) {
        const char is_own =
            moda_region_fork_child()
            && strncmp(moda_region_path(), in_directory("prof.1."), strlen(directory) + 8) == 0;
        moda_region_fork_done();
        _exit(is_own ? 0 : 1);
    }
    cr_assert_eq(exit_code(sibling), 0);
    read_header(in_directory("prof.1"), &header);
    cr_assert_eq(header.pid, (uint32_t)killed);
    kill(killed, SIGKILL);
    cr_assert_eq(exit_code(killed), -SIGKILL);
    /* Then it is. */
    const pid_t later = fork();
    if (later == 0) {
        const char is_own =
            moda_region_fork_child() && strcmp(moda_region_path(), in_directory("prof.1")) == 0;
        moda_region_fork_done();
        _exit(is_own ? 0 : 1);
    }
    cr_assert_eq(exit_code(later), 0);
    read_header(in_directory("prof.1"), &header);
    cr_assert_arr_eq(header.magic, MODA_REGION_MAGIC, 8);
    cr_assert_eq(header.pid, (uint32_t)later);
}

Test(region_fork, a_child_gets_a_file_by_the_pattern, .init = make_directory, .fini = remove_directory) {
    check_child_file("%p.%n", false);
}

Test(region_fork, a_child_never_takes_its_parents_file, .init = make_directory, .fini = remove_directory) {
    check_child_file("plain", true);
}

Test(region_fork, a_child_without_a_file_has_memory, .init = make_directory, .fini = remove_directory) {
    cr_assert(create(in_directory("%p"), 8 * MIB));
    char *memory = moda_region_alloc(MIB);
    memory[MIB - 1] = 'p';
    remove_directory();
    const pid_t child = fork();
    if (child == 0) {
        close(2);
        const bool is_done = moda_region_fork_child();
        memory[0] = 'c';
        _exit(is_done && moda_region_path() == NULL && memory[MIB - 1] == 'p'
                      && (moda_region()->flags & MODA_REGION_FILE) == 0 && moda_region_alloc(2 * MIB) != NULL
                  ? 0
                  : 1);
    }
    cr_assert_eq(exit_code(child), 0);
    cr_assert_eq(memory[0], 0);
    cr_assert_eq(mkdir(directory, 0700), 0);
}

/* The parent goes on before its child makes a copy: what it writes and takes meanwhile is not the child's. */
static bool is_as_it_was(const char *memory, const char *later, uint64_t used) {
    const moda_region_header *header = moda_region();
    const bool is_zero = header->committed < used + 64 || later[0] == 0;
    return memory[0] == 'b' && memory[MIB - 1] == 'b' && header->used == used && is_zero
           && header->fork_count == 1;
}

static bool is_in_memory(void) {
    return (moda_region()->flags & MODA_REGION_FILE) == 0 && moda_region_path() == NULL;
}

/* Address space: so much of what there is, in percent, and so many bytes more. */
static bool limit_address_space(unsigned long percent, rlim_t more) {
    char text[64] = "";
    const int fd = open("/proc/self/statm", O_RDONLY);
    const bool is_read = read(fd, text, sizeof text - 1) > 0;
    close(fd);
    const rlim_t bytes = strtoul(text, NULL, 10) * moda_os_page_size() / 100 * percent + more;
    const struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    return is_read && setrlimit(RLIMIT_AS, &limit) == 0;
}

static void skip_where_address_space_has_no_limit(void) {
#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("AddressSanitizer needs the address space itself");
#endif
    struct rlimit before;
    cr_assert_eq(getrlimit(RLIMIT_AS, &before), 0);
    cr_assert(limit_address_space(50, 0));
    void *memory = moda_os_reserve(64 * MIB);
    cr_assert_eq(setrlimit(RLIMIT_AS, &before), 0);
    if (memory != NULL) {
        cr_skip_test("the system does not keep to the limit");
    }
}

/* The parent's; in a child that has begun, `where` says what is to be so there. */
typedef enum place { IN_A_FILE, IN_MEMORY, BELOW_THE_LIMIT, IN_PLACE } place;

static bool is_where(place where) {
    switch (where) {
    case IN_A_FILE: return !is_in_memory();
    case IN_MEMORY:
    case BELOW_THE_LIMIT: return is_in_memory() && moda_region_alloc(2 * MIB) != NULL;
    default: return is_in_memory() && moda_region_alloc(2 * MIB) == NULL;
    }
}

static void check_late_copy(place where) {
    cr_assert(create(in_directory("%p"), 8 * MIB));
    char *memory = moda_region_alloc(MIB);
    memset(memory, 'b', MIB);
    const uint64_t used = moda_region()->used;
    int gone_on[2];
    cr_assert_eq(pipe(gone_on), 0);
    if (where == IN_MEMORY || where == IN_PLACE) {
        remove_directory();
    }
    moda_region_fork_prepare();
    const pid_t child = fork();
    if (child == 0) {
        char byte;
        close(2);
        if (read(gone_on[0], &byte, 1) != 1) {
            _exit(2);
        }
        if ((where == IN_PLACE && !limit_address_space(100, 0))
            || (where == BELOW_THE_LIMIT && !limit_address_space(50, 0))) {
            _exit(3);
        }
        const bool is_done = moda_region_fork_child();
        _exit(is_done && is_as_it_was(memory, (char *)moda_region() + used, used) && is_where(where) ? 0 : 1);
    }
    moda_region_fork_parent();
    memset(memory, 'a', MIB);
    memset(moda_region_alloc(64), 'a', 64);
    cr_assert_eq(write(gone_on[1], "", 1), 1);
    cr_assert_eq(exit_code(child), 0);
    cr_assert_eq(memory[0], 'a');
    cr_assert_eq(moda_region()->used, used + 64);
    cr_assert_eq(moda_region()->fork_count, 0);
    if (where == IN_MEMORY || where == IN_PLACE) {
        cr_assert_eq(mkdir(directory, 0700), 0);
    }
}

Test(region_fork, a_file_copied_late_is_as_it_was, .init = make_directory, .fini = remove_directory) {
    check_late_copy(IN_A_FILE);
}

Test(region_fork, memory_copied_late_is_as_it_was, .init = make_directory, .fini = remove_directory) {
    check_late_copy(IN_MEMORY);
}

Test(region_fork, a_limit_below_what_there_is_leaves_a_child_memory_of_its_own, .init = make_directory,
     .fini = remove_directory) {
    skip_where_address_space_has_no_limit();
    check_late_copy(BELOW_THE_LIMIT);
}

Test(region_fork, a_late_copy_in_place_is_as_it_was, .init = make_directory, .fini = remove_directory) {
    skip_where_address_space_has_no_limit();
    cr_assert(limit_address_space(100, 400 * MIB)); /* from the beginning: none is kept for an image */
    check_late_copy(IN_PLACE);
}

/* The limit was there from the beginning, and no handler has run: no image, and no room for one. */
Test(region_fork, a_copy_without_an_image_is_made_in_place, .init = make_directory,
     .fini = remove_directory) {
    skip_where_address_space_has_no_limit();
    cr_assert(limit_address_space(100, 400 * MIB));
    cr_assert(create(in_directory("%p"), 8 * MIB));
    char *memory = moda_region_alloc(MIB);
    memset(memory, 'b', MIB);
    const uint64_t used = moda_region()->used;
    const pid_t child = fork();
    if (child == 0) {
        close(2);
        if (!limit_address_space(100, 0)) {
            _exit(3);
        }
        const bool is_done = moda_region_fork_child();
        memory[1] = 'c';
        _exit(is_done && is_as_it_was(memory, (char *)moda_region() + used, used) && is_where(IN_PLACE) ? 0
                                                                                                        : 1);
    }
    cr_assert_eq(exit_code(child), 0);
    cr_assert_eq(memory[1], 'b');
}

static bool has_at(const char *memory, size_t bytes, size_t step, char value) {
    for (size_t i = 0; i < bytes; i++) {
        if (memory[i] != (i % step == 0 ? value : 0)) {
            return false;
        }
    }
    return true;
}

static void set_at(char *memory, size_t bytes, size_t step, char value) {
    for (size_t i = 0; i < bytes; i += step) {
        memory[i] = value;
    }
}

/* Only what is not zero is copied and written: also where a region is so large that several pages are taken together. */
static void check_sparse(size_t bytes, size_t step) {
    cr_assert(create(in_directory("%p"), 128 * MIB));
    char *memory = moda_region_alloc(bytes);
    static const char values[] = {1, 0}; /* also what has become zero since the last fork */
    for (size_t i = 0; i < sizeof values; i++) {
        const char value = values[i];
        set_at(memory, bytes, step, value);
        moda_region_fork_prepare();
        const pid_t child = fork();
        if (child == 0) {
            struct stat status;
            const bool is_done = moda_region_fork_child();
            const bool is_there = stat(moda_region_path(), &status) == 0
                                  && (uint64_t)status.st_size >= moda_region()->used
                                  && (uint64_t)status.st_size == moda_region()->committed;
            const bool is_same = has_at(memory, bytes, step, value);
            memset(memory, 2, bytes); /* there is disk space for what was zero */
            _exit(is_done && is_there && is_same ? 0 : 1);
        }
        moda_region_fork_parent();
        cr_assert_eq(exit_code(child), 0, "with %d in it", value);
    }
}

Test(region_fork, what_is_zero_stays_zero, .init = make_directory, .fini = remove_directory) {
    check_sparse(MIB, 30000);
}

Test(region_fork, what_is_zero_stays_zero_in_a_large_region, .init = make_directory,
     .fini = remove_directory) {
    check_sparse(40 * MIB, 3000000);
}

/* A thread of the parent takes memory for its slot while the copy is made: the slot's next thread, in the child, must not
 * believe that it has it. */
Test(region_fork, links_to_memory_behind_the_copy_are_cut, .init = make_directory, .fini = remove_directory) {
    cr_assert(create(in_directory("%p"), 8 * MIB));
    moda_shard_block *block = moda_region_alloc(sizeof *block + 2 * sizeof block->shard[0]);
    block->count = 2;
    moda_region()->shard_blocks = moda_region_ref(block);
    const moda_ref inside = moda_region_ref(moda_region_alloc(64));
    const moda_ref behind = (moda_ref)(moda_region()->used / MODA_REF_UNIT);
    moda_shard *shard = block->shard;
    shard[0].scratch = shard[0].memo = shard[0].deltas = inside;
    shard[1].scratch = shard[1].memo = shard[1].deltas = behind;
    const pid_t child = fork();
    if (child == 0) {
        _exit(moda_region_fork_child() && shard[0].scratch == inside && shard[0].memo == inside
                      && shard[0].deltas == inside && shard[1].scratch == 0 && shard[1].memo == 0
                      && shard[1].deltas == 0
                  ? 0
                  : 1);
    }
    cr_assert_eq(exit_code(child), 0);
}
