/* SPDX-License-Identifier: MIT
 *
 * view.c - what report, diff and merge have in common, and the way from a profile to a file.
 */
#include "cli/view.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- options ---- */

void moda_cli_view_begin(moda_cli_view *view) {
    *view = (moda_cli_view){.color = "auto"};
    moda_write_options_default(&view->write);
}

static void take_expression(const moda_cli_args *args, int option, const char **list, size_t *count) {
    regex_t compiled;
    char message[256];
    const char *const name = moda_cli_option((moda_cli_option_id)option).name;
    const int result = regcomp(&compiled, args->value, REG_EXTENDED | REG_NOSUB);
    if (result != 0) {
        regerror(result, &compiled, message, sizeof message);
        moda_cli_misuse(args, "--%s: '%s': %s", name, args->value, message);
    }
    regfree(&compiled);
    if (*count == MODA_CLI_EXPRESSIONS) {
        moda_cli_misuse(args, "--%s: at most %d of them", name, MODA_CLI_EXPRESSIONS);
    }
    list[(*count)++] = args->value;
}

static void take_value(moda_cli_view *view, const moda_cli_args *args, const char *word) {
    if (!moda_value_parse(word, &view->write.value)) {
        moda_cli_misuse(args, "--value: '%s' is none of %s", word, MODA_CLI_VALUES);
    }
    view->has_value = true;
}

static bool take_rows(moda_cli_view *view, const moda_cli_args *args, int option, const char *name) {
    if (strcmp(name, "by") == 0) {
        if (!moda_by_parse(args->value, &view->write.by)) {
            moda_cli_misuse(args, "--by: '%s' is none of %s", args->value, MODA_CLI_GROUPS);
        }
    } else if (strcmp(name, "value") == 0) {
        take_value(view, args, args->value);
    } else if (strcmp(name, "allocated") == 0 || strcmp(name, "live") == 0 || strcmp(name, "peak") == 0) {
        take_value(view, args, name);
    } else if (strcmp(name, "cumulative") == 0) {
        view->write.by_total = true;
    } else if (strcmp(name, "top") == 0) {
        const uint64_t top = moda_cli_args_number(args, option, 0, 1000000000);
        view->write.top = top == 0 ? 1000000000 : (size_t)top; /* 0 in the library: its default */
    } else {
        return false;
    }
    return true;
}

static bool take_stacks(moda_cli_view *view, const moda_cli_args *args, int option, const char *name) {
    if (strcmp(name, "filter") == 0) {
        take_expression(args, option, view->keep, &view->report.keep_count);
    } else if (strcmp(name, "drop") == 0) {
        take_expression(args, option, view->drop, &view->report.drop_count);
    } else if (strcmp(name, "hide") == 0) {
        take_expression(args, option, view->hide, &view->report.hide_count);
    } else {
        return false;
    }
    return true;
}

static bool take_names(moda_cli_view *view, const moda_cli_args *args, const char *name) {
    if (strcmp(name, "no-symbols") == 0) {
        view->names.no_symbols = true;
    } else if (strcmp(name, "no-inlines") == 0) {
        view->names.no_inlines = true;
    } else if (strcmp(name, "no-lines") == 0) {
        view->names.no_lines = true;
    } else if (strcmp(name, "debug-path") == 0) {
        view->names.debug_path = args->value;
    } else if (strcmp(name, "root") == 0) {
        view->names.root = args->value;
    } else {
        return false;
    }
    view->has_names = true;
    return true;
}

static bool take_output(moda_cli_view *view, const moda_cli_args *args, int option, const char *name) {
    if (strcmp(name, "output") == 0) {
        view->output = args->value;
    } else if (strcmp(name, "quiet") == 0) {
        view->is_quiet = true;
    } else if (strcmp(name, "format") == 0) {
        moda_cli_args_choice(args, option);
        view->format = args->value;
    } else if (strcmp(name, "depth") == 0) {
        view->write.depth = (size_t)moda_cli_args_number(args, option, 1, 100000);
    } else if (strcmp(name, "width") == 0) {
        view->write.width = (unsigned)moda_cli_args_number(args, option, 0, 100000);
        view->has_width = true;
    } else if (strcmp(name, "wide") == 0) {
        view->write.width = 0;
        view->has_width = true;
    } else if (strcmp(name, "color") == 0) {
        moda_cli_args_choice(args, option);
        view->color = args->value;
    } else {
        return false;
    }
    return true;
}

