/* SPDX-License-Identifier: MIT
 *
 * replaced_operators.cpp - a program with an operator new and delete of its own: the plain forms alone, as most have it,
 * with a header in front of each block. All other forms go through them, as the standard says, or our free would get
 * pointers into blocks.
 */
#include <cstdio>
#include <cstdlib>
#include <new>

#include <unistd.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wsized-deallocation" /* that no sized one is here is the point */
#endif

static const std::size_t header = 64;
static long news, deletes, aligned_news, aligned_deletes;

void *operator new(std::size_t size) {
    char *block = static_cast<char *>(std::malloc(size + header));
    if (block == nullptr) {
        throw std::bad_alloc();
    }
    news++;
    return block + header;
}

void operator delete(void *p) noexcept {
    if (p != nullptr) {
        deletes++;
        std::free(static_cast<char *>(p) - header);
    }
}

void *operator new(std::size_t size, std::align_val_t alignment) {
    void *block = std::aligned_alloc(static_cast<std::size_t>(alignment),
                                     (size + header + 63) & ~static_cast<std::size_t>(63));
    if (block == nullptr) {
        throw std::bad_alloc();
    }
    aligned_news++;
    return static_cast<char *>(block) + header;
}

void operator delete(void *p, std::align_val_t) noexcept {
    if (p != nullptr) {
        aligned_deletes++;
        std::free(static_cast<char *>(p) - header);
    }
}

static int failures;
static long before[4];

static void note() {
    before[0] = news;
    before[1] = deletes;
    before[2] = aligned_news;
    before[3] = aligned_deletes;
}

/* One pair, by whatever form: each is seen by the program's own. */
static void one(const char *form, bool is_aligned) {
    const bool plain = news == before[0] + 1 && deletes == before[1] + 1 && aligned_news == before[2]
                       && aligned_deletes == before[3];
    const bool aligned = aligned_news == before[2] + 1 && aligned_deletes == before[3] + 1
                         && news == before[0] && deletes == before[1];
    if (is_aligned ? !aligned : !plain) {
        failures++;
        dprintf(STDERR_FILENO, "%s: %ld new, %ld delete, %ld and %ld aligned\n", form, news - before[0],
                deletes - before[1], aligned_news - before[2], aligned_deletes - before[3]);
    }
    note();
}

int main() {
    const std::align_val_t at64{64};
    note();
    ::operator delete(::operator new(40));
    one("delete", false);
    ::operator delete (::operator new(40), std::size_t{40});
    one("sized delete", false);
    ::operator delete(::operator new(40, std::nothrow), std::nothrow);
    one("nothrow", false);
    ::operator delete[](::operator new[](40));
    one("array", false);
    ::operator delete[](::operator new[](40), std::size_t{40});
    one("sized array", false);
    ::operator delete[](::operator new[](40, std::nothrow), std::nothrow);
    one("nothrow array", false);
    ::operator delete(::operator new(40, at64), at64);
    one("aligned", true);
    ::operator delete (::operator new(40, at64), std::size_t{40}, at64);
    one("sized aligned", true);
    ::operator delete(::operator new(40, at64, std::nothrow), at64, std::nothrow);
    one("nothrow aligned", true);
    ::operator delete[](::operator new[](40, at64), at64);
    one("aligned array", true);
    ::operator delete[](::operator new[](40, at64), std::size_t{40}, at64);
    one("sized aligned array", true);
    ::operator delete[](::operator new[](40, at64, std::nothrow), at64, std::nothrow);
    one("nothrow aligned array", true);
    return failures == 0 ? 0 : 1;
}
