/* SPDX-License-Identifier: MIT
 *
 * read_test.c - read*.c and merge.c: a region's figures come out as they went in, from memory, files and running
 * processes; and what is damaged is refused in one line that says where. pread is wrapped by the linker, so that a
 * file can be cut at each moment of its being read.
 */
#include "make_region.h"
#include "report/report.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static moda_profile *read_made(make_region *region, moda_error *error) {
    const size_t size = make_region_finish(region);
    return moda_profile_read_memory(make_region_bytes(region), size, "made", false, error);
}

static const moda_profile_site *site_by_id(const moda_profile *profile, uint32_t id) {
    for (size_t i = 0; i < profile->site_count; i++)
        if (profile->sites[i].id == id)
            return &profile->sites[i];
    return NULL;
}

/* The figures stand above make_region_example. */
static void check_example(const moda_profile *profile) {
    const uint64_t total = 10 * 112 + 5 * 4096 + 3 * 64 + (1 << 20) + 1000 * 16 + 32;
    cr_assert_eq(profile->totals.alloc_count, 1020);
    cr_assert_eq(profile->totals.free_count, 1007);
    cr_assert_eq(profile->totals.total_bytes, total);
    cr_assert_eq(profile->totals.requested_bytes, 10 * 100 + 5 * 4096 + 3 * 60 + (1 << 20) + 1000 + 32);
    cr_assert_eq(profile->totals.current_bytes, 4 * 112 + 5 * 4096 + 3 * 64 + 32);
    cr_assert_eq(profile->totals.live_count, 13);
    cr_assert_eq(profile->totals.peak_bytes, 10 * 112 + 5 * 4096 + 3 * 64 + (1 << 20));
    cr_assert_eq(profile->totals.peak_live_count, 19);
    cr_assert_eq(profile->site_count, 6);
    cr_assert_eq(profile->site_totals.of[MODA_VALUE_ALLOCATED_BYTES], (int64_t)total);
    cr_assert_eq(profile->site_totals.of[MODA_VALUE_AT_PEAK_BYTES], (int64_t)profile->totals.peak_bytes);
    cr_assert_eq(profile->site_totals.of[MODA_VALUE_AT_PEAK_COUNT], 19);
    cr_assert_eq(profile->site_totals.of[MODA_VALUE_LIVE_BYTES], (int64_t)profile->totals.current_bytes);
    cr_assert(profile->is_exact);
    cr_assert_eq(profile->processes[0].torn, 0);
    cr_assert_eq(profile->thread_count, 3);
    cr_assert_str_eq(profile->threads[1].name, "worker");
    cr_assert_eq(profile->size_classes[4], 1000); /* up to 16 */
    cr_assert_eq(profile->size_classes[7], 10);   /* up to 128 */
    cr_assert_eq(profile->processes[0].timeline_count, 5);
    cr_assert_eq(profile->processes[0].timeline[4].current_bytes, 5u << 20);

    const moda_values *const small = &site_by_id(profile, 1)->values;
    cr_assert_eq(small->of[MODA_VALUE_ALLOCATED_COUNT], 10);
    cr_assert_eq(small->of[MODA_VALUE_WASTE_BYTES], 120);
    cr_assert_eq(small->of[MODA_VALUE_FREED_COUNT], 6);
    cr_assert_eq(small->of[MODA_VALUE_REMOTE_FREE_COUNT], 6);
    cr_assert_eq(small->of[MODA_VALUE_LIVE_BYTES], 4 * 112);
    cr_assert_eq(small->of[MODA_VALUE_LIFETIME_COUNT], 6);
    cr_assert_eq(small->of[MODA_VALUE_LIFETIME_MIN_NS], 5100000);
    cr_assert_eq(small->of[MODA_VALUE_LIFETIME_NS], 6 * 5100000);
    cr_assert_eq(small->of[MODA_VALUE_TEMPORARY_COUNT], 0);
    const moda_values *const temporary = &site_by_id(profile, 5)->values;
    cr_assert_eq(temporary->of[MODA_VALUE_TEMPORARY_COUNT], 1000);
    cr_assert_eq(temporary->of[MODA_VALUE_OWN_PEAK_BYTES], 16);
    cr_assert_eq(temporary->of[MODA_VALUE_AT_PEAK_BYTES], 0);
    cr_assert_eq(temporary->of[MODA_VALUE_LIVE_BYTES], 0);
    cr_assert_eq(moda_values_standard_error(temporary, MODA_VALUE_ALLOCATED_BYTES), 0.0);
}

