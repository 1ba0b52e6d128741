# SPDX-License-Identifier: MIT
"""programs.py - real programs of the distribution, and inputs for them that are made here: nothing is
downloaded, the same bytes each time.

A program is (name, needs, command): `needs` is the executable looked for; `command` is run with the inputs'
directory for {dir} and the build's bench directory for {bench}. Each runs for 0.1 to 1 s on plain mimalloc.
"""
import json
import os
import random
import shutil
import subprocess

PROGRAMS = [
    ("factor", None, "{bench}/bench_factor 216607755414385822206353"),
    ("xmllint", "xmllint", "xmllint --noout --xpath 'count(//item[@n mod 7 = 3])' {dir}/data.xml"),
    ("lua", "lua5.4", "lua5.4 {dir}/tables.lua"),
    ("sqlite3", "sqlite3", "sqlite3 :memory: '.read {dir}/tables.sql'"),
    ("jq", "jq", "jq -c '[.[] | select(.n % 3 == 1) | {{name, sum: (.values | add)}}] | group_by(.name[0:2]) | length' "
                 "{dir}/data.json"),
    ("perl", "perl", "perl {dir}/words.pl"),
    ("python3", "/usr/bin/python3", "env PYTHONMALLOC=malloc /usr/bin/python3 -S {dir}/work.py {dir}/data.json"),
    ("z3", "z3", "z3 {dir}/puzzle.smt2"),
    ("cc1", "gcc", "{cc1} -quiet -O2 {dir}/large.i -o /dev/null"),
    ("clang", "clang", "clang -O1 -c {dir}/large.i -o /dev/null"),
    ("git", "git", "git -C {dir}/repository log -p --stat --no-color"),
    ("redis", "redis-server", "sh {dir}/redis.sh {dir}"),
    ("javac", "javac", "javac -J-XX:TieredStopAtLevel=1 -J-XX:+UseSerialGC -d {dir}/classes {dir}/Main.java"),
]
# Those of a quick run; and those that rivals are compared on (DESIGN's set for "every allocation").
QUICK = ["factor", "sqlite3", "jq", "xmllint", "perl"]
# How long they take on plain mimalloc, where that is not 0.2 s: what they get of the time follows from it.
SECONDS = {"cc1": 0.5, "clang": 0.45, "redis": 0.4, "javac": 1.6}
# Some rivals take a hundred times as long: for them factor gets smaller numbers.
RIVAL_COMMANDS = {"factor": "{bench}/bench_factor 2517210819165629183 629006561354488719901 28845461228268238157"}
RIVALS = ["factor", "xmllint", "lua", "sqlite3", "jq", "python3", "perl"]


def available(directory, bench):
    """{name: command} of those that are installed."""
    found = {}
    for name, needs, command in PROGRAMS:
        if needs and not shutil.which(needs):
            continue
        cc1 = ""
        if name == "cc1":
            cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True).stdout.strip()
        found[name] = command.format(dir=directory, bench=bench, cc1=cc1)
    return found


def write(directory, name, text):
    with open(os.path.join(directory, name), "w") as file:
        file.write(text)


def words(chance, count):
    return ["".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randint(3, 10)))
            for _ in range(count)]


def make_data(directory):
    chance = random.Random(1)
    items = [{"n": n, "name": word, "values": [chance.randint(0, 999) for _ in range(6)], "flag": n % 2 == 0}
             for n, word in enumerate(words(chance, 20000))]
    write(directory, "data.json", json.dumps(items))
    write(directory, "data.xml", "<list>\n" + "".join(
        f'<item n="{i["n"]}"><name>{i["name"]}</name>' + "".join(f"<v>{v}</v>" for v in i["values"]) + "</item>\n"
        for i in items + items) + "</list>\n")


def make_scripts(directory):
    write(directory, "tables.lua", """
local t, n = {}, 0
for i = 1, 300000 do
  t[i % 5000] = { id = i, name = "item" .. i, next = t[(i * 7) % 5000] and t[(i * 7) % 5000].name }
  n = n + #t[i % 5000].name
end
print(n, string.format("%d", #table.concat((function() local p = {} for i = 1, 20000 do p[i] = tostring(i) end
return p end)(), ",")))
""")
    write(directory, "tables.sql", """
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 110000)
insert into t select i, 'name' || (i * 7919 % 10007), i * 0.5 from n;
create index by_name on t(name);
select count(*), sum(value), max(length(name)) from t where name like 'name1%';
select name, count(*) c, group_concat(id) from t group by name order by c desc, name limit 5;
select count(*) from t a join t b on a.name = b.name where a.id < 20000;
""")
    write(directory, "words.pl", """
use strict;
my (%count, @lines);
my $state = 12345;
for my $i (1 .. 110000) {
    $state = ($state * 1103515245 + 12345) % 2147483648;
    my $line = join ' ', map { 'w' . (($state >> $_) % 977) } 1 .. 4;
    $count{$_}++ for split / /, $line;
    push @lines, $line if $i % 3 == 0;
}
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print scalar(@lines), " $top[0] $count{$top[0]}\\n";
""")
    write(directory, "work.py", """
import json, re, sys
with open(sys.argv[1]) as file:
    text = file.read()
items = json.loads(text)
by_name = {}
for item in items:
    by_name.setdefault(item["name"][:2], []).append(sum(item["values"]))
words = re.findall(r"[a-z]{4,}", text)
print(len(by_name), len(set(words)), len(json.dumps(items)), sum(len(str(n)) for n in range(100000)))
""")
    write(directory, "redis.sh", """
# A server on a socket of its own, fed by a pipe, ended before this script ends: its time is in ours.
set -e
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
redis-server --port 0 --unixsocket "$run/s" --save '' --appendonly no --daemonize no --dir "$run" >/dev/null &
server=$!
until [ -S "$run/s" ]; do sleep 0.01; done
# The socket is there a moment before the server listens at it.
tries=0
until redis-cli -s "$run/s" --pipe <"$1/redis.txt" >/dev/null 2>"$run/said"; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { cat "$run/said" >&2; kill $server; exit 1; }
    sleep 0.01
done
redis-cli -s "$run/s" shutdown nosave 2>/dev/null || true
wait $server
""")
    chance = random.Random(2)
    write(directory, "redis.txt", "".join(
        f"SET key:{chance.randrange(30000)} {'x' * chance.randint(10, 300)}\r\n" if i % 3 else
        f"RPUSH list:{chance.randrange(500)} {'y' * chance.randint(5, 60)}\r\n" for i in range(120000)))


