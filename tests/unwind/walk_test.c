/* SPDX-License-Identifier: MIT
 *
 * walk_test.c - walks over the kinds of frames that compilers, signals, threads and coroutines make.
 *
 * The reference is libgcc's backtrace(); every walk is done twice, plainly and incrementally.
 */
#include "support.h"

#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "unwind/memo.h"
#include "unwind/stack.h"

#define NOINLINE __attribute__((noinline))

static support_result result;
static volatile unsigned counter;

static void begin(void) {
    support_begin(MODA_UNWIND_AUTO);
}

#define WALK_TEST(name) Test(walk, name, .init = begin, .timeout = 600)

/* ---- frames ---- */

NOINLINE static void leaf(void) {
    EXPECT_COMPLETE(&result);
    KEEP(&result);
}

NOINLINE static void plain_frame(int depth) {
    char local[24];
    KEEP(local);
    if (depth > 0) {
        plain_frame(depth - 1);
    } else {
        leaf();
    }
    KEEP(local);
}

WALK_TEST(plain_frames_are_those_of_libgcc) {
    plain_frame(5);
    cr_assert_geq(result.plain.count, 9);
}

NOINLINE static void aligned_frame(void) {
    char local[256] __attribute__((aligned(64)));
    KEEP(local);
    leaf();
    KEEP(local);
}

NOINLINE static void aligned_frame_with_alloca(size_t n) {
    char local[128] __attribute__((aligned(128)));
    char *more = alloca(n);
    KEEP(local);
    KEEP(more);
    aligned_frame();
    KEEP(more);
}

NOINLINE static void variable_length_frame(size_t n) {
    char local[n];
    KEEP(local);
    aligned_frame_with_alloca(n * 3);
    KEEP(local);
}

NOINLINE static void big_frame(void) {
    char local[150000];
    KEEP(local);
    variable_length_frame(77);
    KEEP(local);
}

WALK_TEST(realigned_variable_and_big_frames_are_passed) {
    big_frame();
    cr_assert_geq(result.plain.count, 8);
}

/* The call is the last instruction of its function: the return address belongs to the next one. */
__attribute__((noinline, noreturn)) static void never_returns(void) {
    leaf();
    pthread_exit(NULL);
}

NOINLINE static void calls_noreturn_last(void) {
    char local[40];
    KEEP(local);
    never_returns();
}

static void *run_noreturn(void *unused) {
    (void)unused;
    calls_noreturn_last();
    return NULL;
}

static void run_thread(const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, attributes, function, argument), 0);
    pthread_join(thread, NULL);
}

WALK_TEST(a_call_at_the_end_of_its_function_is_looked_up_inside_it) {
    run_thread(NULL, run_noreturn, NULL);
    cr_assert_geq(result.plain.count, 4);
}

NOINLINE static void recurse(int depth) {
    char local[64];
    KEEP(local);
    if (depth > 0) {
        recurse(depth - 1);
    } else {
        support_walk(&result);
    }
    KEEP(local);
}

WALK_TEST(deep_recursion_is_cut_at_the_limit) {
    recurse(10000);
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_CUT);
    cr_expect_eq(result.plain.count, SUPPORT_FRAMES_MAX);
    cr_expect(result.is_same && result.is_same_kept);
    recurse(20);
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_COMPLETE);
    cr_expect(result.is_same && result.is_same_kept);
}

/* ---- the incremental walk ---- */

static uint64_t random_state = 88172645463325252u;
static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static unsigned long walks_wanted, walks_wrong, walks_done, frames_reused, tails_wrong;
static uint64_t last_frames[SUPPORT_FRAMES_MAX];
static uint32_t last_count;

NOINLINE static void check_random_walk(void) {
    support_walk(&result);
    walks_done++;
    walks_wrong += !result.is_same || !result.is_same_kept;
    const uint32_t reused = result.kept.reused;
    frames_reused += reused;
    tails_wrong += reused > last_count || reused > result.kept.count
                   || memcmp(last_frames + last_count - reused,
                             result.kept_frames + result.kept.count - reused, (size_t)reused * 8)
                          != 0;
    memcpy(last_frames, result.kept_frames, (size_t)result.kept.count * 8);
    last_count = result.kept.count;
}

/* A random tree of calls, with frames of random kinds, and walks now and then. */
NOINLINE static void random_calls(int depth) {
    char *more = (next_random() & 3) == 0 ? alloca(next_random() % 200) : NULL;
    KEEP(more);
    for (unsigned calls = (unsigned)(next_random() % 4); calls > 0 && walks_done < walks_wanted; calls--) {
        const uint64_t r = next_random() & 7;
        if (depth > 0 && r < 3) {
            random_calls(depth - 1);
            KEEP(&calls); /* two places of call, with all else alike */
        } else if (depth > 0 && r < 6) {
            random_calls(depth - 1);
        } else {
            check_random_walk();
        }
        if ((next_random() & 15) == 0) {
            moda_unwind_forget();
        }
    }
    KEEP(more);
}

