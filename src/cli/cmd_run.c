/* SPDX-License-Identifier: MIT
 *
 * cmd_run.c - `mod-alloc run`: a program on mod-alloc, and what it allocated.
 *
 *   find the library, check the program         library.c, program.c
 *   check that the profile can be written       check_output
 *   run it, profiles into a private directory   scratch.c, launch.c
 *   read the profiles of its processes          collect
 *   keep or convert the profile                 keep
 *   counters, largest sites, leak gate          print_stats.c, report/, leak_gate.c
 *   give the directory back                     give_back
 *   end as the program ended
 *
 * All that is said goes to stderr: standard output is the program's.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/launch.h"
#include "cli/leak_gate.h"
#include "cli/library.h"
#include "cli/print_stats.h"
#include "cli/program.h"
#include "cli/scratch.h"
#include "cli/view.h"

enum { TOP_DEFAULT = 10, DEPTH = 8 }; /* of the sites shown; `report` shows all frames */
enum { WIDTH = 120 };                 /* of what is said, where it is not said on a terminal */

typedef struct run_state {
    moda_cli_args args;
    /* from the options */
    const char *library, *json, *output, *format, *suppressions_path;
    size_t top;
    bool is_tree, is_quiet, has_gate, has_sample, is_exact;
    moda_cli_gate gate;
    const moda_writer *writer; /* NULL: the profile itself is kept */

    /* while it runs */
    moda_cli_scratch scratch;
    moda_cli_program program;
    moda_cli_end end;
    bool is_unread; /* SIGPIPE ended it, and what reads our standard output is gone: an end as any */

    /* afterwards */
    moda_profile *profile;         /* of the program, or of all its processes; NULL = there is none */
    char recorded[PATH_MAX + 256]; /* where the root's profile was recorded; "" = nowhere */
    char kept[PATH_MAX];           /* the root's profile as a file; "" = not kept */
    bool has_lost;                 /* what was to be kept could not be written */
    size_t processes, others, others_running, images; /* images: what processes were before an exec */
    uint64_t others_bytes, others_peak;
} run_state;

/* ---- options ---- */

static void take_options(run_state *run, int argc, char **argv) {
    *run = (run_state){.args = moda_cli_args_begin(MODA_CLI_COMMAND_run, argc, argv), .top = TOP_DEFAULT};
    moda_cli_args *const args = &run->args;
    for (int option; (option = moda_cli_args_next(args)) >= 0;) {
        switch (option) {
        case MODA_CLI_OPTION_run_exact: run->is_exact = true; break;
        case MODA_CLI_OPTION_run_top:
            run->top = (size_t)moda_cli_args_number(args, option, 0, 1000000000);
            break;
        case MODA_CLI_OPTION_run_tree: run->is_tree = true; break;
        case MODA_CLI_OPTION_run_quiet: run->is_quiet = true; break;
        case MODA_CLI_OPTION_run_json: run->json = args->value; break;
        case MODA_CLI_OPTION_run_output: run->output = args->value; break;
        case MODA_CLI_OPTION_run_format:
            moda_cli_args_choice(args, option);
            run->format = args->value;
            break;
        case MODA_CLI_OPTION_run_fail_if_live:
            run->gate.allowed_bytes = moda_cli_args_bytes(args, option);
            run->has_gate = true;
            break;
        case MODA_CLI_OPTION_run_suppressions: run->suppressions_path = args->value; break;
        case MODA_CLI_OPTION_run_library: run->library = args->value; break;
        case MODA_CLI_OPTION_run_sample: run->has_sample = true; /* fall through */
        default: moda_cli_args_set_variable(args, option); break;
        }
    }
}

static void set_exact(void) {
    setenv("MOD_ALLOC_SAMPLE", "1", 1);
}

