/* SPDX-License-Identifier: MIT
 *
 * screen.c - the terminal as a screen that is drawn anew, and keys as they are pressed.
 *
 * ECMA-48 sequences that every terminal of today knows: alternate screen, cursor home, erase to the end of
 * the line and of the screen. A frame is one write, lines are erased as they are overwritten: no flicker.
 */
#include "cli/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static struct termios before;
static bool is_entered;
static volatile sig_atomic_t has_quit, has_resized, has_stopped;

static void put(const char *bytes, size_t length) {
    while (length > 0) {
        const ssize_t n = write(STDOUT_FILENO, bytes, length);
        if (n < 0 && errno != EINTR) {
            return;
        }
        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
        }
    }
}

static void put_text(const char *text) {
    put(text, strlen(text));
}

bool moda_cli_screen_is_possible(void) {
    const char *const kind = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind != NULL && strcmp(kind, "dumb") != 0;
}

static void on_signal(int signal) {
    if (signal == SIGWINCH) {
        has_resized = 1;
    } else if (signal == SIGTSTP) {
        has_stopped = 1;
    } else {
        has_quit = 1;
    }
}

static void take_signal(int signal) {
    const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: poll wakes up */
    sigaction(signal, &action, NULL);
}

void moda_cli_screen_catch_signals(void) {
    take_signal(SIGINT);
    take_signal(SIGTERM);
    take_signal(SIGHUP);
}

void moda_cli_screen_enter(void) {
    static bool is_registered;
    if (tcgetattr(STDIN_FILENO, &before) != 0) {
        return;
    }
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    is_entered = true;
    put_text("\033[?1049h\033[?25l");
    take_signal(SIGWINCH);
    take_signal(SIGTSTP);
    if (!is_registered) {
        atexit(moda_cli_screen_leave);
        is_registered = true;
    }
}

void moda_cli_screen_leave(void) {
    if (is_entered) {
        is_entered = false;
        put_text("\033[?25h\033[?1049l");
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    }
}

/* ^Z: the terminal goes back to the shell as it was, and is taken again when we are continued. */
static void stop(void) {
    has_stopped = 0;
    moda_cli_screen_leave();
    raise(SIGSTOP);
    moda_cli_screen_enter();
}

void moda_cli_screen_size(unsigned *columns, unsigned *rows) {
    struct winsize size;
    const bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    *columns = is_known ? size.ws_col : 80;
    *rows = is_known ? size.ws_row : 24;
}

/* Length in bytes of what fits; a UTF-8 sequence takes one column. */
static size_t cut(const char *line, size_t length, unsigned columns) {
    unsigned used = 0;
    for (size_t i = 0; i < length;) {
        if (line[i] == '\033') {
            const char *const end = memchr(line + i, 'm', length - i);
            i = end != NULL ? (size_t)(end - line) + 1 : length;
            continue;
        }
        if (used == columns) {
            return i;
        }
        used++;
        for (i++; i < length && ((unsigned char)line[i] & 0xc0) == 0x80; i++) {
        }
    }
    return length;
}

void moda_cli_screen_show(const char *text) {
    unsigned columns, rows;
    moda_cli_screen_size(&columns, &rows);
    moda_out out;
    moda_out_to_buffer(&out);
    moda_out_text(&out, "\033[H");
    for (unsigned row = 0; row < rows && *text != '\0'; row++) {
        const size_t length = strcspn(text, "\n");
        moda_out_text(&out, row > 0 ? "\r\n" : "");
        moda_out_bytes(&out, text, cut(text, length, columns));
        moda_out_text(&out, "\033[0m\033[K");
        text += length + (text[length] == '\n');
    }
    moda_out_text(&out, "\033[J");
    if (!out.failed) {
        put(out.buffer, out.length);
    }
    free(out.buffer);
}

moda_cli_wake moda_cli_screen_wait(int milliseconds, char *key) {
    struct pollfd input = {.fd = is_entered ? STDIN_FILENO : -1, .events = POLLIN};
    const int ready = poll(&input, 1, milliseconds);
    if (has_stopped) {
        stop();
        return MODA_CLI_WAKE_REDRAW;
    }
    if (has_quit) {
        return MODA_CLI_WAKE_QUIT;
    }
    if (has_resized) {
        has_resized = 0;
        return MODA_CLI_WAKE_REDRAW;
    }
    if (ready > 0) {
        return read(STDIN_FILENO, key, 1) == 1 ? MODA_CLI_WAKE_KEY : MODA_CLI_WAKE_QUIT;
    }
    return MODA_CLI_WAKE_TIME;
}
