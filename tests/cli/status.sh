#!/bin/sh
# SPDX-License-Identifier: MIT
#
# status.sh - `run` ends as the program ended, and lets it run as it would without.
. "${0%/*}/check.sh"

for code in 0 1 2 3 77 126 127 255; do
    try "$MOD_ALLOC" run -q -- "$PROGRAMS/allocate" exit $code
    expect_status $code
done

# by the same signal, as the parent sees it
for pair in TERM:15 KILL:9 SEGV:11 ABRT:6 USR1:10 HUP:1; do
    signal=${pair%:*}
    number=${pair#*:}
    python3 - "$number" "$MOD_ALLOC" run "$PROGRAMS/allocate" signal "$number" 2> .err <<'PYTHON' || fail "signal $signal is not passed on"
import subprocess, sys
status = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode
sys.exit(status != -int(sys.argv[1]))
PYTHON
    err=$(cat .err) what="allocate signal $signal"
    expect_err "killed by signal $number (SIG$signal)" "is kept in mod-alloc.allocate."
    kept=$(echo mod-alloc.allocate.*.prof)
    try "$MOD_ALLOC" stat "$kept"
    expect_status 0
    expect_out "allocate"
    rm -f mod-alloc.*.prof core*
done

# quiet or not: what is kept, and where, is told in one line; --help says so
python3 -c 'import subprocess, sys; subprocess.run(sys.argv[1:])' "$MOD_ALLOC" run -q "$PROGRAMS/allocate" signal 9 2> .err
err=$(cat .err) what="a quiet run of a program that is killed"
expect_err "killed by signal 9 (SIGKILL)" "is kept in mod-alloc.allocate."
expect_equal "lines of $what" "$(wc -l < .err)" 1
rm -f mod-alloc.*.prof core*
try "$MOD_ALLOC" run --help
expect_out "or a signal killed"

# arguments, environment, input, output, working directory: the program's own
cd / || exit 1
printf 'the input\n' | LD_PRELOAD=libdl.so.2 HERE=there "$MOD_ALLOC" run -q -- \
    sh -c 'read -r line; echo "$line|$HERE|$0|$*|$(pwd)|${LD_PRELOAD##*:}|${MOD_ALLOC_SAMPLE-unset}"; echo error >&2' zero 'a b' c \
    > "$folder/.out" 2> "$folder/.err"
expect_equal "output of sh" "$(cat "$folder/.out")" "the input|there|zero|a b c|/|libdl.so.2|unset"
expect_equal "errors of sh" "$(cat "$folder/.err")" "error"
cd "$folder" || exit 1

# options reach the program as variables
try "$MOD_ALLOC" run -q --sample 4K --frames 12 --seed 9 --unwind fp --memory 16M --buckets 128 --short-lived 5ms -- \
    sh -c 'echo $MOD_ALLOC_SAMPLE $MOD_ALLOC_FRAMES $MOD_ALLOC_SEED $MOD_ALLOC_UNWIND $MOD_ALLOC_MEMORY $MOD_ALLOC_BUCKETS $MOD_ALLOC_SHORT_LIVED'
expect_equal "variables" "$out" "4K 12 9 fp 16M 128 5ms"
try "$MOD_ALLOC" run -q --exact -- sh -c 'echo $MOD_ALLOC_SAMPLE'
expect_equal "MOD_ALLOC_SAMPLE of --exact" "$out" "1"

# an ignored signal stays ignored in the program, SIGCHLD too
(
    trap '' INT CHLD
    "$MOD_ALLOC" run -q -- sh -c 'kill -INT $$; echo survived'
) > .out 2> .err
expect_equal "output with SIGINT ignored" "$(cat .out)" "survived"

# what a killed mod-alloc leaves is taken away by a later one, but not what a living one or a living program needs
directories() {
    find /dev/shm "${TMPDIR:-/tmp}" -maxdepth 1 -user "$(id -un)" -name 'mod-alloc.*' -newer .start 2> .find
}
# The program itself lives on: killed only when we say so.
mkfifo ready
"$MOD_ALLOC" run -q -- "$PROGRAMS/allocate" keep 100 64 say ready sleep 1000 > ready &
read -r line < ready
kill -KILL $!
killed=$(directories)
[ -d "$killed" ] || fail "a killed mod-alloc has left '$killed', expected one directory"
"$MOD_ALLOC" run -q -o later.prof -- "$PROGRAMS/allocate" keep 100 64 say ready sleep 1000 > ready &
read -r line < ready
kill -KILL $!
killed_output=$(directories | grep -vxF "$killed")
[ -d "$killed_output" ] || fail "a killed mod-alloc has left '$killed_output', expected one directory"
expect_equal "what is meant to become later.prof" "$(readlink "$killed_output/output")" "$folder/later.prof"
"$MOD_ALLOC" run -q --json living.json -- "$PROGRAMS/allocate" say ready sleep 2 exit 6 > ready &
living=$!
read -r line < ready
living_directory=$(directories | grep -vxF -e "$killed" -e "$killed_output")
touch -d '1 hour ago' "$killed" "$killed_output" "$living_directory"
try "$MOD_ALLOC" run -q true
# where a process still records nothing is removed, and what is there is read by its pid
for directory in "$killed" "$killed_output"; do
    pid=$(basename "$directory"/*.prof .prof)
    try "$MOD_ALLOC" stat "$pid"
    expect_status 0
    expect_out allocated
    kill -KILL "$pid"
    while grep -q mod-alloc "/proc/$pid/maps" 2> .grep; do sleep 0.1; done
    try "$MOD_ALLOC" stat "$directory/$pid.prof"
    expect_status 0
done
touch -d '1 hour ago' "$killed" "$killed_output"
try "$MOD_ALLOC" run -q true
[ -d "$killed" ] && fail "$killed was not taken away"
[ -d "$killed_output" ] || fail "$killed_output was taken away within a day"
touch -d '2 days ago' "$killed_output"
try "$MOD_ALLOC" run -q true
[ -d "$killed_output" ] && fail "$killed_output was not taken away"
wait $living
expect_equal "status of a run beside others" "$?" 6
[ -s living.json ] || fail "a run beside others has lost its profile"

# nothing is left behind
expect_equal "what is left in /dev/shm or TMPDIR" "$(directories)" ""
finish
