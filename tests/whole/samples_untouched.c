/* SPDX-License-Identifier: MIT
 *
 * samples_untouched.c - the first sample of a size class takes one block's memory, not its neighbours' as well.
 *
 * One block of each class above 1 KiB, each a sample, of which the program touches nothing: what is counted is the page
 * faults of making it. mimalloc links four blocks of a new page, each in a page of memory of its own from 4 KiB on.
 */
#include "whole.h"

#include <sys/resource.h>

enum { FIRST = 4096, LAST = 96 * 1024, CLASSES_MAX = 64 };

static long faults(void) {
    struct rusage usage;
    NEED(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
    return usage.ru_minflt;
}

int main(void) {
    whole_begin();
    static void *volatile block[CLASSES_MAX];
    free(malloc(1300)); /* what a thread's first sample makes */
    const long before = faults();
    unsigned count = 0;
    for (size_t size = FIRST; size <= LAST;
         size += size / 4) { /* mimalloc has four classes to each doubling */
        block[count] = malloc(size);
        NEED(block[count++] != NULL, "no block");
    }
    const long each_tenth = 10 * (faults() - before) / count;
    CHECK(each_tenth <= 25, "%u blocks, %ld tenths of a page fault each", count, each_tenth);
    while (count > 0) {
        free(block[--count]);
    }
    return whole_end();
}