Test(read, the_examples_figures_come_out_as_they_went_in) {
    make_region *const region = make_region_example();
    moda_error error = {.text = ""};
    moda_profile *const profile = read_made(region, &error);
    cr_assert_not_null(profile, "%s", error.text);
    check_example(profile);
    moda_profile_free(profile);
    make_region_free(region);
}

/* One thread, 20 sites, random blocks: with few deltas (which are given up all the time), with many (which stay
 * full), and without. */
static moda_profile *churn(uint32_t deltas) {
    make_region *const region = make_region_new(1 << 20);
    moda_shard *const thread = make_region_thread(region, 1, "one", deltas);
    moda_site *sites[20];
    make_block *blocks[100] = {NULL};
    for (uint64_t i = 0; i < 20; i++)
        sites[i] = make_region_site(region, &i, 1, thread);
    uint64_t random = 1;
    for (int i = 0; i < 20000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        make_block **const block = &blocks[(random >> 33) % 100];
        const uint64_t size = (random >> 40) % 1000 + 1;
        if (*block != NULL) {
            make_region_release(region, thread, *block);
            *block = NULL;
        } else {
            *block = make_region_allocate(region, thread, sites[(random >> 50) % 20], size, size, 65536);
        }
        make_region_pass_time(region, random >> 52);
    }
    moda_error error = {.text = ""};
    moda_profile *const profile = read_made(region, &error);
    cr_assert_not_null(profile, "%s", error.text);
    make_region_free(region);
    return profile;
}

Test(read, what_threads_still_hold_is_added_to_the_sites) {
    moda_profile *const plain = churn(0);
    const uint32_t caches[] = {2, 8, 64};
    for (int i = 0; i < 3; i++) {
        moda_profile *const with_deltas = churn(caches[i]);
        cr_assert_eq(with_deltas->site_count, plain->site_count);
        for (size_t k = 0; k < plain->site_count; k++)
            for (int v = 0; v < MODA_VALUE_COUNT; v++)
                cr_assert_eq(with_deltas->sites[k].values.of[v], plain->sites[k].values.of[v],
                             "%u deltas, site %zu, %s: %ld, not %ld", caches[i], k, moda_value_infos[v].key,
                             with_deltas->sites[k].values.of[v], plain->sites[k].values.of[v]);
        moda_profile_free(with_deltas);
    }
    cr_assert_eq(plain->site_totals.of[MODA_VALUE_AT_PEAK_BYTES], (int64_t)plain->totals.peak_bytes);
    moda_profile_free(plain);
}

/* A weight of w: the estimate is w blocks, its standard error sqrt(w (w - 1)) blocks. */
Test(read, a_sampled_site_has_a_standard_error) {
    make_region *const region = make_region_new(1 << 20);
    make_region_header(region)->sample_bytes = 524288;
    moda_shard *const thread = make_region_thread(region, 1, "one", 0);
    const uint64_t frame = 4096;
    moda_site *const site = make_region_site(region, &frame, 1, thread);
    for (int i = 0; i < 4; i++)
        make_region_allocate(region, thread, site, 64, 64, 10 * 65536);
    moda_error error = {.text = ""};
    moda_profile *const profile = read_made(region, &error);
    cr_assert_not_null(profile, "%s", error.text);
    const moda_values *const values = &profile->sites[0].values;
    cr_assert_eq(values->of[MODA_VALUE_ALLOCATED_COUNT], 40);
    cr_assert_eq(values->of[MODA_VALUE_ALLOCATED_BYTES], 2560);
    cr_assert_float_eq(moda_values_standard_error(values, MODA_VALUE_ALLOCATED_COUNT), 18.974, 0.001);
    cr_assert_float_eq(moda_values_standard_error(values, MODA_VALUE_ALLOCATED_BYTES), 64 * 18.974, 0.1);
    cr_assert_not(profile->is_exact);
    moda_profile_free(profile);
    make_region_free(region);
}

