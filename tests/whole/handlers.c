/* SPDX-License-Identifier: MIT
 *
 * handlers.c - what a program sees of its signal handlers, which are called through ours.
 *
 *   semantics     sigaction, signal and their older kin say and do what glibc's manual says
 *   exits         a handler that has interrupted malloc ends the program by exit, whose handlers allocate much
 *   other_thread  blocks that were made in such a handler are resized and freed by another thread
 *   large         small blocks behind a large one
 *   on_a_stack_above  such a handler is interrupted by another, on a stack that lies above the thread's
 *   thread_ends   a thread leaves such a handler by siglongjmp, or by pthread_exit, and ends
 *   first_left    so it does in its first malloc, while it takes a slot, and all other threads go on
 *   site_left     and in an allocation from a new call site, at each few instructions
 *   remote_left   and at each instruction of its free of another thread's block, and that thread goes on, can collect, and
 *                 can end
 *   count_left    what malloc and free count is whole all the same
 *   reader_left   and after each atomic instruction of a malloc that takes over what an ended thread left; others can give
 *                 memory back
 *   remote_held   a free of another thread's block stands still at each of its instructions, while that thread ends and
 *                 others take up its memory
 *   remote_forked  meanwhile that thread forks, and the child's one thread can end
 *   bounded       what many such handlers, or one that goes on, allocate and free does not add up
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include "whole.h"

/* ---- semantics ---- */

static volatile sig_atomic_t calls, last_number, is_own_blocked, is_other_blocked;
static siginfo_t last_info;
static volatile uintptr_t last_pc;

static void note(int number) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    is_own_blocked = sigismember(&now, number);
    is_other_blocked = sigismember(&now, SIGUSR2);
    last_number = number;
    calls++;
}

static void plain(int number) {
    note(number);
}

static void other(int number) {
    note(number);
}

static void with_info(int number, siginfo_t *info, void *context) {
    last_info = *info;
#if defined(__x86_64__)
    last_pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    last_pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.pc;
#endif
    note(number);
}

static struct sigaction now_of(int number) {
    struct sigaction action;
    NEED(sigaction(number, NULL, &action) == 0, "sigaction of %d: errno %d", number, errno);
    return action;
}

static void check_once(int number, int own, int other_one, const char *what) {
    calls = 0;
    raise(number);
    CHECK_EQ(calls, 1, what);
    CHECK_EQ(last_number, number, what);
    CHECK_EQ(is_own_blocked, own, what);
    CHECK_EQ(is_other_blocked, other_one, what);
}

