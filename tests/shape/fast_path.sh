#!/bin/sh
# SPDX-License-Identifier: MIT
#
# fast_path.sh LIBRARY GOLDEN COMPILER VERSION [update] - calls, pushes, loads, stores and instructions of the fast paths, as built,
# are those of the golden file; and there are no calls and no pushes. The file is for one compiler, one mimalloc
# version and the default flags; with others only "no calls, no pushes" is asked. `update` writes the file.
set -u
library=$1
golden=$2
key=$3
version=$4
here=$(dirname "$0")
functions="malloc free calloc _Znwm _ZdlPv _ZdlPvm"
addresses=$(nm -D --defined-only "$library" | awk -v functions=" $functions " '{
    sub(/@.*/, "", $3)
    if (index(functions, " " $3 " ")) printf "%s=%s ", $1, $3
}')
found=$(objdump -d --no-show-raw-insn "$library" | awk -v functions="$addresses" -f "$here/fast_path.awk" | sort)
failed=0
[ "$(echo "$found" | grep -c .)" -eq 6 ] || { echo "fast_path.sh: not all of $functions are in $library" >&2; echo "$found" >&2; exit 1; }
echo "$found" | while read -r name rest; do
    case " $rest " in
    *" calls=0 "*) ;;
    *) [ "$name" = calloc ] || { echo "fast_path.sh: $name makes a call on its fast path: $rest" >&2; exit 1; } ;;
    esac
    case " $rest " in
    *" pushes=0 "*) ;;
    *) echo "fast_path.sh: $name pushes on its fast path: $rest" >&2; exit 1 ;;
    esac
done || failed=1
if [ "${5:-}" = update ]; then
    { grep -v "^$key $version " "$golden" 2> /dev/null; echo "$found" | sed "s/^/$key $version /"; } | sort > "$golden.new"
    mv "$golden.new" "$golden"
fi
expected=$(sed -n "s/^$key $version //p" "$golden" 2> /dev/null | sort)
if [ -z "$expected" ]; then
    echo "no figures for $key with mimalloc $version in $golden; found:"
    echo "$found"
    [ "$failed" -eq 1 ] || exit 77 # no calls, no pushes: but that is all that is known
elif [ "$found" != "$expected" ]; then
    echo "fast_path.sh: the fast paths are not those of $golden for $key, mimalloc $version" >&2
    echo "expected:" >&2
    echo "$expected" >&2
    echo "found:" >&2
    echo "$found" >&2
    echo "If the change is meant: build the target fast_path_golden, and commit the file." >&2
    failed=1
fi
exit $failed
