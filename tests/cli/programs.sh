#!/bin/sh
# SPDX-License-Identifier: MIT
#
# programs.sh - what cannot be run or profiled is said, and why, and what to do instead; scripts are followed to
# their interpreter.
. "${0%/*}/check.sh"

# refused STATUS TEXT PROGRAM...
refused() {
    code=$1 text=$2
    shift 2
    try "$MOD_ALLOC" run "$@"
    expect_status "$code"
    expect_err "$text"
    expect_equal "output of '$what'" "$out" ""
}

refused 127 "there is no such program in PATH" no-such-program
refused 127 "No such file or directory" ./no-such-program
refused 126 "it is a directory" /
: > plain
refused 126 "it is not executable" ./plain
mkdir bin
: > bin/plain
PATH=$folder/bin:$PATH refused 126 "it is not executable" plain
refused 127 "" "" 2> /dev/null

refused 2 "it is statically linked" "$PROGRAMS/static"
expect_err libmod_alloc.a
expect_equal "lines of '$what'" "$(wc -l < .err)" 2

# a static program that has mod-alloc in it is profiled
if [ -x "$PROGRAMS/static_profiled" ]; then
    try "$MOD_ALLOC" run --json counts.json "$PROGRAMS/static_profiled" keep 1000 64 exit 5
    expect_status 5
    [ "$(json counts.json live_count)" -ge 1000 ] || fail "static_profiled: live_count $(json counts.json live_count)"
    # and its stacks are walked by tables, which gcc leaves out unless it is told
    try "$MOD_ALLOC" run -q -x -o walked.prof "$PROGRAMS/static_profiled" keep 1000 64
    try "$MOD_ALLOC" report --filter keep_blocks walked.prof
    expect_out keep_blocks _start
fi

# byte 4 of an ELF file is its class, bytes 18 and 19 its machine
cp "$PROGRAMS/allocate" wrong
printf '\001' | dd of=wrong bs=1 seek=4 conv=notrunc 2> .dd
refused 2 "it is a 32-bit program" ./wrong
cp "$PROGRAMS/allocate" wrong
printf '\363\000' | dd of=wrong bs=1 seek=18 conv=notrunc 2> .dd
refused 2 "is for another machine" ./wrong

if [ -x "$PROGRAMS/sanitized" ]; then
    refused 2 "AddressSanitizer" "$PROGRAMS/sanitized"
fi

# set-user-ID to another user: only root can make one
cp "$PROGRAMS/allocate" privileged
if [ "$(id -u)" -eq 0 ] && chown 65534 privileged && chmod u+s privileged && [ -u privileged ]; then
    refused 2 "it is set-user-ID" ./privileged
    expect_err "preloads nothing"
    chown 0:65534 privileged && chmod u-s,g+s privileged
    refused 2 "it is set-group-ID" ./privileged
    chown 0:0 privileged && chmod u+s privileged # our own: it gains nothing
    try "$MOD_ALLOC" run ./privileged exit 3
    expect_status 3
    expect_err allocated
fi

# scripts
script() { # NAME LINE...
    to=$1
    shift
    printf '%s\n' "$@" > "$to"
    chmod +x "$to"
}
script good '#!/bin/sh' 'echo "$# $1"; exit 4'
try "$MOD_ALLOC" run -q ./good 'a b'
expect_status 4
expect_equal "output of a script" "$out" "1 a b"
script headless 'echo headless $1'
try "$MOD_ALLOC" run -q ./headless x
expect_status 0
expect_equal "output of a script without first line" "$out" "headless x"
script envy '#!/usr/bin/env -S sh -e' 'echo "from env"'
try "$MOD_ALLOC" run -q ./envy
expect_equal "output of a script by env" "$out" "from env"
script lost '#!/nonexistent/interpreter'
refused 127 "'/nonexistent/interpreter', which is not there" ./lost
script lost '#!/usr/bin/env no-such-interpreter'
refused 127 "no-such-interpreter" ./lost
script lost "#!$folder/plain"
refused 126 "is not executable" ./lost
script still "#!$PROGRAMS/static"
refused 2 "$PROGRAMS/static, which runs ./still: it is statically linked" ./still
script still2 "#!$folder/still"
refused 2 "it is statically linked" ./still2
script round "#!$folder/round"
refused 126 "whose interpreter is a script" ./round

# the library
refused 2 "/nonexistent.so" --library /nonexistent.so true
MOD_ALLOC_LIBRARY=/nonexistent2.so refused 2 "/nonexistent2.so" true
# one that is none of ours would be preloaded, and the program run unprofiled
foreign=$(ldd "$MOD_ALLOC" | awk '$1 ~ /^libelf/ { print $3 }')
refused 2 "--library: '$foreign' is no library of mod-alloc: a shared library that defines mod_alloc_snapshot is expected" \
    -L "$foreign" echo ran
expect_equal "lines of '$what'" "$(wc -l < .err)" 1
MOD_ALLOC_LIBRARY=$foreign refused 2 "MOD_ALLOC_LIBRARY: '$foreign' is no library of mod-alloc" echo ran
echo 'no library' > text.so
refused 2 "'text.so' is no library of mod-alloc" --library text.so echo ran
refused 2 "is no library of mod-alloc" --library "$PROGRAMS/allocate" echo ran
cp "$MOD_ALLOC" alone
try ./alone run true # far from its library: found where it would be installed, or said
case $status in 0) ;; 2) expect_err "--library" ;; *) fail "without a library: status $status: $err" ;; esac
mkdir "a folder: odd"
cp "$LIBRARY" "a folder: odd/libmod_alloc.so"
try ./alone run --library "a folder: odd/libmod_alloc.so" "$PROGRAMS/allocate" keep 10 64 exit 6
expect_status 6
expect_err "allocated"
expect_not_err "ERROR"
MOD_ALLOC_LIBRARY=$LIBRARY try ./alone run "$PROGRAMS/allocate" exit 8
expect_status 8
expect_err "allocated"
finish
