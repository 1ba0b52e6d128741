/* SPDX-License-Identifier: MIT
 *
 * screen.h - the terminal as a screen that is drawn anew, and keys as they are pressed.
 */
#ifndef MODA_CLI_SCREEN_H
#define MODA_CLI_SCREEN_H

#include <stdbool.h>

#include "report/report.h"

typedef enum moda_cli_wake {
    MODA_CLI_WAKE_TIME,   /* the time is over */
    MODA_CLI_WAKE_KEY,    /* *key was pressed */
    MODA_CLI_WAKE_REDRAW, /* the screen has another size, or was away */
    MODA_CLI_WAKE_QUIT    /* a signal asks us to end */
} moda_cli_wake;

/* Both standard input and output are a terminal that takes ANSI sequences. */
bool moda_cli_screen_is_possible(void);

/* Takes the terminal over (alternate screen, no echo); given back at exit, also after a signal. */
void moda_cli_screen_enter(void);
void moda_cli_screen_leave(void);
/* Signals that end us become MODA_CLI_WAKE_QUIT; also without a screen. */
void moda_cli_screen_catch_signals(void);

void moda_cli_screen_size(unsigned *columns, unsigned *rows);

/* Puts `text`, lines ended by newlines, from the top left; lines are cut at the screen's width and the rest of
 * the screen is cleared. Escape sequences `ESC [ ... m` take no room. */
void moda_cli_screen_show(const char *text);

/* Waits at most so long. */
moda_cli_wake moda_cli_screen_wait(int milliseconds, char *key);

#endif