static void check_sigaction(void) {
    struct sigaction old, action = {.sa_sigaction = with_info, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK_EQ(sigaction(SIGUSR1, &action, &old), 0, "sigaction");
    CHECK(old.sa_handler == SIG_DFL, "the first handler is %p", (void *)(uintptr_t)old.sa_handler);
    old = now_of(SIGUSR1);
    CHECK(old.sa_sigaction == with_info, "another handler is told");
    CHECK_EQ(old.sa_flags & (SA_SIGINFO | SA_RESTART | SA_NODEFER | SA_ONSTACK), SA_SIGINFO | SA_RESTART,
             "flags");
    CHECK_EQ(sigismember(&old.sa_mask, SIGUSR2), 1, "mask");
    check_once(SIGUSR1, 1, 1, "with information");
    CHECK_EQ(last_info.si_signo, SIGUSR1, "si_signo");
    CHECK_EQ(last_info.si_pid, getpid(), "si_pid");
    CHECK(last_pc != 0, "no context");

    action = (struct sigaction){.sa_handler = plain, .sa_flags = SA_NODEFER};
    CHECK_EQ(sigaction(SIGUSR1, &action, &old), 0, "sigaction");
    CHECK(old.sa_sigaction == with_info && (old.sa_flags & SA_SIGINFO) != 0, "the old handler is not told");
    old = now_of(SIGUSR1);
    CHECK(old.sa_handler == plain && (old.sa_flags & SA_SIGINFO) == 0, "flags %#x", (unsigned)old.sa_flags);
    check_once(SIGUSR1, 0, 0, "plain");

    action.sa_handler = SIG_IGN;
    CHECK_EQ(sigaction(SIGUSR1, &action, &old), 0, "sigaction");
    CHECK(old.sa_handler == plain, "the old handler is not told");
    CHECK(now_of(SIGUSR1).sa_handler == SIG_IGN, "not ignored");
    calls = 0;
    raise(SIGUSR1);
    CHECK_EQ(calls, 0, "ignored");

    action = (struct sigaction){.sa_handler = plain, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGUSR1, &action, &old);
    CHECK(old.sa_handler == SIG_IGN, "the old disposition is not told");
    check_once(SIGUSR1, 1, 0, "once");
    CHECK(now_of(SIGUSR1).sa_handler == SIG_DFL, "SA_RESETHAND does not");

    errno = 0;
    CHECK(sigaction(SIGKILL, &action, NULL) == -1 && errno == EINVAL, "SIGKILL: errno %d", errno);
    errno = 0;
    CHECK(sigaction(0, &action, NULL) == -1 && errno == EINVAL, "0: errno %d", errno);
    errno = 0;
    CHECK(sigaction(NSIG + 7, &action, NULL) == -1 && errno == EINVAL, "too high: errno %d", errno);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void check_older(void) {
    CHECK(signal(SIGUSR1, plain) == SIG_DFL, "signal's first answer");
    CHECK(signal(SIGUSR1, other) == plain, "signal's answer");
    CHECK_EQ(now_of(SIGUSR1).sa_flags & (SA_SIGINFO | SA_RESTART), SA_RESTART, "signal's flags");
    check_once(SIGUSR1, 1, 0, "signal");
    CHECK_EQ(siginterrupt(SIGUSR1, 1), 0, "siginterrupt");
    CHECK_EQ(now_of(SIGUSR1).sa_flags & SA_RESTART, 0, "interrupting");
    CHECK(now_of(SIGUSR1).sa_handler == other, "siginterrupt changes the handler");
    signal(SIGUSR1, plain);
    CHECK_EQ(now_of(SIGUSR1).sa_flags & SA_RESTART, 0, "still interrupting");
    check_once(SIGUSR1, 1, 0, "interrupting");
    CHECK_EQ(siginterrupt(SIGUSR1, 0), 0, "siginterrupt");
    CHECK_EQ(now_of(SIGUSR1).sa_flags & SA_RESTART, SA_RESTART, "restarting");
    errno = 0;
    CHECK(signal(SIGKILL, plain) == SIG_ERR && errno == EINVAL, "signal of SIGKILL: errno %d", errno);
    errno = 0;
    CHECK(signal(-1, plain) == SIG_ERR && errno == EINVAL, "signal of -1: errno %d", errno);

    CHECK(sysv_signal(SIGUSR1, other) == plain, "sysv_signal's answer");
    check_once(SIGUSR1, 0, 0, "sysv_signal");
    CHECK(now_of(SIGUSR1).sa_handler == SIG_DFL, "sysv_signal's handler stays");

    CHECK(sigset(SIGUSR1, plain) == SIG_DFL, "sigset's answer");
    check_once(SIGUSR1, 1, 0, "sigset");
    CHECK(sigset(SIGUSR1, SIG_HOLD) == plain, "sigset's answer to SIG_HOLD");
    calls = 0;
    raise(SIGUSR1);
    CHECK_EQ(calls, 0, "held");
    CHECK(sigset(SIGUSR1, other) == SIG_HOLD, "sigset's answer to a held one");
    CHECK_EQ(calls, 1, "released");
    CHECK(sigset(SIGUSR1, SIG_DFL) == other, "sigset's last answer");
}
#pragma GCC diagnostic pop

/* libc sets and restores handlers of its own accord there. */
static void check_system(void) {
    signal(SIGINT, plain);
    CHECK_EQ(system("exit 3"), 3 << 8, "system");
    CHECK(now_of(SIGINT).sa_handler == plain, "system leaves another handler");
    check_once(SIGINT, 1, 0, "after system");
}

/* ---- exits ---- */

enum { BLOCKS_AT_EXIT = 20000 };

static void at_exit(void) {
    static void *block[BLOCKS_AT_EXIT];
    for (size_t i = 0; i < BLOCKS_AT_EXIT; i++) {
        block[i] = malloc(16 + i % 600);
        NEED(block[i] != NULL, "no block at exit");
        memset(block[i], (int)i, 16 + i % 600);
    }
    for (size_t i = 0; i < BLOCKS_AT_EXIT; i++) {
        NEED(*(unsigned char *)block[i] == (i & 0xFF), "a block at exit is another's, too");
        free(block[i]);
    }
}

static void exits(int number) {
    (void)number;
    exit(whole_failures == 0 ? 0 : 1);
}

static void churn(uint64_t seed) {
    enum { blocks = 100 };
    void *block[blocks] = {0};
    for (;;) {
        const size_t slot = whole_random(&seed) % blocks;
        free(block[slot]);
        block[slot] = malloc(1 + whole_random(&seed) % 2000);
    }
}

static void run_exits(void) {
    for (int i = 0; i < 40; i++) {
        const pid_t pid = fork();
        NEED(pid >= 0, "fork");
        if (pid == 0) {
            atexit(at_exit);
            signal(SIGALRM, exits);
            const struct itimerval once = {.it_value = {.tv_usec = 1000 + i * 37}};
            setitimer(ITIMER_REAL, &once, NULL);
            churn((uint64_t)i);
        }
        int status = 0;
        NEED(waitpid(pid, &status, 0) == pid, "waitpid");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "run %d: status %#x", i, (unsigned)status);
    }
}

/* ---- another thread ---- */

enum { HANDED = 8 };
static unsigned char *handed[HANDED];
static volatile int64_t handed_over, taken;
static int stops;

static void hands_over(int number) {
    (void)number;
    const int kept_errno = errno;
    for (size_t i = 0; i < HANDED; i++) {
        if (__atomic_load_n(&handed[i], __ATOMIC_ACQUIRE) == NULL) {
            unsigned char *p = malloc(100 + i * 100);
            NEED(p != NULL, "no block in a handler");
            memset(p, 0xD0 + (int)i, 100 + i * 100);
            __atomic_store_n(&handed[i], p, __ATOMIC_RELEASE);
            handed_over++;
        }
    }
    errno = kept_errno;
}

static void *takes(void *unused) {
    (void)unused;
    while (!__atomic_load_n(&stops, __ATOMIC_ACQUIRE)) {
        for (size_t i = 0; i < HANDED; i++) {
            unsigned char *p = __atomic_exchange_n(&handed[i], NULL, __ATOMIC_ACQ_REL);
            if (p != NULL) {
                NEED(p[0] == 0xD0 + i && p[99 + i * 100] == 0xD0 + i,
                     "a block handed over is another's, too");
                if (i % 2 == 0) {
                    p = realloc(p, 150 + i * 100);
                    NEED(p != NULL && p[99 + i * 100] == 0xD0 + i, "realloc has lost what was there");
                }
                free(p);
                taken++;
            }
        }
    }
    return NULL;
}

static void run_other_thread(void) {
    const mod_alloc_stats before = whole_now();
    pthread_t thread;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* in the other thread from its start */
    NEED(pthread_create(&thread, NULL, takes, NULL) == 0, "pthread_create");
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    signal(SIGALRM, hands_over);
    const struct itimerval every = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
    setitimer(ITIMER_REAL, &every, NULL);
    void *block[200] = {0};
    uint64_t state = 3;
    for (int turn = 0; turn < 400 && handed_over < 2000; turn++) {
        for (int i = 0; i < 100000; i++) {
            const size_t slot = whole_random(&state) % 200;
            free(block[slot]);
            block[slot] = malloc(1 + whole_random(&state) % 1500);
        }
    }
    const struct itimerval never = {0};
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN);
    for (size_t i = 0; i < 200; i++) {
        free(block[i]);
    }
    __atomic_store_n(&stops, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < HANDED; i++) {
        taken += handed[i] != NULL;
        free(handed[i]);
    }
    CHECK(handed_over > 500, "only %" PRId64 " blocks handed over", handed_over);
    CHECK_EQ(taken, handed_over, "taken");
    const mod_alloc_stats after = whole_now();
    CHECK(after.live_count - before.live_count < 4,
          "%" PRIu64 " blocks are left", /* what the thread has of libc's */
          after.live_count - before.live_count);
}

