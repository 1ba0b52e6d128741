/* SPDX-License-Identifier: MIT
 *
 * operators.cpp - all forms of operator new and delete: counted, aligned, sized; on failure the new-handler
 * is run as long as there is one, then std::bad_alloc is thrown, or nullptr given by the nothrow forms.
 */
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mod_alloc.h"

#ifdef WHOLE_PRELOADED
#pragma weak mod_alloc_snapshot
#pragma weak mod_alloc_is_active
#endif

static int failures;

static void check(bool claim, const char *what, long long found = 0, long long expected = 0) {
    if (!claim) {
        failures++;
        dprintf(STDERR_FILENO, "operators.cpp: not so: %s (found %lld, expected %lld)\n", what, found,
                expected);
    }
}

static void equal(const char *what, unsigned long long found, unsigned long long expected) {
    check(found == expected, what, static_cast<long long>(found), static_cast<long long>(expected));
}

static mod_alloc_stats now() {
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    return stats;
}

static volatile std::size_t sizes[] = {0, 1, 24, 100, 1000, 1024, 5000, 200000, 20000000};
static const std::size_t impossible = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;
static volatile std::size_t too_much = impossible;
static volatile std::size_t no_alignments[] = {0, 24, 1000};

/* One allocation and one deallocation, and what they must count. */
template <typename New, typename Delete>
static void pair(const char *what, std::size_t size, std::size_t alignment, New allocate, Delete release) {
    const mod_alloc_stats before = now();
    void *p = allocate();
    const mod_alloc_stats during = now();
    check(p != nullptr && reinterpret_cast<std::uintptr_t>(p) % alignment == 0, what);
    equal(what, during.alloc_count - before.alloc_count, 1);
    const std::uint64_t asked = during.requested_bytes - before.requested_bytes;
    check(asked == size || (size == 0 && asked == 1), what, static_cast<long long>(asked),
          static_cast<long long>(size));
    equal(what, during.live_count - before.live_count, 1);
    const std::uint64_t block = during.total_bytes - before.total_bytes;
    if (alignment <= 16) {
        equal(what, block, malloc_usable_size(p));
    }
    check(block >= size, what, static_cast<long long>(block), static_cast<long long>(size));
    equal(what, during.current_bytes - before.current_bytes, block);
    release(p);
    const mod_alloc_stats after = now();
    equal(what, after.free_count - before.free_count, 1);
    equal(what, after.live_count, before.live_count);
    equal(what, after.current_bytes, before.current_bytes);
}

static void plain_forms() {
    for (const std::size_t size : sizes) {
        pair(
            "new, delete", size, 16, [=] { return ::operator new(size); },
            [](void *p) { ::operator delete(p); });
        pair(
            "new, delete sized", size, 16, [=] { return ::operator new(size); },
            [=](void *p) { ::operator delete(p, size); });
        pair(
            "new[], delete[]", size, 16, [=] { return ::operator new[](size); },
            [](void *p) { ::operator delete[](p); });
        pair(
            "new[], delete[] sized", size, 16, [=] { return ::operator new[](size); },
            [=](void *p) { ::operator delete[](p, size); });
        pair(
            "new nothrow, delete nothrow", size, 16, [=] { return ::operator new(size, std::nothrow); },
            [](void *p) { ::operator delete(p, std::nothrow); });
        pair(
            "new[] nothrow, delete[] nothrow", size, 16, [=] { return ::operator new[](size, std::nothrow); },
            [](void *p) { ::operator delete[](p, std::nothrow); });
    }
}

static void aligned_forms() {
    for (const std::size_t size : sizes) {
        for (std::size_t n = 32; n <= 4096; n *= 2) {
            const std::align_val_t a{n};
            pair(
                "new aligned", size, n, [=] { return ::operator new(size, a); },
                [=](void *p) { ::operator delete(p, a); });
            pair(
                "new aligned, delete sized", size, n, [=] { return ::operator new(size, a); },
                [=](void *p) { ::operator delete(p, size, a); });
            pair(
                "new[] aligned", size, n, [=] { return ::operator new[](size, a); },
                [=](void *p) { ::operator delete[](p, a); });
            pair(
                "new[] aligned, delete[] sized", size, n, [=] { return ::operator new[](size, a); },
                [=](void *p) { ::operator delete[](p, size, a); });
            pair(
                "new aligned nothrow", size, n, [=] { return ::operator new(size, a, std::nothrow); },
                [=](void *p) { ::operator delete(p, a, std::nothrow); });
            pair(
                "new[] aligned nothrow", size, n, [=] { return ::operator new[](size, a, std::nothrow); },
                [=](void *p) { ::operator delete[](p, a, std::nothrow); });
        }
    }
}

