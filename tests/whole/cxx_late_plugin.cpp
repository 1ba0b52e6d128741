// SPDX-License-Identifier: MIT
//
// cxx_late_plugin.cpp - what cxx_late.c opens: it brings the C++ library with it, and tells how operator new fails.
#include <limits>
#include <new>

static volatile std::size_t too_much =
    static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) - 4096;
static int handler_calls;

static void give_up_at_third() {
    if (++handler_calls == 3) {
        std::set_new_handler(nullptr);
    }
}

template <typename F> static bool throws(F f) {
    try {
        f();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

// 0, or the number of what went wrong first.
extern "C" int plugin_try() {
    const std::align_val_t a{64};
    if (!throws([] { ::operator delete(::operator new(too_much)); })) {
        return 1;
    }
    if (!throws([=] { ::operator delete(::operator new(too_much, a), a); })) {
        return 2;
    }
    handler_calls = 0;
    std::set_new_handler(give_up_at_third);
    if (!throws([] { ::operator delete[](::operator new[](too_much)); }) || handler_calls != 3) {
        return 3;
    }
    handler_calls = 0;
    std::set_new_handler(give_up_at_third);
    if (::operator new(too_much, std::nothrow) != nullptr || handler_calls != 3) {
        return 4;
    }
    std::set_new_handler([] { throw std::bad_alloc{}; });
    if (::operator new[](too_much, a, std::nothrow) != nullptr) {
        return 5;
    }
    std::set_new_handler(nullptr);
    int *const p = new (std::nothrow) int[100]();
    const bool is_there = p != nullptr;
    delete[] p;
    return is_there ? 0 : 6;
}
