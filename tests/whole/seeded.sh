#!/bin/sh
# SPDX-License-Identifier: MIT
#
# seeded.sh PROGRAM LIBRARY - the same seed takes the same samples, on each thread, wherever the program and its blocks
# lie; another seed takes others, and so does no seed, each time. MOD_ALLOC_FRAMES cuts the stacks.
set -u
program=$1
library=$2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
fail() {
    echo "seeded.sh: $*" >&2
    failed=1
}
run() { # NAME VARIABLE=VALUE...
    name=$1
    shift
    env "$@" LD_PRELOAD="$library" MOD_ALLOC_SAMPLE=16K "$program" samples > "$folder/all" || fail "$name: status $?"
    grep '^site' "$folder/all" > "$folder/$name"
    [ "$(wc -l < "$folder/$name")" -ge 3 ] || fail "$name: too few sites: $(cat "$folder/$name")"
}
same() {
    cmp -s "$folder/$1" "$folder/$2"
}
run seven MOD_ALLOC_SEED=7
run seven_again MOD_ALLOC_SEED=7
run seven_elsewhere MOD_ALLOC_SEED=7 "MOD_ALLOC_UNUSED=$(printf '%05000d' 0)"
run eight MOD_ALLOC_SEED=8
run none MOD_ALLOC_SEED=
run none_again MOD_ALLOC_SEED=
same seven seven_again || fail "one seed, two sets of samples: $(diff "$folder/seven" "$folder/seven_again" | head -6)"
same seven seven_elsewhere || fail "a larger environment changes the samples"
! same seven eight || fail "two seeds take the same samples"
! same none none_again || fail "two runs without a seed take the same samples"

# fewer frames: fewer stacks can be told apart
run short MOD_ALLOC_SEED=7 MOD_ALLOC_FRAMES=1
[ "$(wc -l < "$folder/short")" -lt "$(wc -l < "$folder/seven")" ] ||
    fail "with one frame there are $(wc -l < "$folder/short") sites, with 64 $(wc -l < "$folder/seven")"
exit $failed