WALK_TEST(incremental_equals_plain_in_random_call_trees) {
    for (walks_wanted = 500; walks_wanted <= 20000; walks_wanted += 500) {
        while (walks_done < walks_wanted) {
            random_calls((int)(next_random() % 80));
        }
    }
    cr_expect_eq(walks_wrong, 0, "%lu of %lu walks are wrong", walks_wrong, walks_done);
    cr_expect_eq(tails_wrong, 0, "%lu of %lu walks claim too much", tails_wrong, walks_done);
    cr_expect_gt(frames_reused, walks_done, "nothing was reused");
}

/* A chain of frame records whose pcs have no tables, in memory that is no object's: passed by guesses. */
static uintptr_t make_chain(uintptr_t *words, size_t count) {
    const uintptr_t code = (uintptr_t)support_memory(4096) + 16;
    for (size_t i = 2; i + 8 < count; i += 4) {
        words[i] = (uintptr_t)&words[i + 4];
        words[i + 1] = code + i;
    }
    return code;
}

/* A saved word that changes under the kept walk: the walk must see it. */
WALK_TEST(a_changed_return_address_is_noticed) {
    moda_unwind_thread *thread = support_memory(moda_unwind_thread_size(SUPPORT_FRAMES_MAX));
    uint64_t frames[SUPPORT_FRAMES_MAX];
    uintptr_t stack[512] = {0};
    const moda_unwind_start start = {.pc = 16, .sp = (uintptr_t)stack, .fp = (uintptr_t)&stack[2]};
    const uintptr_t code = make_chain(stack, 40);
    const moda_walk first = moda_unwind(&start, thread, frames);
    cr_assert_eq(frames[3], code + 10);
    stack[11] = code + 99;
    const moda_walk second = moda_unwind(&start, thread, frames);
    cr_expect_eq(frames[3], code + 99);
    cr_expect_eq(first.count, second.count);
}

#if defined(__x86_64__) /* elsewhere walks with guesses are not remembered */
/* Walks over stacks that begin at different words of the chain, each remembered as what it led to. */
static void check_memo(moda_memo_kind kind) {
    enum { WALKS = 1000, CHAIN = 4 * (WALKS + SUPPORT_FRAMES_MAX + 4) };
    moda_unwind_thread *thread = support_memory(moda_unwind_thread_size(SUPPORT_FRAMES_MAX));
    moda_memo *memo = support_memory(moda_memo_size(kind) + 4096);
    uint8_t *const behind = (uint8_t *)memo + moda_memo_size(kind);
    uintptr_t stack[CHAIN] = {0};
    uint64_t frames[SUPPORT_FRAMES_MAX];
    make_chain(stack, CHAIN);
    uint32_t found = 0;
    for (uint32_t i = 0; i < WALKS; i++) {
        const moda_unwind_start start = {
            .pc = 16, .sp = (uintptr_t)&stack[4 * i], .fp = (uintptr_t)&stack[4 * i + 2]};
        cr_assert_null(moda_memo_find(memo, kind, &start, 7), "walk %u before it was made", i);
        const moda_walk walk = moda_unwind(&start, thread, frames);
        moda_memo_keep(memo, kind, &start, thread, &walk, i, 7);
        const moda_memo_entry *entry = moda_memo_find(memo, kind, &start, 7);
        cr_assert(entry != NULL && entry->value == i && entry->end == walk.end, "walk %u", i);
        cr_assert_null(moda_memo_find(memo, kind, &start, 8), "another generation");
        const uintptr_t kept = stack[4 * i + 11];
        stack[4 * i + 11] += 4; /* a return address three frames out */
        cr_assert_null(moda_memo_find(memo, kind, &start, 7), "walk %u with another word", i);
        stack[4 * i + 11] = kept;
    }
    for (uint32_t i = 0; i < WALKS; i++) {
        const moda_unwind_start start = {
            .pc = 16, .sp = (uintptr_t)&stack[4 * i], .fp = (uintptr_t)&stack[4 * i + 2]};
        const moda_memo_entry *entry = moda_memo_find(memo, kind, &start, 7);
        cr_assert(entry == NULL || entry->value == i, "walk %u led to %u", i,
                  entry == NULL ? 0 : entry->value);
        found += entry != NULL;
    }
    cr_expect_geq(found, 20);
    cr_expect_lt(found, WALKS, "there is room for %zu", moda_memo_entries(kind));
    for (uint32_t i = 0; i < 4096; i++) {
        cr_assert_eq(behind[i], 0, "written %u bytes behind its end", i);
    }
    moda_memo_clear(memo, kind);
    const moda_unwind_start last = {
        .pc = 16, .sp = (uintptr_t)&stack[4 * (WALKS - 1)], .fp = (uintptr_t)&stack[4 * (WALKS - 1) + 2]};
    cr_expect_null(moda_memo_find(memo, kind, &last, 7));
}

