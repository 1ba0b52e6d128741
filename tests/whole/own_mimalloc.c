/* SPDX-License-Identifier: MIT
 *
 * own_mimalloc.c - a program with a mimalloc of its own beside ours: compiled into it, or in a shared library.
 *
 * Its copy has mimalloc's checks and padding, so that its heaps are laid out otherwise than ours. Several threads use
 * malloc and mi_malloc in turn, end with blocks of both still live, and free each other's. Our counters must tell
 * exactly of malloc's blocks; a walk over a heap of the other copy must find exactly that heap's; neither knows the
 * other's blocks; all contents are kept; a fork's child has both.
 *
 * own_mimalloc theirs: malloc is the program's own mimalloc's, since that was built to be it and comes first: then
 * mod-alloc is not active, and counts nothing.
 * own_mimalloc far: the addresses that the program's mimalloc asks for are taken.
 */
#include <dlfcn.h>
#include <mimalloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "whole.h"

#define THREADS 4
#define ROUNDS 3
#define STEPS 3000
#define OWN_SLOTS 300 /* of each thread, in a heap of its own */
#define SLOTS 600     /* shared by all threads */

typedef struct {
    int64_t alloc_count, free_count, reallocs, total, freed, requested;
    char padding[80];
} books;

typedef struct {
    unsigned char *p;
    size_t asked;
    unsigned lock;
    unsigned char fill;
    bool is_theirs; /* from mi_malloc */
} slot;

static slot slots[SLOTS];
static books book[THREADS];
static bool malloc_is_theirs; /* the program's mimalloc is malloc, too */
static pthread_barrier_t barrier;

static void error_of_theirs(int error, void *argument) {
    (void)argument;
    whole_fail(__FILE__, __LINE__, "no error", "the program's mimalloc finds an error: %s", strerror(error));
}

/* ---- where the program's mimalloc has its blocks ---- */

/*
 * It asks for segments from 2 TiB on, and its map of them ends far above. If these addresses are taken it gets the
 * kernel's choice, which the map does not hold. That happens by chance, too: ours begins at random, and is in its way
 * once in some thousand runs.
 */
static const uintptr_t first_hint = (uintptr_t)2 << 40, segment = (uintptr_t)32 << 20,
                       end_of_map = (uintptr_t)(MI_MALLOC_VERSION < 210 ? 20 : 48) << 40;

