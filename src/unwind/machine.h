/* SPDX-License-Identifier: MIT
 *
 * machine.h - what stack walking has to know of the processor: DWARF's register numbers, where a call leaves
 * its return address, what a call looks like, pointer authentication, and two system calls that must not touch errno.
 */
#ifndef MODA_UNWIND_MACHINE_H
#define MODA_UNWIND_MACHINE_H

#include "base/compiler.h"

#define MODA_PAGE_BYTES 4096u /* the smallest page there is: what a probe may conclude from one address */

/* A word of a stack. Sanitizers must not look: it may lie in a red zone of theirs, or below sp. */
typedef uintptr_t __attribute__((may_alias)) moda_stack_word;
#define MODA_READS_STACKS __attribute__((no_sanitize("address", "thread")))

/* Registers whose rules the CFA interpreter follows: the frame pointer, the return address, and (x86-64)
 * those that survive a call, since a few hand-written functions of ld.so have their CFA in one. */
#define MODA_REG_FP 0
#define MODA_REG_RA 1

#if defined(__x86_64__)

#define MODA_TRACKED_REGISTERS 7 /* rbp, return address, rbx, r12, r13, r14, r15 */
#define MODA_DWARF_FP 6
#define MODA_DWARF_SP 7
#define MODA_DWARF_RA 16
static const bool moda_ra_is_below_cfa = true; /* call pushes the return address: always at CFA - 8 */
/* glibc's __restore_rt has unwind tables. */
static const bool moda_has_bare_sigreturn = false;
enum { MODA_SIGFRAME_FP = 0, MODA_SIGFRAME_RA = 0, MODA_SIGFRAME_SP = 0, MODA_SIGFRAME_PC = 0 };
static const uint32_t moda_sigreturn_code[2] = {0, 0};
/* libgcc's __morestack calls the function that ran short of stack on another one: call *%r10. Its own frame lies on the old
 * stack, where fp points: the function's fp, the address it called __morestack from, and the function's return address. */
static const bool moda_has_split_stacks = true;
static const uint8_t moda_morestack_call[3] = {0x41, 0xff, 0xd2};
enum { MODA_MORESTACK_FRAME = 24 };
enum { MODA_SYS_SIGPROCMASK = 14, MODA_SYS_GETPID = 39, MODA_SYS_GETTID = 186, MODA_SYS_FUTEX = 202 };

/* DWARF register -> index into the tracked rules, or -1. */
MODA_INLINE int moda_tracked_index(uint64_t dwarf_register) {
    static const int8_t index_of[17] = {-1, -1, -1, 2, -1, -1, MODA_REG_FP, -1,         -1,
                                        -1, -1, -1, 3, 4,  5,  6,           MODA_REG_RA};
    return dwarf_register < sizeof index_of ? index_of[dwarf_register] : -1;
}

MODA_INLINE uintptr_t moda_strip_authentication(uintptr_t pc) {
    return pc;
}

/* Whether the instruction that ends at `end` may be a call: by an offset, or through a register or memory. `bytes` before
 * it can be read. */
enum { MODA_CALL_BYTES_MAX = 7 };
MODA_INLINE MODA_READS_STACKS bool moda_follows_call(const uint8_t *end, size_t bytes) {
    if (bytes >= 5 && end[-5] == 0xe8) {
        return true;
    }
    for (size_t length = 2; length <= bytes && length <= MODA_CALL_BYTES_MAX; length++) {
        const uint8_t *call = end - length;
        if (call[0] != 0xff || (call[1] >> 3 & 7) != 2) {
            continue;
        }
        const unsigned mod = call[1] >> 6, rm = call[1] & 7;
        const bool has_sib = mod != 3 && rm == 4;
        const bool has_address = mod == 0 && (rm == 5 || (has_sib && length > 2 && (call[2] & 7) == 5));
        if (length == 2 + has_sib + (mod == 1 ? 1u : mod == 2 || has_address ? 4u : 0u)) {
            return true;
        }
    }
    return false;
}