WALK_TEST(what_is_remembered_of_walks_is_right_or_gone) {
    check_memo(MODA_MEMO_SMALL);
    check_memo(MODA_MEMO_LARGE);
}

static struct {
    moda_memo *memo;
    moda_unwind_start start;
    uint32_t now; /* what this walk leads to */
    unsigned steps, found, wrong;
} stepped;

/* After each instruction: who comes by now finds nothing, or what is right. */
static void on_step(int number) {
    (void)number;
    const moda_memo_entry *entry = moda_memo_find(stepped.memo, MODA_MEMO_SMALL, &stepped.start, 7);
    stepped.steps++;
    stepped.found += entry != NULL;
    stepped.wrong += entry != NULL && entry->value != stepped.now;
}

/* A signal handler may leave by longjmp while a walk is noted in an older one's place. */
WALK_TEST(a_walk_that_is_noted_in_part_is_not_remembered) {
    moda_unwind_thread *thread = support_memory(moda_unwind_thread_size(SUPPORT_FRAMES_MAX));
    stepped.memo = support_memory(moda_memo_size(MODA_MEMO_SMALL));
    uint64_t frames[SUPPORT_FRAMES_MAX];
    uintptr_t stack[512] = {0};
    make_chain(stack, 512);
    stepped.start = (moda_unwind_start){.pc = 16, .sp = (uintptr_t)stack, .fp = (uintptr_t)&stack[2]};
    signal(SIGTRAP, on_step);
    for (stepped.now = 1; stepped.now <= 3; stepped.now++) {
        stack[11] += 4;
        const moda_walk walk = moda_unwind(&stepped.start, thread, frames);
        stepped.memo->next_way = 0;
        __asm__ volatile("sub $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; add $128, %%rsp"
                         :
                         :
                         : "cc", "memory");
        moda_memo_keep(stepped.memo, MODA_MEMO_SMALL, &stepped.start, thread, &walk, stepped.now, 7);
        __asm__ volatile("sub $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; add $128, %%rsp"
                         :
                         :
                         : "cc", "memory");
    }
    cr_expect_gt(stepped.steps, 300);
    cr_expect_gt(stepped.found, 0);
    cr_expect_eq(stepped.wrong, 0, "wrong after %u of %u instructions", stepped.wrong, stepped.steps);
}
#endif

/* What a frame pointer that holds something else leads to: what is no code, or does not follow a call there. */
WALK_TEST(a_guess_finds_no_frame_but_where_code_was_called_from) {
    plain_frame(1);
    cr_assert_gt(result.plain.count, 2);
    uint64_t frames[SUPPORT_FRAMES_MAX];
    uintptr_t stack[512] = {0};
    uintptr_t *const record = &stack[2];
    const moda_unwind_start start = {.pc = 16, .sp = (uintptr_t)stack, .fp = (uintptr_t)record};
    const uintptr_t wrong[] = {0x3f00000035, (uintptr_t)&walks_done, (uintptr_t)&qsort,
                               (uintptr_t) "read only"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        record[1] = wrong[i];
        const moda_walk walk = moda_unwind(&start, NULL, frames);
        cr_expect_eq(walk.count, 1, "%zu: %u frames", i, walk.count);
        cr_expect_eq(walk.end, MOD_ALLOC_WALK_UNKNOWN);
        cr_expect_eq(walk.guessed, 0);
    }
    const uintptr_t right[] = {result.frames[0], result.frames[1], (uintptr_t)support_memory(4096) + 64};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        record[1] = right[i];
        const moda_walk walk = moda_unwind(&start, NULL, frames);
        cr_expect_geq(walk.count, 2, "%zu: %u frames", i, walk.count);
        cr_expect_eq(frames[1], right[i]);
        cr_expect_eq(walk.guessed, 1);
    }
}

/* ---- signals ---- */

static void on_signal(int number) {
    (void)number;
    counter++;
    EXPECT_COMPLETE(&result);
}

static void on_signal_raising(int number) {
    (void)number;
    EXPECT_COMPLETE(&result);
    raise(SIGUSR2);
    EXPECT_COMPLETE(&result);
}

