/* SPDX-License-Identifier: MIT
 *
 * launch.c - runs a program to its end, with the signals that are meant for it.
 *
 * Laws
 *   1. the program starts with the signal mask and the dispositions that we were started with;
 *   2. a signal is sent on only while the program has not been waited for: its pid is no one else's;
 *   3. what the terminal sends (^C, ^\) goes to the whole foreground group, so to the program, too: it is not
 *      sent on a second time, and does not end us: the report is still to be written.
 */
#include "cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What someone may send us and mean the program. Not: what stops (the shell stops the whole group), and what
 * a fault of our own raises. */
static const int passed_on[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT};
enum { PASSED_ON = sizeof passed_on / sizeof *passed_on };

static volatile sig_atomic_t child; /* 0 = nobody to pass it on to */

static void pass_on(int signal, siginfo_t *information, void *context) {
    (void)context;
    const int number = errno;
    if (child > 0 && information->si_code <= 0) { /* from a process, not from the terminal */
        kill((pid_t)child, signal);
    }
    errno = number;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t to_ns(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

/* In the child: becomes the program, or tells the parent why not. */
MODA_NORETURN static void become(char *const argv[], const moda_cli_setting *settings, const sigset_t *mask,
                                 int tell) {
    bool is_set = true;
    for (; is_set && settings->value != NULL; settings++) {
        is_set = settings->name == NULL || setenv(settings->name, settings->value, 1) == 0;
    }
    if (is_set) {
        sigprocmask(SIG_SETMASK, mask, NULL);
        execvp(argv[0], argv);
    }
    const int number = errno;
    while (write(tell, &number, sizeof number) < 0 && errno == EINTR) {
    }
    _exit(MODA_CLI_NOT_EXECUTABLE);
}

/* Waits, with the signals open, until the child is dead but not yet waited for; then takes its end. */
static moda_cli_end await(pid_t pid, uint64_t started_ns, const sigset_t *all) {
    siginfo_t information;
    while (waitid(P_PID, (id_t)pid, &information, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    sigprocmask(SIG_BLOCK, all, NULL);
    child = 0;
    struct rusage usage = {0};
    int status = 0;
    while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    return (moda_cli_end){
        .pid = pid,
        .is_killed = WIFSIGNALED(status),
        .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
        .exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
        .elapsed_ns = now_ns() - started_ns,
        .user_ns = to_ns(usage.ru_utime),
        .system_ns = to_ns(usage.ru_stime),
        .max_resident_bytes = (uint64_t)usage.ru_maxrss * 1024u,
    };
}

moda_cli_end moda_cli_launch(char *const argv[], const moda_cli_setting *settings) {
    sigset_t all, old;
    int tell[2];
    if (pipe2(tell, O_CLOEXEC) != 0) {
        return (moda_cli_end){.error_number = errno};
    }
    fflush(NULL);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    const uint64_t started_ns = now_ns();
    const pid_t pid = fork();
    if (pid == 0) {
        become(argv, settings, &old, tell[1]);
    }
    if (pid < 0) {
        const int fork_error = errno;
        sigprocmask(SIG_SETMASK, &old, NULL);
        close(tell[0]);
        close(tell[1]);
        return (moda_cli_end){.error_number = fork_error};
    }
    child = pid;
    struct sigaction before[PASSED_ON];
    struct sigaction before_child;
    const struct sigaction action = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART};
    const struct sigaction reap = {.sa_handler = SIG_DFL}; /* ignored, there would be nothing to wait for */
    sigaction(SIGCHLD, &reap, &before_child);
    for (int i = 0; i < PASSED_ON; i++) {
        sigaction(passed_on[i], &action, &before[i]);
    }
    sigset_t open_ones = old;
    for (int i = 0; i < PASSED_ON; i++) {
        sigdelset(&open_ones, passed_on[i]);
    }
    sigprocmask(SIG_SETMASK, &open_ones, NULL);

    int number = 0;
    close(tell[1]);
    ssize_t got;
    while ((got = read(tell[0], &number, sizeof number)) < 0 && errno == EINTR) {
    }
    close(tell[0]);
    moda_cli_end end = await(pid, started_ns, &all);
    for (int i = 0; i < PASSED_ON; i++) {
        sigaction(passed_on[i], &before[i], NULL);
    }
    sigaction(SIGCHLD, &before_child, NULL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (got == (ssize_t)sizeof number) {
        end.error_number = number;
    }
    return end;
}

void moda_cli_end_alike(const moda_cli_end *end) {
    fflush(NULL);
    if (!end->is_killed) {
        exit(end->exit_status);
    }
    const struct rlimit no_core = {0, 0}; /* the program's own core is enough */
    setrlimit(RLIMIT_CORE, &no_core);
    const struct sigaction reset = {.sa_handler = SIG_DFL};
    sigaction(end->signal, &reset, NULL);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, end->signal);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    kill(getpid(), end->signal);
    exit(128 + end->signal);
}
