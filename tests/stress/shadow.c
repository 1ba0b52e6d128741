/* SPDX-License-Identifier: MIT
 *
 * shadow.c - the allocator against a model that keeps its own books.
 *
 * Several threads do random operations of the whole family, and of operator new and delete by the C++ ABI's names, over
 * all size ranges, hand blocks to each other, resize and free what others allocated, and, in some rounds, end and are
 * replaced. Each counts what it asked for, what it
 * got and what it freed. After each round all threads stand still and the sum of the books must equal all
 * counters: alloc_count, free_count, total, current, live and requested exactly; the peak not above what the
 * books allow, nor lower than what stood at the end of a round, less the header's slack. Then all of them only
 * allocate, stand still once more, and only free: there a window's peak is known to the byte, less that slack.
 * Contents are checked at each free and realloc; memory is bounded.
 * With "disturbed" one more thread changes the sampling all the time, hands memory back, opens windows, takes snapshots, and
 * forks children that allocate and must count rightly; and after each round all counts begin anew.
 *
 * shadow [threads] [rounds] [operations] [seed] [churn threads] [largest MiB] [disturbed]
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "whole/whole.h"

#define THREADS_MAX 16
#define SLOTS 2048 /* shared by all threads, each with a lock of one bit */

typedef struct {
    int64_t alloc_count, free_count, total, freed, requested, reallocs;
    char padding[80];
} books;

/* How a block may end. */
typedef enum { FREE, FREE_SIZED, FREE_ALIGNED_SIZED, DELETE, DELETE_ARRAY } ending;

typedef struct {
    unsigned char *p;
    size_t asked, alignment; /* 16: no more than any block's */
    uint64_t block;          /* as counted */
    unsigned lock;
    unsigned char fill;
    unsigned char ending;
} slot;

/* Not in each libc, and found without a C++ library: size_t is m, an alignment St11align_val_t. */
#define FORM(result, name, parameters, symbol) result name parameters __asm__(symbol) __attribute__((weak))
FORM(void, shadow_free_sized, (void *, size_t), "free_sized");
FORM(void, shadow_free_aligned_sized, (void *, size_t, size_t), "free_aligned_sized");
FORM(void, shadow_cfree, (void *), "cfree");
FORM(void *, new_one, (size_t), "_Znwm");
FORM(void *, new_array, (size_t), "_Znam");
FORM(void *, new_one_aligned, (size_t, size_t), "_ZnwmSt11align_val_t");
FORM(void *, new_array_aligned, (size_t, size_t), "_ZnamSt11align_val_t");
FORM(void, delete_one, (void *), "_ZdlPv");
FORM(void, delete_one_sized, (void *, size_t), "_ZdlPvm");
FORM(void, delete_one_nothrow, (void *, const void *), "_ZdlPvRKSt9nothrow_t");
FORM(void, delete_one_aligned, (void *, size_t), "_ZdlPvSt11align_val_t");
FORM(void, delete_one_sized_aligned, (void *, size_t, size_t), "_ZdlPvmSt11align_val_t");
FORM(void, delete_one_aligned_nothrow, (void *, size_t, const void *), "_ZdlPvSt11align_val_tRKSt9nothrow_t");
FORM(void, delete_array, (void *), "_ZdaPv");
FORM(void, delete_array_sized, (void *, size_t), "_ZdaPvm");
FORM(void, delete_array_nothrow, (void *, const void *), "_ZdaPvRKSt9nothrow_t");
FORM(void, delete_array_aligned, (void *, size_t), "_ZdaPvSt11align_val_t");
FORM(void, delete_array_sized_aligned, (void *, size_t, size_t), "_ZdaPvmSt11align_val_t");
FORM(void, delete_array_aligned_nothrow, (void *, size_t, const void *),
     "_ZdaPvSt11align_val_tRKSt9nothrow_t");

static slot slots[SLOTS];
static books book[THREADS_MAX];
static int threads = 4, operations = 20000;
static uint64_t seed = 1;
static size_t largest = 24;
static pthread_barrier_t barrier;
static int round_number, rounds = 10;

static bool try_lock(slot *s) {
    return __atomic_exchange_n(&s->lock, 1, __ATOMIC_ACQUIRE) == 0;
}

static void unlock(slot *s) {
    __atomic_store_n(&s->lock, 0, __ATOMIC_RELEASE);
}

