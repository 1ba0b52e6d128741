/* SPDX-License-Identifier: MIT
 *
 * program.c - can a library be preloaded into this program? If not: why, and what to do instead.
 *
 * The dynamic linker drops LD_PRELOAD in silence for set-user-ID programs and is not there at all in static
 * ones: without this look beforehand `run` would end with empty counters and no reason. What cannot be
 * read (an executable without read permission) is given the benefit of the doubt.
 */
#include "cli/program.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/cli.h"

enum { SCRIPT_DEPTH = 5, SCRIPT_LINE = 256 }; /* as Linux has them */

static bool refuse(moda_cli_program *program, int status, const char *instead, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool refuse(moda_cli_program *program, int status, const char *instead, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(program->why, sizeof program->why, format, list);
    va_end(list);
    snprintf(program->instead, sizeof program->instead, "%s", instead);
    program->status = status;
    return false;
}

/* ---- which file? ---- */

static bool is_executable_file(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* What a name with a slash stands for, or the first executable file of that name in PATH. */
static bool find(moda_cli_program *program, const char *name) {
    struct stat status;
    if (strchr(name, '/') != NULL) {
        snprintf(program->path, sizeof program->path, "%s", name);
        if (stat(name, &status) != 0) {
            return refuse(program, errno == EACCES ? MODA_CLI_NOT_EXECUTABLE : MODA_CLI_NOT_FOUND, "",
                          "cannot run '%s': %s", name, strerror(errno));
        }
        if (!is_executable_file(name)) {
            return refuse(program, MODA_CLI_NOT_EXECUTABLE, "", "cannot run '%s': %s", name,
                          S_ISDIR(status.st_mode) ? "it is a directory" : "it is not executable");
        }
        return true;
    }
    const char *path = getenv("PATH");
    bool is_there = false;
    for (path = path != NULL ? path : "/bin:/usr/bin"; *name != '\0'; path++) {
        const int length = (int)strcspn(path, ":");
        snprintf(program->path, sizeof program->path, "%.*s%s%s", length, path, length ? "/" : "./", name);
        if (is_executable_file(program->path)) {
            return true;
        }
        is_there = is_there || (stat(program->path, &status) == 0 && S_ISREG(status.st_mode));
        path += length;
        if (*path == '\0') {
            break;
        }
    }
    if (is_there) {
        return refuse(program, MODA_CLI_NOT_EXECUTABLE, "", "cannot run '%s': it is not executable", name);
    }
    return refuse(program, MODA_CLI_NOT_FOUND, "", "cannot run '%s': there is no such program in PATH", name);
}

/* ---- an ELF file ---- */

typedef struct elf_facts {
    GElf_Ehdr header;
    char interpreter[PATH_MAX]; /* the dynamic linker; "" = static */
    bool has_mod_alloc;
    const char *sanitizer; /* whose own malloc is inside; NULL = none */
} elf_facts;

static void read_interpreter(Elf *elf, elf_facts *facts) {
    size_t count = 0, size = 0;
    const char *const image = elf_rawfile(elf, &size);
    elf_getphdrnum(elf, &count);
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr segment;
        if (gelf_getphdr(elf, (int)i, &segment) == NULL || segment.p_type != PT_INTERP || image == NULL
            || segment.p_offset >= size || segment.p_filesz > size - segment.p_offset) {
            continue;
        }
        snprintf(facts->interpreter, sizeof facts->interpreter, "%.*s", (int)segment.p_filesz,
                 image + segment.p_offset);
    }
}

static void look_at_symbol(elf_facts *facts, const char *name, bool is_defined) {
    static const struct {
        const char *symbol, *sanitizer;
    } sanitizers[] = {{"__asan_init", "AddressSanitizer"},
                      {"__tsan_init", "ThreadSanitizer"},
                      {"__msan_init", "MemorySanitizer"},
                      {"__hwasan_init", "HWAddressSanitizer"}};
    if (is_defined && strcmp(name, MODA_CLI_OUR_SYMBOL) == 0) {
        facts->has_mod_alloc = true;
    }
    for (size_t i = 0; i < sizeof sanitizers / sizeof *sanitizers; i++) {
        if (strcmp(name, sanitizers[i].symbol) == 0) {
            facts->sanitizer = sanitizers[i].sanitizer;
        }
    }
}

static void read_symbols(Elf *elf, elf_facts *facts) {
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section)) != NULL;) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) == NULL
            || (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM) || header.sh_entsize == 0) {
            continue;
        }
        Elf_Data *const data = elf_getdata(section, NULL);
        for (size_t i = 0; data != NULL && i < header.sh_size / header.sh_entsize; i++) {
            GElf_Sym symbol;
            if (gelf_getsym(data, (int)i, &symbol) == NULL) {
                break;
            }
            const char *const name = elf_strptr(elf, header.sh_link, symbol.st_name);
            if (name != NULL) {
                look_at_symbol(facts, name, symbol.st_shndx != SHN_UNDEF);
            }
        }
    }
}

