/* SPDX-License-Identifier: MIT
 *
 * report_test.c - build.c, rollup.c, filter.c, diff.c, write_text.c and the public face, on the example profile
 * of make_region.c, whose functions say what they allocate.
 */
#include "make_region.h"

#include "base/sink.h"
#include "mod_alloc_report.h"
#include "report/report.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static moda_profile *profile;

static void read_example(void) {
    make_region *const region = make_region_example();
    moda_error error = {.text = ""};
    const size_t size = make_region_finish(region);
    profile = moda_profile_read_memory(make_region_bytes(region), size, "example", false, &error);
    cr_assert_not_null(profile, "%s", error.text);
    make_region_free(region);
}

static void free_example(void) {
    moda_profile_free(profile);
}

TestSuite(report, .init = read_example, .fini = free_example);

static moda_report *build(const moda_report_options *options) {
    moda_error error = {.text = ""};
    moda_report *const report = moda_report_build(profile, options, &error);
    cr_assert_not_null(report, "%s", error.text);
    return report;
}

static const moda_row *row_named(const moda_table *table, const char *name) {
    for (size_t i = 0; i < table->row_count; i++)
        if (strcmp(table->rows[i].name, name) == 0)
            return &table->rows[i];
    return NULL;
}

static int64_t function_bytes(const moda_report *report, const char *name, bool is_total) {
    moda_error error = {.text = ""};
    moda_table *const table =
        moda_table_build(report, MODA_BY_FUNCTION, MODA_VALUE_ALLOCATED_BYTES, false, &error);
    cr_assert_not_null(table, "%s", error.text);
    const moda_row *const row = row_named(table, name);
    const int64_t bytes =
        row == NULL ? -1 : (is_total ? &row->total : &row->self)->of[MODA_VALUE_ALLOCATED_BYTES];
    moda_table_free(table);
    return bytes;
}

Test(report, functions_have_what_their_names_say) {
    moda_report *const report = build(NULL);
    cr_assert_eq(function_bytes(report, "ten_blocks_of_100", false), 10 * 112 + 16000);
    cr_assert_eq(function_bytes(report, "inlined_inner", false), 5 * 4096);
    cr_assert_eq(function_bytes(report, "inlined_outer", false), 0);
    cr_assert_eq(function_bytes(report, "inlined_outer", true), 5 * 4096);
    cr_assert_eq(function_bytes(report, "five_blocks_of_4096_inlined", true), 5 * 4096);
    cr_assert_eq(function_bytes(report, "compare_and_allocate", false), 1 << 20);
    cr_assert_eq(function_bytes(report, "one_block_of_a_mebibyte_in_qsort", true), 1 << 20);
    moda_report_free(report);
}

Test(report, a_recursive_function_is_counted_once_in_its_total) {
    moda_report *const report = build(NULL);
    cr_assert_eq(function_bytes(report, "recursive", true), 3 * 64);
    moda_report_free(report);
}

Test(report, inlined_calls_are_frames_of_their_own_with_depths) {
    moda_report *const report = build(NULL);
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        const moda_frame *const first = &report->frames[stack->frames[0]];
        if (strcmp(first->function, "inlined_inner") != 0)
            continue;
        const moda_frame *const second = &report->frames[stack->frames[1]];
        const moda_frame *const third = &report->frames[stack->frames[2]];
        cr_assert_eq(first->inline_depth, 2);
        cr_assert_str_eq(second->function, "inlined_outer");
        cr_assert_eq(second->inline_depth, 1);
        cr_assert_str_eq(third->function, "five_blocks_of_4096_inlined");
        cr_assert_eq(third->inline_depth, 0);
        cr_assert_eq(first->location, third->location);
        cr_assert_not_null(strstr(first->file, "make_region.c"));
        cr_assert_gt(first->line, 0);
        moda_report_free(report);
        return;
    }
    cr_assert_fail("no stack begins in inlined_inner");
}

Test(report, an_address_outside_of_all_modules_is_shown_as_it_is) {
    moda_report *const report = build(NULL);
    cr_assert_eq(function_bytes(report, "0x1234", false), 32);
    moda_report_free(report);
}

