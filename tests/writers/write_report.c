/* SPDX-License-Identifier: MIT
 *
 * write_report.c - writes a report in every format into a folder, for the scripts that open the files.
 *
 *   write_report tiny FOLDER              the tiny report made by hand
 *   write_report large:SITES FOLDER       a large one, exact
 *   write_report sampled:SITES FOLDER     a large one, as if sampled
 *   write_report PROFILE FOLDER           a recording
 */
#include "sample_report.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool write_one(const moda_report *report, const moda_writer *writer, const moda_write_options *options,
                      const char *folder, const char *stem, moda_error *error) {
    char path[4096];
    moda_out out;
    snprintf(path, sizeof path, "%s/%s.%s", folder, stem, writer->extension);
    if (!moda_out_to_path(&out, path, error))
        return false;
    const double begin = now();
    const int status = writer->write(report, options, &out, error);
    const uint64_t written = out.written;
    if (!moda_out_close(&out, error) || status != 0)
        return false;
    printf("%-12s %10llu bytes %8.3f s  %s\n", writer->name, (unsigned long long)written, now() - begin,
           path);
    return true;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "use: write_report tiny|large:SITES|sampled:SITES|PROFILE FOLDER\n");
        return 2;
    }
    moda_error error = {""};
    moda_profile *profile = NULL;
    moda_report *report;
    if (strcmp(argv[1], "tiny") == 0)
        report = sample_report_tiny();
    else if (strncmp(argv[1], "large:", 6) == 0)
        report = sample_report_large(strtoul(argv[1] + 6, NULL, 10), true);
    else if (strncmp(argv[1], "sampled:", 8) == 0)
        report = sample_report_large(strtoul(argv[1] + 8, NULL, 10), false);
    else {
        profile = moda_profile_read_file(argv[1], &error);
        report = profile != NULL ? moda_report_build(profile, NULL, &error) : NULL;
    }
    bool is_done = report != NULL;
    size_t count = 0;
    const moda_writer *const *const writers = moda_writers(&count);
    moda_write_options options;
    moda_write_options_default(&options);
    options.value = MODA_VALUE_ALLOCATED_BYTES; /* the one that the scripts compare */
    for (size_t i = 0; i < count && is_done; i++)
        is_done = write_one(report, writers[i], &options, argv[2], "report", &error);
    options.by = MODA_BY_FUNCTION;
    options.top = SIZE_MAX; /* text has 20 rows else */
    is_done = is_done && write_one(report, moda_writer_find("json"), &options, argv[2], "functions", &error)
              && write_one(report, moda_writer_find("csv"), &options, argv[2], "functions", &error)
              && write_one(report, moda_writer_find("text"), &options, argv[2], "functions", &error);
    options.value = MODA_VALUE_AT_PEAK_BYTES;
    is_done = is_done && write_one(report, moda_writer_find("html"), &options, argv[2], "functions", &error);
    if (!is_done)
        fprintf(stderr, "write_report: %s\n", error.text);
    if (report != NULL && profile == NULL)
        sample_report_free(report);
    else
        moda_report_free(report);
    moda_profile_free(profile);
    return is_done ? 0 : 1;
}
