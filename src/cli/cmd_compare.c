/* SPDX-License-Identifier: MIT
 *
 * cmd_compare.c - mod-alloc compare: what a command, or a malloc, costs more than another.
 *
 *   options --> variants (command x malloc) --> counted runs: exact figures, warm-up
 *           --> rounds: each variant against the first, and the first against itself, in pairs
 *           --> medians of ratios, intervals, verdicts --> table and files, limits
 *
 * Single runs on a shared machine differ by 10 % and more from one minute to the next; the two halves of a
 * pair that run at the same moment on one core see the same machine, whatever it does.
 *
 * Laws
 *   1. which half of a pair is released first changes in blocks of two rounds: each comes first equally
 *      often, to within one pair.
 *   2. a pair of which one half failed is left out whole, counted, and shown.
 *   3. the same seed gives the same order of runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/compare.h"
#include "cli/library.h"

enum { COMMANDS_MAX = 16, SPECS_MAX = 16, SETTINGS_MAX = 16, PAIRS_MAX = 100000, COUNTED_RUNS = 2 };

typedef struct settings {
    const char *specs[SPECS_MAX];
    size_t spec_count;
    const char *names[COMMANDS_MAX];
    size_t name_count;
    const char *library, *plain;
    bool checks_output, in_turns, is_quiet, skips_noise, skips_counts, counts_instructions;
    uint64_t pairs, warm_ups, seed, time_seconds;
    double until; /* share; 0 = not asked for */
    int core;     /* -1 = not given */
    const char *json_path, *csv_path, *markdown_path, *plot_path;
} settings;

/* Lives as long as the process: names, words and settings are pointed to from all over the result. */
typedef struct kept {
    struct kept *next;
    max_align_t bytes[];
} kept;

static void *allocate(size_t count, size_t size) {
    static kept *all;
    kept *block = calloc(1, sizeof *block + count * size);
    if (!block) {
        moda_cli_fail(NULL, MODA_CLI_MISUSE, "out of memory");
    }
    block->next = all;
    all = block;
    return block->bytes;
}

static char *joined(const char *a, const char *b, const char *c) {
    char *text = allocate(strlen(a) + strlen(b) + strlen(c) + 1, 1);
    return strcat(strcat(strcpy(text, a), b), c);
}

/* ---- options ---- */

static double percent_of(const moda_cli_args *args, const char *text) {
    char *end;
    const double value = strtod(text, &end);
    if (end == text || !(value > 0 && value < 100) || (*end && strcmp(end, "%") != 0)) {
        moda_cli_misuse(args, "--until: '%s' is not a percentage between 0 and 100", text);
    }
    return value / 100;
}

/* The row of the key that `text` begins with, as long as `length`; -1 = no such. */
static int find_metric(const moda_compare_metric *metrics, int count, const char *text, size_t length) {
    for (int m = 0; m < count; m++) {
        if (strlen(metrics[m].key) == length && strncmp(metrics[m].key, text, length) == 0) {
            return m;
        }
    }
    return -1;
}

static moda_compare_limit limit_of(const moda_cli_args *args, const char *text) {
    moda_compare_limit limit = {.text = text};
    size_t length = strcspn(text, "<>=");
    const char *rest = text + length;
    const size_t signs = strspn(rest, "<>=");
    while (length > 0 && text[length - 1] == ' ') {
        length--;
    }
    limit.metric = find_metric(moda_compare_exact_metrics, MODA_COMPARE_EXACTS, text, length);
    limit.is_exact = limit.metric >= 0;
    if (!limit.is_exact) {
        limit.metric = find_metric(moda_compare_measured_metrics, MODA_COMPARE_MEASUREDS, text, length);
    }
    if (limit.metric < 0) {
        moda_cli_misuse(args, "--limit: '%s' does not begin with the name of a metric", text);
    }
    char *end;
    limit.bound = strtod(rest + signs, &end);
    if (signs < 1 || signs > 2 || end == rest + signs || *end != '\0') {
        moda_cli_misuse(args, "--limit: '%s' is not of the form METRIC<=RATIO", text);
    }
    memcpy(limit.comparison, rest, signs);
    static const char *const known[] = {"<=", "<", ">=", ">", "=="};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(limit.comparison, known[i]) == 0) {
            return limit;
        }
    }
    moda_cli_misuse(args, "--limit: '%s' has none of <= < >= > ==", text);
}