static size_t random_size(uint64_t *state) {
    const uint64_t r = whole_random(state);
    const size_t x = (size_t)(r >> 16);
    const unsigned kind = (unsigned)(r % 1000);
    return kind < 600   ? x % 256
           : kind < 850 ? x % 1100
           : kind < 950 ? x % 9000
           : kind < 985 ? x % 140000
           : kind < 997 ? x % 600000
           : kind < 999 ? x % (5u << 20)
                        : x % (largest << 20);
}

/* The ends and a few bytes between: filling 24 MiB each time would measure memory, not malloc. */
static void fill(unsigned char *p, size_t size, unsigned char value) {
    const size_t edge = size < 64 ? size : 64;
    memset(p, value, edge);
    memset(p + size - edge, value, edge);
    for (size_t i = 0; i < size; i += 4096) {
        p[i] = value;
    }
}

static void check_filled(const unsigned char *p, size_t size, unsigned char value, const char *where) {
    const size_t edge = size < 64 ? size : 64;
    for (size_t i = 0; i < edge; i++) {
        NEED(p[i] == value && p[size - 1 - i] == value,
             "%s: a block of %zu bytes at %p has %#x, %#x at %zu, expected %#x", where, size, (const void *)p,
             p[i], p[size - 1 - i], i, value);
    }
    for (size_t i = 0; i < size; i += 4096) {
        NEED(p[i] == value, "%s: a block of %zu bytes at %p has %#x at %zu, expected %#x", where, size,
             (const void *)p, p[i], i, value);
    }
}

/* What the counters say that this thread's last allocation took: only over-aligned blocks need to be asked. */
static uint64_t thread_total(void) {
    mod_alloc_stats stats;
    mod_alloc_thread_snapshot(&stats);
    return stats.total_bytes;
}

/* Of malloc's own alignment. */
static unsigned char *allocate_plain(slot *s, size_t size, unsigned way) {
    unsigned char *p;
    s->ending = way < 12 ? FREE_SIZED : way < 14 ? DELETE : DELETE_ARRAY;
    s->alignment = 16;
    p = way < 2    ? calloc(1, size)
        : way < 4  ? realloc(NULL, size)
        : way < 5  ? reallocarray(NULL, size, 1)
        : way < 12 ? malloc(size)
        : way < 14 ? new_one(size)
                   : new_array(size);
    NEED(p != NULL, "no block of %zu bytes", size);
    if (way < 2 && size > 0) {
        check_filled(p, size, 0, "calloc");
    }
    s->block = malloc_usable_size(p);
    return p;
}

static unsigned char *allocate_aligned(slot *s, size_t *size, unsigned way, uint64_t *state) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint64_t before = thread_total();
    void *p = NULL;
    size_t alignment = (size_t)32 << whole_random(state) % (way == 1 ? 12 : 5);
    if (way == 1 && largest >= 24 && whole_random(state) % 200 == 0) {
        alignment = (size_t)16 << 20;
    }
    s->ending = FREE;
    switch (way) {
    case 0:
        NEED(posix_memalign(&p, alignment, *size) == 0, "posix_memalign(%zu, %zu)", alignment, *size);
        break;
    case 1: p = memalign(alignment, *size); break;
    case 2:
        p = valloc(*size);
        alignment = page;
        break;
    case 3:
        p = pvalloc(*size);
        alignment = page;
        *size = (*size + page - 1) & ~(page - 1);
        break;
    case 4:
        p = new_one_aligned(*size, alignment);
        s->ending = DELETE;
        break;
    case 5:
        p = new_array_aligned(*size, alignment);
        s->ending = DELETE_ARRAY;
        break;
    default: p = aligned_alloc(alignment, *size); s->ending = FREE_ALIGNED_SIZED;
    }
    NEED(p != NULL && (uintptr_t)p % alignment == 0, "%zu bytes aligned to %zu: %p", *size, alignment, p);
    s->alignment = alignment;
    s->block = thread_total() - before;
    return p;
}

