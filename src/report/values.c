/* SPDX-License-Identifier: MIT
 *
 * values.c - the values of a row: their names, how they add up, and how sure an estimate is.
 */
#include "report/report.h"

#include "region/layout.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

const moda_value_info moda_value_infos[MODA_VALUE_COUNT] = {
#define INFO(name, key_, unit_, rule_, label_)                                                               \
    [MODA_VALUE_##                                                                                           \
        name] = {.key = key_, .unit = MODA_UNIT_##unit_, .rule = MODA_RULE_##rule_, .label = label_},
    MODA_VALUES(INFO)
#undef INFO
};

bool moda_error_set(moda_error *error, const char *format, ...) {
    if (error == NULL || error->text[0] != 0)
        return false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    /* One line, whatever file names and foreign bytes are in it. */
    for (char *at = error->text; *at != 0; at++)
        if ((unsigned char)*at < 32 || *at == 127)
            *at = '?';
    return false;
}

bool moda_value_parse(const char *text, moda_value *value) {
    static const struct {
        const char *name;
        moda_value value;
    } short_forms[] = {
        {"allocated", MODA_VALUE_ALLOCATED_BYTES}, {"bytes", MODA_VALUE_ALLOCATED_BYTES},
        {"count", MODA_VALUE_ALLOCATED_COUNT},     {"allocations", MODA_VALUE_ALLOCATED_COUNT},
        {"live", MODA_VALUE_LIVE_BYTES},           {"peak", MODA_VALUE_AT_PEAK_BYTES},
        {"own_peak", MODA_VALUE_OWN_PEAK_BYTES},   {"requested", MODA_VALUE_REQUESTED_BYTES},
        {"waste", MODA_VALUE_WASTE_BYTES},         {"freed", MODA_VALUE_FREED_BYTES},
        {"temporary", MODA_VALUE_TEMPORARY_COUNT}, {"remote", MODA_VALUE_REMOTE_FREE_COUNT},
        {"lifetime", MODA_VALUE_LIFETIME_NS},
    };
    for (size_t i = 0; i < MODA_VALUE_COUNT; i++) {
        if (strcmp(text, moda_value_infos[i].key) == 0) {
            *value = (moda_value)i;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof short_forms / sizeof short_forms[0]; i++) {
        if (strcmp(text, short_forms[i].name) == 0) {
            *value = short_forms[i].value;
            return true;
        }
    }
    return false;
}

static const char *const by_names[MODA_BY_COUNT] = {
    [MODA_BY_SITE] = "site",     [MODA_BY_FUNCTION] = "function", [MODA_BY_FILE] = "file",
    [MODA_BY_MODULE] = "module", [MODA_BY_THREAD] = "thread",
};

bool moda_by_parse(const char *text, moda_by *by) {
    for (int i = 0; i < MODA_BY_COUNT; i++) {
        if (strcmp(text, by_names[i]) == 0) {
            *by = (moda_by)i;
            return true;
        }
    }
    return false;
}

const char *moda_by_name(moda_by by) {
    return (unsigned)by < MODA_BY_COUNT ? by_names[by] : "?";
}

void moda_values_clear(moda_values *values) {
    memset(values, 0, sizeof *values);
    values->of[MODA_VALUE_LIFETIME_MIN_NS] = INT64_MAX;
}

int64_t moda_values_sum(int64_t a, int64_t b) {
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum))
        return sum;
    return b > 0 ? INT64_MAX : INT64_MIN;
}

