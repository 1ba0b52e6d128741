#!/bin/sh
# SPDX-License-Identifier: MIT
#
# gate.sh - the leak gate: how much is live, and what suppressions leave out.
. "${0%/*}/check.sh"
allocate=$PROGRAMS/allocate

try "$MOD_ALLOC" run --fail-if-live 1M "$allocate" keep 1000 64
expect_status 0
expect_err "leak gate: passed"
try "$MOD_ALLOC" run -q --fail-if-live 1M "$allocate" keep 1000 64
expect_equal "stderr of a gate that passed quietly" "$err" ""
try "$MOD_ALLOC" run -q --fail-if-live 10000 "$allocate" keep 1000 64
expect_status 1
expect_err "leak gate:" "9.77 KiB allowed" keep_blocks

# exactly at the limit: allowed; one byte less: not
try "$MOD_ALLOC" run -q --json live.json "$allocate" keep 1000 64
live=$(json live.json current_bytes)
try "$MOD_ALLOC" run -q --fail-if-live "$live" "$allocate" keep 1000 64
expect_status 0
try "$MOD_ALLOC" run -q --fail-if-live $((live - 1)) "$allocate" keep 1000 64
expect_status 1
expect_err "($live bytes)"

# a gate without suppressions is exact, however little is sampled
try "$MOD_ALLOC" run -q --sample 0 --fail-if-live $((live - 1)) "$allocate" keep 1000 64
expect_status 1
expect_err "($live bytes)" "no call site is known"

# the program's own failure goes first
try "$MOD_ALLOC" run -q --fail-if-live 0 "$allocate" keep 1000 64 exit 7
expect_status 7
expect_err "leak gate:"

# suppressions: what the program's start-up keeps is allowed here
rest=$((live - 64000 + 100))
cat > keep <<'END'
# known
leak:no_such_function

  leak:keep_blocks
END
try "$MOD_ALLOC" run --fail-if-live $rest --suppressions keep "$allocate" keep 1000 64
expect_status 0
expect_err "suppressed 62.5 KiB in 1,000 blocks by leak:keep_blocks"
expect_not_err "by leak:no_such_function"
try "$MOD_ALLOC" run --fail-if-live $rest --suppressions keep "$allocate" keep 1000 64 lose 100 64
expect_status 1
expect_err lose_blocks "by leak:keep_blocks"
sed -n '/^leak gate/,$p' .err | grep -v suppressed | grep -q keep_blocks && fail "a suppressed site is shown: $err"

matches() { # STATUS PATTERN
    printf 'leak:%s\n' "$2" > pattern
    try "$MOD_ALLOC" run -q --fail-if-live $rest --suppressions pattern "$allocate" keep 1000 64
    expect_status "$1"
}
matches 0 'eep_block'
matches 0 '^keep_blocks$'
matches 0 'keep*cks'
matches 0 '^k*s$'
matches 0 'allocate.c'                 # the source file
matches 0 '/allocate$'                 # the module
matches 0 '^main$'                     # any frame
matches 1 '^eep_blocks'
matches 1 'keep_block$'
matches 1 'blocks*keep_'
matches 1 'Keep_blocks'

# a file that is not one of suppressions
printf 'leak:x\nrace:foo\n' > wrong
try "$MOD_ALLOC" run --suppressions wrong true
expect_status 2
expect_err "wrong:2:" "race:foo"

# without --fail-if-live nothing may be live but these
printf 'leak:*\n' > everything
try "$MOD_ALLOC" run -q --suppressions everything "$allocate" keep 1000 64
expect_status 0
try "$MOD_ALLOC" run -q --suppressions keep "$allocate" keep 10 64 lose 10 64
expect_status 1
finish
