/* SPDX-License-Identifier: MIT
 *
 * compare_run.h - starts commands, alone or two at the same moment on one core, and measures them.
 *
 * Called by cmd_compare.c, on one thread. Memory: malloc's.
 */
#ifndef MODA_CLI_COMPARE_RUN_H
#define MODA_CLI_COMPARE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum moda_compare_exact {
#define EXACT(name, key, counter, unit) MODA_COMPARE_##name,
#include "cli/compare_metrics.def"
    MODA_COMPARE_EXACTS
} moda_compare_exact;

typedef enum moda_compare_measured {
#define MEASURED(name, key, title, unit) MODA_COMPARE_##name,
#include "cli/compare_metrics.def"
    MODA_COMPARE_MEASUREDS
} moda_compare_measured;

/* A command as it is started: its words, and what is set in its environment. */
typedef struct moda_compare_command {
    const char *text;
    char **words;        /* NULL-terminated; "/bin/sh -c text" where only a shell can tell */
    const char *preload; /* an object for LD_PRELOAD, or NULL */
    char **settings;     /* NULL-terminated "NAME=VALUE" */
    bool has_counters;   /* the preloaded object is mod-alloc */
} moda_compare_command;

/* How commands are started. */
typedef struct moda_compare_runner {
    int core;               /* both of a pair run on it; -1 = where the system likes */
    bool keeps_output;      /* standard output is kept and its checksum made, else it goes to /dev/null */
    bool has_instructions;  /* the machine counts instructions for us */
    bool is_under_valgrind; /* what it says of instructions is taken */
} moda_compare_runner;

/* One run. */
typedef struct moda_compare_run {
    bool is_done;                            /* it started and ended with status 0 */
    char failure[256];                       /* else why: one line */
    double measured[MODA_COMPARE_MEASUREDS]; /* NaN = not known */
    uint64_t output_size, output_checksum;
    double valgrind_instructions; /* NaN = not counted */
} moda_compare_run;

/* What mod-alloc counted in one run; processes that the command started are added up. */
typedef struct moda_compare_counts {
    bool is_known;
    unsigned processes; /* that wrote counters */
    uint64_t value[MODA_COMPARE_EXACTS];
} moda_compare_counts;

/* Splits `text` into words as a shell does with quotes and backslashes; hands the text to /bin/sh where it
 * has anything more (pipes, variables, wildcards ...). NULL where there is no word. Freed by free_words. */
char **moda_compare_words(const char *text);
void moda_compare_free_words(char **words);

/* False, without a word, where the kernel or the machine has no instruction counter for us. */
bool moda_compare_can_count_instructions(void);

/* Runs `first` and `second`: together, both released at the same moment, or one after the other. */
void moda_compare_run_pair(const moda_compare_runner *runner, const moda_compare_command *first,
                           const moda_compare_command *second, bool together, moda_compare_run result[2]);

/* Runs the command once with its counters written to a file. */
moda_compare_run moda_compare_run_counted(const moda_compare_runner *runner,
                                          const moda_compare_command *command, moda_compare_counts *counts);

/* Runs the command twice under Valgrind, both at a time: the instructions of all its processes, the least and
 * the most, with one seed for mod-alloc's sampler. False with NaN where that did not work; why is in `run`. */
bool moda_compare_count_instructions(const moda_compare_command *command, double counts[2],
                                     moda_compare_run *run);

#endif
