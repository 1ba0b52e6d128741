/* SPDX-License-Identifier: MIT
 *
 * unbiased.c - hundreds of runs of one program, each with a seed of its own: what sampling estimates of each of its call
 * sites is right on average, and spreads as theory says.
 *
 *   unbiased alone RATE [RATE]  one thread; with two rates they are changed by turns while it runs
 *   unbiased threads RATE       three threads at a time, three times over: each has a stream of its own, and those that
 *                               end leave their slots to the next. Blocks are freed by their own thread, by another that
 *                               runs beside it, by one that came when it had ended, or live to the end
 *   unbiased lives RATE         how long blocks live, short ones and long ones in turn, by the program's own clock
 *
 * One site for each size, 8 bytes to 8 MiB, by each way to allocate. A chain of reallocs hands blocks on from one site to
 * the next: moved to more and to fewer bytes, and in place; from blocks that are tracked to others that are not and back.
 *
 * Theory: a block of s bytes is sampled with p = 1 - exp(-s / R) and then stands for 1 / p, independently of all others. So
 * the sum of any x over the blocks (1 for each; 1 for those that live, that another thread frees, that live short; their
 * lives) is estimated with the variance sum x^2 (1 - p) / p. Where every allocation is recorded, of a site's blocks behind
 * the first 256 one in 8 is timed; the sum over those is scaled to all of them, so that the variance is that
 * of the x's own spread, 7 sum (x - mean)^2.
 *
 * Odds: the mean over the seeds lies within 3.5 standard errors of the truth with a probability of 0.9995, at all 131
 * figures of the six tests with 0.94. The spread must be theory's to 20 % (3.5 of its own standard errors) where there are
 * samples enough. Where some figure is off, as many other seeds follow, and it fails if the same figure is off there, too:
 * by chance that happens to one in 30,000. Which blocks are sampled hangs on seeds, slots and their incarnations alone, not on how threads take
 * turns, so that it passes always or fails always, as long as no start code allocates otherwise. Of the lives the truth is
 * measured beside the estimate, and may be as it is; within 4 standard errors: 0.99994. Weights that are 3 % too high are
 * seen at 26 of the 38 figures of the threads.
 */
#include "mod_alloc.h"

#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SITES = 16, WORKERS = 3, WAVES = 3, SEEDS = 600, SEEDS_LIVES = 300, HELD = 32, BLOCKS_MAX = 4096 };
enum { FATES = 4, FREED_HERE = 0, GIVEN = 1, LEFT = 2, KEPT = 3 };

extern char **environ;
static volatile size_t zero; /* keeps the compiler from knowing a size */

static void fail(const char *what, int i, double found, double expected) {
    fprintf(stderr, "site %d: %s: %.6f, expected %.6f\n", i, what, found, expected);
    _exit(3);
}

/* ---- the sites ---- */

static size_t size_of[SITES]; /* of a block, as it is counted */

/* malloc_usable_size is less for a block that lies inside a larger one. */
#define SITE(number, call)                                                                                   \
    static __attribute__((noinline)) void *site_##number(void) {                                             \
        mod_alloc_stats before, after;                                                                       \
        mod_alloc_thread_snapshot(&before);                                                                  \
        void *p = call;                                                                                      \
        mod_alloc_thread_snapshot(&after);                                                                   \
        __atomic_store_n(&size_of[number], after.total_bytes - before.total_bytes, __ATOMIC_RELAXED);        \
        __asm__ volatile("" : "+r"(p) : : "memory");                                                         \
        return p;                                                                                            \
    }
#define RESIZED(number, from, size)                                                                          \
    static __attribute__((noinline)) void *site_##number(void) {                                             \
        void *p = realloc(site_##from(), size + zero);                                                       \
        __atomic_store_n(&size_of[number], malloc_usable_size(p), __ATOMIC_RELAXED);                         \
        __asm__ volatile("" : "+r"(p) : : "memory");                                                         \
        return p;                                                                                            \
    }