static void check_options(run_state *run) {
    const moda_cli_args *const args = &run->args;
    moda_error error = {.text = ""};
    uint64_t sample = 0;
    if (args->operand_count == 0) {
        moda_cli_misuse(args, "which program?");
    }
    if (run->has_sample) {
        moda_cli_parse_bytes(getenv("MOD_ALLOC_SAMPLE"), &sample);
    }
    if (run->is_exact && run->has_sample && sample != 1) {
        moda_cli_misuse(args, "--exact and --sample contradict each other");
    }
    if (run->suppressions_path != NULL) {
        run->has_gate = true;
        if (run->has_sample && sample != 1) {
            moda_cli_misuse(args, "--suppressions needs every allocation sampled: leave --sample out");
        }
        if (!moda_cli_suppressions_read(&run->gate.suppressions, run->suppressions_path, &error)) {
            moda_cli_misuse(args, "--suppressions: %s", error.text);
        }
    }
    if (run->is_exact || (run->has_gate && !run->has_sample)) {
        set_exact();
    }
    if (run->format == NULL) {
        run->format = moda_cli_format_of_suffix(run->output);
    }
    if (run->format != NULL) {
        run->writer = moda_writer_find(run->format);
        if (run->writer == NULL) {
            moda_cli_misuse(args, "this mod-alloc cannot write the format '%s'", run->format);
        }
    } else if (run->output != NULL && strcmp(run->output, "-") == 0) {
        moda_cli_misuse(args, "--output: a profile is not for standard output, which is the program's: name a"
                              " file, or a --format");
    }
}

/* ---- where the profile goes ---- */

/* Where a kept profile goes: %p = pid, %e = program, %% = %. */
static void expand(const run_state *run, const moda_profile *profile, pid_t pid, const char *pattern,
                   char *path, size_t size) {
    const moda_profile_process *const process = profile != NULL ? &profile->processes[0] : NULL;
    const char *executable = process != NULL && process->executable != NULL && process->executable[0] != '\0'
                                 ? process->executable
                                 : run->program.path;
    const char *const slash = strrchr(executable, '/');
    executable = slash != NULL ? slash + 1 : executable;
    size_t length = 0;
    for (; *pattern != '\0' && length + 1 < size; pattern++) {
        int n = 1;
        if (pattern[0] == '%' && pattern[1] == 'p') {
            n = snprintf(path + length, size - length, "%ld", (long)pid);
            pattern++;
        } else if (pattern[0] == '%' && pattern[1] == 'e') {
            n = snprintf(path + length, size - length, "%s", executable);
            pattern++;
        } else {
            pattern += pattern[0] == '%' && pattern[1] == '%';
            path[length] = *pattern;
        }
        length += (size_t)n;
    }
    path[length < size ? length : size - 1] = '\0';
}

/* The name with places to fill in of what is to be written; NULL: nothing but what a killed program leaves. */
static const char *output_pattern(const run_state *run, char *room, size_t size) {
    if (run->output != NULL || run->writer == NULL) {
        return run->output;
    }
    snprintf(room, size, "mod-alloc.%%e.%%p.%s", run->writer->extension);
    return room;
}

/* What could not be written at the end is found out before the program runs. Its pid is not known yet: ours stands for
 * it. */
static void check_output(const run_state *run) {
    char path[PATH_MAX] = "-", room[64];
    moda_error error = {.text = ""};
    const char *const pattern = output_pattern(run, room, sizeof room);
    if (pattern != NULL) {
        expand(run, NULL, getpid(), pattern, path, sizeof path);
    }
    if ((strcmp(path, "-") != 0 && !moda_cli_can_write(path, &error))
        || (run->json != NULL && strcmp(run->json, "-") != 0 && !moda_cli_can_write(run->json, &error))) {
        moda_cli_fail(&run->args, MODA_CLI_MISUSE, "%s", error.text);
    }
}

/* ---- start ---- */

/* LD_PRELOAD is split at blanks and colons, without a way to quote them: such a library is preloaded
 * through a link that has none. */
static void name_for_preload(const run_state *run, const char *library, char *name, size_t size) {
    snprintf(name, size, "%s", library);
    if (strpbrk(library, " :") == NULL) {
        return;
    }
    snprintf(name, size, "%s/libmod_alloc.so", run->scratch.path);
    if (symlink(library, name) != 0) {
        moda_cli_fail(&run->args, MODA_CLI_MISUSE, "%s: %s", name, strerror(errno));
    }
}

