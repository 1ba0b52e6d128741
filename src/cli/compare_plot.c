/* SPDX-License-Identifier: MIT
 *
 * compare_plot.c - draws the ratios of user+sys time, pair by pair, as SVG.
 *
 * Called by cmd_compare.c at the end. One strip a variant: a dot for each pair, the 95 % interval of the
 * median as a bar, the median as a stroke; a line at 1. The axis is logarithmic where the medians lie
 * further apart than a factor of 2. Nothing but shapes and text, in a style sheet that follows the
 * reader's light or dark background.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <math.h>
#include <string.h>

#include "cli/compare.h"

enum { WIDTH = 860, LEFT = 190, RIGHT = 190, TOP = 54, STRIP = 44, BOTTOM = 46, TICKS_MAX = 12 };

typedef struct axis {
    double low, high;
    bool is_log;
} axis;

static double place(const axis *a, double ratio) {
    const double share =
        a->is_log ? log(ratio / a->low) / log(a->high / a->low) : (ratio - a->low) / (a->high - a->low);
    return LEFT + fmin(fmax(share, 0), 1) * (WIDTH - LEFT - RIGHT);
}

/* Wide enough for all intervals and the middle 90 % of pairs of each row; outliers stick to the edge. */
static axis axis_of(const moda_compare_result *result, int metric) {
    axis a = {.low = 0.99, .high = 1.01};
    for (size_t r = 0; r < result->row_count; r++) {
        const moda_compare_row *row = &result->row[r];
        const size_t n = row->estimate[metric].n;
        if (n == 0) {
            continue;
        }
        a.low = fmin(a.low, row->estimate[metric].low);
        a.high = fmax(a.high, row->estimate[metric].high);
        for (size_t i = 0; i < n; i++) {
            const double ratio = row->ratio[metric][i];
            size_t below = 0, above = 0;
            for (size_t k = 0; k < n; k++) {
                below += row->ratio[metric][k] < ratio;
                above += row->ratio[metric][k] > ratio;
            }
            if (20 * below >= n && ratio < a.low) {
                a.low = ratio;
            }
            if (20 * above >= n && ratio > a.high) {
                a.high = ratio;
            }
        }
    }
    a.is_log = a.high / a.low > 2;
    const double margin = a.is_log ? 0 : 0.05 * (a.high - a.low);
    a.low = a.is_log ? a.low / 1.1 : a.low - margin;
    a.high = a.is_log ? a.high * 1.1 : a.high + margin;
    return a;
}

static void escaped(FILE *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        default: fputc((unsigned char)*text < ' ' ? ' ' : *text, out); break;
        }
    }
}

/* 1, 2 or 5 times a power of ten, so that at most TICKS_MAX fit. */
static double step_of(double span) {
    const double power = pow(10, floor(log10(span / (TICKS_MAX - 4))));
    const double rest = span / (TICKS_MAX - 4) / power;
    return power * (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10);
}

static void tick(FILE *out, const axis *a, double ratio, int bottom, int digits) {
    const double x = place(a, ratio);
    fprintf(out, "<path class='grid' d='M%.1f %dV%d'/><text x='%.1f' y='%d' class='middle'>%.*f</text>\n", x,
            TOP - 8, bottom, x, bottom + 18, digits, ratio);
}

static void draw_ticks(FILE *out, const axis *a, int bottom) {
    static const double factors[] = {1, 2, 5};
    if (a->is_log) {
        for (int power = -3; power <= 4; power++) {
            for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
                const double ratio = factors[i] * pow(10, power);
                if (ratio >= a->low && ratio <= a->high) {
                    tick(out, a, ratio, bottom, power < 0 ? -power : 0);
                }
            }
        }
        return;
    }
    const double step = step_of(a->high - a->low);
    const int digits = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
    const long last = (long)floor(a->high / step);
    for (long i = (long)ceil(a->low / step); i <= last; i++) {
        tick(out, a, (double)i * step, bottom, digits);
    }
}

/* Dots lie in order of time from the top of the strip to its bottom: a drift would show. */
static void draw_row(FILE *out, const axis *a, const moda_compare_result *result, const moda_compare_row *row,
                     int metric, double top) {
    const moda_compare_estimate *e = &row->estimate[metric];
    const double middle = top + STRIP / 2.0;
    fprintf(out, "<text x='%d' y='%.1f' class='end'>", LEFT - 14, middle + 4);
    escaped(out, result->variant[row->variant].name);
    fprintf(out, "%s</text>\n", row->variant == 0 ? " (A/A)" : "");
    if (e->n == 0) {
        fprintf(out, "<text x='%d' y='%.1f'>not measured</text>\n", LEFT, middle + 4);
        return;
    }
    for (size_t i = 0; i < e->n; i++) {
        fprintf(out, "<circle cx='%.1f' cy='%.1f' r='2.2'/>\n", place(a, row->ratio[metric][i]),
                top + 6 + (STRIP - 12) * ((double)i + 0.5) / (double)e->n);
    }
    const double low = place(a, e->low), high = place(a, e->high), median = place(a, e->median);
    fprintf(out, "<rect class='interval' x='%.1f' y='%.1f' width='%.1f' height='12'/>\n", low, middle - 6,
            fmax(high - low, 1));
    fprintf(out, "<path class='median' d='M%.1f %.1fV%.1f'/>\n", median, middle - 11, middle + 11);
    fprintf(out, "<text x='%d' y='%.1f'>%.4f  [%.4f, %.4f]</text>\n", WIDTH - RIGHT + 14, middle + 4,
            e->median, e->low, e->high);
}

void moda_compare_write_svg(const moda_compare_result *result, FILE *out) {
    const int metric = MODA_COMPARE_CPU;
    const axis a = axis_of(result, metric);
    const int bottom = TOP + STRIP * (int)result->row_count, height = bottom + BOTTOM;
    fprintf(out,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d'"
            " font-family='sans-serif' font-size='12'>\n"
            "<style>text{fill:#222}circle{fill:#4477aa;fill-opacity:.35}.grid{stroke:#ddd}.one{stroke:#222}"
            ".interval{fill:#cc6677;fill-opacity:.6}.median{stroke:#882255;stroke-width:2}"
            ".middle{text-anchor:middle}.end{text-anchor:end}.title{font-size:14px;font-weight:bold}"
            ".back{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}"
            ".one{stroke:#ddd}.back{fill:#1b1b1b}.median{stroke:#ff99bb}}</style>\n"
            "<rect class='back' width='%d' height='%d'/>\n<text x='14' y='24' class='title'>",
            WIDTH, height, WIDTH, height, WIDTH, height);
    escaped(out, moda_compare_measured_metrics[metric].title);
    fputs(", ratio to ", out);
    escaped(out, result->variant[0].name);
    fputs(": one dot a pair, bar = 95 % interval of the median</text>\n", out);
    draw_ticks(out, &a, bottom);
    fprintf(out, "<path class='one' d='M%.1f %dV%d'/>\n", place(&a, 1), TOP - 8, bottom);
    for (size_t r = 0; r < result->row_count; r++) {
        draw_row(out, &a, result, &result->row[r], metric, TOP + STRIP * (double)r);
    }
    fputs("</svg>\n", out);
}