static void take(slot *s, unsigned char *p, size_t size, const char *where) {
    const size_t usable = malloc_usable_size(p);
    NEED((uintptr_t)p % 16 == 0, "%s: %zu bytes at %p", where, size, (void *)p);
    NEED(usable >= size && s->block >= usable, "%s: %zu bytes aligned to %zu: usable %zu, counted %" PRIu64,
         where, size, s->alignment, usable, s->block);
    s->p = p;
    s->asked = size;
    if (usable > 0) {
        p[usable - 1] = s->fill; /* all of it is the program's */
    }
    if (size > 0) {
        fill(p, size, s->fill);
    }
}

static void allocate(slot *s, books *b, uint64_t *state) {
    size_t size = random_size(state);
    const unsigned way = (unsigned)(whole_random(state) % 24);
    unsigned char *p = way < 16 ? allocate_plain(s, size, way) : allocate_aligned(s, &size, way - 16, state);
    s->fill = (unsigned char)(whole_random(state) | 1);
    take(s, p, size, "allocate");
    b->alloc_count++;
    b->total += (int64_t)s->block;
    b->requested += (int64_t)size;
}

/* What is too much gives NULL, counts nothing and leaves the block as it is. */
static void reallocate_too_much(slot *s, uint64_t *state) {
    errno = 0;
    void *volatile none = whole_random(state) % 2 ? realloc(s->p, (size_t)PTRDIFF_MAX - 4096)
                                                  : reallocarray(s->p, SIZE_MAX / 2, 3);
    NEED(none == NULL && errno == ENOMEM, "too much: %p, errno %d", none, errno);
    if (s->asked > 0) {
        check_filled(s->p, s->asked, s->fill, "realloc that fails");
    }
}

static void reallocate(slot *s, books *b, uint64_t *state) {
    const unsigned way = (unsigned)(whole_random(state) % 32);
    size_t size = way == 0 ? 0 : random_size(state) + 1;
    unsigned char *p;
    if (s->ending == DELETE || s->ending == DELETE_ARRAY) { /* not to be resized */
        return;
    }
    if (way == 1) {
        reallocate_too_much(s, state);
        return;
    }
    if (way < 8 && way > 1) { /* near what it is, so that it may stay */
        size = s->asked - s->asked / way + 1;
    }
    if (way < 16) {
        p = realloc(s->p, size);
    } else {
        size -= size % 4;
        p = reallocarray(s->p, size / 4, 4);
    }
    NEED(p != NULL, "no block of %zu bytes", size);
    const size_t kept = size < s->asked ? size : s->asked;
    if (kept == s->asked && kept > 0) {
        check_filled(p, kept, s->fill, "realloc");
    }
    for (size_t i = 0; i < kept; i += i < 63 ? 1 : 4096 - i % 4096) {
        NEED(p[i] == s->fill, "realloc from %zu to %zu, aligned to %zu: byte %zu is %#x, expected %#x",
             s->asked, size, s->alignment, i, p[i], s->fill);
    }
    uint64_t block = s->block; /* of one that stays, whatever its alignment */
    if (p != s->p) {
        block = malloc_usable_size(p);
        s->alignment = 16;
    }
    s->ending = s->alignment == 16 ? FREE_SIZED : FREE; /* the size it was resized to is not its first one */
    b->alloc_count++;
    b->reallocs++;
    b->requested += (int64_t)size;
    if (block > s->block) {
        b->total += (int64_t)(block - s->block);
    } else {
        b->freed += (int64_t)(s->block - block);
    }
    s->block = block;
    take(s, p, size, "realloc");
}

/* By any of the names that the way of allocation allows. */
static void give_back(const slot *s, uint64_t *state) {
    const unsigned way = (unsigned)(whole_random(state) % 4);
    const bool is_aligned = s->alignment > 16;
    if (s->ending == DELETE && is_aligned) {
        way == 0   ? delete_one_aligned(s->p, s->alignment)
        : way == 1 ? delete_one_aligned_nothrow(s->p, s->alignment, NULL)
                   : delete_one_sized_aligned(s->p, s->asked, s->alignment);
    } else if (s->ending == DELETE) {
        way == 0   ? delete_one(s->p)
        : way == 1 ? delete_one_nothrow(s->p, NULL)
                   : delete_one_sized(s->p, s->asked);
    } else if (s->ending == DELETE_ARRAY && is_aligned) {
        way == 0   ? delete_array_aligned(s->p, s->alignment)
        : way == 1 ? delete_array_aligned_nothrow(s->p, s->alignment, NULL)
                   : delete_array_sized_aligned(s->p, s->asked, s->alignment);
    } else if (s->ending == DELETE_ARRAY) {
        way == 0   ? delete_array(s->p)
        : way == 1 ? delete_array_nothrow(s->p, NULL)
                   : delete_array_sized(s->p, s->asked);
    } else if (way == 0 && s->ending == FREE_SIZED) {
        shadow_free_sized(s->p, s->asked);
    } else if (way == 0 && s->ending == FREE_ALIGNED_SIZED) {
        shadow_free_aligned_sized(s->p, s->alignment, s->asked);
    } else if (way == 1) {
        shadow_cfree(s->p);
    } else {
        free(s->p);
    }
}

