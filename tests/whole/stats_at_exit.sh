#!/bin/sh
# SPDX-License-Identifier: MIT
#
# stats_at_exit.sh PROGRAM LIBRARY MOD_ALLOC - what MOD_ALLOC_STATS tells is what the profile tells when the process is gone:
# what destructors free that run behind LIBRARY's is in it.
set -u
program=$1
library=$2
mod_alloc=$3
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "stats_at_exit.sh: $*" >&2
    exit 1
}

# counters FILE: those of JSON, a line each
counters() {
    sed -n 's/^ *"\([a-z_]*_count\|[a-z]*_bytes\)": *\([0-9]*\).*/\1 \2/p' "$1" | sort
}

LD_PRELOAD=$library MOD_ALLOC_SAMPLE=1 MOD_ALLOC_STATS="$folder/stats.json" MOD_ALLOC_PROFILE="$folder/profile" "$program" ||
    fail "$program ended with status $?"
"$mod_alloc" stat --json "$folder/gone.json" "$folder/profile" || fail "no counters in the profile"
counters "$folder/stats.json" > "$folder/stats"
counters "$folder/gone.json" > "$folder/gone"
[ "$(wc -l < "$folder/stats")" -eq 8 ] || fail "not eight counters: $(cat "$folder/stats.json")"
diff "$folder/stats" "$folder/gone" || fail "the counters told (<) are not those of the profile (>)"
