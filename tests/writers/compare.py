#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# compare.py FOLDER - reads what write_report put into FOLDER, each format by a parser of its own, and compares
# totals and the bytes of each allocating function across all of them. Standard library only.
import csv, gzip, json, re, sys
from collections import Counter
from pathlib import Path

VALUES = ["allocated_bytes", "allocated_count", "live_bytes", "live_count", "at_peak_bytes", "at_peak_count"]
# What Firefox Profiler's importer of DHAT files knows a frame by; a dot of JavaScript's is no line end.
FRAME = re.compile(r"^0x([0-9a-f]+): (.+) \((?:in )?(.+?)(?::(\d+))?(?::(\d+))?\)$".replace(".", r"[^\n\r\u2028\u2029]"),
                   re.I | re.A)


def plain(name):
    """As the narrowest format writes a name: folded stacks have no ';' and no control characters."""
    return "".join(" " if ord(c) < 32 else ":" if c == ";" else c for c in name)


class Sums:
    def __init__(self, label):
        self.label, self.totals, self.functions = label, Counter(), Counter()
        self.known = set()

    def add(self, function, **values):
        self.functions[plain(function)] += values.get("allocated_bytes", 0)
        for key, value in values.items():
            self.known.add(key)
            self.totals[key] += value


def read_json(folder):
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    sums = Sums("json")
    for row in report["rows"]:
        sums.add(row["function"], **{k: row["values"][k] for k in VALUES})
        if row["stack"]:
            assert report["frames"][row["stack"][0]]["function"] == row["function"]
    for key in VALUES:
        assert report["site_totals"][key] == sums.totals[key], ("json: site_totals", key)
    return sums


def read_functions(folder):
    report = json.loads((folder / "functions.json").read_text(encoding="utf-8"))
    sums = Sums("json by function")
    for row in report["rows"]:
        sums.add(row["name"], **{k: row["self"][k] for k in VALUES})
        for key in VALUES:
            assert row["total"][key] >= row["self"][key], ("total below self", row["name"])
    return sums


def human(n):
    """As the text report shows bytes: three digits."""
    unit, units = 0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while n >= 1023.995 and unit + 1 < len(units):
        n, unit = n / 1024, unit + 1
    return f"{n:.0f} B" if unit == 0 else f"{n:.{2 if n < 9.995 else 1 if n < 99.95 else 0}f} {units[unit]}"


def check_text(folder):
    """The text report rounds: its bytes of a function are compared as rounded, its blocks exactly. Functions of
    one name in several modules are lines of their own, in json too."""
    rows = json.loads((folder / "functions.json").read_text(encoding="utf-8"))["rows"]
    wanted = Counter((re.sub(r"[\x00-\x1f]", "?", row["name"]), human(row["self"]["allocated_bytes"]),
                      row["self"]["allocated_count"]) for row in rows if row["self"]["allocated_bytes"] > 0)
    shown, is_table = Counter(), False
    for line in (folder / "functions.txt").read_text(encoding="utf-8").split("\n"):
        is_table = line.startswith("By function: ") or (is_table and line != "")
        match = re.match(r" +([\d.]+ [KMGTP]?i?B)(?: +(?:\+-\S+|\?|-))? +[\d.]+% +[\d.]+ [KMGTP]?i?B +[\d.]+% +([\d,]+)  (.*)$", line)
        if is_table and match and match[1] != "0 B":
            shown[(match[3], match[1], int(match[2].replace(",", "")))] += 1
    for row in list(wanted - shown)[:3]:
        print("text: not as in json:", row)
    for row in list(shown - wanted)[:3]:
        print("text: shows", row)
    return 0 if shown == wanted and shown else 1


