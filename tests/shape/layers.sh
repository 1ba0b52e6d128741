#!/bin/sh
# SPDX-License-Identifier: MIT
#
# layers.sh SOURCE_DIR - the arrows between the rooms, as src/README.md lists them:
#   1. no name of mimalloc's outside port/ and hot/unit.c;
#   2. report/ and cli/ include nothing from port, hot, shard, sample, live;
#   3. a room includes only itself and rooms above it in the list;
#   4. inside code includes no stdio.h and calls no allocating function of libc.
set -u
cd "$1/src" || exit 1
failed=0
complain() {
    echo "layers.sh: $1:" >&2
    sed 's/^/  /' >&2
    failed=1
}
# A file's text without comments, so that prose may name what code may not.
code() {
    sed -e 's,//.*,,' -e ':a' -e 's,/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/,,g' -e '/\/\*/{N;ba' -e '}' "$1"
}

# 1
for file in $(find . -name '*.c' -o -name '*.h' -o -name '*.inc'); do
    case $file in
    ./port/* | ./hot/unit.c) continue ;;
    esac
    found=$(code "$file" | grep -nE '\b_?mi_[a-z]+[a-z_]*[ ]*\(' | head -3)
    [ -z "$found" ] || echo "$found" | complain "$file calls mimalloc by name; only port/ and hot/unit.c may"
done

# 2
found=$(grep -nE '#include "(port|hot|shard|sample|live)/' -r report cli)
[ -z "$found" ] || echo "$found" | complain "the outside includes what belongs to the inside"

# 3
rooms="base os port region shard sample unwind site live hot entry"
above=""
for room in $rooms; do
    above="$above $room"
    [ -d "$room" ] || { echo "$room" | complain "there is no such room"; continue; }
    for file in "$room"/*.c "$room"/*.h "$room"/*.inc; do
        [ -f "$file" ] || continue
        for included in $(sed -n 's,^#include "\([a-z_]*\)/[^"]*".*,\1,p' "$file"); do
            case " $above " in
            *" $included "*) ;;
            *)
                # entry/ is what hot/unit.c is made of: it includes it, in a stated order
                case $file:$included in
                hot/unit.c:entry) ;;
                hot/*:entry) [ "$(grep -c "\"entry/process.h\"\|\"entry/.*\.h\"" "$file")" -gt 0 ] || echo "$file" | complain "includes $included" ;;
                mi*) ;;
                *) [ -d "$included" ] && echo "$file includes $included/" | complain "a room includes one that stands below it" ;;
                esac
                ;;
            esac
        done
    done
done

# 4
for room in $rooms; do
    for file in "$room"/*.c "$room"/*.h "$room"/*.inc; do
        case $file in
        port/crosscheck.c) continue ;; # never part of the library
        esac
        [ -f "$file" ] || continue
        # malloc_info writes to a FILE that the program gives it
        [ "$file" = entry/libc.inc ] && continue
        found=$(code "$file" | grep -nE '#include <stdio.h>|\b(printf|fprintf|snprintf|fopen|strdup|getline|opendir|dlopen|dlsym|qsort)[ ]*\(')
        [ -z "$found" ] || echo "$found" | complain "$file may run inside malloc and uses what allocates"
    done
done
exit $failed