/* False where the file cannot be read as ELF. */
static bool read_elf(const char *path, bool with_symbols, elf_facts *facts) {
    *facts = (elf_facts){0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    elf_version(EV_CURRENT);
    Elf *const elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    const bool is_elf =
        elf != NULL && elf_kind(elf) == ELF_K_ELF && gelf_getehdr(elf, &facts->header) != NULL;
    if (is_elf) {
        read_interpreter(elf, facts);
        if (with_symbols) {
            read_symbols(elf, facts);
        }
    }
    elf_end(elf);
    close(fd);
    return is_elf;
}

bool moda_cli_is_mod_alloc(const char *path) {
    elf_facts facts;
    return read_elf(path, true, &facts) && facts.header.e_type == ET_DYN && facts.interpreter[0] == '\0'
           && facts.has_mod_alloc; /* a program that has it is no library */
}

/* Will the system give it other rights than ours? Then the dynamic linker ignores LD_PRELOAD. */
static const char *rights_gained(const char *path) {
    struct stat status;
    struct statvfs mount;
    char capability;
    if (stat(path, &status) != 0 || (statvfs(path, &mount) == 0 && (mount.f_flag & ST_NOSUID) != 0)) {
        return NULL;
    }
    if ((status.st_mode & S_ISUID) != 0 && status.st_uid != getuid()) {
        return "set-user-ID";
    }
    if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 && status.st_gid != getgid()) {
        return "set-group-ID";
    }
    if (getuid() != 0 && (getxattr(path, "security.capability", &capability, 1) > 0 || errno == ERANGE)) {
        return "given capabilities";
    }
    return NULL;
}

static bool check_elf(moda_cli_program *program, const char *shown, const char *path, const char *library) {
    elf_facts facts, ours;
    if (!read_elf(path, true, &facts)) {
        return true; /* not readable for us: let the system decide */
    }
    if (library[0] != '\0' && read_elf(library, false, &ours)
        && (facts.header.e_machine != ours.header.e_machine
            || facts.header.e_ident[EI_CLASS] != ours.header.e_ident[EI_CLASS])) {
        const bool is_32_bit = facts.header.e_ident[EI_CLASS] == ELFCLASS32;
        return refuse(program, MODA_CLI_MISUSE,
                      is_32_bit ? "Use a 64-bit build of the program."
                                : "Use a mod-alloc built for the program's machine.",
                      "cannot profile %s: it is a %s program, and %s is for another machine", shown,
                      is_32_bit ? "32-bit" : "64-bit", library);
    }
    if (facts.has_mod_alloc) {
        program->has_mod_alloc = true;
        return true;
    }
    if (facts.interpreter[0] == '\0') {
        return refuse(program, MODA_CLI_MISUSE,
                      "Link it with libmod_alloc.a and run it again, or use a dynamically linked build.",
                      "cannot profile %s: it is statically linked, and nothing can be preloaded into it",
                      shown);
    }
    if (strstr(facts.interpreter, "ld-musl") != NULL) {
        return refuse(program, MODA_CLI_MISUSE, "Link it with libmod_alloc.a, or use a build for glibc.",
                      "cannot profile %s: it runs on musl (%s), and the library needs glibc", shown,
                      facts.interpreter);
    }
    if (facts.sanitizer != NULL) {
        return refuse(program, MODA_CLI_MISUSE, "Use a build without the sanitizer.",
                      "cannot profile %s: it is built with %s, which brings a malloc of its own", shown,
                      facts.sanitizer);
    }
    const char *const rights = rights_gained(path);
    if (rights != NULL) {
        return refuse(program, MODA_CLI_MISUSE,
                      "Run mod-alloc with the program's rights (for sudo: sudo mod-alloc run -- PROGRAM), or"
                      " profile a copy of the program without them.",
                      "cannot profile %s: it is %s, and the system preloads nothing into such programs",
                      shown, rights);
    }
    return true;
}

