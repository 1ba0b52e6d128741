#!/bin/sh
# SPDX-License-Identifier: MIT
#
# options.sh SOURCE_DIR [MOD-ALLOC] - each variable of base/options.def stands in the README, with its default; the README
# names no variable that is not in the list; and the command's help or manual page tells them all.
set -u
source=$1
command=${2:-}
list=$source/src/base/options.def
readme=$source/README.md
failed=0
names=$(sed -n 's/^OPTION([a-z_]*, "\([A-Z_]*\)".*/\1/p' "$list")
[ -n "$names" ] || { echo "options.sh: no options in $list" >&2; exit 1; }
for name in $names; do
    grep -q "$name" "$readme" || { echo "options.sh: README.md does not tell of $name" >&2; failed=1; }
done
# Words like MOD_ALLOC_X that are neither options, nor names of the API, nor CMake's.
for word in $(grep -oE '\bMOD_ALLOC_[A-Z_]+' "$readme" | sort -u); do
    echo "$names" | grep -qx "$word" && continue
    grep -qrE "\b$word\b" "$source/include" "$source/CMakeLists.txt" "$source/cmake" "$source/src/cli" "$source/bench" && continue
    echo "options.sh: README.md tells of $word, which is nowhere else" >&2
    failed=1
done
if [ -n "$command" ]; then
    text=$("$command" --help 2>&1; "$command" run --help 2>&1; "$command" help environment 2>&1; cat "$source"/src/cli/man/* 2> /dev/null)
    if ! grep -q 'options.def' -r "$source/src/cli"; then
        for name in $names; do
            echo "$text" | grep -q "$name" || { echo "options.sh: neither help nor manual tells of $name" >&2; failed=1; }
        done
    fi
fi
exit $failed
