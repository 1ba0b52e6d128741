/* SPDX-License-Identifier: MIT
 *
 * symbolize_test.c - symbolize*.c against binutils' addr2line on real binaries, and what must stay unnamed.
 *
 * addr2line -i -f -C prints, for each address, lines of function and file:line, inlined calls first.
 */
#include "make_region.h"
#include "report/symbolize.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MODA_TEST_CXX_PROGRAM
#error "the build names a C++ program with debug information"
#endif

static moda_symbolizer *new_symbolizer(void) {
    moda_error error = {.text = ""};
    moda_symbolizer *const symbolizer = moda_symbolizer_new(NULL, &error);
    cr_assert_not_null(symbolizer, "%s", error.text);
    return symbolizer;
}

/* Addresses spread over a file's executable segment. */
static void spread(const char *path, moda_lookup *lookups, size_t count) {
    FILE *const file = fopen(path, "re");
    cr_assert_not_null(file, "%s", path);
    ElfW(Ehdr) header;
    cr_assert_eq(fread(&header, sizeof header, 1, file), 1);
    for (int i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        fseek(file, (long)(header.e_phoff + (size_t)i * header.e_phentsize), SEEK_SET);
        cr_assert_eq(fread(&segment, sizeof segment, 1, file), 1);
        if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0)
            continue;
        for (size_t k = 0; k < count; k++)
            lookups[k].address = segment.p_vaddr + k * (segment.p_filesz - 1) / count;
        fclose(file);
        return;
    }
    cr_assert_fail("%s has no code", path);
}

typedef struct expectation {
    char function[65536]; /* names of templates are long */
    char place[4096];
} expectation;

static void cut_line(char *line) {
    line[strcspn(line, "\n")] = 0;
    char *const discriminator = strstr(line, " (discriminator");
    if (discriminator != NULL)
        *discriminator = 0;
}

/* "dir/../dir/x.c:12" and "dir/x.c:12" are one place: the base name and line are compared. */
static const char *place_tail(const char *place) {
    const char *const slash = strrchr(place, '/');
    return slash != NULL ? slash + 1 : place;
}

/* "??:0", "file.c:?" and, from the symbol table, "object.o:0" */
static bool names_no_line(const char *place) {
    const char *const line = strrchr(place, ':');
    return line == NULL || strcmp(line, ":0") == 0 || strcmp(line, ":?") == 0;
}

/* "std::f" and "f": of a function without a mangled name addr2line does not say the scopes. */
static bool has_scopes_before(const char *ours, const char *theirs) {
    const size_t our_length = strlen(ours), their_length = strlen(theirs);
    return our_length > their_length + 2 && strcmp(ours + our_length - their_length, theirs) == 0
           && strncmp(ours + our_length - their_length - 2, "::", 2) == 0;
}

/* Names without arguments and suffixes: the two demanglers print some of them differently, and addr2line says
 * "f.localalias" for f. */
static bool same_function(const char *ours, const char *theirs) {
    if (strcmp(ours, theirs) == 0 || has_scopes_before(ours, theirs))
        return true;
    const size_t length = strcspn(ours, "(<@.");
    return length == strcspn(theirs, "(<@.") && strncmp(ours, theirs, length) == 0 && length > 0;
}

typedef struct tally {
    size_t frames, functions, places, named_where_they_know_none, addresses, same_depth;
} tally;

static tally compare(const char *path, size_t count) {
    moda_lookup *const lookups = calloc(count, sizeof *lookups);
    spread(path, lookups, count);
    moda_symbolizer *const symbolizer = new_symbolizer();
    const moda_profile_module module = {.path = path};
    moda_symbolizer_look_up(symbolizer, &module, lookups, count, NULL, 0, count, NULL);

    char list[] = "/tmp/moda_addresses_XXXXXX";
    FILE *const addresses = fdopen(mkstemp(list), "w");
    for (size_t i = 0; i < count; i++)
        fprintf(addresses, "0x%lx\n", (unsigned long)lookups[i].address);
    fclose(addresses);
    char command[8192];
    snprintf(command, sizeof command, MODA_TEST_ADDR2LINE " -a -i -f -C -e '%s' < %s", path, list);
    FILE *const theirs = popen(command, "r");
    cr_assert_not_null(theirs);
    tally t = {.addresses = count};
    static expectation e;
    bool has_line = fgets(e.function, sizeof e.function, theirs) != NULL; /* 0x... */
    for (size_t i = 0; i < count && has_line; i++) {
        uint32_t depth = 0;
        while ((has_line = fgets(e.function, sizeof e.function, theirs) != NULL)
               && strncmp(e.function, "0x", 2) != 0) {
            cr_assert_not_null(fgets(e.place, sizeof e.place, theirs));
            cut_line(e.function);
            cut_line(e.place);
            const moda_symbol *const ours =
                depth < lookups[i].symbol_count ? &lookups[i].symbols[depth] : NULL;
            depth++;
            if (strcmp(e.function, "??") == 0) {
                t.named_where_they_know_none += ours != NULL && ours->function != NULL;
                continue;
            }
            t.frames++;
            if (ours == NULL || ours->function == NULL)
                continue;
            t.functions += same_function(ours->function, e.function);
            char place[4096];
            snprintf(place, sizeof place, "%s:%u", ours->file != NULL ? place_tail(ours->file) : "",
                     ours->line);
            t.places += ours->line == 0 ? names_no_line(e.place) : strcmp(place, place_tail(e.place)) == 0;
        }
        t.same_depth += depth == lookups[i].symbol_count;
    }
    pclose(theirs);
    unlink(list);
    moda_symbolizer_free(symbolizer);
    free(lookups);
    return t;
}

