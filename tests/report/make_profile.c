/* SPDX-License-Identifier: MIT
 *
 * make_profile.c - writes a profile made by hand: `make_profile example FILE`, `make_profile large FILE N`.
 */
#include "make_region.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **arguments) {
    if (count >= 3 && strcmp(arguments[1], "example") == 0)
        return make_region_save(make_region_example(), arguments[2]) ? 0 : 1;
    if (count >= 4 && strcmp(arguments[1], "large") == 0)
        return make_region_save(make_region_large((uint32_t)atoi(arguments[3])), arguments[2]) ? 0 : 1;
    fprintf(stderr, "usage: make_profile example FILE | large FILE SITES\n");
    return 2;
}
