// SPDX-License-Identifier: MIT
//
// own_malloc.cpp - a C++ program with another malloc in a shared library, as many programs have tcmalloc, jemalloc or
// mimalloc: that one replaces operator new and delete, too, in forms that ours leaves to the C++ library. Whichever malloc
// comes first, all forms must be of one of them: each block ends where it came from. std::stable_sort takes its memory by
// new (std::nothrow).
//
// own_malloc [theirs]: malloc and operator new are the other's.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include <mimalloc.h>
#include <unistd.h>

#include "mod_alloc.h"

#ifdef WHOLE_PRELOADED
#pragma weak mod_alloc_snapshot
#pragma weak mod_alloc_is_active
#endif

static int failures;
static bool is_theirs;

static void check(bool claim, const char *what) {
    if (!claim) {
        failures++;
        dprintf(STDERR_FILENO, "own_malloc.cpp: not so: %s\n", what);
    }
}

static mod_alloc_stats now() {
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    return stats;
}

// One block by one form of new and of delete: of the malloc that is in use, and counted if that is ours.
template <typename New, typename Delete> static void pair(const char *what, New allocate, Delete release) {
    const mod_alloc_stats before = now();
    void *p = allocate();
    check(p != nullptr, what);
    std::memset(p, 1, 300);
    check(mi_is_in_heap_region(p) == is_theirs, what);
    const mod_alloc_stats during = now();
    release(p);
    const mod_alloc_stats after = now();
    const std::uint64_t one = is_theirs ? 0 : 1;
    check(during.alloc_count - before.alloc_count == one && after.free_count - before.free_count == one,
          what);
    check(after.live_count == before.live_count && after.current_bytes == before.current_bytes, what);
}

static void forms() {
    const std::align_val_t a{128};
    pair(
        "new, delete", [] { return ::operator new(300); }, [](void *p) { ::operator delete(p); });
    pair(
        "new[], delete[]", [] { return ::operator new[](300); },
        [](void *p) { ::operator delete[](p, std::size_t{300}); });
    pair(
        "new nothrow", [] { return ::operator new(300, std::nothrow); },
        [](void *p) { ::operator delete(p); });
    pair(
        "new[] nothrow", [] { return ::operator new[](300, std::nothrow); },
        [](void *p) { ::operator delete[](p); });
    pair(
        "new aligned", [=] { return ::operator new(300, a); },
        [=](void *p) { ::operator delete (p, std::size_t{300}, a); });
    pair(
        "new aligned nothrow", [=] { return ::operator new(300, a, std::nothrow); },
        [=](void *p) { ::operator delete(p, a); });
    pair(
        "new[] aligned nothrow", [=] { return ::operator new[](300, a, std::nothrow); },
        [=](void *p) { ::operator delete[](p, a); });
}

static volatile std::size_t too_much =
    static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) - 4096;

static void failures_of_nothrow() {
    check(::operator new(too_much, std::nothrow) == nullptr, "new nothrow of too much");
    check(::operator new[](too_much, std::align_val_t{64}, std::nothrow) == nullptr,
          "new[] aligned nothrow of too much");
}

int main(int count, char **) {
    is_theirs = count > 1;
#ifdef WHOLE_PRELOADED
    if (mod_alloc_is_active == nullptr) {
        dprintf(STDERR_FILENO, "mod-alloc is not in this process\n");
        return 1;
    }
#endif
    check(mod_alloc_is_active() == (is_theirs ? 0 : 1), "mod_alloc_is_active");
    for (int i = 0; i < 100; i++) {
        forms();
    }
    std::vector<int> numbers(10000);
    std::iota(numbers.rbegin(), numbers.rend(), 0);
    std::stable_sort(numbers.begin(), numbers.end());
    check(numbers.front() == 0 && numbers.back() == 9999, "std::stable_sort");
    if (!is_theirs) { // mimalloc's own write about it on stderr
        failures_of_nothrow();
    }
    return failures == 0 ? 0 : 1;
}
