/* SPDX-License-Identifier: MIT
 *
 * writers.c - the table of writers. A new format is one file write_<name>.c and one row in writers.def.
 */
#include "report/report.h"

#include <string.h>

#define WRITER(name) extern const moda_writer moda_writer_##name;
#include "report/writers.def"
#undef WRITER

static const moda_writer *const table[] = {
#define WRITER(name) &moda_writer_##name,
#include "report/writers.def"
#undef WRITER
};

const moda_writer *const *moda_writers(size_t *count) {
    *count = sizeof table / sizeof table[0];
    return table;
}

const moda_writer *moda_writer_find(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

/* Most who look at a profile ask what filled the memory when it was fullest. */
void moda_write_options_default(moda_write_options *options) {
    *options = (moda_write_options){.by = MODA_BY_SITE, .value = MODA_VALUE_AT_PEAK_BYTES};
}
