/* SPDX-License-Identifier: MIT
 *
 * Whatever thread counted what, and wherever it stands now, a site's figures are those of a plain model.
 * One thread: all of them exactly, peaks too.
 */
#include "site_rooms.h"

#include "os/os.h"
#include "sample/sampler.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)
#define SITES 300u
#define BLOCKS_MAX 3000u

typedef struct model_site {
    moda_site *site;
    moda_site_counts c; /* as they should be; at_peak_* as of the last note */
    int64_t live_bytes, live_count, live_requested;
} model_site;

typedef struct block {
    uint32_t site;
    uint64_t birth;
    moda_sample sample;
} block;

static model_site models[SITES];
static block blocks[BLOCKS_MAX];
static uint32_t block_count;
static int64_t heap; /* weighted bytes live */
static int64_t heap_peak;
static moda_shard *shards[3];

static void prepare_in(uint64_t memory_max, uint64_t sample_bytes) {
    cr_assert(make_rooms(memory_max, 64, NULL));
    for (int i = 0; i < 3; i++) {
        shards[i] = moda_registry_take();
        shards[i]->sample_bytes = sample_bytes;
    }
    for (uint32_t i = 0; i < SITES; i++) {
        models[i].site = intern_stack(shards[0], NULL, i);
        models[i].c.lifetime_min = UINT64_MAX;
    }
}

static void prepare(uint64_t sample_bytes) {
    prepare_in(64 * MIB, sample_bytes);
}

/* What the slow path of free does first: a peak is noted before what follows it is counted. */
static void note_peak(void) {
    if (heap < heap_peak) {
        return;
    }
    heap_peak = heap;
    moda_region()->peak_epoch++;
    for (uint32_t i = 0; i < SITES; i++) {
        models[i].c.at_peak_bytes = models[i].live_bytes;
        models[i].c.at_peak_count = models[i].live_count;
        models[i].c.at_peak_requested = models[i].live_requested;
    }
}

static uint64_t weighed(const moda_sample *sample, uint64_t bytes) {
    return (sample->weight_fixed * bytes + 32768) / 65536;
}

static void model_alloc(model_site *m, const moda_sample *s) {
    m->c.alloc_samples++;
    m->c.alloc_count += s->weight_fixed;
    m->c.alloc_bytes += weighed(s, s->size);
    m->c.alloc_requested += weighed(s, s->requested);
    m->live_bytes += (int64_t)weighed(s, s->size);
    m->live_count += (int64_t)s->weight_fixed;
    m->live_requested += (int64_t)weighed(s, s->requested);
    heap += (int64_t)weighed(s, s->size);
    if (m->live_bytes > m->c.peak_bytes) {
        m->c.peak_bytes = m->live_bytes;
        m->c.peak_count = m->live_count;
    }
}

static void model_leave(model_site *m, const moda_sample *s) {
    m->c.free_samples++;
    m->c.free_count += s->weight_fixed;
    m->c.free_bytes += weighed(s, s->size);
    m->c.free_requested += weighed(s, s->requested);
    m->live_bytes -= (int64_t)weighed(s, s->size);
    m->live_count -= (int64_t)s->weight_fixed;
    m->live_requested -= (int64_t)weighed(s, s->requested);
    heap -= (int64_t)weighed(s, s->size);
}

static void model_end(model_site *m, const moda_sample *s, const moda_sample_end *end, bool is_short) {
    const uint64_t ticks = end->now_ticks > end->born ? end->now_ticks - end->born : 0;
    m->c.lifetime_count += s->weight_fixed;
    m->c.lifetime_sum += weighed(s, ticks);
    m->c.lifetime_min = ticks < m->c.lifetime_min ? ticks : m->c.lifetime_min;
    m->c.lifetime_max = ticks > m->c.lifetime_max ? ticks : m->c.lifetime_max;
    m->c.short_lived_count += is_short ? s->weight_fixed : 0;
    m->c.remote_free_count += end->is_remote ? s->weight_fixed : 0;
}

static moda_sample random_sample(uint64_t *random, bool is_weighted) {
    moda_sample s = {.weight_fixed = 65536, .size = 16 * (1 + next_number(random) % 100)};
    s.requested = s.size - next_number(random) % 16;
    if (is_weighted) {
        s.weight_fixed = moda_sampler_weight_fixed(random, s.size, 5000);
    }
    return s;
}

