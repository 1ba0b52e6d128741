#!/bin/sh
# SPDX-License-Identifier: MIT
#
# same_output.sh CASE LIBRARY [SAMPLE...] - a real program's output and exit status are the same under LD_PRELOAD as without, with
# sampling off, by default, and of every allocation. Each run has a fresh folder of its own as the current one. Exit
# status 77: the program is not here.
set -u
case=$1
library=$2
shift 2
[ $# -gt 0 ] || set -- 0 512K 1
top=$(mktemp -d) || exit 1
trap 'rm -rf "$top"' EXIT
samples=$*

need() {
    for program in "$@"; do
        command -v "$program" > /dev/null 2>&1 || { echo "$program is not here"; exit 77; }
    done
}

# on PROGRAM...: runs it as this round wants it; the shell and its helpers never run preloaded
on() {
    if [ -n "$sample" ]; then
        env LD_PRELOAD="$library" MOD_ALLOC_SAMPLE="$sample" "$@"
    else
        "$@"
    fi
}

# ---- the cases: need what they need, then run_CASE writes what is compared to stdout ----

need_python() { need python3; }
run_python() {
    on python3 -c '
import json, re, random
random.seed(7)
data = [{"key %d" % i: [random.random() for _ in range(20)], "text": "line %d " % i * 5} for i in range(2000)]
text = json.dumps(data)
back = json.loads(text)
assert back == data
print(len(text), len(re.findall(r"\d+\.\d+", text)), len(re.sub(r"line (\d+)", r"\1", text)))
words = {}
for word in re.split(r"\W+", text): words[word] = words.get(word, 0) + 1
print(len(words))
'
    on python3 -c '
import threading, subprocess, sys
results = []
def work(n): results.append(sum(len(str(i)) for i in range(n)))
threads = [threading.Thread(target=work, args=(20000 + i,)) for i in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(results))
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout)
'
}

# python's own tests, where the distribution ships them
need_python_tests() {
    need python3
    for test in test_json test_dict test_threading test_subprocess; do
        python3 -c "import test.$test" > /dev/null 2>&1 || { echo "python3 has no test.$test"; exit 77; }
    done
}
run_python_tests() {
    on python3 -m test test_json test_dict test_threading test_subprocess > log 2>&1
    echo "status $?"
    grep -E '^(Result|.* failed:|    test_)' log | sed -e 's/ in [0-9.]* .*//'
}

need_git() { need git; }
run_git() {
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
    export GIT_CONFIG_NOSYSTEM=1 HOME="$PWD" GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
    on git init -q -b main one && cd one || return
    i=0
    while [ $i -lt 30 ]; do
        seq $i $((i + 2000)) > file$((i % 7))
        on git add . && on git commit -q -m "change $i"
        i=$((i + 1))
    done
    on git log --stat --format='%H %s' | cksum
    on git gc -q --aggressive
    on git fsck --full 2>&1 | grep -v '^notice'
    cd .. && on git clone -q one two && cd two && on git log --oneline | tail -3
    on git diff HEAD~5 --stat
    on git grep -c 1234 HEAD~2
}

need_perl() { need perl; }
run_perl() {
    on perl -e '
my %h; srand(3);
for my $i (1..60000) { $h{"key$i"} = join(",", map { $i * $_ } 1..5); }
my $n = 0; for (sort keys %h) { $n += length $h{$_}; delete $h{$_} if $n % 3 == 0; }
print scalar(keys %h), " $n\n";
my $s = "abc" x 100000; my $c = () = $s =~ /b(?=c)/g; print "$c\n";
my @a = sort { $a <=> $b } map { ($_ * 7919) % 100003 } 1..100000; print "$a[0] $a[-1] ", scalar(@a), "\n";
'
}

need_sqlite3() { need sqlite3; }
run_sqlite3() {
    on sqlite3 file.db "
create table t(a integer primary key, b text, c real);
with recursive n(x) as (select 1 union all select x+1 from n where x<40000) insert into t select x, hex(x*7919), x/3.0 from n;
create index i on t(b);
select count(*), sum(length(b)), round(sum(c), 2) from t;
select b, count(*) from t group by substr(b, 1, 2) order by 1 limit 5;
update t set b = b || 'x' where a % 3 = 0; delete from t where a % 5 = 0;
vacuum; pragma integrity_check; select count(*) from t where b like '%x';"
}

need_gcc() { need gcc; }
write_large_c() {
    awk 'BEGIN { print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
        for (i = 0; i < 500; i++) {
            printf "static int f%d(int a, int b) { int s = %d; for (int i = 0; i < a; i++) { s += (i * b) ^ %d; if (s & 1) s = s / 3 + b; else s ^= (s << %d); } return s + f%d_(a); }\n", i, i, i * 7, i % 13 + 1, i
        }
    }' | awk '{ n++; gsub(/ \+ f[0-9]+_\(a\)/, ""); print }'
    awk 'BEGIN { print "int main(void) { unsigned s = 0;"; for (i = 0; i < 500; i++) printf "s = s * 31u + (unsigned)f%d(%d, %d);\n", i, i % 50, i; print "printf(\"%u\\n\", s); return 0; }" }'
}
run_gcc() {
    write_large_c > large.c
    on gcc -O2 -c large.c -o large.o
    echo "status $?"
    cksum < large.o
    on gcc large.o -o large && ./large
}

