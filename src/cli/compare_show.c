/* SPDX-License-Identifier: MIT
 *
 * compare_show.c - the result of `mod-alloc compare` as table, Markdown, CSV and JSON.
 *
 * Called by cmd_compare.c at the end. The figures are walked once (`walk`), in one order, and handed to a
 * format as lines; formats differ in syntax alone. JSON has the single pairs, too.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cli/compare.h"

const moda_compare_metric moda_compare_exact_metrics[MODA_COMPARE_EXACTS] = {
#define EXACT(name, key, counter, unit) [MODA_COMPARE_##name] = {key, key, MODA_COMPARE_##unit},
#include "cli/compare_metrics.def"
};

const moda_compare_metric moda_compare_measured_metrics[MODA_COMPARE_MEASUREDS] = {
#define MEASURED(name, key, title, unit) [MODA_COMPARE_##name] = {key, title, MODA_COMPARE_##unit},
#include "cli/compare_metrics.def"
};

/* ---- questions ---- */

const moda_compare_row *moda_compare_noise(const moda_compare_result *result) {
    return result->row_count > 0 && result->row[0].variant == 0 ? &result->row[0] : NULL;
}

const moda_compare_variant *moda_compare_counted_base(const moda_compare_result *result) {
    for (size_t i = 0; i < result->variant_count; i++) {
        if (result->variant[i].counts.is_known && !result->variant[i].has_failed) {
            return &result->variant[i];
        }
    }
    return NULL;
}

double moda_compare_instruction_ratio(const moda_compare_result *result,
                                      const moda_compare_variant *variant) {
    return variant->instructions[0] / result->variant[0].instructions[0];
}

double moda_compare_ratio(double value, double base) {
    return value == 0 && base == 0 ? 1 : value / base;
}

bool moda_compare_keeps_limit(const moda_compare_result *result, const moda_compare_limit *limit,
                              const moda_compare_row *row, double *ratio) {
    const moda_compare_variant *v = &result->variant[row->variant];
    *ratio = NAN;
    if (!limit->is_exact) {
        *ratio = row->estimate[limit->metric].median;
        if (limit->metric == MODA_COMPARE_INSTRUCTIONS && isnan(*ratio)) {
            *ratio = moda_compare_instruction_ratio(result, v);
        }
    } else if (v->counts.is_known && result->variant[0].counts.is_known) {
        *ratio = moda_compare_ratio((double)v->counts.value[limit->metric],
                                    (double)result->variant[0].counts.value[limit->metric]);
    }
    if (isnan(*ratio)) {
        return false;
    }
    const bool is_equal = *ratio >= limit->bound && *ratio <= limit->bound;
    if (strchr(limit->comparison, '=') && is_equal) {
        return true;
    }
    return limit->comparison[0] == '<'   ? *ratio < limit->bound
           : limit->comparison[0] == '>' ? *ratio > limit->bound
                                         : false;
}

const char *moda_compare_verdict_text(int measured, moda_compare_verdict verdict) {
    const bool is_time = moda_compare_measured_metrics[measured].unit == MODA_COMPARE_SECONDS;
    switch (verdict) {
    case MODA_COMPARE_LESS: return is_time ? "faster" : "less";
    case MODA_COMPARE_MORE: return is_time ? "slower" : "more";
    case MODA_COMPARE_NOT_SHOWN: return "no difference shown";
    case MODA_COMPARE_NOTHING: break;
    }
    return "not measured";
}

bool moda_compare_is_shown(const moda_compare_result *result, int measured) {
    if (measured == MODA_COMPARE_WALL) {
        return !result->is_together;
    }
    return measured != MODA_COMPARE_INSTRUCTIONS || result->has_instructions;
}

/* 1,234,567 */
static void with_commas(double value, char *text, size_t size) {
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%.0f", value);
    size_t to = 0;
    for (int i = 0; i < length && to + 2 < size; i++) {
        if (i > 0 && digits[i - 1] != '-' && (length - i) % 3 == 0) {
            text[to++] = ',';
        }
        text[to++] = digits[i];
    }
    text[to] = '\0';
}