Test(report, self_values_of_all_rows_add_up_however_they_are_grouped) {
    moda_report *const report = build(NULL);
    for (int by = MODA_BY_SITE; by <= MODA_BY_MODULE; by++) {
        moda_error error = {.text = ""};
        moda_table *const table =
            moda_table_build(report, (moda_by)by, MODA_VALUE_AT_PEAK_BYTES, false, &error);
        cr_assert_not_null(table, "%s", error.text);
        moda_values sum;
        moda_values_clear(&sum);
        for (size_t i = 0; i < table->row_count; i++)
            moda_values_add(&sum, &table->rows[i].self);
        for (int v = 0; v < MODA_VALUE_COUNT; v++)
            cr_assert_eq(sum.of[v], report->totals.of[v], "by %s: %s", moda_by_name((moda_by)by),
                         moda_value_infos[v].key);
        for (size_t i = 1; i < table->row_count; i++)
            cr_assert_leq(table->rows[i].self.of[MODA_VALUE_AT_PEAK_BYTES],
                          table->rows[i - 1].self.of[MODA_VALUE_AT_PEAK_BYTES]);
        moda_table_free(table);
    }
    moda_report_free(report);
}

Test(report, rows_by_thread_are_the_threads_own_counters) {
    moda_report *const report = build(NULL);
    moda_error error = {.text = ""};
    moda_table *const table =
        moda_table_build(report, MODA_BY_THREAD, MODA_VALUE_ALLOCATED_BYTES, false, &error);
    const moda_row *const worker = row_named(table, "worker (1001)");
    cr_assert_not_null(worker);
    cr_assert_eq(worker->self.of[MODA_VALUE_ALLOCATED_BYTES], 3 * 64 + 32);
    cr_assert_eq(worker->self.of[MODA_VALUE_FREED_COUNT], 6);
    cr_assert_eq(worker->self.of[MODA_VALUE_LIVE_BYTES], 3 * 64 + 32 - 6 * 112);
    cr_assert(table->known >> MODA_VALUE_LIVE_BYTES & 1);
    cr_assert_not(table->known >> MODA_VALUE_AT_PEAK_BYTES & 1);
    cr_assert_eq(table->sum.of[MODA_VALUE_ALLOCATED_COUNT], 1020);
    moda_table_free(table);
    moda_report_free(report);
}

Test(report, trees_hold_every_stack_both_ways) {
    moda_report *const report = build(NULL);
    const moda_value values[] = {MODA_VALUE_ALLOCATED_BYTES, MODA_VALUE_ALLOCATED_COUNT};
    for (int is_bottom_up = 0; is_bottom_up < 2; is_bottom_up++) {
        moda_error error = {.text = ""};
        moda_tree *const tree = moda_tree_build(report, is_bottom_up, false, values, 2, &error);
        cr_assert_not_null(tree, "%s", error.text);
        cr_assert_eq(tree->total[0], report->totals.of[MODA_VALUE_ALLOCATED_BYTES]);
        cr_assert_eq(tree->total[1], 1020);
        for (uint32_t i = 0; i < tree->node_count; i++) {
            int64_t sum = tree->self[2 * i], last = INT64_MAX;
            for (uint32_t child = tree->nodes[i].first_child; child != 0;
                 child = tree->nodes[child].next_sibling) {
                cr_assert_eq(tree->nodes[child].parent, i);
                cr_assert_leq(tree->total[2 * child], last);
                last = tree->total[2 * child];
                sum += last;
            }
            cr_assert_eq(sum, tree->total[2 * i], "node %u", i);
        }
        moda_tree_free(tree);
    }
    moda_report_free(report);
}

/* ---- filters ---- */

