#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""instructions.py - exact instruction counts, by callgrind: what one malloc and free cost, and what a
whole program costs, under one malloc and another.

    instructions.py loops LIB[:VAR=VALUE...] ... [--questions pair,batch] [--sizes 16,64]
    instructions.py program LIB[:VAR=VALUE...] ... -- COMMAND [ARG...]
    instructions.py check GOLDEN --mimalloc VERSION --plain LIB --ours LIB   (what ctest runs)
    instructions.py write GOLDEN --mimalloc VERSION --plain LIB --ours LIB   (after a look at the change)

check compares with the golden counts of that mimalloc version and ends with status 1 where one is off by
more than its tolerance (TOLERANCE below); write replaces them. Loops are in instructions for one block; the
program is bench_factor, in instructions of ours for 1000 of plain; threads are those of bench_churn_short_threads,
in instructions for one thread's life. Both must lie beside bench_instructions.

The first LIB is the one the others are compared with; "system" is the system's malloc. Counts are of
instructions executed in user space: no clock, no noise, the same each time. What they do not show is
in README.md.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LOOPS = os.environ.get("MOD_ALLOC_BENCH_LOOPS", "bench_instructions")
MODES = [("counters", "MOD_ALLOC_SAMPLE=0"), ("sampled", "MOD_ALLOC_SAMPLE=524288"), ("exact", "MOD_ALLOC_SAMPLE=1")]


def environment(spec, before=None):
    """LIB[:VAR=VALUE...] -> the environment that runs it, with `before` preloaded in front. It holds nothing else:
    its length decides where the stack lies, and so what a walk and a loader do."""
    lib, *settings = spec.split(":")
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "LC_ALL": "C"}
    preload = [os.path.abspath(path) for path in (before, lib if lib != "system" else None) if path]
    if preload:
        env["LD_PRELOAD"] = ":".join(preload)
    env["MOD_ALLOC_SEED"] = "1"  # the sampler's draws, the same each time
    for setting in settings:
        name, _, value = setting.partition("=")
        env[name] = value
    return env


def callgrind(spec, command, directory, still=None):
    out = os.path.join(directory, "cg")
    for old in glob.glob(out + "*"):
        os.unlink(old)
    settings, command = without_env(command)
    # Valgrind itself must not be preloaded: it hands LD_PRELOAD on to the program it runs.
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--"] + command,
        env={**environment(spec, still), **settings}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"instructions.py: {' '.join(command)} under {spec}: status {done.returncode}\n{done.stderr[-2000:]}")
    return out, done.stderr


# What our slow paths do now and then by the processor's tick counter, which no preloaded clock can hold still; and what it
# takes us to ask for the time where there is no vDSO, as under valgrind alone.
BY_THE_CLOCK = re.compile(r"moda_(track_maintain|track_age|timeline_note)\b|by_call\b")


def counted(text):
    """A dump's total, without what was done by the clock: the calls of it from anything else, with all they called."""
    total = int(re.search(r"^totals: (\d+)$", text, re.M)[1])
    names, called, is_next = {}, None, False
    for line in text.splitlines():
        name = re.match(r"c?fn=\((\d+)\)(?: (.*))?", line)
        if name:
            if name[2]:
                names[name[1]] = name[2]
            called = names[name[1]] if line.startswith("cfn") else None
        elif line.startswith("calls=") and called and BY_THE_CLOCK.match(called):
            is_next = True
        elif is_next:
            total -= int(line.split()[1])
            is_next = False
    return total