/* ---- in a storm ---- */

static volatile sig_atomic_t handled;
static bool (*is_enough)(void);

/* Blocks with contents, of one thread, while a timer runs; until is_enough(). */
static void churn_in_storm(long us, int number, size_t most) {
    enum { blocks = 200 };
    static __thread unsigned char *block[blocks];
    static __thread size_t size[blocks];
    const struct itimerval every = {.it_interval = {.tv_usec = us}, .it_value = {.tv_usec = us}}, never = {0};
    setitimer(ITIMER_REAL, &every, NULL);
    uint64_t state = (uint64_t)number;
    for (long i = 0; !is_enough() && i < 1000000000; i++) {
        const size_t slot = whole_random(&state) % blocks;
        if (block[slot] != NULL) {
            NEED(block[slot][0] == slot && block[slot][size[slot] - 1] == slot, "a block is another's, too");
            free(block[slot]);
        }
        size[slot] = 1 + whole_random(&state) % most;
        block[slot] = malloc(size[slot]);
        memset(block[slot], (int)slot, size[slot]);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    for (int i = 0; i < blocks; i++) {
        free(block[i]);
        block[i] = NULL;
    }
}

static bool has_handled_300(void) {
    return handled >= 300;
}

static size_t large_size;

static void large_then_small(int number) {
    (void)number;
    unsigned char *const large = malloc(large_size);
    NEED(large != NULL, "no block of %zu bytes in a handler", large_size);
    large[0] = 1;
    large[large_size - 1] = 2;
    unsigned char *const small = malloc(100);
    memset(small, 3, 100);
    NEED(large[large_size - 1] == 2, "a large block is another's, too");
    free(small);
    free(large);
    handled++;
}

static void run_large(void) {
    static const size_t sizes[] = {100 << 10, 1 << 20, 17 << 20, 33 << 20};
    signal(SIGALRM, large_then_small);
    is_enough = has_handled_300;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        handled = 0;
        large_size = sizes[i];
        churn_in_storm(500, 1, 2000);
    }
}

