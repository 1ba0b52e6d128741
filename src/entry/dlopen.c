/* SPDX-License-Identifier: MIT
 *
 * dlopen.c - the program's dlopen, without RTLD_DEEPBIND.
 *
 * An object opened with that flag looks for its names in itself and its own libraries first: it finds libc's malloc there,
 * whatever is preloaded, and the program and it free each other's blocks (PHP opens its extensions so). As an object can't
 * be let into our malloc alone, it is opened without the flag, as heaptrack does, too: where the program has a name that
 * the object has as well, the object is given the program's.
 *
 * In the shared library alone. Passed on by a tail call: libc looks at who calls, for its search path.
 */
#define _GNU_SOURCE
#include "mod_alloc.h"

#include "base/compiler.h"

#include <dlfcn.h>

typedef void *dlopen_function(const char *file, int mode);

MODA_EXPORT void *dlopen(const char *file, int mode) {
    static dlopen_function *next;
    dlopen_function *found = moda_load_acquire(&next);
    if (moda_unlikely(!found)) {
        found = (dlopen_function *)dlsym(RTLD_NEXT, "dlopen");
        moda_store_release(&next, found); /* two threads find the same */
    }
    return found(file, mod_alloc_is_active() ? mode & ~RTLD_DEEPBIND : mode);
}