Test(report, keep_drop_and_hide_take_what_matches) {
    const char *const keep[] = {"recursive", "^inlined_outer$"}, *const drop[] = {"inlined_inner"};
    const char *const hide[] = {"^recursive$", "libc\\.so"};
    moda_report *const kept = build(&(moda_report_options){.keep = keep, .keep_count = 2});
    cr_assert_eq(kept->totals.of[MODA_VALUE_ALLOCATED_BYTES], 3 * 64 + 5 * 4096);
    cr_assert_eq(kept->totals.of[MODA_VALUE_ALLOCATED_BYTES] + kept->dropped.of[MODA_VALUE_ALLOCATED_BYTES],
                 profile->site_totals.of[MODA_VALUE_ALLOCATED_BYTES]);
    cr_assert(kept->is_filtered);
    moda_report_free(kept);
    moda_report *const left =
        build(&(moda_report_options){.keep = keep, .keep_count = 2, .drop = drop, .drop_count = 1});
    cr_assert_eq(left->totals.of[MODA_VALUE_ALLOCATED_BYTES], 3 * 64);
    moda_report_free(left);
    moda_report *const hidden = build(&(moda_report_options){.hide = hide, .hide_count = 2});
    cr_assert_eq(hidden->totals.of[MODA_VALUE_ALLOCATED_BYTES],
                 profile->site_totals.of[MODA_VALUE_ALLOCATED_BYTES]);
    cr_assert_eq(function_bytes(hidden, "recursive", true), -1);
    for (size_t i = 0; i < hidden->stack_count; i++)
        for (uint32_t k = 0; k < hidden->stacks[i].frame_count; k++) {
            const moda_frame *const frame = &hidden->frames[hidden->stacks[i].frames[k]];
            if (frame->module != UINT32_MAX)
                cr_assert_null(strstr(hidden->modules[frame->module].path, "libc.so"));
        }
    moda_report_free(hidden);
}

Test(report, stacks_that_look_the_same_after_hiding_are_one) {
    const char *const hide[] = {"."};
    moda_report *const report = build(&(moda_report_options){.hide = hide, .hide_count = 1});
    cr_assert_eq(report->stack_count, 1);
    cr_assert_eq(report->stacks[0].frame_count, 0);
    cr_assert_eq(report->stacks[0].values.of[MODA_VALUE_ALLOCATED_COUNT], 1020);
    moda_report_free(report);
}

Test(report, a_bad_expression_is_quoted) {
    const char *const keep[] = {"a(b"};
    moda_error error = {.text = ""};
    cr_assert_null(moda_report_build(profile, &(moda_report_options){.keep = keep, .keep_count = 1}, &error));
    cr_assert(strncmp(error.text, "filter 'a(b': ", 14) == 0, "%s", error.text);
}

/* ---- differences ---- */

static const moda_diff_row *change_of(const moda_diff *diff, const char *name) {
    for (size_t i = 0; i < diff->row_count; i++)
        if (strcmp(diff->rows[i].name, name) == 0)
            return &diff->rows[i];
    return NULL;
}

Test(report, a_difference_knows_new_gone_grown_and_shrunk) {
    const char *const without_big[] = {"compare_and_allocate"}, *const without_pages[] = {"inlined_inner"};
    moda_report *const before = build(&(moda_report_options){.drop = without_big, .drop_count = 1});
    moda_report *const after = build(&(moda_report_options){.drop = without_pages, .drop_count = 1});
    moda_error error = {.text = ""};
    const moda_by ways[] = {MODA_BY_SITE, MODA_BY_FUNCTION};
    for (int i = 0; i < 2; i++) {
        moda_diff *const diff =
            moda_diff_build(before, after, ways[i], MODA_VALUE_ALLOCATED_BYTES, false, &error);
        cr_assert_not_null(diff, "%s", error.text);
        cr_assert_eq(change_of(diff, "compare_and_allocate")->change, MODA_NEW);
        cr_assert_eq(change_of(diff, "compare_and_allocate")->delta, 1 << 20);
        cr_assert_eq(change_of(diff, "inlined_inner")->change, MODA_GONE);
        cr_assert_eq(change_of(diff, "inlined_inner")->delta, -5 * 4096);
        cr_assert_eq(change_of(diff, "recursive")->change, MODA_SAME);
        cr_assert_eq(diff->rows[0].delta, 1 << 20, "largest change first");
        moda_diff_free(diff);
    }
    moda_report_free(before);
    moda_report_free(after);
}

/* ---- text ---- */

static char *as_text(const moda_report *report, const moda_write_options *options) {
    moda_out out;
    moda_error error = {.text = ""};
    moda_out_to_buffer(&out);
    cr_assert_eq(moda_writer_text.write(report, options, &out, &error), 0, "%s", error.text);
    return out.buffer;
}

Test(report, text_fits_the_terminal) {
    moda_report *const report = build(NULL);
    for (int by = 0; by < MODA_BY_COUNT; by++) {
        moda_write_options options;
        moda_write_options_default(&options);
        options.width = 80;
        options.by = (moda_by)by;
        if (by == MODA_BY_THREAD)
            options.value = MODA_VALUE_ALLOCATED_BYTES;
        char *const text = as_text(report, &options);
        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
            cr_expect_leq(strlen(line), 80, "by %s: %s", moda_by_name((moda_by)by), line);
        free(text);
    }
    moda_report_free(report);
}