static void add_spec(const moda_cli_args *args, settings *s, const char *spec) {
    if (s->spec_count == SPECS_MAX) {
        moda_cli_misuse(args, "more than %d mallocs", SPECS_MAX);
    }
    s->specs[s->spec_count++] = spec;
}

static void add_specs(const moda_cli_args *args, settings *s, const char *list) {
    char *copy = joined(list, "", "");
    for (char *save, *spec = strtok_r(copy, ",", &save); spec; spec = strtok_r(NULL, ",", &save)) {
        add_spec(args, s, spec);
    }
}

static void take_option(const moda_cli_args *args, int option, settings *s, moda_compare_result *result) {
    switch (option) {
    case MODA_CLI_OPTION_compare_allocators: add_specs(args, s, args->value); break;
    case MODA_CLI_OPTION_compare_allocator: add_spec(args, s, args->value); break;
    case MODA_CLI_OPTION_compare_name:
        if (s->name_count == COMMANDS_MAX) {
            moda_cli_misuse(args, "more than %d names", COMMANDS_MAX);
        }
        s->names[s->name_count++] = args->value;
        break;
    case MODA_CLI_OPTION_compare_check_output: s->checks_output = true; break;
    case MODA_CLI_OPTION_compare_library: s->library = args->value; break;
    case MODA_CLI_OPTION_compare_plain: s->plain = args->value; break;
    case MODA_CLI_OPTION_compare_pairs: s->pairs = moda_cli_args_number(args, option, 1, PAIRS_MAX); break;
    case MODA_CLI_OPTION_compare_until: s->until = percent_of(args, args->value); break;
    case MODA_CLI_OPTION_compare_time:
        s->time_seconds = moda_cli_args_number(args, option, 1, 1000000);
        break;
    case MODA_CLI_OPTION_compare_warm_up: s->warm_ups = moda_cli_args_number(args, option, 0, 1000); break;
    case MODA_CLI_OPTION_compare_skip_counts: s->skips_counts = true; break;
    case MODA_CLI_OPTION_compare_count_instructions: s->counts_instructions = true; break;
    case MODA_CLI_OPTION_compare_turns: s->in_turns = true; break;
    case MODA_CLI_OPTION_compare_core:
        s->core = (int)moda_cli_args_number(args, option, 0, CPU_SETSIZE - 1);
        break;
    case MODA_CLI_OPTION_compare_skip_noise: s->skips_noise = true; break;
    case MODA_CLI_OPTION_compare_seed: s->seed = moda_cli_args_number(args, option, 0, UINT64_MAX); break;
    case MODA_CLI_OPTION_compare_limit:
        if (result->limit_count == MODA_COMPARE_LIMITS_MAX) {
            moda_cli_misuse(args, "more than %d limits", MODA_COMPARE_LIMITS_MAX);
        }
        result->limit[result->limit_count++] = limit_of(args, args->value);
        break;
    case MODA_CLI_OPTION_compare_json: s->json_path = args->value; break;
    case MODA_CLI_OPTION_compare_csv: s->csv_path = args->value; break;
    case MODA_CLI_OPTION_compare_markdown: s->markdown_path = args->value; break;
    case MODA_CLI_OPTION_compare_plot: s->plot_path = args->value; break;
    case MODA_CLI_OPTION_compare_quiet: s->is_quiet = true; break;
    default: break;
    }
}

/* The core to pin to: the last one we may use, since interrupts tend to go to the first. */
static int choose_core(const moda_cli_args *args, const settings *s) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return -1;
    }
    if (s->core >= 0 && !CPU_ISSET((size_t)s->core, &allowed)) {
        moda_cli_misuse(args, "--core: this process may not run on core %d", s->core);
    }
    if (s->core >= 0 || s->in_turns) {
        return s->core;
    }
    int last = CPU_SETSIZE - 1;
    while (last > 0 && !CPU_ISSET((size_t)last, &allowed)) {
        last--;
    }
    return last;
}

/* ---- mallocs ---- */

static const char *absolute(const moda_cli_args *args, const char *path) {
    const char *resolved = realpath(path, NULL);
    if (!resolved) {
        moda_cli_misuse(args, "%s: %s", path, strerror(errno));
    }
    return resolved;
}