static void take_hints(void) {
    for (uintptr_t i = 0; i < 64; i++) {
        /* Fails where the first segments are already. */
        (void)mmap((void *)(first_hint + i * segment), segment, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    }
}

static bool theirs_knows(const void *p) {
    return mi_is_in_heap_region(p) || (uintptr_t)p >= end_of_map;
}

/* ---- one block ---- */

static void check_contents(const slot *s) {
    for (size_t i = 0; i < s->asked; i++) {
        NEED(s->p[i] == s->fill, "%s block of %zu bytes: byte %zu is %#x, expected %#x",
             s->is_theirs ? "mi_malloc's" : "malloc's", s->asked, i, s->p[i], s->fill);
    }
}

static void allocate(slot *s, books *b, uint64_t *state) {
    const uint64_t r = whole_random(state);
    const size_t size = (r >> 8) % (r % 50 == 0 ? 200000 : 1500) + 1;
    const bool is_big_aligned = r % 8 == 1;
    s->is_theirs = (r >> 60) % 2;
    s->asked = size;
    s->fill = (unsigned char)(r >> 40);
    if (s->is_theirs) {
        s->p = r % 8 == 0       ? mi_calloc(1, size)
               : is_big_aligned ? mi_malloc_aligned(size, 256)
                                : mi_malloc(size);
        NEED(s->p != NULL && mi_usable_size(s->p) >= size, "mi_malloc(%zu)", size);
        NEED(theirs_knows(s->p), "the program's mimalloc does not know its block");
    } else {
        s->p = r % 8 == 0 ? calloc(1, size) : malloc(size);
        NEED(s->p != NULL, "malloc(%zu)", size);
        NEED(malloc_is_theirs ? theirs_knows(s->p) : !mi_is_in_heap_region(s->p),
             "the program's mimalloc takes malloc's block as %s", malloc_is_theirs ? "another's" : "its own");
        b->alloc_count++;
        b->total += (int64_t)malloc_usable_size(s->p);
        b->requested += (int64_t)size;
    }
    memset(s->p, s->fill, size);
}

static void release(slot *s, books *b) {
    check_contents(s);
    if (s->is_theirs) {
        mi_free(s->p);
    } else {
        b->free_count++;
        b->freed += (int64_t)malloc_usable_size(s->p);
        free(s->p);
    }
    s->p = NULL;
}

static void reallocate(slot *s, books *b, uint64_t *state) {
    const size_t size = whole_random(state) % 3000 + 1, kept = size < s->asked ? size : s->asked;
    if (s->is_theirs) {
        s->p = mi_realloc(s->p, size);
        NEED(s->p != NULL, "mi_realloc to %zu", size);
    } else {
        const int64_t before = (int64_t)malloc_usable_size(s->p);
        s->p = realloc(s->p, size);
        NEED(s->p != NULL, "realloc to %zu", size);
        const int64_t growth = (int64_t)malloc_usable_size(s->p) - before;
        b->alloc_count++;
        b->reallocs++;
        b->total += growth > 0 ? growth : 0;
        b->freed += growth < 0 ? -growth : 0;
        b->requested += (int64_t)size;
    }
    s->asked = kept;
    check_contents(s);
    s->asked = size;
    memset(s->p, s->fill, size);
}

/* ---- a heap of the program's mimalloc ---- */

static bool count_block(const mi_heap_t *heap, const mi_heap_area_t *area, void *block, size_t size,
                        void *found) {
    (void)heap, (void)area, (void)size;
    *(size_t *)found += block != NULL;
    return true;
}

static size_t blocks_in(const mi_heap_t *heap) {
    size_t found = 0;
    NEED(mi_heap_visit_blocks(heap, true, count_block, &found), "mi_heap_visit_blocks");
    return found;
}

/* The thread's own heap: filled, walked, emptied by half, given up whole. */
static void use_heap(uint64_t *state) {
    void *block[OWN_SLOTS];
    mi_heap_t *const heap = mi_heap_new();
    NEED(heap != NULL, "mi_heap_new");
    for (size_t i = 0; i < OWN_SLOTS; i++) {
        block[i] = mi_heap_malloc(heap, whole_random(state) % 2000);
        NEED(block[i] != NULL && mi_heap_contains_block(heap, block[i]), "mi_heap_malloc gives %p", block[i]);
    }
    CHECK_EQ(blocks_in(heap), OWN_SLOTS, "blocks in the program's heap");
    for (size_t i = 0; i < OWN_SLOTS; i += 2) {
        mi_free(block[i]);
    }
    CHECK_EQ(blocks_in(heap), OWN_SLOTS / 2, "blocks in the program's heap, half of them freed");
    mi_heap_destroy(heap);
}

/* ---- threads ---- */

static void operate(int id, int steps, uint64_t *state) {
    for (int i = 0; i < steps; i++) {
        const uint64_t r = whole_random(state);
        slot *const s = &slots[r % SLOTS];
        if (__atomic_exchange_n(&s->lock, 1, __ATOMIC_ACQUIRE) != 0) {
            continue;
        }
        if (s->p == NULL) {
            allocate(s, &book[id], state);
        } else if ((r >> 32) % 4 == 0) {
            reallocate(s, &book[id], state);
        } else {
            release(s, &book[id]);
        }
        __atomic_store_n(&s->lock, 0, __ATOMIC_RELEASE);
    }
}

static void *worker(void *argument) {
    const int id = (int)(intptr_t)argument;
    uint64_t state = (uint64_t)id + 1;
    mi_free(mi_malloc(1)); /* what the thread's first call needs of libc is not counted below */
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        operate(id, STEPS, &state);
        use_heap(&state);
        mi_collect(round == 1);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static books sum_of_books(void) {
    books sum = {0};
    for (int i = 0; i < THREADS; i++) {
        sum.alloc_count += book[i].alloc_count;
        sum.free_count += book[i].free_count;
        sum.reallocs += book[i].reallocs;
        sum.total += book[i].total;
        sum.freed += book[i].freed;
        sum.requested += book[i].requested;
    }
    return sum;
}

static void compare_books(const char *where, const mod_alloc_stats *start) {
    const books sum = malloc_is_theirs ? (books){0} : sum_of_books();
    CHECK_CHANGE(where, *start, .alloc_count = sum.alloc_count, .free_count = sum.free_count,
                 .total_bytes = sum.total, .current_bytes = sum.total - sum.freed,
                 .live_count = sum.alloc_count - sum.reallocs - sum.free_count,
                 .requested_bytes = sum.requested);
}

/* What threads that have ended left behind. */
static void release_all(books *b) {
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].p != NULL) {
            release(&slots[i], b);
        }
    }
}