static void start(run_state *run) {
    char library[PATH_MAX], preloaded[PATH_MAX + 32], profile[PATH_MAX + 32];
    moda_error error = {.text = ""};
    moda_cli_find_library(&run->args, run->library, library);
    if (!moda_cli_program_check(&run->program, run->args.operand[0], library)) {
        moda_cli_say(&run->args, "%s", run->program.why);
        if (run->program.instead[0] != '\0') {
            fprintf(stderr, "%s\n", run->program.instead);
        }
        exit(run->program.status);
    }
    check_output(run);
    if (!moda_cli_scratch_make(&run->scratch, &error)) {
        moda_cli_fail(&run->args, MODA_CLI_MISUSE, "%s", error.text);
    }
    if (run->output != NULL) {
        moda_cli_scratch_is_for(&run->scratch, run->output);
    }
    name_for_preload(run, library, preloaded, sizeof preloaded);
    snprintf(profile, sizeof profile, "%s/%%p.prof", run->scratch.path);
    const char *const before = getenv("LD_PRELOAD");
    const bool has_before = before != NULL && before[0] != '\0';
    const size_t size = strlen(preloaded) + (has_before ? strlen(before) : 0) + 2;
    char *const preload = malloc(size);
    if (preload == NULL) {
        moda_cli_scratch_remove(&run->scratch);
        moda_cli_fail(&run->args, MODA_CLI_MISUSE, "no memory");
    }
    snprintf(preload, size, "%s%s%s", preloaded, has_before ? ":" : "", has_before ? before : "");
    const moda_cli_setting settings[] = {
        {"MOD_ALLOC_PROFILE", profile},
        {run->program.has_mod_alloc ? NULL : "LD_PRELOAD", preload},
        {NULL, NULL},
    };
    run->end = moda_cli_launch(run->args.operand, settings);
    free(preload);
    if (run->end.error_number != 0) {
        moda_cli_scratch_remove(&run->scratch);
        moda_cli_fail(&run->args,
                      run->end.error_number == ENOENT ? MODA_CLI_NOT_FOUND : MODA_CLI_NOT_EXECUTABLE,
                      "cannot run '%s': %s", run->args.operand[0], strerror(run->end.error_number));
    }
}

/* ---- afterwards: the profiles of the program's processes ---- */

typedef struct found {
    moda_profile *profile;
    char path[PATH_MAX + 256];
} found;

static bool is_running(uint32_t pid) {
    return kill((pid_t)pid, 0) == 0 || errno == EPERM;
}

/* The root is the process that we started; if it called exec there are several of its pid, and the last is
 * the one that ran to the end. */
static size_t find_root(const run_state *run, const found *all, size_t count) {
    size_t root = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        const moda_profile_process *const process = &all[i].profile->processes[0];
        if (process->pid == (uint32_t)run->end.pid
            && (root == SIZE_MAX
                || process->start_realtime_ns >= all[root].profile->processes[0].start_realtime_ns)) {
            root = i;
        }
    }
    return root;
}

static void count_other(run_state *run, const found *one) {
    const moda_profile *const profile = one->profile;
    const moda_profile_process *const process = &profile->processes[0];
    const bool is_image =
        strstr(moda_base_name(one->path), ".prof.exec") != NULL; /* mod_alloc.h, "Processes" */
    run->images += is_image;
    run->others += !is_image;
    run->others_bytes += profile->totals.total_bytes;
    if (profile->totals.peak_bytes > run->others_peak) {
        run->others_peak = profile->totals.peak_bytes;
    }
    run->others_running += !is_image && process->pid != (uint32_t)run->end.pid && !process->exited_cleanly
                           && is_running(process->pid);
}

/* Of a pipe: who read from it has seen enough. */
static bool reader_is_gone(int fd) {
    struct pollfd end = {.fd = fd, .events = POLLOUT};
    return poll(&end, 1, 0) == 1 && (end.revents & (POLLERR | POLLHUP)) != 0;
}

static size_t read_all(run_state *run, found **all) {
    size_t name_count, count = 0;
    /* PID.prof; PID.prof.execN: before an exec; PID.prof.PID: of two name spaces that both have this pid */
    char **const names = moda_cli_scratch_list(&run->scratch, ".prof", &name_count);
    *all = calloc(name_count + 1, sizeof **all);
    for (size_t i = 0; i < name_count; i++) {
        if (*all != NULL) {
            found *const one = &(*all)[count];
            moda_error error = {.text = ""};
            snprintf(one->path, sizeof one->path, "%s/%s", run->scratch.path, names[i]);
            one->profile = moda_profile_read_file(one->path, &error);
            if (one->profile != NULL && one->profile->process_count == 1) {
                count++;
            } else {
                moda_profile_free(one->profile);
                moda_cli_say(&run->args, "a profile is left out: %s", error.text);
            }
        }
        free(names[i]);
    }
    free(names);
    return count;
}