/* ---- a script ---- */

/* `#! /usr/bin/env -S NAME=value prog`: what env will run. */
static bool word_after_env(char *argument, char *word, size_t size) {
    char *rest = NULL;
    for (char *next = strtok_r(argument, " \t", &rest); next != NULL; next = strtok_r(NULL, " \t", &rest)) {
        if (next[0] == '-' && next[1] == 'S' && next[2] != '\0') {
            next += 2;
        }
        if (next[0] != '-' && strchr(next, '=') == NULL) {
            snprintf(word, size, "%s", next);
            return true;
        }
    }
    return false;
}

/* The first line of a file after `#!`: interpreter and the rest. False = no script. */
static bool read_script(const char *path, char line[SCRIPT_LINE], bool *is_readable) {
    FILE *const file = fopen(path, "re");
    *is_readable = file != NULL;
    if (file == NULL) {
        return false;
    }
    const size_t length = fread(line, 1, SCRIPT_LINE - 1, file);
    fclose(file);
    line[length] = '\0';
    if (line[0] != '#' || line[1] != '!') {
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    memmove(line, line + 2, strlen(line + 2) + 1);
    return true;
}

static bool check_file(moda_cli_program *program, const char *shown, const char *path, const char *library,
                       int depth);

static bool check_script(moda_cli_program *program, const char *script, char *line, const char *library,
                         int depth) {
    char shown[2 * PATH_MAX + 64];
    char *rest = NULL;
    const char *const interpreter = strtok_r(line, " \t", &rest);
    if (interpreter == NULL) {
        return true;
    }
    snprintf(shown, sizeof shown, "%.*s, which runs %.*s", PATH_MAX, interpreter, PATH_MAX, script);
    if (!is_executable_file(interpreter)) {
        return refuse(program, access(interpreter, F_OK) == 0 ? MODA_CLI_NOT_EXECUTABLE : MODA_CLI_NOT_FOUND,
                      "", "cannot run '%.*s': its first line asks for '%.*s', which is not %s", 400, script,
                      400, interpreter, access(interpreter, F_OK) == 0 ? "executable" : "there");
    }
    if (!check_file(program, shown, interpreter, library, depth + 1)) {
        return false;
    }
    const char *const slash = strrchr(interpreter, '/');
    char word[SCRIPT_LINE];
    if (slash == NULL || strcmp(slash, "/env") != 0 || rest == NULL
        || !word_after_env(rest, word, sizeof word)) {
        return true;
    }
    moda_cli_program command = {.path = ""};
    if (!find(&command, word)) {
        return refuse(program, command.status, "", "cannot run '%.*s': its first line asks for '%.*s': %.*s",
                      200, script, 200, word, 400, command.why);
    }
    snprintf(shown, sizeof shown, "%.*s, which runs %.*s", PATH_MAX, command.path, PATH_MAX, script);
    return check_file(program, shown, command.path, library, depth + 1);
}

static bool check_file(moda_cli_program *program, const char *shown, const char *path, const char *library,
                       int depth) {
    char line[SCRIPT_LINE];
    bool is_readable;
    if (depth > SCRIPT_DEPTH) {
        return refuse(
            program, MODA_CLI_NOT_EXECUTABLE, "",
            "cannot run '%s': its interpreter is a script, whose interpreter is a script, and so on",
            program->path);
    }
    if (read_script(path, line, &is_readable)) {
        return check_script(program, path, line, library, depth);
    }
    elf_facts facts;
    if (is_readable && depth == 0 && !read_elf(path, false, &facts)) {
        char shell[PATH_MAX + 64]; /* execvp hands such a file to the shell */
        snprintf(shell, sizeof shell, "/bin/sh, which runs %s", path);
        return check_elf(program, shell, "/bin/sh", library);
    }
    return check_elf(program, shown, path, library);
}

bool moda_cli_program_check(moda_cli_program *program, const char *name, const char *library) {
    *program = (moda_cli_program){.status = 0};
    return find(program, name) && check_file(program, program->path, program->path, library, 0);
}
