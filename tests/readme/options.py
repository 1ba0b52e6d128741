#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The README's table of variables says what src/base/options.def says.

options.py SOURCE_DIR
"""
import re
import sys

source = sys.argv[1]


def read(path):
    with open(f"{source}/{path}", encoding="utf-8") as file:
        return file.read()


def shown(kind, default, argument):
    """A default as the table shows it."""
    number = int(default)
    if kind == "path":
        return "none"
    if kind == "choice":
        return argument.split("|")[number]
    if kind == "bytes":
        for shift, suffix in ((30, "G"), (20, "M"), (10, "K")):
            if number and number % (1 << shift) == 0:
                return f"{number >> shift}{suffix}"
    if kind == "time":
        for factor, suffix in ((10**9, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns")):
            if number and number % factor == 0:
                return f"{number // factor}{suffix}"
    return str(number)


option = re.compile(r'^OPTION\(\w+, "(\w+)", (\w+), (\w+), \w+, \w+, "([^"]*)",\s*((?:"[^"]*"\s*)+)\)', re.M)
wanted = []
for name, kind, default, argument, help_text in option.findall(read("src/base/options.def")):
    text = "".join(re.findall(r'"([^"]*)"', help_text))
    value = argument.replace("|", "\\|")
    wanted.append(f"| `{name}` | {value} | {shown(kind, default, argument)} | {text} |")
if len(wanted) != read("src/base/options.def").count("\nOPTION("):
    sys.exit("options.def has rows that this test cannot read")

found = [line for line in read("README.md").splitlines() if line.startswith("| `MOD_ALLOC_")]
if found != wanted:
    sys.exit("README.md's table of variables should read:\n\n" + "\n".join(wanted))
print(f"{len(wanted)} variables")
