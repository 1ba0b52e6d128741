/* SPDX-License-Identifier: MIT
 *
 * loader.h - the file of the dynamic loader that has begun this process; NULL in a fully static program.
 */
#ifndef MODA_TESTS_LOADER_H
#define MODA_TESTS_LOADER_H

#include <link.h>
#include <stddef.h>
#include <sys/auxv.h>

static inline int find_loader(struct dl_phdr_info *object, size_t size, void *name) {
    (void)size;
    if (object->dlpi_addr != getauxval(AT_BASE)) {
        return 0;
    }
    *(const char **)name = object->dlpi_name;
    return 1;
}

static inline const char *loader_of_process(void) {
    const char *loader = NULL;
    dl_iterate_phdr(find_loader, &loader);
    return loader;
}

#endif
