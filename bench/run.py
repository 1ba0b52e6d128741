#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py quick|full --build BUILD [--out DIR] [--only SECTION,...] - the benchmarks, and the table of budgets.

    quick   under 5 minutes on two cores: enough to see that nothing is broken
    full    the figures of the README: an hour

Sections: instructions loops programs rivals calls walks threads start. Each is measured in pairs by the
code of `mod-alloc compare` (README.md tells why); results go to DIR (default BUILD/bench/results):
results.json with all figures, machine, versions and date; results.md, the tables; overhead.svg, rivals.svg.
"""
import argparse
import datetime
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

import chart
import instructions
import programs

MODES = ["counters", "sampled", "exact"]
SECTIONS = ["instructions", "loops", "programs", "rivals", "calls", "walks", "threads", "start"]

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
    ("free elsewhere", "free_other_thread {n}", 4_000_000),
    ("realloc growth", "realloc_growth 12000 65536", 12_000 * 21),
    ("churn 2K..256K", "churn_large 32 {n}", 300_000),
    ("calloc churn", "calloc_sizes 200 {n}", 6_000_000),
]
QUICK_LOOPS = ["pair 64", "batch 64", "churn, fits L2", "churn, fits none", "free elsewhere", "churn 2K..256K"]


class Bench:
    def __init__(self, arguments):
        self.is_quick = arguments.set == "quick"
        self.build = os.path.abspath(arguments.build)
        self.out = os.path.abspath(arguments.out or os.path.join(self.build, "bench", "results"))
        self.bin = os.path.join(self.build, "bench")
        self.plain = os.path.join(self.build, "lib", "libmimalloc_plain.so")
        self.ours = os.path.join(self.build, "lib", "libmod_alloc.so")
        self.inputs = os.path.join(self.out, "inputs")
        self.results = {}
        self.budgets = []  # (what, bar, reached, is_kept or None)
        os.makedirs(self.out, exist_ok=True)
        programs.make(self.inputs)

    # ---- measuring ----

    def compare(self, arguments, pairs, expect_failures=False):
        """Runs compare and returns its JSON."""
        environment = dict(os.environ, MOD_ALLOC_LIBRARY=self.ours, MOD_ALLOC_PLAIN=self.plain)
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            done = subprocess.run(
                [os.path.join(self.bin, "bench_compare"), "--quiet", "--json", file.name, "--pairs", str(pairs)]
                + arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True)
            if done.returncode == 2 or (done.returncode and not expect_failures):
                sys.exit(f"run.py: compare {' '.join(arguments)}\n{done.stderr}")
            if done.returncode:
                say(done.stderr.strip())
            return json.load(open(file.name))

    def pairs(self, quick, full):
        return quick if self.is_quick else full

    def budget(self, what, bar, reached, is_kept):
        self.budgets.append({"what": what, "bar": bar, "reached": reached, "is_kept": is_kept})

    # ---- sections ----

    def run_instructions(self):
        instructions.LOOPS = os.path.join(self.bin, "bench_instructions")
        specs = {"plain": self.plain, **{mode: f"{self.ours}:{setting}" for mode, setting in instructions.MODES}}
        sizes = [16, 64, 256, 1000, 4096, 40000]
        loops = {name: instructions.loops(spec, "pair,batch", sizes) for name, spec in specs.items()}
        rows = [{"loop": f"{question} {size}", **{name: counts[question, size] for name, counts in loops.items()}}
                for question in ("pair", "batch") for size in sizes]
        found = programs.available(self.inputs, self.bin)
        wanted = ["factor", "jq"] if self.is_quick else [
            name for name in found if name not in ("javac", "redis", "clang", "git")]
        whole = []
        for name in wanted:
            if name in found:
                say(f"instructions of {name}")
                counts = {spec_name: instructions.program(spec, instructions.words(found[name]))
                          for spec_name, spec in specs.items()}
                whole.append({"program": name, "plain": counts["plain"],
                              **{mode: counts[mode] / counts["plain"] for mode in MODES}})
        self.results["instructions"] = {"loops": rows, "programs": whole}
        worst = max(row["counters"] - row["plain"] for row in rows if row["loop"].split()[1] in ("16", "64"))
        self.budget("counters: instructions a malloc and free pair, above plain (pairs and batches of 16 and 64)",
                    "<= 12", f"{worst:+.2f} at most", worst <= 12)
        for mode, base, bar, name in (("counters", "plain", 1.01, "counters, real programs, instructions"),
                                      ("sampled", "counters", 1.005,
                                       "sampling at 512 KiB on top of counters, real programs, instructions")):
            if whole:
                mean = geometric([row[mode] / (row[base] if base != "plain" else 1) for row in whole])
                self.budget(name + f" (geometric mean of {len(whole)})", f"<= {bar}", f"{mean:.4f}", mean <= bar)

    def run_loops(self):
        rows = []
        for name, words, pairs_of_blocks in LOOPS:
            if self.is_quick and name not in QUICK_LOOPS:
                continue
            say(f"loop {name}")
            scale = 2 if self.is_quick else 1
            command = f"{self.bin}/bench_" + words.format(n=pairs_of_blocks // scale, k=pairs_of_blocks // scale // 1000)
            mallocs = "plain,counters,sampled" if self.is_quick else "plain,system,counters,sampled,exact"
            result = self.compare(["--allocators", mallocs, command], self.pairs(8, 30))
            rows.append({"name": name, "command": words, **by_variant(result)})
        self.results["loops"] = rows
        for mode in ("counters", "sampled"):
            mean = geometric([row[mode]["ratio"] for row in rows])
            worst = max(rows, key=lambda row: row[mode]["ratio"])
            self.budget(f"{mode}, malloc/free loops, user+sys (geometric mean of {len(rows)})", "<= 1.10",
                        f"{mean:.3f}; worst {worst[mode]['ratio']:.3f} ({worst['name']})", mean <= 1.10)

    def run_programs(self):
        found = programs.available(self.inputs, self.bin)
        rows = []
        for name, command in found.items():
            if self.is_quick and name not in programs.QUICK:
                continue
            say(f"program {name}")
            mallocs = "plain,counters,sampled,exact" if self.is_quick else "plain,system,counters,sampled,exact"
            result = self.compare(["--allocators", mallocs, command], self.pairs(6, 20 if name == "javac" else 40))
            rows.append({"name": name, "command": command.replace(self.inputs, "{dir}").replace(self.bin, "{bench}"),
                         **by_variant(result)})
        self.results["programs"] = rows
        self.budget_programs(rows)
        self.budget_memory(rows)

    def budget_programs(self, rows):
        noise = geometric([row["plain"]["ratio"] for row in rows])
        self.results["noise"] = {"geometric_mean": noise, "rows": {r["name"]: r["plain"]["ratio"] for r in rows}}
        for mode, bar in (("counters", 1.01), ("exact", 1.6)):
            chosen = [row for row in rows if mode != "exact" or row["name"] in programs.RIVALS]
            mean, half = mean_and_half_width([row[mode] for row in chosen])
            name = {"counters": "counters", "exact": "every allocation"}[mode]
            self.budget(f"{name}, real programs, user+sys (geometric mean of {len(chosen)})", f"<= {bar}",
                        f"{mean:.4f} +- {half:.4f}", mean <= bar)
        ratios = [dict(row["sampled"], ratio=row["sampled"]["ratio"] / row["counters"]["ratio"]) for row in rows]
        mean, half = mean_and_half_width(ratios)
        half *= math.sqrt(2)  # two medians, each with its spread
        self.budget(f"sampling at 512 KiB on top of counters, real programs, user+sys (geometric mean of {len(rows)})",
                    "<= 1.005", f"{mean:.4f} +- {half:.4f}", mean <= 1.005)

    def budget_memory(self, rows):
        for mode in ("counters", "sampled"):
            over = [(row[mode]["rss"] - row[mode]["rss_base"] * 1.02 - 256 * 1024, row) for row in rows]
            worst, row = max(over, key=lambda pair: pair[0])
            grown = row[mode]["rss"] - row[mode]["rss_base"]
            self.budget(f"peak RSS above plain, {mode}", "<= 2 % + 256 KiB",
                        f"worst {grown / 1024:+.0f} KiB = {100 * grown / row[mode]['rss_base']:+.1f} % ({row['name']})",
                        worst <= 0)

    def run_rivals(self):
        found = programs.available(self.inputs, self.bin)
        found.update({name: command.format(bench=self.bin) for name, command in programs.RIVAL_COMMANDS.items()})
        names = ["factor", "sqlite3"] if self.is_quick else programs.RIVALS
        rows = []
        for name in names:
            if name not in found:
                continue
            with tempfile.TemporaryDirectory() as directory:
                rivals = self.rivals(found[name], directory)
                named = [("plain", f"env LD_PRELOAD={self.plain} {found[name]}")] + rivals
                arguments = ["--allocators", "system"]
                for rival, _ in named:
                    arguments += ["--name", rival]
                arguments += [command for _, command in named]
                say(f"rivals on {name}: {', '.join(rival for rival, _ in rivals)}")
                result = self.compare(arguments, self.pairs(2, 7), expect_failures=True)
            rows.append({"name": name, **by_variant(result)})
        self.results["rivals"] = rows

    def rivals(self, command, directory):
        """(name, command) of what the distribution has, and ours the same way."""
        jemalloc, tcmalloc = library("libjemalloc.so.2"), library("libtcmalloc_and_profiler.so.4")
        ours = [(mode, f"env LD_PRELOAD={self.ours} {setting} {command}") for mode, setting in instructions.MODES]
        found = ours[1:]
        if jemalloc:
            for name, sample in [("jemalloc 512K", 19)] + ([] if self.is_quick else [("jemalloc exact", 0)]):
                found.append((name, f"env LD_PRELOAD={jemalloc} MALLOC_CONF=prof:true,lg_prof_sample:{sample},"
                                    f"prof_prefix:{directory}/je,prof_final:true {command}"))
        if tcmalloc:
            found.append(("gperftools 512K", f"env LD_PRELOAD={tcmalloc} TCMALLOC_SAMPLE_PARAMETER=524288 {command}"))
            if not self.is_quick:
                found.append(("gperftools HEAPPROFILE",
                              f"env LD_PRELOAD={tcmalloc} HEAPPROFILE={directory}/gp {command}"))
        if shutil.which("heaptrack"):
            found.append(("heaptrack", f"heaptrack -o {directory}/ht {command}"))
        if shutil.which("valgrind") and not self.is_quick:
            found.append(("valgrind DHAT", f"valgrind --tool=dhat --trace-children=yes --dhat-out-file={directory}/dhat.%p {command}"))
        return found

    def run_calls(self):
        environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(self.build, "lib"))
        runs = [json.loads(subprocess.run([os.path.join(self.bin, "bench_calls"), "8"], env=environment, check=True,
                                          stdout=subprocess.PIPE, text=True).stdout)
                for _ in range(self.pairs(3, 9))]  # several launches: placement in memory matters
        calls = {}
        for name in ("snapshot", "thread_snapshot", "thread_window", "window"):
            calls[name] = sorted(run[name]["median_ns"] for run in runs)[len(runs) // 2]
        self.results["calls"] = calls
        for name, bar, title in (("snapshot", 1000, "process-wide snapshot, 8 threads"),
                                 ("thread_snapshot", 20, "thread snapshot"),
                                 ("thread_window", 60, "start and stop of a thread window")):
            self.budget(title, f"<= {bar} ns", f"{calls[name]:.1f} ns", calls[name] <= bar)

    def run_walks(self):
        """Nanoseconds a pair of malloc and free more than with counters alone, by how the stack is walked."""
        walks = []
        blocks = self.pairs(1_500_000, 3_000_000)
        for frames, bar_fp, bar_tables in ((16, 60, 90), (32, None, None)):
            for suffix, unwind, bar in (("_fp", "fp", bar_fp), ("", "tables", bar_tables)):
                say(f"every allocation, {frames} frames, {unwind}")
                command = f"{self.bin}/bench_pair_deep_stack{suffix} {frames} 64 {blocks}"
                result = self.compare(["--allocator", "counters", "--allocator", f"exact@MOD_ALLOC_UNWIND={unwind}",
                                       "--skip-noise", command], self.pairs(6, 20))
                cpu = next(l for l in result["measured"] if l["metric"] == "user+sys")
                more = 1e9 * (cpu["value"] - cpu["base"]) / blocks
                walks.append({"frames": frames, "unwind": unwind, "every": 1, "ns": more})
                if bar:
                    self.budget(f"every allocation, {frames} frames, by {unwind}: a pair in a loop, more than counters",
                                f"<= {bar} ns", f"{more:.1f} ns", more <= bar)
        say("one sample, warm")
        sample, size = 4096, 64
        samples = blocks * 8 * (1 - math.exp(-size / sample))
        command = f"{self.bin}/bench_pair_deep_stack 32 {size} {blocks * 8}"
        result = self.compare(["--allocator", "counters", "--allocator", f"counters@MOD_ALLOC_SAMPLE={sample}",
                               "--skip-noise", command], self.pairs(6, 20))
        cpu = next(l for l in result["measured"] if l["metric"] == "user+sys")
        one = 1e9 * (cpu["value"] - cpu["base"]) / samples
        self.results["walks"] = {"pairs": walks, "sample_ns": one}
        self.budget("one sample, warm, 32 frames", "<= 1000 ns", f"{one:.0f} ns", one <= 1000)
        walker = os.path.join(self.bin, "bench_unwind_walk")
        if os.path.exists(walker):
            self.results["walks"]["unwind_walk"] = subprocess.run(
                [walker, str(self.pairs(20, 100))], stdout=subprocess.PIPE, text=True, check=True).stdout

    def run_threads(self):
        """With one thread and with two: how much more ours costs with two than with one."""
        rows, mallocs = {}, ["plain", "counters", "exact"]
        for threads in (1, 2):
            say(f"{threads} thread(s)")
            steps = self.pairs(3_000_000, 8_000_000)
            command = f"{self.bin}/bench_churn_two_threads {threads} 2000 {steps}"
            result = self.compare(["--turns", "--allocators", ",".join(mallocs), command], self.pairs(6, 30))
            rows[threads] = by_variant(result, "wall")
        self.results["threads"] = rows
        for mode, bar in (("counters", 0.98), ("exact", None)):
            gain = rows[1][mode]["ratio"] / rows[2][mode]["ratio"]
            self.results["threads"][f"{mode}_speed_up_ratio"] = gain
            if bar:
                self.budget("threads: speed-up from 1 to 2 cores against plain's, wall time", f">= {bar}",
                            f"{gain:.3f}", gain >= bar)
        hot = 2 * rows[1]["exact"]["value"] / rows[2]["exact"]["value"]
        self.budget("one hot site sampled at every allocation, two threads against one, throughput", ">= 1.8",
                    f"{hot:.2f} (plain: {2 * rows[1]['plain']['value'] / rows[2]['plain']['value']:.2f})", hot >= 1.8)

    def run_start(self):
        runs = self.pairs(50, 200)
        say("start-up")
        arguments = ["--skip-noise"]
        for lib in (self.plain, self.ours):
            arguments += ["--allocator", f"system@START_UP_PRELOAD={lib}"]
        result = self.compare(arguments + [f"{self.bin}/bench_start_up {runs} true"], self.pairs(10, 40))
        cpu = next(l for l in result["measured"] if l["metric"] == "user+sys")
        more = 1e6 * (cpu["value"] - cpu["base"]) / runs
        self.results["start"] = {"us": more, "plain_us": 1e6 * cpu["base"] / runs}
        self.budget("start-up and end of a program, above plain, user+sys", "<= 200 us", f"{more:.0f} us", more <= 200)

    # ---- output ----

    def header(self):
        versions = {}
        for name, command in (("gcc", "gcc -dumpfullversion"), ("valgrind", "valgrind --version"),
                              ("heaptrack", "heaptrack --version"), ("git", "git --version")):
            try:
                versions[name] = subprocess.run(command.split(), capture_output=True, text=True).stdout.strip()
            except OSError:
                versions[name] = None
        for package in ("libjemalloc2", "libgoogle-perftools4", "libc6"):
            done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True)
            versions[package] = done.stdout.strip() or None
        counters = os.path.join(self.out, "version.json")
        subprocess.run(["true"], env=dict(os.environ, LD_PRELOAD=self.ours, MOD_ALLOC_STATS=counters))
        if os.path.exists(counters):
            told = json.load(open(counters))
            versions.update({name: told.get(name) for name in ("mod_alloc", "mimalloc")})
            os.unlink(counters)
        cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
        return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "set": "quick" if self.is_quick else "full",
                "machine": {"cpu": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(),
                            "kernel": platform.release(), "load": os.getloadavg()},
                "versions": versions}

    def write(self, seconds):
        everything = {**self.header(), "seconds": round(seconds), "budgets": self.budgets, **self.results}
        with open(os.path.join(self.out, "results.json"), "w") as file:
            json.dump(everything, file, indent=1)
        with open(os.path.join(self.out, "results.md"), "w") as file:
            file.write(chart.markdown(everything))
        for name, text in (("overhead.svg", chart.overhead(everything)), ("rivals.svg", chart.rivals(everything))):
            if text:
                with open(os.path.join(self.out, name), "w") as file:
                    file.write(text)


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


def geometric(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


def mean_and_half_width(entries):
    """Geometric mean of medians, and half of its 95 % interval: half-widths add up as squares."""
    mean = geometric([e["ratio"] for e in entries])
    squares = sum(((e["high"] - e["low"]) / 2 / e["ratio"]) ** 2 for e in entries)
    return mean, mean * math.sqrt(squares) / len(entries)


def library(name):
    for line in subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout.splitlines():
        if line.strip().startswith(name + " "):
            return line.rsplit("=> ", 1)[1]
    return None


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=["quick", "full"])
    parser.add_argument("--build", required=True)
    parser.add_argument("--out")
    parser.add_argument("--only", help="sections, separated by commas")
    arguments = parser.parse_args()
    os.environ.pop("LD_PRELOAD", None)
    bench = Bench(arguments)
    start = time.monotonic()
    for section in arguments.only.split(",") if arguments.only else SECTIONS:
        getattr(bench, f"run_{section}")()
        bench.write(time.monotonic() - start)  # what is there is kept, if the rest is interrupted
    say(f"done: {bench.out}")
    print(chart.budgets(bench.budgets))


if __name__ == "__main__":
    main()
