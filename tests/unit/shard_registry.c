/* SPDX-License-Identifier: MIT
 *
 * Each slot is in the sums once, wherever it found room; and in a forked child's region as it was at one moment. Who takes
 * one looks at no other.
 */
#include "region/region.h"
#include "shard/shard.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

moda_shard *moda_attach(void) {
    return moda_shard_of_thread;
}

static void take_slots(uint32_t count, size_t bytes) {
    for (uint32_t i = 0; i < count; i++) {
        moda_shard *shard = moda_registry_take();
        cr_assert_not_null(shard);
        moda_shard_set_countdown(shard, MODA_PUBLISH_BYTES);
        moda_shard_count_malloc(shard, bytes, bytes);
    }
}

bool __real_moda_os_commit(void *start, size_t bytes);
bool __wrap_moda_os_commit(void *start, size_t bytes);

static bool is_disk_full;

bool __wrap_moda_os_commit(void *start, size_t bytes) {
    return !is_disk_full && __real_moda_os_commit(start, bytes);
}

/* A disk that is full for a while: slots are then in memory of our own, and, where there is room again, in the region. */
Test(shard_registry, slots_that_found_no_room_in_the_region_count_once) {
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    moda_region_header *header = moda_region();
    take_slots(7, 16);
    is_disk_full = true;
    take_slots(32, 160);
    is_disk_full = false;
    take_slots(32, 1600);
    cr_assert(moda_region_has(moda_registry_slot(7)) && !moda_region_has(moda_registry_slot(8))
              && moda_region_has(moda_registry_slot(40)));
    moda_totals totals;
    moda_totals_read(&totals);
    cr_assert_eq(header->slot_count, 1 + 7 + 32 + 32);
    cr_assert_eq(totals.counts.alloc_count, 7 + 32 + 32);
    cr_assert_eq(totals.counts.total_bytes, 7 * 16 + 32 * 160 + 32 * 1600, "%zu bytes",
                 (size_t)totals.counts.total_bytes);
    for (uint32_t i = 0; i < header->slot_count; i++) {
        cr_assert_eq(moda_registry_slot(i)->index, i);
    }
}

/* A region in a file, and of its children: in a folder of their own. */
static char directory[] = "/tmp/moda-registry-XXXXXX";

