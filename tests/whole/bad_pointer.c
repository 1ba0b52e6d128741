/* SPDX-License-Identifier: MIT
 *
 * bad_pointer.c - double frees and pointers that malloc never gave. Where it can be seen, a message with the
 * address stands on stderr and the process aborts; where it can't, nothing is promised but for what is said
 * in each row. Each case runs in a process of its own.
 *
 * With MOD_ALLOC_SAMPLE=1 (argument "exact") each block is tracked: then every double free is seen.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "whole.h"

static char reported[32]; /* the address that the message must name */

static void say(const void *p) {
    snprintf(reported, sizeof reported, "%" PRIxPTR, (uintptr_t)p);
    const ssize_t n = write(STDOUT_FILENO, reported, sizeof reported);
    (void)n;
}

static void double_free_of(size_t size) {
    void *others[10];
    for (int i = 0; i < 10; i++) {
        others[i] = malloc(size);
    }
    void *volatile p = others[5];
    say(p);
    free(p);
    free(p);
}

static void double_free_small(void) {
    double_free_of(64);
}
static void double_free_medium(void) {
    double_free_of(5000);
}
static void double_free_large(void) {
    double_free_of(300000);
}
static void double_free_huge(void) {
    double_free_of((size_t)40 << 20);
}

static void double_free_aligned(void) {
    void *volatile p = aligned_alloc(1024, 3000);
    say(p);
    free(p);
    free(p);
}

static void realloc_after_free(void) {
    void *volatile p = malloc(200);
    say(p);
    free(p);
    void *volatile q = realloc(p, 2000);
    (void)q;
}

static void free_after_realloc(void) {
    void *volatile p = malloc(200);
    void *volatile q = realloc(p, 100000);
    (void)q;
    say(p);
    free(p);
}

static void free_of_static_data(void) {
    static char data[256] __attribute__((aligned(64)));
    void *volatile p = data + 64;
    say(p);
    free(p);
}

static void free_of_the_stack(void) {
    char data[256] __attribute__((aligned(64)));
    void *volatile p = data + 64;
    __asm__ volatile("" : : "r"(data) : "memory");
    say(p);
    free(p);
}

static void free_of_a_mapping(void) {
    char *map = mmap(NULL, (size_t)1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *volatile p = map + 4096;
    say(p);
    free(p);
}

static void free_of_nowhere(void) {
    void *volatile p = (void *)(uintptr_t)0x123456789A0;
    say(p);
    free(p);
}

static void free_of_a_small_number(void) {
    void *volatile p = (void *)(uintptr_t)0x10;
    say(p);
    free(p);
}

static void free_inside_a_block(void) {
    char *volatile p = malloc(256);
    say(p + 48);
    free(p + 48);
}

static void usable_size_of_static_data(void) {
    static char data[256] __attribute__((aligned(64)));
    void *volatile p = data + 64;
    say(p);
    const volatile size_t size = malloc_usable_size(p);
    (void)size;
}

/* What must happen, with sampling off or now and then, and with every block tracked. */
enum { ANYTHING, ENDS, ABORTS };
static const struct {
    const char *name;
    void (*act)(void);
    int plain, exact;
} cases[] = {
    {"double free of a small block", double_free_small, ANYTHING, ABORTS},
    {"double free of a medium block", double_free_medium, ANYTHING, ABORTS},
    {"double free of a large block", double_free_large, ANYTHING, ABORTS},
    {"double free of a huge block", double_free_huge, ENDS, ENDS},
    {"double free of an aligned block", double_free_aligned, ANYTHING, ABORTS},
    {"realloc after free", realloc_after_free, ANYTHING, ABORTS},
    {"free after realloc moved the block", free_after_realloc, ANYTHING, ABORTS},
    {"free of static data", free_of_static_data, ENDS, ENDS},
    {"free of the stack", free_of_the_stack, ENDS, ENDS},
    {"free of a mapping", free_of_a_mapping, ENDS, ENDS},
    {"free of an address where nothing is", free_of_nowhere, ENDS, ENDS},
    {"free of a small number", free_of_a_small_number, ENDS, ENDS},
    {"free inside a block", free_inside_a_block, ANYTHING, ANYTHING},
    {"malloc_usable_size of static data", usable_size_of_static_data, ANYTHING, ANYTHING},
};

static size_t read_all(int fd, char *text, size_t size) {
    size_t used = 0;
    ssize_t got;
    while (used + 1 < size && (got = read(fd, text + used, size - 1 - used)) > 0) {
        used += (size_t)got;
    }
    text[used] = 0;
    return used;
}

int main(int count, char **argument) {
    whole_begin();
    const bool exact = count > 1 && strcmp(argument[1], "exact") == 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int out[2], err[2];
        NEED(pipe(out) == 0 && pipe(err) == 0, "pipe");
        const pid_t pid = fork();
        if (pid == 0) {
            const struct rlimit no_core = {0};
            setrlimit(RLIMIT_CORE, &no_core);
            dup2(out[1], STDOUT_FILENO);
            dup2(err[1], STDERR_FILENO);
            close(out[0]);
            close(out[1]);
            close(err[0]);
            close(err[1]);
            alarm(300);
            cases[i].act();
            _exit(0);
        }
        close(out[1]);
        close(err[1]);
        char address[64], message[4096];
        read_all(out[0], address, sizeof address);
        read_all(err[0], message, sizeof message);
        close(out[0]);
        close(err[0]);
        int status = 0;
        waitpid(pid, &status, 0);
        const int expected = exact ? cases[i].exact : cases[i].plain;
        const bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
        const bool names_it = address[0] != 0 && strstr(message, address) != NULL;
        printf("%-38s status %#06x, stderr: %s\n", cases[i].name, (unsigned)status,
               message[0] != 0 ? message : "-");
        CHECK(expected != ABORTS || (aborted && names_it),
              "%s (address %s): expected abort and a message with the address; status %#x, stderr '%s'",
              cases[i].name, address, (unsigned)status, message);
        CHECK(expected != ENDS || status != 0, "%s: the program went on as if nothing had been",
              cases[i].name);
        CHECK(!aborted || names_it, "%s (address %s): aborted without the address on stderr: '%s'",
              cases[i].name, address, message);
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "%s: hangs", cases[i].name);
    }
    return whole_end();
}