static char *area; /* the thread's stack, and above it the other one */

static void on_the_stack_above(int number) {
    (void)number;
    unsigned char *const p = malloc(64);
    memset(p, 7, 64);
    free(p);
}

static void raises_another(int number) {
    (void)number;
    unsigned char *block[8];
    raise(SIGUSR2);
    for (int i = 0; i < 8; i++) {
        block[i] = malloc(64);
        memset(block[i], i, 64);
    }
    for (int i = 0; i < 8; i++) {
        NEED(block[i][0] == i && block[i][63] == i, "a handler's block is another's, too");
        free(block[i]);
    }
    handled++;
}

static bool has_handled_3000(void) {
    return handled >= 3000;
}

static void *work_below(void *unused) {
    const stack_t above = {.ss_sp = area + (4 << 20), .ss_size = 1 << 20};
    sigaltstack(&above, NULL);
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    is_enough = has_handled_3000;
    churn_in_storm(200, 2, 64);
    return unused;
}

static void run_on_a_stack_above(void) {
    area = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED, "no memory");
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    signal(SIGALRM, raises_another);
    const struct sigaction action = {.sa_handler = on_the_stack_above, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, area, 2 << 20);
    pthread_t thread;
    NEED(pthread_create(&thread, &attributes, work_below, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
}

/* ---- threads that end in a handler ---- */

static __thread sigjmp_buf outside;
static volatile sig_atomic_t is_ready, ends_by_exit;
static pthread_key_t key;

static void leaves(int number) {
    (void)number;
    if (ends_by_exit) {
        pthread_exit(NULL);
    }
    siglongjmp(outside, 1);
}

static void allocates_at_the_end(void *block) {
    void *blocks[200];
    free(block);
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = malloc(16 + i * 8);
        memset(blocks[i], 1, 16 + i * 8);
    }
    for (int i = 0; i < 200; i++) {
        free(blocks[i]);
    }
}

/* Interrupted in a function of ours that changes nothing: what it leaves behind is whole. */
static void *asks_for_ever(void *unused) {
    pthread_setspecific(key, malloc(50));
    void *volatile p = malloc(20);
    if (sigsetjmp(outside, 1) == 0) {
        is_ready = 1;
        for (;;) {
            malloc_usable_size(p);
        }
    }
    return unused;
}

static void run_thread_ends(void) {
    signal(SIGUSR1, leaves);
    pthread_key_create(&key, allocates_at_the_end);
    const mod_alloc_stats before = whole_now();
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        ends_by_exit = i % 2;
        is_ready = 0;
        NEED(pthread_create(&thread, NULL, asks_for_ever, NULL) == 0, "pthread_create");
        while (!is_ready) {
            usleep(100);
        }
        usleep(50);
        pthread_kill(thread, SIGUSR1);
        pthread_join(thread, NULL);
    }
    const mod_alloc_stats after = whole_now();
    CHECK(after.alloc_count - before.alloc_count >= 200 * 200, "%" PRIu64 " allocations",
          after.alloc_count - before.alloc_count);
    CHECK(after.live_count - before.live_count <= 200 + 8, "%" PRIu64 " blocks are left, of 200",
          after.live_count - before.live_count);
}

/* ---- left in the middle ---- */

#if defined(__x86_64__)
/* The processor's own single steps: at the chosen one the thread gets another signal, whose handler is left. */
static __thread volatile long steps, leave_at, leave_at_call;

static void steps_on(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    const greg_t *at = ((const ucontext_t *)context)->uc_mcontext.gregs;
    const bool is_call = memcmp((const void *)at[REG_RIP], "\x0f\x05", 2) == 0;
    if (++steps == leave_at || (is_call && at[REG_RAX] == leave_at_call)) {
        pthread_kill(pthread_self(), SIGUSR1);
    }
}

#define TRAP_FLAG "0x100"
static inline __attribute__((always_inline)) void begin_steps(void) {
    __asm__ volatile("sub $128, %%rsp; pushfq; orq $" TRAP_FLAG ", (%%rsp); popfq; add $128, %%rsp"
                     :
                     :
                     : "cc", "memory");
}

