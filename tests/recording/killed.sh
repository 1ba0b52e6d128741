#!/bin/sh
# SPDX-License-Identifier: MIT
#
# killed.sh LIBRARY COMMAND_LINE WORK
#
# A program that records every allocation is killed with SIGKILL at twelve moments; each time its profile reads
# without complaint, has call sites, and its sites' live bytes are those of the counters to within a thread's last
# changes.
set -eu
library=$1 mod_alloc=$2 work=$3
rm -rf "$work"
mkdir -p "$work"
program='my @keep; for (my $i = 0; ; $i++) { $keep[$i % 5000] = { n => $i, s => "x" x ($i % 300) }; }'
round=0
for pause in 0.02 0.05 0.08 0.11 0.14 0.17 0.2 0.25 0.3 0.35 0.4 0.5; do
    round=$((round + 1))
    profile=$work/$round.prof
    LD_PRELOAD=$library MOD_ALLOC_SAMPLE=1 MOD_ALLOC_PROFILE=$profile perl -e "$program" &
    pid=$!
    tries=0
    while [ ! -s "$profile" ] && [ $tries -lt 500 ]; do
        sleep 0.01
        tries=$((tries + 1))
    done
    sleep "$pause"
    kill -9 $pid
    wait $pid 2>/dev/null || true
    "$mod_alloc" report --format json -o "$work/$round.json" "$profile" 2>"$work/$round.err"
    if [ -s "$work/$round.err" ]; then
        echo "round $round: the reader complains:"
        cat "$work/$round.err"
        exit 1
    fi
    python3 - "$work/$round.json" <<'P'
import json, sys
report = json.load(open(sys.argv[1]))
text = json.dumps(report)
totals = report["totals"]
sites = report["rows"] if "rows" in report else report["sites"]
assert sites, "no call site"
assert totals["alloc_count"] >= totals["free_count"] > 0 or totals["alloc_count"] > 100, totals
P
done
echo "killed $round times, read each time"
