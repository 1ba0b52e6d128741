#!/bin/sh
# SPDX-License-Identifier: MIT
#
# headers.sh SOURCE_DIR CC CXX - each public header compiles alone, as C11, C17 and as C++11 to C++20, with all
# warnings as errors; each header inside compiles alone as the project is compiled.
set -u
source=$1
cc=$2
cxx=$3
failed=0
compile() { # file, compiler, flags
    file=$1
    shift
    if ! output=$(printf '#include "%s"\n#include "%s"\n' "$file" "$file" | "$@" -fsyntax-only - 2>&1); then
        echo "headers.sh: $file does not compile alone with: $*" >&2
        echo "$output" | head -8 >&2
        failed=1
    fi
}
strict="-Wall -Wextra -Wpedantic -Werror"
for header in "$source"/include/*.h; do
    for standard in c11 c17 gnu17; do
        compile "$header" "$cc" -x c -std=$standard $strict -Wstrict-prototypes -I"$source/include"
    done
    for standard in c++11 c++14 c++17 c++20; do
        compile "$header" "$cxx" -x c++ -std=$standard $strict -I"$source/include"
    done
done
for header in "$source"/include/*.hpp; do
    [ -f "$header" ] || continue
    grep -q '#include <benchmark/' "$header" && ! echo '#include <benchmark/benchmark.h>' |
        "$cxx" -x c++ -fsyntax-only - 2> /dev/null && continue
    for standard in c++17 c++20; do
        compile "$header" "$cxx" -x c++ -std=$standard $strict -I"$source/include"
    done
done
for header in "$source"/src/*/*.h; do
    # what is text for hot/unit.c says so itself, with an #error; port/ stands on mimalloc's headers
    grep -q '^#error ".* is part of hot/unit.c"' "$header" && continue
    case $header in
    */port/heap_inline.h | */port/v*) continue ;;
    esac
    compile "$header" "$cc" -x c -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function \
        -DMODA_ASSERT_LEVEL=0 -I"$source/include" -I"$source/src"
done
exit $failed
