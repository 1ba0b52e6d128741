/* SPDX-License-Identifier: MIT
 *
 * test_writers.c - what each writer writes of a report made by hand: parsed, and compared with tests/golden.
 *
 * Golden files are read by people: of pprof a listing of the messages, of html the data alone. When a change is
 * meant, MODA_GOLDEN_UPDATE=1 writes them anew; look at the difference before it is committed.
 */
#include "sample_report.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "profile.pb-c.h"

typedef struct bytes {
    char *data; /* NUL behind the end */
    size_t length;
} bytes;

static moda_write_options defaults(void) {
    moda_write_options options;
    moda_write_options_default(&options);
    options.width = 100;
    return options;
}

static bytes written_with(const moda_report *report, const char *writer, const moda_write_options *options) {
    moda_out out;
    moda_error error = {""};
    moda_out_to_buffer(&out);
    cr_assert_not_null(moda_writer_find(writer), "no writer %s", writer);
    cr_assert_eq(moda_writer_find(writer)->write(report, options, &out, &error), 0, "%s: %s", writer,
                 error.text);
    cr_assert(moda_out_close(&out, &error), "%s", error.text);
    return (bytes){out.buffer != NULL ? out.buffer : calloc(1, 1), out.length};
}

static bytes written(const moda_report *report, const char *writer) {
    const moda_write_options options = defaults();
    return written_with(report, writer, &options);
}

static bytes inflated(bytes gzip) {
    bytes plain = {calloc(1, 1 << 20), 0};
    z_stream stream = {.next_in = (Bytef *)gzip.data,
                       .avail_in = (unsigned)gzip.length,
                       .next_out = (Bytef *)plain.data,
                       .avail_out = (1 << 20) - 1};
    cr_assert_eq(inflateInit2(&stream, 15 + 16), Z_OK);
    cr_assert_eq(inflate(&stream, Z_FINISH), Z_STREAM_END, "not one whole gzip member");
    cr_assert_eq(stream.avail_in, 0, "bytes behind the gzip member");
    plain.length = stream.total_out;
    inflateEnd(&stream);
    return plain;
}

static Moda__Pprof__Profile *unpacked(bytes gzip) {
    bytes plain = inflated(gzip);
    Moda__Pprof__Profile *const profile =
        moda__pprof__profile__unpack(NULL, plain.length, (const uint8_t *)plain.data);
    free(plain.data);
    cr_assert_not_null(profile, "not a profile.proto message");
    return profile;
}

static json_object *parsed(bytes text) {
    json_tokener *const tokener = json_tokener_new();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json_object *const object = json_tokener_parse_ex(tokener, text.data, (int)text.length);
    cr_assert_not_null(object, "not JSON: %s at %zu",
                       json_tokener_error_desc(json_tokener_get_error(tokener)),
                       json_tokener_get_parse_end(tokener));
    json_tokener_free(tokener);
    return object;
}

static int64_t sum_of(json_object *array, const char *key) {
    int64_t sum = 0;
    for (size_t i = 0; i < json_object_array_length(array); i++)
        sum += json_object_get_int64(json_object_object_get(json_object_array_get_idx(array, i), key));
    return sum;
}

/* ---- golden files ---- */

static void list_types(moda_out *out, const Moda__Pprof__Profile *p) {
    for (size_t i = 0; i < p->n_sample_type; i++)
        moda_out_format(out, "sample_type %s/%s\n", p->string_table[p->sample_type[i]->type],
                        p->string_table[p->sample_type[i]->unit]);
    moda_out_format(out, "default_sample_type %s\nperiod %lld %s/%s\n",
                    p->string_table[p->default_sample_type], (long long)p->period,
                    p->string_table[p->period_type->type], p->string_table[p->period_type->unit]);
    moda_out_format(out, "time %lld duration %lld\ndrop_frames %s\n", (long long)p->time_nanos,
                    (long long)p->duration_nanos, p->string_table[p->drop_frames]);
    for (size_t i = 0; i < p->n_comment; i++)
        moda_out_format(out, "comment %s\n", p->string_table[p->comment[i]]);
}