static const char *find_mod_alloc(const moda_cli_args *args, const settings *s) {
    char path[PATH_MAX];
    moda_cli_find_library(args, s->library, path);
    return joined(path, "", "");
}

/* It is built, and never installed, beside libmod_alloc.so. */
static const char *find_plain(const moda_cli_args *args, const settings *s) {
    const char *const given = s->plain ? s->plain : getenv("MOD_ALLOC_PLAIN");
    if (given) {
        return absolute(args, given);
    }
    char path[PATH_MAX];
    moda_cli_find_library(args, s->library, path);
    *strrchr(path, '/') = '\0';
    const char *const beside = joined(path, "/", "libmimalloc_plain.so");
    if (access(beside, F_OK) != 0) {
        moda_cli_misuse(
            args,
            "plain: there is no %s: it lies where mod-alloc was built, and is not installed; --plain names it",
            beside);
    }
    return absolute(args, beside);
}

typedef struct malloc_row {
    const char *name;
    const char *setting; /* of mod-alloc; NULL = not mod-alloc */
} malloc_row;

static const malloc_row malloc_rows[] = {
    {.name = "system"},
    {.name = "plain"},
    {.name = "counters", .setting = "MOD_ALLOC_SAMPLE=0"},
    {.name = "sampled", .setting = "MOD_ALLOC_SAMPLE=524288"},
    {.name = "exact", .setting = "MOD_ALLOC_SAMPLE=1"},
};

static const malloc_row *find_malloc(const char *name) {
    for (size_t i = 0; i < sizeof malloc_rows / sizeof *malloc_rows; i++) {
        if (strcmp(malloc_rows[i].name, name) == 0) {
            return &malloc_rows[i];
        }
    }
    return NULL;
}

static bool is_mod_alloc(const char *path) {
    const char *base = strrchr(path, '/');
    return strncmp(base ? base + 1 : path, "libmod_alloc", strlen("libmod_alloc")) == 0;
}

/* NAME or PATH, then @VARIABLE=VALUE ... */
static void set_malloc(const moda_cli_args *args, const settings *s, const char *spec,
                       moda_compare_command *command) {
    char *copy = joined(spec, "", "");
    char **list = allocate(SETTINGS_MAX + 1, sizeof *list);
    size_t count = 0;
    char *at = strchr(copy, '@');
    if (at) {
        *at = '\0';
    }
    const malloc_row *row = find_malloc(copy);
    if (!row) {
        command->preload = absolute(args, copy);
        command->has_counters = is_mod_alloc(command->preload);
    } else if (row->setting) {
        command->preload = find_mod_alloc(args, s);
        command->has_counters = true;
        list[count++] = joined(row->setting, "", "");
    } else if (strcmp(row->name, "plain") == 0) {
        command->preload = find_plain(args, s);
    }
    while (at) {
        char *const setting = at + 1;
        at = strchr(setting, '@');
        if (at) {
            *at = '\0';
        }
        if (!strchr(setting, '=') || count == SETTINGS_MAX) {
            moda_cli_misuse(args, "'%s': what follows @ is not VARIABLE=VALUE, or is too much", spec);
        }
        list[count++] = setting;
    }
    command->settings = list;
}

/* ---- variants ---- */

static const char *name_of_command(const settings *s, size_t index) {
    static const char letters[][2] = {"A", "B", "C", "D", "E", "F", "G", "H",
                                      "I", "J", "K", "L", "M", "N", "O", "P"};
    return index < s->name_count ? s->names[index] : letters[index];
}

/* Commands x mallocs; called after the malloc where there is one command, after the command where there is
 * one malloc. */
