/* SPDX-License-Identifier: MIT
 *
 * realloc_growth.c BUFFERS END - each buffer grows from 16 bytes to END by half its size at a time, as
 * strings and vectors do, with a word written at its end each time.
 */
#include "loop.h"

LOOP_SINK;

int main(int argc, char **argv) {
    const size_t end = loop_argument(argc, argv, 2, 4096);
    for (size_t left = loop_argument(argc, argv, 1, 1); left > 0; left--) {
        char *buffer = NULL;
        for (size_t size = 16; size <= end; size += size / 2) {
            buffer = realloc(buffer, size);
            buffer[size - 1] = (char)left;
        }
        loop_sink = buffer;
        free(buffer);
    }
    return 0;
}
