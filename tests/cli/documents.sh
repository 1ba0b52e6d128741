#!/bin/sh
# SPDX-License-Identifier: MIT
#
# documents.sh SOURCE DOCUMENTS - every option and variable of the lists is in --help, in the man page and in
# both completions; the completions are valid; the API's page has every function of the header.
. "${0%/*}/check.sh"
source=$1
documents=$2
man=$documents/mod-alloc.1
count=0

# command and option, as the completion for bash has them: "run --exact"
sed -n "/^_mod_alloc_options/,/^}/s/^ *\([a-z]*\)) echo '\(.*\)' ;;/\1 \2/p" "$documents/mod-alloc.bash" |
    while read -r command options; do
        for option in $options; do echo "$command $option"; done
    done > options
for command in $(sed -n 's/^CLI_COMMAND(\([a-z]*\),.*/\1/p' "$source/src/cli/commands.def"); do
    "$MOD_ALLOC" $command --help > "help.$command" || fail "$command --help ends with status $?"
    grep -q "^$command " options || fail "the completions know no option of $command"
    grep -q "^\.SS Options of $command$" "$man" || fail "$man has no section on $command"
    grep -q "^ *$command) _arguments" "$documents/_mod-alloc" || fail "the completion for zsh lacks $command"
done
while read -r command option; do
    count=$((count + 1))
    grep -q -e "^ .*$option\( \|$\)" "help.$command" || fail "$command --help lacks $option"
    roff=$(printf %s "$option" | sed 's/-/\\-/g')
    sed -n "/^\.SS Options of $command$/,/^\.S[SH] [^O]/p" "$man" | grep -qF "$roff" || fail "$man: $command lacks $option"
    grep -qF "'*$option[" "$documents/_mod-alloc" || fail "the completion for zsh lacks $command $option"
done < options
[ "$count" -ge 50 ] || fail "only $count options were found"

# the list itself: its names are all there (the second string of a row)
sed -n 's/^ *CLI_\(OPTION\|VARIABLE\)(\([a-z]*\), *[a-z_]*, "\([a-z-]*\)".*/\3/p' "$source/src/cli/options.def" |
    sort -u > names
[ "$(wc -l < names)" -ge 30 ] || fail "options.def: only $(wc -l < names) names were found"
while read -r option; do
    grep -q -e " --$option$" options || fail "--$option of options.def is nowhere"
done < names

for variable in $(sed -n 's/^OPTION([a-z_]*, "\([A-Z_]*\)".*/\1/p' "$source/src/base/options.def") MOD_ALLOC_LIBRARY; do
    grep -q "$variable" "$man" || fail "$man lacks $variable"
done

for function in $(sed -n 's/^MOD_ALLOC_EXPORT.*[ *]\(mod_alloc_[a-z_]*\)(.*/\1/p' "$source/include/mod_alloc.h"); do
    grep -q "$function(" "$documents/mod_alloc.3" || fail "mod_alloc.3 lacks $function"
done

if command -v bash > /dev/null; then
    bash -n "$documents/mod-alloc.bash" || fail "bash cannot read its completion"
    complete() { # WORD...: what is offered for the last
        bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mod_alloc; echo "${COMPREPLY[*]}"' \
            - "$documents/mod-alloc.bash" "$@" 2> /dev/null
    }
    expect_equal "completion of 'run --unw'" "$(complete mod-alloc run --unw)" "--unwind"
    expect_equal "completion of 'run --unwind'" "$(complete mod-alloc run --unwind '')" "auto fp tables"
    expect_equal "completion of 'run -F spe'" "$(complete mod-alloc run -F spe)" "speedscope"
    expect_equal "completion of 're'" "$(complete mod-alloc re)" "report"
    touch 'a profile'
    expect_equal "completion of 'stat a'" "$(complete mod-alloc stat a)" "a profile"
    case $(complete mod-alloc run --exact -- basenam) in
    basename*) ;;
    *) fail "no program is offered after run --" ;;
    esac
fi
if command -v zsh > /dev/null; then
    zsh -n "$documents/_mod-alloc" || fail "zsh cannot read its completion"
fi
if command -v groff > /dev/null; then
    groff -man -Tutf8 -ww -z "$man" "$documents/mod_alloc.3" 2> warnings
    [ -s warnings ] && fail "groff warns: $(cat warnings)"
fi
finish