/* By a signal that nobody expects. */
static bool is_broken_off(const run_state *run) {
    return run->end.is_killed && !run->is_unread;
}

/* A profile is kept where --output asks for one; else where a signal killed the program: it may be all that is
 * left of it. */
static void keep(run_state *run, const found *root) {
    moda_error error = {.text = ""};
    if (run->writer != NULL || (run->output == NULL && !is_broken_off(run))) {
        return;
    }
    const bool is_merged = run->is_tree && run->processes > 1;
    const char *const pattern = run->output != NULL ? run->output : "mod-alloc.%e.%p.prof";
    expand(run, root->profile, run->end.pid, pattern, run->kept, sizeof run->kept);
    if (is_merged ? moda_cli_write_profile(run->kept, run->profile, &error)
                  : moda_cli_copy_file(root->path, run->kept, &error)) {
        return;
    }
    moda_cli_say(&run->args, "%s", error.text);
    run->kept[0] = '\0';
    run->has_lost = true;
}

/* All processes as one profile, named after the first. */
static void merge_tree(run_state *run, const found *all, size_t count, size_t root) {
    moda_error error = {.text = ""};
    const moda_profile **const parts = calloc(count, sizeof(moda_profile *));
    size_t n = 0;
    if (parts != NULL && root != SIZE_MAX) {
        parts[n++] = all[root].profile;
    }
    for (size_t i = 0; parts != NULL && i < count; i++) {
        if (i != root) {
            parts[n++] = all[i].profile;
        }
    }
    run->profile = parts != NULL ? moda_profile_merge(parts, n, &error) : NULL;
    if (run->profile == NULL) {
        moda_cli_say(&run->args, "%s", error.text);
    }
    free(parts);
}

/* Reads the profiles and keeps what is to be kept. */
static void collect(run_state *run) {
    found *all;
    const size_t count = read_all(run, &all);
    const size_t root = find_root(run, all, count);
    run->processes = count;
    if (run->is_tree && count > 1) {
        merge_tree(run, all, count, root);
    } else if (root != SIZE_MAX) {
        run->profile = all[root].profile;
    }
    if (root != SIZE_MAX) {
        snprintf(run->recorded, sizeof run->recorded, "%s", all[root].path);
    }
    if (root != SIZE_MAX && run->profile != NULL) {
        keep(run, &all[root]);
    } else {
        run->has_lost = run->output != NULL; /* too large to be merged, perhaps */
    }
    for (size_t i = 0; i < count; i++) {
        if (i != root) {
            count_other(run, &all[i]);
        }
        if (all[i].profile != run->profile) {
            moda_profile_free(all[i].profile);
        }
    }
    free(all);
}

/* ---- afterwards: what is said ---- */

static moda_cli_stats stats_of(const run_state *run) {
    moda_cli_stats stats = moda_cli_stats_of(run->profile);
    stats.pid = run->end.pid;
    stats.end = run->is_unread ? MODA_CLI_UNREAD : run->end.is_killed ? MODA_CLI_KILLED : MODA_CLI_EXITED;
    stats.exit_status = run->end.exit_status;
    stats.signal = run->end.signal;
    stats.has_usage = true;
    stats.elapsed_ns = run->end.elapsed_ns;
    stats.user_ns = run->end.user_ns;
    stats.system_ns = run->end.system_ns;
    stats.max_resident_bytes = run->end.max_resident_bytes;
    return stats;
}

