# SPDX-License-Identifier: MIT
"""chart.py - the results of run.py as Markdown tables and SVG charts."""
import html
import math

MODES = [("counters", "counters"), ("sampled", "sampled 512K"), ("exact", "every allocation")]
COLOURS = {"plain": "#999999", "system": "#bbaa66", "counters": "#4477aa", "sampled": "#228833", "exact": "#cc6677"}


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
    return table(["budget", "bar", "reached", "kept"],
                 [[r["what"], r["bar"], r["reached"], "yes" if r["is_kept"] else "**no**"] for r in rows])


def ratios(rows):
    columns = [c for c in ("plain", "system", "counters", "sampled", "exact") if any(c in row for row in rows)]
    titles = {"plain": "plain again (A/A)", "sampled": "sampled 512K", "exact": "every allocation"}
    body = [[row["name"]] + [cell(row.get(c)) for c in columns] for row in rows]
    means = ["**geometric mean**"]
    for c in columns:
        known = [row[c]["ratio"] for row in rows if "ratio" in row.get(c, {})]
        means.append(f"**{math.exp(sum(map(math.log, known)) / len(known)):.4f}**" if known else "")
    return table(["ratio to plain"] + [titles.get(c, c) for c in columns], body + [means])


def memory(rows):
    def grown(entry):
        if "rss" not in entry:
            return ""
        more = entry["rss"] - entry["rss_base"]
        return f"{more / 1024:+.0f} KiB ({100 * more / entry['rss_base']:+.1f} %)"
    return table(["peak RSS above plain", "plain"] + [title for _, title in MODES],
                 [[row["name"], f"{row['counters']['rss_base'] / 1048576:.1f} MiB"]
                  + [grown(row.get(mode, {})) for mode, _ in MODES] for row in rows])


def markdown(r):
    machine = r["machine"]
    parts = [f"# Benchmarks, {r['set']} set\n\n{r['date']}, {machine['cpu']}, {machine['cores']} cores, "
             f"Linux {machine['kernel']}; " + ", ".join(f"{k} {v}" for k, v in r["versions"].items() if v)
             + ". Ratios are medians of pairs that ran at the same moment on one core, of user+system time, to plain "
               "mimalloc of the same sources and flags; in brackets the 95 % interval.\n",
             "## Budgets\n\n" + budgets(r["budgets"])]
    if r.get("programs"):
        parts += ["## Real programs\n\n" + ratios(r["programs"]), "## Memory\n\n" + memory(r["programs"])]
    if r.get("loops"):
        parts.append("## Loops\n\n" + ratios(r["loops"]))
    if r.get("rivals"):
        columns = []
        for row in r["rivals"]:
            columns += [c for c in row if c not in columns and c not in ("name", "plain")]
        parts.append("## Other profilers, the same programs\n\n" + table(
            ["ratio to plain"] + columns,
            [[row["name"]] + [f"{row[c]['ratio']:.2f}" if "ratio" in row.get(c, {}) else "failed" for c in columns]
             for row in r["rivals"]] + [["**geometric mean**"] + [f"**{mean(r['rivals'], c):.2f}**" for c in columns]]))
    if r.get("instructions"):
        parts.append("## Instructions (callgrind)\n\nOne malloc and free, the loop included:\n\n" + table(
            ["loop", "plain"] + [title for _, title in MODES],
            [[row["loop"], f"{row['plain']:.1f}"] + [f"{row[m]:.1f} ({row[m] - row['plain']:+.1f})" for m, _ in MODES]
             for row in r["instructions"]["loops"]]))
        if r["instructions"]["programs"]:
            parts.append(table(["program", "plain"] + [title for _, title in MODES],
                               [[row["program"], f"{row['plain']:,}"] + [f"{row[m]:.4f}" for m, _ in MODES]
                                for row in r["instructions"]["programs"]]))
    if r.get("walks", {}).get("unwind_walk"):
        parts.append("## Walks alone\n\n```\n" + r["walks"]["unwind_walk"] + "```\n")
    return "\n".join(parts)


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
        out.append(f"<text class='e' x='{left - 110}' y='{y + 12}'>{html.escape(name)}</text>")
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
    names = []
    for row in rows:
        names += [c for c in row if c not in names and c not in ("name", "plain")]
    entries = []
    for name in names:
        known = [row[name]["ratio"] for row in rows if "ratio" in row.get(name, {})]
        if known:
            entries.append((name, [("", mean(rows, name), min(known), max(known),
                                    COLOURS.get(name, "#8888aa"))]))
    title = f"profilers on {len(rows)} programs: geometric mean of user+system time, ratio to plain (line: least, most)"
    return bars(title, entries, True)