static void handle(int number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

WALK_TEST(a_signal_handler_is_passed) {
    handle(SIGUSR1, on_signal, 0);
    raise(SIGUSR1);
    cr_assert_eq(counter, 1);
    cr_assert_geq(result.plain.count, 6);
}

WALK_TEST(nested_signal_handlers_are_passed) {
    handle(SIGUSR2, on_signal, 0);
    handle(SIGUSR1, on_signal_raising, 0);
    raise(SIGUSR1);
    cr_assert_eq(counter, 1);
}

static void use_alternate_stack(size_t bytes) {
    stack_t alternate = {.ss_sp = support_memory(bytes), .ss_size = bytes};
    cr_assert_eq(sigaltstack(&alternate, NULL), 0);
}

WALK_TEST(a_handler_on_an_alternate_stack_leads_back_to_the_thread) {
    use_alternate_stack(65536);
    handle(SIGUSR2, on_signal, 0);
    handle(SIGUSR1, on_signal_raising, SA_ONSTACK);
    raise(SIGUSR1);
    cr_assert_eq(counter, 1);
    cr_assert_geq(result.plain.count, 6);
}

static void *run_alternate_in_thread(void *unused) {
    (void)unused;
    use_alternate_stack(65536);
    plain_frame(3);
    raise(SIGUSR1);
    plain_frame(3);
    return NULL;
}

WALK_TEST(alternate_stacks_of_threads) {
    handle(SIGUSR2, on_signal, 0);
    handle(SIGUSR1, on_signal_raising, SA_ONSTACK);
    run_thread(NULL, run_alternate_in_thread, NULL);
    cr_assert_eq(counter, 1);
}

static unsigned long asynchronous, asynchronous_wrong, asynchronous_incomplete;

static void on_timer(int number) {
    (void)number;
    support_walk(&result);
    asynchronous++;
    /* In aarch64's PLT, which has no tables, we go on by the link register and libgcc gives up. */
    const int is_guessed = result.plain.end == MOD_ALLOC_WALK_GUESSED && MODA_DWARF_FP == 29;
    asynchronous_wrong += (!result.is_same && !is_guessed) || !result.is_same_kept;
    asynchronous_incomplete += result.plain.end != MOD_ALLOC_WALK_COMPLETE && !is_guessed;
}

static int compare_ints(const void *a, const void *b) {
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

NOINLINE static unsigned long busy(int depth) {
    char *more = alloca((size_t)depth * 8 + 8);
    KEEP(more);
    unsigned long sum = depth > 0 ? busy(depth - 1) : next_random();
    KEEP(more);
    return sum + (unsigned long)depth;
}

static void work_a_while(void) {
    int values[500];
    for (int i = 0; i < 500; i++) {
        values[i] = (int)next_random();
    }
    qsort(values, 500, sizeof values[0], compare_ints);
    counter += (unsigned)busy(20);
}

/* Wherever the timer strikes: prologues, epilogues, the PLT. */
WALK_TEST(asynchronous_interruptions_are_walked) {
    handle(SIGPROF, on_timer, SA_RESTART);
    const struct itimerval interval = {.it_interval.tv_usec = 1000, .it_value.tv_usec = 1000};
    setitimer(ITIMER_PROF, &interval, NULL);
    for (long rounds = 0; asynchronous < 300 && rounds < 2000000; rounds++) {
        work_a_while();
    }
    setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL);
    cr_expect_geq(asynchronous, 300);
    cr_expect_eq(asynchronous_wrong, 0, "%lu of %lu differ from libgcc's", asynchronous_wrong, asynchronous);
    cr_expect_eq(asynchronous_incomplete, 0);
}

#if defined(__x86_64__)
/* After every single instruction: the trap flag. */
static void on_trap(int number) {
    on_timer(number);
}

static void set_trap_flag(int is_on) {
    if (is_on) {
        __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" : : : "cc", "memory");
    } else {
        __asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" : : : "cc", "memory");
    }
}

WALK_TEST(every_instruction_of_a_run_is_walked) {
    handle(SIGTRAP, on_trap, 0);
    int values[12];
    for (int i = 0; i < 12; i++) {
        values[i] = (int)next_random();
    }
    set_trap_flag(1);
    qsort(values, 12, sizeof values[0], compare_ints);
    counter += (unsigned)busy(5);
    set_trap_flag(0);
    cr_expect_gt(asynchronous, 500);
    cr_expect_eq(asynchronous_wrong, 0, "%lu of %lu differ from libgcc's", asynchronous_wrong, asynchronous);
    /* between pushfq and popfq above, which no table knows of, libgcc goes astray too */
    cr_expect_leq(asynchronous_incomplete, 4);
}
#endif

/* ---- threads ---- */

static void *run_plain(void *unused) {
    (void)unused;
    plain_frame(4);
    big_frame();
    plain_frame(4);
    return NULL;
}

static void *run_small(void *unused) {
    (void)unused;
    support_walk(&result);
    return NULL;
}

WALK_TEST(threads_with_default_own_and_16_KiB_stacks) {
    run_thread(NULL, run_plain, NULL);
    cr_expect_geq(result.plain.count, 6);

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, support_memory(1 << 20), 1 << 20);
    run_thread(&attributes, run_plain, NULL);
    cr_expect_geq(result.plain.count, 6);

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    run_thread(&attributes, run_small, NULL);
    cr_expect(result.is_same && result.is_same_kept);
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_COMPLETE);
}

enum { DEEP_BYTES = 40 << 20 };