/* ---- damaged ones ---- */

static void expect_refusal(make_region *region, size_t size, const char *what) {
    moda_error error = {.text = ""};
    moda_profile *const profile =
        moda_profile_read_memory(make_region_bytes(region), size, "a/file.prof", false, &error);
    cr_assert_null(profile, "expected: %s", what);
    cr_assert(strncmp(error.text, "a/file.prof: ", 13) == 0, "no file in: %s", error.text);
    cr_assert_not_null(strstr(error.text, what), "expected \"%s\" in: %s", what, error.text);
    cr_assert_null(strchr(error.text, '\n'));
}

Test(read, damage_is_named_with_its_place) {
    make_region *region = make_region_example();
    const size_t size = make_region_finish(region);
    moda_region_header *const h = make_region_header(region);
    const moda_region_header whole = *h;

    expect_refusal(region, 0, "not a mod-alloc profile");
    expect_refusal(region, 100, "ends inside the header, expected at least 4096 bytes");
    expect_refusal(region, size - 64, "(truncated?)");
    h->magic[0] = 'X';
    expect_refusal(region, size, "not a mod-alloc profile, expected \"MODALLOC\"");
    memset(h->magic, 0, sizeof h->magic);
    expect_refusal(region, size, "at offset 0: unfinished: process ");
    memset(h, 0, sizeof *h);
    expect_refusal(region, size, "at offset 0: zeros: not a mod-alloc profile, or unfinished");
    *h = whole;
    h->byte_order = __builtin_bswap32(h->byte_order);
    expect_refusal(region, size, "at offset 12: written on a machine of the other byte order");
    *h = whole;
    h->version = MODA_REGION_VERSION + 1;
    char text[80];
    snprintf(text, sizeof text, "at offset 8: profile version %u, expected %u (a newer mod-alloc wrote it)",
             MODA_REGION_VERSION + 1, MODA_REGION_VERSION);
    expect_refusal(region, size, text);
    *h = whole;
    h->shard_size++;
    expect_refusal(region, size, "shard size is ");
    *h = whole;
    h->site_list = UINT32_MAX;
    expect_refusal(region, size, "the ref to a site leads to offset");
    *h = whole;
    h->modules = h->modules + 1; /* not a multiple of 64 */
    expect_refusal(region, size, "the ref to a module leads to offset");
    *h = whole;
    h->used = 10;
    expect_refusal(region, size, "the size in use is 10, expected a size between");
    *h = whole;

    moda_site *const site = make_region_at(region, h->site_list);
    const moda_ref next = site->next_in_list;
    site->next_in_list = h->site_list;
    expect_refusal(region, size, "expected no cycle");
    site->next_in_list = next;
    site->frame_count = 600;
    expect_refusal(region, size, "number of frames is 600, expected at most 512");
    site->frame_count = 2;
    site->walk_end = 99;
    expect_refusal(region, size, "how the walk ended is 99");
    site->walk_end = 0;

    moda_module *const module = make_region_at(region, h->modules);
    module->path_length = 1u << 30;
    expect_refusal(region, size, "path length is 1073741824");
    module->path_length = (uint32_t)strlen(module->path);
    module->build_id_length = 33;
    expect_refusal(region, size, "build id length is 33, expected at most 32");
    module->build_id_length = 20;
    make_region_free(region);
}

/* Every 13th byte changed in three ways, and every length: a profile or a message, never a crash (the same test
 * runs under AddressSanitizer). */
static void try(const uint8_t *bytes, size_t size) {
    moda_error error = {.text = ""};
    moda_profile *const profile = moda_profile_read_memory(bytes, size, "x", false, &error);
    cr_assert((profile == NULL) == (error.text[0] != 0), "%s", error.text);
    moda_profile_free(profile);
}