def loops(spec, questions, sizes, still=None):
    """{(question, size): instructions for one more block}"""
    totals = {}
    with tempfile.TemporaryDirectory() as directory:
        out, _ = callgrind(spec, [LOOPS, questions] + [str(s) for s in sizes], directory, still)
        for path in glob.glob(out + ".*"):
            with open(path) as dump:
                text = dump.read()
            name = re.search(r"^desc: Trigger: Client Request: (\S+) (\d+) (\d+)$", text, re.M)
            if name:
                totals[name[1], int(name[2]), int(name[3])] = counted(text)
    result = {}
    for question, size in sorted({key[:2] for key in totals}):
        few, many = sorted(blocks for q, s, blocks in totals if (q, s) == (question, size))
        result[question, size] = (totals[question, size, many] - totals[question, size, few]) / (many - few)
    if not result:
        sys.exit("instructions.py: callgrind wrote no dumps")
    return result


def program(spec, command, still=None):
    with tempfile.TemporaryDirectory() as directory:
        out, _ = callgrind(spec, command, directory, still)
        with open(out) as dump:
            return counted(dump.read())


def without_env(command):
    """A command's leading `env NAME=VALUE ...` as settings, and what it runs: Valgrind does not follow env to it."""
    settings = {}
    if command[0] == "env":
        command = command[1:]
        while "=" in command[0]:
            name, _, settings[name] = command[0].partition("=")
            command = command[1:]
    return settings, command


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) if i else cell.ljust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))


def name_of(spec):
    lib, *settings = spec.split(":")
    return ":".join([re.sub(r"^lib|\.so.*$", "", os.path.basename(lib))] + settings)


def command_loops(arguments):
    results = [loops(spec, arguments.questions, arguments.sizes) for spec in arguments.libs]
    rows = [["instructions"] + [name_of(spec) for spec in arguments.libs]
            + [f"{name_of(spec)} - first" for spec in arguments.libs[1:]]]
    for key in sorted(results[0], key=lambda k: (arguments.questions.find(k[0]), k[1])):
        rows.append([f"{key[0]} {key[1]}"] + [f"{r[key]:.2f}" for r in results]
                    + [f"{r[key] - results[0][key]:+.2f}" for r in results[1:]])
    table(rows)


def command_program(arguments):
    counts = [program(spec, arguments.command) for spec in arguments.libs]
    table([["malloc", "instructions", "ratio"]] + [
        [name_of(spec), str(count), f"{count / counts[0]:.5f}"] for spec, count in zip(arguments.libs, counts)])


# How far a count may be off: relative, or absolute, whichever is more. With a clock that stands still, a fixed seed, a
# fixed environment, and without what slow paths do by the tick counter (BY_THE_CLOCK), counts come out the same to 0.05
# of an instruction a block; the program, in instructions of ours for 1000 of plain, to 0.02. One more instruction in
# malloc or free is therefore seen in each loop. A walk (exact) also runs through the C library's code and tables, and which
# walks share a set of the memo hangs on where the stack lies, and so on the length of paths. Which pages of blocks above
# 1 KiB are given up and made anew hangs on the tick counter: half an instruction a block of 40000 bytes. So does which four
# blocks of its page a loop goes through there, and a free of one behind the page's first 64 KiB is 12 instructions more: with
# 2.4.1 two of the four are, or three.
TOLERANCE = {"plain": (0, 0.1), "counters": (0, 0.3), "sampled": (0, 0.3), "exact": (0.02, 4.0)}
TOLERANCE_MEDIUM = 0.8  # of counters and sampling, blocks above 1 KiB
TOLERANCE_BEHIND = 4.0  # blocks of which a page has some behind its first 64 KiB
GOLDEN_COMMAND = ["2517210819165629183", "629006561354488719901"]


