/* SPDX-License-Identifier: MIT
 *
 * allocate.c - a program whose allocations are known: no stdio, nothing but what its words say.
 *
 *   keep N SIZE      N blocks of SIZE bytes, kept for good, from keep_blocks()
 *   lose N SIZE      the same from lose_blocks()
 *   pass N SIZE      N blocks of SIZE bytes, each freed at once, from pass_blocks()
 *   grow N SIZE      a block that is reallocated N times, SIZE bytes larger each time, from grow_block()
 *   drop             frees the last block that was kept
 *   threads N        N threads that allocate and free 100 blocks each, one after the other
 *   exit STATUS      ends
 *   leave STATUS     ends by _exit
 *   exec PROGRAM WORD...  becomes another program
 *   signal NUMBER    kills itself
 *   say TEXT         a line on standard output
 *   sleep SECONDS    waits
 *   fork WORD...     a child does the words after it; the parent waits and ends with its status
 *   loop SIZE        allocates, keeps one of four, until it is killed; "ready" is printed first
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile hidden; /* so that no block is optimized away */

__attribute__((noinline)) void keep_blocks(long count, size_t size) {
    for (long i = 0; i < count; i++) {
        hidden = malloc(size);
    }
}

__attribute__((noinline)) void lose_blocks(long count, size_t size) {
    for (long i = 0; i < count; i++) {
        hidden = malloc(size);
    }
    __asm__ volatile("" ::: "memory"); /* not one function with the other */
}

__attribute__((noinline)) void pass_blocks(long count, size_t size) {
    for (long i = 0; i < count; i++) {
        hidden = malloc(size);
        free(hidden);
    }
}

__attribute__((noinline)) void grow_block(long count, size_t size) {
    hidden = NULL;
    for (long i = 1; i <= count; i++) {
        void *const more = realloc(hidden, (size_t)i * size);
        hidden = more != NULL ? more : hidden;
    }
}

static void *thread_main(void *context) {
    pass_blocks(100, 48);
    return context;
}

static void run_threads(long count) {
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, thread_main, NULL) == 0) {
            pthread_join(thread, NULL);
        }
    }
}

static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0 || write(1, "\n", 1) < 0) {
        _exit(9);
    }
}

__attribute__((noinline)) static void loop(size_t size) {
    say("ready");
    for (unsigned long i = 0;; i++) {
        if (i % 4 == 0) {
            keep_blocks(1, size);
        } else {
            pass_blocks(1, size);
        }
        if (i % 64 == 0) {
            usleep(1000);
        }
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *const word = argv[i];
        const long number = i + 1 < argc ? strtol(argv[i + 1], NULL, 10) : 0;
        const size_t size = i + 2 < argc ? (size_t)strtol(argv[i + 2], NULL, 10) : 0;
        if (strcmp(word, "keep") == 0) {
            keep_blocks(number, size);
            i += 2;
        } else if (strcmp(word, "lose") == 0) {
            lose_blocks(number, size);
            i += 2;
        } else if (strcmp(word, "pass") == 0) {
            pass_blocks(number, size);
            i += 2;
        } else if (strcmp(word, "grow") == 0) {
            grow_block(number, size);
            i += 2;
        } else if (strcmp(word, "drop") == 0) {
            free(hidden);
            hidden = NULL;
        } else if (strcmp(word, "threads") == 0) {
            run_threads(number);
            i++;
        } else if (strcmp(word, "exit") == 0) {
            return (int)number;
        } else if (strcmp(word, "leave") == 0) {
            _exit((int)number);
        } else if (strcmp(word, "exec") == 0) {
            execv(argv[i + 1], argv + i + 1);
            _exit(9);
        } else if (strcmp(word, "signal") == 0) {
            kill(getpid(), (int)number);
            pause();
        } else if (strcmp(word, "say") == 0 && i + 1 < argc) {
            say(argv[++i]);
        } else if (strcmp(word, "sleep") == 0) {
            sleep((unsigned)number);
            i++;
        } else if (strcmp(word, "loop") == 0) {
            loop((size_t)number);
        } else if (strcmp(word, "fork") == 0) {
            int status = 0;
            const pid_t child = fork();
            if (child > 0) {
                waitpid(child, &status, 0);
                return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            }
        } else {
            return 99;
        }
    }
    return 0;
}