NOINLINE static void deep_frame(size_t bytes) {
    char local[bytes];
    KEEP(local);
    leaf();
    KEEP(local);
}

static void *run_deep(void *unused) {
    deep_frame(DEEP_BYTES);
    plain_frame(4);
    return unused;
}

WALK_TEST(a_thread_first_seen_deep_in_a_big_stack) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, DEEP_BYTES + (24 << 20));
    run_thread(&attributes, run_deep, NULL);
    cr_expect_geq(result.plain.count, 6);
}

static int run_cloned(void *unused) {
    (void)unused;
    support_walk(&result);
    return 0;
}

/* No libc thread, no control block of its own, a stack that nobody told of. */
WALK_TEST(a_raw_clone_is_walked) {
    const size_t bytes = 262144;
    char *stack = support_memory(bytes);
    const pid_t child = clone(run_cloned, stack + bytes, CLONE_VM | SIGCHLD, NULL);
    if (child < 0 && errno == EINVAL) {
        cr_skip_test("qemu's user mode has no raw clone");
    }
    cr_assert_gt(child, 0);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    cr_expect(result.is_same && result.is_same_kept);
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_COMPLETE);
}

/* ---- coroutines ---- */

static ucontext_t main_context, coroutine_context;
static char *coroutine_stack;

NOINLINE static void coroutine_inner(int depth) {
    char local[3000];
    KEEP(local);
    if (depth > 0) {
        coroutine_inner(depth - 1);
    } else {
        support_walk(&result);
    }
    KEEP(local);
}

static void coroutine(void) {
    for (int depth = 0;; depth = (depth + 1) % 12) {
        coroutine_inner(depth);
        swapcontext(&coroutine_context, &main_context);
    }
}

static void make_coroutine(size_t bytes) {
    coroutine_stack = support_memory(bytes + 8192);
    mprotect(coroutine_stack, 4096, PROT_NONE);
    mprotect(coroutine_stack + bytes + 4096, 4096, PROT_NONE); /* nothing above may be touched */
    getcontext(&coroutine_context);
    coroutine_context.uc_stack.ss_sp = coroutine_stack + 4096;
    coroutine_context.uc_stack.ss_size = bytes;
    coroutine_context.uc_link = &main_context;
    makecontext(&coroutine_context, coroutine, 0);
}

/* libgcc stops where we stop, at what the coroutine's function would return to; no frame is further out. */
static void *switch_coroutines(void *unused) {
    for (int round = 0; round < 40; round++) {
        const size_t bytes = round % 2 == 0 ? 262144 : 65536;
        make_coroutine(bytes);
        for (int i = 0; i < 13; i++) {
            swapcontext(&main_context, &coroutine_context);
            cr_expect_geq(result.plain.count, 3);
            cr_expect(result.is_same_kept);
            cr_expect_eq(memcmp(result.frames, result.reference, (size_t)(result.plain.count - 1) * 8), 0);
            cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_COMPLETE, "ended %u", result.plain.end);
            leaf();
        }
        munmap(coroutine_stack, bytes + 8192);
    }
    return unused;
}

WALK_TEST(coroutines_come_and_go) {
    switch_coroutines(NULL);
}

WALK_TEST(coroutines_of_a_thread_come_and_go) {
    run_thread(NULL, switch_coroutines, NULL);
}

/* A stack that ends with a return address of 0, as those of Ruby's fibers. */
static void end_with_zero(ucontext_t *context) {
#if defined(__x86_64__)
    *(uintptr_t *)(uintptr_t)context->uc_mcontext.gregs[REG_RSP] = 0;
#else
    context->uc_mcontext.regs[30] = 0;
#endif
}

static void switch_to_stack(char *stack, size_t bytes, bool is_marked) {
    getcontext(&coroutine_context);
    coroutine_context.uc_stack.ss_sp = stack;
    coroutine_context.uc_stack.ss_size = bytes;
    coroutine_context.uc_link = NULL;
    makecontext(&coroutine_context, coroutine, 0);
    if (is_marked) {
        end_with_zero(&coroutine_context);
    }
    for (int i = 0; i < 5; i++) {
        swapcontext(&main_context, &coroutine_context);
        cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_COMPLETE, "ended %u", result.plain.end);
        cr_expect_eq(result.plain.count, (uint32_t)i + (is_marked ? 2 : 3), "%u frames", result.plain.count);
        cr_expect(result.is_same, "not libgcc's frames");
        cr_expect(result.is_same_kept, "the incremental walk differs");
        leaf();
    }
}

static void switch_to_stacks(bool is_marked) {
    char part_of_own[65536];
    switch_to_stack(support_memory(65536), 65536, is_marked);
    switch_to_stack(part_of_own, sizeof part_of_own, is_marked);
    KEEP(part_of_own);
}

WALK_TEST(a_return_address_of_0_ends_a_coroutine) {
    switch_to_stacks(true);
}

