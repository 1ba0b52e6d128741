/* SPDX-License-Identifier: MIT
 *
 * filter.h - regular expressions over frames; between filter.c and build.c.
 */
#ifndef MODA_REPORT_FILTER_H
#define MODA_REPORT_FILTER_H

#include "report/report.h"

typedef struct moda_filter moda_filter;

/* POSIX extended expressions; NULL with a message that quotes the bad one and says why. */
moda_filter *moda_filter_new(const char *const *patterns, size_t count, moda_error *error);
void moda_filter_free(moda_filter *filter);
/* Whether one of them matches the frame's function, "file:line" or module path. */
bool moda_filter_matches(const moda_filter *filter, const moda_frame *frame, const char *module_path);

#endif
