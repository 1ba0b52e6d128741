/* SPDX-License-Identifier: MIT
 *
 * rows_test.c - every row of real unwind tables, compared with what readelf prints of them; and how many call
 * sites have a row that this form can hold.
 *
 * Objects are mapped from their files, as a loader would; nothing of them is run.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unwind/row.h"

enum { COLUMNS_MAX = 24, LINE_BYTES = 1024 };

typedef struct mapped_object {
    moda_cfi_object cfi;
    uintptr_t bias;
} mapped_object;

static bool read_at(int fd, void *to, size_t bytes, uint64_t offset) {
    return pread(fd, to, bytes, (off_t)offset) == (ssize_t)bytes;
}

static bool map_segments(int fd, const Elf64_Ehdr *elf, mapped_object *object) {
    Elf64_Phdr segments[64];
    if (elf->e_phnum > 64 || !read_at(fd, segments, elf->e_phnum * sizeof segments[0], elf->e_phoff)) {
        return false;
    }
    uint64_t low = UINT64_MAX, high = 0, header = 0;
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        if (segments[i].p_type == PT_GNU_EH_FRAME) {
            header = segments[i].p_vaddr;
        }
        if (segments[i].p_type != PT_LOAD) {
            continue;
        }
        low = segments[i].p_vaddr < low ? segments[i].p_vaddr & ~(uint64_t)4095 : low;
        high = segments[i].p_vaddr + segments[i].p_memsz > high ? segments[i].p_vaddr + segments[i].p_memsz
                                                                : high;
    }
    char *memory = mmap(NULL, high - low, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || header == 0) {
        return false;
    }
    object->bias = (uintptr_t)memory - low;
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        if (segments[i].p_type != PT_LOAD) {
            continue;
        }
        const uintptr_t at = object->bias + segments[i].p_vaddr;
        if (!read_at(fd, (void *)at, segments[i].p_filesz, segments[i].p_offset)) {
            return false;
        }
        if (header - segments[i].p_vaddr < segments[i].p_filesz) {
            object->cfi = (moda_cfi_object){object->bias + header, at, at + segments[i].p_filesz};
        }
    }
    return object->cfi.header != 0;
}

static bool map_object(const char *path, mapped_object *object) {
    *object = (mapped_object){0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf64_Ehdr elf;
    const bool is_mapped = fd >= 0 && read_at(fd, &elf, sizeof elf, 0) && map_segments(fd, &elf, object);
    if (fd >= 0) {
        close(fd);
    }
    return is_mapped;
}

/* ---- what readelf says ---- */

typedef struct printed_row {
    char cfa[48], fp[48], ra[48];
    uint64_t address;
} printed_row;

typedef struct comparison {
    const mapped_object *object;
    unsigned long rows, different, opaque, expressions;
    char first_difference[256];
} comparison;

static const char *fp_name(void) {
    return MODA_DWARF_FP == 6 ? "rbp" : "x29";
}
static const char *sp_name(void) {
    return MODA_DWARF_SP == 7 ? "rsp" : "sp";
}

/* "rsp+16" -> its offset, if it begins with the register's name. */
static bool parse_offset(const char *text, const char *name, long *offset) {
    const size_t n = strlen(name);
    if (strncmp(text, name, n) != 0 || (text[n] != '+' && text[n] != '-')) {
        return false;
    }
    *offset = strtol(text + n, NULL, 10);
    return true;
}

static bool is_cfa_equal(const printed_row *printed, moda_row row) {
    long offset;
    const bool is_sp = parse_offset(printed->cfa, sp_name(), &offset);
    if (!is_sp && !parse_offset(printed->cfa, fp_name(), &offset)) { /* in another register */
        return moda_row_cfa_kind(row) == MODA_CFA_REGISTER || moda_row_cfa_kind(row) == MODA_CFA_OPAQUE;
    }
    return moda_row_cfa_kind(row) == (is_sp ? MODA_CFA_SP : MODA_CFA_FP)
           && moda_row_cfa_offset(row) == offset;
}

static bool is_fp_equal(const printed_row *printed, moda_row row) {
    long offset;
    if (parse_offset(printed->fp, "c", &offset)) {
        return moda_row_fp_kind(row) == MODA_FP_AT_CFA && moda_row_fp_offset(row) == offset;
    }
    return moda_row_fp_kind(row) == MODA_FP_SAME;
}

