#!/bin/sh
# SPDX-License-Identifier: MIT
#
# same_output.sh CASE LIBRARY [SAMPLE...] - a real program's output and exit status are the same under LD_PRELOAD as without, with
# sampling off, by default, and of every allocation. Each run has a fresh folder of its own as the current one; of a run
# that differs, the ends of the *.log files there are shown. Exit status 77: the program is not here.
set -u
case=$1
library=$2
shift 2
[ $# -gt 0 ] || set -- 0 512K 1
top=$(mktemp -d) || exit 1
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
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

# become PROGRAM...: the same in this shell's place, so that what is started with & has $! as its process id
become() {
    [ -z "$sample" ] || exec env LD_PRELOAD="$library" MOD_ALLOC_SAMPLE="$sample" "$@"
    exec "$@"
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

# python's own tests, where the distribution ships them: what became of each. python_tests is all of four files; the two
# others are quick: without those that wait for timeouts, and those that run again with select for poll.
need_python_tests() {
    for python in python3 /usr/bin/python3; do
        command -v $python > /dev/null 2>&1 || continue
        $python -c 'import test.test_json, test.test_dict, test.test_threading, test.test_subprocess' > /dev/null 2>&1 && return
    done
    echo "no python3 here has its tests"
    exit 77
}
need_python_data_tests() { need_python_tests; }
need_python_process_tests() { need_python_tests; }
run_python_tests() { python_tests test_json test_dict test_threading test_subprocess; }
run_python_data_tests() { python_tests test_json test_dict; }
run_python_process_tests() { python_tests -i '*timeout*' -i '*NoPoll*' test_threading test_subprocess; }
python_tests() {
    export TMPDIR="$PWD"
    on $python -m test --junit-xml results.xml "$@" > python.log 2>&1 < /dev/null
    echo "status $?"
    $python -c '
import xml.etree.ElementTree
for case in xml.etree.ElementTree.parse("results.xml").iter("testcase"):
    print(case.get("name"), *sorted({part.tag for part in case} - {"system-out", "system-err"}))
' | sort
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
# start_redis: the server, on a socket in this folder; it ends with the shell that has started it, if not before
start_redis() {
    become redis-server --port 0 --unixsocket socket --save '' --appendonly no --daemonize no > server$1.log 2>&1 &
    server=$!
    trap 'kill -KILL $server 2> /dev/null' EXIT
    trap 'exit 1' HUP INT TERM
    tries=0
    while ! redis-cli -s socket ping > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || { echo "redis-server does not answer"; exit 1; }
        sleep 0.1
    done
}
end_redis() {
    redis-cli -s socket shutdown nosave > /dev/null 2>&1 || kill -KILL $server
    wait $server
    echo "server: status $?"
    trap - EXIT
    grep -iE 'crash|assert|error' server$1.log
}
run_redis() {
    start_redis 1
    on redis-benchmark -s socket -n 1000 -q > benchmark.log 2>&1
    echo "benchmark of every command: status $?"
    redis-cli -s socket get counter:__rand_int__
    redis-cli -s socket llen mylist
    on redis-benchmark -s socket -n 4000 -P 8 -q -t set,get,lpush,lpop,sadd,hset,zadd,mset -r 1000 > benchmark.log 2>&1
    echo "benchmark of many keys: status $?"
    redis-cli -s socket flushall async
    i=0
    while [ $i -lt 500 ]; do echo "SET name:$i value-$i-$i"; echo "LPUSH list $i"; echo "HSET hash f$i $i"; i=$((i + 1)); done |
        on redis-cli -s socket > /dev/null
    redis-cli -s socket get name:77
    redis-cli -s socket lrange list 0 3
    redis-cli -s socket bgsave
    while redis-cli -s socket info persistence | grep -q '^rdb_bgsave_in_progress:1'; do sleep 0.1; done
    redis-cli -s socket info persistence | grep '^rdb_last_bgsave_status'
    end_redis 1
    start_redis 2
    redis-cli -s socket dbsize
    redis-cli -s socket llen list
    redis-cli -s socket hlen hash
    redis-cli -s socket get name:499
    end_redis 2
}

need_node() { need node; }
run_node() {
    on node -e '
const zlib = require("zlib"), crypto = require("crypto"), { Worker } = require("worker_threads");
const objects = []; for (let i = 0; i < 100000; i++) objects.push({ id: i, name: "object " + i, list: [i, i * 2, i * 3] });
const text = JSON.stringify(objects); const packed = zlib.gzipSync(Buffer.from(text));
console.log(text.length, zlib.gunzipSync(packed).toString() === text, crypto.createHash("sha256").update(text).digest("hex"));
const work = `
const { parentPort, workerData } = require("worker_threads"), zlib = require("zlib"), crypto = require("crypto");
const words = new Map(); for (let i = 0; i < 20000; i++) words.set("word " + (i * workerData) % 7919, i);
const buffers = []; for (let i = 0; i < 400; i++) buffers.push(Buffer.alloc(1 + (i * 97 * workerData) % 20000, i));
const hash = crypto.createHash("sha256"); buffers.forEach(b => hash.update(b));
zlib.deflate(Buffer.concat(buffers), (error, packed) => {
    const back = zlib.inflateSync(packed);
    parentPort.postMessage([workerData, words.size, back.length, hash.digest("hex"), back.subarray(1000, 9000)]);
});`;
const results = []; let live = 6;
for (let n = 1; n <= 6; n++) {
    const worker = new Worker(work, { eval: true, workerData: n });
    worker.on("message", m => { m[4] = crypto.createHash("md5").update(m[4]).digest("hex"); results.push(m.join(" ")); });
    worker.on("exit", code => { if (code) results.push("exit " + code); if (--live === 0) console.log(results.sort().join("\n")); });
}
'
    echo "status $?"
}

need_javac() { need javac java; }
run_javac() {
    cat > Main.java << 'CODE'
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import java.util.zip.*;
public class Main {
    record Point(int x, int y) {}
    // Memory of malloc, not of java's heap: buffers, zlib's state; freed by whichever thread comes by.
    static final ConcurrentLinkedQueue<Deflater> left = new ConcurrentLinkedQueue<>();
    static long work(int n) {
        CRC32 sum = new CRC32();
        for (int i = 0; i < 60; i++) {
            ByteBuffer buffer = ByteBuffer.allocateDirect(1 + (i * 977 * (n + 1)) % 60000);
            while (buffer.hasRemaining()) buffer.put((byte) (buffer.position() * n));
            Deflater deflater = new Deflater(1 + i % 9);
            deflater.setInput(buffer.flip());
            deflater.finish();
            byte[] packed = new byte[70000];
            sum.update(packed, 0, deflater.deflate(packed));
            left.add(deflater);
            Deflater another = i % 2 == 1 ? left.poll() : null;
            if (another != null) another.end();
        }
        return sum.getValue();
    }
    public static void main(String[] args) throws Exception {
        Map<Integer, List<Point>> points = IntStream.range(0, 20000).mapToObj(i -> new Point(i % 17, i))
            .collect(Collectors.groupingBy(Point::x, TreeMap::new, Collectors.toList()));
        points.forEach((k, v) -> System.out.println(k + " " + v.size() + " " + v.get(v.size() - 1)));
        ExecutorService threads = Executors.newFixedThreadPool(16);
        List<Future<Long>> sums = new ArrayList<>();
        for (int n = 0; n < 48; n++) { int m = n; sums.add(threads.submit(() -> work(m))); }
        for (Future<Long> sum : sums) System.out.println(sum.get());
        threads.shutdown();
        System.gc();
    }
}
CODE
    on javac Main.java
    echo "status $?"
    cksum Main.class
    on java Main
    echo "status $?"
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
    differs=0
    mkdir "$top/$sample" && (cd "$top/$sample" && run_$case) > "$top/$sample.out" 2> "$top/$sample.err"
    with=$?
    [ $with -eq $status ] || { echo "$case, MOD_ALLOC_SAMPLE=$sample: status $with, without mod-alloc $status" >&2; differs=1; }
    for stream in out err; do
        if ! cmp -s "$top/plain.$stream" "$top/$sample.$stream"; then
            echo "$case, MOD_ALLOC_SAMPLE=$sample: std$stream differs (< without, > with mod-alloc):" >&2
            diff "$top/plain.$stream" "$top/$sample.$stream" | head -12 >&2
            differs=1
        fi
    done
    [ $differs -eq 0 ] && continue
    failed=1
    tail -n 40 "$top/$sample"/*.log >&2 2> /dev/null
done
exit $failed
