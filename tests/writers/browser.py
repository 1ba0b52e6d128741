#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# browser.py WHAT FOLDER [--speedscope DIST] - opens what write_report put into FOLDER in headless Chromium, compares
# the numbers that the page shows with those of the files, and leaves screenshots in FOLDER for people to look
# at. WHAT: html, dhat (the viewer that Valgrind ships), speedscope (its built page, as npm installs it).
# Exit 77: no browser, or no viewer, on this machine.
import argparse, base64, html, json, os, re, shutil, signal, subprocess, sys, tempfile
from pathlib import Path
from urllib.parse import quote

SKIP = 77
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-extensions", "--allow-file-access-from-files"]


def skip(why):
    print("skipped: " + why)
    sys.exit(SKIP)


def browse(url, *more, budget=10000, gl=False):
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        skip("no Chromium here (apt-get install chromium)")
    flags = [f for f in FLAGS if not (gl and f == "--disable-gpu")] + \
        (["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"] if gl else [])
    for _ in range(3):  # headless Chromium now and then never comes to its end; most pages take it some seconds
        with tempfile.TemporaryDirectory(prefix="moda-browser-", ignore_cleanup_errors=True) as profile:
            browser = subprocess.Popen(
                [program, *flags, "--user-data-dir=" + profile, f"--virtual-time-budget={budget}", *more, url],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8", errors="replace",
                start_new_session=True)
            try:
                return browser.communicate(timeout=300)[0]
            except subprocess.TimeoutExpired:
                os.killpg(browser.pid, signal.SIGKILL)  # its helpers hold the pipe, too
                browser.communicate()
    sys.exit(f"{program} did not end in three times 300 seconds")


def picture(url, path, size, **options):
    path.unlink(missing_ok=True)
    browse(url, f"--screenshot={path}", f"--window-size={size}", "--run-all-compositor-stages-before-draw", **options)
    assert path.exists() and path.stat().st_size > 5000, f"no picture {path}"
    print(f"picture: {path}")


def text_of(dom):
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<(script|style)\b.*?</\1>", "", dom, flags=re.S)))


def open_html(folder):
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    url = (folder / "report.html").as_uri()
    dom = browse(url, "--dump-dom", "--window-size=1440,1500")
    ready = re.search(r'<html[^>]*data-ready="(\d+)"', dom)
    assert ready, "html: the page's script did not run to its end"
    print(f"html: ready after {ready[1]} ms, {len(report['rows'])} sites")
    exact = re.findall(r'data-exact="([^"]*)"', dom)
    t = report["totals"]
    for want in [f"{t['total_bytes']:,} bytes in {t['alloc_count']:,} allocations",
                 f"{t['peak_bytes']:,} bytes in {t['peak_live_count']:,} blocks",
                 f"{t['current_bytes']:,} bytes in {t['live_count']:,} blocks",
                 f"{t['requested_bytes']:,} bytes asked for", f"{len(report['rows']):,} sites from"]:
        assert any(e.startswith(want) for e in exact), f"html: no card says '{want}': {exact}"
    first = max(report["rows"], key=lambda r: r["values"]["allocated_bytes"])
    cells = re.findall(r'title="Allocated: ([\d,]+)"', dom)
    assert cells and int(cells[0].replace(",", "")) == first["values"]["allocated_bytes"], (cells[:1], first)
    # A search: what it finds is what json has in stacks with that text. One letter is in many frames of a stack.
    word = first["function"].split("(")[0]
    for text, value in ((word, "allocated_bytes"), ("e", "allocated_count")):
        hit = {i for i, f in enumerate(report["frames"])
               if any(text.lower() in (f[k] or "").lower() for k in ("function", "file", "module"))}
        want = sum(r["values"][value] for r in report["rows"] if hit & set(r["stack"]))
        dom = browse(f"{url}#value={value}&search=" + quote(text), "--dump-dom", "--window-size=1440,1500")
        found = re.search(r'id="matched" data-exact="(\d+)"', dom)
        assert found and int(found[1]) == want, ("html: search", text, found and found[1], want)
    dom = browse(f"{url}#search=" + quote("/([/"), "--dump-dom", "--window-size=1440,1500")
    assert "regular expression" in text_of(re.search(r'id="matched"[^>]*>(.*?)</output>', dom)[1]), "html: a bad search"
    # Functions with what they call, summed by the page; of one name in several modules any may come first.
    rows = json.loads((folder / "functions.json").read_text(encoding="utf-8"))["rows"]
    dom = browse(url + "#group=function&sort=total", "--dump-dom", "--window-size=1440,1500")
    shown = re.findall(r'title="Own: ([\d,]+)".*?title="With callees: ([\d,]+)"', dom, re.S)
    shown = sorted((tuple(int(n.replace(",", "")) for n in pair) for pair in shown), key=lambda p: p[::-1], reverse=True)
    want = sorted(((r["self"]["allocated_bytes"], r["total"]["allocated_bytes"]) for r in rows
                   if not r["name"].startswith("[")), key=lambda p: p[::-1], reverse=True)
    assert shown and shown[:10] == want[:10], ("html: functions", shown[:10], want[:10])
    # A page opens with the value and the rows that it was written for.
    dom = browse((folder / "functions.html").as_uri(), "--dump-dom", "--window-size=1440,1500")
    shown, most = re.search(r'title="Own: ([\d,]+)"', dom), max(r["self"]["at_peak_bytes"] for r in rows)
    assert shown and int(shown[1].replace(",", "")) == most, ("html: functions at the peak", shown and shown[1], most)
    for view in ("", "value=live_bytes&view=flame&theme=dark", "view=callers&group=function", "site=0&theme=dark",
                 "group=module&value=allocated_count&search=" + quote(word)):
        name = "html" + re.sub(r"[^a-z]+", "-", "-" + view.split("&search")[0]).rstrip("-") + ".png"
        picture(url + "#" + view, folder / name, "1440,2050")
    picture(url, folder / "html-narrow.png", "720,2600")


