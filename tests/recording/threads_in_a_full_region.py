#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""threads_in_a_full_region.py PROGRAM COMMAND_LINE WORK

Three hundred threads live at once, and most begin when the region is full: the profile's totals are those that the process
itself has.
"""
import json
import os
import shutil
import subprocess
import sys

program, mod_alloc, work = sys.argv[1:]
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
failures = 0
for sample in ("1", "4K"):
    stats, profile = f"{work}/{sample}.stats", f"{work}/{sample}.prof"
    subprocess.run([program, "full"], stdout=subprocess.DEVNULL, env={
        **os.environ, "MOD_ALLOC_SAMPLE": sample, "MOD_ALLOC_MEMORY": "1M", "MOD_ALLOC_PROFILE": profile,
        "MOD_ALLOC_STATS": stats}, check=sample == "1")  # what the program expects is of every allocation
    with open(stats, encoding="utf-8") as file:
        own = json.load(file)
    report = json.loads(subprocess.run([mod_alloc, "report", "--format", "json", profile], stdout=subprocess.PIPE,
                                       check=True).stdout)
    for name in ("alloc_count", "free_count", "total_bytes", "requested_bytes", "current_bytes", "live_count"):
        if report["totals"][name] != own[name]:
            failures += 1
            print(f"sample {sample}: {name} is {own[name]} in the process, {report['totals'][name]} in the profile")
sys.exit(failures > 0)