static inline __attribute__((always_inline)) void end_steps(void) {
    __asm__ volatile("sub $128, %%rsp; pushfq; andq $~" TRAP_FLAG ", (%%rsp); popfq; add $128, %%rsp"
                     :
                     :
                     : "cc", "memory");
}

static void *leaves_first(void *unused) {
    leave_at_call = SYS_prctl; /* asks for the thread's name */
    if (sigsetjmp(outside, 1) == 0) {
        begin_steps();
        free(malloc(20));
        end_steps();
    }
    CHECK(steps > 1000, "only %ld instructions", steps);
    free(malloc(30));
    return unused;
}

static void *comes_later(void *unused) {
    free(malloc(30));
    return unused;
}

static void run_first_left(void) {
    void *(*const body[])(void *) = {comes_later, leaves_first, leaves_first, comes_later};
    for (size_t i = 0; i < sizeof body / sizeof body[0]; i++) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, body[i], NULL) == 0, "pthread_create");
        pthread_join(thread, NULL);
    }
}

/* Each value of `path` is another call stack: where every allocation is recorded, another site. */
static __attribute__((noinline)) void *allocate_at(unsigned path, unsigned depth) {
    if (depth == 0) {
        return malloc(40);
    }
    void *volatile p = path & 1 ? allocate_at(path >> 1, depth - 1) : NULL;
    return p != NULL ? p : allocate_at(path >> 1, depth - 1);
}

enum { SITE_DEPTH = 12 };

static void *allocates_elsewhere(void *path) {
    free(allocate_at((unsigned)(uintptr_t)path, SITE_DEPTH));
    return NULL;
}

static void run_site_left(void) {
    free(allocate_at(0, SITE_DEPTH));
    long count = 0;
    for (volatile unsigned i = 0; i < 24; i++) {
        steps = 0;
        leave_at = i < 2 ? -1 : count * (long)i / 24;
        if (sigsetjmp(outside, 1) == 0) {
            begin_steps();
            void *p = allocate_at(2 * i + 1, SITE_DEPTH);
            end_steps();
            free(p);
            count = steps;
        }
        free(malloc(30));
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, allocates_elsewhere, (void *)(uintptr_t)(2 * i + 2)) == 0,
             "pthread_create");
        pthread_join(thread, NULL);
    }
    CHECK(count > 100, "only %ld instructions", count);
}

/* A thread's page of large blocks, all in use: of those the thread's heap is told. It goes on for so long that it looks after
 * its memory, and ends. */
enum { REMOTE = 24, OWNERS_MAX = 400 };
static void *remote[OWNERS_MAX][REMOTE];
static pthread_t owning[OWNERS_MAX];
static pthread_barrier_t remote_barrier;
static pthread_mutex_t owners_wait = PTHREAD_MUTEX_INITIALIZER;

static void *fills_pages(void *argument) {
    void **const block = argument;
    for (int i = 0; i < REMOTE; i++) {
        block[i] = malloc(100000);
    }
    pthread_barrier_wait(&remote_barrier);
    pthread_mutex_lock(&owners_wait);
    pthread_mutex_unlock(&owners_wait);
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (int i = 0; i < 20; i++) {
            free(malloc(20000));
        }
        usleep(20000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 1200);
    malloc_trim(0);
    return NULL;
}

static void run_remote_left(void) {
    pthread_barrier_init(&remote_barrier, NULL, 2);
    pthread_mutex_lock(&owners_wait);
    free(malloc(100000)); /* a peak, which no later free looks at: all have the same way */
    volatile long owners = 0;
    long count = 2;
    for (volatile long i = 1; i < count && i < OWNERS_MAX; i++) {
        NEED(pthread_create(&owning[owners], NULL, fills_pages, remote[owners]) == 0, "pthread_create");
        pthread_barrier_wait(&remote_barrier);
        steps = 0;
        leave_at = i;
        if (sigsetjmp(outside, 1) == 0) {
            begin_steps();
            free(remote[owners][0]);
            end_steps();
            count = steps;
        } else {
            count = i + 2;
        }
        free(malloc(30));
        owners++;
    }
    CHECK(count > 30, "only %ld instructions", count);
    pthread_mutex_unlock(&owners_wait);
    for (long i = 0; i < owners; i++) {
        pthread_join(owning[i], NULL);
        for (int k = 1; k < REMOTE; k++) {
            free(remote[i][k]);
        }
    }
}

/* A free that leaves a peak, or a malloc that sets the countdown anew, left at this instruction: it has then counted its
 * block's bytes, or has not. */