bool moda_cli_view_take(moda_cli_view *view, const moda_cli_args *args, int option) {
    const char *const name = moda_cli_option((moda_cli_option_id)option).name;
    return take_rows(view, args, option, name) || take_stacks(view, args, option, name)
           || take_names(view, args, name) || take_output(view, args, option, name);
}

/* ---- writer ---- */

static bool ends_with(const char *text, const char *end) {
    const size_t length = strlen(text), wanted = strlen(end);
    return length > wanted && strcasecmp(text + length - wanted, end) == 0;
}

/* Plain .json is our own rows; the other formats in JSON are asked for by name or by a longer suffix. */
const char *moda_cli_format_of_suffix(const char *path) {
    static const struct {
        const char *suffix, *format;
    } table[] = {
        {".html", "html"},      {".htm", "html"},
        {".csv", "csv"},        {".folded", "folded"},
        {".pb.gz", "pprof"},    {".pb", "pprof"},
        {".pprof", "pprof"},    {".heap", "heap_v2"},
        {".txt", "text"},       {".speedscope.json", "speedscope"},
        {".dhat.json", "dhat"}, {".json", "json"},
    };
    for (size_t i = 0; path != NULL && i < sizeof table / sizeof *table; i++) {
        if (ends_with(path, table[i].suffix)) {
            return table[i].format;
        }
    }
    return NULL;
}

const char *moda_cli_view_format(const moda_cli_view *view, const char *otherwise) {
    const char *const by_suffix = moda_cli_format_of_suffix(view->output);
    return view->format != NULL ? view->format : by_suffix != NULL ? by_suffix : otherwise;
}

const moda_writer *moda_cli_view_writer(const moda_cli_view *view, const moda_cli_args *args,
                                        const char *otherwise) {
    const char *const name = moda_cli_view_format(view, otherwise);
    const moda_writer *const writer = moda_writer_find(name);
    if (writer == NULL) {
        moda_cli_misuse(args, "this mod-alloc cannot write the format '%s'", name);
    }
    if (writer->is_binary && (view->output == NULL || strcmp(view->output, "-") == 0)
        && isatty(STDOUT_FILENO)) {
        moda_cli_misuse(args, "%s is not for a terminal: name a file with --output", name);
    }
    return writer;
}

void moda_cli_spare_profiles(const moda_cli_args *args, const moda_cli_view *view) {
    struct stat output, profile;
    if (view->output == NULL || stat(view->output, &output) != 0 || !S_ISREG(output.st_mode)) {
        return;
    }
    for (int i = 0; i < args->operand_count; i++) {
        if (stat(args->operand[i], &profile) == 0 && profile.st_dev == output.st_dev
            && profile.st_ino == output.st_ino) {
            moda_cli_misuse(args, "--output: '%s' is the profile that is read, and would be lost",
                            view->output);
        }
    }
}

/* ---- profile ---- */

moda_profile *moda_cli_read_profiles(const moda_cli_args *args, char **names, size_t count) {
    moda_error error = {.text = ""};
    moda_profile **const parts = calloc(count + 1, sizeof(moda_profile *));
    for (size_t i = 0; parts != NULL && i < count; i++) {
        parts[i] = moda_profile_read(names[i], &error);
        if (parts[i] == NULL) {
            moda_cli_fail(args, MODA_CLI_MISUSE, "%s", error.text);
        }
    }
    moda_profile *profile = NULL;
    if (parts != NULL && count == 1) {
        profile = parts[0];
    } else if (parts != NULL) {
        profile = moda_profile_merge((const moda_profile *const *)parts, count, &error);
        for (size_t i = 0; i < count; i++) {
            moda_profile_free(parts[i]);
        }
    }
    free(parts);
    if (profile == NULL) {
        moda_cli_fail(args, MODA_CLI_MISUSE, "%s", error.text[0] ? error.text : "no memory");
    }
    return profile;
}

/* ---- names, with a progress bar ---- */

enum { BAR_WIDTH = 30, BAR_AFTER_MS = 300 };

typedef struct progress_bar {
    struct timespec started;
    int shown; /* per cent; -1 = nothing is on the screen */
} progress_bar;

static long milliseconds_since(const struct timespec *started) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long)(now.tv_sec - started->tv_sec) * 1000 + (now.tv_nsec - started->tv_nsec) / 1000000;
}