static void release(slot *s, books *b, uint64_t *state) {
    if (s->asked > 0) {
        check_filled(s->p, s->asked, s->fill, "free");
    }
    give_back(s, state);
    s->p = NULL;
    b->free_count++;
    b->freed += (int64_t)s->block;
}

static void operate(int id, int count, uint64_t *state) {
    books *b = &book[id];
    for (int i = 0; i < count; i++) {
        const uint64_t r = whole_random(state);
        slot *s = &slots[r % SLOTS];
        if (!try_lock(s)) {
            continue;
        }
        if (s->p == NULL) {
            allocate(s, b, state);
        } else if ((r >> 32) % 4 == 0) {
            reallocate(s, b, state);
        } else {
            release(s, b, state);
        }
        unlock(s);
        if (r >> 60 == 0) { /* a burst of one size, as programs do */
            void *burst[100];
            const size_t size = random_size(state) % 2000;
            for (size_t k = 0; k < 100; k++) {
                burst[k] = malloc(size);
                NEED(burst[k] != NULL, "no block of %zu bytes", size);
                b->total += (int64_t)malloc_usable_size(burst[k]);
            }
            for (size_t k = 0; k < 100; k++) {
                b->freed += (int64_t)malloc_usable_size(burst[k]);
                free(burst[k]);
            }
            b->alloc_count += 100;
            b->free_count += 100;
            b->requested += (int64_t)(100 * size);
        }
    }
}

/* Each thread's own blocks, of a peak that the model knows: all live where all stand. */
enum { TOWER = 1500 };
static void *tower[THREADS_MAX][TOWER];

static void build_tower(int id, uint64_t *state) {
    for (size_t i = 0; i < TOWER; i++) {
        const size_t size = i % 50 == 0 ? random_size(state) % 300000 : whole_random(state) % 2000;
        tower[id][i] = malloc(size);
        NEED(tower[id][i] != NULL, "no block of %zu bytes", size);
        book[id].total += (int64_t)malloc_usable_size(tower[id][i]);
        book[id].requested += (int64_t)size;
    }
    book[id].alloc_count += TOWER;
}

static void take_tower_down(int id) {
    for (size_t i = 0; i < TOWER; i++) {
        book[id].freed += (int64_t)malloc_usable_size(tower[id][i]);
        free(tower[id][i]);
    }
    book[id].free_count += TOWER;
}

/* ---- the one who disturbs ---- */

static bool is_disturbed;
static int operated; /* turns of all workers */

/* The only thread of its process: what it does is all that is counted. */
static void child(uint64_t *state) {
    enum { blocks = 300 };
    void *block[blocks];
    size_t bytes = 0, requested = 0;
    const mod_alloc_stats before = whole_now();
    for (size_t i = 0; i < blocks; i++) {
        const size_t size = random_size(state) % 70000;
        block[i] = i % 7 == 0 ? calloc(1, size) : malloc(size);
        NEED(block[i] != NULL, "no block of %zu bytes in a child", size);
        if (i % 7 == 0 && size > 0) {
            check_filled(block[i], size, 0, "a child's calloc");
        }
        fill(block[i], size > 0 ? size : 1, (unsigned char)i);
        bytes += malloc_usable_size(block[i]);
        requested += size;
    }
    CHECK_CHANGE("a child", before, .alloc_count = blocks, .live_count = blocks,
                 .total_bytes = (int64_t)bytes, .current_bytes = (int64_t)bytes,
                 .requested_bytes = (int64_t)requested);
    for (size_t i = 0; i < blocks; i++) {
        NEED(*(unsigned char *)block[i] == (unsigned char)i, "a child's block is another's, too");
        free(block[i]);
    }
    CHECK_CHANGE("a child, freed", before, .alloc_count = blocks, .free_count = blocks,
                 .total_bytes = (int64_t)bytes, .requested_bytes = (int64_t)requested);
    _exit(whole_end());
}

