#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_compare.py --build BUILD [--repeats N] - does `mod-alloc compare` see what it says it sees?

    a planted slowdown of 2 % in a command of 0.3 s is called slower, within 3 minutes
    a planted difference of 1 % is told from the command itself in the same way, or, where the machine counts
        instructions, exactly in those
    the same command twice is called "no difference shown" in at least 19 of 20 repeats

The command is bench_pair_one_size with a number of turns. The odds, with pairs as noisy as 2 % (three times what
was measured on a quiet machine): 120 pairs know their median to 1.25 x 2 % / sqrt(120) = 0.23 %; a verdict
needs 2.58 of those, 0.6 %, so that 2 % is missed once in 10^9, and 1 % once in 20. A verdict on the
same command comes by chance in fewer than 1 of 100, so that 2 or more of 20 do in fewer than 1 of 60 runs.

This is no ctest: it takes minutes and depends on the machine. Exit status 1 = it does not see.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

TURNS = 40_000_000  # 0.3 s


def compare(build, commands, *options):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([os.path.join(build, "bench", "bench_compare"), "--quiet", "--json", file.name, "--allocator",
                        os.path.join(build, "lib", "libmimalloc_plain.so"), *options, *commands], check=True)
        return json.load(open(file.name))


def line_of(result, metric, variant="B"):
    return next((l for l in result["measured"] if l["metric"] == metric and l["variant"] == variant), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    build = os.path.abspath(arguments.build)
    loop = os.path.join(build, "bench", "bench_pair_one_size")
    command = lambda percent: f"{loop} 64 {TURNS * (100 + percent) // 100}"
    bad = 0
    for percent in (2, 1):
        start = time.monotonic()
        result = compare(build, [command(0), command(percent)], "--pairs", "60", "--time", "170")
        line, took = line_of(result, "user+sys"), time.monotonic() - start
        instructions = line_of(result, "instructions")
        is_seen = line["verdict"] == "slower" or (
            percent == 1 and instructions is not None and instructions["verdict"] == "more")
        bad += not is_seen or took > 180
        print(f"planted {percent} %: {line['ratio']:.4f} [{line['low']:.4f}, {line['high']:.4f}], {line['pairs']} pairs, "
              f"{took:.0f} s: {line['verdict']}" + (f"; instructions: {instructions['verdict']}" if instructions else ""))
    claimed = 0
    for repeat in range(arguments.repeats):
        result = compare(build, [command(0), command(0)], "--pairs", "20", "--seed", str(repeat + 1))
        line = line_of(result, "user+sys")
        claimed += line["verdict"] != "no difference shown"
        print(f"the same, repeat {repeat + 1}: {line['ratio']:.4f} [{line['low']:.4f}, {line['high']:.4f}] {line['verdict']}")
    allowed = max(1, arguments.repeats // 20)
    print(f"the same against the same: {claimed} of {arguments.repeats} called a difference, at most {allowed} may be")
    return 1 if bad or claimed > allowed else 0


if __name__ == "__main__":
    sys.exit(main())
