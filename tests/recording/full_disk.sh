#!/bin/sh
# SPDX-License-Identifier: MIT
#
# full_disk.sh LIBRARY COMMAND_LINE WORK
#
# A real program records every allocation into a file system that soon is full: its output and status are what they are
# without; the profile reads, says what found no room and why, and its sums are right all the same. In a user namespace, where a
# small tmpfs may be mounted; exit status 77 where that is not permitted.
set -eu
library=$1 mod_alloc=$2 work=$3
if [ "${4:-}" != inside ]; then
    rm -rf "$work"
    mkdir -p "$work/disk"
    unshare -Urm sh -c 'mount -t tmpfs -o size=64k none "$1"' - "$work/disk" 2>"$work/err" || {
        echo "no file system can be mounted here: $(cat "$work/err")"
        exit 77
    }
    exec unshare -Urm sh "$0" "$library" "$mod_alloc" "$work" inside
fi

program='
my %h = map { $_ => [$_, "x$_", {n => $_}] } 1 .. 2000;
my @sorted = sort { length($a) <=> length($b) || $a cmp $b } keys %h;
my $text = join ",", map { sprintf "%05d:%s", $_, $h{$_}[1] } @sorted;
(my $copy = $text) =~ s/(\d+)/<$1>/g;
print eval("sub { \$_[0] }")->(length $copy), "\n";'
perl -e "$program" >"$work/expected"
failures=0
not_so() {
    echo "disk of $size: not so: $*"
    failures=$((failures + 1))
}
for size in 16k 256k 512k; do
    mount -t tmpfs -o "size=$size" none "$work/disk"
    status=0
    env LD_PRELOAD="$library" MOD_ALLOC_SAMPLE=1 MOD_ALLOC_PROFILE="$work/disk/prof" MOD_ALLOC_STATS="$work/$size.stats" \
        perl -e "$program" >"$work/$size.out" 2>"$work/$size.err" || status=$?
    [ $status -eq 0 ] || not_so "the program's status is $status"
    cmp "$work/expected" "$work/$size.out" || not_so "its output is the same"
    if [ $size = 16k ]; then # not even the header fits
        [ "$(wc -l <"$work/$size.err")" -eq 1 ] && grep -q 'no space left on device' "$work/$size.err" ||
            not_so "one line says that the profile stays in memory: $(cat "$work/$size.err")"
        [ ! -e "$work/disk/prof" ] || not_so "no file is left"
    else
        [ ! -s "$work/$size.err" ] || not_so "nothing is said: $(cat "$work/$size.err")"
        "$mod_alloc" report --format json -o "$work/$size.json" "$work/disk/prof" || not_so "the profile reads"
        python3 - "$work/$size.json" <<'P' || not_so "the profile holds what it should"
import json, sys
report = json.load(open(sys.argv[1]))
process = report["processes"][0]
counted, sites = report["totals"], report["site_totals"]
print({name: process[name] for name in ("samples", "dropped", "dropped_disk", "region_used_bytes")})
sys.exit(not (process["dropped_disk"] > 0 and 0 < process["dropped"] < process["samples"] and process["exited_cleanly"]
              and sites["allocated_count"] == counted["alloc_count"] > 10000
              and sites["live_count"] == counted["live_count"] and sites["live_bytes"] == counted["current_bytes"]))
P
        dropped=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["processes"][0]["dropped"])' "$work/$size.json")
        for format in text html; do
            "$mod_alloc" report --format $format "$work/disk/prof" | tr -d , |
                grep -qi "$dropped samples found no room for their stack.*the disk that the profile lies on was full" ||
                not_so "$format says how many samples found no room, and why"
        done
    fi
    umount "$work/disk"
done
exit $((failures != 0))