def golden_of(arguments):
    """{(question, size): {mode: count}} as it is now."""
    specs = [("plain", arguments.plain)] + [(mode, f"{arguments.ours}:{setting}") for mode, setting in MODES]
    found = {}
    for mode, spec in specs:
        # calloc and realloc of large blocks are memset and memcpy, no more
        for questions, sizes in (("pair,batch", [16, 64, 256, 1000, 4096, 40000]), ("calloc,grow", [16, 64, 1000])):
            for key, count in loops(spec, questions, sizes, arguments.still_clock).items():
                found.setdefault(key, {})[mode] = count
    factor = os.path.join(os.path.dirname(os.path.abspath(LOOPS)), "bench_factor")
    whole = {mode: program(spec, [factor] + GOLDEN_COMMAND, arguments.still_clock) for mode, spec in specs}
    found["program", 0] = {mode: 1000 * count / whole["plain"] for mode, count in whole.items()}
    threads = os.path.join(os.path.dirname(os.path.abspath(LOOPS)), "bench_churn_short_threads")
    few, many = 20, 60  # rounds of four threads
    found["threads", 0] = {mode: (program(spec, [threads, str(many)], arguments.still_clock)
                                  - program(spec, [threads, str(few)], arguments.still_clock)) / (4 * (many - few))
                           for mode, spec in specs}
    return found


def read_golden(path, version):
    found = {}
    modes = [mode for mode in TOLERANCE]
    with open(path) as file:
        for line in file:
            fields = line.split("#")[0].split()
            if fields and fields[0] == version:
                found[fields[1], int(fields[2])] = dict(zip(modes, map(float, fields[3:])))
    return found


def command_check(arguments):
    wanted, bad = read_golden(arguments.golden, arguments.mimalloc), 0
    if not wanted:
        print(f"{arguments.golden} has no counts for mimalloc {arguments.mimalloc}: nothing is checked")
        return
    found = golden_of(arguments)
    for key in sorted(wanted):
        for mode, count in wanted[key].items():
            relative, absolute = TOLERANCE[mode]
            if key[1] > 1024 and mode != "plain":
                absolute = max(absolute, TOLERANCE_MEDIUM if key[1] < 16384 else TOLERANCE_BEHIND)
            if mode == "sampled" and key[1] > 4000:  # one block in 13 or more is sampled: where it lies matters
                relative = 0.15
            if key[0] == "threads":  # what one finds is what the last one left
                relative = 0.2
            now = found[key][mode]
            if abs(now - count) > max(relative * count, absolute):
                print(f"{key[0]} {key[1]}, {mode}: {now:.2f} instructions, golden {count:.2f}")
                bad += 1
    print(f"{len(wanted)} loops, {bad} counts off", flush=True)
    if bad:
        sys.exit("If the change is wanted: instructions.py write, with the same arguments, and say why in the commit")


def command_write(arguments):
    kept = []
    if os.path.exists(arguments.golden):
        with open(arguments.golden) as file:
            kept = [line for line in file if line.split()[:1] != [arguments.mimalloc]]
    found = golden_of(arguments)
    with open(arguments.golden, "w") as file:
        file.writelines(kept)
        for (question, size), counts in found.items():
            file.write(f"{arguments.mimalloc} {question:8} {size:6} "
                       + " ".join(f"{counts[mode]:10.2f}" for mode in TOLERANCE) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    numbers = lambda text: [int(n) for n in text.split(",")]
    one = commands.add_parser("loops")
    one.add_argument("libs", nargs="+")
    one.add_argument("--questions", default="pair,batch")
    one.add_argument("--sizes", type=numbers, default=[16, 64, 256, 1000, 4096, 40000])
    one.set_defaults(run=command_loops)
    two = commands.add_parser("program")
    two.add_argument("libs", nargs="+")
    two.add_argument("command", nargs=argparse.REMAINDER)
    two.set_defaults(run=command_program)
    for name, run in (("check", command_check), ("write", command_write)):
        three = commands.add_parser(name)
        three.add_argument("golden")
        three.add_argument("--mimalloc", required=True)
        three.add_argument("--plain", required=True)
        three.add_argument("--ours", required=True)
        three.add_argument("--still-clock", required=True)
        three.set_defaults(run=run)
    argv = sys.argv[1:]
    rest = []
    if "--" in argv:
        rest = argv[argv.index("--") + 1:]
        argv = argv[:argv.index("--")]
    arguments = parser.parse_args(argv)
    if rest:
        arguments.command = rest
    arguments.run(arguments)


if __name__ == "__main__":
    main()
