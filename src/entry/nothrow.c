/* SPDX-License-Identifier: MIT
 *
 * nothrow.c - the nothrow forms of operator new: the C++ library's own, by whatever name comes first.
 *
 * The C++ library's call the throwing forms, which are ours (or the program's own), and catch what comes, which C cannot.
 * They would be called without us, if it were not for programs that bring a malloc of their own (tcmalloc, jemalloc,
 * mimalloc): of its names ours come first, and its nothrow forms would give its blocks to our operator delete. So these
 * stand in front, in the shared library alone, and pass on to the C++ library's. In libmod_alloc.a they would keep those
 * from being linked.
 */
#include "base/compiler.h"
#include "entry/cxx_library.h"
#include "hot/caller.h"

#include <stdlib.h>

typedef void *new_form(size_t size, const void *nothrow);
typedef void *new_aligned_form(size_t size, size_t alignment, const void *nothrow);

static void *look_up(void **known, const char *name) {
    void *form = moda_load_acquire(known);
    if (moda_unlikely(!form || !moda_cxx_library_is_there(form))) {
        form = moda_cxx_library_function(name);
        moda_store_release(known, form); /* two threads find the same */
    }
    return form;
}

#define LOOK_UP(name)                                                                                        \
    static void *known;                                                                                      \
    void *const form = look_up(&known, #name)

/* By a tail call, so that no frame of ours stands in the program's stacks. Without a C++ library to catch with, new cannot
 * have been replaced by one that throws. */
#define NEW_NOTHROW(name)                                                                                    \
    MODA_ENTRY void *name(size_t size, const void *nothrow);                                                 \
    void *name(size_t size, const void *nothrow) {                                                           \
        LOOK_UP(name);                                                                                       \
        return form ? ((new_form *)form)(size, nothrow) : malloc(size);                                      \
    }
#define NEW_ALIGNED_NOTHROW(name)                                                                            \
    MODA_ENTRY void *name(size_t size, size_t alignment, const void *nothrow);                               \
    void *name(size_t size, size_t alignment, const void *nothrow) {                                         \
        LOOK_UP(name);                                                                                       \
        return form ? ((new_aligned_form *)form)(size, alignment, nothrow) : aligned_alloc(alignment, size); \
    }

NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)