def make_puzzle(directory):
    """A sudoku with half of its digits: all different in rows, columns and squares, over integers."""
    cell = lambda r, c: f"x{r}{c}"
    lines = [f"(declare-const {cell(r, c)} Int)(assert (and (<= 1 {cell(r, c)}) (<= {cell(r, c)} 9)))"
             for r in range(9) for c in range(9)]
    distinct = lambda cells: "(assert (distinct " + " ".join(cells) + "))"
    lines += [distinct(cell(r, c) for c in range(9)) for r in range(9)]
    lines += [distinct(cell(r, c) for r in range(9)) for c in range(9)]
    lines += [distinct(cell(3 * (s // 3) + k // 3, 3 * (s % 3) + k % 3) for k in range(9)) for s in range(9)]
    given = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
    lines += [f"(assert (= {cell(i // 9, i % 9)} {digit}))" for i, digit in enumerate(given) if digit != "0" and i < 48]
    write(directory, "puzzle.smt2", "\n".join(lines) + "".join(
        f"\n(push)(assert (not (= x{i}8 0)))(check-sat)(get-value (x02 x88))(pop)" for i in range(9)) + "\n")


def make_sources(directory):
    body = []
    for i in range(60):
        body.append(f"""
struct s{i} {{ int a, b[{i % 7 + 1}]; struct s{max(i - 1, 0)} *p; double d; }};
int f{i}(struct s{i} *s, int n) {{
    int sum = 0;
    for (int k = 0; k < n; k++) {{
        switch ((k * {i + 3}) % 5) {{
        case 0: sum += s->a; break;
        case 1: sum -= s->b[k % {i % 7 + 1}]; break;
        case 2: sum ^= (int)(s->d * k); break;
        default: sum += k << {i % 5};
        }}
        if (sum > {1000 + i}) {{ sum %= {i + 7}; s->a++; }}
    }}
    return sum{f" + f{i - 1}((struct s{i - 1} *)s->p, n / 2)" if i else ""};
}}""")
    write(directory, "large.i", "\n".join(body) + "\n")
    methods = "\n".join(f"""
    static int m{i}(java.util.List<Integer> list, java.util.Map<String, Integer> map) {{
        int sum = {i};
        for (Integer value : list) {{ sum += map.getOrDefault("k" + value, {i}) * value; }}
        return list.stream().filter(v -> v > {i}).mapToInt(v -> v + {i}).sum() + sum;
    }}""" for i in range(250))
    write(directory, "Main.java", f"public class Main {{ {methods}\n public static void main(String[] a) {{}} }}\n")
    os.makedirs(os.path.join(directory, "classes"), exist_ok=True)


def make_repository(directory):
    """A history of 800 commits, by fast-import: no clock, no user's settings."""
    if not shutil.which("git"):
        return
    path = os.path.join(directory, "repository")
    environment = dict(os.environ, GIT_CONFIG_NOSYSTEM="1", HOME=directory)
    subprocess.run(["git", "init", "-q", "-b", "main", path], check=True, env=environment)
    chance = random.Random(3)
    files = {f"f{n}.txt": words(chance, 300) for n in range(12)}
    stream = []
    for commit in range(800):
        name = f"f{chance.randrange(12)}.txt"
        for _ in range(20):
            files[name][chance.randrange(300)] = words(chance, 1)[0]
        content = "\n".join(files[name]) + "\n"
        message = f"change {commit}"
        stream.append(f"commit refs/heads/main\nmark :{commit + 1}\ncommitter A <a@b> {1700000000 + commit} +0000\n"
                      f"data {len(message)}\n{message}\n" + (f"from :{commit}\n" if commit else "")
                      + f"M 100644 inline {name}\ndata {len(content)}\n{content}\n")
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input="".join(stream), text=True, check=True,
                   env=environment)


def make(directory):
    """All inputs, unless they are there already."""
    stamp = os.path.join(directory, "made")
    if os.path.exists(stamp):
        return
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    make_data(directory)
    make_scripts(directory)
    make_puzzle(directory)
    make_sources(directory)
    make_repository(directory)
    write(directory, "made", "")