def read_csv(folder):
    sums = Sums("csv")
    with open(folder / "report.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert None not in row, "csv: a line has too many cells"
            sums.add(row["function"], **{k: int(row[k]) for k in VALUES})
    return sums


def read_dhat(folder):
    data = json.loads((folder / "report.dhat.json").read_text(encoding="utf-8"))
    assert data["dhatFileVersion"] == 2 and data["bklt"] is True and data["bkacc"] is False
    assert data["ftbl"][0] == "[root]" and data["te"] > 0 and 0 <= data["tg"] <= data["te"]
    # Firefox Profiler: the command and the pid name the profile, four tracks are sums over the entries, and a track
    # whose values are missing shows as nothing.
    assert type(data["dhatFileVersion"]) is type(data["pid"]) is int and type(data["cmd"]) is str and data["cmd"]
    sums, seen = Sums("dhat"), set()
    for pp in data["pps"]:
        assert all(type(pp[k]) is int for k in ("tb", "mb", "gb", "eb")), ("dhat: a track of Firefox Profiler's", pp)
        stack = tuple(pp["fs"])
        assert stack not in seen, "dhat: two entries with the same frames"
        assert all(0 < f < len(data["ftbl"]) for f in stack)
        seen.add(stack)
        assert all(0 <= pp[k] < 2 ** 53 for k in "tb tbk tl mb mbk gb gbk eb ebk".split())
        assert pp["mb"] >= pp["eb"] and pp["tb"] >= pp["mb"], pp
        frame = FRAME.match(data["ftbl"][stack[0]])
        assert frame, ("dhat: Firefox Profiler would not know", data["ftbl"][stack[0]])
        sums.add(frame[2], allocated_bytes=pp["tb"], allocated_count=pp["tbk"], live_bytes=pp["eb"],
                 live_count=pp["ebk"], at_peak_bytes=pp["gb"], at_peak_count=pp["gbk"])
    for text in data["ftbl"][1:]:
        assert FRAME.match(text), ("dhat: Firefox Profiler would not know", text)
    return sums


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
            assert len(value) == size, "pprof: cut off"
        else:
            raise AssertionError(f"pprof: wire type {key & 7}")
        yield key >> 3, value


def numbers(value):
    if isinstance(value, int):
        return [value]
    out, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        out.append(number)
    return out


def message(data):
    out = {}
    for number, value in fields(data):
        out.setdefault(number, []).append(value)
    return out


def read_pprof(folder):
    profile = message(gzip.decompress((folder / "report.pb.gz").read_bytes()))
    strings = [s.decode("utf-8") for s in profile[6]]
    assert strings[0] == "" and "" not in strings[1:]
    types = [strings[message(t)[1][0]] for t in profile[1]]
    assert types[:4] == ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"], types
    key = {"alloc_objects": "allocated_count", "alloc_space": "allocated_bytes", "inuse_objects": "live_count",
           "inuse_space": "live_bytes", "peak_objects": "at_peak_count", "peak_space": "at_peak_bytes"}
    functions = {m[1][0]: strings[m[2][0]] for m in map(message, profile[5])}
    mappings = [message(m)[1][0] for m in profile.get(3, [])]
    assert len(set(mappings)) == len(mappings) and 0 not in mappings
    locations = {}
    for m in map(message, profile[4]):
        assert m[1][0] not in locations and m[1][0] != 0
        assert m.get(2, [0])[0] in [0] + mappings
        locations[m[1][0]] = (m.get(3, [0])[0], [functions[message(line)[1][0]] for line in m[4]])
    sums, sums.addresses = Sums("pprof"), Counter()
    for sample in map(message, profile[2]):
        ids = [n for v in sample[1] for n in numbers(v)]
        values = [n for v in sample[2] for n in numbers(v)]
        assert len(values) == len(types) and ids and all(i in locations for i in ids)
        address, lines = locations[ids[0]]
        sums.add(lines[0], **{key[t]: v for t, v in zip(types, values) if t in key})
        sums.addresses[address] += values[1]
    return sums


def read_folded(folder):
    sums = Sums("folded")
    for line in (folder / "report.folded").read_text(encoding="utf-8").split("\n")[:-1]:
        match = re.match(r"^(.*) (\d+)$", line)  # speedscope's
        assert match, line
        sums.add(match[1].split(";")[-1], allocated_bytes=int(match[2]))
    return sums


def read_speedscope(folder):
    data = json.loads((folder / "report.speedscope.json").read_text(encoding="utf-8"))
    frames, sums = data["shared"]["frames"], Sums("speedscope")
    assert data["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    labels = {"allocated": "allocated_bytes", "allocations": "allocated_count", "live": "live_bytes",
              "live blocks": "live_count", "live at the peak": "at_peak_bytes", "blocks at the peak": "at_peak_count"}
    for profile in data["profiles"]:
        assert profile["type"] == "sampled" and len(profile["samples"]) == len(profile["weights"])
        assert profile["endValue"] == sum(profile["weights"])
        key = labels.get(profile["name"])
        if key is None:
            continue
        assert profile["unit"] == ("bytes" if key.endswith("bytes") else "none")
        sums.known.add(key)
        for stack, weight in zip(profile["samples"], profile["weights"]):
            sums.add(frames[stack[-1]]["name"], **{key: weight})
    return sums


def read_html(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<script id="profile" type="application/json">(.*?)</script>', page, re.S)
    assert len(found) == 1 and page.count("<script") == page.count("</script") == 2, "html: markup in the data"
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", page), "html: loads from elsewhere"
    data = json.loads(found[0])
    columns, sums = data["columns"], Sums("html")
    for i, node in enumerate(columns["node"]):
        name = data["strings"][data["frames"][4 * data["nodes"][2 * node - 1]]] if node else \
            data["stand_ins"][columns["is_overflow"][i]]
        sums.add(name, **{k: columns[k][i] for k in VALUES})
    return sums


def read_heap(folder, pprof):
    sums, addresses = Sums("heap_v2"), Counter()
    lines = (folder / "report.heap").read_text(encoding="utf-8").split("\n")
    figures = re.compile(r"(\d+): +(\d+) \[ *(\d+): +(\d+)\] @ +(.*)$")
    head = re.match(r"heap profile: (\d+): (\d+) \[(\d+): (\d+)\] @ heapprofile$", lines[0])
    assert head, lines[0]
    end = lines.index("MAPPED_LIBRARIES:")
    assert lines[end - 1] == ""
    for line in lines[1:end - 1]:
        live_count, live, count, size, stack = figures.match(line).groups()
        sums.add("", live_count=int(live_count), live_bytes=int(live), allocated_count=int(count), allocated_bytes=int(size))
        addresses[int(stack.split()[0], 16)] += int(size)
    assert [int(n) for n in head.groups()] == [sums.totals[k] for k in
                                               ("live_count", "live_bytes", "allocated_count", "allocated_bytes")]
    # Innermost addresses are those of pprof's locations; a stack without frames has one of no code here, 0 there.
    addresses[0] += addresses.pop(0x7fffffffffffff00, 0)
    assert +addresses == +pprof.addresses, "heap_v2 and pprof differ in addresses"
    sums.functions = None
    return sums


def main():
    folder = Path(sys.argv[1])
    pprof = read_pprof(folder)
    every = [read_json(folder), read_functions(folder), read_csv(folder), read_dhat(folder), pprof,
             read_folded(folder), read_speedscope(folder), read_html(folder), read_heap(folder, pprof)]
    first, bad = every[0], check_text(folder)
    assert first.totals["allocated_bytes"] > 0, "an empty report proves nothing"
    for sums in every[1:]:
        for key in sorted(sums.known):
            if sums.totals[key] != first.totals[key]:
                bad += 1
                print(f"{sums.label}: {key} is {sums.totals[key]}, in json {first.totals[key]}")
        if sums.functions is not None and +sums.functions != +first.functions:
            bad += 1
            both = set(sums.functions) | set(first.functions)
            worst = sorted(both, key=lambda f: -abs(sums.functions[f] - first.functions[f]))[:5]
            for f in worst:
                print(f"{sums.label}: {f!r} has {sums.functions[f]} bytes, in json {first.functions[f]}")
    functions = len(+first.functions)
    print(f"{len(every) + 1} formats, {functions} allocating functions, {first.totals['allocated_bytes']} bytes: "
          + ("they agree" if not bad else f"{bad} differences"))
    return 1 if bad else 0


sys.exit(main())