static void do_alloc(moda_shard *shard, uint32_t site, const moda_sample *sample, uint64_t birth) {
    moda_site_count_alloc(shard, models[site].site, sample);
    model_alloc(&models[site], sample);
    blocks[block_count++] = (block){.site = site, .birth = birth, .sample = *sample};
}

static block take_block(uint64_t *random) {
    const uint32_t i = (uint32_t)(next_number(random) % block_count);
    const block b = blocks[i];
    blocks[i] = blocks[--block_count];
    return b;
}

/* A few sites are hot, so that their entries stay; most are not, and throw each other out. */
static uint32_t random_site(uint64_t *random) {
    return (uint32_t)(next_number(random) % (next_number(random) % 3 == 0 ? SITES : 5));
}

static void do_free(moda_shard *shard, uint64_t *random, uint64_t now) {
    note_peak();
    const block b = take_block(random);
    const uint64_t second = UINT64_C(10000000000); /* ticks of more than the short life, on any machine */
    const bool is_short = next_number(random) % 2 == 0;
    const moda_sample_end end = {.born = b.birth,
                                 .now_ticks = is_short ? b.birth + now % 1000 : b.birth + second + now,
                                 .is_remote = next_number(random) % 8 == 0};
    moda_site_count_free(shard, models[b.site].site, &b.sample, &end);
    model_leave(&models[b.site], &b.sample);
    model_end(&models[b.site], &b.sample, &end, is_short);
}

static void do_realloc(moda_shard *shard, uint64_t *random, bool is_weighted) {
    note_peak();
    const block b = take_block(random);
    moda_site_count_moved(shard, models[b.site].site, &b.sample);
    model_leave(&models[b.site], &b.sample);
    models[b.site].c.moved_count += b.sample.weight_fixed;
    const moda_sample sample = random_sample(random, is_weighted);
    do_alloc(shard, random_site(random), &sample, b.birth);
}

static void check_site(const model_site *m, bool with_own_peak) {
    moda_site_counts c;
    moda_site_read(m->site, &c);
    moda_site_counts expected = m->c;
    expected.at_peak_epoch = moda_region()->peak_epoch;
    if (!with_own_peak) {
        expected.peak_bytes = c.peak_bytes;
        expected.peak_count = c.peak_count;
    }
    const uint64_t *a = (const uint64_t *)(const void *)&c;
    const uint64_t *b = (const uint64_t *)(const void *)&expected;
    for (size_t i = 0; i < sizeof c / 8; i++) {
        cr_assert_eq(a[i], b[i], "site %u, field %zu: %ld, expected %ld", m->site->id, i, (long)a[i],
                     (long)b[i]);
    }
}

static void check_all(bool with_own_peak) {
    for (uint32_t i = 0; i < SITES; i++) {
        check_site(&models[i], with_own_peak);
    }
    for (int i = 0; i < 3; i++) {
        cr_assert(moda_site_deltas_are_valid(shards[i]));
    }
}

static void run_model(uint64_t seed, uint64_t sample_bytes, bool is_weighted, int shards_used) {
    prepare(sample_bytes);
    uint64_t random = seed;
    for (uint64_t step = 0; step < 200000; step++) {
        moda_shard *shard = shards[next_number(&random) % (uint64_t)shards_used];
        /* Waves: the heap rises and falls, and so has many peaks. */
        const uint64_t rising = step / 5000 % 2 == 0 ? 70 : 35;
        if (block_count == 0 || (next_number(&random) % 100 < rising && block_count < BLOCKS_MAX)) {
            const moda_sample sample = random_sample(&random, is_weighted);
            do_alloc(shard, random_site(&random), &sample, 1000 + step);
        } else if (next_number(&random) % 4 == 0) {
            do_realloc(shard, &random, is_weighted);
        } else {
            do_free(shard, &random, step);
        }
        if (next_number(&random) % 5000 == 0) {
            moda_site_flush(shard);
        }
        if (next_number(&random) % 50 == 0) {
            note_peak();
            check_site(&models[random_site(&random)], shards_used == 1);
        }
    }
    note_peak();
    check_all(shards_used == 1);
    for (int i = 0; i < 3; i++) {
        moda_site_flush(shards[i]);
    }
    check_all(shards_used == 1);
}

Test(site_deltas, every_allocation_of_one_thread) {
    run_model(1, 1, false, 1);
}

Test(site_deltas, samples_of_one_thread) {
    run_model(2, 5000, true, 1);
}

Test(site_deltas, blocks_that_wander_between_threads) {
    run_model(3, 1, false, 3);
}

Test(site_deltas, samples_that_wander_between_threads) {
    run_model(4, 5000, true, 3);
}

