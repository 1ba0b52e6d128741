/* SPDX-License-Identifier: MIT
 *
 * words.h - the words that options of options.def choose from, where several options share them.
 *
 * They are those of the report library (its writers, its groups of rows, the short forms of its values): a
 * test gives each of them to `mod-alloc report`.
 */
#ifndef MODA_CLI_WORDS_H
#define MODA_CLI_WORDS_H

#define MODA_CLI_FORMATS "text|dhat|pprof|heap_v2|folded|speedscope|json|csv|html"
#define MODA_CLI_DIFF_FORMATS "text|json|csv|folded"
#define MODA_CLI_SUFFIXES ".html .csv .json .txt .folded .pb.gz .heap .dhat.json .speedscope.json"
#define MODA_CLI_GROUPS "site|function|file|module|thread"
#define MODA_CLI_VALUES "allocated|count|live|peak|own_peak|requested|waste|freed|temporary|remote|lifetime"

#endif
