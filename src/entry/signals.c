/* SPDX-License-Identifier: MIT
 *
 * signals.c - the program's signal handlers are called through here, so that they may allocate whatever they have
 * interrupted.
 *
 * A handler that comes between two instructions of malloc finds the heap in the middle of a change, and nothing that
 * malloc could afford to do on its fast path would tell it so (src/README.md has what was tried). So sigaction and its
 * older kin are ours: they note the program's handler and have the kernel call run(), which looks at what was
 * interrupted. Nearly always that is the program, and the handler is called as if we were not there, by a tail call. If it
 * was us, the heap is put aside while the handler runs (hot/handler.inc). What the program asks of sigaction it gets as it
 * has set it.
 *
 * Left alone: handlers set by the system call itself, or by libc for its own purposes. They may not allocate in
 * malloc, as with any malloc. A child of vfork that sets a handler sets it for its parent's table, too.
 *
 * Any thread, any time, in handlers too: no lock, no allocation.
 */
#include "entry/signals.h"

#include "base/compiler.h"
#include "hot/handler.h"
#include "unwind/interrupted.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <signal.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <ucontext.h>

typedef void handler_function(int, siginfo_t *, void *);
typedef int sigaction_function(int, const struct sigaction *, struct sigaction *);

/* libc's own sigaction under its other name, where nobody stands between us and it. */
int __sigaction(int number, const struct sigaction *action, struct sigaction *old);
/* Not there in a fully static program that does not use it. */
extern __typeof__(dlsym) dlsym MODA_WEAK;
int _dl_find_object(void *pc, struct dl_find_object *result) MODA_WEAK;

/* Weak: in libmod_alloc.a a program's own comes before them, as it would before libc's. */
#define EXPORT MODA_EXPORT MODA_WEAK

/* The program's handlers, by number: the address, and whether it has SA_SIGINFO, in one word. */
static uint64_t handlers[NSIG];
#define WANTS_INFO (UINT64_C(1) << 63)

/* ---- what was interrupted ---- */

/* libmod_alloc.so is all ours; in libmod_alloc.a our code has sections of its own (cmake/one_object.cmake). */
extern const char __start_moda_text[] MODA_HIDDEN MODA_WEAK, __stop_moda_text[] MODA_HIDDEN MODA_WEAK;
extern const char __start_moda_entry[] MODA_HIDDEN, __stop_moda_entry[] MODA_HIDDEN;
extern const char __ehdr_start[] MODA_HIDDEN MODA_WEAK, etext[] MODA_HIDDEN MODA_WEAK;

typedef struct range {
    uintptr_t low, high;
} range;

MODA_INLINE bool is_in(range r, uintptr_t address) {
    return address - r.low < r.high - r.low;
}

static range range_of(const char *low, const char *high) {
    return (range){(uintptr_t)low, (uintptr_t)high};
}

static bool is_ours(uintptr_t pc) {
    if (__start_moda_text != NULL) {
        return is_in(range_of(__start_moda_text, __stop_moda_text), pc)
               || is_in(range_of(__start_moda_entry, __stop_moda_entry), pc);
    }
    return is_in(range_of(__ehdr_start, etext), pc);
}

/* libc, the dynamic loader and the kernel's own object: what our code calls. Empty until moda_signals_begin, and in a
 * static program: then it may be anywhere. */
static range system_code[3];
static bool has_system_code;

static bool is_system_code(uintptr_t pc) {
    if (!has_system_code) {
        return true;
    }
    for (size_t i = 0; i < sizeof system_code / sizeof system_code[0]; i++) {
        if (is_in(system_code[i], pc)) {
            return true;
        }
    }
    return false;
}

/* Whether we are in the middle of something: at the instruction itself, or in a function of libc that we have called.
 * Nothing of the program's is ever called from there, but operator new's new-handler: then the heap is put aside in vain. */
static bool has_interrupted_us(const moda_interrupted *at) {
    return is_ours(at->pc) || (is_system_code(at->pc) && moda_interrupted_is_in(at, is_ours));
}

/* ---- the handler of all handlers ---- */

static MODA_NOINLINE void run_aside(handler_function *handler, int number, siginfo_t *info, void *context) {
    const stack_t *stack = &((const ucontext_t *)context)->uc_stack;
    const range other = {(uintptr_t)stack->ss_sp, (uintptr_t)stack->ss_sp + stack->ss_size};
    moda_handler_call call = {.high = (uintptr_t)__builtin_frame_address(0)};
    call.low = (stack->ss_flags & SS_DISABLE) == 0 && is_in(other, call.high) ? other.low : 0;
    moda_handler_enter(&call);
    handler(number, info, context);
    moda_handler_leave(&call);
}

static void run(int number, siginfo_t *info, void *context) {
    handler_function *handler =
        (handler_function *)(uintptr_t)(moda_load_acquire(&handlers[number]) & ~WANTS_INFO);
    const moda_interrupted at = moda_interrupted_of(context);
    if (moda_unlikely(moda_handler_is_interrupted(at.sp) || has_interrupted_us(&at))) {
        run_aside(handler, number, info, context);
        return;
    }
    handler(number, info, context); /* one of a single argument does not see the others */
}

/* ---- sigaction ---- */

static sigaction_function *next_sigaction;

static int next(int number, const struct sigaction *action, struct sigaction *old) {
    sigaction_function *function = moda_load_relaxed(&next_sigaction);
    if (function == NULL) {
        function = __sigaction;
    }
    return function(number, action, old);
}

static bool is_handler(const struct sigaction *action) {
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN && action->sa_sigaction != run;
}