Test(site_deltas, rare_samples_are_counted_at_the_site) {
    run_model(5, 524288, true, 3);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(shards[i]->deltas, 0);
    }
}

Test(site_deltas, without_a_shard_the_site_itself_counts) {
    prepare(1);
    const moda_sample sample = {.weight_fixed = MODA_COUNT_ONE, .size = 32, .requested = 20};
    const moda_sample_end end = {.born = 10, .now_ticks = 15};
    moda_shard *const nobody[2] = {NULL, moda_shard_orphan};
    for (int i = 0; i < 2; i++) {
        moda_site_count_alloc(nobody[i], models[0].site, &sample);
        moda_site_count_alloc(nobody[i], models[0].site, &sample);
        moda_site_count_moved(nobody[i], models[0].site, &sample);
        moda_site_count_free(nobody[i], models[0].site, &sample, &end);
    }
    const moda_site_counts *c = &models[0].site->counts;
    cr_assert_eq(c->alloc_samples, 4);
    cr_assert_eq(c->free_bytes, 128);
    cr_assert_eq(c->lifetime_count, 2 * MODA_COUNT_ONE);
    cr_assert_eq(c->lifetime_max, 5);
    cr_assert_eq(c->peak_bytes, 64);
    cr_assert_eq(moda_shard_orphan->deltas, 0);
    cr_assert_eq(models[0].site->counts_lock, 16);
}

Test(site_deltas, a_lock_whose_holder_was_interrupted_is_not_waited_for, .timeout = 600) {
    prepare(1);
    const moda_sample sample = {.weight_fixed = MODA_COUNT_ONE, .size = 32, .requested = 20};
    models[0].site->counts_lock = 1;
    moda_site_count_alloc(NULL, models[0].site, &sample);
    cr_assert_eq(models[0].site->counts.alloc_samples, 1);
    cr_assert_eq(models[0].site->counts_lock, 1, "it stays its holder's");
    moda_site_counts c;
    moda_site_read(models[0].site, &c);
    cr_assert_eq(c.alloc_samples, 1);
}

/* taken_bytes: by what else is for speed alone. */
static void change_to_every_allocation(uint64_t memory_max, size_t taken_bytes, uint32_t entries) {
    prepare_in(memory_max, 5000);
    cr_assert(taken_bytes == 0 || moda_region_alloc_for_speed(taken_bytes) != NULL);
    const moda_sample sample = {.weight_fixed = MODA_COUNT_ONE, .size = 32, .requested = 20};
    moda_site_count_alloc(shards[0], models[0].site, &sample);
    cr_assert_eq(((moda_delta_cache *)moda_region_at(shards[0]->deltas))->entries, 64);
    shards[0]->sample_bytes = 1;
    const uint64_t used = moda_region()->used;
    for (uint32_t i = 0; i < SITES; i++) {
        moda_site_count_alloc(shards[0], models[i].site, &sample);
    }
    const uint64_t more = entries > 64 ? sizeof(moda_delta_cache) + entries * sizeof(moda_site_delta) : 0;
    cr_assert_eq(moda_region()->used - used, more, "made anew once");
    cr_assert_eq(((moda_delta_cache *)moda_region_at(shards[0]->deltas))->entries, entries);
    for (uint32_t i = 0; i < SITES; i++) {
        moda_site_counts c;
        moda_site_read(models[i].site, &c);
        cr_assert_eq(c.alloc_samples, i == 0 ? 2 : 1);
    }
}

Test(site_deltas, changing_to_every_allocation_loses_nothing) {
    change_to_every_allocation(64 * MIB, 0, 2048);
}

Test(site_deltas, a_small_region_has_fewer_deltas) {
    change_to_every_allocation(8 * MIB, 0, 512);
}

Test(site_deltas, where_much_is_taken_for_speed_there_are_fewer_deltas) {
    change_to_every_allocation(64 * MIB, 30 * MIB, 512);
}

Test(site_deltas, where_nearly_all_is_taken_for_speed_they_stay_few) {
    change_to_every_allocation(64 * MIB, 32 * MIB - 200000, 64);
}

