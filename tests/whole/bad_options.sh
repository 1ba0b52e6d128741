#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bad_options.sh PROGRAM LIBRARY|- OPTIONS.DEF [MOD-ALLOC] - each variable with a bad value: one line on stderr that names
# the variable and the value, and the program runs as ever; so does one whose name is nearly right. Good values, names of
# others, and what mod-alloc sets itself: not a word.
set -u
program=$1
library=$2
list=$3
command=${4:-}
failed=0
err=$(mktemp) || exit 1
trap 'rm -f "$err"' EXIT

fail() {
    echo "bad_options.sh: $*" >&2
    failed=1
}

run() {
    if [ "$library" != - ]; then
        set -- "$@" LD_PRELOAD="$library"
    fi
    output=$(env "$@" "$program" 2> "$err")
    status=$?
    [ $status -eq 42 ] && [ "$output" = "the program's own output" ] ||
        fail "$1: the program gives status $status, '$output'"
}

bad() {
    run "$1=$2"
    lines=$(wc -l < "$err")
    [ "$lines" -eq 1 ] || fail "$1=$2: expected one line on stderr, found $lines: $(cat "$err")"
    grep -q "$1" "$err" || fail "$1=$2: the line does not name the variable: $(cat "$err")"
    [ -z "$2" ] || grep -qF -- "$2" "$err" || fail "$1=$2: the line does not name the value: $(cat "$err")"
}

good() {
    run "$1=$2"
    [ -s "$err" ] && fail "$1=$2 is good, but stderr has: $(cat "$err")"
}

# OPTION(field, "NAME", kind, default, minimum, maximum, ...
options=$(sed -n 's/^OPTION([a-z_]*, "\([A-Z_]*\)", \([a-z]*\), \([^,]*\), \([^,]*\), \([^,]*\),.*/\1 \2 \3 \4 \5/p' "$list")
[ -n "$options" ] || fail "no options found in $list"
while read -r name kind default minimum maximum; do
    case $kind in
    bytes | count)
        for value in banana -1 12x 1.5 99999999999999999999999; do
            bad "$name" "$value"
        done
        [ "$minimum" != 0 ] && bad "$name" 0
        good "$name" "$default"
        good "$name" "$minimum"
        ;;
    choice)
        bad "$name" banana
        bad "$name" AUTOMATIC
        ;;
    time)
        bad "$name" banana
        bad "$name" 5parsecs
        bad "$name" -3ms
        good "$name" 5ms
        good "$name" 0
        ;;
    path) ;;
    *) fail "$name is of kind '$kind', of which this test knows nothing" ;;
    esac
done << LIST
$options
LIST
good MOD_ALLOC_SAMPLE 64K
good MOD_ALLOC_SAMPLE 1M
good MOD_ALLOC_SAMPLE 1
good MOD_ALLOC_UNWIND fp
good MOD_ALLOC_UNWIND tables
good MOD_ALLOC_FRAMES 512
bad MOD_ALLOC_FRAMES 513
bad MOD_ALLOC_BUCKETS 63

# a name that is nearly one of ours
while read -r name rest; do
    bad "${name}S" 1
    bad "${name%?}" 1
    grep -q "did you mean $name; ignored" "$err" || fail "${name%?}: $name is not what was meant: $(cat "$err")"
    good "$name" ''
done << LIST
$options
LIST
bad MOD_ALLOC_SAMPEL 1
bad MOD_ALLOC_sample 1
good MOD_ALLOC_SAMPEL ''
for name in MIMALLOC_DIR ASSERTS VERSION LIBRARY PLAIN BENCH_LOOPS X; do
    good MOD_ALLOC_$name 1
done

# what the command sets for its programs, all of its options at once
if [ -n "$command" ]; then
    "$command" run --quiet --library="$library" --sample=4K --seed=1 --frames=9 --buckets=64 --memory=1M --unwind=fp \
        --short-lived=1ms "$program" > /dev/null 2> "$err"
    [ $? -eq 42 ] && ! grep -q MOD_ALLOC "$err" || fail "mod-alloc run: $(cat "$err")"
fi

# two bad ones: a line each
run MOD_ALLOC_SAMPLE=banana MOD_ALLOC_FRAMES=pear
[ "$(wc -l < "$err")" -eq 2 ] || fail "two bad values: expected two lines, stderr has: $(cat "$err")"
exit $failed