static void print_others(const run_state *run, moda_out *out) {
    char bytes[MODA_HUMAN_SIZE], peak[MODA_HUMAN_SIZE];
    if (run->others + run->images == 0 || run->is_tree) {
        return;
    }
    moda_out_text(out, "  not counted: ");
    if (run->others > 0) {
        moda_out_format(out, "%zu other process%s of this run", run->others, run->others == 1 ? "" : "es");
    }
    if (run->images > 0) {
        moda_out_format(out, "%s%zu program%s that became another by exec", run->others > 0 ? " and " : "",
                        run->images, run->images == 1 ? "" : "s");
    }
    moda_out_format(out, ", %s allocated, largest peak %s",
                    moda_human_bytes(bytes, (int64_t)run->others_bytes),
                    moda_human_bytes(peak, (int64_t)run->others_peak));
    if (run->others_running > 0) {
        moda_out_format(out, " (%zu still running)", run->others_running);
    }
    moda_out_text(out, "; --tree adds them\n");
}

/* By more than chance. */
static bool sites_exceed_total(const moda_profile *profile) {
    const moda_values *const sites = &profile->site_totals;
    const double more = (double)sites->of[MODA_VALUE_ALLOCATED_BYTES] - (double)profile->totals.total_bytes;
    return more > 0 && more > 2 * moda_values_standard_error(sites, MODA_VALUE_ALLOCATED_BYTES);
}

static void print_dropped(const moda_profile *profile, moda_out *out) {
    uint64_t samples = 0, records = 0;
    char count[MODA_HUMAN_SIZE];
    for (size_t i = 0; i < profile->process_count; i++) {
        samples += profile->processes[i].dropped;
        records += profile->processes[i].dropped_disk;
    }
    if (samples > 0) {
        moda_out_format(out, "  %s samples found no room for their stack: %s\n",
                        moda_human_count(count, (int64_t)samples),
                        records > 0 ? "the disk was full that the profile lay on (/dev/shm, or TMPDIR)"
                                    : "a larger --memory makes room");
    }
}

static void print_sites(const run_state *run, const moda_report *report, const moda_cli_view *view,
                        moda_out *out) {
    moda_error error = {.text = ""};
    char sample[MODA_HUMAN_SIZE];
    const moda_profile *const profile = run->profile;
    if (profile->site_count == 0) {
        if (profile->sample_bytes > 1 && profile->totals.alloc_count > 0) {
            moda_out_format(out,
                            "  no call sites: one allocation in %s is sampled; --exact records every one\n",
                            moda_human_bytes(sample, (int64_t)profile->sample_bytes));
        }
        return;
    }
    if (report == NULL) {
        return;
    }
    moda_table *const table = moda_table_build(report, MODA_BY_SITE, view->write.value, false, &error);
    if (table == NULL) {
        moda_cli_say(&run->args, "%s", error.text);
        return;
    }
    moda_out_char(out, '\n');
    moda_text_rows(report, table, &view->write, out);
    moda_table_free(table);
    if (view->write.value == MODA_VALUE_ALLOCATED_BYTES && sites_exceed_total(profile)) {
        moda_out_text(out,
                      "  a realloc counts with its whole block at its site, with its growth in the total\n");
    }
    print_dropped(profile, out);
}

/* The file that --format asks for. False where it cannot be written. */
static bool write_format(const run_state *run, const moda_report *report, moda_cli_view *view) {
    char path[PATH_MAX], room[64];
    moda_error error = {.text = ""};
    expand(run, run->profile, run->end.pid, output_pattern(run, room, sizeof room), path, sizeof path);
    moda_cli_view own = *view;
    own.output = path;
    own.write.top = 0;
    own.has_width = true;
    own.write.width = 0;
    if (!moda_cli_write_report(&own, report, run->writer, &error)) {
        if (strcmp(path, "-") == 0 && reader_is_gone(STDOUT_FILENO)) {
            return true;
        }
        moda_cli_say(&run->args, "%s", error.text);
        return false;
    }
    if (!run->is_quiet && strcmp(path, "-") != 0) {
        fprintf(stderr, "mod-alloc: wrote %s (%s)\n", path, run->writer->name);
    }
    return true;
}

static void explain_no_profile(const run_state *run) {
    if (run->is_unread) {
        moda_cli_say(
            &run->args,
            "the program ended with the reader of its output (SIGPIPE), before it allocated anything");
        return;
    }
    if (run->end.is_killed) {
        moda_cli_say(&run->args, "the program was killed by signal %d before it allocated anything",
                     run->end.signal);
        return;
    }
    moda_cli_say(
        &run->args,
        "%s left no profile: mod-alloc was not loaded into it, malloc is its own, or it runs as another user",
        run->program.path);
}

