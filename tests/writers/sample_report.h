/* SPDX-License-Identifier: MIT
 *
 * sample_report.h - reports made by hand, so that writers are tested without a recording: a tiny one with every
 * awkward case (golden files are made of it), and large ones to look at and to time.
 */
#ifndef MODA_TESTS_SAMPLE_REPORT_H
#define MODA_TESTS_SAMPLE_REPORT_H

#include "report/report.h"

/* Six stacks: inlined frames, recursion through one address, a name with quotes, markup, ';' and bytes that are
 * no UTF-8, an address without a name, two sites that differ in nothing a viewer shows, the overflow site. */
moda_report *sample_report_tiny(void);

/* `sites` stacks from a seeded generator: C++-like names, 3 to 40 frames, sizes and lives over many decades. */
moda_report *sample_report_large(size_t sites, bool is_exact);

/* Both end the program where there is no memory. */
void sample_report_free(moda_report *report);

#endif
