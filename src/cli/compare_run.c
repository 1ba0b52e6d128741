/* SPDX-License-Identifier: MIT
 *
 * compare_run.c - starts commands, alone or two at the same moment on one core, and measures them.
 *
 *   fork --> child: pin to the core, wait at the gate (a pipe) --> exec
 *   parent: open the gate for all at once; wait4 gives each child's own times, memory and faults
 *
 * User and system time are taken together: the kernel knows their sum to the nanosecond and splits it by
 * where the clock tick happened to fall. wait4's figures of a child hold those of the children it waited
 * for in turn.
 *
 * The child's maximal resident size starts from what it had between fork and exec; that is the few
 * private pages of this tool (about 1 MiB), below that of any program that has loaded a C library.
 *
 * Laws
 *   1. what happens before exec is the same for both commands of a pair.
 *   2. a run that did not end with status 0 has no figures.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cli/compare_run.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

/* ---- words ---- */

/* Copies one word from *text to *to, without quotes. False where the shell is needed. */
static bool take_word(const char **text, char **to) {
    char quote = '\0';
    for (; **text && (quote || !isspace((unsigned char)**text)); (*text)++) {
        const char c = **text;
        if (quote ? c == quote : c == '\'' || c == '"') {
            quote = quote ? '\0' : c;
        } else if (quote ? quote == '"' && strchr("$`", c) : strchr("$`|&;<>()*?[]{}#~!", c) != NULL) {
            return false;
        } else if (quote != '\'' && c == '\\' && (*text)[1]) {
            /* inside "..." a backslash stands for itself, but before one of these */
            if (quote && !strchr("\\\"$`", (*text)[1])) {
                *(*to)++ = c;
            }
            *(*to)++ = *++*text;
        } else {
            *(*to)++ = c;
        }
    }
    *(*to)++ = '\0';
    return !quote;
}

/* The words lie in one block, behind the array that points to them. NULL where a shell is needed. */
static char **split(const char *text) {
    const size_t length = strlen(text), words_max = length / 2 + 2;
    char **words = malloc(words_max * sizeof *words + length + 1);
    if (!words) {
        return NULL;
    }
    char *to = (char *)(words + words_max);
    size_t count = 0;
    for (;;) {
        text += strspn(text, " \t\r\n");
        if (!*text) {
            break;
        }
        words[count++] = to;
        if (!take_word(&text, &to)) {
            free(words);
            return NULL;
        }
    }
    words[count] = NULL;
    /* NAME=VALUE in front of a command is the shell's, too */
    if (count > 0 && !strchr(words[0], '=')) {
        return words;
    }
    free(words);
    return NULL;
}

char **moda_compare_words(const char *text) {
    if (text[strspn(text, " \t\r\n")] == '\0') {
        return NULL;
    }
    char **words = split(text);
    if (words) {
        return words;
    }
    const size_t length = strlen(text) + 1;
    words = malloc(4 * sizeof *words + length);
    if (words) {
        words[0] = "/bin/sh";
        words[1] = "-c";
        words[2] = memcpy(words + 4, text, length);
        words[3] = NULL;
    }
    return words;
}

void moda_compare_free_words(char **words) {
    free(words);
}

/* ---- instructions ---- */

/* A counter of the instructions that `pid` and its children retire in user space from its next exec on; -1
 * where there is none. */
