#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the README's examples as they stand.

examples.py SOURCE_DIR BUILD_DIR WORK

A fenced block whose info string is `LANGUAGE some/file` is written to that file. A block `sh run` is run, all
in one shell, in order, in a folder that looks like a clone with build/gcc built (configuring and building it
are blocks `sh`), HOME being a folder of its own. A block `text` right behind one is what it prints, to the
letter; `text like` is what it prints where digits, and the width of what is around them, may differ, but not whether
a number is 0.
"""
import os
import re
import shutil
import subprocess
import sys

source, build, work = map(os.path.abspath, sys.argv[1:])


def blocks(path):
    """(line number, info string, text) of each fenced block."""
    found, info, start, lines = [], None, 0, []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.startswith("```"):
                if info is None:
                    info, start, lines = line[3:].strip(), number, []
                else:
                    found.append((start, info, "".join(lines)))
                    info = None
            elif info is not None:
                lines.append(line)
    return found


def number_or_zero(found):
    return "0" if set(found[0]) & set("0123456789") == {"0"} else "#"


def without_digits(text):
    """What is left of a table when figures and their padding are taken out, but for those that are 0; lines that name
    addresses or pids stay comparable."""
    return [re.sub(r"0x[0-9a-f]+|[\d,.]+", number_or_zero, re.sub(r"\s+", " ", line)).strip()
            for line in text.splitlines()]


shutil.rmtree(work, ignore_errors=True)
os.makedirs(f"{work}/home")
os.makedirs(f"{work}/clone/build")
for entry in os.listdir(source):
    if not entry.startswith((".", "build")):
        os.symlink(f"{source}/{entry}", f"{work}/clone/{entry}")
os.symlink(build, f"{work}/clone/build/gcc")

script = ["set -eu"]
runs = []
expected = {}
for line, info, text in blocks(f"{source}/README.md"):
    words = info.split()
    if words == ["sh", "run"]:
        runs.append(line)
        script.append(f"echo {line} >{work}/last\n{{\n{text}}} >{work}/out.{line} 2>&1")
    elif words[:1] == ["text"] and runs:
        expected[runs[-1]] = (words[1:] == ["like"], text)
    elif len(words) == 2 and "/" in words[1]:
        path = f"{work}/clone/{words[1]}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
if len(runs) < 5:
    sys.exit(f"README.md has only {len(runs)} examples to run")

environment = {name: value for name, value in os.environ.items() if not name.startswith(("MOD_ALLOC_", "LD_"))}
environment["HOME"] = f"{work}/home"
environment["LC_ALL"] = "C.UTF-8"
environment["COLUMNS"] = "100"
shell = subprocess.run(["sh", "-c", "\n".join(script)], cwd=f"{work}/clone", env=environment,
                       stdin=subprocess.DEVNULL, check=False)
if shell.returncode != 0:
    with open(f"{work}/last", encoding="utf-8") as file:
        last = file.read().strip()
    with open(f"{work}/out.{last}", encoding="utf-8") as file:
        sys.exit(f"README.md:{last}: this example fails, status {shell.returncode}:\n{file.read()}")

failures = 0
for line, (is_like, text) in expected.items():
    with open(f"{work}/out.{line}", encoding="utf-8") as file:
        got = file.read()
    same = without_digits(got) == without_digits(text) if is_like else got == text
    if not same:
        failures += 1
        print(f"README.md:{line}: this example prints\n{got}\nand the README says\n{text}")
print(f"{len(runs)} examples run, {len(expected)} outputs compared, {failures} differ")
sys.exit(failures > 0)