WALK_TEST(the_function_of_a_coroutine_is_called_by_nobody) {
    switch_to_stacks(false);
}

/* What a walk keeps of a coroutine's stack must not be read again: half of it may be gone by then. The stack
 * is a copy of our own, in which all rows hang on sp. */
static char *copied_stack;
static moda_unwind_start copied_start;

NOINLINE static void copy_own_stack(void) {
    const moda_unwind_start here = START_OF_CALLER();
    copied_start = here;
    copied_start.sp = (uintptr_t)copied_stack + 4096 - 512;
    memcpy(copied_stack + 4096 - 512, (const void *)here.sp, 4096);
    KEEP(copied_stack);
}

NOINLINE static void recurse_and_copy(int depth) {
    char local[64];
    KEEP(local);
    if (depth > 0) {
        recurse_and_copy(depth - 1);
    } else {
        copy_own_stack();
    }
    KEEP(local);
}

WALK_TEST(a_stack_that_shrank_between_two_walks_is_not_believed) {
    moda_unwind_thread *thread = support_memory(moda_unwind_thread_size(SUPPORT_FRAMES_MAX));
    uint64_t frames[SUPPORT_FRAMES_MAX];
    copied_stack = support_memory(65536);
    recurse_and_copy(100);
    const moda_walk whole = moda_unwind(&copied_start, thread, frames);
    cr_assert_geq(whole.count, 20);
    munmap(copied_stack + 4096, 61440);
    const moda_walk half = moda_unwind(&copied_start, thread, frames);
    cr_expect_lt(half.count, whole.count);
    cr_expect_geq(half.count, 4);
    cr_expect_eq(half.end, MOD_ALLOC_WALK_BROKEN);
}

/* One mapping: another stack, a page that can't be read, and the thread's own. */
static char *two_stacks;
enum { OTHER_BYTES = 65536, OWN_BYTES = 40 << 20 };

static void *enter_stacks(void *unused) {
    moda_stack_own own = {0};
    moda_stack_range range;
    moda_stack_enter(&own, (uintptr_t)__builtin_frame_address(0), &range);
    cr_expect(range.is_own);
    cr_expect_eq(range.high, (uintptr_t)pthread_self());
    moda_stack_enter(&own, (uintptr_t)two_stacks + 4096, &range);
    cr_expect_not(range.is_own);
    cr_expect_eq(range.high, (uintptr_t)two_stacks + 8192);
    cr_expect_eq(own.barrier, (uintptr_t)two_stacks + OTHER_BYTES, "it will be probed for in each walk");
    cr_expect(moda_stack_reaches(&range, (uintptr_t)two_stacks + OTHER_BYTES));
    cr_expect_not(moda_stack_reaches(&range, (uintptr_t)two_stacks + OTHER_BYTES + 8));
    moda_stack_enter(&own, (uintptr_t)two_stacks + OTHER_BYTES + 4096, &range);
    cr_expect(range.is_own, "the end of its own");
    return unused;
}

WALK_TEST(a_threads_own_stack_and_others_are_told_apart) {
    two_stacks = support_memory(OTHER_BYTES + 4096 + OWN_BYTES);
    mprotect(two_stacks + OTHER_BYTES, 4096, PROT_NONE);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, two_stacks + OTHER_BYTES + 4096, OWN_BYTES);
    run_thread(&attributes, enter_stacks, NULL);
}

/* ---- code without tables ---- */

#if defined(__x86_64__)
typedef void callback_caller(void (*callback)(void));

static void walk_for_jit(void) {
    support_walk(&result);
    KEEP(&result);
}

static callback_caller *make_code(const unsigned char *bytes, size_t count) {
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, bytes, count);
    return (callback_caller *)(uintptr_t)code;
}

static callback_caller *with_frame_pointer(void) {
    static const unsigned char code[] = {0x55,             /* push %rbp */
                                         0x48, 0x89, 0xe5, /* mov %rsp, %rbp */
                                         0xff, 0xd7,       /* call *%rdi */
                                         0x5d, 0xc3};      /* pop %rbp; ret */
    return make_code(code, sizeof code);
}

static callback_caller *without_frame_pointer(void) {
    static const unsigned char code[] = {0x48, 0x83, 0xec, 0x18, /* sub $24, %rsp */
                                         0xff, 0xd7,             /* call *%rdi */
                                         0x48, 0x83, 0xc4, 0x18, 0xc3};
    return make_code(code, sizeof code);
}

NOINLINE static void call_through(callback_caller *code) {
    char local[40];
    KEEP(local);
    code(walk_for_jit);
    KEEP(local);
}

WALK_TEST(generated_code_with_frame_pointers_is_passed_and_marked) {
    call_through(with_frame_pointer());
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_GUESSED);
    cr_expect_eq(result.plain.guessed, 1);
    cr_expect(result.is_same_kept);
    void *here[SUPPORT_FRAMES_MAX];
    const int count = backtrace(here, SUPPORT_FRAMES_MAX);
    /* walk_for_jit, the code, call_through, this test, and the rest as libgcc sees it from here */
    cr_assert_eq(result.plain.count, (uint32_t)count + 3);
    cr_expect_eq(memcmp(&result.frames[4], &here[1], (size_t)(count - 1) * 8), 0);
}