enum { LEFT_SIZE = 200000, WAS_LEFT = 0, RAN_THROUGH = 2 };

static int leave_a_count(bool is_free, long at) {
    for (int i = 0; i < 3; i++) { /* a child's first ones make its peak known otherwise */
        free(malloc(LEFT_SIZE));
        NEED(malloc(LEFT_SIZE) != NULL, "no memory");
    }
    void *volatile block = malloc(LEFT_SIZE);
    const int64_t block_size = (int64_t)malloc_usable_size(block);
    NEED(malloc(LEFT_SIZE) != NULL, "no memory"); /* with this one it is a peak */
    const uint64_t before = whole_now().current_bytes;
    steps = 0;
    leave_at = at;
    volatile const bool is_left = sigsetjmp(outside, 1) != 0;
    if (!is_left) {
        begin_steps();
        if (is_free) {
            free(block);
        } else {
            block = malloc(LEFT_SIZE);
        }
        end_steps();
    }
    free(malloc(30));
    const int64_t change = (int64_t)(whole_now().current_bytes - before);
    CHECK(change == 0 || change == (is_free ? -block_size : block_size),
          "%s left at instruction %ld: %" PRId64 " bytes more live, the block has %" PRId64,
          is_free ? "free" : "malloc", at, change, block_size);
    CHECK(is_left || steps > 30, "only %ld instructions", steps);
    return whole_failures != 0 ? 1 : is_left ? WAS_LEFT : RAN_THROUGH;
}

/* Each in a process of its own: mimalloc's lists of pages may be left in the middle of a change. What is done to them next
 * goes well; what after many such is done, by the clock, to all that were left, need not. */
static void run_count_left(void) {
    enum { OF_MALLOC = 420, OF_FREE = 150 };
    for (int is_free = 0; is_free < 2; is_free++) {
        int status = WAS_LEFT;
        for (long i = 1; status == WAS_LEFT && i < (is_free ? OF_FREE : OF_MALLOC); i++) {
            const pid_t child = fork();
            NEED(child >= 0, "fork");
            if (child == 0) {
                _exit(leave_a_count(is_free, i));
            }
            NEED(waitpid(child, &status, 0) == child, "waitpid");
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 1, "%s left at instruction %ld: status %#x",
                  is_free ? "free" : "malloc", i, (unsigned)status);
        }
    }
}

/* The processor's locked instructions of the run: the thread is made to leave right behind one. After some steps it goes on
 * without: it is doing what is done four times a second, which takes a hundred times as many. */
enum { LOCKED = 200, STEPS_MAX = 15000 };
static uintptr_t locked[LOCKED];
static long locked_count;
static __thread volatile uintptr_t leave_behind, last_step;

static bool is_noted(uintptr_t at) {
    for (long i = 0; i < locked_count; i++) {
        if (locked[i] == at) {
            return true;
        }
    }
    return false;
}

static void steps_on_locked(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    greg_t *const registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uintptr_t at = (uintptr_t)registers[REG_RIP];
    if (++steps == STEPS_MAX) {
        registers[REG_EFL] &= ~(greg_t)0x100;
    }
    if (leave_behind == 0 && *(const unsigned char *)at == 0xf0 && locked_count < LOCKED && !is_noted(at)) {
        locked[locked_count++] = at;
    }
    if (leave_behind != 0 && last_step == leave_behind) {
        leave_behind = 1;
        pthread_kill(pthread_self(), SIGUSR1);
    }
    last_step = at;
}

static void *leaves_a_block(void *unused) {
    remote[0][0] = malloc(40);
    return unused;
}

/* Three of them do not fit a segment: the third takes over the one that was left, or makes another. */
static void *takes_over(void *at) {
    void *volatile first = malloc(12 << 20), *volatile second = malloc(12 << 20);
    pthread_barrier_wait(&remote_barrier);
    pthread_barrier_wait(&remote_barrier);
    free(malloc(300000)); /* what is due now and then is done here, as a rule */
    leave_behind = (uintptr_t)at;
    steps = 0;
    if (sigsetjmp(outside, 1) == 0) {
        begin_steps();
        void *third = malloc(12 << 20);
        end_steps();
        free(third);
    }
    free(malloc(30));
    pthread_barrier_wait(&remote_barrier);
    if (at != NULL) {
        for (;;) { /* nobody knows what can still be done with the heap */
            pause();
        }
    }
    free(first);
    free(second);
    return NULL;
}