static void delete_of_null() {
    const mod_alloc_stats before = now();
    void *volatile null = nullptr;
    const std::align_val_t a{64};
    ::operator delete(null);
    ::operator delete[](null);
    ::operator delete (null, std::size_t{8});
    ::operator delete[](null, std::size_t{8});
    ::operator delete(null, a);
    ::operator delete[](null, std::size_t{8}, a);
    ::operator delete(null, std::nothrow);
    const mod_alloc_stats after = now();
    equal("delete of nullptr counts nothing", after.free_count, before.free_count);
}

template <typename F> static bool throws_bad_alloc(F f) {
    try {
        f();
    } catch (const std::bad_alloc &) {
        return true;
    } catch (...) {
        return false;
    }
    return false;
}

static void failure_throws() {
    const std::align_val_t a{64};
    const std::size_t n = too_much;
    /* The first throw of a process may make tables that stay. */
    check(throws_bad_alloc([=] { return ::operator new(n); }), "new throws bad_alloc, the first time");
    const mod_alloc_stats before = now();
    check(throws_bad_alloc([=] { return ::operator new(n); }), "new throws bad_alloc");
    check(throws_bad_alloc([=] { return ::operator new[](n); }), "new[] throws bad_alloc");
    check(throws_bad_alloc([=] { return ::operator new(n, a); }), "new aligned throws bad_alloc");
    check(throws_bad_alloc([=] { return ::operator new[](n, a); }), "new[] aligned throws bad_alloc");
    check(throws_bad_alloc([=] { return ::operator new(std::numeric_limits<std::size_t>::max()); }),
          "new(SIZE_MAX) throws bad_alloc");
    for (const std::size_t wrong : no_alignments) {
        const std::align_val_t b{wrong};
        check(throws_bad_alloc([=] { return ::operator new(100, b); }), "new aligned to 0, 24, 1000 throws");
        check(::operator new(100, b, std::nothrow) == nullptr, "new nothrow aligned to 0, 24, 1000");
    }
    check(::operator new(n, std::nothrow) == nullptr, "new nothrow gives nullptr");
    check(::operator new[](n, std::nothrow) == nullptr, "new[] nothrow gives nullptr");
    check(::operator new(n, a, std::nothrow) == nullptr, "new aligned nothrow gives nullptr");
    check(::operator new[](n, a, std::nothrow) == nullptr, "new[] aligned nothrow gives nullptr");
    const mod_alloc_stats after = now();
    /* Exceptions are allocated (one block each) and freed again; nothing of the failed calls is left. */
    equal("failed calls: live", after.live_count, before.live_count);
    equal("failed calls: bytes", after.current_bytes, before.current_bytes);
    check(after.requested_bytes - before.requested_bytes < 100000, "failed calls ask for nothing",
          static_cast<long long>(after.requested_bytes - before.requested_bytes), 100000);
}

static int handler_calls;
static void handler_that_gives_up() {
    if (++handler_calls == 3) {
        std::set_new_handler(nullptr);
    }
}
struct given_up {};
static void handler_that_throws() {
    handler_calls++;
    throw given_up{};
}
static void handler_that_throws_bad_alloc() {
    handler_calls++;
    throw std::bad_alloc{};
}

template <typename F> static void handled(const char *what, F f, bool nothrow) {
    handler_calls = 0;
    std::set_new_handler(handler_that_gives_up);
    if (nothrow) {
        void *p = reinterpret_cast<void *>(1);
        check(!throws_bad_alloc([&] { p = f(); }) && p == nullptr, what);
    } else {
        check(throws_bad_alloc(f), what);
    }
    equal(what, static_cast<unsigned long long>(handler_calls), 3);
    check(std::get_new_handler() == nullptr, what);
}

