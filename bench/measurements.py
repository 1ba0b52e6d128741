# SPDX-License-Identifier: MIT
"""measurements.py - what is measured: a list of steps for run.py, each with the seconds it should take.

A step returns what is kept of it as JSON; budgets.py makes tables of all of them and knows the bars. Elastic steps
are told how many seconds they have; the others do a fixed amount of work, and their seconds are an estimate.
"""
import concurrent.futures
import dataclasses
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import typing

import check_compare
import instructions
import lines
import memory
import programs

SECTIONS = ["instructions", "lines", "calls", "walks", "start", "report", "threads", "loops", "programs", "exact",
            "memory", "rivals", "compare"]

# Name, words, and the pairs of malloc and free it does (for nanoseconds a pair).
LOOPS = [
    ("pair 16", "pair_one_size 16 {n}", 12_000_000),
    ("pair 64", "pair_one_size 64 {n}", 12_000_000),
    ("pair 1000", "pair_one_size 1000 {n}", 12_000_000),
    ("batch 64", "batch_one_size 64 1000 {k}", 12_000_000),
    ("churn, fits L1", "churn_working_set 200 {n}", 8_000_000),
    ("churn, fits L2", "churn_working_set 5000 {n}", 8_000_000),
    ("churn, fits none", "churn_working_set 300000 {n}", 1_500_000),
    ("two threads", "churn_two_threads 2 2000 {n}", 4_000_000),
    ("short threads", "churn_short_threads {t}", 300_000),
    ("free elsewhere", "free_other_thread {n}", 4_000_000),
    ("realloc growth", "realloc_growth {m} 65536", 12_000 * 21),
    ("churn 2K..256K", "churn_large 32 {n}", 300_000),
    ("calloc churn", "calloc_sizes 200 {n}", 6_000_000),
]
QUICK_LOOPS = ["pair 64", "batch 64", "churn, fits L2", "churn, fits none", "free elsewhere", "churn 2K..256K"]
NONE = ["--warm-up", "0", "--skip-counts"]


@dataclasses.dataclass
class Step:
    section: str
    name: str
    seconds: float
    run: typing.Callable  # of the seconds it has
    is_elastic: bool = True

    @property
    def key(self):
        return f"{self.section}/{self.name}"


def plan(bench):
    steps = []
    for section in SECTIONS:
        steps += globals()[f"plan_{section}"](bench)
    return steps


def cpu_of(result):
    return next(l for l in result["measured"] if l["metric"] == "user+sys" and not l["is_noise"])


def by_variant(result, metric="user+sys"):
    """{variant: ratio, low, high, value, base, rss ...}"""
    found = {}
    for line in result["measured"]:
        entry = found.setdefault(line["variant"], {})
        if line["metric"] == metric:
            entry.update({k: line[k] for k in ("ratio", "low", "high", "value", "base", "pairs", "verdict")})
        elif line["metric"] == "rss":
            entry.update({"rss": line["value"], "rss_base": line["base"]})
    for variant in result["variants"]:
        if variant["failure"]:
            found[variant["name"]] = {"failure": variant["failure"]}
    return found


# ---- exact figures: they can be taken on a busy machine, too ----

