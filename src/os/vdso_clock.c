/* SPDX-License-Identifier: MIT
 *
 * vdso_clock.c - clock_gettime, as the kernel gives it to each process; in this library's object alone.
 *
 * Libraries that are preloaded stand in for libc's (libfaketime): theirs looks up the next one, which allocates, and we are
 * asked in the middle of malloc, first of all while it is being set up. So the name is hidden here, and what mimalloc's text
 * calls is this, too. The kernel's function is looked up in the ELF image that it maps (vdso(7)), once; where there is none
 * it is a system call. Allocates nothing, keeps errno, any thread.
 */
#define _GNU_SOURCE
#include "base/compiler.h"

#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int clock_function(clockid_t, struct timespec *);

MODA_HIDDEN clock_function clock_gettime;

static int by_call(clockid_t clock, struct timespec *time) {
    const int saved_errno = errno;
    const long result = syscall(SYS_clock_gettime, clock, time);
    errno = saved_errno;
    return (int)result;
}

/* The dynamic section's addresses are as linked, from 0 on, or moved already: the image is far from 0. */
static const void *at(uintptr_t image, uintptr_t address) {
    return (const void *)(address < image ? image + address : address);
}

/* One more than the highest symbol that the table leads to; 0: it is empty. */
static uint32_t symbols_of_gnu_hash(const uint32_t *hash) {
    const uint32_t buckets = hash[0], first = hash[1], words = hash[2] * (sizeof(ElfW(Addr)) / sizeof *hash);
    const uint32_t *bucket = hash + 4 + words, *chain = bucket + buckets;
    uint32_t last = 0;
    for (uint32_t i = 0; i < buckets; i++) {
        last = bucket[i] > last ? bucket[i] : last;
    }
    if (last < first) {
        return 0;
    }
    while (!(chain[last - first] & 1)) {
        last++;
    }
    return last + 1;
}

static MODA_COLD clock_function *find(void) {
    const uintptr_t image = getauxval(AT_SYSINFO_EHDR);
    if (!image) {
        return by_call;
    }
    const ElfW(Ehdr) *header = (const void *)image;
    const ElfW(Phdr) *segment = at(image, header->e_phoff);
    const ElfW(Dyn) *dynamic = NULL;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (segment[i].p_type == PT_DYNAMIC) {
            dynamic = at(image, segment[i].p_offset);
        }
    }
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    uint32_t count = 0;
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        const void *table = at(image, dynamic->d_un.d_ptr);
        switch (dynamic->d_tag) {
        case DT_SYMTAB: symbols = table; break;
        case DT_STRTAB: names = table; break;
        case DT_HASH: count = ((const uint32_t *)table)[1]; break;
        case DT_GNU_HASH: count = count ? count : symbols_of_gnu_hash(table); break;
        default: break;
        }
    }
    for (uint32_t i = 0; symbols && names && i < count; i++) {
        const char *name = names + symbols[i].st_name;
        if (symbols[i].st_shndx != SHN_UNDEF
            && (strcmp(name, "__vdso_clock_gettime") == 0 || strcmp(name, "__kernel_clock_gettime") == 0)) {
            return (clock_function *)at(image, symbols[i].st_value);
        }
    }
    return by_call;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static clock_function *found;
    clock_function *function = moda_load_relaxed(&found);
    if (moda_unlikely(!function)) {
        function = find();
        moda_store_relaxed(&found, function); /* two threads find the same */
    }
    return function(clock, time);
}