need_clangxx() { need clang++; }
run_clangxx() {
    cat > large.cpp << 'CODE'
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>
template <int N> struct fibonacci { static constexpr long value = fibonacci<N - 1>::value + fibonacci<N - 2>::value; };
template <> struct fibonacci<0> { static constexpr long value = 0; };
template <> struct fibonacci<1> { static constexpr long value = 1; };
int main() {
    std::map<std::string, std::vector<int>> map;
    for (int i = 0; i < 1000; i++) map[std::to_string(i % 37)].push_back(i);
    std::regex word("([0-9]+)");
    for (auto &[key, value] : map) std::cout << key << ' ' << value.size() << ' ' << std::regex_match(key, word) << '\n';
    std::cout << fibonacci<80>::value << '\n';
}
CODE
    on clang++ -std=c++17 -O2 -c large.cpp -o large.o
    echo "status $?"
    cksum < large.o
    on clang++ large.o -o large && ./large | cksum
}

need_redis() { need redis-server redis-benchmark redis-cli; }
run_redis() {
    port=$((20000 + $$ % 20000))
    on redis-server --port $port --bind 127.0.0.1 --save '' --appendonly no --daemonize no > server.log 2>&1 &
    server=$!
    tries=0
    while ! redis-cli -p $port ping > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo "redis-server does not answer"; cat server.log; break; }
        sleep 0.1
    done
    on redis-benchmark -h 127.0.0.1 -p $port -n 4000 -q -t set,get,lpush,lpop,sadd,hset,zadd,mset -r 1000 > benchmark.log 2>&1
    echo "benchmark: status $?"
    i=0
    while [ $i -lt 500 ]; do echo "SET name:$i value-$i-$i"; echo "LPUSH list $i"; echo "HSET hash f$i $i"; i=$((i + 1)); done |
        on redis-cli -p $port > /dev/null
    redis-cli -p $port get name:77
    redis-cli -p $port llen list
    redis-cli -p $port hlen hash
    redis-cli -p $port lrange list 0 3
    redis-cli -p $port shutdown nosave > /dev/null 2>&1
    wait $server
    echo "server: status $?"
    grep -iE 'crash|assert|error' server.log
}

need_node() { need node; }
run_node() {
    on node -e '
const zlib = require("zlib"), crypto = require("crypto"), { Worker, isMainThread } = require("worker_threads");
const objects = []; for (let i = 0; i < 100000; i++) objects.push({ id: i, name: "object " + i, list: [i, i * 2, i * 3] });
const text = JSON.stringify(objects); const packed = zlib.gzipSync(Buffer.from(text));
console.log(text.length, zlib.gunzipSync(packed).toString() === text, crypto.createHash("sha256").update(text).digest("hex"));
const worker = new Worker("require(\"worker_threads\").parentPort.postMessage(Array.from({length: 50000}, (_, i) => i * i).reduce((a, b) => a + b))", { eval: true });
worker.on("message", m => console.log("worker", m)); worker.on("exit", c => console.log("exit", c));
'
}

need_javac() { need javac; }
run_javac() {
    cat > Main.java << 'CODE'
import java.util.*;
import java.util.stream.*;
public class Main {
    record Point(int x, int y) {}
    public static void main(String[] args) {
        Map<Integer, List<Point>> points = IntStream.range(0, 20000).mapToObj(i -> new Point(i % 17, i))
            .collect(Collectors.groupingBy(Point::x, TreeMap::new, Collectors.toList()));
        points.forEach((k, v) -> System.out.println(k + " " + v.size() + " " + v.get(v.size() - 1)));
    }
}
CODE
    on javac Main.java
    echo "status $?"
    cksum Main.class
    command -v java > /dev/null 2>&1 && on java -XX:TieredStopAtLevel=1 Main
}

need_tools() { need sort awk sed tar gzip bash; }
run_tools() {
    seq 1 60000 | on sort -R --random-source=/bin/sh | on sort -n --parallel=4 | cksum
    seq 1 100000 | on awk '{ a[$1 % 1000] = a[$1 % 1000] $1 } END { n = 0; for (k in a) n += length(a[k]); print n }'
    seq 1 50000 | on sed -E 's/([0-9])([0-9])/\2\1/g' | cksum
    on bash -c 'declare -A a; for i in {1..5000}; do a[$i]=$((i * i)); done; s=0; for k in "${!a[@]}"; do s=$((s + a[$k])); done; echo $s; (exit 3); echo $?'
    seq 1 30000 > numbers
    on tar -cf numbers.tar --mtime=2020-01-01 --owner=0 --group=0 numbers && on gzip -n numbers.tar && cksum < numbers.tar.gz
    on ls /nonexistent 2>&1
    echo "status $?"
}

need_$case
sample=
mkdir "$top/plain" && (cd "$top/plain" && run_$case) > "$top/plain.out" 2> "$top/plain.err"
status=$?
[ -s "$top/plain.out" ] || { echo "same_output.sh: $case writes nothing by itself: $(head -5 "$top/plain.err")" >&2; exit 1; }
failed=0
for sample in $samples; do
    mkdir "$top/$sample" && (cd "$top/$sample" && run_$case) > "$top/$sample.out" 2> "$top/$sample.err"
    with=$?
    [ $with -eq $status ] || { echo "$case, MOD_ALLOC_SAMPLE=$sample: status $with, without mod-alloc $status" >&2; failed=1; }
    for stream in out err; do
        if ! cmp -s "$top/plain.$stream" "$top/$sample.$stream"; then
            echo "$case, MOD_ALLOC_SAMPLE=$sample: std$stream differs (< without, > with mod-alloc):" >&2
            diff "$top/plain.$stream" "$top/$sample.$stream" | head -12 >&2
            failed=1
        fi
    done
done
exit $failed