def plan_instructions(bench):
    instructions.LOOPS = os.path.join(bench.bin, "bench_instructions")
    still = os.path.join(bench.bin, "libstill_clock.so")
    specs = {"plain": bench.plain, **{mode: f"{bench.ours}:{setting}" for mode, setting in instructions.MODES}}
    sizes = [16, 64] if bench.is_quick else [16, 64, 256, 1000, 4096, 40000]

    def on_all_cores(call, modes):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(modes, pool.map(lambda mode: call(specs[mode]), modes)))

    def loops(_):
        counts = on_all_cores(lambda spec: instructions.loops(spec, "pair,batch", sizes, still), list(specs))
        return {"loops": [{"loop": f"{question} {size}", **{mode: counts[mode][question, size] for mode in specs}}
                          for question in ("pair", "batch") for size in sizes]}

    def whole(command):
        modes = [mode for mode in specs if mode != "exact" or bench.set == "full"]
        counts = on_all_cores(lambda spec: instructions.program(spec, shlex.split(command), still), modes)
        return {"plain": counts["plain"], **{m: counts[m] / counts["plain"] for m in modes if m != "plain"}}

    found = programs.available(bench.inputs, bench.bin)
    found["factor"] = programs.RIVAL_COMMANDS["factor"].format(bench=bench.bin)
    wanted = bench.pick(["factor"], ["factor", "jq", "sqlite3"], [
        name for name in found if name not in ("javac", "redis", "clang", "git")])
    seconds = bench.pick(8, 14, 60)
    return [Step("instructions", "loops", bench.pick(5, 8, 8), loops, False)] + [
        Step("instructions", name, seconds, lambda _, c=found[name]: whole(c), False) for name in wanted if name in found]


def plan_lines(bench):
    program = os.path.join(bench.bin, "bench_lines_written")
    still = os.path.join(bench.bin, "libstill_clock.so")
    return [Step("lines", "shared", 20, lambda _: lines.measure(program, bench.plain, bench.ours, still), False)]


# ---- single calls, walks, start, report ----

