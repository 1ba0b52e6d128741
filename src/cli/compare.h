/* SPDX-License-Identifier: MIT
 *
 * compare.h - the result of `mod-alloc compare`, between the code that measures and the code that shows.
 *
 * cmd_compare.c fills it; compare_show.c and compare_plot.c read it. One thread; memory is malloc's and
 * lives as long as the process.
 */
#ifndef MODA_CLI_COMPARE_H
#define MODA_CLI_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/compare_run.h"
#include "cli/compare_stats.h"

enum { MODA_COMPARE_VARIANTS_MAX = 32, MODA_COMPARE_LIMITS_MAX = 32 };

typedef enum moda_compare_unit {
    MODA_COMPARE_COUNT,
    MODA_COMPARE_BYTES,
    MODA_COMPARE_SECONDS
} moda_compare_unit;

typedef struct moda_compare_metric {
    const char *key, *title;
    moda_compare_unit unit;
} moda_compare_metric;

extern const moda_compare_metric moda_compare_exact_metrics[MODA_COMPARE_EXACTS];
extern const moda_compare_metric moda_compare_measured_metrics[MODA_COMPARE_MEASUREDS];

/* A command under a malloc. Variant 0 is what the others are compared with. */
typedef struct moda_compare_variant {
    const char *name;
    moda_compare_command command;
    bool has_failed; /* then it is not measured */
    char failure[300];
    moda_compare_counts counts;       /* of the first counted run */
    bool varies[MODA_COMPARE_EXACTS]; /* the second counted run had another value */
    double instructions[2];           /* by Valgrind, least and most of two runs; NaN = not counted */
} moda_compare_variant;

/* A variant against variant 0, pair by pair; or variant 0 against itself: the noise. */
typedef struct moda_compare_row {
    size_t variant; /* 0 = A/A */
    size_t pairs;   /* both of the pair done */
    size_t dropped; /* pairs left out because one of them failed */
    char last_failure[300];
    double *base[MODA_COMPARE_MEASUREDS]; /* pairs of them; NaN = not known */
    double *value[MODA_COMPARE_MEASUREDS];
    double *ratio[MODA_COMPARE_MEASUREDS]; /* only known ones: estimate.n of them, in order of time */
    double base_median[MODA_COMPARE_MEASUREDS], median[MODA_COMPARE_MEASUREDS];
    moda_compare_estimate estimate[MODA_COMPARE_MEASUREDS];
    moda_compare_verdict verdict[MODA_COMPARE_MEASUREDS];
} moda_compare_row;

typedef struct moda_compare_limit {
    const char *text;
    bool is_exact; /* metric is a moda_compare_exact, else a moda_compare_measured */
    int metric;
    char comparison[3]; /* <= < >= > == */
    double bound;
} moda_compare_limit;

typedef struct moda_compare_result {
    /* how */
    bool is_together; /* pairs at the same moment on one core; else in turns */
    int core;
    bool has_instructions;
    uint64_t seed;
    double until;      /* half-width asked for, as a share; 0 = not asked for */
    double half_width; /* the widest of user+sys that was reached; infinite below 6 pairs */
    bool is_stopped;   /* by the user: there are fewer pairs than asked for */
    /* what */
    size_t variant_count;
    moda_compare_variant variant[MODA_COMPARE_VARIANTS_MAX];
    size_t row_count;
    moda_compare_row row[MODA_COMPARE_VARIANTS_MAX];
    size_t limit_count;
    moda_compare_limit limit[MODA_COMPARE_LIMITS_MAX];
    double elapsed_seconds;
} moda_compare_result;

/* The A/A row, or NULL. */
const moda_compare_row *moda_compare_noise(const moda_compare_result *result);
/* Valgrind's counts against those of variant 0: NaN where one of them was not counted. */
double moda_compare_instruction_ratio(const moda_compare_result *result, const moda_compare_variant *variant);
/* The first variant with counters: what counts are compared with; NULL where none has. */
const moda_compare_variant *moda_compare_counted_base(const moda_compare_result *result);
double moda_compare_ratio(double value, double base); /* 0/0 = 1 */
/* Whether the variant keeps the limit; *ratio is what was compared: NaN, and false, where that is not known. */
bool moda_compare_keeps_limit(const moda_compare_result *result, const moda_compare_limit *limit,
                              const moda_compare_row *row, double *ratio);
/* "faster", "more", "no difference shown" ...: as fits the metric. */
const char *moda_compare_verdict_text(int measured, moda_compare_verdict verdict);
/* A value as people read it: 1,234  5.6 MiB  12.3 ms */
const char *moda_compare_human(moda_compare_unit unit, double value, char *text, size_t size);
/* Is the measured metric worth a row in the table? (wall time says nothing of two commands on one core) */
bool moda_compare_is_shown(const moda_compare_result *result, int measured);

void moda_compare_write_text(const moda_compare_result *result, FILE *out);
void moda_compare_write_markdown(const moda_compare_result *result, FILE *out);
void moda_compare_write_csv(const moda_compare_result *result, FILE *out);
void moda_compare_write_json(const moda_compare_result *result, FILE *out);
void moda_compare_write_svg(const moda_compare_result *result, FILE *out); /* compare_plot.c */

#endif