Test(site_deltas, size_classes_are_powers_of_two) {
    prepare(5000);
    static const struct {
        uint64_t size;
        uint32_t class;
    } rows[] = {{0, 0}, {1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {1024, 10}, {1025, 11}, {UINT64_MAX, 63}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const moda_sample sample = {.weight_fixed = 3, .size = rows[i].size};
        const uint64_t before = shards[0]->size_samples[rows[i].class];
        moda_site_note_sample(shards[0], 2, &sample);
        cr_assert_eq(shards[0]->size_samples[rows[i].class], before + 3, "size %lu",
                     (unsigned long)rows[i].size);
    }
    cr_assert_eq(shards[0]->samples, sizeof rows / sizeof rows[0]);
    cr_assert_eq(shards[0]->walks[2], shards[0]->samples);
}

/* ---- a peak that comes while a site is read ---- */

#define HIGH 100 /* blocks live at each peak */

static moda_site *risen_site;
static moda_shard *risen_shard;
static uint32_t stop_rising;
static const moda_sample risen = {.weight_fixed = MODA_COUNT_ONE, .size = 32, .requested = 20};

static void rise(void) {
    for (int i = 0; i < HIGH; i++) {
        moda_site_count_alloc(risen_shard, risen_site, &risen);
    }
    moda_store_relaxed(&moda_region()->peak_epoch, moda_region()->peak_epoch + 1);
}

static void *fall_and_rise(void *unused) {
    const moda_sample_end end = {.born = MODA_BORN_UNTIMED};
    while (moda_load_relaxed(&stop_rising) == 0) {
        for (int i = 0; i < HIGH; i++) {
            moda_site_count_free(risen_shard, risen_site, &risen, &end);
        }
        rise();
    }
    return unused;
}

/* The thread that counts is the last of many to be looked at: nearly whenever it comes in between, it is before that. */
Test(site_deltas, what_was_live_at_the_peak_is_of_one_peak, .timeout = 600) {
    prepare(4096);
    for (int i = 0; i < 400; i++) {
        risen_shard = moda_registry_take();
        risen_shard->sample_bytes = 4096;
        moda_site_count_alloc(risen_shard, models[0].site, &risen);
    }
    risen_site = models[1].site;
    rise();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, fall_and_rise, NULL), 0);
    const uint64_t begun = moda_os_monotonic_ns();
    uint32_t read = 0;
    while (read < 200 || (moda_os_monotonic_ns() - begun < 1000000000 && read < 200000)) {
        moda_site_counts c;
        if (moda_site_read(risen_site, &c)) {
            read++;
            cr_assert_eq(c.at_peak_count, HIGH * (int64_t)MODA_COUNT_ONE, "%ld blocks, in the %u. reading",
                         (long)(c.at_peak_count / MODA_COUNT_ONE), (unsigned)read);
        }
    }
    moda_store_relaxed(&stop_rising, 1);
    pthread_join(thread, NULL);
}

/* ---- a fork meanwhile ---- */

static unsigned begun, is_over;