WALK_TEST(by_tables_alone_nothing_is_guessed) {
    moda_unwind_initialize(MODA_UNWIND_TABLES, SUPPORT_FRAMES_MAX);
    call_through(with_frame_pointer());
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_UNKNOWN);
    cr_expect_eq(result.plain.guessed, 0);
    cr_expect_eq(result.plain.count, 2);
}

WALK_TEST(generated_code_without_frame_pointers_is_never_called_complete) {
    call_through(without_frame_pointer());
    cr_expect_neq(result.plain.end, MOD_ALLOC_WALK_COMPLETE);
    cr_expect(result.is_same_kept);
}
#endif

/* ---- garbage ---- */

/* Stacks full of plausible and random words, with nothing readable around them: a walk that reads one word
 * outside dies. */
static void fill_with_garbage(uintptr_t *words, size_t count, uintptr_t base) {
    for (size_t i = 0; i < count; i++) {
        const uint64_t r = next_random();
        const unsigned kind = r & 3;
        if (kind == 0) {
            words[i] = result.frames[(r >> 8) % result.plain.count];
        } else if (kind == 1) {
            words[i] = base + (r >> 8) % (count * 8 + 64);
        } else if (kind == 2) {
            words[i] = (uintptr_t)&qsort + (r >> 8) % 1000000; /* somewhere in libc */
        } else {
            words[i] = r;
        }
    }
}

WALK_TEST(garbage_never_makes_it_leave_the_stack) {
    const size_t pages = 3, bytes = pages * 4096;
    char *guarded = support_memory(bytes + 8192);
    mprotect(guarded, 4096, PROT_NONE);
    mprotect(guarded + 4096 + bytes, 4096, PROT_NONE);
    uintptr_t *words = (uintptr_t *)(void *)(guarded + 4096);
    plain_frame(10);
    uint64_t frames[SUPPORT_FRAMES_MAX];
    moda_unwind_thread *thread = support_memory(moda_unwind_thread_size(SUPPORT_FRAMES_MAX));
    uint32_t ends[6] = {0};
    for (int i = 0; i < 200000; i++) {
        moda_unwind_initialize((moda_walker_id)(i % 3), SUPPORT_FRAMES_MAX);
        if (i % 50 == 0) {
            fill_with_garbage(words, bytes / 8, (uintptr_t)words);
        }
        moda_unwind_start start = {
            .pc = result.frames[next_random() % result.plain.count],
            .sp = (uintptr_t)words + 128 + next_random() % (bytes - 128) / 8 * 8,
            .fp = (uintptr_t)words + next_random() % (bytes + 256),
        };
        const moda_walk walk = moda_unwind(&start, i % 2 == 0 ? thread : NULL, frames);
        cr_assert_leq(walk.count, SUPPORT_FRAMES_MAX);
        cr_assert_leq(walk.end, MOD_ALLOC_WALK_BROKEN);
        ends[walk.end]++;
    }
    cr_expect_gt(ends[MOD_ALLOC_WALK_BROKEN] + ends[MOD_ALLOC_WALK_UNKNOWN], 1000);
}

#if defined(__x86_64__)
NOINLINE static void walk_with_bad_fp(uintptr_t fp, moda_walk *walk, uint64_t *frames) {
    moda_unwind_start start = START_OF_CALLER();
    start.fp = fp;
    *walk = moda_unwind(&start, NULL, frames);
}

NOINLINE static void frame_that_needs_fp(size_t n, uintptr_t fp) {
    __asm__("" : "+r"(n)); /* not a constant */
    char *local = alloca(n);
    KEEP(local);
    moda_walk walk;
    uint64_t frames[SUPPORT_FRAMES_MAX];
    walk_with_bad_fp(fp, &walk, frames);
    cr_expect_eq(walk.end, MOD_ALLOC_WALK_BROKEN, "fp %lx: ended %u after %u", fp, walk.end, walk.count);
    cr_expect_eq(walk.count, 1);
    KEEP(local);
}

WALK_TEST(a_corrupt_frame_pointer_ends_the_walk_as_broken) {
    static const uintptr_t bad[] = {
        0, 1, 8, 0x7f, (uintptr_t)-8, (uintptr_t)-16, (uintptr_t)1 << 63, 0x123456789abc};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        frame_that_needs_fp(100, bad[i]);
    }
    frame_that_needs_fp(100, (uintptr_t)&bad);
}

/* ---- a stack in parts ---- */

