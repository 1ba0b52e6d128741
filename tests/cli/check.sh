# SPDX-License-Identifier: MIT
#
# check.sh - sourced by the scripts here: a folder of their own, one command run at a time, what is expected of
# it. MOD_ALLOC is the command, PROGRAMS the folder of the small programs.
set -u
: "${MOD_ALLOC:?}" "${PROGRAMS:?}"
unset MOD_ALLOC_LIBRARY MOD_ALLOC_PROFILE MOD_ALLOC_SAMPLE MOD_ALLOC_STATS LD_PRELOAD
export NO_COLOR=1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
: > .start
failures=0
name=${0##*/}

fail() {
    echo "$name: $*" >&2
    failures=$((failures + 1))
}

# try COMMAND...: runs it; status, out and err hold what came of it
try() {
    what="$*"
    "$@" > "$folder/.out" 2> "$folder/.err" < /dev/null
    status=$?
    out=$(cat "$folder/.out")
    err=$(cat "$folder/.err")
}

expect_status() {
    [ "$status" -eq "$1" ] || fail "'$what' ended with status $status, expected $1; it says: $err"
}

# expect_err TEXT... / expect_out TEXT...: each is somewhere in it
expect_err() {
    for text in "$@"; do
        case $err in *"$text"*) ;; *) fail "'$what' does not say '$text' but: $err" ;; esac
    done
}

expect_out() {
    for text in "$@"; do
        case $out in *"$text"*) ;; *) fail "'$what' does not print '$text' but: $out" ;; esac
    done
}

expect_not_err() {
    for text in "$@"; do
        case $err in *"$text"*) fail "'$what' says '$text': $err" ;; esac
    done
}

# expect_equal WHAT IS EXPECTED
expect_equal() {
    [ "$2" = "$3" ] || fail "$1 is '$2', expected '$3'"
}

# json FILE KEY
json() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"
}

finish() {
    [ "$failures" -eq 0 ] || echo "$name: $failures failed" >&2
    exit $((failures != 0))
}
