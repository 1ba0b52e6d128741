/* SPDX-License-Identifier: MIT
 *
 * ends.c - for processes.py: a program that does what its arguments say, one after another.
 *
 *   keep N          allocates N blocks of 1000 bytes and keeps them
 *   fork ... end    a child does what stands in between, then exits; it is waited for. Likewise clone (a raw one, with no
 *                   handlers run), _Fork, vfork and spawn (these two: the program anew with those arguments)
 *   cousin ... end  a child that the system takes for one of the parent's parent (CLONE_PARENT); it is not waited for
 *   exec ...        the program anew with the arguments that follow
 *   daemon          daemon(3); the process that was there ends by _exit
 *   close           all descriptors above the standard ones; standard error becomes /dev/null, and a file "other" is
 *                   opened under every number below 200
 *   exit N, _exit N, quick_exit N, abort, kill
 *
 * Without one of the last it returns 0 from main.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma weak _Fork
pid_t _Fork(void);

extern char **environ;
static char *self;

static void need(int is_so, const char *what) {
    if (!is_so) {
        fprintf(stderr, "ends: %s: %s\n", what, strerror(errno));
        _exit(99);
    }
}

static void keep(int count) {
    static void *volatile kept;
    for (int i = 0; i < count; i++) {
        void **block = malloc(1000);
        need(block != NULL, "malloc");
        *block = kept;
        kept = block;
    }
}

static void close_all(void) {
    const int null = open("/dev/null", O_RDWR);
    need(null >= 0 && dup2(null, STDERR_FILENO) >= 0, "/dev/null");
    for (int fd = 3; fd < 2000; fd++) {
        close(fd);
    }
    const int other = open("other", O_RDWR | O_CREAT | O_TRUNC, 0600);
    need(other >= 0, "other");
    for (int fd = other + 1; fd < 200; fd++) {
        dup2(other, fd);
    }
}

/* Starts the program anew with the words before `end`, in a child. */
static pid_t begin_anew(const char *how, char **words) {
    pid_t pid;
    if (strcmp(how, "spawn") == 0) {
        need(posix_spawn(&pid, self, NULL, NULL, words, environ) == 0, "posix_spawn");
        return pid;
    }
    pid = vfork();
    if (pid == 0) {
        execv(self, words);
        _exit(99);
    }
    return pid;
}

static pid_t begin_child(const char *how) {
    if (strcmp(how, "fork") == 0) {
        return fork();
    }
    if (strcmp(how, "_Fork") == 0) {
        if (_Fork == NULL) {
            printf("no _Fork here\n");
            exit(77);
        }
        return _Fork();
    }
    const long flags = strcmp(how, "cousin") == 0 ? CLONE_PARENT | SIGCHLD : SIGCHLD;
    return (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
}

/* From word[0], the way to begin, to its `end`; the index of that. */
static int child(char **word) {
    int depth = 1, end = 1;
    for (; word[end] != NULL; end++) {
        const char *w = word[end];
        depth += strcmp(w, "fork") == 0 || strcmp(w, "clone") == 0 || strcmp(w, "_Fork") == 0;
        depth += strcmp(w, "vfork") == 0 || strcmp(w, "spawn") == 0 || strcmp(w, "cousin") == 0;
        depth -= strcmp(w, "end") == 0;
        if (depth == 0) {
            break;
        }
    }
    need(word[end] != NULL, "no end");
    pid_t pid;
    if (strcmp(word[0], "vfork") == 0 || strcmp(word[0], "spawn") == 0) {
        char *const kept = word[end];
        word[end] = NULL;
        char *const how = word[0];
        word[0] = self;
        pid = begin_anew(how, word);
        word[0] = how;
        word[end] = kept;
    } else {
        pid = begin_child(word[0]);
        if (pid == 0) {
            return 0; /* goes on behind the word */
        }
    }
    if (strcmp(word[0], "cousin") == 0) {
        need(pid > 0, "clone");
        return end;
    }
    int status = -1;
    need(pid > 0 && waitpid(pid, &status, 0) == pid, "waitpid");
    need(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child's status");
    return end;
}

int main(int count, char **word) {
    static char path[4096];
    need(readlink("/proc/self/exe", path, sizeof path - 1) > 0, "/proc/self/exe");
    self = path;
    for (int i = 1; i < count; i++) {
        const char *w = word[i];
        const int number = i + 1 < count ? atoi(word[i + 1]) : 0;
        if (strcmp(w, "keep") == 0) {
            keep(number);
            i++;
        } else if (strcmp(w, "exec") == 0) {
            word[i] = self;
            execv(self, word + i);
            need(0, "exec");
        } else if (strcmp(w, "daemon") == 0) {
            need(daemon(1, 1) == 0, "daemon");
        } else if (strcmp(w, "close") == 0) {
            close_all();
        } else if (strcmp(w, "end") == 0) { /* of a child */
            exit(0);
        } else if (strcmp(w, "exit") == 0) {
            exit(number);
        } else if (strcmp(w, "_exit") == 0) {
            _exit(number);
        } else if (strcmp(w, "quick_exit") == 0) {
            quick_exit(number);
        } else if (strcmp(w, "abort") == 0) {
            abort();
        } else if (strcmp(w, "kill") == 0) {
            kill(getpid(), SIGKILL);
        } else {
            i += child(word + i);
        }
    }
    return 0;
}