static void disturb(uint64_t *state) {
    static const uint64_t rates[] = {0, 1, 4096, 512 * 1024};
    const uint64_t r = whole_random(state);
    mod_alloc_profiler window, thread_window;
    mod_alloc_stats stats;
    mod_alloc_set_sampling(rates[r % 4]);
    switch (r >> 8 & 7) {
    case 0: malloc_trim(0); break;
    case 1:
        mod_alloc_profiler_start(&window);
        mod_alloc_thread_profiler_start(&thread_window);
        sched_yield();
        mod_alloc_thread_profiler_stop(&thread_window, &stats);
        CHECK(stats.alloc_count == 0 && stats.peak_bytes == 0,
              "%" PRIu64 " allocations of a thread that made none", stats.alloc_count);
        mod_alloc_profiler_stop(&window, &stats);
        break;
    case 2:
        if (r >> 16 & 3) {
            break;
        }
        int status = 0;
        const pid_t pid = fork();
        NEED(pid >= 0, "fork");
        if (pid == 0) {
            child(state);
        }
        NEED(waitpid(pid, &status, 0) == pid && status == 0, "a child ended with status %#x",
             (unsigned)status);
        break;
    default:
        mod_alloc_snapshot(&stats);
        CHECK(stats.current_bytes < (uint64_t)1 << 40 && stats.live_count < (uint64_t)1 << 40
                  && stats.peak_bytes >= stats.current_bytes,
              "%" PRIu64 " bytes live, %" PRIu64 " blocks, a peak of %" PRIu64, stats.current_bytes,
              stats.live_count, stats.peak_bytes);
        usleep(100);
    }
}

static void *disturber(void *unused) {
    uint64_t state = seed;
    for (int round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier);
        while (__atomic_load_n(&operated, __ATOMIC_ACQUIRE) < threads * (round + 1)) {
            disturb(&state);
        }
        for (int i = 0; i < 4; i++) {
            pthread_barrier_wait(&barrier);
        }
    }
    return unused;
}

