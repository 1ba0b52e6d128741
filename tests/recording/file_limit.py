#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""file_limit.py LIBRARY COMMAND_LINE WORK

A real program records every allocation while its files may only be so long (ulimit -f, whose signal kills): its output
and status are what they are without; the profile reads, says what found no room, and its sums are right all the same.
A limit in which not even the profile's first part fits is told in one line; one that lets no file grow, nowhere, if
stderr is a file.
"""
import json
import os
import resource
import shutil
import subprocess
import sys

library, mod_alloc, work = sys.argv[1:]
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
PROGRAM = r"""
my %h = map { $_ => [$_, "x$_", {n => $_}] } 1 .. 2000;
my @sorted = sort { length($a) <=> length($b) || $a cmp $b } keys %h;
print length(join ",", map { sprintf "%05d:%s", $_, $h{$_}[1] } @sorted), "\n";
exit 7;"""
failures = []


def run(limit, stderr=subprocess.PIPE):
    ours = ["LD_PRELOAD=" + library, "MOD_ALLOC_SAMPLE=1", f"MOD_ALLOC_PROFILE={work}/{limit}.prof",
            f"MOD_ALLOC_STATS={work}/{limit}.stats"]
    return subprocess.run(["env", *ours, "perl", "-e", PROGRAM], stdout=subprocess.PIPE, stderr=stderr, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))


def hold(limit, what, is_so, shown=""):
    if not is_so:
        failures.append(what)
        print(f"limit of {limit} bytes: not so: {what}: {shown}")


for limit in (0, 5 << 10, 200 << 10, 500 << 10):
    done = run(limit)
    hold(limit, "status and output are the program's", (done.returncode, done.stdout) == (7, "22892\n"), done)
    profile = f"{work}/{limit}.prof"
    if limit < 64 << 10:
        lines = done.stderr.splitlines()
        hold(limit, "one line says that the profile stays in memory",
             sum("file too large; the profile is kept in memory only" in line for line in lines) == 1, lines)
        hold(limit, "no file is left", not os.path.exists(profile))
        continue
    hold(limit, "nothing is said", done.stderr == "", done.stderr)
    hold(limit, "the file keeps to the limit", os.path.getsize(profile) <= limit, os.path.getsize(profile))
    report = json.loads(subprocess.run([mod_alloc, "report", "--format", "json", profile], stdout=subprocess.PIPE,
                                       check=True).stdout)
    process, counted, sites = report["processes"][0], report["totals"], report["site_totals"]
    hold(limit, "the profile holds what it should",
         process["dropped_disk"] > 0 and 0 < process["dropped"] < process["samples"] and process["exited_cleanly"]
         and sites["allocated_count"] == counted["alloc_count"] > 10000
         and sites["live_count"] == counted["live_count"] and sites["live_bytes"] == counted["current_bytes"],
         (process, counted, sites))
with open(f"{work}/stderr", "w", encoding="utf-8") as stderr:
    done = run(0, stderr)
hold(0, "not even a line that cannot be written kills", (done.returncode, done.stdout) == (7, "22892\n"), done)
sys.exit(len(failures) > 0)