static int open_instruction_counter(pid_t pid) {
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof attributes,
        .config = PERF_COUNT_HW_INSTRUCTIONS,
        .disabled = 1,
        .inherit = 1,
        .enable_on_exec = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    return (int)syscall(SYS_perf_event_open, &attributes, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

bool moda_compare_can_count_instructions(void) {
    const int fd = open_instruction_counter(0);
    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

/* ---- one child ---- */

typedef struct child {
    pid_t pid;
    int gate;         /* write end; closing it is not enough to open it: a byte is */
    int output;       /* memfd or /dev/null */
    int errors;       /* memfd */
    int instructions; /* perf counter or -1 */
    struct timespec released;
} child;

static void set_environment(const moda_compare_command *command, const char *stats_path) {
    if (command->preload) {
        setenv("LD_PRELOAD", command->preload, 1);
    }
    for (char **setting = command->settings; setting && *setting; setting++) {
        putenv(*setting);
    }
    if (stats_path) {
        setenv("MOD_ALLOC_STATS", stats_path, 1);
    }
}

static void pin_to(int core) {
    if (core >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)core, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
}

_Noreturn static void be_child(const moda_compare_runner *runner, const moda_compare_command *command,
                               const char *stats_path, const child *self, int gate) {
    char byte;
    const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (input < 0 || dup2(input, 0) < 0 || dup2(self->output, 1) < 0 || dup2(self->errors, 2) < 0) {
        _exit(126);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* who measures has ended: nobody waits for us */
    pin_to(runner->core);
    set_environment(command, stats_path);
    if (read(gate, &byte, 1) != 1) {
        _exit(126); /* the parent is gone */
    }
    execvp(command->words[0], command->words);
    const int reason = errno;
    dprintf(2, "%s: %s\n", command->words[0], strerror(reason));
    _exit(reason == ENOENT ? 127 : 126);
}

static bool start_child(const moda_compare_runner *runner, const moda_compare_command *command,
                        const char *stats_path, child *c) {
    int gate[2];
    *c = (child){.pid = -1, .gate = -1, .instructions = -1};
    c->output =
        runner->keeps_output ? memfd_create("output", MFD_CLOEXEC) : open("/dev/null", O_WRONLY | O_CLOEXEC);
    c->errors = memfd_create("errors", MFD_CLOEXEC);
    if (c->output < 0 || c->errors < 0 || pipe2(gate, O_CLOEXEC) != 0) {
        return false;
    }
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0) {
        close(gate[1]);
        be_child(runner, command, stats_path, c, gate[0]);
    }
    close(gate[0]);
    c->gate = gate[1];
    if (c->pid > 0 && runner->has_instructions) {
        c->instructions = open_instruction_counter(c->pid);
    }
    return c->pid > 0;
}

static void release_child(child *c) {
    clock_gettime(CLOCK_MONOTONIC, &c->released);
    if (write(c->gate, "", 1) != 1) {
        kill(c->pid, SIGKILL);
    }
}

static void close_child(child *c) {
    int *const fds[] = {&c->gate, &c->output, &c->errors, &c->instructions};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
        }
        *fds[i] = -1;
    }
}

/* ---- what it did ---- */

static double seconds_of(struct timeval t) {
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

static void describe_failure(int status, const child *c, moda_compare_run *run) {
    char text[512] = "", how[64];
    /* The last line it wrote to standard error is what it died of, as a rule. */
    const off_t size = lseek(c->errors, 0, SEEK_END);
    const off_t from = size > (off_t)sizeof text - 1 ? size - (off_t)sizeof text + 1 : 0;
    ssize_t got = size > 0 ? pread(c->errors, text, sizeof text - 1, from) : 0;
    while (got > 0 && isspace((unsigned char)text[got - 1])) {
        got--;
    }
    text[got > 0 ? got : 0] = '\0';
    const char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    if (WIFSIGNALED(status)) {
        snprintf(how, sizeof how, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        snprintf(how, sizeof how, "exit status %d", WEXITSTATUS(status));
    }
    snprintf(run->failure, sizeof run->failure, "%s%s%.150s", how, *line ? ": " : "", line);
}

/* FNV-1a, 64 bits: to see that two outputs differ, not to resist anyone. What the command has left running may still
 * write to the file, or cut it (mapped, it would be SIGBUS). */
static void check_output(const child *c, moda_compare_run *run) {
    unsigned char bytes[4096];
    struct stat file;
    run->output_checksum = 0xcbf29ce484222325u;
    const uint64_t size = fstat(c->output, &file) == 0 ? (uint64_t)file.st_size : 0;
    while (run->output_size < size) {
        const uint64_t left = size - run->output_size;
        const ssize_t got =
            pread(c->output, bytes, left < sizeof bytes ? left : sizeof bytes, (off_t)run->output_size);
        if (got <= 0) {
            return;
        }
        for (ssize_t i = 0; i < got; i++) {
            run->output_checksum = (run->output_checksum ^ bytes[i]) * 0x100000001b3u;
        }
        run->output_size += (uint64_t)got;
    }
}

/* Callgrind says at each process's end "==PID== Collected : N". Added up; NaN where it never does. */
static double collected(const child *c) {
    static const char key[] = "Collected : ";
    double sum = NAN;
    struct stat file;
    char *text;
    if (fstat(c->errors, &file) != 0 || file.st_size == 0 || !(text = malloc((size_t)file.st_size + 1))) {
        return sum;
    }
    const ssize_t got = pread(c->errors, text, (size_t)file.st_size, 0);
    text[got > 0 ? got : 0] = '\0';
    for (const char *at = text; (at = strstr(at, key)); at += sizeof key - 1) {
        sum = (isnan(sum) ? 0 : sum) + strtod(at + sizeof key - 1, NULL);
    }
    free(text);
    return sum;
}

static void end_child(const moda_compare_runner *runner, child *c, int status, const struct rusage *usage,
                      moda_compare_run *run) {
    struct timespec now;
    uint64_t instructions;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        describe_failure(status, c, run);
        return;
    }
    run->is_done = true;
    run->measured[MODA_COMPARE_CPU] = seconds_of(usage->ru_utime) + seconds_of(usage->ru_stime);
    run->measured[MODA_COMPARE_WALL] =
        (double)(now.tv_sec - c->released.tv_sec) + 1e-9 * (double)(now.tv_nsec - c->released.tv_nsec);
    run->measured[MODA_COMPARE_RSS] = 1024.0 * (double)usage->ru_maxrss;
    run->measured[MODA_COMPARE_FAULTS] = (double)(usage->ru_minflt + usage->ru_majflt);
    if (c->instructions >= 0
        && read(c->instructions, &instructions, sizeof instructions) == (ssize_t)sizeof instructions) {
        run->measured[MODA_COMPARE_INSTRUCTIONS] = (double)instructions;
    }
    if (runner->keeps_output) {
        check_output(c, run);
    }
    if (runner->is_under_valgrind) {
        run->valgrind_instructions = collected(c);
    }
}

static void begin_run(moda_compare_run *run) {
    *run = (moda_compare_run){.is_done = false, .valgrind_instructions = NAN};
    for (int m = 0; m < MODA_COMPARE_MEASUREDS; m++) {
        run->measured[m] = NAN;
    }
}

/* Starts `count` commands, opens their gates in order, waits until all have ended. */
static void run_at_once(const moda_compare_runner *runner, const moda_compare_command *const *commands,
                        const char *stats_path, int count, moda_compare_run *runs) {
    child children[2];
    int started = 0;
    for (; started < count; started++) {
        begin_run(&runs[started]);
        if (!start_child(runner, commands[started], stats_path, &children[started])) {
            snprintf(runs[started].failure, sizeof runs[started].failure, "cannot be started: %s",
                     strerror(errno));
            close_child(&children[started]);
            break;
        }
    }
    for (int i = 0; i < started; i++) {
        release_child(&children[i]);
    }
    for (int left = started; left > 0;) {
        int status;
        struct rusage usage;
        const pid_t pid = wait4(-1, &status, 0, &usage);
        if (pid < 0 && errno != EINTR) {
            break;
        }
        for (int i = 0; i < started; i++) {
            if (children[i].pid == pid) {
                end_child(runner, &children[i], status, &usage, &runs[i]);
                close_child(&children[i]);
                left--;
            }
        }
    }
}

void moda_compare_run_pair(const moda_compare_runner *runner, const moda_compare_command *first,
                           const moda_compare_command *second, bool together, moda_compare_run result[2]) {
    const moda_compare_command *const commands[] = {first, second};
    if (together) {
        run_at_once(runner, commands, NULL, 2, result);
        return;
    }
    run_at_once(runner, commands, NULL, 1, result);
    run_at_once(runner, commands + 1, NULL, 1, result + 1);
}

/* ---- counters ---- */

/* The first value of that name in the object, or in an object inside it. */
static bool find_counter(struct json_object *object, const char *name, uint64_t *value) {
    struct json_object *found;
    if (json_object_object_get_ex(object, name, &found) && json_object_is_type(found, json_type_int)) {
        *value = json_object_get_uint64(found);
        return true;
    }
    json_object_object_foreach(object, key, inner) {
        (void)key;
        if (json_object_is_type(inner, json_type_object) && find_counter(inner, name, value)) {
            return true;
        }
    }
    return false;
}

/* Adds the counters of one process. */
static void add_counters(const char *path, moda_compare_counts *counts) {
    static const char *const names[] = {
#define EXACT(name, key, counter, unit) [MODA_COMPARE_##name] = counter,
#include "cli/compare_metrics.def"
    };
    struct json_object *object = json_object_from_file(path);
    if (object && json_object_is_type(object, json_type_object)) {
        bool is_complete = true;
        uint64_t value[MODA_COMPARE_EXACTS];
        for (int m = 0; m < MODA_COMPARE_EXACTS; m++) {
            is_complete &= find_counter(object, names[m], &value[m]);
        }
        for (int m = 0; is_complete && m < MODA_COMPARE_EXACTS; m++) {
            counts->value[m] += value[m];
        }
        counts->processes += is_complete;
        counts->is_known |= is_complete;
    }
    json_object_put(object);
}

/* Reads and removes all that the processes wrote into the directory. */
static void gather_counters(const char *directory, moda_compare_counts *counts) {
    DIR *files = opendir(directory);
    for (struct dirent *entry; files && (entry = readdir(files));) {
        char path[512];
        if (entry->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) < 512) {
            add_counters(path, counts);
            unlink(path);
        }
    }
    if (files) {
        closedir(files);
    }
    rmdir(directory);
}

moda_compare_run moda_compare_run_counted(const moda_compare_runner *runner,
                                          const moda_compare_command *command, moda_compare_counts *counts) {
    const char *temporary = getenv("TMPDIR");
    char directory[256], path[300];
    moda_compare_run run;
    *counts = (moda_compare_counts){.is_known = false};
    snprintf(directory, sizeof directory, "%.200s/mod-alloc.XXXXXX", temporary ? temporary : "/tmp");
    const bool has_directory = command->has_counters && mkdtemp(directory);
    snprintf(path, sizeof path, "%s/%%p", directory);
    run_at_once(runner, &command, has_directory ? path : NULL, 1, &run);
    if (has_directory) {
        gather_counters(directory, counts);
    }
    return run;
}

/* ---- instructions by Valgrind ---- */

bool moda_compare_count_instructions(const moda_compare_command *command, double counts[2],
                                     moda_compare_run *run) {
    static const char *const valgrind[] = {"valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                                           "--trace-children=yes", "--"};
    enum { BEFORE = sizeof valgrind / sizeof *valgrind };
    const moda_compare_runner runner = {.core = -1, .is_under_valgrind = true};
    moda_compare_command counted = *command;
    moda_compare_run runs[2];
    size_t words = 0, settings = 0;
    while (command->words[words]) {
        words++;
    }
    while (command->settings && command->settings[settings]) {
        settings++;
    }
    counts[0] = counts[1] = NAN;
    begin_run(run);
    counted.words = calloc(BEFORE + words + 1, sizeof *counted.words);
    counted.settings = calloc(settings + 2, sizeof *counted.settings);
    if (counted.words && counted.settings) {
        memcpy(counted.words, valgrind, sizeof valgrind);
        memcpy(counted.words + BEFORE, command->words, words * sizeof *command->words);
        counted.settings[0] = (char[]){"MOD_ALLOC_SEED=1"};
        if (settings) { /* later ones win */
            memcpy(counted.settings + 1, command->settings, settings * sizeof *command->settings);
        }
        const moda_compare_command *const both[] = {&counted, &counted};
        run_at_once(&runner, both, NULL, 2, runs);
        *run = runs[!runs[1].is_done];
        if (runs[0].is_done && runs[1].is_done) {
            counts[0] = fmin(runs[0].valgrind_instructions, runs[1].valgrind_instructions);
            counts[1] = fmax(runs[0].valgrind_instructions, runs[1].valgrind_instructions);
        }
    }
    free(counted.words);
    free(counted.settings);
    return !isnan(counts[0]);
}
