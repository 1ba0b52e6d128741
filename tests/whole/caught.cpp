/* SPDX-License-Identifier: MIT
 *
 * caught.cpp - std::bad_alloc of operator new, caught in a program that has nothing else of the C++ library: linked
 * statically, that leaves out what throws it, and its type too, unless it is named (-DCAUGHT=bad_alloc).
 */
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "mod_alloc.h"

#ifdef WHOLE_PRELOADED
#pragma weak mod_alloc_is_active
#endif
#ifndef CAUGHT
#define CAUGHT exception
#endif

static volatile std::size_t too_much = PTRDIFF_MAX - 4096;
static int failures;

static void check(bool claim, const char *what) {
    if (!claim) {
        failures++;
        std::fprintf(stderr, "caught.cpp: not so: %s\n", what);
    }
}

int main() {
    check(mod_alloc_is_active() == 1, "mod_alloc_is_active");
    for (int i = 0; i < 3; i++) {
        bool is_caught = false;
        try {
            (void)::operator new(too_much);
        } catch (const std::CAUGHT &e) {
            is_caught = std::strcmp(e.what(), "std::bad_alloc") == 0;
        }
        check(is_caught, "new throws std::bad_alloc, an exception that says what it is");
        is_caught = false;
        try {
            (void)::operator new[](too_much, std::align_val_t{64});
        } catch (...) {
            is_caught = true;
        }
        check(is_caught, "new[] aligned throws");
        check(::operator new(too_much, std::nothrow) == nullptr, "new nothrow gives nullptr");
    }
    return failures == 0 ? 0 : 1;
}