const char *moda_compare_human(moda_compare_unit unit, double value, char *text, size_t size) {
    static const char *const byte_units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    if (isnan(value)) {
        snprintf(text, size, "-");
    } else if (unit == MODA_COMPARE_COUNT) {
        with_commas(value, text, size);
    } else if (unit == MODA_COMPARE_SECONDS) {
        snprintf(text, size, value < 1 ? "%.2f ms" : "%.3f s", value < 1 ? 1000 * value : value);
    } else {
        size_t u = 0;
        for (; fabs(value) >= 1024 && u + 1 < sizeof byte_units / sizeof *byte_units; u++) {
            value /= 1024;
        }
        snprintf(text, size, u ? "%.2f %s" : "%.0f %s", value, byte_units[u]);
    }
    return text;
}

/* ---- one walk over the figures ---- */

enum { CELLS = 6, CELL_SIZE = 96 };

typedef struct line {
    const char *metric; /* key */
    const char *title;
    const moda_compare_variant *variant;
    const moda_compare_row *row; /* NULL: counted */
    int index;                   /* of the metric, in its table */
    double base, value;          /* medians, or counts */
    double ratio, low, high;
    const char *verdict;
    bool is_noise;
} line;

typedef void line_visitor(const moda_compare_result *result, const line *l, void *context);

static const char *count_verdict(const moda_compare_variant *v, const moda_compare_variant *base, int m) {
    if (v->varies[m] || base->varies[m]) {
        return "varies from run to run";
    }
    return v->counts.value[m] == base->counts.value[m]  ? "equal"
           : v->counts.value[m] < base->counts.value[m] ? "less"
                                                        : "more";
}

/* Two runs of each: where the four counts lie apart, they differ. */
static const char *instruction_verdict(const double *value, const double *base) {
    return value[0] > base[1]                         ? "more"
           : value[1] < base[0]                       ? "less"
           : value[0] < value[1] || base[0] < base[1] ? "no difference shown"
                                                      : "equal";
}

static void walk_instructions(const moda_compare_result *result, line_visitor *visit, void *context) {
    const double *base = result->variant[0].instructions;
    for (size_t i = 0; i < result->variant_count && !isnan(base[0]); i++) {
        const moda_compare_variant *v = &result->variant[i];
        const double ratio = moda_compare_instruction_ratio(result, v);
        if (isnan(ratio)) {
            continue;
        }
        const line l = {.metric = moda_compare_measured_metrics[MODA_COMPARE_INSTRUCTIONS].key,
                        .title = "instructions",
                        .variant = v,
                        .index = MODA_COMPARE_INSTRUCTIONS,
                        .base = base[0],
                        .value = v->instructions[0],
                        .ratio = ratio,
                        .low = ratio,
                        .high = ratio,
                        .verdict = i == 0 ? "" : instruction_verdict(v->instructions, base)};
        visit(result, &l, context);
    }
}

static bool has_counted(const moda_compare_result *result) {
    return moda_compare_counted_base(result) || !isnan(result->variant[0].instructions[0]);
}

static void walk_counted(const moda_compare_result *result, line_visitor *visit, void *context) {
    const moda_compare_variant *base = moda_compare_counted_base(result);
    for (int m = 0; base && m < MODA_COMPARE_EXACTS; m++) {
        for (size_t i = 0; i < result->variant_count; i++) {
            const moda_compare_variant *v = &result->variant[i];
            if (!v->counts.is_known || v->has_failed) {
                continue;
            }
            const double value = (double)v->counts.value[m], of_base = (double)base->counts.value[m];
            const double ratio = moda_compare_ratio(value, of_base);
            const line l = {.metric = moda_compare_exact_metrics[m].key,
                            .title = moda_compare_exact_metrics[m].title,
                            .variant = v,
                            .index = m,
                            .base = of_base,
                            .value = value,
                            .ratio = ratio,
                            .low = ratio,
                            .high = ratio,
                            .verdict = v == base && !v->varies[m] ? "" : count_verdict(v, base, m)};
            visit(result, &l, context);
        }
    }
    walk_instructions(result, visit, context);
}