static void change_bytes_and_cut(uint8_t *bytes, size_t size) {
    for (size_t at = 0; at < size; at += at < 4096 ? 1 : 13) {
        const uint8_t old = bytes[at];
        bytes[at] = (uint8_t)~old;
        try(bytes, size);
        bytes[at] = old ^ 1;
        try(bytes, size);
        bytes[at] = old;
    }
    for (size_t cut = 0; cut < size; cut += 997)
        try(bytes, cut);
}

Test(read, no_changed_byte_and_no_cut_brings_the_reader_down) {
    make_region *const region = make_region_example();
    const size_t size = make_region_finish(region);
    change_bytes_and_cut(make_region_bytes(region), size);
    make_region_free(region);
}

static moda_shard *first_thread(make_region *region) {
    moda_shard_block *const block = make_region_at(region, make_region_header(region)->shard_blocks);
    moda_shard *shard = block->shard;
    while (shard->state != MODA_SLOT_TAKEN)
        shard++;
    return shard;
}

/* alloc_count has reallocations in it; blocks live has not. Once each realloc was a live block more. */
Test(read, a_realloc_is_an_allocation_but_no_live_block) {
    make_region *const region = make_region_example();
    make_region_finish(region);
    moda_error error = {.text = ""};
    moda_profile *const before = read_made(region, &error);
    moda_shard *const shard = first_thread(region);
    shard->alloc_base += 7;
    shard->realloc_count += 7;
    moda_profile *const after = read_made(region, &error);
    cr_assert(before != NULL && after != NULL, "%s", error.text);
    cr_assert_eq(after->totals.alloc_count, before->totals.alloc_count + 7);
    cr_assert_eq(after->totals.live_count, before->totals.live_count);
    moda_profile_free(before);
    moda_profile_free(after);
    make_region_free(region);
}

/* kill -9, where the countdown is being set: some words are stored, the others not. */
Test(read, a_thread_killed_in_the_middle_of_a_change_has_its_sums) {
    make_region *const region = make_region_example();
    make_region_finish(region);
    moda_error error = {.text = ""};
    moda_profile *const before = read_made(region, &error);
    moda_shard *const shard = first_thread(region);
    const uint64_t blocks = moda_alloc_word_blocks(shard->alloc_word);
    shard->before = (moda_counts){
        .alloc_count = shard->alloc_base + blocks,
        .free_count = shard->free_base + moda_free_word_blocks(shard->free_word),
        .total_bytes = (uint64_t)(shard->budget - moda_alloc_word_bytes(shard->alloc_word)),
        .freed_bytes = (uint64_t)(shard->free_budget - moda_free_word_bytes(shard->free_word)),
        .requested_bytes = shard->requested_base + moda_alloc_word_requested(shard->alloc_word),
    };
    shard->before_what = MODA_BEFORE_COUNTDOWN;
    shard->seq |= 1;
    shard->alloc_base += blocks;
    shard->budget -= 16384;
    moda_profile *const after = read_made(region, &error);
    cr_assert(before != NULL && after != NULL, "%s", error.text);
    cr_assert_eq(after->processes[0].torn, 1);
    cr_assert_eq(memcmp(&after->totals, &before->totals, sizeof after->totals), 0);
    moda_profile_free(before);
    moda_profile_free(after);
    make_region_free(region);
}

Test(read, a_record_left_half_written_is_counted_not_refused) {
    make_region *const region = make_region_example();
    make_region_finish(region);
    moda_site *const site = make_region_at(region, make_region_header(region)->site_list);
    site->counts_lock = 1;
    moda_error error = {.text = ""};
    moda_profile *const profile = read_made(region, &error);
    cr_assert_not_null(profile, "%s", error.text);
    cr_assert_eq(profile->processes[0].torn, 1);
    moda_profile_free(profile);
    make_region_free(region);
}

/* ---- files and processes ---- */

Test(read, a_file_reads_as_memory_does) {
    make_region *const region = make_region_example();
    char path[] = "/tmp/moda_read_XXXXXX";
    const int fd = mkstemp(path);
    cr_assert(fd >= 0 && make_region_save(region, path));
    close(fd);
    moda_error error = {.text = ""};
    moda_profile *const profile = moda_profile_read(path, &error);
    cr_assert_not_null(profile, "%s", error.text);
    check_example(profile);
    moda_profile_free(profile);
    cr_assert(truncate(path, 5000) == 0);
    cr_assert_null(moda_profile_read(path, &error));
    cr_assert_not_null(strstr(error.text, "truncated?"), "%s", error.text);
    unlink(path);
    make_region_free(region);
}

