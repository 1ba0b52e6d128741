# SPDX-License-Identifier: MIT
"""chart.py - the results of run.py as Markdown tables and SVG charts."""
import html
import math

MODES = [("counters", "counters"), ("sampled", "sampled 512K"), ("exact", "every allocation")]
COLOURS = {"plain": "#999999", "system": "#bbaa66", "counters": "#4477aa", "sampled": "#228833", "exact": "#cc6677",
           "mod-alloc 512K": "#228833", "mod-alloc exact": "#cc6677"}


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "--:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def cell(entry):
    if not entry:
        return ""
    if "failure" in entry:
        return "failed"
    if "ratio" not in entry:
        return ""
    return f"{entry['ratio']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def budgets(rows):
    verdict = {True: "met", False: "**missed**", None: "not measured"}
    return table(["budget", "bar", "reached", ""],
                 [[r["what"], r["bar"], r["reached"] or "", verdict[r["is_kept"]]] for r in rows])


def ratios(rows):
    columns = [c for c in ("plain", "system", "counters", "sampled", "exact") if any(c in row for row in rows)]
    titles = {"plain": "plain again (A/A)", "sampled": "sampled 512K", "exact": "every allocation"}
    body = [[row["name"]] + [cell(row.get(c)) for c in columns] for row in rows]
    means = ["**geometric mean**"]
    for c in columns:
        known = [row[c]["ratio"] for row in rows if "ratio" in row.get(c, {})]
        means.append(f"**{math.exp(sum(map(math.log, known)) / len(known)):.4f}**" if known else "")
    return table(["ratio to plain"] + [titles.get(c, c) for c in columns], body + [means])


def memory(rows, key):
    def grown(row, mode):
        if mode not in row:
            return ""
        more = row[mode][key] - row["plain"][key]
        return f"{more:+d} KiB ({100 * more / row['plain'][key]:+.1f} %)"
    return [[row["name"], f"{row['plain'][key] / 1024:.1f} MiB"] + [grown(row, mode) for mode, _ in MODES] for row in rows]


def markdown(r):
    machine, modes = r["machine"], [title for _, title in MODES]
    parts = [f"# Benchmarks, {r['set']} set\n\n{r['date']}, {machine['cpu']}, {machine['cores']} cores, "
             f"Linux {machine['kernel']}, load average before: {machine['load_before'][0]:.1f}; "
             + ", ".join(f"{k} {v}" for k, v in r["versions"].items() if v)
             + f". {r['seconds'] // 60} minutes. Ratios are medians of pairs that ran at the same moment on one core, of "
               "user+system time, to plain mimalloc of the same sources and flags; in brackets the 95 % interval.\n"]
    if r["missing"]:
        parts.append(f"Not all is here: {len(r['missing'])} measurements were not reached ({', '.join(r['missing'])}).\n")
    parts.append("## Budgets\n\n" + budgets(r["budgets"]))
    if r["programs"]:
        parts.append("## Real programs\n\n" + ratios(r["programs"]))
    if r["memory"]:
        parts += ["## Memory\n\n" + table(["peak RSS above plain", "plain"] + modes, memory(r["memory"], "peak_rss")),
                  table(["committed at the end, above plain", "plain"] + modes, memory(r["memory"], "committed"))]
    if r["loops"]:
        parts.append("## Loops\n\n" + ratios(r["loops"]))
    if r["rivals"]:
        columns = rival_names(r["rivals"])
        parts.append("## Other profilers, the same programs\n\n" + table(
            ["ratio to plain"] + columns,
            [[row["name"]] + [rival_cell(row.get(c)) for c in columns] for row in r["rivals"]]
            + [["**geometric mean**"] + [f"**{mean(r['rivals'], c):.2f}**" for c in columns]])
            + "\nGeometric means are of the programs that a column has.\n")
    if r["instructions"]["loops"]:
        parts.append("## Instructions (callgrind)\n\nOne malloc and free, the loop included:\n\n" + table(
            ["loop", "plain"] + modes,
            [[row["loop"], f"{row['plain']:.1f}"] + [f"{row[m]:.1f} ({row[m] - row['plain']:+.1f})" for m, _ in MODES]
             for row in r["instructions"]["loops"]]))
    if r["instructions"]["programs"]:
        parts.append(table(["program", "plain"] + modes,
                           [[row["program"], f"{row['plain']:,}"] + [f"{row[m]:.4f}" if m in row else "" for m, _ in MODES]
                            for row in r["instructions"]["programs"]]))
    parts += [threads(r), shared_lines(r), calls(r), reports(r), compare(r)]
    if r["walks"].get("alone"):
        parts.append("## Walks alone\n\n```\n" + r["walks"]["alone"]["text"] + "```\n")
    if r["failures"]:
        parts.append("## What could not be measured\n\n" + "".join(f"- {k}: {v}\n" for k, v in r["failures"].items()))
    return "\n".join(part for part in parts if part)