MODA_INLINE long moda_raw_syscall(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

/* The tracked registers and sp as they are at one instruction, whose address stands in for the return
 * address's: in the order of moda_tracked_index. */
static const bool moda_can_capture = true;
MODA_INLINE void moda_capture_registers(uintptr_t *tracked, uintptr_t *sp) {
    __asm__ volatile("movq %%rbp, 0(%1)\n\t"
                     "movq %%rbx, 16(%1)\n\t"
                     "movq %%r12, 24(%1)\n\t"
                     "movq %%r13, 32(%1)\n\t"
                     "movq %%r14, 40(%1)\n\t"
                     "movq %%r15, 48(%1)\n\t"
                     "movq %%rsp, %0\n\t"
                     "leaq 0f(%%rip), %%rax\n\t"
                     "0:\n\t"
                     "movq %%rax, 8(%1)"
                     : "=&r"(*sp)
                     : "r"(tracked)
                     : "rax", "memory");
}

#elif defined(__aarch64__)

#define MODA_TRACKED_REGISTERS 2 /* x29, x30 */
#define MODA_DWARF_FP 29
#define MODA_DWARF_SP 31
#define MODA_DWARF_RA 30
static const bool moda_ra_is_below_cfa = false; /* x30 has a rule of its own */
/* The vDSO's __kernel_rt_sigreturn has no unwind tables: it is known by its two instructions, mov x8, #139 and
 * svc #0; sp is then at a siginfo (128 bytes) and a ucontext, whose registers begin 184 bytes into it. */
static const bool moda_has_bare_sigreturn = true;
static const uint32_t moda_sigreturn_code[2] = {0xd2801168, 0xd4000001};
enum {
    MODA_SIGFRAME_X0 = 128 + 184,
    MODA_SIGFRAME_FP = MODA_SIGFRAME_X0 + 29 * 8,
    MODA_SIGFRAME_RA = MODA_SIGFRAME_X0 + 30 * 8,
    MODA_SIGFRAME_SP = MODA_SIGFRAME_X0 + 31 * 8,
    MODA_SIGFRAME_PC = MODA_SIGFRAME_X0 + 32 * 8
};
static const bool moda_has_split_stacks = false; /* no compiler has them there */
static const uint8_t moda_morestack_call[3] = {0, 0, 0};
enum { MODA_MORESTACK_FRAME = 0 };
enum { MODA_SYS_SIGPROCMASK = 135, MODA_SYS_GETPID = 172, MODA_SYS_GETTID = 178, MODA_SYS_FUTEX = 98 };

MODA_INLINE int moda_tracked_index(uint64_t dwarf_register) {
    return dwarf_register == MODA_DWARF_FP ? MODA_REG_FP : dwarf_register == MODA_DWARF_RA ? MODA_REG_RA : -1;
}

/* xpaclri, as a hint: nothing happens on a core without pointer authentication. */
MODA_INLINE uintptr_t moda_strip_authentication(uintptr_t pc) {
    register uintptr_t x30 __asm__("x30") = pc;
    __asm__("hint #7" : "+r"(x30));
    return x30;
}

/* Whether the instruction before `end` is a call: bl, blr, and blr with authentication. */
enum { MODA_CALL_BYTES_MAX = 4 };
MODA_INLINE MODA_READS_STACKS bool moda_follows_call(const uint8_t *end, size_t bytes) {
    uint32_t code;
    if (bytes < sizeof code || (uintptr_t)end % sizeof code != 0) {
        return false;
    }
    __builtin_memcpy(&code, end - sizeof code, sizeof code);
    return code >> 26 == 0x25 || (code & 0xfefff000) == 0xd63f0000;
}

static const bool moda_can_capture = false; /* no function there has its CFA in another register */
MODA_INLINE void moda_capture_registers(uintptr_t *tracked, uintptr_t *sp) {
    tracked[MODA_REG_RA] = *sp = 0;
}

MODA_INLINE long moda_raw_syscall(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}

#endif

#endif
