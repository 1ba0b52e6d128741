/* SPDX-License-Identifier: MIT
 *
 * many_threads.c - three hundred threads that live at once, in little memory, with every allocation recorded: what makes
 * a thread's recording faster must leave room for the sites, and a thread that finds no room for its own walks records all
 * the same.
 *
 * Run with MOD_ALLOC_SAMPLE=1: argument "room" (MOD_ALLOC_MEMORY=8M: no stack is dropped) or "full" (1M: the shards alone
 * take most of it, but stacks that were there before are found, and what is dropped is counted). Exits 0 if all figures
 * are right.
 */
#include "sums.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 300, STACKS = 200, ROUNDS = 5, SIZE = 40, OWN_SIZE = 56 };

static pthread_barrier_t all_are_there;
static sem_t has_recorded;

static __attribute__((noinline)) void *dig(int depth, size_t size) {
    void *p = depth == 0 ? malloc(size) : dig(depth - 1, size);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static void allocate_at_each_stack(void) {
    for (int depth = 0; depth < 50; depth++) {
        for (int where = 0; where < STACKS / 50;
             where++) { /* unrolled by hand: each call is a stack of its own */
            switch (where) {
            case 0: free(dig(depth, SIZE)); break;
            case 1: free(dig(depth, SIZE)); break;
            case 2: free(dig(depth, SIZE)); break;
            case 3: free(dig(depth, SIZE)); break;
            }
        }
    }
}

static void *run(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        allocate_at_each_stack();
        if (i == 0) {
            sem_post(&has_recorded);
        }
        pthread_barrier_wait(&all_are_there);
    }
    return unused;
}

int main(int argc, char **argv) {
    const int is_full = argc > 1 && strcmp(argv[1], "full") == 0;
    static pthread_t threads[THREADS];
    sums before = {0}, after = {0};
    mod_alloc_stats first, last;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    sem_init(&has_recorded, 0, 0);
    pthread_barrier_init(&all_are_there, NULL, THREADS);
    mod_alloc_call_sites(add_site, &before);
    mod_alloc_snapshot(&first);
    for (int i = 0; i < THREADS; i++) {
        expect(pthread_create(&threads[i], &attributes, run, NULL) == 0, "a thread begins", (uint64_t)i);
        if (i
            == 0) { /* its stacks are there before the others' shards fill the region, however threads are scheduled */
            sem_wait(&has_recorded);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    mod_alloc_snapshot(&last);
    mod_alloc_call_sites(add_site, &after);
    mod_alloc_sampling_stats sampling;
    mod_alloc_sampling(&sampling);
    const uint64_t made = last.alloc_count - first.alloc_count;
    const uint64_t dropped = mod_alloc_sites_dropped();
    expect(made >= (uint64_t)THREADS * STACKS * ROUNDS, "the counters have each allocation", made);
    expect(after.allocs - before.allocs == made, "the sites have each of them", after.allocs - before.allocs);
    expect(dropped == sampling.dropped, "both calls say the same", sampling.dropped);
    printf("%llu of %llu dropped, %llu sites, %llu of %llu bytes; %llu at the overflow site\n",
           (unsigned long long)dropped, (unsigned long long)made, (unsigned long long)sampling.sites,
           (unsigned long long)sampling.region_bytes_used, (unsigned long long)sampling.region_bytes_max,
           (unsigned long long)after.overflow_allocs);
    expect(after.overflow_allocs == dropped, "what is at the overflow site was counted as dropped",
           after.overflow_allocs);
    if (is_full) {
        expect(dropped < made / 10, "almost all are at their sites", dropped);
    } else {
        expect(dropped == 0, "no stack is dropped", dropped);
    }
    return failures != 0;
}
