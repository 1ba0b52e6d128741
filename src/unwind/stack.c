/* SPDX-License-Identifier: MIT
 *
 * stack.c - which words of a stack a walk may read. See stack.h.
 *
 * Probing: rt_sigprocmask with an impossible `how` copies 8 bytes from the address first and fails with
 * EFAULT where they can't be read, with EINVAL where they can; it changes nothing. 0.17 us; mincore and
 * process_vm_readv take eight times as long, and mincore says yes to a guard page. Where `how` is looked at
 * first (qemu's user mode), a futex wait that does not wait tells the same.
 */
#include "unwind/stack.h"

#include <pthread.h>
#include <time.h>

static const uintptr_t page_mask = ~(uintptr_t)(MODA_PAGE_BYTES - 1);
static const uintptr_t main_stack_bytes = (uintptr_t)128 << 20; /* the least gap that Linux leaves below it */
static const uintptr_t own_pages_max = (uintptr_t)1 << 18;      /* probed in one walk: 1 GiB, 45 ms */

/* Of ld.so: the main thread's stack pointer at the start of the program. */
extern void *__libc_stack_end MODA_WEAK;

static bool probe_by_mask(uintptr_t page) {
    const long no_such_how = -1, set_bytes = 8, efault = 14;
    return moda_raw_syscall(MODA_SYS_SIGPROCMASK, no_such_how, (long)page, 0, set_bytes) != -efault;
}

static bool probe_by_futex(uintptr_t page) {
    static const struct timespec no_time = {0, 0};
    const long wait_private = 128, efault = 14;
    return moda_raw_syscall(MODA_SYS_FUTEX, (long)page, wait_private, 0, (long)&no_time) != -efault;
}

bool moda_stack_page_is_readable(uintptr_t address) {
    enum { UNKNOWN, BY_MASK, BY_FUTEX };
    static uint32_t way;
    uint32_t known = moda_load_relaxed(&way);
    if (known
        == UNKNOWN) { /* nothing is mapped near 0 (which itself means "no set"): a way that says otherwise is none */
        known = probe_by_mask(8) ? BY_FUTEX : BY_MASK;
        moda_store_relaxed(&way, known);
    }
    return known == BY_MASK ? probe_by_mask((address & page_mask) + 8) : probe_by_futex(address & page_mask);
}

bool moda_stack_page_was_readable(uintptr_t address) {
    enum { REMEMBERED = 256 };
    static uintptr_t pages[REMEMBERED];
    const uintptr_t page = address & page_mask;
    uintptr_t *remembered = &pages[page / MODA_PAGE_BYTES % REMEMBERED];
    if (moda_load_relaxed(remembered) == page) {
        return true;
    }
    if (!moda_stack_page_is_readable(page)) {
        return false;
    }
    moda_store_relaxed(remembered, page);
    return true;
}

/* The address alone tells that it is the main stack; who else it may be takes two system calls. */
static void learn_own(moda_stack_own *own, uintptr_t sp) {
    const uintptr_t main_high = &__libc_stack_end != NULL ? (uintptr_t)__libc_stack_end : 0;
    const bool is_on_main = main_high - sp < main_stack_bytes;
    own->is_known = true;
    own->is_main =
        is_on_main
        || moda_raw_syscall(MODA_SYS_GETPID, 0, 0, 0, 0) == moda_raw_syscall(MODA_SYS_GETTID, 0, 0, 0, 0);
    own->high = own->is_main ? main_high : (uintptr_t)pthread_self();
    own->low = !own->is_main ? own->high : main_high != 0 ? main_high - main_stack_bytes : 0;
}

/* Other threads, from what is known of the stack down to sp: each page once in the thread's life, and never below its
 * guard page, however far away the stacks are that it may run on besides. */
static bool extend_down(moda_stack_own *own, uintptr_t low) {
    for (uintptr_t pages = 0; own->low > low; pages++) {
        const uintptr_t page = (own->low - 1) & page_mask;
        if (pages == own_pages_max) {
            return false; /* the next walk goes on from here */
        }
        if (!moda_stack_page_is_readable(page)) {
            own->barrier = page;
            return false;
        }
        own->low = page;
    }
    return true;
}

/* The main thread, more than 128 MiB deep, which takes a higher limit: from sp up, since where there is no limit a page
 * looked at below the stack becomes part of it. */
static bool extend_up(moda_stack_own *own, uintptr_t low) {
    if (own->low - low > own_pages_max * MODA_PAGE_BYTES) {
        return false;
    }
    for (uintptr_t page = low; page < own->low; page += MODA_PAGE_BYTES) {
        if (!moda_stack_page_is_readable(page)) {
            own->barrier = page;
            return false;
        }
    }
    own->low = low;
    return true;
}

/* Whether every page from sp to what is known of the thread's stack is readable; if so all that is its. */
static bool extend_own(moda_stack_own *own, uintptr_t sp) {
    if (sp >= own->high || sp < own->barrier) {
        return false;
    }
    return own->is_main ? extend_up(own, sp & page_mask) : extend_down(own, sp & page_mask);
}

static void enter_foreign(uintptr_t sp, moda_stack_range *range) {
    range->is_own = false;
    range->high = (sp & page_mask) + MODA_PAGE_BYTES; /* the page at hand: it is being run on */
}

MODA_COLD void moda_stack_enter_slow(moda_stack_own *own, uintptr_t sp, moda_stack_range *range) {
    if (!own->is_known) {
        learn_own(own, sp);
    }
    if (sp - own->low < own->high - own->low || extend_own(own, sp)) {
        range->high = own->high;
        range->is_own = true;
    } else {
        enter_foreign(sp, range);
    }
}

MODA_COLD bool moda_stack_reach_slow(moda_stack_range *range, uintptr_t end) {
    while (range->high < end) {
        if (range->pages_left == 0 || end - range->high > (uintptr_t)range->pages_left * MODA_PAGE_BYTES
            || !moda_stack_page_is_readable(range->high)) {
            return false;
        }
        range->pages_left--;
        range->high += MODA_PAGE_BYTES;
    }
    return true;
}

MODA_COLD bool moda_stack_switch(moda_stack_own *own, uintptr_t sp, bool is_split, moda_stack_range *range) {
    if ((range->switches_left == 0 && !is_split) || sp % 8 != 0 || sp == 0) {
        return false;
    }
    range->switches_left -= !is_split;
    moda_stack_enter_slow(own, sp, range);
    return range->is_own || moda_stack_page_is_readable(sp);
}