static void make_variants(const moda_cli_args *args, const settings *s, moda_compare_result *result) {
    const size_t commands = (size_t)args->operand_count;
    for (size_t c = 0; c < commands; c++) {
        for (size_t a = 0; a < s->spec_count; a++) {
            if (result->variant_count == MODA_COMPARE_VARIANTS_MAX) {
                moda_cli_misuse(args, "more than %d combinations", MODA_COMPARE_VARIANTS_MAX);
            }
            moda_compare_variant *v = &result->variant[result->variant_count++];
            v->instructions[0] = v->instructions[1] = NAN;
            v->command.text = args->operand[c];
            v->command.words = moda_compare_words(v->command.text);
            if (!v->command.words) {
                moda_cli_misuse(args, "command %zu is empty", c + 1);
            }
            set_malloc(args, s, s->specs[a], &v->command);
            const char *const base = strrchr(s->specs[a], '/');
            const char *const spec = base && !strchr(s->specs[a], '@') ? base + 1 : s->specs[a];
            v->name = s->spec_count == 1 ? name_of_command(s, c)
                      : commands == 1    ? spec
                                         : joined(name_of_command(s, c), " ", spec);
        }
    }
    if (result->variant_count < 2 && s->skips_noise) {
        moda_cli_misuse(args, "there is nothing to compare: give two commands, or --allocators");
    }
}

static void make_rows(const settings *s, moda_compare_result *result) {
    for (size_t v = s->skips_noise ? 1 : 0; v < result->variant_count; v++) {
        moda_compare_row *row = &result->row[result->row_count++];
        row->variant = v;
    }
}

/* ---- counted runs and warm-up ---- */

static void fail_variant(moda_compare_variant *v, const char *why) {
    v->has_failed = true;
    snprintf(v->failure, sizeof v->failure, "%s", why);
}

static bool has_same_output(const moda_compare_run *a, const moda_compare_run *b) {
    return a->output_size == b->output_size && a->output_checksum == b->output_checksum;
}

/* Runs the variant as often as it must before it is measured; what it counts and writes is kept. */
static void prepare_variant(const moda_compare_runner *runner, const settings *s, moda_compare_variant *v,
                            moda_compare_run *first) {
    const uint64_t counted = v->command.has_counters && !s->skips_counts ? COUNTED_RUNS : 0;
    const uint64_t runs = counted > s->warm_ups ? counted : s->warm_ups;
    for (uint64_t i = 0; i < (runs ? runs : s->checks_output) && !v->has_failed; i++) {
        moda_compare_counts counts;
        moda_compare_command command = v->command;
        command.has_counters = i < counted;
        moda_compare_run run = moda_compare_run_counted(runner, &command, &counts);
        if (!run.is_done) {
            fail_variant(v, run.failure);
        } else if (i > 0 && s->checks_output && !has_same_output(&run, first)) {
            fail_variant(v, "two runs of it write different things to standard output");
        }
        if (i == 0) {
            *first = run;
            v->counts = counts;
        } else if (i < counted) {
            for (int m = 0; m < MODA_COMPARE_EXACTS; m++) {
                v->varies[m] |= !counts.is_known || counts.value[m] != v->counts.value[m];
            }
        }
    }
}

/* Of the variants that are worth it: a command that fails by itself is not asked again. */
static void count_instructions(const moda_cli_args *args, moda_compare_result *result) {
    for (size_t i = 0; i < result->variant_count; i++) {
        moda_compare_variant *v = &result->variant[i];
        moda_compare_run run;
        if (!v->has_failed && !moda_compare_count_instructions(&v->command, v->instructions, &run)) {
            moda_cli_say(args, "%s: Valgrind did not count instructions: %s", v->name,
                         run.is_done ? "it does not say how many" : run.failure);
        }
    }
}

static void prepare(const moda_compare_runner *runner, const settings *s, moda_compare_result *result,
                    moda_compare_run *first_of_base) {
    for (size_t i = 0; i < result->variant_count; i++) {
        moda_compare_variant *v = &result->variant[i];
        moda_compare_run first;
        prepare_variant(runner, s, v, i == 0 ? first_of_base : &first);
        if (i > 0 && !v->has_failed && s->checks_output && !result->variant[0].has_failed
            && !has_same_output(&first, first_of_base)) {
            fail_variant(v, "its standard output differs from that of the first command");
        }
    }
}

/* ---- rounds ---- */

static void grow_row(moda_compare_row *row) {
    if (row->pairs & (row->pairs - 1)) {
        return; /* room is doubled at each power of two */
    }
    const size_t room = row->pairs ? 2 * row->pairs : 1;
    for (int m = 0; m < MODA_COMPARE_MEASUREDS; m++) {
        double **const arrays[] = {&row->base[m], &row->value[m], &row->ratio[m]};
        for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
            *arrays[i] = realloc(*arrays[i], room * sizeof(double));
            if (!*arrays[i]) {
                moda_cli_fail(NULL, MODA_CLI_MISUSE, "out of memory");
            }
        }
    }
}

