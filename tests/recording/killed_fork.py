#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""killed_fork.py LIBRARY KILLED_FORK MOD_ALLOC WORK

A forked child whose parent keeps its profile in a file is killed at each system call that it makes, from the first on:
in the middle of making a file, of copying its parent's, of taking out what its parent counted. What is left is its own
profile or is refused in plain words; it is never read as its parent's.
"""
import json
import os
import shutil
import subprocess
import sys

library, killed_fork, mod_alloc, work = sys.argv[1:]
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
failures = 0
outcomes = []
stops = 0
ended = False
while not ended and stops < 1000:
    profile = f"{work}/{stops}.prof"
    environment = dict(os.environ, MOD_ALLOC_SAMPLE="1", MOD_ALLOC_PROFILE=profile)
    done = subprocess.run([killed_fork, library, str(stops)], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77:
        print("no process may be traced here")
        sys.exit(77)
    parent, child, end = done.stdout.split()
    ended = end == "ended"
    if not os.path.exists(f"{profile}.{child}"):
        outcomes.append("none")
    else:
        read = subprocess.run([mod_alloc, "report", "--format", "json", f"{profile}.{child}"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        if read.returncode == 0:
            report = json.loads(read.stdout)
            process = report["processes"][0]
            outcomes.append("read")
            is_so = (str(process["pid"]), str(process["parent_pid"]), process["is_forked"]) == (child, parent, True) and \
                report["site_totals"]["allocated_count"] - report["totals"]["alloc_count"] in (0, 1)
        else:
            outcomes.append("refused")
            is_so = read.returncode == 2 and ("unfinished" in read.stderr or "(0 bytes)" in read.stderr)
        if not is_so:
            failures += 1
            print(f"killed at stop {stops}, parent {parent}, child {child}: not so:", read.stderr or
                  {part: report[part] for part in ("processes", "totals", "site_totals")})
    stops += 1
print(f"killed {stops - 1} times:", *outcomes)
if "none" not in outcomes or outcomes.count("refused") < 5 or outcomes[-1] != "read":
    failures += 1
    print("not so: each of the three is among them, and the last is whole")
sys.exit(failures > 0)
