#!/bin/sh
# SPDX-License-Identifier: MIT
#
# arguments.sh - misuse ends with status 2, one line that names what is wrong, one that points to --help, and
# nothing on standard output; help and version end with status 0 and are on standard output.
. "${0%/*}/check.sh"

# misuse TEXT COMMAND...: TEXT is in its message
misuse() {
    text=$1
    shift
    try "$MOD_ALLOC" "$@"
    expect_status 2
    expect_err "$text"
    expect_equal "standard output of '$what'" "$out" ""
    expect_equal "lines of '$what'" "$(wc -l < .err)" 2
    expect_err "Try 'mod-alloc " "--help'."
}

misuse "which command"
misuse "'nonsense': there is no such command" nonsense
misuse "'--nonsense': there is no such option" --nonsense
misuse "'nonsense': there is no such command" help nonsense
misuse "which program" run
misuse "which program" run --
misuse "which program" run --exact
misuse "'--nonsense'" run --nonsense true
misuse "'--s'" run --s true                 # --sample, --suppressions, --seed, --short-lived
misuse "no option -Z" run -Z true
misuse "--frames needs a value" run --frames
misuse "--frames needs a value" run -f
misuse "takes no value" run --exact=1 true
misuse "'many' is not a number" run --frames many true
misuse "'0' is not a number from 1 to 512" run --frames 0 true
misuse "'513'" run --frames 513 true
misuse "'-1'" run --frames=-1 true
misuse "'12X' is not a number of bytes" run --sample 12X true
misuse "'' is not a number of bytes" run --sample '' true
misuse "'99999999999999999999' is not" run --sample 99999999999999999999 true
misuse "'17179869184G' is not" run --sample 17179869184G true
misuse "is outside 1048576" run --memory 4K true
misuse "'guess' is none of auto|fp|tables" run --unwind guess true
misuse "'2 days' is not a time" run --short-lived '2 days' true
misuse "'none' is none of some|all" run --lifetimes none true
misuse "'x' is none of text" run --format x true
misuse "'x' is not a number of bytes" run --fail-if-live x true
misuse "--exact and --sample" run --exact --sample 4096 true
misuse "not for standard output" run --output - true
misuse "--suppressions needs every allocation" run --suppressions /dev/null --sample 4096 true
misuse "/nonexistent" run --suppressions /nonexistent true
misuse "which profile" report
misuse "which profile" stat
misuse "which two profiles" diff one
misuse "which two profiles" diff one two three
misuse "where to" merge one two
misuse "which program" top
misuse "which program" top 1 2
misuse "'0' is not a number of seconds" top --interval 0 1
misuse "'nan' is not a number of seconds" top --interval nan 1
misuse "'size' is none of" report --by size x
misuse "'size' is none of" report --value size x
misuse "--filter: '(': " report --filter '(' x
# what is read is not written over, under whatever name
echo recorded > own.prof
ln own.prof same.prof
for command in "report" "report --format json" "merge --format html x" "diff x"; do
    # shellcheck disable=SC2086
    misuse "'same.prof' is the profile that is read" $command --output same.prof own.prof
done
expect_equal "own.prof" "$(cat own.prof)" recorded
misuse "'xml' is none of" report --format xml x

# what is a file's fault needs no hint at --help: one line
bad_file() {
    text=$1
    shift
    try "$MOD_ALLOC" "$@"
    expect_status 2
    expect_err "$text"
    expect_equal "lines of '$what'" "$(wc -l < .err)" 1
}
echo "not a profile" > foreign
: > empty
for command in report stat top; do
    bad_file "/nonexistent" $command /nonexistent
    bad_file "foreign" $command foreign
    bad_file "empty" $command empty
    bad_file "999999999" $command 999999999
done
bad_file "foreign" diff foreign foreign
bad_file "foreign" merge -o out.html foreign foreign
[ -e out.html ] && fail "a merge that failed has left its output"

try "$MOD_ALLOC" --version
expect_status 0
expect_out "mod-alloc 0."
for way in --help -h help; do
    try "$MOD_ALLOC" $way
    expect_status 0
    expect_out Usage run report diff merge stat top --version "Exit status"
done
for command in run report diff merge stat top; do
    for way in "$command --help" "$command -h" "help $command"; do
        # shellcheck disable=SC2086
        try "$MOD_ALLOC" $way
        expect_status 0
        expect_out "Usage: mod-alloc $command " "--help"
        [ "$(awk 'length > 100' .out | wc -l)" -eq 0 ] || fail "'$what' has lines above 100 columns"
    done
done

# what is not there is told as such
try "$MOD_ALLOC" stat 2000000000
expect_status 2
expect_err "there is no such process"
mkdir lib
cp "$LIBRARY" lib/libmod_alloc.so
try "$MOD_ALLOC" compare --library lib/libmod_alloc.so --allocators plain true
expect_status 2
expect_err "lib/libmimalloc_plain.so: it lies where mod-alloc was built"
: > lib/foreign.so
try "$MOD_ALLOC" compare --library lib/foreign.so true
expect_status 2
expect_err "'lib/foreign.so' is no library of mod-alloc"

# options of the program are the program's
try "$MOD_ALLOC" run -q printf '%s' --help
expect_status 0
expect_equal "output of '$what'" "$out" "--help"
try "$MOD_ALLOC" run -q -- env echo -q -- --version
expect_status 0
expect_equal "output of '$what'" "$out" "-q -- --version"
# long options may be cut; = and blank, letters joined
try "$MOD_ALLOC" run --quie --fram=7 -qs1 -n 3 true
expect_status 0

# a full standard output is told
if [ -w /dev/full ]; then
    for command in "" run compare; do
        "$MOD_ALLOC" $command --help > /dev/full 2> .err
        expect_equal "status of $command --help > /dev/full" "$?" 2
        err=$(cat .err)
        expect_err "standard output" "No space left"
    done
    "$MOD_ALLOC" run -q -o full.prof true
    "$MOD_ALLOC" top --looks 1 full.prof > /dev/full 2> .err
    expect_equal "status of top > /dev/full" "$?" 2
fi
finish