static void begin_in_a_file(uint64_t memory_max) {
    char path[64];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/%%p", directory);
    const moda_region_options options = {
        .path = path, .memory_max = memory_max, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
}

static void remove_files(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

/* What a reader of the region finds: it has nothing but the list of blocks there. */
static moda_counts read_region(void) {
    moda_counts sum = {0};
    moda_shard_block *block = moda_region_at(moda_region()->shard_blocks);
    for (; block != NULL; block = moda_region_at(block->next)) {
        cr_assert_leq(moda_region_ref(block + 1) * (uint64_t)MODA_REF_UNIT, moda_region()->used);
        for (uint32_t i = 0; i < block->count; i++) {
            moda_counts counts;
            moda_totals_of_shard(&block->shard[i], &counts);
            sum.alloc_count += counts.alloc_count;
            sum.total_bytes += counts.total_bytes;
        }
    }
    return sum;
}

/* Samples and sites may have taken all that MOD_ALLOC_MEMORY allows before a thread begins. */
Test(shard_registry, slots_are_in_the_region_however_full_it_is) {
    enum { SLOTS = 3000 };
    begin_in_a_file(1 << 20);
    take_slots(3, 16);
    while (moda_region_alloc(64) != NULL) {
    }
    take_slots(SLOTS, 160);
    cr_assert_null(moda_region_alloc(64));
    cr_assert_eq(moda_region()->memory_max, 1 << 20);
    cr_assert_eq(read_region().alloc_count, 3 + SLOTS);
    cr_assert_eq(read_region().total_bytes, 3 * 16 + SLOTS * 160);
    moda_region_fork_prepare();
    const pid_t child = fork();
    if (child == 0) {
        _exit(moda_region_fork_child() && read_region().alloc_count == 3 + SLOTS ? 0 : 1);
    }
    moda_region_fork_parent();
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    remove_files();
}

/* The pages of the region behind its header, each closed until somebody looks at it. */
static char *closed, *closed_end;
static volatile sig_atomic_t pages_looked_at;

static void open_page(int number, siginfo_t *info, void *context) {
    (void)context;
    char *page =
        closed + ((char *)info->si_addr - closed) / moda_region()->page_size * moda_region()->page_size;
    if ((char *)info->si_addr < closed || page >= closed_end
        || mprotect(page, moda_region()->page_size, PROT_READ | PROT_WRITE) != 0) {
        signal(number, SIG_DFL);
        return;
    }
    pages_looked_at++;
}

static void close_pages(void) {
    const struct sigaction action = {.sa_sigaction = open_page, .sa_flags = SA_SIGINFO};
    const uint64_t page = moda_region()->page_size;
    cr_assert_eq(sigaction(SIGSEGV, &action, NULL), 0);
    closed = (char *)moda_region() + (MODA_REGION_FIRST + page - 1) / page * page;
    closed_end = (char *)moda_region() + moda_region()->used / page * page;
    cr_assert_eq(mprotect(closed, (size_t)(closed_end - closed), PROT_NONE), 0);
    pages_looked_at = 0;
}

Test(shard_registry, a_slot_is_taken_and_left_without_a_look_at_the_others) {
    enum { SLOTS = 7 + 62 * 32, LOOK_AT_MOST = 64, PAGES_OF_A_SLOT = 2, MADE = 32 };
    const moda_region_options options = {.memory_max = 1 << 26, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    take_slots(SLOTS, 16);
    cr_assert_eq(moda_region()->slot_count, 1 + SLOTS);
    moda_shard *last = moda_registry_slot(SLOTS);
    close_pages();
    cr_assert_eq(moda_registry_slot(SLOTS), last);
    moda_registry_leave(last);
    const moda_shard *again = moda_registry_take();
    const int to_take = pages_looked_at;
    close_pages();
    const moda_shard *new = moda_registry_take();
    const int to_make = pages_looked_at;
    cr_assert_eq(again, last);
    cr_assert_eq(new->index, 1 + SLOTS);
    cr_assert_eq(moda_region()->slot_count, 1 + SLOTS + MADE);
    cr_assert_leq(to_take, 3, "%d pages looked at to take a slot that was left", to_take);
    cr_assert_leq(to_make, (LOOK_AT_MOST + MADE + 1) * PAGES_OF_A_SLOT,
                  "%d pages looked at to make new slots", to_make);
}

Test(shard_registry, slots_that_were_left_are_taken_before_new_ones_are_made) {
    enum { SLOTS = 7 + 3 * 32, LEFT = (SLOTS + 2) / 3 };
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    take_slots(SLOTS, 16);
    for (uint32_t i = 0; i < LEFT; i++) { /* in no order */
        moda_registry_leave(moda_registry_slot(1 + i * 16 % LEFT * 3));
    }
    for (uint32_t i = 1; i <= SLOTS; i += 3) {
        const moda_shard *shard = moda_registry_take();
        cr_assert(shard != NULL && shard->index == i, "the lowest slot that is free is not taken first");
    }
    cr_assert_eq(moda_region()->slot_count, 1 + SLOTS);
    for (uint32_t i = 1; i <= SLOTS; i++) {
        const moda_shard *shard = moda_registry_slot(i);
        cr_assert(shard->state == MODA_SLOT_TAKEN && shard->incarnation == (i % 3 == 1 ? 2u : 1u));
    }
    cr_assert_eq(moda_region()->threads_now, SLOTS);
    take_slots(1, 16);
    cr_assert_eq(moda_region()->slot_count, 1 + SLOTS + 32);
}

/* The child's own slots are free, but for the one of the thread that forked; none is there twice. */
Test(shard_registry, a_child_takes_the_slots_of_threads_that_it_does_not_have) {
    enum { SLOTS = 7 + 32 };
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    take_slots(SLOTS - 5, 16);
    moda_shard_of_thread = moda_registry_slot(9);
    moda_registry_lock();
    const pid_t child = fork();
    if (child == 0) {
        if (!moda_region_fork_child()) {
            _exit(2);
        }
        moda_registry_fork_child();
        for (uint32_t i = 1; i < SLOTS; i++) {
            const moda_shard *shard = moda_registry_take();
            if (shard == NULL || shard == moda_shard_of_thread || moda_region()->threads_now != 1 + i) {
                _exit(3);
            }
        }
        _exit(moda_region()->slot_count == 1 + SLOTS ? 0 : 1);
    }
    moda_registry_unlock();
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned)status);
}

/* memcpy, as region.c calls it, with other threads' turns in its middle, each time elsewhere. */
void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__wrap_memcpy(void *to, const void *from, size_t bytes);

static bool copies_slowly;

void *__wrap_memcpy(void *to, const void *from, size_t bytes) {
    enum { PIECE = 8, PIECES = 1024, APART = 61 };
    static size_t turn;
    size_t i = 0;
    for (turn++; copies_slowly && i < PIECES && (i + 1) * PIECE <= bytes; i++) {
        __real_memcpy((char *)to + i * PIECE, (const char *)from + i * PIECE, PIECE);
        if ((i + turn) % APART == 0) {
            sched_yield();
        }
    }
    __real_memcpy((char *)to + i * PIECE, (const char *)from + i * PIECE, bytes - i * PIECE);
    return to;
}

static moda_shard *counting;
static int counting_ends;

/* One block is live, or none; how much was allocated is moved from word to word all the time. */
static void *counts_all_the_time(void *unused) {
    while (!__atomic_load_n(&counting_ends, __ATOMIC_RELAXED)) {
        moda_shard_set_countdown(counting, MODA_PUBLISH_BYTES);
        for (int i = 0; i < 20; i++) {
            moda_shard_count_malloc_fast(counting, 4096, 4000);
            if (!moda_shard_count_free_fast(counting, 4096)) {
                moda_shard_count_free(counting, 4096);
            }
        }
    }
    return unused;
}

Test(shard_registry, a_child_has_what_each_thread_had_at_one_moment) {
    enum { FORKS = 30 };
    begin_in_a_file(1 << 24);
    counting = moda_registry_take();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, counts_all_the_time, NULL), 0);
    int wrong = 0;
    for (int i = 0; i < FORKS; i++) {
        copies_slowly = true;
        moda_registry_lock();
        moda_region_fork_prepare();
        const pid_t child = fork();
        copies_slowly = false;
        if (child == 0) {
            if (!moda_region_fork_child()) {
                _exit(2);
            }
            moda_registry_fork_child();
            const int64_t balance = moda_shard_balance(counting), live = moda_shard_live(counting);
            _exit((balance == 0 || balance == 4096) && (live == 0 || live == 1) ? 0 : 1);
        }
        moda_region_fork_parent();
        moda_registry_unlock();
        int status = 0;
        cr_assert_eq(waitpid(child, &status, 0), child);
        wrong += status != 0;
    }
    __atomic_store_n(&counting_ends, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    remove_files();
    cr_assert_eq(wrong, 0, "%d of %d children began with what no moment had", wrong, FORKS);
}