static void walk_measured(const moda_compare_result *result, bool walks_all, line_visitor *visit,
                          void *context) {
    for (int m = 0; m < MODA_COMPARE_MEASUREDS; m++) {
        if (!walks_all && !moda_compare_is_shown(result, m)) {
            continue;
        }
        for (size_t r = 0; r < result->row_count; r++) {
            const moda_compare_row *row = &result->row[r];
            const moda_compare_estimate *e = &row->estimate[m];
            if (e->n == 0) {
                continue;
            }
            const line l = {.metric = moda_compare_measured_metrics[m].key,
                            .title = moda_compare_measured_metrics[m].title,
                            .variant = &result->variant[row->variant],
                            .row = row,
                            .index = m,
                            .base = row->base_median[m],
                            .value = row->median[m],
                            .ratio = e->median,
                            .low = e->low,
                            .high = e->high,
                            .verdict = moda_compare_verdict_text(m, row->verdict[m]),
                            .is_noise = row->variant == 0};
            visit(result, &l, context);
        }
    }
}

/* ---- table and Markdown: the same cells ---- */

typedef struct cells {
    char cell[CELLS][CELL_SIZE]; /* metric, variant, value, ratio, interval or difference, verdict */
} cells;

static cells cells_of(const line *l) {
    cells c;
    const moda_compare_unit unit = l->row ? moda_compare_measured_metrics[l->index].unit
                                          : MODA_COMPARE_COUNT; /* counted: to the last digit */
    snprintf(c.cell[0], CELL_SIZE, "%s", l->title);
    snprintf(c.cell[1], CELL_SIZE, "%s%s", l->variant->name, l->is_noise ? " (A/A)" : "");
    moda_compare_human(unit, l->value, c.cell[2], CELL_SIZE);
    snprintf(c.cell[3], CELL_SIZE, "%.4f", l->ratio);
    if (l->row) {
        snprintf(c.cell[4], CELL_SIZE, "%.4f .. %.4f", l->low, l->high);
    } else {
        const double difference = l->value - l->base;
        const int sign = difference > 0;
        memcpy(c.cell[4], "+", 1);
        with_commas(difference, c.cell[4] + sign, CELL_SIZE - 1);
    }
    if (l->is_noise) {
        const double floor = fmax(fabs(l->low - 1), fabs(l->high - 1));
        snprintf(c.cell[5], CELL_SIZE, "noise floor %.2f %%", 100 * floor);
    } else {
        snprintf(c.cell[5], CELL_SIZE, "%s", l->verdict);
    }
    return c;
}

static const char *const counted_heads[CELLS] = {"counted", "", "value", "ratio", "difference", ""};
static const char *const measured_heads[CELLS] = {"measured", "", "median", "ratio", "95 % interval", ""};

typedef struct sheet {
    FILE *out;
    bool is_markdown;
    size_t count, room;
    cells *line;
} sheet;

static void add_line(const moda_compare_result *result, const line *l, void *context) {
    (void)result;
    sheet *s = context;
    if (s->count == s->room) {
        s->room = 2 * s->room + 16;
        cells *more = realloc(s->line, s->room * sizeof *more);
        if (!more) {
            return;
        }
        s->line = more;
    }
    s->line[s->count++] = cells_of(l);
}

static void add_heads(sheet *s, const char *const heads[CELLS]) {
    s->count = 0;
    if (s->room == 0) {
        s->line = malloc(16 * sizeof *s->line);
        s->room = s->line ? 16 : 0;
    }
    if (s->room) {
        for (int i = 0; i < CELLS; i++) {
            snprintf(s->line[0].cell[i], CELL_SIZE, "%s", heads[i]);
        }
        s->count = 1;
    }
}

static void print_text_line(const sheet *s, const cells *c, const int *width) {
    /* words to the left, numbers to the right */
    fprintf(s->out, "%-*s  %-*s  %*s  %*s  %*s  %s\n", width[0], c->cell[0], width[1], c->cell[1], width[2],
            c->cell[2], width[3], c->cell[3], width[4], c->cell[4], c->cell[5]);
}

static void print_markdown_line(const sheet *s, const cells *c) {
    for (int i = 0; i < CELLS; i++) {
        fprintf(s->out, "| %s ", c->cell[i]);
    }
    fputs("|\n", s->out);
}

static void print_sheet(sheet *s) {
    int width[CELLS] = {0};
    for (size_t i = 0; i < s->count; i++) {
        for (int k = 0; k < CELLS; k++) {
            const int length = (int)strlen(s->line[i].cell[k]);
            width[k] = length > width[k] ? length : width[k];
        }
    }
    const char *last = "";
    for (size_t i = 0; i < s->count; i++) {
        cells c = s->line[i];
        const bool is_same = strcmp(c.cell[0], last) == 0; /* a metric is named once */
        last = s->line[i].cell[0];
        if (s->is_markdown) {
            print_markdown_line(s, &c);
            if (i == 0) {
                fputs("|---|---|--:|--:|--:|---|\n", s->out);
            }
        } else {
            c.cell[0][0] = is_same ? '\0' : c.cell[0][0];
            print_text_line(s, &c, width);
        }
    }
    fputs("\n", s->out);
}