Test(report, text_shows_the_exact_totals_and_the_largest_site_first) {
    moda_report *const report = build(NULL);
    moda_write_options options;
    moda_write_options_default(&options);
    char *const text = as_text(report, &options);
    cr_assert_not_null(strstr(text, "allocations             1,020    allocated          1.04 MiB"), "%s",
                       text);
    cr_assert_not_null(strstr(text, "1.00 MiB  98.0%  98.0%  1 block"), "%s", text);
    cr_assert_lt(strstr(text, "compare_and_allocate"), strstr(text, "inlined_inner"));
    cr_assert_not_null(strstr(text, "every allocation was recorded (1,020): figures by site are exact"));
    cr_assert_not_null(strstr(text, "resident (RSS)"));
    cr_assert_not_null(strstr(text, "up to       16 B           1,000  98.0%"));
    free(text);
    moda_report_free(report);
}

static char *html_of(moda_report *report) {
    moda_write_options options;
    moda_write_options_default(&options);
    moda_out out;
    moda_out_to_buffer(&out);
    moda_error error = {.text = ""};
    cr_assert_eq(moda_writer_find("html")->write(report, &options, &out, &error), 0, "%s", error.text);
    return out.buffer;
}

/* The example's first point is a millisecond after its start. */
Test(report, the_pages_timeline_begins_at_0) {
    moda_report *const report = build(NULL);
    cr_assert_gt(profile->processes[0].timeline[0].time_ns, 0);
    char *page = html_of(report);
    cr_assert_not_null(strstr(page, "\"timeline\":[0,0,0,0,"), "%s", page);
    free(page);
    moda_report_free(report);
}

Test(report, the_pages_timeline_has_a_peak_between_its_points) {
    moda_report *const report = build(NULL);
    moda_profile_process *process = (moda_profile_process *)&profile->processes[0];
    process->peak_ns = process->timeline[0].time_ns - 1;
    process->totals.peak_bytes = 123456789;
    process->totals.peak_live_count = 77;
    char *page = html_of(report), expected[100];
    snprintf(expected, sizeof expected, "\"timeline\":[0,0,0,0,%llu,123456789,77,0,%llu,",
             (unsigned long long)process->peak_ns, (unsigned long long)process->timeline[0].time_ns);
    cr_assert_not_null(strstr(page, expected), "%s in %s", expected, page);
    free(page);
    moda_report_free(report);
}

/* ---- the public face ---- */

typedef struct visits {
    int count, stop_after;
    uint64_t bytes;
} visits;

static int count_visit(const mod_alloc_symbolicated_site *site, void *context) {
    visits *const v = context;
    v->count++;
    v->bytes += site->site.alloc_bytes;
    cr_assert(site->frame_count == 0 || site->frames[0].function != NULL);
    return v->count == v->stop_after;
}

Test(report, the_public_face_opens_visits_and_writes) {
    make_region *const region = make_region_example();
    char path[] = "/tmp/moda_public_XXXXXX", output[] = "/tmp/moda_written_XXXXXX";
    close(mkstemp(path));
    close(mkstemp(output));
    cr_assert(make_region_save(region, path));
    mod_alloc_report_error error = {.text = ""};
    mod_alloc_profile *const opened = mod_alloc_profile_open(path, &error);
    cr_assert_not_null(opened, "%s", error.text);
    mod_alloc_stats stats;
    mod_alloc_profile_stats(opened, &stats);
    cr_assert_eq(stats.alloc_count, 1020);
    visits v = {.count = 0};
    cr_assert_eq(mod_alloc_profile_visit(opened, NULL, count_visit, &v, &error), 6, "%s", error.text);
    cr_assert_eq(v.bytes, stats.total_bytes);
    visits few = {.stop_after = 2};
    cr_assert_eq(mod_alloc_profile_visit(opened, NULL, count_visit, &few, &error), 2);
    for (size_t i = 0; mod_alloc_report_format(i, NULL) != NULL; i++)
        cr_assert_eq(mod_alloc_profile_write(opened, mod_alloc_report_format(i, NULL), NULL, output, &error),
                     0, "%s: %s", mod_alloc_report_format(i, NULL), error.text);
    const mod_alloc_report_options bad = {.size = sizeof bad, .by = "color"};
    cr_assert_eq(mod_alloc_profile_write(opened, "text", &bad, output, &error), -1);
    cr_assert_not_null(strstr(error.text, "'color' is no kind of row"), "%s", error.text);
    cr_assert_eq(mod_alloc_profile_write(opened, "papyrus", NULL, output, &error), -1);
    mod_alloc_profile_close(opened);
    unlink(path);
    unlink(output);
    make_region_free(region);
}