def plan_calls(bench):
    def run(_):
        environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(bench.build, "lib"))
        runs = [json.loads(subprocess.run([os.path.join(bench.bin, "bench_calls"), "8"], env=environment, check=True,
                                          stdout=subprocess.PIPE, text=True).stdout)
                for _ in range(bench.pick(3, 7, 11))]  # several launches: placement in memory matters
        return {name: sorted(one[name]["median_ns"] for one in runs)[len(runs) // 2]
                for name in ("snapshot", "thread_snapshot", "thread_window", "window")}
    return [Step("calls", "calls", bench.pick(3, 8, 12), run, False)]


def plan_walks(bench):
    blocks = bench.pick(600_000, 1_000_000, 2_000_000)

    def pairs(seconds, frames, suffix, unwind):
        command = f"{bench.bin}/bench_pair_deep_stack{suffix} {frames} 64 {blocks}"
        cpu = cpu_of(bench.compare(["--allocator", "counters", "--allocator", f"exact@MOD_ALLOC_UNWIND={unwind}",
                                    "--skip-noise", *NONE, command], 20, seconds))
        more = lambda ratio: 1e9 * cpu["base"] * (ratio - 1) / blocks
        return {"frames": frames, "unwind": unwind, "ns": 1e9 * (cpu["value"] - cpu["base"]) / blocks,
                "low_ns": more(cpu["low"]), "high_ns": more(cpu["high"])}

    def sample(seconds):
        every, size = 4096, 64
        samples = blocks * 8 * (1 - math.exp(-size / every))
        command = f"{bench.bin}/bench_pair_deep_stack 32 {size} {blocks * 8}"
        cpu = cpu_of(bench.compare(["--allocator", "counters", "--allocator", f"counters@MOD_ALLOC_SAMPLE={every}",
                                    "--skip-noise", *NONE, command], 20, seconds))
        return {"ns": 1e9 * (cpu["value"] - cpu["base"]) / samples}

    def flow(seconds):
        """Where gigabytes a second are allocated, and each is used: what samples at 512 KiB cost there."""
        steps, mean = 8000, 1.5 * 2048 * 127 / 7
        command = f"{bench.bin}/bench_churn_large 32 {steps} 36"
        cpu = cpu_of(bench.compare(["--allocators", "counters,sampled", "--skip-noise", *NONE, command], 40, seconds))
        return {**cpu, "gb_a_second": steps * mean / cpu["base"] / 1e9,
                "samples_a_second": steps * mean / cpu["base"] / (512 * 1024)}

    def alone(_):
        walker = os.path.join(bench.bin, "bench_unwind_walk")
        return {"text": subprocess.run([walker, str(bench.pick(20, 60, 100))], stdout=subprocess.PIPE, text=True,
                                       check=True).stdout}

    steps = [Step("walks", f"{frames} frames, {unwind}", bench.pick(4, 10, 20),
                  lambda s, f=frames, x=suffix, u=unwind: pairs(s, f, x, u))
             for frames in (16, 32) for suffix, unwind in (("_fp", "fp"), ("", "tables"))
             if frames == 16 or not bench.is_quick]
    return steps + [Step("walks", "one sample", bench.pick(4, 10, 20), sample),
                    Step("walks", "bytes flow fast", bench.pick(4, 10, 20), flow),
                    Step("walks", "alone", bench.pick(3, 8, 12), alone, False)]


def plan_start(bench):
    starts = bench.pick(50, 100, 200)

    def run(seconds):
        arguments = ["--skip-noise", *NONE]
        for lib in (bench.plain, bench.ours):
            arguments += ["--allocator", f"system@START_UP_PRELOAD={lib}"]
        cpu = cpu_of(bench.compare(arguments + [f"{bench.bin}/bench_start_up {starts} true"], 40, seconds))
        return {"us": 1e6 * (cpu["value"] - cpu["base"]) / starts, "plain_us": 1e6 * cpu["base"] / starts}
    return [Step("start", "start", bench.pick(6, 15, 30), run)]


def plan_report(bench):
    """A profile of 100,000 sites, recorded from a program that has them, becomes text and other formats."""
    def run(_):
        profile = os.path.join(bench.out, "many_sites.prof")
        subprocess.run([os.path.join(bench.bin, "bench_many_sites"), "100000"], check=True, stdout=subprocess.DEVNULL,
                       env=dict(os.environ, LD_PRELOAD=bench.ours, MOD_ALLOC_SAMPLE="1", MOD_ALLOC_PROFILE=profile))
        found = {"profile_bytes": os.path.getsize(profile), "formats": {}}
        try:
            with tempfile.TemporaryDirectory() as directory:
                for format in bench.pick(["text"], ["text", "dhat", "pprof", "html"], ["text", "dhat", "pprof", "html"]):
                    found["formats"][format] = one_report(bench, profile, format, os.path.join(directory, "out"))
            summary = subprocess.run([bench.mod_alloc, "report", "--quiet", "--summary", profile], check=True,
                                        stdout=subprocess.PIPE, text=True).stdout
            shown = re.search(r"By site.* of ([\d,]+),", summary)
            found["sites"] = int(shown[1].replace(",", "")) if shown else 0
            if found["sites"] < 100000:
                raise RuntimeError(f"the report has {found['sites']} sites, not 100,000: is bin/mod-alloc of this build?")
        finally:
            os.unlink(profile)
        return found
    return [Step("report", "100000 sites", bench.pick(15, 40, 60), run, False)]


def one_report(bench, profile, format, out):
    """The median of three: seconds on the wall and on the processor, and the most memory."""
    runs = []
    for _ in range(bench.pick(1, 3, 5)):
        start = time.monotonic()
        process = subprocess.Popen([bench.mod_alloc, "report", "--quiet", "--format", format, "--top", "0", "-o", out,
                                    profile])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"mod-alloc report --format {format}: status {process.returncode}")
        runs.append((time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
    middle = lambda i: sorted(run[i] for run in runs)[len(runs) // 2]
    return {"wall_s": middle(0), "cpu_s": middle(1), "rss_kib": middle(2), "bytes": os.path.getsize(out)}


# ---- pairs ----

def plan_threads(bench):
    """With one thread and with two, each run with the machine to itself: how much more ours costs with two."""
    steps = bench.pick(3_000_000, 5_000_000, 8_000_000)
    exact = steps // 8

    def run(seconds, threads, mallocs, count):
        command = f"{bench.bin}/bench_churn_two_threads {threads} 2000 {count}"
        return by_variant(bench.compare(["--turns", *NONE, "--allocators", mallocs, command], 40, seconds), "wall")

    return [Step("threads", f"{mode} {n}", bench.pick(4, 16, 60),
                 lambda s, n=n, m=mallocs, c=count: run(s, n, m, c))
            for mode, mallocs, count in (("counters", "plain,counters,sampled", steps), ("exact", "plain,exact", exact))
            for n in (1, 2)]


def plan_loops(bench):
    chosen = [loop for loop in LOOPS if not bench.is_quick or loop[0] in QUICK_LOOPS]

    def command(loop, share):
        _, words, blocks = loop
        n = int(blocks * share)
        return f"{bench.bin}/bench_" + words.format(n=n, k=max(1, n // 1000), m=max(1, n // 21), t=max(1, n // 200))

    def main(seconds, loop):
        mallocs = "plain,counters,sampled" if bench.is_quick else "plain,system,counters,sampled"
        return {"command": loop[1], **by_variant(bench.compare(
            [*NONE, "--allocators", mallocs, command(loop, 0.5)], 60, seconds))}

    def exact(seconds, loop):
        return by_variant(bench.compare([*NONE, "--skip-noise", "--allocators", "plain,exact", command(loop, 0.1)],
                                        12, seconds))

    return [Step("loops", loop[0], bench.pick(6, 14, 50), lambda s, l=loop: main(s, l)) for loop in chosen] + (
        [] if bench.is_quick else
        [Step("loops", loop[0] + " (exact)", bench.pick(0, 3, 8), lambda s, l=loop: exact(s, l)) for loop in chosen])


def chosen_programs(bench):
    found = programs.available(bench.inputs, bench.bin)
    return {name: command for name, command in found.items() if not bench.is_quick or name in programs.QUICK}


def plan_programs(bench):
    """Against plain; and sampled against counters itself, not by way of plain: that bar is half a per cent."""
    mallocs = "plain,counters,sampled" if bench.is_quick else "plain,system,counters,sampled"

    def run(seconds, command):
        first = by_variant(bench.compare([*NONE, "--allocators", mallocs, command], 60, 0.75 * seconds))
        second = by_variant(bench.compare([*NONE, "--skip-noise", "--allocators", "counters,sampled", command], 60,
                                          0.25 * seconds))
        return {"command": command.replace(bench.inputs, "{dir}").replace(bench.bin, "{bench}"), **first,
                "sampled_on_counters": second["sampled"]}

    return [Step("programs", name, programs.SECONDS.get(name, 0.2) * bench.pick(50, 150, 400),
                 lambda s, c=command: run(s, c)) for name, command in chosen_programs(bench).items()]


def plan_exact(bench):
    def run(seconds, command):
        return by_variant(bench.compare([*NONE, "--skip-noise", "--allocators", "plain,exact", command], 30, seconds))

    return [Step("exact", name, programs.SECONDS.get(name, 0.2) * bench.pick(15, 30, 120),
                 lambda s, c=command: run(s, c)) for name, command in chosen_programs(bench).items()]


def plan_memory(bench):
    """What a program has when it ends: peak resident, and what the kernel has promised it."""
    specs = {"plain": {"LD_PRELOAD": bench.plain}}
    for mode, setting in instructions.MODES:
        name, _, value = setting.partition("=")
        specs[mode] = {"LD_PRELOAD": bench.ours, name: value}
    found = {n: c for n, c in chosen_programs(bench).items() if n not in ("redis", "javac")}  # several processes
    runs = bench.pick(1, 3, 5)
    return [Step("memory", name, 1.5 * runs, lambda _, c=c: {
        mode: memory.at_end(shlex.split(c), variables, runs) for mode, variables in specs.items()}, False)
            for name, c in found.items()]


def plan_rivals(bench):
    """What other profilers of the distribution cost on the same programs, ours the same way."""
    found = programs.available(bench.inputs, bench.bin)
    found.update({name: command.format(bench=bench.bin) for name, command in programs.RIVAL_COMMANDS.items()})
    names = bench.pick(["factor", "sqlite3"], programs.RIVALS, programs.RIVALS)
    heavy = bench.pick([], ["factor", "sqlite3", "jq", "perl"], programs.RIVALS)
    steps = []
    for name in [n for n in names if n in found]:
        steps.append(Step("rivals", name, bench.pick(10, 15, 40),
                          lambda s, c=found[name]: run_rivals(bench, c, s, False, 10)))
    for name in [n for n in heavy if n in found]:
        steps.append(Step("rivals", f"{name} (slow ones)", bench.pick(0, 50, 150),
                          lambda s, c=found[name]: run_rivals(bench, c, s, True, bench.pick(1, 1, 3))))
    return steps


def run_rivals(bench, command, seconds, are_slow, pairs):
    with tempfile.TemporaryDirectory() as directory:
        rivals = slow_rivals(command, directory) if are_slow else rivals_of(bench, command, directory)
        arguments = ["--allocators", "system", "--skip-noise", *NONE, "--name", "plain"]
        for rival, _ in rivals:
            arguments += ["--name", rival]
        arguments += [f"env LD_PRELOAD={bench.plain} {command}"] + [words for _, words in rivals]
        return by_variant(bench.compare(arguments, pairs, seconds, expect_failures=True))


def under_jemalloc(library, sample_bits, directory, command):
    return (f"env LD_PRELOAD={library} MALLOC_CONF=prof:true,lg_prof_sample:{sample_bits},"
            f"prof_prefix:{directory}/je,prof_final:true {command}")


def rivals_of(bench, command, directory):
    """(name, command) of what the distribution has, and ours the same way."""
    jemalloc, tcmalloc = library("libjemalloc.so.2"), library("libtcmalloc_and_profiler.so.4")
    found = [(mode, f"env LD_PRELOAD={bench.ours} {setting} {command}") for mode, setting in instructions.MODES[1:]]
    found = [("mod-alloc 512K" if mode == "sampled" else "mod-alloc exact", words) for mode, words in found]
    if jemalloc:
        found.append(("jemalloc 512K", under_jemalloc(jemalloc, 19, directory, command)))
    if tcmalloc:
        found.append(("gperftools 512K", f"env LD_PRELOAD={tcmalloc} TCMALLOC_SAMPLE_PARAMETER=524288 {command}"))
    if shutil.which("heaptrack"):
        found.append(("heaptrack", f"heaptrack -o {directory}/ht {command}"))
    return found


def slow_rivals(command, directory):
    jemalloc, tcmalloc = library("libjemalloc.so.2"), library("libtcmalloc_and_profiler.so.4")
    found = []
    if jemalloc:
        found.append(("jemalloc exact", under_jemalloc(jemalloc, 0, directory, command)))
    if tcmalloc:
        found.append(("gperftools HEAPPROFILE", f"env LD_PRELOAD={tcmalloc} HEAPPROFILE={directory}/gp {command}"))
    if shutil.which("valgrind"):
        found.append(("valgrind DHAT",
                      f"valgrind --tool=dhat --trace-children=yes --dhat-out-file={directory}/dhat.%p {command}"))
    return found


def library(name):
    for line in subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout.splitlines():
        if line.strip().startswith(name + " "):
            return line.rsplit("=> ", 1)[1]
    return None


# ---- the instrument itself ----

def plan_compare(bench):
    repeats = bench.pick(4, 20, 20)
    return [Step("compare", "planted", bench.pick(20, 75, 75),
                 lambda _: check_compare.planted(bench.build, bench.pick(12, 30, 30), not bench.is_quick), False),
            Step("compare", "the same", bench.pick(12, 140, 250),
                 lambda _: check_compare.the_same(bench.build, repeats, bench.pick(8, 12, 20)), False)]