def readme(r):
    """The few tables that the main README shows, to be put there as they are."""
    columns = [("plain", "plain again (noise)"), ("counters", "counters"), ("sampled", "sampled, 512 KiB"),
               ("exact", "every allocation")]
    short = lambda entry: f"{entry['ratio']:.{3 if entry['ratio'] < 2 else 2}f}" if entry and "ratio" in entry else ""
    parts = []
    if r["programs"]:
        body = [[row["name"]] + [short(row.get(c)) for c, _ in columns] for row in r["programs"]]
        body.append(["geometric mean"] + [short({"ratio": mean(r["programs"], c)}) for c, _ in columns])
        parts.append(table(["program"] + [title for _, title in columns], body))
    if r["rivals"]:
        body = []
        for name in rival_names(r["rivals"]):
            rows = [row for row in r["rivals"] if "ratio" in row.get(name, {})]
            ours = "mod-alloc 512K" if "512K" in name else "mod-alloc exact"
            if rows:
                body.append([name, str(len(rows)), short({"ratio": mean(rows, name)}), short({"ratio": mean(rows, ours)})])
        parts.append(table(["profiler", "programs", "ratio to plain mimalloc, geometric mean", "mod-alloc on the same"], body))
    parts.append(budgets(r["budgets"]))
    return "\n".join(parts)


def rival_names(rows):
    found = []
    for row in rows:
        found += [c for c in row if c not in found and c not in ("name", "plain")]
    return found


def rival_cell(entry):
    return "" if not entry else f"{entry['ratio']:.2f}" if "ratio" in entry else "failed"


def threads(r):
    rows = []
    for name, entries in r["threads"].items():
        for mode, entry in entries.items():
            if "ratio" in entry:
                title = "plain again (A/A)" if mode == "plain" else dict(MODES).get(mode, mode)
                rows.append([name.split()[1], title, f"{1000 * entry['base']:.1f} ms", cell(entry)])
    return "## Threads\n\nWall time, one run after the other.\n\n" + table(
        ["threads", "", "plain", "ratio"], rows) if rows else None


def shared_lines(r):
    found = r["lines"]
    if not found:
        return None
    text = "## Cache lines that two threads write (valgrind)\n\n" + table(
        ["200 pairs of 64 bytes", "lines written", "shared"],
        [[name, str(e["lines"]), str(e["shared"])] for name, e in found["fast"].items()])
    head = ["slow paths: 5,000 blocks of 1000 bytes", "stores to shared lines a MiB", "taken by 1 thread", "by 64", "by 512"]
    return text + "\n" + table(head, [
        [f"{kind} heap, {name}", f"{e['stores_a_mib']:.2f}"]
        + [f"{100 * share:.2f} %" for share in found["model"][kind][name].values()]
        for kind in ("level", "growing") for name, e in found[kind].items()])


def calls(r):
    rows = [[name.replace("_", " "), f"{ns:.1f} ns"] for name, ns in (r["calls"] or {}).items()]
    rows += [[f"every allocation, {name}: a pair, more than counters", f"{w['ns']:.1f} ns [{w['low_ns']:.1f}, {w['high_ns']:.1f}]"]
             for name, w in r["walks"].items() if "low_ns" in w]
    if r["walks"].get("one sample"):
        rows.append(["one sample, warm, 32 frames", f"{r['walks']['one sample']['ns']:.0f} ns"])
    if r["start"]:
        rows.append(["start and end of a program (plain: {plain_us:.0f} us)".format(**r["start"]), f"{r['start']['us']:.0f} us more"])
    return "## Calls\n\n" + table(["", "time"], rows) if rows else None


def reports(r):
    if not r["report"]:
        return None
    return f"## Report of {r['report']['sites']:,} sites\n\n" + table(
        ["format", "time", "processor time", "memory", "written"],
        [[name, f"{f['wall_s']:.2f} s", f"{f['cpu_s']:.2f} s", f"{f['rss_kib'] / 1024:.0f} MiB", f"{f['bytes'] / 2**20:.1f} MiB"]
         for name, f in r["report"]["formats"].items()])


