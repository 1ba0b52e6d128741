/* SPDX-License-Identifier: MIT
 *
 * fork_handlers.c - a library that the program is linked with has handlers of fork that allocate, and that were registered
 * before our constructor ran. They are called where no lock of ours is held: parent and child go on, and what the child's
 * handler allocates is the child's.
 */
#include <sys/wait.h>

#include "whole.h"

unsigned fork_handlers_called(void);

int main(void) {
    alarm(60); /* hanging, it fails by that */
    for (unsigned n = 1; n <= 20; n++) {
        mod_alloc_stats before, after;
        mod_alloc_snapshot(&before);
        const pid_t pid = fork();
        if (pid == 0) {
            mod_alloc_snapshot(&after);
            CHECK(fork_handlers_called() == 2 * n, "%u handlers were called in child %u",
                  fork_handlers_called(), n);
            CHECK(after.alloc_count >= 49 && after.alloc_count < 3 * 49, /* a child's counts begin at 0 */
                  "the child's handler has allocated %" PRIu64 " blocks", after.alloc_count);
            exit(whole_end());
        }
        int status = -1;
        NEED(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
        CHECK_EQ(status, 0, "the child's status");
        mod_alloc_snapshot(&after);
        CHECK(after.alloc_count >= before.alloc_count + 3 * 49,
              "the parent's handlers have allocated %" PRIu64 " blocks",
              after.alloc_count - before.alloc_count);
    }
    return whole_end();
}