static void list_tables(moda_out *out, const Moda__Pprof__Profile *p) {
    for (size_t i = 0; i < p->n_mapping; i++) {
        const Moda__Pprof__Mapping *const m = p->mapping[i];
        moda_out_format(out, "mapping %llu 0x%llx-0x%llx +0x%llx %s build_id '%s' flags %d%d%d%d\n",
                        (unsigned long long)m->id, (unsigned long long)m->memory_start,
                        (unsigned long long)m->memory_limit, (unsigned long long)m->file_offset,
                        p->string_table[m->filename], p->string_table[m->build_id], m->has_functions,
                        m->has_filenames, m->has_line_numbers, m->has_inline_frames);
    }
    for (size_t i = 0; i < p->n_function; i++) {
        const Moda__Pprof__Function *const f = p->function[i];
        moda_out_format(out, "function %llu %s | %s | %s:%lld\n", (unsigned long long)f->id,
                        p->string_table[f->name], p->string_table[f->system_name],
                        p->string_table[f->filename], (long long)f->start_line);
    }
    for (size_t i = 0; i < p->n_location; i++) {
        const Moda__Pprof__Location *const l = p->location[i];
        moda_out_format(out, "location %llu mapping %llu 0x%llx:", (unsigned long long)l->id,
                        (unsigned long long)l->mapping_id, (unsigned long long)l->address);
        for (size_t k = 0; k < l->n_line; k++)
            moda_out_format(out, " %llu:%lld", (unsigned long long)l->line[k]->function_id,
                            (long long)l->line[k]->line);
        moda_out_char(out, '\n');
    }
}

static bytes listing(bytes gzip) {
    Moda__Pprof__Profile *const p = unpacked(gzip);
    moda_out out;
    moda_out_to_buffer(&out);
    list_types(&out, p);
    list_tables(&out, p);
    for (size_t i = 0; i < p->n_sample; i++) {
        const Moda__Pprof__Sample *const s = p->sample[i];
        moda_out_text(&out, "sample");
        for (size_t k = 0; k < s->n_location_id; k++)
            moda_out_format(&out, " %llu", (unsigned long long)s->location_id[k]);
        moda_out_text(&out, " =");
        for (size_t k = 0; k < s->n_value; k++)
            moda_out_format(&out, " %lld", (long long)s->value[k]);
        for (size_t k = 0; k < s->n_label; k++)
            moda_out_format(&out, " %s:%lld", p->string_table[s->label[k]->key], (long long)s->label[k]->num);
        moda_out_char(&out, '\n');
    }
    moda__pprof__profile__free_unpacked(p, NULL);
    return (bytes){out.buffer, out.length};
}

static bytes page_data(bytes page) {
    static const char open[] = "<script id=\"profile\" type=\"application/json\">";
    char *const from = strstr(page.data, open);
    cr_assert_not_null(from, "the page has no place for its data");
    char *const to = strstr(from, "</script>");
    cr_assert_not_null(to);
    *to = 0;
    return (bytes){from + sizeof open - 1, (size_t)(to - from) - sizeof open + 1};
}

static const struct golden {
    const char *writer, *file;
    bytes (*show)(bytes);
} goldens[] = {
    {"text", "tiny.txt", NULL},
    {"dhat", "tiny.dhat.json", NULL},
    {"pprof", "tiny.pprof.txt", listing},
    {"heap_v2", "tiny.heap", NULL},
    {"folded", "tiny.folded", NULL},
    {"speedscope", "tiny.speedscope.json", NULL},
    {"json", "tiny.json", NULL},
    {"csv", "tiny.csv", NULL},
    {"html", "tiny.html-data.json", page_data},
};

