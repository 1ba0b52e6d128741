/* SPDX-License-Identifier: MIT
 *
 * filter.c - which frames a set of regular expressions means. build.c asks once for each distinct frame, so a
 * slow expression costs by the number of names, not of sites.
 */
#include "report/filter.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

struct moda_filter {
    size_t count;
    regex_t expressions[];
};

moda_filter *moda_filter_new(const char *const *patterns, size_t count, moda_error *error) {
    moda_filter *const filter = calloc(1, sizeof *filter + count * sizeof filter->expressions[0]);
    if (filter == NULL) {
        moda_error_set(error, "filter: not enough memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        const int code = regcomp(&filter->expressions[i], patterns[i], REG_EXTENDED | REG_NOSUB);
        if (code == 0) {
            filter->count++;
            continue;
        }
        char why[128];
        regerror(code, &filter->expressions[i], why, sizeof why);
        moda_error_set(error, "filter '%s': %s, expected a POSIX extended regular expression", patterns[i],
                       why);
        moda_filter_free(filter);
        return NULL;
    }
    return filter;
}

void moda_filter_free(moda_filter *filter) {
    if (filter == NULL)
        return;
    for (size_t i = 0; i < filter->count; i++)
        regfree(&filter->expressions[i]);
    free(filter);
}

bool moda_filter_matches(const moda_filter *filter, const moda_frame *frame, const char *module_path) {
    char place[4200] = "";
    if (frame->file != NULL)
        snprintf(place, sizeof place, "%.4000s:%u", frame->file, frame->line);
    for (size_t i = 0; i < filter->count; i++) {
        const regex_t *const expression = &filter->expressions[i];
        if (regexec(expression, frame->function, 0, NULL, 0) == 0)
            return true;
        if (place[0] != 0 && regexec(expression, place, 0, NULL, 0) == 0)
            return true;
        if (module_path != NULL && regexec(expression, module_path, 0, NULL, 0) == 0)
            return true;
    }
    return false;
}