static void drop_pair(moda_compare_row *row, const char *name, const char *why) {
    row->dropped++;
    snprintf(row->last_failure, sizeof row->last_failure, "%.40s: %.250s", name, why);
}

static void add_pair(const settings *s, const moda_compare_result *result, moda_compare_row *row,
                     const moda_compare_run *base, const moda_compare_run *other,
                     const moda_compare_run *reference) {
    const char *const other_name = result->variant[row->variant].name;
    if (!base->is_done || !other->is_done) {
        const moda_compare_run *const bad = base->is_done ? other : base;
        drop_pair(row, bad == base ? result->variant[0].name : other_name, bad->failure);
        return;
    }
    if (s->checks_output && !(has_same_output(base, reference) && has_same_output(other, reference))) {
        drop_pair(row, other_name, "standard output differs");
        return;
    }
    grow_row(row);
    for (int m = 0; m < MODA_COMPARE_MEASUREDS; m++) {
        const double ratio = moda_compare_ratio(other->measured[m], base->measured[m]);
        row->base[m][row->pairs] = base->measured[m];
        row->value[m][row->pairs] = other->measured[m];
        if (isfinite(ratio)) {
            row->ratio[m][row->estimate[m].n++] = ratio;
        }
    }
    row->pairs++;
}

/* The user's Ctrl-C ends the measuring; what is there is shown. */
static volatile sig_atomic_t is_stopped;

static void stop(int signal) {
    (void)signal;
    is_stopped = 1;
}

