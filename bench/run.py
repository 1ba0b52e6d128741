#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py quick|medium|full --build BUILD [--time MINUTES] [--only SECTION,...] [--resume] [--out DIR]

The benchmarks, and the table of budgets. Three sets that differ in how long each thing is measured, and a little in
what is measured:

    quick    under 5 minutes on two cores: enough to see that nothing is broken
    medium   some 22 minutes: every row
    full     an hour: every row, narrower intervals, all rivals on all programs

The time is a plan, shown before each step and kept to within some minutes: --time gives another. Most figures come
from pairs, measured by the code of `mod-alloc compare` (README.md tells why). Sections, in order: instructions
lines calls walks start report threads loops programs exact memory rivals compare.

Each measurement is kept in DIR (default BUILD/bench/results) as soon as it is there, and a run that is stopped
(Ctrl-C, SIGTERM) writes its tables from those; --resume goes on with what is missing, if libraries and set are still
the same. Results: results.json with all figures, machine, versions and date; results.md, the tables; readme.md, those of
them that the main README shows; overhead.svg, rivals.svg.
"""
import argparse
import datetime
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time

import budgets
import chart
import measurements
import programs

MINUTES = {"quick": 4.5, "medium": 22, "full": 60}


class Bench:
    """Where things lie, what has been measured, and how pairs are run."""

    def __init__(self, arguments):
        self.set = arguments.set
        self.build = os.path.abspath(arguments.build)
        self.out = os.path.abspath(arguments.out or os.path.join(self.build, "bench", "results"))
        self.bin = os.path.join(self.build, "bench")
        self.plain = os.path.join(self.build, "lib", "libmimalloc_plain.so")
        self.ours = os.path.join(self.build, "lib", "libmod_alloc.so")
        self.mod_alloc = os.path.join(self.build, "bin", "mod-alloc")
        self.inputs = os.path.join(self.out, "inputs")
        self.kept = os.path.join(self.out, "measurements.json")
        self.measured = {}  # "section/name": what the measurement returned
        for needed in (self.plain, self.ours, os.path.join(self.bin, "bench_compare")):
            if not os.path.exists(needed):
                sys.exit(f"run.py: {needed} is not there: cmake --build {arguments.build}")
        os.makedirs(self.out, exist_ok=True)
        programs.make(self.inputs)
        self.fingerprint = self.set + "".join(
            " " + hashlib.sha256(open(path, "rb").read()).hexdigest()[:16] for path in (self.plain, self.ours))

    @property
    def is_quick(self):
        return self.set == "quick"

    def pick(self, quick, medium, full):
        return {"quick": quick, "medium": medium, "full": full}[self.set]

    def compare(self, arguments, pairs, seconds=None, expect_failures=False):
        """Runs compare, with its time cut off after that many seconds, and returns its JSON."""
        environment = dict(os.environ, MOD_ALLOC_LIBRARY=self.ours, MOD_ALLOC_PLAIN=self.plain)
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            done = subprocess.run(
                [os.path.join(self.bin, "bench_compare"), "--quiet", "--json", file.name, "--pairs", str(pairs)]
                + (["--time", str(max(1, round(seconds)))] if seconds else []) + arguments,
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode == 2 or (done.returncode and not expect_failures):
                raise RuntimeError(f"compare {' '.join(arguments)}\n{done.stderr}")
            if done.returncode:
                say(done.stderr.strip())
            return json.load(open(file.name))

    # ---- what is kept ----

    def take_over(self):
        try:
            with open(self.kept) as file:
                before = json.load(file)
        except (OSError, ValueError):
            say("nothing to resume: all is measured")
            return
        if before["fingerprint"] != self.fingerprint:
            say("what is there was measured with other libraries or another set: all is measured anew")
            return
        self.measured = before["measured"]
        say(f"{len(self.measured)} measurements are taken over from {self.kept}")

    def keep(self, key, value):
        self.measured[key] = value
        with open(self.kept + ".new", "w") as file:
            json.dump({"fingerprint": self.fingerprint, "measured": self.measured}, file)
        os.replace(self.kept + ".new", self.kept)

    # ---- output ----

    def write(self, seconds, missing):
        everything = {**self.header(), "seconds": round(seconds), "missing": missing,
                      **budgets.tables(self.measured)}
        everything["budgets"] = budgets.rows(everything)
        with open(os.path.join(self.out, "results.json"), "w") as file:
            json.dump(everything, file, indent=1)
        with open(os.path.join(self.out, "results.md"), "w") as file:
            file.write(chart.markdown(everything))
        for name, text in (("readme.md", chart.readme(everything)), ("overhead.svg", chart.overhead(everything)), ("rivals.svg", chart.rivals(everything))):
            if text:
                with open(os.path.join(self.out, name), "w") as file:
                    file.write(text)
        return everything

    def header(self):
        versions = {}
        for name, command in (("gcc", "gcc -dumpfullversion"), ("valgrind", "valgrind --version"),
                              ("heaptrack", "heaptrack --version"), ("git", "git --version")):
            try:
                versions[name] = subprocess.run(command.split(), capture_output=True, text=True).stdout.strip()
            except OSError:
                versions[name] = None
        for package in ("libjemalloc2", "libgoogle-perftools4", "libc6"):
            try:
                done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True)
                versions[package] = done.stdout.strip() or None
            except OSError:
                versions[package] = None
        counters = os.path.join(self.out, "version.json")
        subprocess.run(["true"], env=dict(os.environ, LD_PRELOAD=self.ours, MOD_ALLOC_STATS=counters))
        if os.path.exists(counters):
            told = json.load(open(counters))
            versions.update({name: told.get(name) for name in ("mod_alloc", "mimalloc")})
            os.unlink(counters)
        cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
        return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "set": self.set,
                "machine": {"cpu": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(),
                            "kernel": platform.release(), "load_before": self.load},
                "versions": versions}


def say(text):
    print(text, file=sys.stderr, flush=True)


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def run_all(bench, plan, minutes):
    """Gives each step its share of what time is left. Returns seconds taken and the keys that were not reached."""
    start = time.monotonic()
    todo = [step for step in plan if step.key not in bench.measured]
    left = 60 * minutes * sum(s.seconds for s in todo) / max(1, sum(s.seconds for s in plan))
    say(f"{len(todo)} measurements, about {left / 60:.0f} minutes, into {bench.out}")
    end = start + left
    try:
        for i, step in enumerate(todo):
            now = time.monotonic()
            elastic = sum(s.seconds for s in todo[i:] if s.is_elastic)
            fixed = sum(s.seconds for s in todo[i:] if not s.is_elastic)
            scale = min(4, max(0.3, (end - now - fixed) / elastic)) if elastic else 1
            say(f"[{clock(now - start):>5} of about {clock(max(end, now + fixed + elastic * scale) - start)}] {step.key}")
            try:
                bench.keep(step.key, step.run(step.seconds * scale))
            except (RuntimeError, OSError, subprocess.CalledProcessError, ValueError) as error:
                say(f"{step.key} cannot be measured: {error}")
                bench.keep(step.key, {"failure": str(error)[-300:]})
    except KeyboardInterrupt:
        say("stopped: the tables are written from what is there; --resume goes on")
    return time.monotonic() - start, [step.key for step in plan if step.key not in bench.measured]


def stop(*_):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(MINUTES))
    parser.add_argument("--build", required=True)
    parser.add_argument("--out")
    parser.add_argument("--time", type=float, metavar="MINUTES", help="for all sections; what --only leaves out is not used")
    parser.add_argument("--only", help="sections, separated by commas")
    parser.add_argument("--resume", action="store_true", help="measure only what an earlier run left out")
    arguments = parser.parse_args()
    for name in [n for n in os.environ if n.startswith(("LD_PRELOAD", "MOD_ALLOC_", "MIMALLOC_"))]:
        del os.environ[name]
    signal.signal(signal.SIGTERM, stop)
    bench = Bench(arguments)
    bench.load = os.getloadavg()
    if bench.load[0] > 0.5 * (os.cpu_count() or 1):
        say(f"the load average is {bench.load[0]:.1f}: threads and nanoseconds will be those of a busy machine")
    if arguments.resume:
        bench.take_over()
    sections = arguments.only.split(",") if arguments.only else list(measurements.SECTIONS)
    unknown = [s for s in sections if s not in measurements.SECTIONS]
    if unknown:
        sys.exit(f"run.py: there is no section {unknown[0]} ({' '.join(measurements.SECTIONS)})")
    whole = measurements.plan(bench)
    chosen = [step for step in whole if step.section in sections]
    share = sum(s.seconds for s in chosen) / sum(s.seconds for s in whole)
    seconds, missing = run_all(bench, chosen, share * (arguments.time or MINUTES[bench.set]))
    everything = bench.write(seconds, missing)
    say(f"{clock(seconds)} minutes: {bench.out}/results.md")
    print(chart.budgets(everything["budgets"]))
    return 130 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
