/* SPDX-License-Identifier: MIT
 *
 * windows.cpp - mod_alloc.hpp: windows and scoped assertions give the numbers known in advance.
 */
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define MOD_ALLOC_ASSERT_FAIL(file, line, message) throw std::runtime_error(message)
#include "mod_alloc.hpp"

static int failures;
static void *volatile sink;

/* The compiler may leave out a new and its delete where nobody sees the block. */
static void new_and_delete(std::size_t size = 4) {
    char *const block = new char[size];
    sink = block;
    delete[] block;
}

static void expect(bool holds, const char *what, int line) {
    if (!holds) {
        std::fprintf(stderr, "windows.cpp:%d: %s\n", line, what);
        failures++;
    }
}
#define EXPECT(condition) expect(condition, #condition, __LINE__)

static void a_thread_window_counts_this_thread() {
    mod_alloc::thread_window window;
    std::vector<int> ints(16); /* 64 bytes */
    auto *kept = new long(3);
    sink = kept;
    ints.assign(8, 1);
    const mod_alloc::figures f = window.stop();
    EXPECT(f.alloc_count == 2);
    EXPECT(f.free_count == 0);
    EXPECT(f.requested_bytes == 64 + sizeof(long));
    EXPECT(f.net_count == 2);
    EXPECT(f.net_bytes == static_cast<std::int64_t>(f.total_bytes));
    delete kept;
    EXPECT(window.stop().alloc_count == 2); /* stopped: the same again */
}

static void a_window_counts_all_threads() {
    mod_alloc::window process;
    mod_alloc::thread_window mine;
    std::thread other([] {
        for (int i = 0; i < 1000; i++) {
            new_and_delete(100);
        }
    });
    other.join();
    const mod_alloc::figures here = mine.stop(), all = process.stop();
    EXPECT(all.alloc_count >= here.alloc_count + 1000);
    EXPECT(here.alloc_count < 100);
    EXPECT(all.peak_bytes > 0);
}

static void growth_has_a_sign() {
    auto block = std::make_unique<char[]>(5000);
    mod_alloc::thread_window window;
    block.reset();
    const mod_alloc::figures f = window.stop();
    EXPECT(f.net_count == -1);
    EXPECT(f.net_bytes <= -5000);
    EXPECT(f.current_bytes == 0);
}

static void assertions_end_with_their_scope() {
    bool has_thrown = false;
    try {
        mod_alloc::scoped_assertion none(mod_alloc::allocations, "==", 0);
        new_and_delete();
    } catch (const std::runtime_error &error) {
        has_thrown = std::string(error.what()).find("1 allocations; wanted == 0") != std::string::npos;
    }
    EXPECT(has_thrown);
    {
        mod_alloc::scoped_assertion few(mod_alloc::allocations, "<=", 1);
        mod_alloc::scoped_assertion small(mod_alloc::peak_bytes, "<=", 64);
        mod_alloc::scoped_assertion level(mod_alloc::any_growth, "==", 0);
        new_and_delete();
    }
    MOD_ALLOC_ASSERT_ALLOCS(==, 1) {
        new_and_delete();
    }
}

static void snapshots_agree_with_the_c_calls() {
    const mod_alloc_stats before = mod_alloc::thread_snapshot();
    new_and_delete();
    const mod_alloc_stats after = mod_alloc::thread_snapshot();
    EXPECT(after.alloc_count == before.alloc_count + 1);
    EXPECT(mod_alloc::snapshot().alloc_count >= after.alloc_count);
}

int main() {
    if (!mod_alloc::is_active()) {
        std::fputs("malloc is not mod-alloc's\n", stderr);
        return 1;
    }
    a_thread_window_counts_this_thread();
    a_window_counts_all_threads();
    growth_has_a_sign();
    assertions_end_with_their_scope();
    snapshots_agree_with_the_c_calls();
    return failures ? 1 : 0;
}
