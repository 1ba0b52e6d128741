/* SPDX-License-Identifier: MIT
 *
 * by_name.c - members of the malloc family that are another member with an argument worked out.
 *
 * They call that one by its name, so that it is the same malloc's that has the name in this process. Many mallocs that
 * programs bring have none of these: a block of ours from reallocarray would end in their free. Tail calls, so that the
 * caller stays the program.
 */
#include "base/compiler.h"
#include "hot/caller.h"
#include "os/os.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

MODA_ENTRY void *__libc_pvalloc(size_t size);
MODA_ENTRY void free_sized(void *p, size_t size);
MODA_ENTRY void free_aligned_sized(void *p, size_t alignment, size_t size);
MODA_ENTRY void cfree(void *p);

static void *fail_no_memory(void) {
    errno = ENOMEM;
    return NULL;
}

MODA_ENTRY void *reallocarray(void *p, size_t count, size_t size) {
    size_t total;
    if (moda_unlikely(__builtin_mul_overflow(count, size, &total))) {
        return fail_no_memory();
    }
    return realloc(p, total);
}

MODA_ENTRY void *pvalloc(size_t size) {
    const size_t page = moda_os_page_size();
    if (moda_unlikely(size > SIZE_MAX - page)) {
        return fail_no_memory();
    }
    return memalign(page, (size + page - 1) & ~(page - 1));
}

void *__libc_pvalloc(size_t size) {
    return pvalloc(size);
}

/* C23. The size is believed by nobody: blocks know their own. */
void free_sized(void *p, size_t size) {
    (void)size;
    free(p);
}

void free_aligned_sized(void *p, size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    free(p);
}

void cfree(void *p) {
    free(p);
}
