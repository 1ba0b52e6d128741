#!/bin/sh
# SPDX-License-Identifier: MIT
#
# killed.sh LIBRARY COMMAND_LINE WORK
#
# A program that records every allocation is killed with SIGKILL at twelve random moments of its loop; each time its
# profile reads without complaint, has call sites, and their sums are those of the counters to within the one block that
# was just being counted.
set -eu
library=$1 mod_alloc=$2 work=$3
rm -rf "$work"
mkdir -p "$work"
program='$| = 1; print "on\n"; my @keep; for (my $i = 0; ; $i++) { $keep[$i % 5000] = { n => $i, s => "x" x ($i % 300) }; }'
round=0
while [ $round -lt 12 ]; do
    round=$((round + 1))
    pause=$(od -An -N4 -tu4 /dev/urandom | awk '{ print $1 % 600000 / 1000000 }')
    profile=$work/$round.prof
    LD_PRELOAD=$library MOD_ALLOC_SAMPLE=1 MOD_ALLOC_PROFILE=$profile perl -e "$program" >"$work/$round.on" &
    pid=$!
    while [ ! -s "$work/$round.on" ] && kill -0 $pid; do
        sleep 0.01
    done
    sleep "$pause"
    kill -9 $pid
    wait $pid 2>/dev/null || true
    "$mod_alloc" report --format json -o "$work/$round.json" "$profile" 2>"$work/$round.err"
    if [ -s "$work/$round.err" ]; then
        echo "round $round, killed after $pause s: the reader complains:"
        cat "$work/$round.err"
        exit 1
    fi
    python3 - "$work/$round.json" "$pause" <<'P'
import json, sys
report = json.load(open(sys.argv[1]))
counted, sites = report["totals"], report["site_totals"]
assert report["rows"], "no call site"
for ours, theirs in (("alloc_count", "allocated_count"), ("live_count", "live_count")):
    assert abs(counted[ours] - sites[theirs]) <= 1, (sys.argv[2], ours, counted, sites)
assert abs(counted["current_bytes"] - sites["live_bytes"]) <= 1 << 17, (sys.argv[2], counted, sites)
assert counted["alloc_count"] > 100, counted
P
done
echo "killed $round times, read each time"