static void expect_agreement(const char *path, size_t count, double least_functions, double least) {
    const tally t = compare(path, count);
    cr_log_info("%s: %zu frames, %zu functions and %zu places agree, %zu of %zu depths", path, t.frames,
                t.functions, t.places, t.same_depth, t.addresses);
    cr_assert_gt(t.frames, count / 4, "%s: addr2line knows too little for a test: %zu", path, t.frames);
    cr_assert_geq((double)t.functions, least_functions * (double)t.frames, "%s: functions: %zu of %zu", path,
                  t.functions, t.frames);
    cr_assert_geq((double)t.places, least * (double)t.frames, "%s: places: %zu of %zu", path, t.places,
                  t.frames);
    cr_assert_geq((double)t.same_depth, least * (double)t.addresses, "%s: depths: %zu of %zu", path,
                  t.same_depth, t.addresses);
}

/* addr2line is that of the compiler's own tools: binutils' misses inlined calls in DWARF 5 as clang writes it.
 * What is left: padding between functions, where addr2line takes the nearest symbol before and we name nothing;
 * names of aliases. */
Test(symbolize, agrees_with_addr2line_on_our_own_library) {
    expect_agreement(MODA_TEST_REPORT_LIBRARY, 3000, 0.98, 0.98);
}

Test(symbolize, agrees_with_addr2line_on_c_plus_plus_with_inlines) {
    expect_agreement(MODA_TEST_CXX_PROGRAM, 3000, 0.98, 0.98);
}

/* gcc gives these no mangled name; without their scopes all lambdas of a program would be one function. */
Test(symbolize, lambdas_and_members_of_local_types_are_named_with_their_scopes) {
    enum { COUNT = 20000, NAMES = 8 };
    static moda_lookup lookups[COUNT];
    spread(MODA_TEST_CXX_PROGRAM, lookups, COUNT);
    moda_symbolizer *const symbolizer = new_symbolizer();
    const moda_profile_module module = {.path = MODA_TEST_CXX_PROGRAM};
    moda_symbolizer_look_up(symbolizer, &module, lookups, COUNT, NULL, 0, COUNT, NULL);
    const char *lambdas[NAMES] = {NULL}, *takes[NAMES] = {NULL};
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < lookups[i].symbol_count; k++) {
            const char *const name = lookups[i].symbols[k].function;
            if (name == NULL)
                continue;
            cr_expect_neq(strncmp(name, "operator()", 10), 0, "%s", name);
            const bool is_lambda = strncmp(name, "main::", 6) == 0 && strstr(name, "operator()") != NULL;
            const char **const list = is_lambda ? lambdas : strstr(name, "::take") != NULL ? takes : NULL;
            size_t n = 0;
            while (list != NULL && n < NAMES - 1 && list[n] != NULL && strcmp(list[n], name) != 0)
                n++;
            if (list != NULL)
                list[n] = name;
        }
    }
    size_t is_pool = 0, is_shelf = 0, count = 0;
    for (size_t n = 0; takes[n] != NULL; n++) {
        is_pool += strncmp(takes[n], "(anonymous namespace)::Pool::take", 33) == 0;
        is_shelf += strncmp(takes[n], "(anonymous namespace)::Shelf::take", 34) == 0;
    }
    cr_expect(is_pool == 1 && is_shelf == 1, "%s, %s", takes[0], takes[0] != NULL ? takes[1] : "");
    while (lambdas[count] != NULL)
        count++;
    cr_expect_geq(count, 3, "only %zu lambdas: %s, %s", count, lambdas[0], count > 0 ? lambdas[1] : "");
    moda_symbolizer_free(symbolizer);
}