static void take_over(uintptr_t at) {
    pthread_t taker, leaver;
    NEED(pthread_create(&taker, NULL, takes_over, (void *)at) == 0, "pthread_create");
    pthread_barrier_wait(&remote_barrier);
    NEED(pthread_create(&leaver, NULL, leaves_a_block, NULL) == 0, "pthread_create");
    pthread_join(leaver, NULL);
    pthread_barrier_wait(&remote_barrier);
    pthread_barrier_wait(&remote_barrier);
    if (at == 0) {
        pthread_join(taker, NULL);
    }
    free(malloc(100 << 20));
    free(remote[0][0]);
}

/* Once: from now on handlers may leave. */
static void *is_left(void *unused) {
    leave_at = 20;
    if (sigsetjmp(outside, 1) == 0) {
        begin_steps();
        free(malloc(30));
        end_steps();
        free(malloc(30));
    }
    free(malloc(30));
    return unused;
}

static void leave_once(void) {
    pthread_t left;
    NEED(pthread_create(&left, NULL, is_left, NULL) == 0, "pthread_create");
    pthread_join(left, NULL);
}

static void run_reader_left(void) {
    leave_once();
    const struct sigaction action = {.sa_sigaction = steps_on_locked, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGTRAP, &action, NULL);
    mod_alloc_set_sampling(0); /* a site's lock that was left holds up who comes next, for seconds */
    pthread_barrier_init(&remote_barrier, NULL, 2);
    take_over(0);
    CHECK(locked_count > 3 && locked_count < LOCKED, "%ld locked instructions", locked_count);
    const long count = locked_count;
    alarm(800); /* for ever */
    for (long i = 0; i < count; i++) {
        take_over(locked[i]);
    }
}

/* Who holds, and when it is to go on. */
static volatile sig_atomic_t is_held, goes_on_now;

