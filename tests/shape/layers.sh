#!/bin/sh
# SPDX-License-Identifier: MIT
#
# layers.sh SOURCE_DIR - the arrows between the rooms, as src/README.md lists them:
#   1. no name of mimalloc's outside port/ and hot/unit.c;
#   2. report/ and cli/ include nothing from port, hot, shard, sample, live;
#   3. a room includes only itself and rooms above it in the list;
#   4. inside code includes no stdio.h and calls no allocating function of libc.
# layers_catch.sh breaks each and sees this fail.
set -u
cd "$1/src" || exit 1
rooms="base os port region shard sample unwind site live hot entry"
failed=0
# Not in a pipe: what a subshell sets is lost.
complain() { # what is wrong, the lines found; none: nothing is wrong
    if [ -n "$2" ]; then
        echo "layers.sh: $1:" >&2
        echo "$2" | sed 's/^/  /' >&2
        failed=1
    fi
}
# A file's text without comments, so that prose may name what code may not; lines keep their numbers.
code() {
    awk '{
        line = $0
        text = ""
        while (line != "") {
            if (inside) {
                end = index(line, "*/")
                inside = !end
                line = end ? substr(line, end + 2) : ""
            } else {
                begin = index(line, "/*")
                inside = begin > 0
                text = text (begin ? substr(line, 1, begin - 1) : line)
                line = begin ? substr(line, begin + 2) : ""
            }
        }
        sub(/\/\/.*/, "", text)
        print text
    }' "$1"
}
files_of() { # room
    find "$1" -maxdepth 1 -name '*.[ch]' -o -maxdepth 1 -name '*.inc'
}
mimalloc_names='_?mi_[a-zA-Z0-9_]+|MI_[A-Z0-9_]+'
allocates='#include <stdio.h>|\b(printf|fprintf|snprintf|fopen|strdup|getline|opendir|dlopen|dlsym|qsort)[ ]*\('

# 1: functions, types, macros; but for the guard that says "part of hot/unit.c"
for file in $(grep -rlwE "$mimalloc_names" --include='*.[ch]' --include='*.inc' .); do
    case $file in
    ./port/* | ./hot/unit.c) continue ;;
    esac
    complain "$file names what is mimalloc's; only port/ and hot/unit.c may" \
        "$(code "$file" | grep -nwE "$mimalloc_names" | grep -v '#if !defined(MI_MALLOC_VERSION)$')"
done

# 2
complain "the outside includes what belongs to the inside" \
    "$(grep -nE '#include "(port|hot|shard|sample|live)/' -r report cli)"

# 3: entry/ calls hot/, and is called where a thread begins
above=""
for room in $rooms; do
    above="$above $room"
    [ -d "$room" ] || { complain "there is no such room" "$room"; continue; }
    for file in $(files_of "$room"); do
        below=""
        for included in $(sed -n 's,^ *#include "\([a-z_]*/[^"]*\)".*,\1,p' "$file"); do
            case "$file:$included" in
            hot/unit.c:entry/* | hot/attach.inc:entry/process.h) continue ;;
            esac
            case " $above " in
            *" ${included%%/*} "*) ;;
            *) [ ! -d "${included%%/*}" ] || below="$below $included" ;;
            esac
        done
        complain "$file includes what stands below its room" "$below"
    done
done

# 4: but for the cross-check, which is never part of the library, malloc_info, which writes to a FILE that the program
# gives it, dlopen, which the program alone calls, and what constructors look up
for room in $rooms; do
    for file in $(grep -lE "$allocates" $(files_of "$room")); do
        case $file in
        port/crosscheck.c | entry/libc.inc | entry/dlopen.c) continue ;;
        esac
        complain "$file may run inside malloc and uses what allocates" \
            "$(code "$file" | grep -nE "$allocates" | grep -v -e 'dlsym(RTLD_NEXT, "sigaction");$' -e 'dlsym(RTLD_DEFAULT, "dlopen");$' \
                -e 'dlsym(RTLD_NEXT, "__register_atfork");$')"
    done
done
exit $failed