static void print_kept(const run_state *run) {
    if (run->kept[0] == '\0') {
        return;
    }
    if (is_broken_off(run)) {
        const char *const name = sigabbrev_np(run->end.signal);
        fprintf(stderr, "mod-alloc: killed by signal %d (%s%s); the profile up to then is kept in %s\n",
                run->end.signal, name ? "SIG" : "", name ? name : "?", run->kept);
    } else if (!run->is_quiet) {
        fprintf(stderr, "mod-alloc: the profile is in %s\n", run->kept);
    }
}

/* 0, or MODA_CLI_TROUBLE / MODA_CLI_MISUSE where something asked for failed. */
static int tell(run_state *run) {
    int status = MODA_CLI_DONE;
    moda_error error = {.text = ""};
    const moda_cli_stats stats = stats_of(run);
    const bool needs_names = run->writer != NULL
                             || (!run->is_quiet && run->top > 0 && run->profile->site_count > 0)
                             || run->has_gate;
    moda_cli_view view, err;
    moda_cli_view_begin(&view);
    view.is_quiet = run->is_quiet;
    moda_report *report = NULL;
    moda_out out;
    if (run->json != NULL && !moda_cli_write_stats_json(run->json, &stats, &error)) {
        moda_cli_say(&run->args, "%s", error.text);
        status = MODA_CLI_MISUSE;
    }
    if (needs_names && (report = moda_cli_build_report(&view, run->profile, &error)) == NULL) {
        moda_cli_say(&run->args, "%s", error.text);
        status = MODA_CLI_MISUSE;
    }
    err = view;
    moda_cli_open_stderr(&err, &out);
    if (err.write.width == 0) {
        err.write.width = WIDTH; /* `report` has whole names */
    }
    err.write.top = run->top;
    err.write.depth = DEPTH;
    err.write.value = MODA_VALUE_ALLOCATED_BYTES;
    if (!run->is_quiet) {
        moda_out_char(&out, '\n');
        moda_cli_print_stats(&out, &stats);
        print_others(run, &out);
        if (run->top > 0) {
            print_sites(run, report, &err, &out);
        }
    }
    if (run->has_gate && report != NULL
        && !moda_cli_gate_passes(&run->gate, report, run->top, run->is_quiet, &out)) {
        status = MODA_CLI_TROUBLE;
    }
    moda_out_close(&out, &error);
    if (run->writer != NULL && (report == NULL || !write_format(run, report, &view))) {
        run->has_lost = true;
    }
    moda_report_free(report);
    return status;
}

/* Gives the directory back. Where what was to be kept could not be written, it stays, and is told. */
static void give_back(run_state *run) {
    if (!run->has_lost || run->recorded[0] == '\0') {
        moda_cli_scratch_remove(&run->scratch);
        return;
    }
    moda_cli_scratch_keep(&run->scratch);
    moda_cli_say(&run->args, "what was recorded is in %s/%s", run->scratch.path,
                 run->is_tree && run->processes > 1 ? "" : moda_base_name(run->recorded));
}

int moda_cli_run(int argc, char **argv) {
    run_state run;
    take_options(&run, argc, argv);
    check_options(&run);
    start(&run);
    run.is_unread = run.end.is_killed && run.end.signal == SIGPIPE && reader_is_gone(STDOUT_FILENO);
    signal(SIGPIPE,
           SIG_IGN); /* the program's status and files are more than a table that nobody reads to its end */
    collect(&run);
    int status = MODA_CLI_DONE;
    if (run.profile != NULL) {
        status = tell(&run);
    } else {
        explain_no_profile(&run);
        status = run.has_gate ? MODA_CLI_TROUBLE : MODA_CLI_DONE; /* a gate that saw nothing is not passed */
    }
    print_kept(&run);
    give_back(&run);
    if (run.has_lost && status == MODA_CLI_DONE) {
        status = MODA_CLI_MISUSE;
    }
    moda_profile_free(run.profile);
    moda_cli_suppressions_free(&run.gate.suppressions);
    if (!run.end.is_killed && run.end.exit_status == 0 && status != MODA_CLI_DONE) {
        return status;
    }
    moda_cli_end_alike(&run.end);
}
