/* SPDX-License-Identifier: MIT
 *
 * context.h - the registers in a context, a signal's or one that was made, by processor. Apart from machine.h, since it takes GNU's names.
 */
#ifndef MODA_UNWIND_CONTEXT_H
#define MODA_UNWIND_CONTEXT_H

#include "base/compiler.h"

#include <ucontext.h>

#if defined(__x86_64__)

MODA_INLINE uintptr_t moda_context_pc(const mcontext_t *m) {
    return (uintptr_t)m->gregs[REG_RIP];
}
MODA_INLINE uintptr_t moda_context_sp(const mcontext_t *m) {
    return (uintptr_t)m->gregs[REG_RSP];
}
MODA_INLINE uintptr_t moda_context_fp(const mcontext_t *m) {
    return (uintptr_t)m->gregs[REG_RBP];
}
MODA_INLINE uintptr_t moda_context_ra(const mcontext_t *m) {
    (void)m;
    return 0;
}
/* At the first instruction of a function: where it will return to. */
MODA_INLINE uintptr_t moda_context_returns_to(const mcontext_t *m) {
    return *(const uintptr_t *)moda_context_sp(m);
}

#elif defined(__aarch64__)

MODA_INLINE uintptr_t moda_context_pc(const mcontext_t *m) {
    return m->pc;
}
MODA_INLINE uintptr_t moda_context_sp(const mcontext_t *m) {
    return m->sp;
}
MODA_INLINE uintptr_t moda_context_fp(const mcontext_t *m) {
    return m->regs[29];
}
MODA_INLINE uintptr_t moda_context_ra(const mcontext_t *m) {
    return m->regs[30];
}
MODA_INLINE uintptr_t moda_context_returns_to(const mcontext_t *m) {
    return moda_context_ra(m);
}

#endif

#endif
