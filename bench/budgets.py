# SPDX-License-Identifier: MIT
"""budgets.py - tables of what was measured, and the table of budgets: each with its bar, the figure reached, and
whether it is kept. A row that was not measured says so.

Bars are those of the design; figures are ratios to plain mimalloc of the same sources and flags unless they name
another unit. A bar is kept if the figure, the middle of its interval, keeps it; where the interval holds both sides
the row says so.
"""
import math
import re

import programs

def section(measured, name):
    """{step: what it measured} of those that worked."""
    return {key.partition("/")[2]: value for key, value in measured.items()
            if key.startswith(name + "/") and "failure" not in value}


def geometric(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


def mean_and_half_width(entries):
    """Geometric mean of medians, and half of its 95 % interval: half-widths add up as squares."""
    mean = geometric([e["ratio"] for e in entries])
    squares = sum(((e["high"] - e["low"]) / 2 / e["ratio"]) ** 2 for e in entries)
    return mean, mean * math.sqrt(squares) / len(entries)


# ---- tables: lists of rows, as JSON has them ----

def tables(measured):
    loops = section(measured, "loops")
    exact_programs = section(measured, "exact")
    rivals = section(measured, "rivals")
    whole = section(measured, "instructions")
    found = {
        "instructions": {"loops": whole.get("loops", {}).get("loops", []),
                         "programs": [{"program": name, **v} for name, v in whole.items() if name != "loops"]},
        "lines": section(measured, "lines").get("shared"),
        "calls": section(measured, "calls").get("calls"),
        "walks": section(measured, "walks"),
        "start": section(measured, "start").get("start"),
        "report": section(measured, "report").get("100000 sites"),
        "threads": section(measured, "threads"),
        "loops": [{"name": name, **row, **({"exact": loops[f"{name} (exact)"]["exact"]}
                                           if f"{name} (exact)" in loops else {})}
                  for name, row in loops.items() if not name.endswith(" (exact)")],
        "programs": [{"name": name, **row, **({"exact": exact_programs[name]["exact"]} if name in exact_programs else {})}
                     for name, row in section(measured, "programs").items()],
        "memory": [{"name": name, **row} for name, row in section(measured, "memory").items()],
        "rivals": [{"name": name, **row, **rivals.get(f"{name} (slow ones)", {})}
                   for name, row in rivals.items() if not name.endswith(" (slow ones)")],
        "compare": section(measured, "compare"),
        "failures": {key: value["failure"] for key, value in measured.items() if "failure" in value},
    }
    found["noise"] = {row["name"]: row["plain"]["ratio"] for row in found["programs"] if "ratio" in row.get("plain", {})}
    return found


# ---- the bars ----

def row(what, bar, reached=None, is_kept=None):
    return {"what": what, "bar": bar, "reached": reached, "is_kept": is_kept}


def ratio_row(what, bar, entries):
    """The geometric mean of the entries against a bar."""
    entries = [e for e in entries if e and "ratio" in e]
    text = f"<= {bar:.3f}".rstrip("0").rstrip(".")
    if not entries:
        return row(what, text)
    mean, half = mean_and_half_width(entries)
    is_open = mean - half <= bar < mean + half
    return row(f"{what} (geometric mean of {len(entries)})", text,
               f"{mean:.4f} +- {half:.4f}" + ("; the interval holds the bar" if is_open else ""), mean <= bar)


def limit_row(what, bar, unit, figure, digits=0):
    if figure is None:
        return row(what, f"<= {bar} {unit}")
    return row(what, f"<= {bar} {unit}", f"{figure:.{digits}f} {unit}", figure <= bar)


def rows(t):
    return (rows_of_programs(t) + rows_of_loops(t) + rows_of_instructions(t) + rows_of_walks(t) + rows_of_threads(t)
            + rows_of_calls(t) + rows_of_memory(t) + rows_of_the_rest(t) + rows_of_compare(t))


def rows_of_programs(t):
    get = lambda mode: [r.get(mode) for r in t["programs"]]
    heavy = [r.get("exact") for r in t["programs"] if r["name"] in programs.RIVALS]
    exact = ratio_row("every allocation, real programs that allocate much, user+sys", 1.6, heavy)
    everywhere = [e for e in get("exact") if e and "ratio" in e]
    if len(everywhere) > len(heavy):
        exact["reached"] += f"; of all {len(everywhere)}: {geometric([e['ratio'] for e in everywhere]):.4f}"
    return [
        ratio_row("counters, real programs, user+sys", 1.01, get("counters")),
        ratio_row("sampling at 512 KiB on top of counters, real programs, user+sys", 1.005, get("sampled_on_counters")),
        exact,
    ]


def rows_of_loops(t):
    found = []
    for mode, words in (("counters", "counters"), ("sampled", "sampled")):
        entries = [r for r in t["loops"] if "ratio" in r.get(mode, {})]
        one = ratio_row(f"{words}, malloc/free loops, user+sys", 1.10, [r[mode] for r in entries])
        if entries:
            worst = max(entries, key=lambda r: r[mode]["ratio"])
            over = sum(r[mode]["ratio"] > 1.10 for r in entries)
            one["reached"] += f"; {over} of {len(entries)} above the bar, worst {worst[mode]['ratio']:.3f} ({worst['name']})"
        found.append(one)
    return found


def rows_of_instructions(t):
    loops = {r["loop"]: r["counters"] - r["plain"] for r in t["instructions"]["loops"]}
    small = {k: v for k, v in loops.items() if k.split()[1] in ("16", "64")}
    found = [row("counters: instructions a malloc and free pair, above plain (pairs and batches of 16 and 64)", "<= 12",
                 *((f"{max(small.values()):+.2f} at most ({max(small, key=small.get)})", max(small.values()) <= 12)
                   if small else ()))]
    return found


def rows_of_walks(t):
    w = t["walks"]
    found = [limit_row("one sample, warm, 32 frames", 1000, "ns", w.get("one sample", {}).get("ns"))]
    flow = w.get("bytes flow fast", {})
    fast = "sampling at 512 KiB on top of counters, where gigabytes a second are allocated, user+sys"
    found.append(row(fast, "<= 1.005", f"{flow['ratio']:.4f} [{flow['low']:.4f}, {flow['high']:.4f}]; "
                     f"{flow['gb_a_second']:.1f} GB/s, {flow['samples_a_second']:,.0f} samples a second",
                     flow["ratio"] <= 1.005) if "ratio" in flow else row(fast, "<= 1.005"))
    cold = re.search(r"^cold +32 +([\d.]+)", w.get("alone", {}).get("text", ""), re.MULTILINE)
    found.append(limit_row("a walk whose 32 rows are all new, tables mapped in", 20000, "ns", float(cold[1]) if cold else None))
    for unwind, bar, words in (("fp", 60, "frame pointers"), ("tables", 90, "unwind tables")):
        found.append(limit_row(f"every allocation, 16 frames, by {words}: a pair in a loop, more than counters", bar, "ns",
                               w.get(f"16 frames, {unwind}", {}).get("ns"), 1))
    return found


def rows_of_threads(t):
    one, two = t["threads"].get("counters 1"), t["threads"].get("counters 2")
    found = []
    for mode in ("counters", "sampled"):
        what, bar = f"threads, {mode}: speed-up from 1 to 2 cores against plain's, wall time", ">= 0.98"
        if one and two and "ratio" in one.get(mode, {}) and "ratio" in two.get(mode, {}):
            gain = one[mode]["ratio"] / two[mode]["ratio"]
            half = gain * math.sqrt(sum(((e["high"] - e["low"]) / 2 / e["ratio"]) ** 2 for e in (one[mode], two[mode])))
            is_open = gain - half < 0.98 <= gain + half
            found.append(row(what, bar, f"{gain:.3f} +- {half:.3f}" + ("; the interval holds the bar" if is_open else ""),
                             gain >= 0.98))
        else:
            found.append(row(what, bar))
    one, two = t["threads"].get("exact 1"), t["threads"].get("exact 2")
    what = "one hot site, every allocation sampled: throughput of two threads against one"
    if one and two and "value" in one.get("exact", {}) and "value" in two.get("exact", {}):
        hot = 2 * one["exact"]["value"] / two["exact"]["value"]
        plain = 2 * one["exact"]["base"] / two["exact"]["base"]
        found.append(row(what, ">= 1.8", f"{hot:.2f} (plain: {plain:.2f})", hot >= 1.8))
    else:
        found.append(row(what, ">= 1.8"))
    shared = t["lines"]
    fast = {mode: shared["fast"][mode]["shared"] for mode in ("counters", "sampled")} if shared else None
    found.append(row("lines that several threads write on the fast path", "0",
                     *((", ".join(f"{mode} {n}" for mode, n in fast.items()), not any(fast.values())) if fast else ())))
    for kind, words in (("level", "heap stays level"), ("growing", "heap grows")):
        what = f"the same on slow paths, {words}: share of the time that the shared lines are taken by 64 threads at 1 GiB/s " \
               "each (model)"
        if shared:
            model = shared["model"][kind]["counters"]
            found.append(row(what, "< 100 %", f"{100 * model['64']:.2f} %; by 512 threads {100 * model['512']:.1f} % "
                             f"({shared[kind]['counters']['stores_a_mib']:.1f} stores a MiB)", model["64"] < 1))
        else:
            found.append(row(what, "< 100 %"))
    return found


def rows_of_calls(t):
    c = t["calls"] or {}
    return [limit_row("process-wide snapshot, 8 threads", 1000, "ns", c.get("snapshot")),
            limit_row("thread snapshot", 20, "ns", c.get("thread_snapshot"), 1),
            limit_row("start and stop of a thread window", 60, "ns", c.get("thread_window"), 1)]


def rows_of_memory(t):
    found = []
    for mode in ("counters", "sampled"):
        for key, words in (("peak_rss", "peak RSS"), ("committed", "committed at the end")):
            what, bar = f"{words} above plain, {mode}", "<= 2 % + 256 KiB"
            entries = [r for r in t["memory"] if mode in r]
            if not entries:
                found.append(row(what, bar))
                continue
            over = lambda r: r[mode][key] - r["plain"][key] * 1.02 - 256
            worst = max(entries, key=over)
            more, base = worst[mode][key] - worst["plain"][key], worst["plain"][key]
            kept = sum(over(r) <= 0 for r in entries)
            found.append(row(what, bar, f"{kept} of {len(entries)} programs keep it; worst {more:+d} KiB = "
                             f"{100 * more / base:+.1f} % ({worst['name']})", over(worst) <= 0))
    return found


def rows_of_the_rest(t):
    start, report = t["start"] or {}, t["report"] or {}
    one = report.get("formats", {}).get("text", {})
    found = [limit_row("start-up and end of a program, above plain, user+sys", 200, "us", start.get("us")),
             limit_row("report of a profile with 100,000 sites, symbolized, as text", 5, "s", one.get("wall_s"), 2)]
    if one:
        found[-1]["reached"] += f" ({one['cpu_s']:.2f} s of processor time, {one['rss_kib'] / 1024:.0f} MiB, " \
                                f"{report['sites']:,} sites)"
    for format, f in report.get("formats", {}).items():
        if format != "text":
            found.append(limit_row(f"the same as {format}", 5, "s", f["wall_s"], 2))
            found[-1]["reached"] += f" ({f['rss_kib'] / 1024:.0f} MiB)"
    return found


def rows_of_compare(t):
    found = []
    planted = {run["percent"]: run for run in t["compare"].get("planted", {}).get("runs", [])}
    two, one, same = planted.get(2), planted.get(1), t["compare"].get("the same")
    found.append(row("`compare` sees a planted slowdown of 2 % in a command of 0.3 s", "within 180 s", *(
        (f"{two['verdict']}, {two['ratio']:.4f} [{two['low']:.4f}, {two['high']:.4f}] after {two['pairs']} pairs, "
         f"{two['seconds']:.0f} s", two["verdict"] == "slower" and two["seconds"] <= 180) if two else ())))
    found.append(row("`compare` sees a planted difference of 1 % in instructions", "within 180 s", *(
        (f"{one.get('instructions_verdict', 'not counted')}, {one.get('instructions', math.nan):.5f} by "
         f"{one.get('instructions_by', 'nobody')}, {one['seconds']:.0f} s; in time {one['verdict']}, {one['ratio']:.4f} "
         f"[{one['low']:.4f}, {one['high']:.4f}]",
         one.get("instructions_verdict") == "more" and one["seconds"] <= 180) if one else ())))
    found.append(row("`compare` says \"no difference shown\" of a command and itself", ">= 19 of 20", *(
        (f"{same['repeats'] - same['differences']} of {same['repeats']}, {same['pairs']} pairs each",
         same["differences"] * 20 <= same["repeats"]) if same else ())))
    return found
