/* SPDX-License-Identifier: MIT
 *
 * still_clock.c - preloaded in front of a malloc: a clock that goes on by a microsecond each time it is asked.
 *
 * mimalloc gives memory back after some milliseconds, and so looks at the clock; under valgrind on a busy machine
 * more time passes for the same code, and instruction counts differ from run to run. With this clock they are the
 * same each time. Plain mimalloc asks libc; mod-alloc asks the kernel, and where there is no vDSO, as under valgrind, by
 * syscall(2). Threads may get the same time: nothing that is counted has two.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static long microseconds = 1000000;
    (void)clock;
    microseconds++;
    now->tv_sec = microseconds / 1000000;
    now->tv_nsec = microseconds % 1000000 * 1000;
    return 0;
}

static long enter_kernel(long number, const long argument[6]) {
#if defined(__x86_64__)
    register long r10 __asm__("r10") = argument[3];
    register long r8 __asm__("r8") = argument[4];
    register long r9 __asm__("r9") = argument[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(argument[0]), "S"(argument[1]), "d"(argument[2]), "r"(r10), "r"(r8),
                       "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = argument[0];
    register long x1 __asm__("x1") = argument[1];
    register long x2 __asm__("x2") = argument[2];
    register long x3 __asm__("x3") = argument[3];
    register long x4 __asm__("x4") = argument[4];
    register long x5 __asm__("x5") = argument[5];
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#endif
}

long syscall(long number, ...) {
    long argument[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        argument[i] = va_arg(list, long);
    }
    va_end(list);
    if (number == SYS_clock_gettime) {
        return clock_gettime((clockid_t)argument[0],
                             (struct timespec *)argument[1]); /* NOLINT(performance-no-int-to-ptr) */
    }
    const long result = enter_kernel(number, argument);
    if (result < 0 && result >= -4095) {
        errno = (int)-result;
        return -1;
    }
    return result;
}