def open_dhat(folder, viewer=Path("/usr/libexec/valgrind")):
    if not (viewer / "dh_view.html").exists():
        skip("Valgrind's dh_view.html is not here (apt-get install valgrind)")
    data = json.loads((folder / "report.dhat.json").read_text(encoding="utf-8"))
    own = folder / "dh_view"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    for name in ("dh_view.js", "dh_view.css"):
        shutil.copy(viewer / name, own)
    page = (viewer / "dh_view.html").read_text()
    # The viewer takes its file from a dialogue; this does what it does once the file is read.
    (own / "data.js").write_text("const TEXT = " + json.dumps((folder / "report.dhat.json").read_text(encoding="utf-8")) +
                                 ";\nfunction openData() { onLoad(); gFilename = 'report.dhat.json';\n"
                                 "  tryFunc(() => { gData = JSON.parse(TEXT); buildTree(); displayTree(0, 0, 0); }); }\n")
    page = page.replace("</head>", '<script src="data.js"></script></head>').replace("onLoad()", "openData()")
    assert "openData" in page and "data.js" in page
    (own / "open.html").write_text(page)
    url = (own / "open.html").as_uri()
    text = text_of(browse(url, "--dump-dom"))
    for title, size, blocks in (("Total", "tb", "tbk"), ("At t-gmax", "gb", "gbk"), ("At t-end", "eb", "ebk")):
        want = "{}: {:,} bytes (100%".format(title, sum(p[size] for p in data["pps"]))
        line = re.search(re.escape(title) + r": +.*", text)
        spaced = re.sub(r" +", " ", text)
        assert want in spaced, f"dh_view: '{want}' is not shown, but: {line and line[0]}"
        assert " in {:,} blocks (100%".format(sum(p[blocks] for p in data["pps"])) in spaced, title
    assert "NaN" not in text and "undefined" not in text and "Infinity" not in text, "dh_view: odd numbers"
    print(f"dh_view: {len(data['pps'])} entries, totals as in the file")
    picture(url, folder / "dh_view.png", "1900,1400")


def open_speedscope(folder, dist):
    if not dist or not (Path(dist) / "index.html").exists():
        skip("speedscope is not installed (npm could not reach its registry)")
    for name, file in (("speedscope", "report.speedscope.json"), ("speedscope-pprof", "report.pb.gz")):
        source = base64.b64encode((folder / file).read_bytes()).decode()
        script = folder / (name + ".js")
        script.write_text(f"speedscope.loadFileFromBase64({json.dumps(file)}, {json.dumps(source)})")
        url = (Path(dist) / "index.html").as_uri() + "#localProfilePath=" + str(script)
        dom = browse(url, "--dump-dom", budget=20000, gl=True)
        text = text_of(dom)
        assert "Something went wrong" not in text and "Unrecognized" not in text, f"{file}: speedscope refused it"
        title = re.search(r"<title>(.*?)</title>", dom, re.S)
        print(f"speedscope opened {file}: {title and html.unescape(title[1])}")
        assert title and title[1] != "speedscope", f"{file}: speedscope shows no profile"
        picture(url, folder / (name + ".png"), "1300,800", budget=20000, gl=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=["html", "dhat", "speedscope"])
    arguments.add_argument("folder", type=lambda p: Path(p).resolve())
    arguments.add_argument("--speedscope", default="")
    a = arguments.parse_args()
    if a.what == "html":
        open_html(a.folder)
    elif a.what == "dhat":
        open_dhat(a.folder)
    else:
        open_speedscope(a.folder, a.speedscope)


main()