/* A worker stands at the barrier before the books are compared, and after; on top of its tower, and below. */
static void *worker(void *argument) {
    const int id = (int)(intptr_t)argument;
    uint64_t state = seed * 1000003 + (uint64_t)id;
    for (int round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier);
        operate(id, operations, &state);
        __atomic_fetch_add(&operated, 1, __ATOMIC_RELEASE);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        build_tower(id, &state);
        pthread_barrier_wait(&barrier);
        take_tower_down(id);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static mod_alloc_stats start;
static uint64_t highest_known, current_at_reset;

static books sum_of_books(void) {
    books sum = {0};
    for (int i = 0; i < THREADS_MAX; i++) {
        sum.alloc_count += book[i].alloc_count;
        sum.free_count += book[i].free_count;
        sum.total += book[i].total;
        sum.freed += book[i].freed;
        sum.requested += book[i].requested;
        sum.reallocs += book[i].reallocs;
    }
    return sum;
}

/* The sum of the books is what the counters must have moved by since `start`. */
static void compare_books(const char *where, int round) {
    const books sum = sum_of_books();
    char name[64];
    snprintf(name, sizeof name, "%s, round %d", where, round);
    const mod_alloc_stats now = whole_now();
    whole_compare(__FILE__, __LINE__, name, whole_changed(&start, &now),
                  (whole_change){.alloc_count = sum.alloc_count,
                                 .free_count = sum.free_count,
                                 .total_bytes = sum.total,
                                 .current_bytes = sum.total - sum.freed,
                                 .live_count = sum.alloc_count - sum.reallocs - sum.free_count,
                                 .requested_bytes = sum.requested});
    highest_known = now.current_bytes > highest_known ? now.current_bytes : highest_known;
    const uint64_t slack = (uint64_t)(threads + is_disturbed) * MOD_ALLOC_PEAK_SLACK;
    CHECK(now.peak_bytes + slack >= highest_known,
          "%s: the peak %" PRIu64 " is below %" PRIu64 ", which was live", name, now.peak_bytes,
          highest_known);
    CHECK(now.peak_bytes >= now.current_bytes, "%s: peak %" PRIu64 ", current %" PRIu64, name, now.peak_bytes,
          now.current_bytes);
    CHECK(now.peak_bytes <= current_at_reset + (uint64_t)sum.total,
          "%s: the peak %" PRIu64 " is above all that was ever allocated", name, now.peak_bytes);
    CHECK(now.peak_live_count <= start.live_count + (uint64_t)sum.alloc_count, "%s: peak_live_count %" PRIu64,
          name, now.peak_live_count);
    /* Live memory is at most all slots of the largest size in theory, about 90 MiB in practice. */
    const size_t resident = whole_resident_bytes();
    CHECK(resident < 3 * now.peak_bytes + ((size_t)160 << 20), "%s: %zu bytes resident at a peak of %" PRIu64,
          name, resident, now.peak_bytes);
}

/* The workers build and take down, between the two snapshots, which need not have looked at the top. */
static void compare_peak(int round) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    const books before = sum_of_books();
    const uint64_t live = whole_now().current_bytes;
    mod_alloc_profiler_start(&window);
    pthread_barrier_wait(&barrier); /* all build */
    pthread_barrier_wait(&barrier); /* all stand at the top, and take down */
    pthread_barrier_wait(&barrier);
    mod_alloc_profiler_stop(&window, &stats);
    const mod_alloc_stats now = whole_now();
    const uint64_t peak = live + (uint64_t)(sum_of_books().total - before.total);
    const uint64_t slack =
        (uint64_t)(threads + is_disturbed) * MOD_ALLOC_PEAK_SLACK; /* we are one more, and have a shard */
    CHECK(stats.peak_bytes <= peak && stats.peak_bytes + slack >= peak,
          "round %d: the window's peak is %" PRIu64 ", the true one %" PRIu64 ", may be low by %" PRIu64,
          round, stats.peak_bytes, peak, slack);
    CHECK(now.peak_bytes + slack >= peak,
          "round %d: the peak %" PRIu64 " is below %" PRIu64 ", which was live", round, now.peak_bytes, peak);
    CHECK(now.peak_bytes >= stats.peak_bytes, "round %d: the peak %" PRIu64 " is below a window's, %" PRIu64,
          round, now.peak_bytes, stats.peak_bytes);
    highest_known = peak > highest_known ? peak : highest_known;
}

/* All counts begin anew: what was counted before is in the books alone. */
static void begin_anew(void) {
    const books sum = sum_of_books();
    mod_alloc_reset();
    start = whole_now();
    current_at_reset = highest_known = start.current_bytes;
    CHECK(start.alloc_count == 0 && start.free_count == 0 && start.total_bytes == 0
              && start.requested_bytes == 0 && start.peak_bytes == start.current_bytes,
          "after a reset: %" PRIu64 " allocations, a peak of %" PRIu64 ", %" PRIu64 " live",
          start.alloc_count, start.peak_bytes, start.current_bytes);
    start.alloc_count -= (uint64_t)sum.alloc_count;
    start.free_count -= (uint64_t)sum.free_count;
    start.total_bytes -= (uint64_t)sum.total;
    start.requested_bytes -= (uint64_t)sum.requested;
    start.current_bytes -= (uint64_t)(sum.total - sum.freed);
    start.live_count -= (uint64_t)(sum.alloc_count - sum.reallocs - sum.free_count);
}

static void *churn_body(void *argument) {
    const int id = (int)(intptr_t)argument;
    uint64_t state = seed * 31 + (uint64_t)round_number * 17 + (uint64_t)id;
    operate(id, 40, &state);
    return NULL;
}

/* Threads that live for a moment: each leaves blocks behind and frees those of threads that are gone. pthread keeps
 * a few blocks for a stack; once as many stacks as threads have been made, that stands still. */
