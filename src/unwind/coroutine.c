/* SPDX-License-Identifier: MIT
 *
 * coroutine.c - where the function of a coroutine returns to: what makecontext has put there.
 *
 * makecontext makes a stack by hand: its function is called by nobody, and returns to code of libc that goes over to
 * uc_link or ends the process. No frame lies further out. That code has unwind tables, but not for this: they begin with
 * its first instruction, which is where a return goes, and the address in front of it is between two functions (glibc 2.36,
 * x86-64 and aarch64). So libgcc ends there as at unknown code, and gdb takes the link for one more frame.
 *
 * makecontext itself is asked, of a context that nobody enters, so that this holds whatever libc has there. It fills in the
 * context and a stack's top words, and no more. Asked at the first stack that ends so: few programs have one.
 */
#include "unwind/context.h"
#include "unwind/walk.h"

#pragma weak makecontext /* a static program that has no coroutines needs none of its code */

static uintptr_t answer; /* 0 = not asked yet */

static void never_run(void) {
}

MODA_COLD static uintptr_t ask(void) {
    ucontext_t context = {.uc_link = NULL};
    char stack[256];
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = sizeof stack;
    makecontext(&context, never_run, 0);
    return moda_context_returns_to(&context.uc_mcontext);
}

bool moda_is_end_of_coroutine(uintptr_t pc) {
    uintptr_t end = moda_load_relaxed(&answer);
    if (makecontext == NULL) {
        return false;
    }
    if (end == 0) {
        end = ask(); /* several threads at once get the same */
        moda_store_relaxed(&answer, end);
    }
    return pc == end;
}