static void holds(int number) {
    (void)number;
    __atomic_store_n(&is_held, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&goes_on_now, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

static void *frees_and_is_held(void *at) {
    free(malloc(30));
    steps = 0;
    leave_at = (long)(intptr_t)at;
    begin_steps();
    free(remote[0][0]);
    end_steps();
    const long count = steps;
    __atomic_store_n(&is_held, 1, __ATOMIC_RELEASE);
    return (void *)(intptr_t)count;
}

/* The child has this thread only. */
static void end_in_a_child(void) {
    const pid_t child = fork();
    NEED(child >= 0, "fork");
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(60);
        pthread_exit(NULL);
    }
    int status;
    NEED(waitpid(child, &status, 0) == child, "waitpid");
    CHECK(status == 0, "a child whose thread ends has status %#x", (unsigned)status);
}

/* It does its first half, and the second when main comes by again. */
typedef struct actor {
    pthread_t thread;
    pthread_barrier_t barrier;
} actor;

static void wait_for_main(actor *me) {
    pthread_barrier_wait(&me->barrier);
    pthread_barrier_wait(&me->barrier);
}

static void begin_actor(actor *one, void *(*body)(void *)) {
    pthread_barrier_init(&one->barrier, NULL, 2);
    NEED(pthread_create(&one->thread, NULL, body, one) == 0, "pthread_create");
    pthread_barrier_wait(&one->barrier);
}

static void end_actor(actor *one) {
    pthread_barrier_wait(&one->barrier);
    pthread_join(one->thread, NULL);
    pthread_barrier_destroy(&one->barrier);
}

static void *has_a_large_block(void *me) {
    remote[0][0] = malloc(300000);
    wait_for_main(me);
    return NULL;
}

static void *forks_with_a_large_block(void *me) {
    remote[0][0] = malloc(300000);
    wait_for_main(me);
    end_in_a_child();
    pthread_barrier_wait(&((actor *)me)->barrier);
    return NULL;
}

static void *ends_later(void *me) {
    remote[0][1] = malloc(40);
    wait_for_main(me);
    return NULL;
}

/* It finds the last one's memory: what a thread's heap is kept in, and of blocks those that ends_later left. */
static void *takes_up(void *me) {
    void *volatile block = malloc(40);
    wait_for_main(me);
    for (size_t i = 0; i < 100; i++) {
        free(block);
        block = malloc(3000 * i);
        NEED(block != NULL, "no memory");
    }
    free(block);
    return NULL;
}

static pthread_t free_and_be_held(long at) {
    pthread_t freer;
    is_held = goes_on_now = 0;
    NEED(pthread_create(&freer, NULL, frees_and_is_held, (void *)(intptr_t)at) == 0, "pthread_create");
    while (!__atomic_load_n(&is_held, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
    return freer;
}

/* Returns the number of instructions. */
static long go_on(pthread_t freer) {
    void *count;
    __atomic_store_n(&goes_on_now, 1, __ATOMIC_RELEASE);
    pthread_join(freer, &count);
    return (long)(intptr_t)count;
}

static void run_remote_held(void) {
    leave_once();
    signal(SIGUSR1, holds);
    actor owner, later, next;
    long count = 2;
    for (long i = 1; i <= count && i < 400; i++) {
        begin_actor(&later, ends_later);
        begin_actor(&owner, has_a_large_block);
        const pthread_t freer = free_and_be_held(i);
        end_actor(&owner);
        end_actor(&later);
        begin_actor(&next, takes_up);
        count = go_on(freer);
        end_actor(&next);
        free(remote[0][1]);
    }
    CHECK(count > 30, "only %ld instructions", count);
}

static void run_remote_forked(void) {
    signal(SIGUSR1, holds);
    actor owner;
    long count = 2;
    for (long i = 1; i <= count && i < 400; i++) {
        begin_actor(&owner, forks_with_a_large_block);
        const pthread_t freer = free_and_be_held(i);
        pthread_barrier_wait(&owner.barrier);
        pthread_barrier_wait(&owner.barrier);
        count = go_on(freer);
        pthread_join(owner.thread, NULL);
        pthread_barrier_destroy(&owner.barrier);
    }
    CHECK(count > 30, "only %ld instructions", count);
}

static void run_left(void run(void)) {
    signal(SIGUSR1, leaves);
    leave_at_call = -1;
    const struct sigaction action = {.sa_sigaction = steps_on, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGTRAP, &action, NULL);
    run();
}
#else
static void run_first_left(void) {
}

static void run_site_left(void) {
}

static void run_remote_left(void) {
}

static void run_count_left(void) {
}

static void run_reader_left(void) {
}

static void run_remote_held(void) {
}

static void run_remote_forked(void) {
}

static void run_left(void run(void)) {
    (void)run;
    exit(WHOLE_SKIP);
}
#endif

/* ---- memory ---- */

static long resident_kib(void) {
    char text[4096];
    const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    const ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    NEED(length > 0, "/proc/self/statm");
    text[length] = '\0';
    return strtol(strchr(text, ' '), NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024);
}

static void pair(int number) {
    (void)number;
    unsigned char *const p = malloc(5000);
    memset(p, 1, 5000);
    free(p);
    handled++;
}

static void goes_on(int number) {
    const struct itimerval next = {.it_value = {.tv_usec = 500}}, never = {0};
    setitimer(ITIMER_REAL, &never, NULL); /* or the program would get nowhere */
    for (int i = 0; i < 100; i++) {
        unsigned char *const p = malloc(1 << 20);
        memset(p, number, 1 << 20);
        free(p);
    }
    handled++;
    setitimer(ITIMER_REAL, &next, NULL);
}

static bool has_handled_5000(void) {
    return handled >= 5000;
}

static bool has_handled_20(void) {
    return handled >= 20;
}

static void run_bounded(void) {
    const long before = resident_kib();
    signal(SIGALRM, pair);
    is_enough = has_handled_5000;
    churn_in_storm(200, 3, 2000);
    CHECK(resident_kib() - before < 12 << 10, "%ld KiB more after many handlers", resident_kib() - before);
    handled = 0;
    signal(SIGALRM, goes_on);
    is_enough = has_handled_20;
    churn_in_storm(5000, 4, 2000);
    CHECK(resident_kib() - before < 24 << 10, "%ld KiB more after handlers that go on",
          resident_kib() - before);
}

int main(int count, char **argument) {
    whole_begin();
    const char *what = count > 1 ? argument[1] : "semantics";
    if (strcmp(what, "exits") == 0) {
        run_exits();
    } else if (strcmp(what, "other_thread") == 0) {
        run_other_thread();
    } else if (strcmp(what, "large") == 0) {
        run_large();
    } else if (strcmp(what, "on_a_stack_above") == 0) {
        run_on_a_stack_above();
    } else if (strcmp(what, "thread_ends") == 0) {
        run_thread_ends();
    } else if (strcmp(what, "first_left") == 0) {
        run_left(run_first_left);
    } else if (strcmp(what, "site_left") == 0) {
        run_left(run_site_left);
    } else if (strcmp(what, "remote_left") == 0) {
        run_left(run_remote_left);
    } else if (strcmp(what, "reader_left") == 0) {
        run_left(run_reader_left);
    } else if (strcmp(what, "remote_held") == 0) {
        run_left(run_remote_held);
    } else if (strcmp(what, "remote_forked") == 0) {
        run_left(run_remote_forked);
    } else if (strcmp(what, "count_left") == 0) {
        run_left(run_count_left);
    } else if (strcmp(what, "bounded") == 0) {
        run_bounded();
    } else {
        check_sigaction();
        check_older();
        check_system();
    }
    return whole_end();
}