/* One pair of each row, in an order that is shuffled anew. */
static void run_round(const moda_compare_runner *runner, const settings *s, moda_compare_result *result,
                      const moda_compare_run *reference, const bool *base_is_first, uint64_t *random) {
    size_t order[MODA_COMPARE_VARIANTS_MAX];
    for (size_t i = 0; i < result->row_count; i++) {
        const size_t j = (size_t)moda_compare_random_below(random, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (size_t i = 0; i < result->row_count; i++) {
        moda_compare_row *row = &result->row[order[i]];
        const moda_compare_variant *base = &result->variant[0], *other = &result->variant[row->variant];
        if (base->has_failed || other->has_failed) {
            continue;
        }
        const bool first = base_is_first[order[i]];
        moda_compare_run runs[2];
        moda_compare_run_pair(runner, first ? &base->command : &other->command,
                              first ? &other->command : &base->command, result->is_together, runs);
        if (is_stopped) { /* the commands had the signal, too */
            return;
        }
        add_pair(s, result, row, &runs[!first], &runs[first], reference);
    }
}

static double median_of(const double *values, size_t n) {
    double *copy = malloc((n + 1) * sizeof *copy);
    size_t known = 0;
    for (size_t i = 0; copy && i < n; i++) {
        if (isfinite(values[i])) {
            copy[known++] = values[i];
        }
    }
    const double median = moda_compare_median(copy, known);
    free(copy);
    return median;
}

static void estimate_rows(moda_compare_result *result, int first_metric, int last_metric) {
    for (size_t i = 0; i < result->row_count; i++) {
        moda_compare_row *row = &result->row[i];
        for (int m = first_metric; m <= last_metric; m++) {
            const size_t n = row->estimate[m].n;
            row->estimate[m] = moda_compare_estimate_of(row->ratio[m], n);
            row->median[m] = median_of(row->value[m], row->pairs);
            row->base_median[m] = median_of(row->base[m], row->pairs);
        }
    }
    const moda_compare_row *noise = moda_compare_noise(result);
    for (size_t i = 0; i < result->row_count; i++) {
        moda_compare_row *row = &result->row[i];
        for (int m = first_metric; m <= last_metric; m++) {
            row->verdict[m] =
                moda_compare_judge(&row->estimate[m], noise && noise != row ? &noise->estimate[m] : NULL);
        }
    }
}

/* The widest interval of user+sys: what --until waits for. */
static double widest(const moda_compare_result *result) {
    double width = 0;
    for (size_t i = 0; i < result->row_count; i++) {
        if (!result->variant[result->row[i].variant].has_failed) {
            width = fmax(width, moda_compare_half_width(&result->row[i].estimate[MODA_COMPARE_CPU]));
        }
    }
    return width;
}

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- progress ---- */

/* The interval shrinks with the square root of the number of pairs; so the work left can be told. */
static double share_done(const settings *s, uint64_t rounds, double elapsed, double width) {
    double share = (double)rounds / (double)s->pairs;
    if (s->until > 0) {
        const double narrow = isfinite(width) && width > 0 ? (s->until / width) * (s->until / width) : 0;
        share = fmin(share, width > 0 ? narrow : share);
    }
    if (s->time_seconds) {
        share = fmax(share, elapsed / (double)s->time_seconds);
    }
    return fmin(share, 1);
}

static void show_progress(const settings *s, const moda_compare_result *result, uint64_t rounds,
                          double elapsed, double width) {
    enum { BAR = 24 };
    const double share = share_done(s, rounds, elapsed, width);
    const int full = (int)(share * BAR);
    fprintf(stderr, "\r\033[K[%.*s%.*s] %llu pairs", full, "########################", BAR - full,
            "........................", (unsigned long long)rounds);
    const moda_compare_row *last = result->row_count ? &result->row[result->row_count - 1] : NULL;
    if (last && isfinite(width) && last->estimate[MODA_COMPARE_CPU].n) {
        fprintf(stderr, "  user+sys %.4f +- %.2f %%", last->estimate[MODA_COMPARE_CPU].median, 100 * width);
    }
    if (share > 0.02) {
        const long left = lround(elapsed / share - elapsed);
        fprintf(stderr, "  %ld:%02ld left", left / 60, left % 60);
    }
    fflush(stderr);
}

static void measure(const moda_compare_runner *runner, const settings *s, moda_compare_result *result,
                    const moda_compare_run *reference) {
    const bool shows_progress = !s->is_quiet && isatty(STDERR_FILENO);
    const double start = now_seconds();
    uint64_t random = result->seed;
    bool base_is_first[MODA_COMPARE_VARIANTS_MAX] = {false};
    bool can_run = false;
    for (size_t i = 0; i < result->row_count; i++) {
        can_run |= !result->variant[0].has_failed && !result->variant[result->row[i].variant].has_failed;
    }
    struct sigaction before;
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, &before);
    for (uint64_t round = 0; can_run && round < PAIRS_MAX && !is_stopped; round++) {
        for (size_t i = 0; i < result->row_count; i++) {
            base_is_first[i] = round % 2 ? !base_is_first[i] : moda_compare_random(&random) & 1;
        }
        run_round(runner, s, result, reference, base_is_first, &random);
        if (s->until > 0 || shows_progress) {
            estimate_rows(result, MODA_COMPARE_CPU, MODA_COMPARE_CPU);
        }
        const double elapsed = now_seconds() - start, width = widest(result);
        if (shows_progress) {
            show_progress(s, result, round + 1, elapsed, width);
        }
        if ((s->time_seconds && elapsed >= (double)s->time_seconds)
            || (round + 1 >= s->pairs && (s->until <= 0 || width <= s->until))) {
            break;
        }
    }
    sigaction(SIGINT, &before, NULL);
    if (shows_progress) {
        fputs("\r\033[K", stderr);
    }
    estimate_rows(result, 0, MODA_COMPARE_MEASUREDS - 1);
    result->half_width = widest(result);
    result->is_stopped = is_stopped;
    result->elapsed_seconds = now_seconds() - start;
}

/* ---- the end ---- */

typedef void writer(const moda_compare_result *result, FILE *out);

static void write_file(const moda_cli_args *args, const moda_compare_result *result, const char *path,
                       writer *write) {
    if (!path) {
        return;
    }
    const bool is_stdout = strcmp(path, "-") == 0;
    FILE *out = is_stdout ? stdout : fopen(path, "w");
    if (!out) {
        moda_cli_fail(args, MODA_CLI_MISUSE, "%s: %s", path, strerror(errno));
    }
    write(result, out);
    const bool is_bad = fflush(out) != 0 || ferror(out);
    if ((!is_stdout && fclose(out) != 0) || is_bad) {
        moda_cli_fail(args, MODA_CLI_MISUSE, "%s: %s", path, strerror(errno));
    }
}

static int check_limits(const moda_cli_args *args, const moda_compare_result *result) {
    int status = MODA_CLI_DONE;
    for (size_t l = 0; l < result->limit_count; l++) {
        for (size_t r = 0; r < result->row_count; r++) {
            const moda_compare_row *row = &result->row[r];
            double ratio;
            if (row->variant == 0 || result->variant[row->variant].has_failed) {
                continue;
            }
            const char *const name = result->variant[row->variant].name, *const limit = result->limit[l].text;
            const bool is_kept = moda_compare_keeps_limit(result, &result->limit[l], row, &ratio);
            if (isnan(ratio)) { /* a gate that nobody looked through is not open */
                moda_cli_say(args, "%s: the limit %s cannot be checked: not measured", name, limit);
            } else if (!is_kept) {
                moda_cli_say(args, "%s: the ratio is %.4f, the limit is %s", name, ratio, limit);
            }
            if (!is_kept) {
                status = MODA_CLI_TROUBLE;
            }
        }
    }
    return status;
}

static int check_failures(const moda_cli_args *args, const moda_compare_result *result) {
    int status = MODA_CLI_DONE;
    for (size_t i = 0; i < result->variant_count; i++) {
        if (result->variant[i].has_failed) {
            moda_cli_say(args, "%s is not measured: %s", result->variant[i].name, result->variant[i].failure);
            status = MODA_CLI_TROUBLE;
        }
    }
    for (size_t r = 0; r < result->row_count; r++) {
        if (result->row[r].dropped) {
            moda_cli_say(args, "%zu of %zu pairs of %s are left out; the last of them: %s",
                         result->row[r].dropped, result->row[r].dropped + result->row[r].pairs,
                         result->variant[result->row[r].variant].name, result->row[r].last_failure);
            status = MODA_CLI_TROUBLE;
        }
    }
    return status;
}

static void finish_settings(const moda_cli_args *args, settings *s) {
    if (args->operand_count < 1) {
        moda_cli_misuse(args, "no command is given");
    }
    if (args->operand_count > COMMANDS_MAX) {
        moda_cli_misuse(args, "more than %d commands; quote each command: 'PROGRAM ARG...'", COMMANDS_MAX);
    }
    if (s->spec_count == 0) {
        s->specs[s->spec_count++] = "counters";
    }
    if (s->until > 0 && s->time_seconds == 0) {
        s->time_seconds = 300;
    }
}

int moda_cli_compare(int argc, char **argv) {
    static moda_compare_result result; /* too large for the stack */
    settings s = {.pairs = 20, .warm_ups = 1, .seed = 1, .core = -1};
    moda_cli_args args = moda_cli_args_begin(MODA_CLI_COMMAND_compare, argc, argv);
    for (int option; (option = moda_cli_args_next(&args)) >= 0;) {
        take_option(&args, option, &s, &result);
    }
    finish_settings(&args, &s);
    make_variants(&args, &s, &result);
    make_rows(&s, &result);
    result.seed = s.seed;
    result.until = s.until;
    result.is_together = !s.in_turns;
    result.core = choose_core(&args, &s);
    result.has_instructions = moda_compare_can_count_instructions();

    const moda_compare_runner runner = {
        .core = result.core, .keeps_output = s.checks_output, .has_instructions = result.has_instructions};
    moda_compare_run reference = {.is_done = false};
    prepare(&runner, &s, &result, &reference);
    if (s.counts_instructions && !result.has_instructions) {
        count_instructions(&args, &result);
    }
    measure(&runner, &s, &result, &reference);

    if (!s.is_quiet) {
        moda_compare_write_text(&result, stdout);
        fflush(stdout);
    }
    write_file(&args, &result, s.json_path, moda_compare_write_json);
    write_file(&args, &result, s.csv_path, moda_compare_write_csv);
    write_file(&args, &result, s.markdown_path, moda_compare_write_markdown);
    write_file(&args, &result, s.plot_path, moda_compare_write_svg);
    const int failures = result.is_stopped ? MODA_CLI_TROUBLE : check_failures(&args, &result);
    const int limits = check_limits(&args, &result);
    return failures > limits ? failures : limits;
}