SITE(0, malloc(8 + zero))
SITE(1, malloc(48 + zero))
SITE(2, calloc(1, 400 + zero))
SITE(3, aligned_alloc(256, 4096 + zero))
SITE(4, malloc(65536 + zero))
SITE(5, realloc(NULL, 524288 + zero))
SITE(6, aligned_alloc(4096, 1048576 + zero))
SITE(7, calloc(8388608 + zero, 1))
SITE(8, memalign(64, 200 + zero))
SITE(9, malloc(3000 + zero))
RESIZED(10, 9, 20000)  /* moves */
RESIZED(11, 10, 19000) /* stays, tracked or not as it was, and so the next */
RESIZED(12, 11, 20400)
RESIZED(13, 12, 900) /* moves */
SITE(14, malloc(100000 + zero))
RESIZED(15, 14, 60000) /* stays */

typedef void *site(void);
static site *const sites[SITES] = {site_0, site_1, site_2,  site_3,  site_4,  site_5,  site_6,  site_7,
                                   site_8, site_9, site_10, site_11, site_12, site_13, site_14, site_15};
/* Of each: by all threads together. Each number can be divided by all works and fates, and by two rates but where every
 * block is sampled by either. */
static const int blocks_of[SITES] = {4032, 2016, 1008, 504, 144, 72,  36,  36,
                                     1008, 432,  432,  432, 432, 432, 144, 144};

/* From where the next site takes its blocks. */
static int is_inner(int i) {
    return (i >= 9 && i <= 12) || i == 14;
}

/* The site whose function holds an address: the one that begins last before it. */
static int site_of(uintptr_t address) {
    int found = -1;
    uintptr_t nearest = 256;
    for (int i = 0; i < SITES; i++) {
        const uintptr_t behind = address - (uintptr_t)sites[i];
        if (behind < nearest) {
            nearest = behind;
            found = i;
        }
    }
    return found;
}

/* Added up over the sites that begin in one function: there are several callers. */
static int add_site(const mod_alloc_call_site *seen, void *context) {
    mod_alloc_call_site *all = context;
    const int i = seen->frame_count != 0 ? site_of(seen->frames[0]) : -1;
    if (i >= 0) {
        all[i].alloc_count += seen->alloc_count;
        all[i].alloc_bytes += seen->alloc_bytes;
        all[i].free_bytes += seen->free_bytes;
        all[i].live_count += seen->live_count;
        all[i].live_bytes += seen->live_bytes;
        all[i].lifetime_count += seen->lifetime_count;
        all[i].lifetime_sum_ns += seen->lifetime_sum_ns;
        all[i].short_lived_count += seen->short_lived_count;
        all[i].remote_free_count += seen->remote_free_count;
    }
    return 0;
}

/* ---- what a run finds: for each figure the estimate, the truth, and the variance that theory has for it ---- */

typedef struct figure {
    double estimate, truth, variance;
    int has_spread;  /* there are samples enough to measure it */
    double rounding; /* of each run: weights are multiples of 1/65536, counts are whole */
} figure;

#define ROUNDING_BYTES 3e-5
#define ROUNDING_COUNT 0.5
enum { LIVES_SHORT, LIVES_LENGTH, KINDS = 3 };
static const char *const kind_name[][KINDS] = {{"allocated", "live", "freed by others"},
                                               {"short-lived", "lives, ms", ""}};
static figure figures[SITES * KINDS];

/* Rates by turns; both the same for one. */
static double rate[2];

static double chance(double size, double mean) {
    return mean > 1 ? -expm1(-size / mean) : 1;
}

static figure figure_of_blocks(double estimate, double n, double size) {
    figure f = {.estimate = estimate, .truth = n, .has_spread = 1, .rounding = ROUNDING_BYTES};
    for (int i = 0; i < 2; i++) {
        const double p = chance(size, rate[i]);
        f.variance += n / 2 * (1 - p) / p;
        f.has_spread = f.has_spread && p * n > 20 && (1 - p) * n > 20;
    }
    return f;
}

/* ---- one run: blocks and who frees them ---- */

typedef struct worker {
    pthread_t thread;
    int number, wave;
    void *given[BLOCKS_MAX]; /* to the next worker, while both run */
    int given_count, taken;  /* the count is atomic; taken is the taker's */
    int waves_done;          /* atomic */
    void *left[WAVES][BLOCKS_MAX];
    int left_count[WAVES], left_taken;
    void *kept[BLOCKS_MAX];
    int kept_count;
} worker;

static worker workers[WORKERS];
static int works = 1; /* threads in all; 1: the first one alone */
static int begun;     /* atomic: of a wave, those that have their slot */

static void free_given(worker *from) {
    const int count = __atomic_load_n(&from->given_count, __ATOMIC_ACQUIRE);
    while (from->taken < count) {
        free(from->given[from->taken++]);
    }
}