static void compare_at(comparison *c, const printed_row *printed, uint64_t address) {
    const moda_row row = moda_row_compile(&c->object->cfi, c->object->bias + address);
    const unsigned kind = moda_row_cfa_kind(row);
    bool is_equal;
    c->rows++;
    if (strcmp(printed->ra, "u") == 0) {
        is_equal = kind == MODA_CFA_END;
    } else if (strstr(printed->cfa, "exp") != NULL || strstr(printed->fp, "exp") != NULL
               || strstr(printed->ra, "exp") != NULL) {
        c->expressions++; /* readelf does not print them; those in libc are tested by walking */
        is_equal = kind <= MODA_CFA_AT_FP || kind == MODA_CFA_OPAQUE;
    } else if (kind == MODA_CFA_OPAQUE || kind == MODA_CFA_REGISTER) {
        c->opaque++;
        is_equal = is_cfa_equal(printed, row) || strcmp(printed->ra, "c-8") != 0;
    } else {
        is_equal = is_cfa_equal(printed, row) && is_fp_equal(printed, row);
    }
    if (is_equal) {
        return;
    }
    if (c->different++ == 0) {
        snprintf(c->first_difference, sizeof c->first_difference, "%lx: readelf CFA %s fp %s ra %s, row %lx",
                 address, printed->cfa, printed->fp, printed->ra, row);
    }
}

/* First and last address of each row: `next` is where the one after it begins. */
static void compare_row(comparison *c, const printed_row *printed, uint64_t next) {
    if (printed->cfa[0] == 0 || next <= printed->address) {
        return;
    }
    compare_at(c, printed, printed->address);
    if (next - 1 != printed->address) {
        compare_at(c, printed, next - 1);
    }
}

static int split(char *line, char **words) {
    int n = 0;
    for (char *word = strtok(line, " \n"); word != NULL && n < COLUMNS_MAX; word = strtok(NULL, " \n")) {
        words[n++] = word;
    }
    return n;
}

static void copy_column(char *to, size_t bytes, char **names, char **words, int n, const char *name) {
    to[0] = 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            snprintf(to, bytes, "%s", words[i]);
        }
    }
}

/* readelf's table of one FDE:  "LOC CFA rbx rbp ra", then a line for each row. */
static void compare_with_readelf(comparison *c, FILE *readelf) {
    char line[LINE_BYTES], header[LINE_BYTES] = "";
    char *names[COLUMNS_MAX], *words[COLUMNS_MAX];
    int columns = 0;
    uint64_t end = 0;
    bool is_fde = false;
    printed_row row = {0};
    while (fgets(line, sizeof line, readelf) != NULL) {
        const char *range = strstr(line, "pc=");
        if (strstr(line, " FDE ") != NULL && range != NULL) {
            compare_row(c, &row, end);
            row.cfa[0] = 0;
            is_fde = true;
            end = strtoull(strstr(range, "..") + 2, NULL, 16);
        } else if (strstr(line, " CIE ") != NULL || line[0] == '\n') {
            compare_row(c, &row, end);
            row.cfa[0] = 0;
            is_fde = false;
        } else if (strncmp(line, "   LOC", 6) == 0) {
            snprintf(header, sizeof header, "%s", line);
            columns = split(header, names);
        } else if (is_fde) {
            const int found = split(line, words);
            const uint64_t address = strtoull(words[0], NULL, 16);
            compare_row(c, &row, address);
            row.cfa[0] = 0;
            if (found != columns) { /* longjmp: a register in a register, printed with a blank in it */
                continue;
            }
            row.address = address;
            copy_column(row.cfa, sizeof row.cfa, names, words, columns, "CFA");
            copy_column(row.fp, sizeof row.fp, names, words, columns, fp_name());
            copy_column(row.ra, sizeof row.ra, names, words, columns, "ra");
        }
    }
    compare_row(c, &row, end);
}

/* By value: each test runs in a process of its own, at other addresses. */
typedef struct object_path {
    char text[256];
} object_path;

static object_path objects[] = {
    {"/lib/x86_64-linux-gnu/libc.so.6"},
    {"/lib64/ld-linux-x86-64.so.2"},
    {"/usr/lib/x86_64-linux-gnu/libstdc++.so.6"},
    {"/lib/x86_64-linux-gnu/libm.so.6"},
    {"/lib/x86_64-linux-gnu/libgcc_s.so.1"},
    {"/usr/lib/x86_64-linux-gnu/libcrypto.so.3"},
    {"/usr/bin/perl"},
    {"/usr/bin/git"},
    {CC1},
};

ParameterizedTestParameters(rows, every_row_is_readelfs) {
    return cr_make_param_array(object_path, objects, sizeof objects / sizeof objects[0]);
}