static void print_legend(const moda_compare_result *result, FILE *out, bool is_markdown) {
    size_t width = 0, pairs = 0;
    for (size_t i = 0; i < result->variant_count; i++) {
        const size_t length = strlen(result->variant[i].name);
        width = length > width ? length : width;
    }
    for (size_t i = 0; i < result->variant_count; i++) {
        const moda_compare_variant *v = &result->variant[i];
        fprintf(out, is_markdown ? "- **%-*s**: `%s`" : "%-*s  %s", (int)width, v->name, v->command.text);
        if (v->has_failed) {
            fprintf(out, "  FAILED: %s", v->failure);
        }
        fputc('\n', out);
    }
    for (size_t r = 0; r < result->row_count; r++) {
        pairs = result->row[r].pairs > pairs ? result->row[r].pairs : pairs;
    }
    fprintf(out, "\n%zu pairs each, ", pairs);
    if (result->is_together) {
        fprintf(out, "both at the same moment on core %d", result->core);
    } else {
        fputs("one after the other", out);
    }
    fprintf(out, "; ratios are to %s; %.0f s\n", result->variant[0].name, result->elapsed_seconds);
    if (result->is_stopped) {
        fputs("stopped before it was done\n", out);
    }
    if (result->until > 0) {
        const bool is_reached = result->half_width <= result->until;
        fprintf(out, "user+sys is known to +- %.2f %%, +- %.2f %% was asked for%s\n",
                100 * result->half_width, 100 * result->until,
                is_reached ? "" : ": not reached in the time (--time)");
    }
    fputs("\n", out);
}

static void write_tables(const moda_compare_result *result, FILE *out, bool is_markdown) {
    sheet s = {.out = out, .is_markdown = is_markdown};
    print_legend(result, out, is_markdown);
    if (has_counted(result)) {
        add_heads(&s, counted_heads);
        walk_counted(result, add_line, &s);
        print_sheet(&s);
    }
    add_heads(&s, measured_heads);
    walk_measured(result, false, add_line, &s);
    if (s.count > 1) {
        print_sheet(&s);
    }
    free(s.line);
}

void moda_compare_write_text(const moda_compare_result *result, FILE *out) {
    write_tables(result, out, false);
}

void moda_compare_write_markdown(const moda_compare_result *result, FILE *out) {
    write_tables(result, out, true);
}

/* ---- CSV (RFC 4180) ---- */

static void csv_text(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') {
            fputc('"', out);
        }
        fputc(*text, out);
    }
    fputc('"', out);
}

static void csv_line(const moda_compare_result *result, const line *l, void *context) {
    (void)result;
    FILE *out = context;
    fprintf(out, "%s,", l->metric);
    csv_text(out, l->variant->name);
    fprintf(out, ",%s,%zu,%.17g,%.17g,%.9g,%.9g,%.9g,",
            l->is_noise ? "noise"
            : l->row    ? "measured"
                        : "counted",
            l->row ? l->row->estimate[l->index].n : (size_t)1, l->base, l->value, l->ratio, l->low, l->high);
    csv_text(out, l->verdict);
    fputc('\n', out);
}

void moda_compare_write_csv(const moda_compare_result *result, FILE *out) {
    fputs("metric,variant,kind,pairs,base,value,ratio,low,high,verdict\n", out);
    walk_counted(result, csv_line, out);
    walk_measured(result, true, csv_line, out);
}

/* ---- JSON ---- */

static void add(struct json_object *object, const char *key, struct json_object *value) {
    json_object_object_add(object, key, value);
}

static struct json_object *number(double value) {
    return isfinite(value) ? json_object_new_double(value) : NULL; /* NULL is json-c's null */
}

static struct json_object *text(const char *value) {
    return value ? json_object_new_string(value) : NULL;
}