def compare(r):
    same = r["compare"].get("the same")
    if not same:
        return None
    return "## compare, of a command and itself\n\n" + table(
        ["repeat", "ratio", "said"], [[str(i + 1), f"{ratio:.4f} [{low:.4f}, {high:.4f}]", verdict]
                                      for i, (ratio, low, high, verdict) in enumerate(same["lines"])])


def mean(rows, name):
    known = [row[name]["ratio"] for row in rows if "ratio" in row.get(name, {})]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else math.nan


STYLE = ("<style>text{fill:#222;font-family:sans-serif;font-size:12px}.t{font-size:14px;font-weight:bold}.e{text-anchor:end}"
         ".m{text-anchor:middle}.g{stroke:#ddd}.o{stroke:#222}.i{stroke:#222;stroke-width:1.5}.b{fill:#fff}"
         "@media(prefers-color-scheme:dark){text{fill:#ddd}.g{stroke:#444}.o,.i{stroke:#ddd}.b{fill:#1b1b1b}}</style>")


def bars(title, groups, is_log, bar_lines=()):
    """groups: [(name, [(label, ratio, low, high, colour)])]; bars begin at 1."""
    entries = [e for _, g in groups for e in g]
    low = min([0.98] + [e[2] for e in entries])
    high = max([1.02] + [e[3] for e in entries])
    low, high = (low / 1.1, high * 1.15) if is_log else (low - 0.03 * (high - low), high + 0.03 * (high - low))
    left, right, top, step, gap, width = 250, 90, 60, 16, 10, 900

    def x(value):
        share = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
        return left + share * (width - left - right)

    height = top + sum(len(g) * step + gap for _, g in groups) + 40
    out = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>"
           f"{STYLE}<rect class='b' width='{width}' height='{height}'/><text x='14' y='24' class='t'>"
           f"{html.escape(title)}</text>"]
    if is_log:
        ticks = [f * 10 ** p for p in range(-1, 5) for f in (1, 2, 5)]
    else:
        unit = 10 ** math.floor(math.log10((high - low) / 4))
        unit *= next(k for k in (1, 2, 5, 10) if (high - low) / (unit * k) <= 10)
        ticks = [round(math.ceil(low / unit) * unit + i * unit, 6) for i in range(12)]
    for tick in ticks:
        if low <= tick <= high:
            out.append(f"<path class='g' d='M{x(tick):.1f} {top - 10}V{height - 34}'/>"
                       f"<text class='m' x='{x(tick):.1f}' y='{height - 16}'>{tick:g}</text>")
    y = top
    for name, group in groups:
        place = left - 110 if any(label for label, *_ in group) else left - 10
        out.append(f"<text class='e' x='{place}' y='{y + 12}'>{html.escape(name)}</text>")
        for label, ratio, lower, upper, colour in group:
            begin, end = sorted((x(1), x(ratio)))
            out.append(f"<rect x='{begin:.1f}' y='{y + 2}' width='{max(end - begin, 1):.1f}' height='{step - 4}' "
                       f"fill='{colour}' fill-opacity='.75'/><path class='i' d='M{x(lower):.1f} {y + step / 2}H{x(upper):.1f}'/>"
                       f"<text class='e' x='{left - 10}' y='{y + 12}'>{html.escape(label)}</text>"
                       f"<text x='{x(max(upper, 1)) + 6:.1f}' y='{y + 12}'>{ratio:.{3 if ratio < 3 else 1}f}</text>")
            y += step
        y += gap
    out.append(f"<path class='o' d='M{x(1):.1f} {top - 10}V{height - 34}'/></svg>\n")
    return "\n".join(out)


def overhead(r):
    groups = []
    for section in ("programs", "loops"):
        for row in r.get(section, []):
            group = []
            for mode, label in (("plain", "A/A"), ("counters", "counters"), ("sampled", "sampled 512K")):
                entry = row.get(mode, {})
                if "ratio" in entry:
                    group.append((label, entry["ratio"], entry["low"], entry["high"], COLOURS[mode]))
            groups.append((row["name"], group))
    return bars("user+system time, ratio to plain mimalloc (line: 95 % interval)", groups, False) if groups else None


def rivals(r):
    rows = r.get("rivals")
    if not rows:
        return None
    names = rival_names(rows)
    entries = []
    for name in names:
        known = [row[name]["ratio"] for row in rows if "ratio" in row.get(name, {})]
        if known:
            of = "" if len(known) == len(rows) else f" ({len(known)} programs)"
            entries.append((name + of, [("", mean(rows, name), min(known), max(known),
                                    COLOURS.get(name, "#8888aa"))]))
    title = f"profilers on {len(rows)} programs: geometric mean of user+system time, ratio to plain (line: least, most)"
    return bars(title, entries, True)