ParameterizedTestParameters(writers, tiny_report_is_written_as_expected) {
    static int
        rows[sizeof goldens / sizeof goldens[0]]; /* numbers: pointers do not survive the way to the test */
    for (int i = 0; i < (int)(sizeof goldens / sizeof goldens[0]); i++)
        rows[i] = i;
    return cr_make_param_array(int, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(int *row, writers, tiny_report_is_written_as_expected) {
    const struct golden *const golden = &goldens[*row];
    moda_report *const report = sample_report_tiny();
    bytes now = written(report, golden->writer);
    if (golden->show != NULL)
        now = golden->show(now);
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", MODA_GOLDEN_FOLDER, golden->file);
    FILE *file;
    if (getenv("MODA_GOLDEN_UPDATE") != NULL) {
        cr_assert_not_null(file = fopen(path, "w"));
        fwrite(now.data, 1, now.length, file);
        fclose(file);
    }
    cr_assert_not_null(file = fopen(path, "r"), "%s is missing", path);
    char *const expected = calloc(1, 1 << 20);
    const size_t length = fread(expected, 1, (1 << 20) - 1, file);
    fclose(file);
    size_t same = 0, line = 1;
    while (same < length && same < now.length && expected[same] == now.data[same])
        if (expected[same++] == '\n')
            line++;
    cr_assert(same == length && same == now.length, "%s: line %zu differs: expected '%.60s', is '%.60s'",
              path, line, expected + same, now.data + same);
    free(expected);
    sample_report_free(report);
}

Test(writers, each_row_of_the_table_has_a_golden_file) {
    size_t count = 0;
    const moda_writer *const *const all = moda_writers(&count);
    for (size_t i = 0; i < count; i++) {
        bool is_known = false;
        for (size_t k = 0; k < sizeof goldens / sizeof goldens[0]; k++)
            is_known |= strcmp(goldens[k].writer, all[i]->name) == 0;
        cr_assert(is_known, "%s", all[i]->name);
    }
}

/* ---- all of them ---- */

static const char *const names[] = {"text",       "dhat", "pprof", "heap_v2", "folded",
                                    "speedscope", "json", "csv",   "html"};
enum { NAMES = sizeof names / sizeof names[0] };

Test(writers, a_full_disk_is_reported) {
    moda_report *const report = sample_report_tiny();
    const moda_write_options options = defaults();
    for (int i = 0; i < NAMES; i++) {
        moda_out out;
        moda_error error = {""};
        cr_assert(moda_out_to_path(&out, "/dev/full", &error), "%s", error.text);
        moda_writer_find(names[i])->write(report, &options, &out, &error);
        cr_assert_not(moda_out_close(&out, &error), "%s wrote to a full disk", names[i]);
        cr_assert_not_null(strstr(error.text, "/dev/full"), "%s", error.text);
    }
    sample_report_free(report);
}

Test(writers, equal_reports_give_equal_bytes) {
    for (int i = 0; i < NAMES; i++) {
        moda_report *const a = sample_report_large(300, false), *const b = sample_report_large(300, false);
        const bytes x = written(a, names[i]), y = written(b, names[i]);
        cr_assert(x.length == y.length && memcmp(x.data, y.data, x.length) == 0, "%s", names[i]);
        free(x.data);
        free(y.data);
        sample_report_free(a);
        sample_report_free(b);
    }
}

Test(writers, a_report_without_sites_is_valid) {
    moda_report *const report = sample_report_tiny();
    report->stack_count = report->frame_count = report->location_count = report->function_count = 0;
    report->module_count = 0;
    ((moda_profile *)(uintptr_t)report->profile)->process_count = 0;
    moda_values_clear(&report->totals);
    for (int i = 0; i < NAMES; i++) {
        bytes text = written(report, names[i]);
        if (strcmp(names[i], "pprof") == 0) {
            Moda__Pprof__Profile *const p = unpacked(text);
            cr_assert_eq(p->n_sample, 0);
            cr_assert_str_eq(p->string_table[0], "");
            moda__pprof__profile__free_unpacked(p, NULL);
        } else if (strcmp(names[i], "html") == 0) {
            json_object_put(parsed(page_data(text)));
        } else if (strcmp(names[i], "dhat") == 0 || strcmp(names[i], "json") == 0
                   || strcmp(names[i], "speedscope") == 0) {
            json_object *const object = parsed(text);
            json_object *end;
            if (json_object_object_get_ex(object, "te", &end))
                cr_assert_geq(json_object_get_int64(end), 1, "the viewer divides by te");
            json_object_put(object);
        }
        free(text.data);
    }
    sample_report_free(report);
}

Test(writers, stacks_whose_frames_are_all_hidden_keep_their_bytes) {
    moda_report *const report = sample_report_tiny();
    moda_stack *const stacks = (moda_stack *)(uintptr_t)report->stacks;
    const int64_t all = report->totals.of[MODA_VALUE_ALLOCATED_BYTES];
    stacks[0].frame_count = 0;
    json_object *const dhat = parsed(written(report, "dhat"));
    cr_assert_eq(sum_of(json_object_object_get(dhat, "pps"), "tb"), all);
    Moda__Pprof__Profile *const p = unpacked(written(report, "pprof"));
    int64_t sum = 0;
    for (size_t i = 0; i < p->n_sample; i++) {
        cr_assert_geq(p->sample[i]->n_location_id, 1);
        sum += p->sample[i]->value[1];
    }
    cr_assert_eq(sum, all);
    moda_write_options options = defaults();
    options.value = MODA_VALUE_ALLOCATED_BYTES;
    cr_assert_not_null(strstr(written_with(report, "folded", &options).data, "[no frames] 64000\n"));
    sample_report_free(report);
}

/* ---- dhat ---- */

Test(writers, dhat_merges_stacks_that_look_the_same) {
    moda_report *const report = sample_report_tiny();
    json_object *before = parsed(written(report, "dhat"));
    const size_t points = json_object_array_length(json_object_object_get(before, "pps"));
    const int64_t bytes_before = sum_of(json_object_object_get(before, "pps"), "tb");
    /* Frames 6 and 7 are one source line at two addresses: with one address they have one text. */
    moda_frame *const frames = (moda_frame *)(uintptr_t)report->frames;
    frames[7].address = frames[6].address;
    json_object *after = parsed(written(report, "dhat"));
    cr_assert_eq(json_object_array_length(json_object_object_get(after, "pps")), points - 1);
    cr_assert_eq(sum_of(json_object_object_get(after, "pps"), "tb"), bytes_before);
    json_object_put(before);
    json_object_put(after);
    sample_report_free(report);
}

Test(writers, dhat_numbers_are_safe_in_javascript) {
    moda_report *const report = sample_report_tiny();
    moda_stack *const stacks = (moda_stack *)(uintptr_t)report->stacks;
    stacks[0].values.of[MODA_VALUE_ALLOCATED_BYTES] = INT64_MAX;
    stacks[0].values.of[MODA_VALUE_LIFETIME_NS] = INT64_MAX;
    stacks[0].values.of[MODA_VALUE_LIVE_BYTES] = -5;
    json_object *const dhat = parsed(written(report, "dhat"));
    json_object *const point = json_object_array_get_idx(json_object_object_get(dhat, "pps"), 0);
    json_object_object_foreach(point, key, value) {
        if (strcmp(key, "fs") == 0)
            continue;
        cr_assert(json_object_get_int64(value) >= 0 && json_object_get_int64(value) < INT64_C(1) << 53, "%s",
                  key);
    }
    json_object_put(dhat);
    sample_report_free(report);
}

Test(writers, dhat_lifetimes_are_the_measured_ones_where_all_is_freed) {
    moda_report *const report = sample_report_tiny();
    json_object *const dhat = parsed(written(report, "dhat"));
    json_object *const pps = json_object_object_get(dhat, "pps");
    for (size_t i = 0; i < json_object_array_length(pps); i++) {
        json_object *const point = json_object_array_get_idx(pps, i);
        if (json_object_get_int64(json_object_object_get(point, "ebk")) != 0)
            continue;
        cr_assert_eq(json_object_get_int64(json_object_object_get(point, "tl")),
                     report->stacks[i].values.of[MODA_VALUE_LIFETIME_NS] / 1000);
    }
    json_object_put(dhat);
    sample_report_free(report);
}

/* ---- pprof ---- */

Test(writers, pprof_opens_with_the_value_that_was_asked_for) {
    moda_report *const report = sample_report_tiny();
    moda_write_options options = defaults();
    Moda__Pprof__Profile *p = unpacked(written_with(report, "pprof", &options));
    cr_assert_str_eq(p->string_table[p->default_sample_type], "inuse_space");
    options.value = MODA_VALUE_ALLOCATED_BYTES;
    p = unpacked(written_with(report, "pprof", &options));
    cr_assert_str_eq(p->string_table[p->default_sample_type], "alloc_space");
    sample_report_free(report);
}

Test(writers, pprof_writes_each_location_once_and_recursion_often) {
    moda_report *const report = sample_report_tiny();
    Moda__Pprof__Profile *const p = unpacked(written(report, "pprof"));
    cr_assert_eq(p->n_location, report->location_count + 1, "and one for the overflow site");
    const Moda__Pprof__Sample *const first = p->sample[0];
    cr_assert_eq(first->n_location_id, 5, "grow and push_back are one location, load is three");
    cr_assert_eq(first->location_id[1], first->location_id[2]);
    cr_assert_eq(first->location_id[2], first->location_id[3]);
    moda__pprof__profile__free_unpacked(p, NULL);
    sample_report_free(report);
}

/* ---- folded, json, csv ---- */

Test(writers, folded_has_the_chosen_value_alone) {
    moda_report *const report = sample_report_tiny();
    moda_write_options options = defaults();
    options.value = MODA_VALUE_LIVE_COUNT;
    const bytes text = written_with(report, "folded", &options);
    int64_t sum = 0;
    for (char *line = strtok(text.data, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        const char *const space = strrchr(line, ' ');
        cr_assert_not_null(space);
        const long long value = strtoll(space + 1, NULL, 10);
        cr_assert_gt(value, 0, "%s", line);
        sum += value;
    }
    cr_assert_eq(sum, report->totals.of[MODA_VALUE_LIVE_COUNT]);
    free(text.data);
    sample_report_free(report);
}

Test(writers, json_and_csv_give_as_many_rows_as_asked_for) {
    moda_report *const report = sample_report_large(100, true);
    moda_write_options options = defaults();
    options.top = 7;
    json_object *const json = parsed(written_with(report, "json", &options));
    cr_assert_eq(json_object_array_length(json_object_object_get(json, "rows")), 7);
    const bytes csv = written_with(report, "csv", &options);
    size_t lines = 0;
    for (const char *at = csv.data; (at = strstr(at, "\r\n")) != NULL; at += 2)
        lines++;
    cr_assert_eq(lines, 8, "a line of keys and seven rows");
    json_object_put(json);
    free(csv.data);
    sample_report_free(report);
}

Test(writers, what_a_thread_does_not_know_is_null) {
    moda_report *const report = sample_report_tiny();
    moda_write_options options = defaults();
    options.by = MODA_BY_THREAD;
    options.value = MODA_VALUE_ALLOCATED_BYTES;
    json_object *const json = parsed(written_with(report, "json", &options));
    json_object *const row = json_object_array_get_idx(json_object_object_get(json, "rows"), 0);
    json_object *const values = json_object_object_get(row, "values");
    cr_assert_eq(json_object_get_int64(json_object_object_get(values, "allocated_bytes")), 117760);
    json_object *lifetime;
    cr_assert(json_object_object_get_ex(values, "lifetime_ns", &lifetime));
    cr_assert_null(lifetime);
    json_object_put(json);
    sample_report_free(report);
}

Test(writers, html_holds_no_markup_from_names) {
    moda_report *const report = sample_report_tiny();
    const bytes page = written(report, "html");
    size_t opened = 0, closed = 0;
    for (const char *at = page.data; (at = strstr(at, "<script")) != NULL; at++)
        opened++;
    for (const char *at = page.data; (at = strstr(at, "</script")) != NULL; at++)
        closed++;
    cr_assert_eq(opened, 2);
    cr_assert_eq(closed, 2);
    const bytes data = page_data(page);
    cr_assert_null(strchr(data.data, '<'));
    json_object_put(parsed(data));
    free(page.data);
    sample_report_free(report);
}