static void *change_a_site(void *shard) {
    __atomic_store_n(&((moda_shard *)shard)->is_at_site, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&begun, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 1000; i++) {
        moda_os_yield();
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&((moda_shard *)shard)->is_at_site, 0, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *flush(void *shard) {
    __atomic_store_n(&begun, 1, __ATOMIC_SEQ_CST);
    moda_site_flush(shard);
    return NULL;
}

static pthread_t begin(void *(*function)(void *), moda_shard *shard) {
    pthread_t thread;
    begun = 0;
    cr_assert_eq(pthread_create(&thread, NULL, function, shard), 0);
    while (__atomic_load_n(&begun, __ATOMIC_SEQ_CST) == 0) {
        moda_os_yield();
    }
    return thread;
}

Test(site_deltas, a_fork_finds_no_delta_half_moved) {
    prepare(1);
    const moda_sample sample = {.weight_fixed = MODA_COUNT_ONE, .size = 32, .requested = 20};
    moda_site_counts *const c = &models[0].site->counts;
    moda_site_count_alloc(shards[1], models[0].site, &sample);
    const pthread_t before = begin(change_a_site, shards[0]);
    moda_site_fork_prepare();
    cr_assert_eq(__atomic_load_n(&is_over, __ATOMIC_SEQ_CST), 1, "who is at a site is not waited for");
    const pthread_t meanwhile = begin(flush, shards[1]);
    for (int i = 0; i < 1000; i++) {
        moda_os_yield();
        cr_assert_eq(__atomic_load_n(&c->alloc_samples, __ATOMIC_SEQ_CST), 0, "a delta is added meanwhile");
    }
    moda_site_fork_parent();
    pthread_join(before, NULL);
    pthread_join(meanwhile, NULL);
    cr_assert_eq(c->alloc_samples, 1);
    cr_assert_eq(shards[1]->is_at_site, 0);
}

/* ---- left in the middle ---- */

#if defined(__x86_64__)
/* The processor's own single steps: each is a signal, and the handler of the chosen one does not return. Before that it
 * may count, too, at a site of its own; that may be left at a chosen step, by the handler of that one. */
typedef enum handlers_count { NOTHING, ONE_WHOLE, ONE_LEFT_IN_ITS_MIDDLE } handlers_count;
static const moda_sample counted = {.weight_fixed = 65536, .size = 16, .requested = 16};
static volatile handlers_count counts_in_handler;
static volatile long steps, leave_at, inner_steps, inner_leave_at;
static volatile bool is_in_handler;
static sigjmp_buf outside;

static inline __attribute__((always_inline)) void set_steps(bool is_on) {
    __asm__ volatile("sub $128, %%rsp; pushfq; andq $~0x100, (%%rsp); orq %0, (%%rsp); popfq; add $128, %%rsp"
                     :
                     : "r"(is_on ? UINT64_C(0x100) : UINT64_C(0))
                     : "cc", "memory");
}

static void count_in_handler(void) {
    is_in_handler = true;
    if (counts_in_handler == ONE_LEFT_IN_ITS_MIDDLE) {
        set_steps(true);
    }
    moda_site_count_alloc(NULL, models[SITES - 1].site, &counted);
    set_steps(false);
}

static void at_each_step(int number) {
    (void)number;
    if (is_in_handler) {
        if (++inner_steps == inner_leave_at) {
            siglongjmp(outside, 1);
        }
    } else if (++steps == leave_at) {
        if (counts_in_handler != NOTHING) {
            count_in_handler();
        }
        siglongjmp(outside, 1);
    }
}

/* At step `at` of a count, and at step `inner_at` of the handler's. True if something was then half done. */
static bool leave_count(unsigned site, long at, long inner_at) {
    steps = inner_steps = 0;
    leave_at = at;
    inner_leave_at = inner_at;
    is_in_handler = false;
    if (sigsetjmp(outside, 1) == 0) {
        set_steps(true);
        moda_site_count_alloc(shards[0], models[site].site, &counted);
        set_steps(false);
    }
    bool is_locked = false;
    for (unsigned k = 0; k < SITES; k++) {
        is_locked |= (models[k].site->counts_lock & 1) != 0;
    }
    const bool is_half_done = is_locked || !moda_site_deltas_are_valid(shards[0]);
    moda_site_recover(shards[0]);
    for (unsigned k = 0; k < SITES; k++) {
        cr_assert_eq(models[k].site->counts_lock & 1, 0, "site %u, left at instruction %ld, and at %ld", k,
                     at, inner_at);
    }
    cr_assert(moda_site_deltas_are_valid(shards[0]), "left at instruction %ld", at);
    return is_half_done;
}

/* `sites` of them in turn, so that deltas change hands, too; in places all over what one count takes, and what the
 * handler's does. */
static void leave_counts(uint64_t sample_bytes, unsigned sites, handlers_count in_handler) {
    const bool is_inner_left = in_handler == ONE_LEFT_IN_ITS_MIDDLE;
    const long places = is_inner_left ? 30 : 400;
    const struct sigaction action = {.sa_handler = at_each_step, .sa_flags = SA_NODEFER};
    prepare(sample_bytes);
    sigaction(SIGTRAP, &action, NULL);
    counts_in_handler = in_handler;
    leave_count(0, 0, 0); /* is not left */
    const long count = steps;
    leave_count(0, 1, 0);
    const long inner_count = is_inner_left ? inner_steps : 0;
    long in_the_middle = 0, which = 0;
    for (long i = 1; i < count; i += 1 + count / places) {
        for (long k = 0; k <= inner_count; k += 1 + inner_count / places) {
            in_the_middle += leave_count((unsigned)(which++ % sites), i, k);
        }
    }
    cr_assert_gt(in_the_middle, 5);
}

Test(site_deltas, a_count_that_is_left_in_its_middle_leaves_no_lock) {
    leave_counts(MIB, 1, NOTHING);
}

Test(site_deltas, nor_does_one_whose_handler_counts_before_it_leaves) {
    leave_counts(MIB, 1, ONE_WHOLE);
}

Test(site_deltas, nor_do_two_that_are_left_together) {
    leave_counts(MIB, 1, ONE_LEFT_IN_ITS_MIDDLE);
}

Test(site_deltas, nor_does_one_that_takes_another_sites_delta) {
    leave_counts(1, SITES - 1, NOTHING);
}
#endif
