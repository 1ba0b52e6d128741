#!/bin/sh
# SPDX-License-Identifier: MIT
#
# stats_output.sh PROGRAM LIBRARY|- [twice] - MOD_ALLOC_STATS: a table on stderr, JSON in a file, nothing unless
# asked for; the program's own output and status stay what they are. LIBRARY is preloaded if it is not "-"; with
# "twice" the program has mod-alloc in it, too, and the library only says that it is not the one.
set -u
program=$1
library=$2
twice=${3-}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
counters='alloc_count free_count total_bytes current_bytes peak_bytes live_count peak_live_count requested_bytes'

fail() {
    echo "stats_output.sh: $*" >&2
    failed=1
}

# run NAME WAY [VARIABLE=VALUE...]: output in NAME.out, NAME.err; status 42 expected
run() {
    name=$1
    way=$2
    shift 2
    if [ "$library" != - ]; then
        set -- "$@" LD_PRELOAD="$library"
    fi
    env "$@" "$program" "$way" > "$folder/$name.out" 2> "$folder/$name.err"
    status=$?
    [ "$way" = exec ] && [ $status -eq 0 ] && status=42
    [ $status -eq 42 ] || fail "$name: status $status, expected 42: $(cat "$folder/$name.err")"
    [ "$(cat "$folder/$name.out")" = "the program's own output" ] ||
        fail "$name: its output became '$(cat "$folder/$name.out")'"
}

# 'not active' is no more than a line, and only where something was asked for
silent() {
    if [ "$twice" = twice ] && [ "$1" != nothing ]; then
        [ "$(grep -c '^mod-alloc: not active' "$folder/$1.err")" -ge 1 ] || fail "$1: the library does not say that it is not active"
        sed -i '/^mod-alloc: not active/d' "$folder/$1.err"
    fi
    [ -s "$folder/$1.err" ] && fail "$1: nothing was asked for, but stderr has: $(cat "$folder/$1.err")"
}

# value FILE KEY: the number of a key in our JSON
value() {
    tr -d ' \n' < "$1" | sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p"
}

check_json() {
    file=$1
    for counter in $counters; do
        [ -n "$(value "$file" $counter)" ] || fail "$file has no number for $counter: $(cat "$file")"
    done
    if command -v python3 > /dev/null 2>&1; then
        python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$file" || fail "$file is not JSON"
    fi
    [ "$(value "$file" alloc_count)" -ge 5 ] || fail "alloc_count is $(value "$file" alloc_count), at least 5 expected"
    [ "$(value "$file" peak_bytes)" -ge 1006000 ] || fail "peak_bytes is $(value "$file" peak_bytes)"
    [ "$(value "$file" live_count)" -ge 1 ] || fail "live_count is $(value "$file" live_count)"
    [ "$(value "$file" requested_bytes)" -ge 1006010 ] || fail "requested_bytes is $(value "$file" requested_bytes)"
    [ "$(value "$file" current_bytes)" -lt 200000 ] || fail "current_bytes is $(value "$file" current_bytes)"
}

run nothing return
silent nothing

run table return MOD_ALLOC_STATS=stderr
[ "$(grep -c ' allocated ' "$folder/table.err")" -eq 1 ] || fail "not one table: $(cat "$folder/table.err")"
[ -s "$folder/table.err" ] || fail "MOD_ALLOC_STATS=stderr writes nothing"
lines=$(wc -l < "$folder/table.err")
[ "$lines" -ge 5 ] && [ "$lines" -le 30 ] || fail "the table has $lines lines: $(cat "$folder/table.err")"
for word in allocated freed live peak requested blocks bytes; do
    grep -qi "$word" "$folder/table.err" || fail "the table does not tell '$word': $(cat "$folder/table.err")"
done

for way in return exit; do
    run "file-$way" $way "MOD_ALLOC_STATS=$folder/$way.json"
    silent "file-$way"
    if [ -s "$folder/$way.json" ]; then
        check_json "$folder/$way.json"
    else
        fail "$way: MOD_ALLOC_STATS=FILE writes no file"
    fi
done

# %p is the process id; a forked child has a file of its own
run pid fork "MOD_ALLOC_STATS=$folder/of-%p.json"
silent pid
count=$(ls "$folder" | grep -c '^of-[0-9]*\.json$')
[ "$count" -eq 2 ] || fail "a process and its child write $count files with %p, expected 2: $(ls "$folder")"

# one profile, whoever else is there
run profile return "MOD_ALLOC_PROFILE=$folder/one.prof"
silent profile
[ "$(ls "$folder" | grep -c '^one\.prof')" -eq 1 ] || fail "not one profile: $(ls "$folder")"

# ways that run no exit handlers: never a damaged file, never another status
for way in _exit quick_exit exec; do
    run "file-$way" $way "MOD_ALLOC_STATS=$folder/$way.json"
    [ -s "$folder/$way.json" ] && [ "$way" != exec ] && check_json "$folder/$way.json"
done

# a file that cannot be written: one line that names it, and the program runs
run unwritable return MOD_ALLOC_STATS=/nonexistent/folder/file.json
sed -i '/^mod-alloc: not active/d' "$folder/unwritable.err"
[ "$(wc -l < "$folder/unwritable.err")" -eq 1 ] && grep -q /nonexistent/folder "$folder/unwritable.err" ||
    fail "a file that cannot be written: expected one line that names it, stderr has '$(cat "$folder/unwritable.err")'"
# ... also one that finds no room: nothing of it is left
set --
full=$(
    ulimit -f 0
    [ "$library" = - ] || set -- LD_PRELOAD="$library"
    exec env MOD_ALLOC_STATS="$folder/full.json" "$@" "$program" return 2>&1 > /dev/null
)
status=$?
full=$(echo "$full" | sed '/^mod-alloc: not active/d')
[ $status -eq 42 ] && [ "$full" = "mod-alloc: MOD_ALLOC_STATS: cannot write $folder/full.json; the counters are not kept" ] ||
    fail "a file for which there is no room: status $status, stderr has '$full'"
[ ! -e "$folder/full.json" ] || fail "a file for which there is no room is left: $(cat "$folder/full.json")"
# ... also of a program that closes stderr before it ends, as all of coreutils do
if [ "$library" != - ] && [ "$twice" != twice ]; then
    env LD_PRELOAD="$library" MOD_ALLOC_STATS=/nonexistent/folder/file.json sort /dev/null 2> "$folder/closed.err"
    grep -q /nonexistent/folder "$folder/closed.err" || fail "a file that cannot be written, and sort: nothing is said"
fi

exit $failed
