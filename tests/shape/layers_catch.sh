#!/bin/sh
# SPDX-License-Identifier: MIT
#
# layers_catch.sh SOURCE_DIR - layers.sh passes the sources as they are, and none of these breaches.
set -u
source=$1
layers=$(cd "$(dirname "$0")" && pwd)/layers.sh
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
cp -r "$source/src" "$folder/src" || exit 1
"$layers" "$folder" || { echo "layers_catch.sh: layers.sh does not pass the sources as they are" >&2; exit 1; }

breach() { # file, a line to end it with
    cp "$folder/src/$1" "$folder/kept"
    printf '%s\n' "$2" >> "$folder/src/$1"
    if "$layers" "$folder" 2> "$folder/said"; then
        echo "layers_catch.sh: not noticed, at the end of $1: $2" >&2
        failed=1
    elif ! grep -qF "$1" "$folder/said"; then
        echo "layers_catch.sh: $1 is not named for: $2" >&2
        failed=1
    fi
    cp "$folder/kept" "$folder/src/$1"
}
breach entry/libc.inc 'static void f(void) { mi_collect(true); }'
breach entry/libc.inc 'static size_t f(void) { return _mi_os_page_size (); }'
breach hot/track.inc 'static mi_heap_t *g;'
breach hot/slow.inc 'enum { N = MI_SEGMENT_SIZE };'
breach shard/totals.c '/* two */ void *f(void) { return mi_heap_new(); } /* on one line */'
breach report/build.c '#include "shard/shard.h"'
breach cli/main.c '#include "live/header.h"'
breach base/lock.c '#include "region/region.h"'
breach port/heap_inline.h '#include "region/layout.h"'
breach hot/slow.inc '#include "entry/exit.h"'
breach site/deltas.c '#include <stdio.h>'
breach entry/signals.c 'static void *f(void) { return dlsym(RTLD_NEXT, "malloc"); }'
breach entry/exit.c 'static char *f(void) { return strdup ("x"); }'

# Prose may name what code may not.
printf '%s\n' '/* as mi_malloc does,' ' * or printf(3) */ int moda_unused; // mi_free' >> "$folder/src/shard/totals.c"
"$layers" "$folder" || { echo "layers_catch.sh: a comment is taken for code" >&2; failed=1; }
exit $failed