/* As many as were left by another one that has ended. */
static void free_left(worker *from, int wave, int at_most) {
    while (from->left_taken < from->left_count[wave] && at_most-- > 0) {
        free(from->left[wave][from->left_taken++]);
    }
}

static void see_to(worker *w, int fate, void *p, void **held) {
    if (fate == KEPT) {
        w->kept[w->kept_count++] = p;
    } else if (fate == FREED_HERE || works == 1) {
        free(*held);
        *held = p;
    } else if (fate == LEFT) {
        w->left[w->wave][w->left_count[w->wave]++] = p;
    } else {
        w->given[w->given_count] = p;
        __atomic_store_n(&w->given_count, w->given_count + 1, __ATOMIC_RELEASE);
    }
}

/* All sites in turn, as often as each has blocks. */
static void *work(void *argument) {
    worker *w = argument;
    worker *const giver = &workers[(w->number + 1) % WORKERS];
    worker *const leaver = &workers[(w->number + 2) % WORKERS];
    void *held[HELD] = {NULL};
    unsigned next = 0;
    for (int turn = 0; turn < blocks_of[0] / works; turn++) {
        if (turn % FATES == 0 && rate[0] != rate[1]) {
            mod_alloc_set_sampling((uint64_t)rate[turn / FATES % 2]);
        }
        for (int i = 0; i < SITES; i++) {
            if (!is_inner(i) && turn < blocks_of[i] / works) {
                void *p = sites[i]();
                if (p == NULL) {
                    fail("no memory", i, 0, 1);
                }
                see_to(w, turn % FATES, p, &held[next++ % HELD]);
            }
        }
        if (turn == 0 && works > 1) {
            __atomic_add_fetch(&begun, 1, __ATOMIC_RELEASE);
            while (__atomic_load_n(&begun, __ATOMIC_ACQUIRE) < WORKERS) {
                sched_yield();
            }
        }
        if (works > 1) {
            free_given(giver);
        }
        if (w->wave > 0) {
            free_left(leaver, w->wave - 1, 4);
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        free(held[i]);
    }
    __atomic_store_n(&w->waves_done, w->wave + 1, __ATOMIC_RELEASE);
    while (works > 1 && __atomic_load_n(&giver->waves_done, __ATOMIC_ACQUIRE) <= w->wave) {
        free_given(giver);
        sched_yield();
    }
    if (works > 1) {
        free_given(giver);
    }
    if (w->wave > 0) {
        free_left(leaver, w->wave - 1, BLOCKS_MAX);
    }
    return NULL;
}

/* One begins when the one before has taken its slot, and none ends before all have, so that each has the same one in every
 * run: slots are what streams hang on, and what says whether a thread is another. */
static void run_wave(int wave) {
    begun = 0;
    for (int i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        workers[i].wave = wave;
        workers[i].left_taken = 0;
    }
    for (int i = 0; i < WORKERS; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            fail("no thread", i, 0, 1);
        }
        while (__atomic_load_n(&begun, __ATOMIC_ACQUIRE) <= i) {
            sched_yield();
        }
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
}

static void expect(int is_so, int i, const char *what, double found, double expected) {
    if (!is_so) {
        fail(what, i, found, expected);
    }
}

/* Blocks live that are kept; then none. What must hold in each run: */
static void run_blocks(void) {
    for (int wave = 0; wave < WAVES && works > 1; wave++) {
        run_wave(wave);
    }
    if (works == 1) {
        work(&workers[0]);
    }
    for (int i = 0; i < WORKERS; i++) {
        workers[i].left_taken = 0;
        free_left(&workers[i], WAVES - 1, BLOCKS_MAX);
    }
    static mod_alloc_call_site seen[SITES], end[SITES];
    mod_alloc_call_sites(add_site, seen);
    for (int i = 0; i < WORKERS; i++) {
        while (workers[i].kept_count > 0) {
            free(workers[i].kept[--workers[i].kept_count]);
        }
    }
    mod_alloc_call_sites(add_site, end);
    for (int i = 0; i < SITES; i++) {
        const mod_alloc_call_site *s = &seen[i], *e = &end[i];
        const double size = (double)size_of[i], n = blocks_of[i], ends = is_inner(i) ? 0 : n;
        const double freed = (double)s->free_bytes / size;
        expect(s->alloc_bytes == s->free_bytes + s->live_bytes, i, "allocated is freed and live", freed,
               (double)(s->alloc_bytes - s->live_bytes) / size);
        expect(e->free_bytes == s->alloc_bytes && e->alloc_bytes == s->alloc_bytes && e->live_count == 0, i,
               "freed, as it was allocated", (double)e->free_bytes / size, (double)s->alloc_bytes / size);
        expect(fabs((double)s->live_count - (double)s->live_bytes / size) <= 2 + 1e-5 * n, i,
               "live blocks, as bytes", (double)s->live_count, (double)s->live_bytes / size);
        expect(fabs((double)s->alloc_count - (double)s->alloc_bytes / size) <= 2 + 1e-5 * n, i,
               "allocated blocks, as bytes", (double)s->alloc_count, (double)s->alloc_bytes / size);
        expect(e->lifetime_count == (ends > 0 ? e->alloc_count : 0), i, "lives ended",
               (double)e->lifetime_count, ends > 0 ? (double)e->alloc_count : 0);
        figures[i * KINDS] = figure_of_blocks((double)s->alloc_bytes / size, n, size);
        figures[i * KINDS + 1] = figure_of_blocks((double)s->live_bytes / size, ends / 4, size);
        figures[i * KINDS + 2] =
            figure_of_blocks((double)s->remote_free_count, works > 1 ? ends / 2 : 0, size);
        figures[i * KINDS + 2].rounding = ROUNDING_COUNT;
    }
}

/* ---- one run: lives ---- */

enum { LIVES = 640, AT_A_TIME = 128, TIMED_ALL = 256, SHORT_US = 100, LONG_US = 1000 };

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Of values x, one for each block, the sum: its estimate by theory. */
static figure figure_of_sum(double estimate, const double *x, double size) {
    figure f = {.estimate = estimate, .rounding = ROUNDING_COUNT};
    for (int i = 0; i < LIVES; i++) {
        f.truth += x[i];
    }
    const double p = chance(size, rate[0]);
    for (int i = 0; i < LIVES; i++) {
        const double off = x[i] - f.truth / LIVES;
        f.variance += rate[0] > 1 ? x[i] * x[i] * (1 - p) / p : i < TIMED_ALL ? 0 : 7 * off * off;
    }
    return f;
}

/* Every other block is freed at once; the rest when they, and some dozens more, have been there for LONG_US. */
static void run_lives(void) {
    static const int of[] = {1, 3, 4};
    static double life[SITES][LIVES], is_short[SITES][LIVES];
    for (int first = 0; first < LIVES; first += AT_A_TIME) {
        void *block[SITES][AT_A_TIME];
        double born[SITES][AT_A_TIME];
        for (int k = 0; k < AT_A_TIME; k++) {
            for (int j = 0; j < 3; j++) {
                block[of[j]][k] = sites[of[j]]();
                born[of[j]][k] = now_us();
                if (k % 2 == 0) {
                    life[of[j]][first + k] = now_us() - born[of[j]][k];
                    free(block[of[j]][k]);
                }
            }
        }
        for (const double from = now_us(); now_us() < from + LONG_US;) {
        }
        for (int k = 1; k < AT_A_TIME; k += 2) {
            for (int j = 0; j < 3; j++) {
                life[of[j]][first + k] = now_us() - born[of[j]][k];
                free(block[of[j]][k]);
            }
        }
    }
    static mod_alloc_call_site seen[SITES];
    mod_alloc_call_sites(add_site, seen);
    for (int j = 0; j < 3; j++) {
        const int i = of[j];
        for (int k = 0; k < LIVES; k++) {
            is_short[i][k] = life[i][k] < SHORT_US;
            life[i][k] /= 1e3;
        }
        figures[i * KINDS + LIVES_SHORT] =
            figure_of_sum((double)seen[i].short_lived_count, is_short[i], (double)size_of[i]);
        figures[i * KINDS + LIVES_LENGTH] =
            figure_of_sum((double)seen[i].lifetime_sum_ns / 1e6, life[i], (double)size_of[i]);
    }
}

/* ---- all runs ---- */

static int write_figures(void) {
    const char *from = (const char *)figures;
    for (size_t done = 0; done < sizeof figures;) {
        const ssize_t n = write(STDOUT_FILENO, from + done, sizeof figures - done);
        if (n <= 0) {
            return 4;
        }
        done += (size_t)n;
    }
    return 0;
}

static int read_figures(int from) {
    for (size_t done = 0; done < sizeof figures;) {
        const ssize_t n = read(from, (char *)figures + done, sizeof figures - done);
        if (n <= 0) {
            return 0;
        }
        done += (size_t)n;
    }
    return 1;
}

static int read_once(char *const *words, int seed) {
    char number[32];
    snprintf(number, sizeof number, "%d", seed);
    setenv("MOD_ALLOC_SEED", number, 1);
    int ends[2], status = -1;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe(ends) != 0) {
        return 0;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const int is_begun = posix_spawn(&pid, words[0], &actions, NULL, words, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    const int is_read = is_begun && read_figures(ends[0]);
    close(ends[0]);
    return is_begun && waitpid(pid, &status, 0) == pid && status == 0 && is_read;
}

typedef struct sums {
    double truth, difference, squares, variance;
    int has_spread;
    double rounding;
} sums;

/* True if what must hold does not. */
static int judge(int i, const char *what, const sums *s, int seeds, double bound) {
    const double average = s->difference / seeds, theory = s->variance / seeds, spread = s->squares / seeds;
    const double error = sqrt(theory / seeds);
    const int is_off = !(fabs(average) <= bound * error + s->rounding);
    const int is_wide = s->has_spread && !(fabs(spread - theory) <= 0.2 * theory);
    printf(
        "site %2d, %-15s %9.3f, %+9.4f on average: %+.2f standard errors; variance %.4g, theory %.4g%s%s\n",
        i, what, s->truth / seeds, average, average / (error + s->rounding / bound), spread, theory,
        is_off ? "; THE MEAN IS OFF" : "", is_wide ? "; THE SPREAD IS OFF" : "");
    return is_off || is_wide;
}

static double parse_rate(const char *word) {
    char *end;
    const double number = strtod(word, &end);
    return *end == 'K' ? number * 1024 : number;
}

/* How many figures are off in this round as well as in those before it. */
static int try_seeds(char *const *words, int is_lives, int round, int failures[SITES * KINDS]) {
    sums all[SITES * KINDS] = {0};
    const int seeds = is_lives ? SEEDS_LIVES : SEEDS;
    for (int seed = round * seeds + 1; seed <= (round + 1) * seeds; seed++) {
        if (!read_once(words, seed)) {
            printf("the run with seed %d failed\n", seed);
            exit(1);
        }
        for (int i = 0; i < SITES * KINDS; i++) {
            const figure *f = &figures[i];
            sums *s = &all[i];
            const double difference = f->estimate - f->truth;
            s->truth += f->truth;
            s->difference += difference;
            s->squares += difference * difference;
            s->variance += f->variance;
            s->has_spread = f->has_spread;
            s->rounding = f->rounding;
        }
    }
    int off = 0;
    for (int i = 0; i < SITES * KINDS; i++) {
        if (all[i].truth != 0 || all[i].difference != 0) {
            const int is_off =
                judge(i / KINDS, kind_name[is_lives][i % KINDS], &all[i], seeds, is_lives ? 4 : 3.5);
            failures[i] += is_off;
            off += failures[i] > round;
        }
    }
    return off;
}

int main(int count, char **word) {
    const int is_once = count > 3 && strcmp(word[1], "once") == 0;
    if (count < 3) {
        return 2;
    }
    const char *mode = word[1 + is_once];
    const int is_lives = strcmp(mode, "lives") == 0;
    rate[0] = parse_rate(word[2 + is_once]);
    rate[1] = count > 3 + is_once ? parse_rate(word[3 + is_once]) : rate[0];
    if (is_once) {
        works = strcmp(mode, "threads") == 0 ? WORKERS * WAVES : 1;
        (is_lives ? run_lives : run_blocks)();
        return write_figures();
    }
    char once[] = "once";
    char *const words[] = {word[0], once, word[1], word[2], count > 3 ? word[3] : NULL, NULL};
    setenv("MOD_ALLOC_SAMPLE", word[2], 1);
    setenv("MOD_ALLOC_SHORT_LIVED", "100us", 1); /* SHORT_US */
    unsetenv("MOD_ALLOC_PROFILE");
    static int failures[SITES * KINDS];
    return try_seeds(words, is_lives, 0, failures) != 0 && try_seeds(words, is_lives, 1, failures) != 0;
}