/* As libgcc's __morestack calls a function on another part of the stack: a frame that lies where fp points. */
void like_morestack(const void *fp, void (*function)(void));
extern const char like_morestack_return[];
__asm__(".text\n"
        ".type like_morestack, @function\n"
        "like_morestack:\n"
        "        .cfi_startproc\n"
        "        pushq %rbx\n"
        "        .cfi_def_cfa_offset 16\n"
        "        .cfi_offset 3, -16\n"
        "        movq %rbp, %rbx\n"
        "        movq %rdi, %rbp\n"
        "        movq %rsi, %r10\n"
        "        .cfi_remember_state\n"
        "        .cfi_def_cfa 6, 24\n"
        "        .cfi_offset 6, -24\n"
        "        call *%r10\n"
        "like_morestack_return:\n"
        "        movq %rbx, %rbp\n"
        "        .cfi_restore_state\n"
        "        popq %rbx\n"
        "        .cfi_def_cfa_offset 8\n"
        "        ret\n"
        "        .cfi_endproc\n"
        ".size like_morestack, . - like_morestack\n");

NOINLINE static void walk_from_caller(void) {
    const moda_unwind_start start = START_OF_CALLER();
    result.plain = moda_unwind(&start, NULL, result.frames);
    KEEP(&result);
}

NOINLINE static void walks_there(void) {
    walk_from_caller();
    KEEP(&result);
}

static void expect_older_part(const void *fp, uint32_t frames, mod_alloc_walk_end end) {
    like_morestack(fp, walks_there);
    cr_expect_eq(result.plain.count, frames, "fp %p: %u frames, not %u", fp, result.plain.count, frames);
    cr_expect_eq(result.plain.end, end, "fp %p: ended %u, not %u", fp, result.plain.end, (unsigned)end);
    cr_expect_eq(result.frames[1], (uintptr_t)like_morestack_return);
}

WALK_TEST(an_older_part_of_the_stack_is_read_where_it_can_be) {
    enum { PAGE = 4096 };
    char *const area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(area != MAP_FAILED && mprotect(area + PAGE, PAGE, PROT_NONE) == 0);
    uintptr_t *const last = (uintptr_t *)(void *)(area + PAGE) - 3;
    last[2] = 8; /* no code */
    expect_older_part(last, 3, MOD_ALLOC_WALK_UNKNOWN);
    uintptr_t *const around = (uintptr_t *)(void *)(area + 2 * PAGE);
    around[0] = (uintptr_t)last;
    around[2] = (uintptr_t)like_morestack_return; /* downwards, to the other */
    expect_older_part(around, 4, MOD_ALLOC_WALK_UNKNOWN);
    around[0] = (uintptr_t)around; /* round in circles */
    expect_older_part(around, 64, MOD_ALLOC_WALK_CUT);
    const void *const wrong[] = {
        NULL,
        (void *)8,
        (void *)UINTPTR_MAX,
        (void *)(UINTPTR_MAX - 7),
        area + PAGE,
        area + PAGE + 8,
        last + 1,
        (char *)last - 4,
        area + 2 * PAGE - 8,
        area + 2 * PAGE - 16,
        (void *)((uintptr_t)1 << 47),
        (void *)((uintptr_t)1 << 63),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect_older_part(wrong[i], 2, MOD_ALLOC_WALK_BROKEN);
    }
    munmap(area, 3 * PAGE);
}
#endif

/* ---- processes ---- */

WALK_TEST(a_forked_child_walks) {
    plain_frame(3);
    const pid_t child = fork();
    if (child == 0) {
        support_walk(&result);
        _exit(result.is_same && result.is_same_kept && result.plain.end == MOD_ALLOC_WALK_COMPLETE ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    cr_expect_eq(status, 0);
    plain_frame(3);
}

static void *fork_in_thread(void *status) {
    plain_frame(3);
    const pid_t child = fork();
    if (child == 0) { /* the child's main thread, on a stack that is not its main one */
        support_walk(&result);
        _exit(result.is_same && result.is_same_kept && result.plain.end == MOD_ALLOC_WALK_COMPLETE ? 0 : 1);
    }
    waitpid(child, status, 0);
    return NULL;
}

WALK_TEST(a_child_forked_by_a_thread_walks) {
    int status = -1;
    run_thread(NULL, fork_in_thread, &status);
    cr_expect_eq(status, 0);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
WALK_TEST(a_vforked_child_walks_and_the_parent_after_it) {
    plain_frame(3);
    const pid_t child = vfork();
    if (child == 0) {
        support_walk(&result); // NOLINT(clang-analyzer-unix.Vfork): what malloc would do there
        _exit(result.is_same && result.plain.end == MOD_ALLOC_WALK_COMPLETE ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    cr_expect_eq(status, 0);
    plain_frame(3);
}
#pragma GCC diagnostic pop

/* ---- frame pointers ---- */

WALK_TEST(errno_stays_as_it_is) {
    errno = 4711;
    support_walk(&result);
    cr_expect_eq(errno, 4711);
}