uint64_t moda_count_sum(uint64_t a, uint64_t b) {
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

void moda_values_add(moda_values *sum, const moda_values *more) {
    for (int i = 0; i < MODA_VALUE_COUNT; i++) {
        const int64_t a = sum->of[i], b = more->of[i];
        switch (moda_value_infos[i].rule) {
        case MODA_RULE_SUM: sum->of[i] = moda_values_sum(a, b); break;
        case MODA_RULE_MIN: sum->of[i] = b < a ? b : a; break;
        case MODA_RULE_MAX: sum->of[i] = b > a ? b : a; break;
        }
    }
    for (int i = 0; i < MODA_VARIANCES; i++)
        sum->variance[i] += more->variance[i];
}

double moda_values_standard_error(const moda_values *values, moda_value value) {
    int which = -1;
    double scale = 1;
    switch (value) {
    case MODA_VALUE_ALLOCATED_BYTES: which = MODA_VARIANCE_ALLOCATED_BYTES; break;
    case MODA_VALUE_ALLOCATED_COUNT: which = MODA_VARIANCE_ALLOCATED_COUNT; break;
    case MODA_VALUE_LIVE_BYTES: which = MODA_VARIANCE_LIVE_BYTES; break;
    case MODA_VALUE_LIVE_COUNT: which = MODA_VARIANCE_LIVE_COUNT; break;
    case MODA_VALUE_AT_PEAK_BYTES: which = MODA_VARIANCE_AT_PEAK_BYTES; break;
    case MODA_VALUE_AT_PEAK_COUNT: which = MODA_VARIANCE_AT_PEAK_COUNT; break;
    case MODA_VALUE_REQUESTED_BYTES:
        /* A site's requested bytes move with its block bytes: the same relative error. */
        which = MODA_VARIANCE_ALLOCATED_BYTES;
        scale = values->of[MODA_VALUE_ALLOCATED_BYTES] > 0
                    ? (double)values->of[value] / (double)values->of[MODA_VALUE_ALLOCATED_BYTES]
                    : 0;
        break;
    case MODA_VALUE_SAMPLES:
    case MODA_VALUE_FREED_SAMPLES: return 0; /* counted, not estimated */
    default: break;
    }
    if (which >= 0)
        return sqrt(values->variance[which]) * scale;
    return values->variance[MODA_VARIANCE_ALLOCATED_COUNT] > 0 ? -1 : 0;
}

double moda_values_mean_lifetime_ns(const moda_values *values) {
    const int64_t count = values->of[MODA_VALUE_LIFETIME_COUNT];
    return count > 0 ? (double)values->of[MODA_VALUE_LIFETIME_NS] / (double)count : 0;
}

const char *moda_base_name(const char *path) {
    const char *const slash = strrchr(path, '/');
    return slash != NULL && slash[1] != 0 ? slash + 1 : path;
}

char *moda_human_bytes(char *text, int64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    const char *const sign = bytes < 0 ? "-" : "";
    double value = fabs((double)bytes);
    size_t unit = 0;
    while (value >= 1023.995 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(text, MODA_HUMAN_SIZE, "%s%.0f B", sign, value);
    else
        snprintf(text, MODA_HUMAN_SIZE, "%s%.*f %s", sign,
                 value < 9.995   ? 2
                 : value < 99.95 ? 1
                                 : 0,
                 value, units[unit]);
    return text;
}

char *moda_human_count(char *text, int64_t count) {
    char digits[24];
    snprintf(digits, sizeof digits, "%llu",
             count < 0 ? 0ull - (unsigned long long)count : (unsigned long long)count);
    const size_t length = strlen(digits);
    char *to = text;
    if (count < 0)
        *to++ = '-';
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return text;
}

char *moda_human_ns(char *text, double ns) {
    static const struct {
        double unit;
        const char *name;
    } units[] = {{86400e9, "d"}, {3600e9, "h"}, {60e9, "min"}, {1e9, "s"}, {1e6, "ms"}, {1e3, "us"}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ns < units[i].unit)
            continue;
        const double value = ns / units[i].unit;
        snprintf(text, MODA_HUMAN_SIZE, "%.*f %s",
                 value < 9.995   ? 2
                 : value < 99.95 ? 1
                                 : 0,
                 value, units[i].name);
        return text;
    }
    snprintf(text, MODA_HUMAN_SIZE, "%.0f ns", ns);
    return text;
}

char *moda_human_value(char *text, moda_unit unit, int64_t value) {
    switch (unit) {
    case MODA_UNIT_BYTES: return moda_human_bytes(text, value);
    case MODA_UNIT_NS: return moda_human_ns(text, (double)value);
    case MODA_UNIT_COUNT: break;
    }
    return moda_human_count(text, value);
}

bool moda_report_estimates_lives(const moda_report *report) {
    bool times_all = true;
    for (size_t i = 0; i < report->profile->process_count; i++) {
        times_all = times_all && report->profile->processes[i].times_all_lives;
    }
    bool is_estimate = false;
    for (size_t i = 0; i < report->stack_count && report->profile->is_exact && !times_all; i++) {
        const moda_values *const values = &report->stacks[i].values;
        is_estimate = is_estimate
                      || (values->of[MODA_VALUE_ALLOCATED_COUNT] > MODA_LIVES_ALL
                          && values->of[MODA_VALUE_LIFETIME_COUNT] > 0);
    }
    return is_estimate;
}
