/* SPDX-License-Identifier: MIT
 *
 * library.c - where is the libmod_alloc.so that belongs to this mod-alloc?
 *
 * Relative to the executable first, so that a build tree and a copied installation use their own.
 */
#include "cli/library.h"

#include "cli/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MODA_CLI_LIBRARY_NAME
#define MODA_CLI_LIBRARY_NAME "libmod_alloc.so"
#endif

/* From the executable's directory: where the build says that it installs, and as in the build tree. */
static const char *const places[] = {MODA_CLI_INSTALLED_FROM_BIN, "../lib", "."};

static void use(const moda_cli_args *args, const char *source, const char *name, char path[PATH_MAX]) {
    if (realpath(name, path) == NULL || access(path, R_OK) != 0) {
        moda_cli_fail(args, MODA_CLI_MISUSE, "%s: '%s': %s", source, name, strerror(errno));
    }
    /* The dynamic linker preloads any library, and the program would run unprofiled. */
    if (!moda_cli_is_mod_alloc(path)) {
        moda_cli_fail(
            args, MODA_CLI_MISUSE,
            "%s: '%s' is no library of mod-alloc: a shared library that defines " MODA_CLI_OUR_SYMBOL
            " is expected",
            source, name);
    }
}

void moda_cli_find_library(const moda_cli_args *args, const char *named, char path[PATH_MAX]) {
    const char *const variable = getenv("MOD_ALLOC_LIBRARY");
    if (named != NULL) {
        use(args, "--library", named, path);
        return;
    }
    if (variable != NULL && variable[0] != '\0') {
        use(args, "MOD_ALLOC_LIBRARY", variable, path);
        return;
    }
    char self[PATH_MAX], candidate[2 * PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    char *const slash = strrchr(self, '/');
    if (slash != NULL) {
        *slash = '\0';
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            snprintf(candidate, sizeof candidate, "%s/%s/%s", self, places[i], MODA_CLI_LIBRARY_NAME);
            if (realpath(candidate, path) != NULL && access(path, R_OK) == 0) {
                return;
            }
        }
    }
    snprintf(candidate, sizeof candidate, "%s/%s", MODA_CLI_LIBRARY_DIRECTORY, MODA_CLI_LIBRARY_NAME);
    if (realpath(candidate, path) == NULL || access(path, R_OK) != 0) {
        moda_cli_misuse(args, "there is no %s beside mod-alloc or in %s: name it with --library",
                        MODA_CLI_LIBRARY_NAME, MODA_CLI_LIBRARY_DIRECTORY);
    }
}
