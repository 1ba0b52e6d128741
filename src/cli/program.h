/* SPDX-License-Identifier: MIT
 *
 * program.h - can a library be preloaded into this program? If not: why, and what to do instead. Is a library ours?
 */
#ifndef MODA_CLI_PROGRAM_H
#define MODA_CLI_PROGRAM_H

#include <limits.h>
#include <stdbool.h>

/* What every mod-alloc defines, and nothing else. */
#define MODA_CLI_OUR_SYMBOL "mod_alloc_snapshot"

typedef struct moda_cli_program {
    char path[PATH_MAX]; /* the file that execvp would run */
    bool has_mod_alloc;  /* mod-alloc is linked into it statically: nothing need be preloaded */
    int status;          /* 0, or what mod-alloc exits with: 2, 126, 127 */
    char why[1024];      /* if not 0: one line */
    char instead[512];   /* and what to do about it; may be "" */
} moda_cli_program;

/* Looks `name` up as execvp does, follows #! lines, reads the ELF file. `library` is the libmod_alloc.so that
 * would be preloaded. True if the program can be profiled. */
bool moda_cli_program_check(moda_cli_program *program, const char *name, const char *library);

/* Is it a shared library that mod-alloc is in? By its symbols: none of its code runs. */
bool moda_cli_is_mod_alloc(const char *path);

#endif