static void churn(int count) {
    pthread_t thread[THREADS_MAX];
    for (int i = 0; i < 2 * threads; i += threads) {
        for (int k = 0; k < threads; k++) {
            NEED(pthread_create(&thread[k], NULL, churn_body, (void *)(intptr_t)k) == 0, "no thread");
        }
        for (int k = 0; k < threads; k++) {
            pthread_join(thread[k], NULL);
        }
    }
    const mod_alloc_stats before = whole_now();
    const books sum_before = sum_of_books();
    for (int i = 0; i < count; i += threads) {
        round_number = i;
        for (int k = 0; k < threads; k++) {
            NEED(pthread_create(&thread[k], NULL, churn_body, (void *)(intptr_t)k) == 0, "no thread %d", i);
        }
        for (int k = 0; k < threads; k++) {
            pthread_join(thread[k], NULL);
        }
    }
    const books sum = sum_of_books();
    const mod_alloc_stats now = whole_now();
    /* What pthread_create itself allocates and frees is the same number of blocks, of a few hundred bytes. */
    const int64_t extra =
        (int64_t)(now.alloc_count - before.alloc_count) - (sum.alloc_count - sum_before.alloc_count);
    const int64_t extra_frees =
        (int64_t)(now.free_count - before.free_count) - (sum.free_count - sum_before.free_count);
    CHECK(extra >= 0 && extra <= 3 * count, "churn: %" PRId64 " allocations that nobody made", extra);
    CHECK(extra_frees >= 0 && extra_frees <= 3 * count, "churn: %" PRId64 " frees that nobody made",
          extra_frees);
    const int64_t live = (int64_t)now.live_count - (int64_t)before.live_count;
    const int64_t live_expected = (sum.alloc_count - sum.reallocs - sum.free_count)
                                  - (sum_before.alloc_count - sum_before.reallocs - sum_before.free_count);
    CHECK(live - live_expected >= -2 * threads && live - live_expected <= 2 * threads,
          "churn of %d threads: live_count moved by %" PRId64 ", by the books %" PRId64, count, live,
          live_expected);
    const int64_t bytes = (int64_t)(now.current_bytes - before.current_bytes);
    const int64_t bytes_expected = (sum.total - sum.freed) - (sum_before.total - sum_before.freed);
    CHECK(bytes - bytes_expected >= -1024 * threads && bytes - bytes_expected <= 1024 * threads,
          "churn of %d threads: current_bytes moved by %" PRId64 ", by the books %" PRId64, count, bytes,
          bytes_expected);
    const size_t resident = WHOLE_IS_EMULATED ? 0 : whole_resident_bytes(); /* qemu loses 280 KiB a thread */
    CHECK(resident < 3 * now.peak_bytes + ((size_t)160 << 20),
          "churn of %d threads: %zu bytes resident, peak %" PRIu64, count, resident, now.peak_bytes);
}

int main(int count, char **argument) {
    whole_begin();
    threads = count > 1 ? atoi(argument[1]) : threads;
    rounds = count > 2 ? atoi(argument[2]) : rounds;
    operations = count > 3 ? atoi(argument[3]) : operations;
    seed = count > 4 ? (uint64_t)atoll(argument[4]) : seed;
    const int churned = count > 5 ? atoi(argument[5]) : 2000;
    largest = count > 6 ? (size_t)atoll(argument[6]) : largest;
    is_disturbed = count > 7 && strcmp(argument[7], "disturbed") == 0;
    NEED(threads >= 1 && threads <= THREADS_MAX, "1 to %d threads", THREADS_MAX);
    pthread_t thread[THREADS_MAX], other;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1 + is_disturbed);
    if (is_disturbed) {
        NEED(pthread_create(&other, NULL, disturber, NULL) == 0, "no thread");
    }
    for (int i = 0; i < threads; i++) {
        NEED(pthread_create(&thread[i], NULL, worker, (void *)(intptr_t)i) == 0, "no thread");
    }
    mod_alloc_reset();
    start = whole_now();
    current_at_reset = start.current_bytes;
    for (int round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        compare_books("threads", round);
        compare_peak(round);
        if (is_disturbed) {
            begin_anew();
        }
    }
    if (is_disturbed) {
        pthread_join(other, NULL);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
    }
    if (whole_failures == 0 && churned > 0) {
        churn(churned);
    }
    const mod_alloc_stats before = whole_now();
    books last = {0};
    for (int i = 0; i < SLOTS; i++) {
        if (slots[i].p != NULL) {
            release(&slots[i], &last, &seed);
        }
    }
    CHECK_CHANGE("the end", before, .free_count = last.free_count, .current_bytes = -last.freed,
                 .live_count = -last.free_count);
    return whole_end();
}
