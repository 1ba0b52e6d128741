#!/bin/sh
# SPDX-License-Identifier: MIT
#
# cross_check.sh LIBRARY CROSSCHECK REALLOC_IN_PLACE PROGRAM [ARGUMENT...] - the program's allocations and frees as our counters
# have them, and as mimalloc's own hooks count them in another build: they must be equal. A realloc is one allocation
# and one free to the hooks; so ALLOCS = alloc_count and ALLOCS - FREES = live_count. Where the hooks say nothing of a
# realloc that stays where it is (REALLOC_IN_PLACE is 0), only the blocks that are live are compared.
set -u
library=$1
crosscheck=$2
in_place=$3
shift 3
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# The same variables for both: programs copy their environment.
export MOD_ALLOC_SAMPLE=0 MOD_ALLOC_STATS="$folder/ours" MOD_ALLOC_CROSSCHECK="$folder/theirs"
LD_PRELOAD=$library "$@" > "$folder/out1" 2> "$folder/err" || {
    echo "cross_check.sh: $* fails on mod-alloc: $(cat "$folder/err")" >&2
    exit 1
}
LD_PRELOAD=$crosscheck "$@" > "$folder/out2" 2> "$folder/err" || {
    echo "cross_check.sh: $* fails on the build with hooks: $(cat "$folder/err")" >&2
    exit 1
}
value() {
    tr -d ' \n' < "$folder/ours" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"
}
allocs=$(value alloc_count)
live=$(value live_count)
read -r their_allocs their_frees < "$folder/theirs"
their_live=$((their_allocs - their_frees))
echo "$1: ours $allocs allocations, $live live; the hooks $their_allocs, $their_live"
[ -n "$allocs" ] && [ -n "$live" ] && [ "$allocs" -gt 0 ] || exit 1
status=0
if [ "$in_place" -eq 1 ] && [ "$allocs" -ne "$their_allocs" ]; then
    echo "cross_check.sh: $*: alloc_count is $allocs, the hooks counted $their_allocs" >&2
    status=1
fi
if [ "$live" -ne "$their_live" ]; then
    echo "cross_check.sh: $*: live_count is $live, the hooks counted $their_live" >&2
    status=1
fi
exit $status