/* Without debug information: exported functions only. A name is given only inside a symbol's extent, where
 * addr2line takes the nearest one before. */
Test(symbolize, names_in_a_stripped_library_are_never_guesses) {
    const char *const path = MODA_TEST_STRIPPED_LIBRARY;
    enum { COUNT = 2000 };
    static moda_lookup lookups[COUNT];
    spread(path, lookups, COUNT);
    moda_symbolizer *const symbolizer = new_symbolizer();
    const moda_profile_module module = {.path = path};
    moda_object_facts facts;
    moda_symbolizer_look_up(symbolizer, &module, lookups, COUNT, NULL, 0, COUNT, &facts);
    cr_assert(facts.has_symbols);
    char command[4096];
    snprintf(command, sizeof command, "nm -D --defined-only -S '%s'", path);
    FILE *const table = popen(command, "r");
    static struct {
        unsigned long start, size;
        char name[512];
    } symbols[20000];
    size_t count = 0;
    char line[1024], type;
    while (fgets(line, sizeof line, table) != NULL && count < 20000)
        if (sscanf(line, "%lx %lx %c %511[^@\n]", &symbols[count].start, &symbols[count].size, &type,
                   symbols[count].name)
            == 4)
            count++;
    pclose(table);
    cr_assert_gt(count, 10);
    size_t named = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const char *const linkage = lookups[i].symbols[0].linkage_name;
        bool is_inside = false, is_right = false;
        for (size_t k = 0; k < count; k++) {
            if (lookups[i].address < symbols[k].start
                || lookups[i].address >= symbols[k].start + symbols[k].size)
                continue;
            is_inside = true;
            is_right |= linkage != NULL && strcmp(linkage, symbols[k].name) == 0;
        }
        named += linkage != NULL;
        cr_assert(linkage == NULL ? !is_inside : is_right, "0x%lx: %s", (unsigned long)lookups[i].address,
                  linkage != NULL ? linkage : "unnamed, though a symbol has it");
    }
    cr_assert_gt(named, 0);
    moda_symbolizer_free(symbolizer);
}

Test(symbolize, a_file_with_another_build_id_gives_no_names) {
    moda_symbolizer *const symbolizer = new_symbolizer();
    moda_profile_module module = {.path = MODA_TEST_REPORT_LIBRARY, .build_id_length = 20};
    memset(module.build_id, 0xab, 20);
    moda_lookup lookup;
    spread(module.path, &lookup, 1);
    moda_symbolizer_look_up(symbolizer, &module, &lookup, 1, NULL, 0, 1, NULL);
    cr_assert_null(lookup.symbols[0].function);
    moda_symbolizer_free(symbolizer);
}

Test(symbolize, a_missing_or_foreign_file_gives_no_names) {
    const char *const paths[] = {"/nowhere/lib.so", "/etc/passwd", "relative.so", "/dev/zero", "/tmp", ""};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        moda_symbolizer *const symbolizer = new_symbolizer();
        const moda_profile_module module = {.path = paths[i]};
        moda_lookup lookup = {.address = 4096};
        moda_symbolizer_look_up(symbolizer, &module, &lookup, 1, NULL, 0, 1, NULL);
        cr_assert_eq(lookup.symbol_count, 1);
        cr_assert_null(lookup.symbols[0].function, "%s", paths[i]);
        moda_symbolizer_free(symbolizer);
    }
}

static size_t steps, last_done;
static void count_step(void *context, size_t done, size_t total) {
    (void)context;
    cr_assert_leq(done, total);
    cr_assert_geq(done, last_done);
    last_done = done;
    steps++;
}

Test(symbolize, progress_ends_at_the_total_and_answers_are_kept) {
    enum { COUNT = 500 };
    static moda_lookup lookups[COUNT], again[COUNT];
    spread(MODA_TEST_REPORT_LIBRARY, lookups, COUNT);
    memcpy(again, lookups, sizeof again);
    moda_symbolizer *const symbolizer = new_symbolizer();
    const moda_profile_module module = {.path = MODA_TEST_REPORT_LIBRARY};
    const moda_progress progress = {.step = count_step};
    moda_symbolizer_look_up(symbolizer, &module, lookups, COUNT, &progress, 0, COUNT, NULL);
    cr_assert_gt(steps, 1);
    cr_assert_eq(last_done, COUNT);
    moda_symbolizer_look_up(symbolizer, &module, again, COUNT, NULL, 0, COUNT, NULL);
    for (size_t i = 0; i < COUNT; i++)
        cr_assert_eq(again[i].symbols, lookups[i].symbols);
    moda_symbolizer_free(symbolizer);
}

