/* SPDX-License-Identifier: MIT
 *
 * fork_reader.c - mimalloc 2.0.9 counts the threads that read its list of abandoned segments, and whoever gives memory
 * back waits until none does. A thread that is counted in when another one forks does not exist in the child: unless the
 * count begins anew there, the child waits for ever when it gives memory back.
 *
 * A moment of a few instructions, seldom hit: so the count is found in this program's symbols (it is linked with the
 * static library) and raised by hand, as such a thread would. Exit status 77: this mimalloc has no such count.
 */
#include <elf.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "whole.h"

int main(int argc, char **argv);

typedef struct symbols {
    const Elf64_Sym *symbol;
    size_t count;
    const char *names;
} symbols;

static symbols read_symbols(void) {
    const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status;
    NEED(fd >= 0 && fstat(fd, &status) == 0, "no /proc/self/exe");
    const char *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    NEED(file != MAP_FAILED, "/proc/self/exe can't be mapped");
    close(fd);
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)(const void *)file;
    const Elf64_Shdr *section = (const Elf64_Shdr *)(const void *)(file + head->e_shoff);
    for (size_t i = 0; i < head->e_shnum; i++) {
        if (section[i].sh_type == SHT_SYMTAB) {
            return (symbols){
                .symbol = (const Elf64_Sym *)(const void *)(file + section[i].sh_offset),
                .count = section[i].sh_size / sizeof(Elf64_Sym),
                .names = file + section[section[i].sh_link].sh_offset,
            };
        }
    }
    return (symbols){0};
}

static uintptr_t value_of(const symbols *all, const char *name) {
    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->names + all->symbol[i].st_name, name) == 0) {
            return all->symbol[i].st_value;
        }
    }
    return 0;
}

/* In the child: memory that goes back to the system at once, since it is larger than what is kept. */
static void give_memory_back(void) {
    alarm(60); /* needs milliseconds */
    for (int i = 0; i < 3; i++) {
        void *block = malloc((size_t)100 << 20);
        NEED(block != NULL, "no block in the child");
        free(block);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    whole_begin();
    const symbols all = read_symbols();
    const uintptr_t place = value_of(&all, "abandoned_readers");
    if (place == 0) {
        printf("this mimalloc keeps no count of readers, or its symbols are stripped\n");
        return WHOLE_SKIP;
    }
    size_t *const readers = (size_t *)(place + ((uintptr_t)&main - value_of(&all, "main")));
    CHECK(*readers == 0, "%zu readers, though no other thread is there", *readers);
    __atomic_add_fetch(readers, 1, __ATOMIC_SEQ_CST);
    const pid_t child = fork();
    if (child == 0) {
        give_memory_back();
        _exit(0);
    }
    __atomic_sub_fetch(readers, 1, __ATOMIC_SEQ_CST);
    int status = 0;
    NEED(child > 0 && waitpid(child, &status, 0) == child, "no child");
    CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "the child waits for a reader that %s",
          "is not there");
    CHECK(status == 0, "the child's status is %#x", (unsigned)status);
    return whole_end();
}
