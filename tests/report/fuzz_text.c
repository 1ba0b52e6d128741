/* SPDX-License-Identifier: MIT
 *
 * fuzz_text.c - any bytes as the texts that others write for us to read: a perf map (a line a function, by a run-time
 * compiler), suppressions, a symbol's name that is made short, a regular expression of --filter. For libFuzzer where
 * FUZZ_WITH_LIBFUZZER is defined; else `fuzz_text ROUNDS` runs a fixed series of changes to the examples below.
 */
#include "cli/leak_gate.h"
#include "report/filter.h"
#include "report/report.h"
#include "report/symbolize.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The gate's, which is not run here; writers.c would bring all writers. */
void moda_write_options_default(moda_write_options *options) {
    *options = (moda_write_options){.width = 80};
}

static char folder[] = "/tmp/moda_fuzz_text_XXXXXX";

static void remove_folder(void) {
    char path[64];
    static const char *const names[] = {"/tmp/perf-1.map", "/text", "/tmp", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s%s", folder, names[i]);
        remove(path);
    }
}

static void make_folder(void) {
    static bool is_made;
    char path[64];
    if (is_made)
        return;
    is_made = true;
    if (mkdtemp(folder) == NULL)
        abort();
    snprintf(path, sizeof path, "%s/tmp", folder);
    if (mkdir(path, 0700) != 0)
        abort();
    atexit(remove_folder);
}

static void put_file(const char *name, const uint8_t *bytes, size_t size, char *path, size_t room) {
    snprintf(path, room, "%s%s", folder, name);
    FILE *const file = fopen(path, "wbe");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        abort();
}

/* What a name says must be in the text, and the address in the name's range; only the first is checked here. */
static void read_perf_map(const uint8_t *bytes, size_t size) {
    char path[64];
    moda_error error = {.text = ""};
    put_file("/tmp/perf-1.map", bytes, size, path, sizeof path);
    const moda_symbolizer_options options = {.root = folder};
    moda_symbolizer *const symbolizer = moda_symbolizer_new(&options, &error);
    const moda_profile_process process = {.pid = 1};
    for (uint64_t address = 0; address < 0x4000; address += 0x7f) {
        const char *const name = moda_symbolizer_perf_map_name(symbolizer, &process, address);
        if (name != NULL && (*name == 0 || memmem(bytes, size, name, strlen(name)) == NULL))
            abort();
    }
    moda_symbolizer_free(symbolizer);
}

static void read_suppressions(const uint8_t *bytes, size_t size, const char *text) {
    char path[64];
    moda_error error = {.text = ""};
    moda_cli_suppressions suppressions = {.row = NULL};
    put_file("/text", bytes, size, path, sizeof path);
    const bool is_good = moda_cli_suppressions_read(&suppressions, path, &error);
    if (is_good != (error.text[0] == 0))
        abort();
    for (size_t i = 0; i < suppressions.count; i++) {
        moda_cli_suppression_matches(suppressions.row[i].pattern, text);
        if (strpbrk(suppressions.row[i].pattern, "^$*") == NULL
            && !moda_cli_suppression_matches(suppressions.row[i].pattern, suppressions.row[i].pattern))
            abort();
    }
    moda_cli_suppressions_free(&suppressions);
}

static void shorten(const char *name) {
    static const size_t rooms[] = {8, 20, 33, 80};
    char buffer[MODA_SHORT_NAME_SIZE];
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        const char *const made = moda_short_name(name, rooms[i], buffer, sizeof buffer);
        if (strlen(made) > strlen(name) || (made != name && moda_columns(made) > rooms[i]))
            abort();
    }
}

static void filter(const char *pattern) {
    moda_error error = {.text = ""};
    const moda_frame frame = {.function = "ns::call(int)", .file = "a.c", .line = 7};
    if (strpbrk(pattern, "{*+") != NULL) /* the library's own cost of (x{999}){999} is not our matter */
        return;
    moda_filter *const made = moda_filter_new(&pattern, 1, &error);
    if ((made == NULL) != (error.text[0] != 0))
        abort();
    if (made != NULL)
        moda_filter_matches(made, &frame, "/usr/bin/prog");
    moda_filter_free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    make_folder();
    char *const text = malloc(size + 1);
    if (text == NULL)
        return 0;
    memcpy(text, bytes, size);
    text[size] = 0;
    read_perf_map(bytes, size);
    read_suppressions(bytes, size, text);
    shorten(text);
    if (size < 200)
        filter(text);
    free(text);
    return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER
#include "fuzz_random.h"

static const char *const examples[] = {
    "0 100 LazyCompile:~main /srv/a.js:1\n100 20 Stub: é\n7f0000000000 ffffffffffffffff big\n80 100 again\n",
    "# comment\nleak:libfoo.so\n\n leak:^main$ \r\nleak:*alloc*table*\nleak:\nother:x\n",
    "std::vector<int, std::allocator<int> >::operator->*<a<b>(*)(int)>({lambda(auto:1)#1}&&, (anonymous namespace)::x)",
    "^(malloc|cal.oc|[a-z]?x)\\.(so|$)",
};

int main(int count, char **arguments) {
    static const char ends[] = "<>(){}[]:*^$#\n\r\t 0fFxg\xff\x80\xc3-9operatorleak:";
    const long rounds = count > 1 ? atol(arguments[1]) : 1000;
    for (long i = 0; i < rounds; i++) {
        uint8_t bytes[4096];
        const char *const example = examples[i % 4];
        size_t size = strlen(example);
        memcpy(bytes, example, size);
        for (uint64_t n = next_random() % 12; n > 0; n--) {
            const size_t at = next_random() % size, from = next_random() % size;
            const size_t length = 1 + next_random() % (size - from);
            if (next_random() % 3 > 0) {
                bytes[at] = (uint8_t)ends[next_random() % (sizeof ends - 1)];
            } else if (size + length <= sizeof bytes) { /* a piece once more */
                uint8_t piece[sizeof bytes];
                memcpy(piece, bytes + from, length);
                memmove(bytes + at + length, bytes + at, size - at);
                memcpy(bytes + at, piece, length);
                size += length;
            }
        }
        LLVMFuzzerTestOneInput(bytes, next_random() % 4 == 0 ? next_random() % size : size);
    }
    printf("%ld rounds\n", rounds);
    return 0;
}
#endif