/* Nothing at all for what is done in the blink of an eye. */
static void show_progress(void *context, size_t done, size_t total) {
    static const char full[BAR_WIDTH + 1] = "##############################";
    progress_bar *const bar = context;
    const int percent = total > 0 ? (int)(100.0 * (double)done / (double)total) : 100;
    if (percent == bar->shown || (bar->shown < 0 && milliseconds_since(&bar->started) < BAR_AFTER_MS)) {
        return;
    }
    bar->shown = percent;
    const int filled = BAR_WIDTH * percent / 100;
    fprintf(stderr, "\r  looking up names [%.*s%*s] %3d %%", filled, full, BAR_WIDTH - filled, "", percent);
    fflush(stderr);
}

static void clear_progress(const progress_bar *bar) {
    if (bar->shown >= 0) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}

const char *moda_cli_root_of(const moda_profile *profile, char *root, size_t size) {
    int pid;
    struct stat theirs, ours;
    if (profile->process_count != 1 || !profile->processes[0].is_live
        || sscanf(profile->processes[0].source, "process %d", &pid) != 1) {
        return NULL;
    }
    snprintf(root, size, "/proc/%d/root", pid);
    const bool is_known = stat(root, &theirs) == 0 && stat("/", &ours) == 0;
    return is_known && (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino) ? root : NULL;
}

moda_report *moda_cli_build_report(moda_cli_view *view, const moda_profile *profile, moda_error *error) {
    progress_bar bar = {.shown = -1};
    clock_gettime(CLOCK_MONOTONIC, &bar.started);
    moda_report_options options = view->report;
    options.keep = view->keep;
    options.drop = view->drop;
    options.hide = view->hide;
    if (!view->is_quiet && isatty(STDERR_FILENO)) {
        options.progress = (moda_progress){.step = show_progress, .context = &bar};
    }
    char root[32];
    moda_symbolizer_options names = view->names;
    if (names.root == NULL) {
        names.root = moda_cli_root_of(profile, root, sizeof root);
    }
    options.symbolizer = moda_symbolizer_new(&names, error);
    moda_report *const report =
        options.symbolizer != NULL ? moda_report_build(profile, &options, error) : NULL;
    moda_symbolizer_free(options.symbolizer);
    clear_progress(&bar);
    return report;
}

/* ---- out ---- */

static unsigned terminal_width(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 0;
}

static void fit(moda_cli_view *view, const moda_out *out) {
    const bool is_terminal = out->fd >= 0 && isatty(out->fd);
    if (!view->has_width) {
        view->write.width = is_terminal ? terminal_width(out->fd) : 0;
    }
    const char *const no_color = getenv("NO_COLOR"); /* no-color.org */
    view->write.has_color =
        strcmp(view->color, "always") == 0
        || (strcmp(view->color, "auto") == 0 && is_terminal && (no_color == NULL || no_color[0] == '\0'));
}

bool moda_cli_open_output(moda_cli_view *view, moda_out *out, moda_error *error) {
    if (!moda_out_to_path(out, view->output != NULL ? view->output : "-", error)) {
        return false;
    }
    fit(view, out);
    return true;
}

void moda_cli_open_stderr(moda_cli_view *view, moda_out *out) {
    moda_out_to_fd(out, STDERR_FILENO, "standard error");
    fit(view, out);
}

bool moda_cli_write_report(const moda_cli_view *view, const moda_report *report, const moda_writer *writer,
                           moda_error *error) {
    moda_cli_view own = *view;
    moda_out out;
    if (!moda_cli_open_output(&own, &out, error)) {
        return false;
    }
    const bool is_written = writer->write(report, &own.write, &out, error) == 0;
    if (!is_written) {
        out.failed = true; /* no half report under the file's name */
        moda_error_set(error, "%s: cannot be written as %s", own.output ? own.output : "standard output",
                       writer->name);
    }
    return moda_out_close(&out, error) && is_written;
}

bool moda_cli_write_profile(const char *path, const moda_profile *profile, moda_error *error) {
    moda_out out;
    if (!moda_out_to_path(&out, path, error)) {
        return false;
    }
    const bool is_written = moda_profile_write(profile, &out, error);
    out.failed = out.failed || !is_written; /* no half profile under the file's name */
    return moda_out_close(&out, error) && is_written;
}
