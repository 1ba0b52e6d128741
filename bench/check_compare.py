#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_compare.py --build BUILD [--repeats N] - does `mod-alloc compare` see what it says it sees?

    a planted slowdown of 2 % in a command of 0.3 s is called slower, within 3 minutes
    a planted difference of 1 % is called more in instructions, within 3 minutes: retired ones where the machine counts
        them for us, else those that Valgrind counts (--count-instructions)
    the same command twice is called "no difference shown" in at least 19 of 20 repeats

The command is bench_pair_one_size with a number of turns. The odds, with pairs as noisy as 1 % (three times what was
measured on a quiet machine): 60 pairs know their median to 1.25 x 1 % / sqrt(60) = 0.16 %; a verdict needs 2.58 of
those, 0.42 %, so that 2 % is missed less than once in 10^9, and 1 % once in 10^4; with 30 pairs, 1 % is missed once
in 50, which is why it is no bar in time, though it is shown. The interval behind a verdict holds the truth in 99 of 100 (tests/compare
counts that), so that the same command is called different in fewer than 1 of 100: 2 or more of 20 in 1 of 60 runs.
What a busy machine does is not independent from pair to pair, and can make that worse.

This is no ctest: it takes minutes and depends on the machine. Exit status 1 = it does not see. Two commands are
measured at a time, each pair on a core of its own.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time

TURNS = 40_000_000  # 0.3 s


def compare(build, core, commands, *options):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([os.path.join(build, "bench", "bench_compare"), "--quiet", "--json", file.name, "--core", str(core),
                        "--allocator", os.path.join(build, "lib", "libmimalloc_plain.so"), *options, *commands],
                       check=True)
        return json.load(open(file.name))


def line_of(result, metric, kind="measured", variant="B"):
    return next((l for l in result[kind] if l["metric"] == metric and l["variant"] == variant), None)


def command(build, percent):
    return f"{os.path.join(build, 'bench', 'bench_pair_one_size')} 64 {TURNS * (100 + percent) // 100}"


def on_cores(calls):
    """Runs calls(core), as many at a time as there are cores. In the order given."""
    free = sorted(os.sched_getaffinity(0))[-2:]

    def run(call):
        core = free.pop()
        try:
            return call(core)
        finally:
            free.append(core)
    with concurrent.futures.ThreadPoolExecutor(len(free)) as pool:
        return list(pool.map(run, calls))


def planted(build, pairs, counts_instructions=True):
    """runs: [{percent, ratio, low, high, pairs, seconds, verdict, instructions, instructions_verdict}]"""
    def one(percent, core):
        start = time.monotonic()
        result = compare(build, core, [command(build, 0), command(build, percent)], "--pairs", str(pairs), "--time", "100",
                         *(["--count-instructions"] if percent == 1 and counts_instructions else []))
        line, took = line_of(result, "user+sys"), time.monotonic() - start
        found = {"percent": percent, "seconds": took, **{k: line[k] for k in ("ratio", "low", "high", "pairs", "verdict")}}
        counted = line_of(result, "instructions") or line_of(result, "instructions", "counted")
        if counted:
            found.update(instructions=counted["ratio"], instructions_verdict=counted["verdict"],
                         instructions_by="the machine" if line_of(result, "instructions") else "valgrind")
        return found
    return {"runs": on_cores([lambda core, p=percent: one(p, core) for percent in (2, 1)])}


def the_same(build, repeats, pairs):
    """{repeats, differences, lines: [[ratio, low, high, verdict]]}"""
    def one(seed, core):
        result = compare(build, core, [command(build, 0), command(build, 0)], "--pairs", str(pairs), "--seed", str(seed))
        line = line_of(result, "user+sys")
        return [line["ratio"], line["low"], line["high"], line["verdict"]]
    lines = on_cores([lambda core, s=seed: one(s, core) for seed in range(1, repeats + 1)])
    return {"repeats": repeats, "pairs": pairs, "lines": lines,
            "differences": sum(line[3] != "no difference shown" for line in lines)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    build, bad = os.path.abspath(arguments.build), 0
    for run in planted(build, 60)["runs"]:
        bad += run["seconds"] > 180 or (run["verdict"] != "slower" if run["percent"] == 2
                                        else run.get("instructions_verdict") != "more")
        print(f"planted {run['percent']} %: {run['ratio']:.4f} [{run['low']:.4f}, {run['high']:.4f}], {run['pairs']} pairs, "
              f"{run['seconds']:.0f} s: {run['verdict']}" + (
                  f"; instructions by {run['instructions_by']}: {run['instructions']:.5f}, {run['instructions_verdict']}"
                  if "instructions" in run else ""))
    same = the_same(build, arguments.repeats, 20)
    for number, (ratio, low, high, verdict) in enumerate(same["lines"]):
        print(f"the same, repeat {number + 1}: {ratio:.4f} [{low:.4f}, {high:.4f}] {verdict}")
    allowed = max(1, arguments.repeats // 20)
    print(f"the same against the same: {same['differences']} of {arguments.repeats} called a difference, at most "
          f"{allowed} may be")
    return 1 if bad or same["differences"] > allowed else 0


if __name__ == "__main__":
    sys.exit(main())
