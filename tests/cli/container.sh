#!/bin/sh
# SPDX-License-Identifier: MIT
#
# container.sh - a process that runs in a root of its own, where its files have other paths than here, is shown with names
# from outside; and where /dev/shm is small, profiles lie elsewhere. Left out (77) where no root can be made, as in some
# containers.
. "${0%/*}/check.sh"

mkdir -p root/elsewhere
cp "$PROGRAMS/allocate" root/elsewhere/program
cp "$LIBRARY" root/elsewhere/malloc.so
for file in $(ldd "$PROGRAMS/allocate" "$LIBRARY" | grep -o '/[^ :]*' | sort -u); do
    mkdir -p "root${file%/*}"
    cp -L "$file" "root$file"
done
unshare -Ur chroot root /elsewhere/program exit 0 2> .err || { echo "no root can be made: $(cat .err)"; exit 77; }

mkfifo ready
for profile in /elsewhere/here.prof ""; do
    LD_PRELOAD=/elsewhere/malloc.so MOD_ALLOC_SAMPLE=1 MOD_ALLOC_PROFILE=$profile \
        unshare -Ur chroot root /elsewhere/program keep 100 1000 say ready sleep 1000 > ready 2> start.err &
    pid=$!
    read -r line < ready || fail "it does not start: $(cat start.err)"
    try "$MOD_ALLOC" stat $pid
    if [ "$status" -eq 0 ] || [ -n "$profile" ]; then # its memory may be closed to us
        try "$MOD_ALLOC" report --live $pid
        expect_status 0
        expect_out "keep_blocks" "allocate.c:"
        try "$MOD_ALLOC" report --live --root /nowhere $pid
        case $out in *allocate.c:*) fail "--root is not heeded: $out" ;; esac
    fi
    kill $pid
    wait $pid 2> /dev/null
done

large=${TMPDIR:-/tmp}
free=$(df -Pk "$large" | awk 'NR == 2 { print $4 }')
if [ "$free" -ge 600000 ] && unshare -Urm mount -t tmpfs -o size=1m none /dev/shm 2> /dev/null; then
    try unshare -Urm sh -c 'mount -t tmpfs -o size=64m none /dev/shm && exec "$@"' sh \
        "$MOD_ALLOC" run -q --library "$LIBRARY" -- sh -c 'echo "$MOD_ALLOC_PROFILE"'
    case $out in "$large"/mod-alloc.*) ;; *) fail "with a /dev/shm of 64 MiB the profile lies in '$out': $err" ;; esac
fi
finish
