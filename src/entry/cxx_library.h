/* SPDX-License-Identifier: MIT
 *
 * cxx_library.h - what the C++ library (libstdc++, libc++abi) is asked for, where a weak reference does not do: it may have
 * come late, with an object that was opened; and another malloc may have taken its names.
 */
#ifndef MODA_ENTRY_CXX_LIBRARY_H
#define MODA_ENTRY_CXX_LIBRARY_H

#include "base/compiler.h"

/* The C++ library's own function of this name: that of the first object that catches exceptions, in nobody's scope
 * though it may be. NULL: none. Takes the dynamic loader's lock, allocates nothing. */
void *moda_cxx_library_function(const char *name);

/* That object may be closed, after all. */
bool moda_cxx_library_is_there(const void *function);

/* Throws std::bad_alloc, made here: where the library is linked statically, its own function for that is there only if
 * something else needs it. Returns where nothing can be thrown: then nothing catches, either. */
void moda_cxx_throw_bad_alloc_of_ours(void);

#endif