Test(symbolize, run_time_compiled_code_is_named_by_its_map_if_that_is_newer_than_the_process) {
    const uint32_t pid = 4190000u + (uint32_t)getpid() % 1000;
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%u.map", pid);
    FILE *const map = fopen(path, "w");
    fprintf(map, "1000 20 first\n2000 100 LazyCompile:~two words file.js:1\nrubbish\n"
                 "3010 40 old\n3000 20 newer\n3000 18 newest\n");
    fclose(map);
    moda_symbolizer *const symbolizer = new_symbolizer();
    moda_profile_process process = {.pid = pid, .start_realtime_ns = 1000};
    cr_assert_str_eq(moda_symbolizer_perf_map_name(symbolizer, &process, 0x101f), "first");
    cr_assert_null(moda_symbolizer_perf_map_name(symbolizer, &process, 0x1020));
    cr_assert_str_eq(moda_symbolizer_perf_map_name(symbolizer, &process, 0x20ff),
                     "LazyCompile:~two words file.js:1");
    /* code in the place of older code that is gone */
    cr_assert_str_eq(moda_symbolizer_perf_map_name(symbolizer, &process, 0x3017), "newest");
    cr_assert_str_eq(moda_symbolizer_perf_map_name(symbolizer, &process, 0x3018), "newer");
    cr_assert_str_eq(moda_symbolizer_perf_map_name(symbolizer, &process, 0x3020), "old");
    process.start_realtime_ns = UINT64_MAX; /* the map is older than this process */
    cr_assert_null(moda_symbolizer_perf_map_name(symbolizer, &process, 0x2000));
    moda_symbolizer_free(symbolizer);
    unlink(path);
}

/* The kernel's object has no file: the copy that this process has is taken, if it is the same. */
Test(symbolize, the_kernels_object_is_named_if_it_is_this_kernels) {
    const uint8_t *const image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR); /* NOLINT */
    void *const handle = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
    const uint8_t *const function = handle != NULL ? dlsym(handle, "__vdso_clock_gettime") : NULL;
    if (image == NULL || function == NULL)
        cr_skip("no vDSO here, or of another machine");
    moda_symbolizer *const symbolizer = new_symbolizer();
    moda_profile_module module = {.path = "[vdso]"};
    moda_lookup lookup = {.address = (uint64_t)(function - image)};
    moda_symbolizer_look_up(symbolizer, &module, &lookup, 1, NULL, 0, 1, NULL);
    cr_assert_not_null(lookup.symbols[0].function);
    cr_assert_not_null(strstr(lookup.symbols[0].function, "clock_gettime"), "%s", lookup.symbols[0].function);
    module.build_id_length = 20; /* all zeroes: another kernel's */
    moda_symbolizer_look_up(symbolizer, &module, &lookup, 1, NULL, 0, 1, NULL);
    cr_assert_null(lookup.symbols[0].function);
    moda_symbolizer_free(symbolizer);
    dlclose(handle);
}

/* Two objects that were mapped at the same place at different times. */
Test(symbolize, an_unloaded_object_is_told_by_its_generation) {
    make_region *const region = make_region_new(1 << 20);
    moda_module *const first = make_region_module(region, "/nowhere/first.so", 0x10000, 0x20000, 0x10000);
    moda_shard *const thread = make_region_thread(region, 1, "one", 0);
    const uint64_t address = 0x11000, later = 0x12000;
    moda_site *const old = make_region_site(region, &address, 1, thread);
    moda_module *const second = make_region_module(region, "/nowhere/second.so", 0x10000, 0x20000, 0x10000);
    first->generation_unmapped = second->generation_mapped;
    moda_site *const new = make_region_site(region, &later, 1, thread);
    make_region_allocate(region, thread, old, 200, 200, 65536);
    make_region_allocate(region, thread, new, 100, 100, 65536);
    moda_error error = {.text = ""};
    const size_t size = make_region_finish(region);
    moda_profile *const profile =
        moda_profile_read_memory(make_region_bytes(region), size, "x", false, &error);
    cr_assert_not_null(profile, "%s", error.text);
    moda_report *const report = moda_report_build(profile, NULL, &error);
    cr_assert_not_null(report, "%s", error.text);
    cr_assert_str_eq(report->frames[report->stacks[0].frames[0]].function, "0x11000 (first.so+0x1000)");
    cr_assert_str_eq(report->frames[report->stacks[1].frames[0]].function, "0x12000 (second.so+0x2000)");
    moda_report_free(report);
    moda_profile_free(profile);
    make_region_free(region);
}
