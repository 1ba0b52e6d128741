/* SPDX-License-Identifier: MIT
 *
 * mod_alloc.hpp - windows and assertions of mod-alloc for C++17, tied to scopes.
 *
 *   mod_alloc::thread_window window;      // from here on ...
 *   work();
 *   mod_alloc::figures f = window.stop(); // ... until here
 *   f.alloc_count, f.peak_bytes, f.net_bytes ...
 *
 *   mod_alloc::scoped_assertion no_more_than(mod_alloc::allocations, "<=", 3);
 *
 * Units, threads and exactness are those of mod_alloc.h, which is all that stands behind this header.
 */
#ifndef MOD_ALLOC_HPP
#define MOD_ALLOC_HPP

#include <cstdint>

#include "mod_alloc.h"
/* Windows belong into programs, too: these are not to sample every allocation for the sake of scoped_assertion's
 * message. A test that wants its call sites includes mod_alloc_assert.h before, or sets MOD_ALLOC_SAMPLE=1. */
#ifndef MOD_ALLOC_ASSERT_SITES
#define MOD_ALLOC_ASSERT_SITES 0
#endif
#include "mod_alloc_assert.h"

namespace mod_alloc {

/* What happened in a window: the counters, and the growth with its sign. */
struct figures : mod_alloc_stats {
    std::int64_t net_bytes = 0;
    std::int64_t net_count = 0;
};

inline mod_alloc_stats snapshot() {
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    return stats;
}

inline mod_alloc_stats thread_snapshot() {
    mod_alloc_stats stats;
    mod_alloc_thread_snapshot(&stats);
    return stats;
}

inline bool is_active() {
    return mod_alloc_is_active() != 0;
}

/* A window that begins where it is constructed and ends with stop() or its scope, whichever is first. It
 * cannot be copied or moved: the library knows it by its address. */
template <void (*Start)(mod_alloc_profiler *), void (*Stop)(mod_alloc_profiler *, mod_alloc_stats *)>
class basic_window {
  public:
    basic_window() {
        Start(&profiler_);
    }

    ~basic_window() {
        if (is_open_) {
            Stop(&profiler_, nullptr);
        }
    }

    basic_window(const basic_window &) = delete;
    basic_window &operator=(const basic_window &) = delete;

    /* Ends the window. A second call gives the same figures again. */
    const figures &stop() {
        if (is_open_) {
            Stop(&profiler_, &figures_);
            figures_.net_bytes = profiler_.net_bytes;
            figures_.net_count = profiler_.net_count;
            is_open_ = false;
        }
        return figures_;
    }

  private:
    mod_alloc_profiler profiler_;
    figures figures_{};
    bool is_open_ = true;
};

/* The whole process. */
using window = basic_window<mod_alloc_profiler_start, mod_alloc_profiler_stop>;
/* The thread that constructs it, and must also end it. */
using thread_window = basic_window<mod_alloc_thread_profiler_start, mod_alloc_thread_profiler_stop>;

inline constexpr mod_alloc_asserted allocations = MOD_ALLOC_ASSERTED_ALLOCS;
inline constexpr mod_alloc_asserted frees = MOD_ALLOC_ASSERTED_FREES;
inline constexpr mod_alloc_asserted total_bytes = MOD_ALLOC_ASSERTED_TOTAL;
inline constexpr mod_alloc_asserted peak_bytes = MOD_ALLOC_ASSERTED_PEAK;
inline constexpr mod_alloc_asserted growth = MOD_ALLOC_ASSERTED_GROWTH;
inline constexpr mod_alloc_asserted any_growth = MOD_ALLOC_ASSERTED_NO_GROWTH;

/* Checked where its scope ends, on the thread it was made on; fails as mod_alloc_assert.h says. `what` is one of
 * the above, `comparison` one of == != < <= > >=. */
class scoped_assertion {
  public:
    scoped_assertion(mod_alloc_asserted what, const char *comparison, std::int64_t wanted,
                     const char *file = __builtin_FILE(), int line = __builtin_LINE())
        : scope_(mod_alloc_assert_begin(what, comparison, wanted, unit_of(what), file, line)) {
        mod_alloc_assert_start(&scope_);
    }

    /* What fails may leave by an exception or a jump of the test framework. */
    ~scoped_assertion() noexcept(false) {
        mod_alloc_assert_end(&scope_);
    }

    scoped_assertion(const scoped_assertion &) = delete;
    scoped_assertion &operator=(const scoped_assertion &) = delete;

  private:
    static const char *unit_of(mod_alloc_asserted what) {
        switch (what) {
        case MOD_ALLOC_ASSERTED_ALLOCS: return "allocations";
        case MOD_ALLOC_ASSERTED_FREES: return "frees";
        case MOD_ALLOC_ASSERTED_TOTAL: return "bytes allocated";
        case MOD_ALLOC_ASSERTED_PEAK: return "bytes at peak";
        case MOD_ALLOC_ASSERTED_GROWTH: return "bytes of growth";
        case MOD_ALLOC_ASSERTED_NO_GROWTH: return "blocks or bytes of growth";
        }
        return "";
    }

    mod_alloc_assert_scope scope_;
};

} // namespace mod_alloc

#endif
