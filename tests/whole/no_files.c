/* SPDX-License-Identifier: MIT
 *
 * no_files.c - without a profile malloc opens no file, once it has begun, however long the program runs: a sandbox may end
 * a process for it. The process ends at its first open, while it allocates and its threads look after their memory.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "region/layout.h"
#include "whole.h"

#ifdef WHOLE_PRELOADED
#pragma weak mod_alloc_region
#endif

enum { LOOKS = 3, BLOCKS = 1000 };

static bool forbid(uint32_t number) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
           && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int main(void) {
    whole_begin();
    if (!WHOLE_HAS(mod_alloc_region)) {
        return WHOLE_SKIP;
    }
    const moda_region_header *header = mod_alloc_region(NULL);
    NEED(header != NULL, "no region");
    if (!forbid(SYS_openat)) {
        return WHOLE_SKIP;
    }
    uint64_t seen = __atomic_load_n(&header->latest_monotonic_ns, __ATOMIC_RELAXED);
    for (int looks = 0; looks < LOOKS;) {
        static void *block[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            block[i] = malloc(i * 10);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            free(block[i]);
        }
        const uint64_t now = __atomic_load_n(&header->latest_monotonic_ns, __ATOMIC_RELAXED);
        looks += now != seen;
        seen = now;
    }
    return whole_end();
}
