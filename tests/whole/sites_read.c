/* SPDX-License-Identifier: MIT
 *
 * sites_read.c - the sites are read again and again while three threads allocate at many of them, hand each other their
 * blocks and free them, short threads come and go, and the process forks; every allocation recorded.
 *
 * Each site has blocks of one size alone, so that a site read in the middle of a change, or half before and half after
 * it, shows: its bytes are not its blocks times that size. The program counts its own calls by function, before and
 * after each; what a visit finds must lie between. In the end, all of it is exact.
 *
 * With MOD_ALLOC_PROFILE a child has its sites from a copy that was made before it. What was just being recorded then, one
 * call of each thread, may have come to its end between the two.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include "whole.h"

enum {
    THREADS = 3,
    WAYS = 16,
    DEPTHS = 24,         /* at each way: so many stacks, by how deep the call comes from */
    SITES_MAX = 1 << 14, /* of this process, by id */
    FRAMES_MAX = 64,
    EXCHANGE = 512,
    RUN_MS = 1500,
    CHILD_CALLS = 3,
    MOVED_SIZE = 5000
};

/* ---- the calls ---- */

typedef struct call_counts {
    uint64_t begun, done;
} call_counts;

static call_counts allocs[WAYS], frees[WAYS];

static size_t size_of_way(unsigned way) {
    return way == WAYS - 1 ? MOVED_SIZE
                           : 8 + (size_t)way * 200; /* small and larger ones; the last by realloc */
}

static void begin_call(call_counts *c) {
    __atomic_fetch_add(&c->begun, 1, __ATOMIC_SEQ_CST);
}

static void end_call(call_counts *c) {
    __atomic_fetch_add(&c->done, 1, __ATOMIC_SEQ_CST);
}

#define BY_MALLOC(n)                                                                                         \
    static __attribute__((noinline)) void *way_##n(void) {                                                   \
        void *p = malloc(size_of_way(n));                                                                    \
        __asm__ volatile("" : "+r"(p) : : "memory");                                                         \
        return p;                                                                                            \
    }
BY_MALLOC(0)
BY_MALLOC(1)
BY_MALLOC(2)
BY_MALLOC(3)
BY_MALLOC(4)
BY_MALLOC(5)
BY_MALLOC(6)
BY_MALLOC(7)
BY_MALLOC(8)
BY_MALLOC(9)
BY_MALLOC(10)
BY_MALLOC(11)
BY_MALLOC(12)
BY_MALLOC(13)

