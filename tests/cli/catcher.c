/* SPDX-License-Identifier: MIT
 *
 * catcher.c [COUNT] - says which signals it gets: "ready", then "got N" for each; ends with status 40 + how many when COUNT
 * (1) have come, and then none for a third of a second.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t count;

static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0) {
        _exit(9);
    }
}

static void got(int signal) {
    const char text[] = {'g',  'o', 't', ' ', (char)('0' + signal / 10), (char)('0' + signal % 10),
                         '\n', '\0'};
    say(text);
    count++;
}

int main(int argc, char **argv) {
    const int expected = argc > 1 ? atoi(argv[1]) : 1;
    const int signals[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};
    const struct sigaction action = {.sa_handler = got};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        sigaction(signals[i], &action, NULL);
    }
    say("ready\n");
    for (int i = 0; i < 600 && count < expected; i++) {
        poll(NULL, 0, 100);
    }
    while (poll(NULL, 0, 333) != 0) { /* interrupted */
    }
    return 40 + count;
}
