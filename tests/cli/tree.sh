#!/bin/sh
# SPDX-License-Identifier: MIT
#
# tree.sh - a run of several processes: the one that was started is shown (the last program that it became), the
# others in one line, or all added up.
. "${0%/*}/check.sh"
allocate=$PROGRAMS/allocate

# the shell's own blocks are few; 1000 blocks of 1 KiB each are the children's
try "$MOD_ALLOC" run --json one.json sh -c "$allocate keep 1000 1024; $allocate keep 2000 1024; exit 3"
expect_status 3
expect_err "not counted: 2 other processes" "--tree adds them"
[ "$(json one.json live_count)" -lt 1000 ] || fail "the shell alone has $(json one.json live_count) blocks"

try "$MOD_ALLOC" run --tree --json all.json sh -c "$allocate keep 1000 1024; $allocate keep 2000 1024; exit 3"
expect_status 3
expect_not_err "not counted"
expect_err "and 2 more"
live=$(json all.json live_count)
[ "$live" -ge 3000 ] && [ "$live" -lt 4000 ] || fail "all together have $live live blocks, expected 3000 and some"
expect_equal "pid and name of the sum" "$(json all.json program | sed 's:.*/::')" "$(readlink -f "$(command -v sh)" | sed 's:.*/::')"

# exec: one process, two programs; the last one is shown
try "$MOD_ALLOC" run --json exec.json sh -c "sleep 1.1; exec $allocate keep 1000 1024 exit 4"
expect_status 4
[ "$(json exec.json live_count)" -ge 1000 ] || fail "after exec $(json exec.json live_count) blocks are shown"
expect_equal "program after exec" "$(json exec.json program)" "$(readlink -f "$allocate")"

try "$MOD_ALLOC" run --json quick.json sh -c "exec $allocate keep 1000 1024 exit 4"
expect_equal "program after a quick exec" "$(json quick.json program)" "$(readlink -f "$allocate")"

# fork without exec: the child's own
try "$MOD_ALLOC" run --json fork.json "$allocate" keep 1000 1024 fork keep 500 1024 exit 9
expect_status 9
live=$(json fork.json live_count)
[ "$live" -ge 1000 ] && [ "$live" -lt 1500 ] || fail "the parent has $live live blocks, expected 1000 and a few"
expect_err "not counted: 1 other process "

# a child that goes on after its parent
try "$MOD_ALLOC" run sh -c "$allocate keep 10 1024 sleep 2 & sleep 0.5"
expect_status 0
expect_err "(1 still running)"
finish