static void the_new_handler() {
    const std::align_val_t a{64};
    const std::size_t n = too_much;
    handled(
        "new runs the handler", [=] { return ::operator new(n); }, false);
    handled(
        "new[] runs the handler", [=] { return ::operator new[](n); }, false);
    handled(
        "new aligned runs the handler", [=] { return ::operator new(n, a); }, false);
    handled(
        "new[] aligned runs the handler", [=] { return ::operator new[](n, a); }, false);
    handled(
        "new nothrow runs the handler", [=] { return ::operator new(n, std::nothrow); }, true);
    handled(
        "new[] nothrow runs the handler", [=] { return ::operator new[](n, std::nothrow); }, true);
    handled(
        "new aligned nothrow runs the handler", [=] { return ::operator new(n, a, std::nothrow); }, true);
    handled(
        "new[] aligned nothrow runs the handler", [=] { return ::operator new[](n, a, std::nothrow); }, true);

    handler_calls = 0;
    std::set_new_handler(handler_that_throws);
    bool caught = false;
    try {
        (void)::operator new(n);
    } catch (const given_up &) {
        caught = true;
    }
    check(caught && handler_calls == 1, "what the handler throws comes out of new", handler_calls, 1);

    handler_calls = 0;
    std::set_new_handler(handler_that_throws_bad_alloc);
    check(::operator new(n, std::nothrow) == nullptr &&handler_calls == 1,
          "new nothrow turns the handler's bad_alloc into nullptr", handler_calls, 1);
    std::set_new_handler(nullptr);
}

/* The handler frees memory: the next try of the same call succeeds. The size cannot change within a call, so
 * the address space is what is short here: a limit that the handler lifts. */
static struct rlimit lifted;
static void handler_that_lifts_the_limit() {
    handler_calls++;
    setrlimit(RLIMIT_AS, &lifted);
}

static void a_handler_that_helps() {
    getrlimit(RLIMIT_AS, &lifted);
    struct rlimit low = lifted;
    low.rlim_cur = 2ull << 30;
    if (setrlimit(RLIMIT_AS, &low) != 0) {
        return;
    }
    handler_calls = 0;
    std::set_new_handler(handler_that_lifts_the_limit);
    void *p = nullptr;
    check(!throws_bad_alloc([&] { p = ::operator new (std::size_t{3} << 30); }), "new tries again");
    check(p != nullptr && handler_calls == 1, "the handler ran once and helped", handler_calls, 1);
    ::operator delete(p);
    std::set_new_handler(nullptr);
    setrlimit(RLIMIT_AS, &lifted);
}

/* new, delete in a mixed program: containers, exceptions, shared pointers, over-aligned types. */
struct alignas(128) wide {
    unsigned char bytes[256];
};

static void containers() {
    const mod_alloc_stats before = now();
    {
        std::map<std::string, std::vector<int>> map;
        for (int i = 0; i < 2000; i++) {
            auto &v = map["a key that is longer than what fits a string " + std::to_string(i)];
            for (int k = 0; k < i % 50; k++) {
                v.push_back(k);
            }
        }
        std::vector<std::unique_ptr<wide>> wides;
        for (int i = 0; i < 500; i++) {
            wides.push_back(std::make_unique<wide>());
            check(reinterpret_cast<std::uintptr_t>(wides.back().get()) % 128 == 0, "alignas(128) type");
        }
        std::vector<std::shared_ptr<wide>> shared(100, std::make_shared<wide>());
        try {
            throw std::runtime_error(std::string(1000, 'x'));
        } catch (const std::exception &e) {
            check(std::string(e.what()).size() == 1000, "exception text");
        }
    }
    const mod_alloc_stats after = now();
    equal("containers: live", after.live_count, before.live_count);
    equal("containers: bytes", after.current_bytes, before.current_bytes);
    check(after.alloc_count - before.alloc_count > 5000, "containers: counted",
          static_cast<long long>(after.alloc_count - before.alloc_count), 5000);
}

int main() {
#ifdef WHOLE_PRELOADED
    if (mod_alloc_is_active == nullptr) {
        dprintf(STDERR_FILENO, "mod-alloc is not in this process\n");
        return 1;
    }
#endif
    check(mod_alloc_is_active() == 1, "mod_alloc_is_active");
    plain_forms();
    aligned_forms();
    delete_of_null();
    failure_throws();
    the_new_handler();
    a_handler_that_helps();
    containers();
    return failures == 0 ? 0 : 1;
}