ParameterizedTest(const object_path *parameter, rows, every_row_is_readelfs, .timeout = 600) {
    const char *path = parameter->text;
    mapped_object object;
    if (access(path, R_OK) != 0 || !map_object(path, &object)) {
        cr_skip_test("%s is not here", path);
    }
    char command[512];
    snprintf(command, sizeof command, "LC_ALL=C readelf -wF %s 2>/dev/null", path);
    FILE *readelf = popen(command, "r"); // NOLINT(cert-env33-c): fixed paths
    cr_assert_neq(readelf, NULL);
    comparison c = {.object = &object};
    compare_with_readelf(&c, readelf);
    if (pclose(readelf) != 0 && c.rows == 0) {
        cr_skip_test("readelf is not installed");
    }
    fprintf(stderr, "%s: %lu points, %lu different, %lu not expressible, %lu expressions\n", path, c.rows,
            c.different, c.opaque, c.expressions);
    cr_expect_gt(c.rows, 100);
    cr_expect_eq(c.different, 0, "%s: %lu of %lu points differ; %s", path, c.different, c.rows,
                 c.first_difference);
    cr_expect_leq(c.opaque * 1000, c.rows * 20, "%lu of %lu not expressible", c.opaque, c.rows);
}

/* The check above must be able to fail: rows of one place are not those of another. */
Test(rows, a_shifted_table_is_noticed) {
    mapped_object object;
    if (access(objects[0].text, R_OK) != 0 || !map_object(objects[0].text, &object)) {
        cr_skip_test("no libc there");
    }
    object.bias += 16;
    char command[512];
    snprintf(command, sizeof command, "LC_ALL=C readelf -wF %s 2>/dev/null", objects[0].text);
    FILE *readelf = popen(command, "r"); // NOLINT(cert-env33-c): fixed paths
    comparison c = {.object = &object};
    compare_with_readelf(&c, readelf);
    pclose(readelf);
    if (c.rows == 0) {
        cr_skip_test("readelf is not installed");
    }
    cr_expect_gt(c.different, c.rows / 10);
}

/* ---- call sites ---- */

/* Return addresses of objdump's listing of one object: how many have no row that a walk can use. */
static void count_call_sites(const mapped_object *object, FILE *listing, unsigned long *sites,
                             unsigned long *bad) {
    char line[LINE_BYTES];
    bool was_call = false;
    while (fgets(line, sizeof line, listing) != NULL) {
        char *end;
        const uint64_t address = strtoull(line, &end, 16);
        if (line[0] != ' ' || *end != ':') {
            continue;
        }
        if (was_call) {
            const unsigned kind =
                moda_row_cfa_kind(moda_row_compile(&object->cfi, object->bias + address - 1));
            ++*sites;
            *bad += kind == MODA_CFA_NO_TABLE || kind == MODA_CFA_OPAQUE || kind == MODA_CFA_REGISTER;
        }
        was_call = strstr(end, "\tcall") != NULL;
    }
}

/* Without a row: _init, start code and others written by hand, as many as Debian 12's have. In ld.so the rest are of
 * _dl_runtime_resolve, whose CFA is in rbx: registers.c steps over it. None of libcrypto's leads to malloc. */
typedef struct called_object {
    char path[240];
    unsigned long sites, bad;
} called_object;

static called_object called_objects[] = {
    {"/lib/x86_64-linux-gnu/libc.so.6", 5000, 9},
    {"/lib64/ld-linux-x86-64.so.2", 500, 16},
    {"/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 5000, 9},
    {"/lib/x86_64-linux-gnu/libm.so.6", 200, 9},
    {"/lib/x86_64-linux-gnu/libgcc_s.so.1", 100, 9},
    {"/usr/lib/x86_64-linux-gnu/libcrypto.so.3", 10000, 400},
    {"/usr/bin/perl", 5000, 9},
    {"/usr/bin/git", 10000, 9},
    {"/usr/bin/python3", 10000, 9},
};

ParameterizedTestParameters(rows, every_call_site_has_a_row) {
    return cr_make_param_array(called_object, called_objects,
                               sizeof called_objects / sizeof called_objects[0]);
}

ParameterizedTest(const called_object *called, rows, every_call_site_has_a_row, .timeout = 600) {
    mapped_object object;
    if (access(called->path, R_OK) != 0 || !map_object(called->path, &object)) {
        cr_skip_test("%s is not here", called->path);
    }
    char command[512];
    snprintf(command, sizeof command, "LC_ALL=C objdump -d --no-show-raw-insn %s 2>/dev/null", called->path);
    FILE *listing = popen(command, "r"); // NOLINT(cert-env33-c): fixed paths
    unsigned long sites = 0, bad = 0;
    count_call_sites(&object, listing, &sites, &bad);
    pclose(listing);
    if (sites == 0) {
        cr_skip_test("objdump is not installed");
    }
    fprintf(stderr, "%s: %lu call sites, %lu without a row\n", called->path, sites, bad);
    cr_expect_gt(sites, called->sites);
    cr_expect_leq(bad, called->bad, "%s: %lu call sites without a row", called->path, bad);
}