/* Before the pread that `cut_at` counts down to, `cut_path` is cut to `cut_size` bytes. */
static const char *cut_path;
static off_t cut_size;
static int cut_at;

ssize_t __real_pread(int fd, void *to, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t size, off_t offset) {
    if (cut_path != NULL && cut_at-- == 0)
        cr_assert(truncate(cut_path, cut_size) == 0);
    return __real_pread(fd, to, size, offset);
}

static void check_cut(make_region *region, const char *path, int at, off_t size) {
    moda_error error = {.text = ""};
    cr_assert(make_region_save(region, path));
    cut_at = at;
    cut_size = size;
    cut_path = path;
    moda_profile *const profile = moda_profile_read_file(path, &error);
    cut_path = NULL;
    cr_assert((profile == NULL) == (error.text[0] != 0), "cut at read %d: %s", at, error.text);
    moda_profile_free(profile);
    if (error.text[0] == 0)
        return;
    char said[64];
    snprintf(said, sizeof said, ": at offset %ld: the file ends, expected ", (long)size);
    cr_assert_not_null(strstr(error.text, said), "cut to %ld bytes at read %d: %s", (long)size, at,
                       error.text);
    cr_assert_null(strchr(error.text, '\n'), "%s", error.text);
}

/* Somebody's `: > file` while it is read. */
Test(read, a_file_cut_while_it_is_read_is_told_in_one_line) {
    char path[] = "/tmp/moda_cut_XXXXXX";
    close(mkstemp(path));
    for (int is_live = 0; is_live < 2; is_live++) {
        make_region *const region = make_region_large(300);
        if (is_live)
            make_region_header(region)->flags &= ~(uint32_t)MODA_REGION_CLEAN_EXIT;
        const off_t size = (off_t)make_region_finish(region);
        for (int at = 0, is_over = 0; !is_over; at += 1 + at / 4) {
            const off_t sizes[] = {0, 1, 100, MODA_REGION_FIRST - 1, MODA_REGION_FIRST, size / 2, size - 1};
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                check_cut(region, path, at, sizes[i]);
            is_over = cut_at >= 0;
        }
        make_region_free(region);
    }
    unlink(path);
}