static __attribute__((noinline)) void *way_14(void) {
    void *p = calloc(1, size_of_way(14));
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

/* Takes a block of another way along. */
static __attribute__((noinline)) void *way_15(void) {
    begin_call(&allocs[0]);
    void *p = way_0();
    end_call(&allocs[0]);
    begin_call(&frees[0]);
    p = realloc(p, MOVED_SIZE);
    __asm__ volatile("" : "+r"(p) : : "memory");
    end_call(&frees[0]);
    return p;
}

static void *(*const way_functions[WAYS])(void) = {
    way_0, way_1, way_2,  way_3,  way_4,  way_5,  way_6,  way_7,
    way_8, way_9, way_10, way_11, way_12, way_13, way_14, way_15,
};

static __attribute__((noinline)) void *from_depth(unsigned depth, unsigned way) {
    void *p = depth == 0 ? way_functions[way]() : from_depth(depth - 1, way);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static void *allocate(unsigned depth, unsigned way) {
    begin_call(&allocs[way]);
    unsigned char *p = from_depth(depth, way);
    NEED(p != NULL, "no block of %zu bytes", size_of_way(way));
    p[0] = (unsigned char)way;
    end_call(&allocs[way]);
    return p;
}

static void release(void *p) {
    if (p != NULL) {
        const unsigned way = *(unsigned char *)p;
        begin_call(&frees[way]);
        free(p);
        end_call(&frees[way]);
    }
}

/* ---- who allocates ---- */

static int stop;
static void *exchange[EXCHANGE];

static bool is_over(void) {
    return __atomic_load_n(&stop, __ATOMIC_RELAXED) != 0;
}

/* The block goes to whoever comes by next. */
static void hand_on(void *p, uint64_t r) {
    release(__atomic_exchange_n(&exchange[r % EXCHANGE], p, __ATOMIC_ACQ_REL));
}

static void allocate_some(uint64_t *state, int n) {
    for (int i = 0; i < n; i++) {
        const uint64_t r = whole_random(state);
        void *p = allocate((unsigned)(r >> 8) % DEPTHS, (unsigned)r % WAYS);
        if ((r >> 32) % 4 == 0) {
            release(p);
        } else {
            hand_on(p, r >> 40);
        }
    }
}

static void *allocate_all_the_time(void *argument) {
    uint64_t state = (uintptr_t)argument;
    while (!is_over()) {
        allocate_some(&state, 100);
    }
    return NULL;
}

static void *allocate_and_end(void *argument) {
    allocate_some(argument, 60);
    return NULL;
}

static void *come_and_go(void *argument) {
    (void)argument;
    for (uint64_t n = 100; !is_over(); n++) {
        pthread_t thread;
        uint64_t state = n;
        NEED(pthread_create(&thread, NULL, allocate_and_end, &state) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    return NULL;
}

/* ---- who reads ---- */

/* What is known of a site since it was first seen. */
typedef struct known {
    size_t frame_count;
    uint64_t alloc_count, free_count;
    uintptr_t frames[FRAMES_MAX];
    unsigned visit; /* in which it was last met */
} known;

static known sites[SITES_MAX];
static size_t usable[WAYS]; /* what a block of the way has */

typedef struct visit {
    unsigned number;
    bool is_child; /* begins anew: nothing is compared with what was before */
    size_t met;
    uint64_t allocs[WAYS], frees[WAYS], live[WAYS];
} visit;

static int way_of(uintptr_t address) {
    int found = -1;
    for (int i = 0; i < WAYS; i++) {
        const uintptr_t at = (uintptr_t)way_functions[i];
        if (address > at && address - at < 256 && (found < 0 || at > (uintptr_t)way_functions[found])) {
            found = i;
        }
    }
    return found;
}

/* Debian's gcc leaves the index of unwind tables away in a program without shared libraries. */
#ifdef WHOLE_PREINIT
static const bool has_no_tables = false;
#else
static const bool has_no_tables = true;
#endif

static void check_frames(const mod_alloc_call_site *s, const visit *v) {
    known *k = &sites[s->id];
    CHECK(k->visit != v->number, "site %u is met twice", s->id);
    k->visit = v->number;
    if (k->frame_count == 0 && s->id != 0) {
        k->frame_count = s->frame_count;
        memcpy(k->frames, s->frames, s->frame_count * sizeof *s->frames);
        CHECK(has_no_tables || s->walk_end == MOD_ALLOC_WALK_COMPLETE, "site %u: its walk ended by %d", s->id,
              (int)s->walk_end);
    }
    CHECK(k->frame_count == s->frame_count
              && memcmp(k->frames, s->frames, s->frame_count * sizeof *s->frames) == 0,
          "site %u has other frames than before", s->id);
}

/* In a child: but for blocks that the parent's threads, as many as there are besides the one that forked, were just
 * counting. */
static void check_live(uint64_t found, uint64_t expected, uint64_t block, bool is_child, const char *name) {
    const uint64_t slack = is_child ? (THREADS + 1) * block : 0;
    CHECK(found <= expected + slack && expected <= found + slack,
          "%s: %" PRIu64 " bytes live, expected %" PRIu64 " of blocks of %" PRIu64, name, found, expected,
          block);
}

static void check_figures(const mod_alloc_call_site *s, unsigned way, bool is_child) {
    char name[64];
    snprintf(name, sizeof name, "site %u, way %u%s", s->id, way, is_child ? ", in a child" : "");
    CHECK_EQ(s->alloc_count, s->alloc_samples, name);
    CHECK_EQ(s->alloc_bytes, s->alloc_count * usable[way], name);
    CHECK_EQ(s->alloc_requested_bytes, s->alloc_count * size_of_way(way), name);
    CHECK_EQ(s->free_count, s->free_samples, name);
    CHECK_EQ(s->free_bytes, s->free_count * usable[way], name);
    CHECK_EQ(s->free_requested_bytes, s->free_count * size_of_way(way), name);
    check_live(s->live_bytes, s->live_count * usable[way], usable[way], is_child, name);
    check_live(s->live_requested_bytes, s->live_count * size_of_way(way), size_of_way(way), is_child, name);
    check_live(s->at_peak_bytes, s->at_peak_count * usable[way], usable[way], is_child, name);
    check_live(s->peak_bytes, s->peak_count * usable[way], usable[way], is_child, name);
    CHECK(s->lifetime_count <= s->free_count, "%s: %" PRIu64 " lives ended, of %" PRIu64 " blocks", name,
          s->lifetime_count, s->free_count);
    CHECK(s->remote_free_count <= s->lifetime_count && s->short_lived_count <= s->lifetime_count,
          "%s: of %" PRIu64 " lives %" PRIu64 " were short, %" PRIu64 " ended elsewhere", name,
          s->lifetime_count, s->short_lived_count, s->remote_free_count);
    CHECK(s->lifetime_min_ns <= s->lifetime_max_ns && s->lifetime_max_ns <= s->lifetime_sum_ns + 1,
          "%s: lives from %" PRIu64 " to %" PRIu64 " ns, together %" PRIu64, name, s->lifetime_min_ns,
          s->lifetime_max_ns, s->lifetime_sum_ns);
    if (!is_child) { /* there live counts blocks of the parent, too */
        const uint64_t live = s->alloc_count > s->free_count ? s->alloc_count - s->free_count : 0;
        CHECK_EQ(s->live_count, live, name);
    }
}

static int look_at(const mod_alloc_call_site *s, void *context) {
    visit *v = context;
    v->met++;
    NEED(s->id < SITES_MAX && s->frame_count <= FRAMES_MAX && (s->frame_count > 0 || s->id == 0),
         "site %u has %zu frames", s->id, s->frame_count);
    check_frames(s, v);
    const int way = s->frame_count > 0 ? way_of(s->frames[0]) : -1;
    if (way < 0) {
        return 0;
    }
    check_figures(s, (unsigned)way, v->is_child);
    known *k = &sites[s->id];
    if (!v->is_child) {
        CHECK(s->alloc_count >= k->alloc_count && s->free_count >= k->free_count,
              "site %u: %" PRIu64 " allocations, %" PRIu64 " frees, and before %" PRIu64 ", %" PRIu64, s->id,
              s->alloc_count, s->free_count, k->alloc_count, k->free_count);
        k->alloc_count = s->alloc_count;
        k->free_count = s->free_count;
    }
    v->allocs[way] += s->alloc_count;
    v->frees[way] += s->free_count;
    v->live[way] += s->live_count;
    return 0;
}

static visit visit_sites(unsigned number, bool is_child, bool as_array) {
    visit v = {.number = number, .is_child = is_child};
    if (as_array) {
        size_t count;
        mod_alloc_call_site *array = mod_alloc_call_sites_get(&count);
        for (size_t i = 0; i < count; i++) {
            look_at(&array[i], &v);
        }
        mod_alloc_call_sites_free(array);
    } else {
        const size_t visited = mod_alloc_call_sites(look_at, &v);
        CHECK_EQ(visited, v.met, "visited");
    }
    return v;
}

static void load_counts(const call_counts *from, bool of_done, uint64_t *to) {
    for (unsigned i = 0; i < WAYS; i++) {
        to[i] = __atomic_load_n(of_done ? &from[i].done : &from[i].begun, __ATOMIC_SEQ_CST);
    }
}

/* A malloc that leaves the fast path has been counted already, and takes that back first: one a thread may be seen and
 * then not. */
static void check_snapshot(mod_alloc_stats *last) {
    enum { UNDER_WAY = THREADS + 2, BLOCK_MAX = 1024 };
    const mod_alloc_stats now = whole_now();
    CHECK(now.alloc_count + UNDER_WAY >= last->alloc_count && now.free_count >= last->free_count
              && now.total_bytes + UNDER_WAY * BLOCK_MAX >= last->total_bytes,
          "a count fell: %" PRIu64 " allocations, before %" PRIu64, now.alloc_count, last->alloc_count);
    CHECK(now.live_count <= now.alloc_count && now.current_bytes <= now.total_bytes
              && now.current_bytes <= now.peak_bytes,
          "%" PRIu64 " blocks live of %" PRIu64 " allocated", now.live_count, now.alloc_count);
    *last = now;
}

static unsigned visits;
static size_t sites_met;

static void visit_once(unsigned number, mod_alloc_stats *last) {
    uint64_t allocs_done[WAYS], allocs_begun[WAYS], frees_done[WAYS], frees_begun[WAYS];
    load_counts(allocs, true, allocs_done);
    load_counts(frees, true, frees_done);
    const visit v = visit_sites(number, false, number % 2 == 1);
    load_counts(allocs, false, allocs_begun);
    load_counts(frees, false, frees_begun);
    for (unsigned i = 0; i < WAYS; i++) {
        /* The array form leaves out sites that were made while it was made: their calls had not ended before. */
        CHECK(allocs_done[i] <= v.allocs[i] && v.allocs[i] <= allocs_begun[i],
              "way %u: %" PRIu64 " allocations, but %" PRIu64 " had ended before, %" PRIu64 " begun after", i,
              v.allocs[i], allocs_done[i], allocs_begun[i]);
        CHECK(frees_done[i] <= v.frees[i] && v.frees[i] <= frees_begun[i],
              "way %u: %" PRIu64 " frees, but %" PRIu64 " had ended before, %" PRIu64 " begun after", i,
              v.frees[i], frees_done[i], frees_begun[i]);
    }
    CHECK(v.met >= sites_met, "%zu sites, before %zu", v.met, sites_met);
    sites_met = v.met;
    check_snapshot(last);
}

static void *read_all_the_time(void *argument) {
    (void)argument;
    mod_alloc_stats last = whole_now();
    for (visits = 0; !is_over(); visits++) {
        visit_once(visits + 1, &last);
    }
    return NULL;
}

/* ---- the forked child: alone, its counts begin with it ---- */

static void child(void) {
    const int64_t under_way = getenv("MOD_ALLOC_PROFILE") != NULL ? THREADS + 1 : 0;
    const visit before = visit_sites(UINT32_MAX, true, false);
    for (unsigned way = 0; way < WAYS; way++) {
        const int64_t live = (int64_t)before.live[way],
                      live_min = (int64_t)(allocs[way].done - frees[way].begun) - under_way,
                      live_max = (int64_t)(allocs[way].begun - frees[way].done) + under_way;
        CHECK(live >= live_min && live <= live_max,
              "way %u: a child has %" PRId64 " blocks, but %" PRId64 " to %" PRId64 " were live at the fork",
              way, live, live_min, live_max);
        CHECK_EQ(before.allocs[way], 0, "a child has allocated nothing yet");
        CHECK_EQ(before.frees[way], 0, "a child has freed nothing yet");
        for (int i = 0; i < CHILD_CALLS; i++) {
            void *p = allocate((unsigned)i, way);
            if (i > 0) {
                release(p);
            }
        }
    }
    const visit after = visit_sites(UINT32_MAX - 1, true, true);
    for (unsigned way = 0; way < WAYS; way++) {
        const uint64_t moved = way == 0 ? CHILD_CALLS : 0; /* way_15 takes blocks from here */
        CHECK_EQ(after.allocs[way], CHILD_CALLS + moved, "a child's allocations");
        CHECK_EQ(after.frees[way], CHILD_CALLS - 1 + moved, "a child's frees");
        CHECK_EQ(after.live[way], before.live[way] + 1, "a child's live blocks");
    }
}

static void fork_now(void) {
    const pid_t pid = fork();
    NEED(pid >= 0, "fork fails: %d", errno);
    if (pid == 0) {
        alarm(60);
        whole_failures = 0;
        child();
        _exit(whole_end());
    }
    int status = 0;
    NEED(waitpid(pid, &status, 0) == pid, "no child");
    CHECK(status == 0, "child: status %#x", (unsigned)status);
}

/* ---- */

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void in_the_end_all_is_exact(void) {
    for (size_t i = 0; i < EXCHANGE; i++) {
        release(exchange[i]);
    }
    const visit v = visit_sites(UINT32_MAX, false, false);
    for (unsigned i = 0; i < WAYS; i++) {
        CHECK_EQ(v.allocs[i], allocs[i].done, "allocations in the end");
        CHECK_EQ(v.frees[i], frees[i].done, "frees in the end");
        CHECK_EQ(v.live[i], 0, "live in the end");
    }
}

int main(void) {
    whole_begin();
    for (unsigned way = 0; way < WAYS; way++) {
        void *p = allocate(0, way);
        usable[way] = malloc_usable_size(p);
        release(p);
    }
    pthread_t reader, churn, thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], NULL, allocate_all_the_time, (void *)(i + 1)) == 0, "no thread");
    }
    NEED(pthread_create(&churn, NULL, come_and_go, NULL) == 0, "no thread");
    NEED(pthread_create(&reader, NULL, read_all_the_time, NULL) == 0, "no thread");
    unsigned forks = 0;
    for (const uint64_t end = now_ms() + RUN_MS; now_ms() < end; forks++) {
        fork_now();
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(reader, NULL);
    pthread_join(churn, NULL);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    in_the_end_all_is_exact();
    CHECK(visits >= 3 && forks >= 3, "%u visits and %u forks only", visits, forks);
    printf("%u visits of up to %zu sites, %u forks, %" PRIu64 " allocations at way 1\n", visits, sites_met,
           forks, allocs[1].done);
    return whole_end();
}