Test(report, without_the_allocator_the_calls_on_this_process_say_so) {
    mod_alloc_report_error error = {.text = ""};
    cr_assert_eq(mod_alloc_report_write("text", "/dev/null", &error), -1);
    cr_assert_not_null(strstr(error.text, "expected it to run on mod-alloc"), "%s", error.text);
    cr_assert_null(mod_alloc_dhat_json_string());
}

/* ---- names in few columns ---- */

static void expect_short(const char *name, size_t room, const char *expected) {
    char buffer[MODA_SHORT_NAME_SIZE];
    const char *const made = moda_short_name(name, room, buffer, sizeof buffer);
    cr_assert_str_eq(made, expected, "in %zu columns: '%s'", room, made);
    cr_assert(moda_columns(made) <= room || room < 8, "'%s' is wider than %zu columns", made, room);
}

static void expect_one_size(uint64_t bytes) {
    char inside[32], outside[MODA_HUMAN_SIZE];
    moda_sink sink;
    moda_sink_to_buffer(&sink, inside, sizeof inside);
    moda_sink_size(&sink, bytes);
    cr_assert_str_eq(moda_sink_string(&sink), moda_human_bytes(outside, (int64_t)bytes));
}

Test(sizes, the_allocators_table_shows_those_of_the_command_line) {
    uint64_t random = 1;
    for (uint64_t bytes = 0; bytes < 200000; bytes++) {
        expect_one_size(bytes);
    }
    for (int i = 0; i < 200000; i++) { /* up to what a double holds exactly */
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        expect_one_size(random >> (11 + random % 40));
    }
    for (unsigned unit = 10; unit <= 50; unit += 10) {
        for (uint64_t k = 1; k < 1024 << 3; k++) { /* eighths: halves of the last digit among them */
            expect_one_size(k << (unit - 3));
        }
    }
}

Test(names, what_is_needed_least_is_left_out_first) {
    static const char insert[] =
        "std::vector<int, std::allocator<int> >::_M_realloc_insert<int const&>(int*, int const&)";
    expect_short(insert, 100, insert);
    expect_short(insert, 80, "std::vector<int, std::allocator<int> >::_M_realloc_insert<int const&>(...)");
    expect_short(insert, 60, "std::vector<...>::_M_realloc_insert<...>(...)");
    expect_short(insert, 30, "std::vecto..._insert<...>(...)");
    expect_short("main", 4, "main");
    expect_short("a_c_function_with_a_long_name", 20, "a_c_fu...a_long_name");
}

Test(names, operators_and_lambdas_open_no_group) {
    expect_short("std::ostream& operator<< <char>(std::ostream&, char const*)", 45,
                 "std::ostream& operator<< <char>(...)");
    expect_short("bool ns::operator< <Key, Value>(ns::pair<Key, Value> const&, Key)", 34,
                 "bool ns::operator< <...>(...)");
    expect_short("(anonymous namespace)::run(std::string const&, std::string const&)", 40,
                 "(anonymous namespace)::run(...)");
    expect_short("go()::{lambda(std::string const&)#1}::operator()(std::string const&) const", 60,
                 "go()::{lambda(std::string const&)#1}::operator()(...) const");
    expect_short("node* list<node, std::less<node> >::operator->() const", 40,
                 "node* list<...>::operator->() const");
    expect_short("<alloc::vec::Vec<T,A> as core::ops::drop::Drop>::drop", 20, "<...>::drop");
}

Test(names, what_does_not_close_is_left_alone) {
    expect_short("std::vector<int, std::allocator<int", 20, "std::v...locator<int");
    expect_short("f(((((((((((((((((((((((((((((((", 20, "f(((((...(((((((((((");
    expect_short("a->b->c->d->e->f->g->h", 12, "a->...->g->h");
    expect_short("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", 8,
                 "\xc3\xa4\xc3\xa4...\xc3\xa4\xc3\xa4\xc3\xa4");
}