static long peak_kilobytes(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

Test(read, holes_of_a_file_cost_no_memory) {
    make_region *const region = make_region_example();
    char path[] = "/tmp/moda_holes_XXXXXX";
    const off_t size = (off_t)256 << 20;
    close(mkstemp(path));
    const size_t written = make_region_finish(region);
    make_region_header(region)->used = (uint64_t)size;
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert(write(fd, make_region_bytes(region), written) == (ssize_t)written);
    cr_assert(ftruncate(fd, size) == 0);
    close(fd);
    moda_error error = {.text = ""};
    const long before = peak_kilobytes();
    moda_profile *const profile = moda_profile_read(path, &error);
    const long after = peak_kilobytes();
    unlink(path);
    cr_assert_not_null(profile, "%s", error.text);
    check_example(profile);
    cr_assert_lt(after - before, 64 << 10, "%ld KiB for a file of 256 MiB that is holes", after - before);
    moda_profile_free(profile);
    make_region_free(region);
}

/* Other threads hand out records between the moment when the size was asked for and the reading. */
Test(read, a_live_region_that_grows_meanwhile_is_read) {
    make_region *const region = make_region_example();
    make_region_finish(region);
    moda_error error = {.text = ""};
    moda_profile *const profile =
        moda_profile_read_memory(make_region_bytes(region), SIZE_MAX, "live", true, &error);
    cr_assert_not_null(profile, "%s", error.text);
    check_example(profile);
    moda_profile_free(profile);
    make_region_free(region);
}

Test(read, a_missing_file_and_a_folder_are_named) {
    moda_error error = {.text = ""};
    cr_assert_null(moda_profile_read("/nowhere/x.prof", &error));
    cr_assert_str_eq(error.text, "/nowhere/x.prof: cannot be opened: No such file or directory");
    error.text[0] = 0;
    cr_assert_null(moda_profile_read("/tmp", &error));
    cr_assert_str_eq(error.text, "/tmp: is not a regular file, expected a profile");
}

/* A child that holds a region in anonymous memory (behind other anonymous pages, with which the kernel joins it),
 * and one that holds it in a file. */
static pid_t spawn(const char *file) {
    int ready[2];
    cr_assert(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
        make_region *const region = make_region_example();
        const size_t size = (make_region_finish(region) + 4095) & ~(size_t)4095;
        uint8_t *memory;
        if (file != NULL) {
            make_region_header(region)->flags &= ~(uint32_t)MODA_REGION_CLEAN_EXIT;
            make_region_save(region, file);
            FILE *const opened = fopen(file, "r+e");
            memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(opened), 0);
        } else {
            memory = mmap(NULL, size + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memory += 8192;
            memcpy(memory, make_region_bytes(region), make_region_finish(region));
        }
        moda_region_header *const h = (moda_region_header *)(void *)memory;
        h->region_base = (uint64_t)(uintptr_t)memory;
        h->pid = (uint32_t)getpid();
        const bool is_told = write(ready[1], "x", 1) == 1;
        pause();
        _exit(is_told ? 0 : 1);
    }
    char x;
    cr_assert(read(ready[0], &x, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void check_child(pid_t child) {
    char number[16];
    snprintf(number, sizeof number, "%d", (int)child);
    moda_error error = {.text = ""};
    moda_profile *const profile = moda_profile_read(number, &error);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_assert_not_null(profile, "%s", error.text);
    check_example(profile);
    cr_assert(profile->processes[0].is_live);
    moda_profile_free(profile);
}

Test(read, a_running_processs_anonymous_region_is_found_in_its_memory) {
    check_child(spawn(NULL));
}

Test(read, a_running_processs_file_is_found) {
    char path[] = "/tmp/moda_live_XXXXXX";
    close(mkstemp(path));
    check_child(spawn(path));
    unlink(path);
}

Test(read, a_process_without_a_profile_is_told_so) {
    const pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    moda_error error = {.text = ""};
    moda_profile *const profile = moda_profile_read_process(child, &error);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_assert_null(profile);
    cr_assert_not_null(strstr(error.text, "no profile in its memory"), "%s", error.text);
}

/* ---- merging ---- */

Test(merge, two_profiles_add_up) {
    make_region *const region = make_region_example();
    moda_error error = {.text = ""};
    moda_profile *const one = read_made(region, &error);
    cr_assert_not_null(one, "%s", error.text);
    const moda_profile *const parts[] = {one, one};
    moda_profile *const both = moda_profile_merge(parts, 2, &error);
    cr_assert_not_null(both, "%s", error.text);
    cr_assert_eq(both->process_count, 2);
    cr_assert_eq(both->site_count, 2 * one->site_count);
    cr_assert_eq(both->totals.total_bytes, 2 * one->totals.total_bytes);
    cr_assert_eq(both->sites[one->site_count].process, 1);
    const size_t sites = one->site_count;
    const int64_t bytes = one->site_totals.of[MODA_VALUE_ALLOCATED_BYTES];
    moda_profile_free(one); /* the parts may go at once */
    moda_report *const report = moda_report_build(both, NULL, &error);
    cr_assert_not_null(report, "%s", error.text);
    /* The one at 0x1234, in no module, may be anything in the other process. */
    cr_assert_eq(report->stack_count, sites + 1, "equal stacks of two processes are one");
    cr_assert_eq(report->totals.of[MODA_VALUE_ALLOCATED_BYTES], 2 * bytes);
    moda_report_free(report);
    moda_profile_free(both);
    make_region_free(region);
}

/* The same, as bytes of a merged profile; to be freed. */
static uint8_t *write_two(make_region *region, size_t *size) {
    moda_error error = {.text = ""};
    moda_profile *const one = read_made(region, &error);
    const moda_profile *const parts[] = {one, one};
    moda_profile *const both = moda_profile_merge(parts, 2, &error);
    moda_out out;
    moda_out_to_buffer(&out);
    cr_assert(moda_profile_write(both, &out, &error), "%s", error.text);
    uint8_t *const bytes = aligned_alloc(64, out.length);
    memcpy(bytes, out.buffer, out.length);
    *size = out.length;
    free(out.buffer);
    moda_profile_free(both);
    moda_profile_free(one);
    return bytes;
}

Test(merge, a_merged_profile_reads_as_its_parts_do) {
    make_region *const region = make_region_example();
    size_t size;
    uint8_t *const bytes = write_two(region, &size);
    moda_error error = {.text = ""};
    moda_profile *const one = read_made(region, &error);
    moda_profile *const both = moda_profile_read_memory(bytes, size, "both", false, &error);
    cr_assert(one != NULL && both != NULL, "%s", error.text);
    cr_assert_eq(both->process_count, 2);
    /* joined, but for the stack with an address in no module */
    cr_assert_eq(both->site_count, one->site_count + 1);
    cr_assert_eq(both->totals.total_bytes, 2 * one->totals.total_bytes);
    cr_assert_eq(both->totals.live_count, 2 * one->totals.live_count);
    cr_assert_eq(both->totals.peak_bytes, 2 * one->totals.peak_bytes);
    for (int i = 0; i < MODA_VALUE_COUNT; i++) {
        const int64_t each = one->site_totals.of[i];
        const bool is_sum = moda_value_infos[i].rule == MODA_RULE_SUM;
        cr_assert_eq(both->site_totals.of[i], is_sum ? 2 * each : each, "%s", moda_value_infos[i].key);
    }
    cr_assert_str_eq(both->processes[1].source, one->processes[0].source);
    cr_assert_eq(both->thread_count, 2 * one->thread_count);
    cr_assert_eq(both->processes[1].module_count, 0, "the first process has each object already");
    moda_profile_free(one);
    moda_profile_free(both);
    free(bytes);
    make_region_free(region);
}

/* A sum of lifetimes stays at the most that a word holds, and so may any other figure of a long life. */
static moda_profile *read_full(make_region *region, moda_error *error) {
    moda_shard *const thread = make_region_thread(region, 1, "one", 0);
    for (uint64_t frame = 4096; frame <= 8192; frame += 4096) {
        moda_site *const site = make_region_site(region, &frame, 1, thread);
        make_region_release(region, thread, make_region_allocate(region, thread, site, 64, 64, 65536));
        moda_site_counts *const c = &site->counts;
        c->alloc_bytes = c->free_bytes = c->lifetime_sum = UINT64_MAX;
        c->alloc_count = c->free_count = c->lifetime_count = c->short_lived_count = UINT64_MAX;
        c->at_peak_count = INT64_MAX;
        c->at_peak_epoch = make_region_header(region)->peak_epoch;
    }
    make_region_pass_time(region, 1000000);
    const size_t size = make_region_finish(region);
    thread->budget = thread->free_budget = INT64_MAX;
    thread->size_samples[4] = UINT64_MAX;
    return moda_profile_read_memory(make_region_bytes(region), size, "full", false, error);
}

static void check_full(const moda_profile *profile, int64_t parts) {
    const int64_t most = INT64_C(1) << 48; /* blocks of one site */
    const int64_t *const of = profile->site_totals.of;
    cr_expect_eq(of[MODA_VALUE_ALLOCATED_BYTES], INT64_MAX);
    cr_expect_eq(of[MODA_VALUE_LIFETIME_NS], INT64_MAX);
    cr_expect_geq(of[MODA_VALUE_ALLOCATED_COUNT], 2 * most);
    cr_expect_geq(of[MODA_VALUE_LIFETIME_COUNT], 2 * most);
    cr_expect_geq(of[MODA_VALUE_TEMPORARY_COUNT], 2 * most);
    cr_expect_geq(of[MODA_VALUE_AT_PEAK_COUNT], most);
    cr_expect_geq(profile->size_classes[4], most);
    cr_expect_geq(profile->totals.total_bytes, parts < 3 ? (uint64_t)INT64_MAX - (1 << 21) : UINT64_MAX);
}

Test(merge, figures_stay_at_the_most_that_a_word_holds) {
    make_region *const region = make_region_new(1 << 20);
    moda_error error = {.text = ""};
    moda_profile *const one = read_full(region, &error);
    cr_assert_not_null(one, "%s", error.text);
    check_full(one, 1);
    const moda_profile *const parts[] = {one, one, one};
    moda_profile *const three = moda_profile_merge(parts, 3, &error);
    cr_assert_not_null(three, "%s", error.text);
    check_full(three, 3);
    moda_out out;
    moda_out_to_buffer(&out);
    cr_assert(moda_profile_write(three, &out, &error), "%s", error.text);
    uint8_t *const bytes = aligned_alloc(64, (out.length + 63) / 64 * 64);
    memcpy(bytes, out.buffer, out.length);
    moda_profile *const again = moda_profile_read_memory(bytes, out.length, "three", false, &error);
    cr_assert_not_null(again, "%s", error.text);
    check_full(again, 3);

    moda_report *const report = moda_report_build(again, NULL, &error);
    cr_assert_not_null(report, "%s", error.text);
    size_t count;
    const moda_writer *const *const writers = moda_writers(&count);
    for (size_t i = 0; i < count; i++) {
        moda_write_options options;
        moda_write_options_default(&options);
        out.length = 0;
        cr_expect_eq(writers[i]->write(report, &options, &out, &error), 0, "%s", error.text);
        if (strcmp(writers[i]->name, "speedscope") == 0)
            cr_expect_not_null(strstr(out.buffer, "\"endValue\":9007199254740991"), "of the sums: %s",
                               out.buffer);
    }
    free(out.buffer);
    moda_report_free(report);
    moda_profile_free(again);
    free(bytes);
    moda_profile_free(three);
    moda_profile_free(one);
    make_region_free(region);
}

Test(merge, no_changed_byte_and_no_cut_of_a_merged_profile_brings_the_reader_down) {
    make_region *const region = make_region_example();
    size_t size;
    uint8_t *const bytes = write_two(region, &size);
    change_bytes_and_cut(bytes, size);
    moda_region_header *const header = (moda_region_header *)(void *)bytes;
    moda_error error = {.text = ""};
    header->next_process = 1;
    cr_assert_null(moda_profile_read_memory(bytes, size, "x", false, &error));
    cr_assert_not_null(strstr(error.text, "the ref to a next process leads to offset 16"), "%s", error.text);
    free(bytes);
    make_region_free(region);
}

/* A child with its parent's figures doubled: what it has inherited is in no sum twice. */
Test(merge, a_forked_child_counts_what_it_has_beyond_its_parents) {
    make_region *const region = make_region_example();
    make_region_finish(region);
    moda_error error = {.text = ""};
    moda_profile *const parent = read_made(region, &error);
    moda_region_header *const h = make_region_header(region);
    h->flags |= MODA_REGION_FORKED;
    h->parent_pid = h->pid;
    h->pid++;
    h->start_realtime_ns++;
    h->inherited_bytes = (int64_t)parent->totals.current_bytes - 1000;
    h->inherited_count = 1;
    moda_profile *const child = read_made(region, &error);
    cr_assert(parent != NULL && child != NULL, "%s", error.text);
    const moda_profile *const parts[] = {child, parent};
    moda_profile *const both = moda_profile_merge(parts, 2, &error);
    cr_assert(both->processes[0].is_growth);
    cr_assert_not(both->processes[1].is_growth);
    cr_assert_eq(both->totals.current_bytes, parent->totals.current_bytes + 1000);
    cr_assert_eq(both->totals.live_count, 2 * parent->totals.live_count - 1);
    cr_assert_eq(both->totals.total_bytes, 2 * parent->totals.total_bytes);
    moda_profile *const alone = moda_profile_merge(&parts[0], 1, &error);
    cr_assert_eq(alone->totals.current_bytes, child->totals.current_bytes, "its parent is not there");
    moda_profile_free(alone);
    moda_profile_free(both);
    moda_profile_free(child);
    moda_profile_free(parent);
    make_region_free(region);
}
