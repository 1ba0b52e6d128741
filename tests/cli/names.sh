#!/bin/sh
# SPDX-License-Identifier: MIT
#
# names.sh - where names come from: separate debug files beside the program, by build id, from a debuginfod server if
# and only if the user names one, and its progress on a terminal; another root; Rust's names and C++'s. Without them
# there is no name, never a wrong one.
. "${0%/*}/check.sh"
for tool in objcopy strip cc; do
    command -v $tool > /dev/null || { echo "no $tool here"; exit 0; }
done
unset DEBUGINFOD_URLS

# a stripped program and its debug information
mkdir bin store
cp "$PROGRAMS/allocate" bin/stripped
objcopy --only-keep-debug bin/stripped store/stripped.debug
strip bin/stripped
(cd store && objcopy --add-gnu-debuglink=stripped.debug ../bin/stripped)
id=$(readelf -n bin/stripped | sed -n 's/.*Build ID: //p')
[ -n "$id" ] || { echo "the linker gives no build id here"; exit 0; }
MOD_ALLOC_PROFILE=$PWD/p.prof MOD_ALLOC_SAMPLE=1 LD_PRELOAD=$LIBRARY bin/stripped keep 1000 64

named() { # HOW OPTION...
    how=$1
    shift
    try "$MOD_ALLOC" report --allocated "$@" p.prof
    case $out in *keep_blocks*allocate.c:*main*allocate.c:*) ;; *) fail "$how: no name and line: $out" ;; esac
}
unnamed() {
    how=$1
    shift
    try "$MOD_ALLOC" report --allocated "$@" p.prof
    expect_status 0
    case $out in *keep_blocks* | *allocate.c*) fail "$how: named all the same" ;; esac
    case $out in *"(stripped+0x"*) ;; *) fail "$how: no place in the module: $out" ;; esac
}
unnamed "stripped"
cp store/stripped.debug bin/
named "by the debug link, beside it"
mkdir bin/.debug
mv bin/stripped.debug bin/.debug/
named "by the debug link, in .debug"
objcopy --only-keep-debug "$PROGRAMS/catcher" bin/.debug/stripped.debug
unnamed "another program's debug file under that name"
rm -r bin/.debug
tree=debug/.build-id/$(echo "$id" | cut -c1-2)
mkdir -p "$tree"
cp store/stripped.debug "$tree/$(echo "$id" | cut -c3-).debug"
unnamed "by build id, not asked for"
named "by build id" --debug-path "$PWD/debug"

# the program's files are elsewhere
mkdir -p "image$PWD/bin"
mv bin/stripped "image$PWD/bin/"
cp store/stripped.debug "image$PWD/bin/"
unnamed "a program that is gone"
expect_out "no names in $PWD/bin/stripped: there is no such file here"
cp "$PROGRAMS/catcher" bin/stripped
unnamed "a program that was built anew"
expect_out "no names in $PWD/bin/stripped: the file has changed since the program ran"
try "$MOD_ALLOC" report --format html p.prof
expect_out "No names in $PWD/bin/stripped: the file had changed since the program ran."
named "under another root" --root "$PWD/image"
case $out in *"no names in $PWD"*) fail "named, and said not to be: $out" ;; esac
mv "image$PWD/bin/stripped" bin/

# debuginfod
mkfifo port slow # of each server, once it listens
mkdir -p "server/buildid/$id"
cp store/stripped.debug "server/buildid/$id/debuginfo"
python3 - > port 2> requests << 'PYTHON' &
import functools, http.server
server = http.server.HTTPServer(("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory="server"))
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
server=$!
read -r number < port
export DEBUGINFOD_CACHE_PATH="$PWD/cache"
unnamed "without DEBUGINFOD_URLS"
[ -s requests ] && fail "a server was asked that nobody named: $(cat requests)"
export DEBUGINFOD_URLS="http://127.0.0.1:$number"
if ldconfig -p | grep -q libdebuginfod; then
    named "from a debuginfod server"
    grep -q "$id/debuginfo" requests || fail "the server was not asked: $(cat requests)"
fi
kill $server

# the progress of a slow look-up: on a terminal, and nothing of it in a pipe
python3 - > slow 2> /dev/null << 'PYTHON' &
import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.5)
        self.send_error(404)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
server=$!
read -r number < slow
export DEBUGINFOD_URLS="http://127.0.0.1:$number"
if ldconfig -p | grep -q libdebuginfod && command -v script > /dev/null; then
    export DEBUGINFOD_CACHE_PATH="$PWD/cache2"
    try script -qec "$MOD_ALLOC report --allocated p.prof" /dev/null
    expect_out "looking up names [#" "100 %"
    export DEBUGINFOD_CACHE_PATH="$PWD/cache3"
    try "$MOD_ALLOC" report --allocated p.prof
    case $out$err in *"looking up"*) fail "progress in a pipe" ;; esac
fi
unset DEBUGINFOD_URLS
kill $server

# mangled names, of both of Rust's kinds and of C++
cat > mangled.c << 'C'
#include <stdlib.h>
void *volatile sink;
__attribute__((noinline)) void v0(void) __asm__("_RNvNtCs1234_7mycrate3foo3bar");
__attribute__((noinline)) void legacy(void) __asm__("_ZN5alloc5boxed3new17h0123456789abcdefE");
__attribute__((noinline)) void plus(void) __asm__("_ZN5shape4growIiEEvRSt6vectorIT_SaIS2_EE");
void v0(void) { sink = malloc(101); __asm__ volatile(""); }
void legacy(void) { sink = malloc(102); __asm__ volatile(""); }
void plus(void) { sink = malloc(103); __asm__ volatile(""); }
int main(void) { v0(); legacy(); plus(); return 0; }
C
cc -O1 -fno-optimize-sibling-calls -fno-builtin -o mangled mangled.c || fail "mangled.c does not compile"
MOD_ALLOC_PROFILE=$PWD/m.prof MOD_ALLOC_SAMPLE=1 LD_PRELOAD=$LIBRARY ./mangled
try "$MOD_ALLOC" report --allocated --by function m.prof
expect_out "mycrate::foo::bar" "alloc::boxed::new" "void shape::grow<int>(std::vector<int, std::allocator<int> >&)"
case $out in *h0123456789abcdef* | *_ZN* | *_RNv*) fail "names as the linker has them: $out" ;; esac
finish
