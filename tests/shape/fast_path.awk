# SPDX-License-Identifier: MIT
#
# fast_path.awk - counts over `objdump -d --no-show-raw-insn` of some functions: the straight path, and all of it.
#
#   straight: from the function's entry along the branches that are not taken and the unconditional jumps, to the first
#   ret: what a malloc that finds a block, or a local free, runs. Where the path tail-calls another function it ends.
#
# Output, a line a function: name, then of the straight path: instructions, calls, pushes, loads, stores, branches;
# and of the whole function: calls, pushes.
function flush_function(    i, pc, steps, op, args, loads, stores, calls, pushes, branches, count, target, all_calls, all_pushes) {
    if (name == "" || !(name in wanted)) {
        return
    }
    for (i = 0; i < lines; i++) {
        if (operation[i] ~ /^call/) all_calls++
        if (operation[i] ~ /^push/) all_pushes++
    }
    pc = 0
    while (pc < lines && steps++ < 400) {
        op = operation[pc]
        args = arguments[pc]
        count++
        if (op ~ /^call/) calls++
        if (op ~ /^push/) pushes++
        if (op ~ /^j/ && op != "jmp") branches++
        if (args ~ /\(|%fs:/ && op !~ /^(lea|nop|prefetch|j|call)/) {
            # AT&T: the last operand is the destination
            if (args ~ /(\([^)]*\)|%fs:[^,]*)$/ && op !~ /^(cmp|test)/) {
                stores++
                if (op !~ /^mov/) loads++
            } else {
                loads++
            }
        }
        if (op ~ /^ret/) break
        if (op == "jmp") {
            target = args
            sub(/ .*/, "", target)
            if (target in place) {
                pc = place[target]
                continue
            }
            break
        }
        pc++
    }
    printf "%s instructions=%d calls=%d pushes=%d loads=%d stores=%d branches=%d whole_calls=%d whole_pushes=%d\n",
        name, count, calls, pushes, loads, stores, branches, all_calls, all_pushes
}
BEGIN { # functions: address=name ..., since objdump shows but one of the names of an address
    n = split(functions, list, " ")
    for (i = 1; i <= n; i++) {
        split(list[i], pair, "=")
        name_at[pair[1]] = pair[2]
        wanted[pair[2]] = 1
    }
}
/^[0-9a-f]+ <.*>:$/ {
    flush_function()
    name = ($1 in name_at) ? name_at[$1] : ""
    lines = 0
    delete place
    next
}
/^ *[0-9a-f]+:/ {
    address = $1
    sub(/:/, "", address)
    place[address] = lines
    operation[lines] = $2
    if ($2 == "lock" || $2 == "notrack" || $2 == "bnd" || $2 ~ /^rep/) {
        operation[lines] = $3
    }
    line = $0
    sub(/^ *[0-9a-f]+:[ \t]*[^ \t]+[ \t]*/, "", line)
    sub(/[ \t]*#.*/, "", line)
    arguments[lines++] = line
}
END { flush_function() }