static void run_threads(void) {
    pthread_t thread[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], NULL, worker, (void *)(intptr_t)i) == 0, "no thread");
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    /* The first round warms up; the others are counted. */
    memset(book, 0, sizeof book);
    const mod_alloc_stats start = whole_now();
    pthread_barrier_wait(&barrier);
    for (int round = 1; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        compare_books("threads", &start);
        pthread_barrier_wait(&barrier);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    memset(book, 0, sizeof book);
    const mod_alloc_stats before = whole_now();
    release_all(&book[0]);
    compare_books("blocks of threads that have ended", &before);
}

/* ---- the rest ---- */

/* Where the copies are in two objects, each name is the program's own; in one, the linker has seen to it. */
static void check_names(void) {
#ifndef WHOLE_ONE_OBJECT
    static const struct {
        const char *name;
        void *function;
    } names[] = {
#define NAME(name) {#name, (void *)name}
        NAME(mi_malloc),         NAME(mi_free),     NAME(mi_calloc),      NAME(mi_realloc),
        NAME(mi_malloc_aligned), NAME(mi_heap_new), NAME(mi_heap_malloc), NAME(mi_heap_destroy),
        NAME(mi_usable_size),    NAME(mi_collect),  NAME(mi_version),     NAME(mi_is_in_heap_region),
#undef NAME
    };
    Dl_info ours, found;
    NEED(dladdr((void *)mod_alloc_is_active, &ours) != 0, "where is mod-alloc?");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK(dladdr(names[i].function, &found) != 0 && found.dli_fbase != ours.dli_fbase,
              "%s is that of mod-alloc, %s", names[i].name, ours.dli_fname);
    }
#endif
}

static size_t printed;
static void print_nowhere(const char *text, void *argument) {
    (void)argument;
    printed += strlen(text);
}

/* What is said of the program's mimalloc as a whole moves no counter of ours. */
static void use_the_rest(void) {
    const mod_alloc_stats before = whole_now();
    size_t elapsed, user, system, rss, rss_peak, commit, commit_peak, faults;
    char *const text = mi_strdup("theirs");
    mi_process_info(&elapsed, &user, &system, &rss, &rss_peak, &commit, &commit_peak, &faults);
    mi_stats_print_out(print_nowhere, NULL);
    mi_stats_merge();
    mi_stats_reset();
    mi_heap_t *const heap = mi_heap_new();
    mi_heap_t *const old = mi_heap_set_default(heap);
    void *const inside = mi_malloc(100);
    CHECK(mi_heap_contains_block(heap, inside), "mi_malloc does not use the default heap that was set");
    mi_heap_set_default(old);
    mi_heap_delete(heap);
    mi_free(inside);
    CHECK(strcmp(text, "theirs") == 0, "mi_strdup");
    mi_free(text);
    CHECK_EQ(mi_version(), MI_MALLOC_VERSION, "mi_version()");
    CHECK(printed > 100, "mi_stats_print_out tells %zu characters", printed);
    if (!malloc_is_theirs) {
        CHECK_CHANGE("the program's mimalloc alone", before, .alloc_count = 0);
    }
}

static void check_fork(void) {
    const pid_t pid = fork();
    if (pid == 0) {
        uint64_t state = 77;
        memset(book, 0, sizeof book);
        const mod_alloc_stats before = whole_now();
        operate(0, STEPS, &state);
        use_heap(&state);
        release_all(&book[0]);
        compare_books("a forked child", &before);
        _exit(whole_end());
    }
    int status = -1;
    NEED(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
    CHECK_EQ(status, 0, "a forked child");
}

int main(int count, char **argument) {
    malloc_is_theirs = count > 1 && strcmp(argument[1], "theirs") == 0;
    if (count > 1 && strcmp(argument[1], "far") == 0) {
        take_hints();
    }
    NEED(WHOLE_HAS(mod_alloc_is_active), "mod-alloc is not in this process");
    CHECK_EQ(mod_alloc_is_active(), malloc_is_theirs ? 0 : 1, "mod_alloc_is_active()");
    mi_register_error(error_of_theirs, NULL);
    check_names();
    use_the_rest();
    run_threads();
    check_fork();
    mi_collect(true);
    return whole_end();
}