/* As the program set it. */
static void tell(struct sigaction *action, uint64_t handler) {
    if (action->sa_sigaction == run) {
        action->sa_sigaction = (handler_function *)(uintptr_t)(handler & ~WANTS_INFO);
        action->sa_flags &= (handler & WANTS_INFO) != 0 ? ~0 : ~SA_SIGINFO;
    }
}

EXPORT int sigaction(int number, const struct sigaction *restrict action, struct sigaction *restrict old) {
    if (number <= 0 || number >= NSIG) {
        return next(number, action, old);
    }
    uint64_t before = moda_load_relaxed(&handlers[number]);
    int result;
    if (action != NULL && is_handler(action)) {
        struct sigaction ours = *action;
        const uint64_t handler = (uint64_t)(uintptr_t)action->sa_sigaction
                                 | ((action->sa_flags & SA_SIGINFO) != 0 ? WANTS_INFO : 0);
        ours.sa_sigaction = run;
        ours.sa_flags |= SA_SIGINFO;
        before = __atomic_exchange_n(&handlers[number], handler, __ATOMIC_ACQ_REL);
        result = next(number, &ours, old);
        if (result != 0) {
            moda_store_release(&handlers[number], before);
        }
    } else {
        result = next(number, action, old);
    }
    if (result == 0 && old != NULL) {
        tell(old, before);
    }
    return result;
}

/* ---- the older ways to set a handler, as glibc defines them ---- */

/* Signals that siginterrupt has made interrupt system calls: signal() keeps to it. */
static uint64_t interrupting[(NSIG + 63) / 64];

static bool is_interrupting(int number) {
    return (moda_load_relaxed(&interrupting[number / 64]) >> number % 64 & 1) != 0;
}

static sighandler_t set(int number, sighandler_t handler, int flags, bool blocks_itself) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
    sigemptyset(&action.sa_mask);
    if (handler == SIG_ERR || number <= 0 || number >= NSIG) {
        errno = EINVAL;
        return SIG_ERR;
    }
    if (blocks_itself) {
        sigaddset(&action.sa_mask, number);
    }
    return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

EXPORT sighandler_t signal(int number, sighandler_t handler) {
    const bool restarts = number <= 0 || number >= NSIG || !is_interrupting(number);
    return set(number, handler, restarts ? SA_RESTART : 0, true);
}

EXPORT sighandler_t bsd_signal(int number, sighandler_t handler);
sighandler_t bsd_signal(int number, sighandler_t handler) {
    return signal(number, handler);
}

EXPORT sighandler_t ssignal(int number, sighandler_t handler) {
    return signal(number, handler);
}

EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler) {
    return set(number, handler, (int)SA_RESETHAND | SA_NODEFER, false);
}

EXPORT sighandler_t sysv_signal(int number, sighandler_t handler) {
    return __sysv_signal(number, handler);
}

EXPORT int siginterrupt(int number, int interrupts) {
    struct sigaction action;
    if (number <= 0 || number >= NSIG) {
        errno = EINVAL;
        return -1;
    }
    if (sigaction(number, NULL, &action) != 0) {
        return -1;
    }
    const uint64_t bit = UINT64_C(1) << number % 64;
    if (interrupts) {
        __atomic_fetch_or(&interrupting[number / 64], bit, __ATOMIC_RELAXED);
        action.sa_flags &= ~SA_RESTART;
    } else {
        __atomic_fetch_and(&interrupting[number / 64], ~bit, __ATOMIC_RELAXED);
        action.sa_flags |= SA_RESTART;
    }
    return sigaction(number, &action, NULL);
}

EXPORT sighandler_t sigset(int number, sighandler_t disposition) {
    struct sigaction old;
    sigset_t one, mask;
    sigemptyset(&one);
    if (disposition == SIG_ERR || sigaddset(&one, number) != 0) {
        errno = EINVAL;
        return SIG_ERR;
    }
    if (disposition == SIG_HOLD) {
        if (sigprocmask(SIG_BLOCK, &one, &mask) != 0 || sigaction(number, NULL, &old) != 0) {
            return SIG_ERR;
        }
        return sigismember(&mask, number) == 1 ? SIG_HOLD : old.sa_handler;
    }
    const sighandler_t before = set(number, disposition, 0, false);
    if (before == SIG_ERR || sigprocmask(SIG_UNBLOCK, &one, &mask) != 0) {
        return SIG_ERR;
    }
    return sigismember(&mask, number) == 1 ? SIG_HOLD : before;
}

/* ---- at the start ---- */

static void find(range *found, uintptr_t address) {
    struct dl_find_object object;
    if (address != 0 && _dl_find_object((void *)address, &object) == 0) {
        *found = (range){(uintptr_t)object.dlfo_map_start, (uintptr_t)object.dlfo_map_end};
    }
}

void moda_signals_begin(void) {
    if (dlsym != NULL) {
        /* Another library that stands in for it, as libjsig does, is not passed by. */
        sigaction_function *function = (sigaction_function *)dlsym(RTLD_NEXT, "sigaction");
        if (function != sigaction) {
            moda_store_relaxed(&next_sigaction, function);
        }
    }
    if (getauxval(AT_BASE) != 0 && _dl_find_object != NULL) {
        find(&system_code[0], (uintptr_t)&gnu_get_libc_version);
        find(&system_code[1], getauxval(AT_BASE));
        find(&system_code[2], getauxval(AT_SYSINFO_EHDR));
        has_system_code = system_code[0].high != 0;
    }
}
