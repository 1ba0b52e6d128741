/* SPDX-License-Identifier: MIT
 *
 * sandbox.c - a program that gives up all system calls but those for memory, time and files (as a service does that lists
 * what it needs) ends as it would without us, also where a profile is written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(name)                                                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(void) {
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(mmap),
        ALLOW(munmap),
        ALLOW(mprotect),
        ALLOW(madvise),
        ALLOW(brk),
        ALLOW(futex),
        ALLOW(clock_gettime),
        ALLOW(openat),
        ALLOW(read),
        ALLOW(pread64),
        ALLOW(write),
        ALLOW(close),
        ALLOW(fcntl),
        ALLOW(fstat),
        ALLOW(newfstatat),
        ALLOW(fallocate),
        ALLOW(prlimit64),
        ALLOW(getpid),
        ALLOW(exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    free(malloc(100)); /* mimalloc asks for the number of NUMA nodes at its first segment */
    const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        return 77; /* no such thing here */
    }
    static void *blocks[1000];
    for (int i = 0; i < 20000; i++) {
        free(blocks[i % 1000]);
        blocks[i % 1000] = malloc((size_t)(i % 20) * 1000 + 1);
    }
    return 0;
}