static void json_line(const moda_compare_result *result, const line *l, void *context) {
    (void)result;
    struct json_object *object = json_object_new_object();
    const moda_compare_row *row = l->row;
    add(object, "metric", text(l->metric));
    add(object, "variant", text(l->variant->name));
    add(object, "base", number(l->base));
    add(object, "value", number(l->value));
    add(object, "ratio", number(l->ratio));
    if (row) {
        const moda_compare_estimate *e = &row->estimate[l->index];
        struct json_object *ratios = json_object_new_array();
        for (size_t i = 0; i < e->n; i++) {
            json_object_array_add(ratios, number(row->ratio[l->index][i]));
        }
        add(object, "is_noise", json_object_new_boolean(l->is_noise));
        add(object, "pairs", json_object_new_uint64(e->n));
        add(object, "low", number(l->low));
        add(object, "high", number(l->high));
        add(object, "low_99", number(e->sure_low));
        add(object, "high_99", number(e->sure_high));
        add(object, "ratios", ratios);
    }
    add(object, "verdict", text(l->verdict));
    json_object_array_add(context, object);
}

static struct json_object *json_variant(const moda_compare_variant *v) {
    struct json_object *object = json_object_new_object(), *settings = json_object_new_array();
    add(object, "name", text(v->name));
    add(object, "command", text(v->command.text));
    add(object, "preload", text(v->command.preload));
    for (char **setting = v->command.settings; *setting; setting++) {
        json_object_array_add(settings, text(*setting));
    }
    add(object, "settings", settings);
    add(object, "failure", text(v->has_failed ? v->failure : NULL));
    return object;
}

static struct json_object *json_limits(const moda_compare_result *result) {
    struct json_object *limits = json_object_new_array();
    for (size_t l = 0; l < result->limit_count; l++) {
        for (size_t r = 0; r < result->row_count; r++) {
            const moda_compare_row *row = &result->row[r];
            double ratio;
            if (row->variant == 0) {
                continue;
            }
            const bool is_kept = moda_compare_keeps_limit(result, &result->limit[l], row, &ratio);
            struct json_object *object = json_object_new_object();
            add(object, "limit", text(result->limit[l].text));
            add(object, "variant", text(result->variant[row->variant].name));
            add(object, "ratio", number(ratio));
            add(object, "is_kept", json_object_new_boolean(is_kept));
            json_object_array_add(limits, object);
        }
    }
    return limits;
}

static struct json_object *json_machine(void) {
    struct json_object *object = json_object_new_object();
    struct utsname system;
    char date[32] = "", entry[256], cpu[200] = "";
    const time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc)) {
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    FILE *info = fopen("/proc/cpuinfo", "r");
    while (info && !*cpu && fgets(entry, sizeof entry, info)) {
        sscanf(entry, "model name : %199[^\n]", cpu);
    }
    if (info) {
        fclose(info);
    }
    add(object, "date", text(date));
    add(object, "cpu", text(cpu));
    add(object, "cores", json_object_new_int64(sysconf(_SC_NPROCESSORS_ONLN)));
    if (uname(&system) == 0) {
        add(object, "kernel", text(system.release));
        add(object, "architecture", text(system.machine));
    }
    return object;
}

void moda_compare_write_json(const moda_compare_result *result, FILE *out) {
    struct json_object *top = json_object_new_object(), *variants = json_object_new_array();
    struct json_object *counted = json_object_new_array(), *measured = json_object_new_array();
    add(top, "format", text("mod-alloc compare"));
    add(top, "version", json_object_new_int(1));
    add(top, "machine", json_machine());
    add(top, "order", text(result->is_together ? "same moment, same core" : "in turns"));
    add(top, "core", json_object_new_int(result->core));
    add(top, "seed", json_object_new_uint64(result->seed));
    add(top, "is_stopped", json_object_new_boolean(result->is_stopped));
    add(top, "until", result->until > 0 ? number(result->until) : NULL);
    add(top, "half_width", number(result->half_width));
    add(top, "elapsed_seconds", number(result->elapsed_seconds));
    for (size_t i = 0; i < result->variant_count; i++) {
        json_object_array_add(variants, json_variant(&result->variant[i]));
    }
    add(top, "variants", variants);
    walk_counted(result, json_line, counted);
    add(top, "counted", counted);
    walk_measured(result, true, json_line, measured);
    add(top, "measured", measured);
    add(top, "limits", json_limits(result));
    fprintf(out, "%s\n",
            json_object_to_json_string_ext(top, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
                                                    | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(top);
}
