#!/bin/sh
# include_rules_test.sh ROOTS SOURCE COMPILER...: protocols are given the reactor's value types and nothing else of
# it. ROOTS is the folder with one include root per component. Checks that each public header of protocols compiles
# alone and twice with the roots that it may use, that every value header does with the value root only, and that an
# upward include does not compile: if it did, the rule would be a remark. That all headers compile alone is checked
# where they are installed (consumer/installed_test.sh).
set -u
. "$(dirname "$0")/support/deadline.sh"
deadline 300
roots=$1
source=$2
shift 2
failed=0

# compiles HEADER INCLUDES COMPILER...: whether a file that includes HEADER twice compiles with these options.
compiles() {
    header=$1
    includes=$2
    shift 2
    printf '#include <%s>\n#include <%s>\n' "$header" "$header" |
        "$@" -std=c++20 -Wall -Wextra -Werror -fsyntax-only $includes -x c++ - 2>"$log"
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

values="-I$roots/values"
protocols="-I$roots/values -I$roots/protocols"

for file in "$roots"/values/weft/reactor/*.hpp; do
    header=weft/reactor/$(basename "$file")
    compiles "$header" "$values" "$@" || { echo "FAIL: <$header> does not compile alone"; cat "$log"; failed=1; }
done
for file in $(find "$source/protocols" -name '*.hpp'); do
    header=weft/${file#"$source"/}
    compiles "$header" "$protocols" "$@" || { echo "FAIL: <$header> does not compile alone"; cat "$log"; failed=1; }
done
# refused WHO HEADER INCLUDES COMPILER...: HEADER, which is there, is not found with these options.
refused() {
    who=$1
    header=$2
    includes=$3
    shift 3
    if [ ! -f "$source/${header#weft/}" ]; then
        echo "FAIL: there is no <$header> to refuse"
        failed=1
    elif compiles "$header" "$includes" "$@"; then
        echo "FAIL: $who can include <$header>"
        failed=1
    elif ! grep -q "fatal error: .*$header" "$log"; then
        echo "FAIL: <$header> is refused for another reason:"
        cat "$log"
        failed=1
    fi
}
# Every header of the layers above, so that none is left out that comes later.
refusals=0
for file in $(cd "$source" && find reactor protocols transports coro -name '*.hpp'); do
    folder=${file%%/*}
    header=weft/$file
    case $folder in
    reactor)
        [ -e "$roots/values/$header" ] && continue
        refused protocols "$header" "$protocols" "$@"
        ;;
    protocols) refused "the reactor" "$header" "-I$roots/reactor" "$@" ;;
    transports) refused protocols "$header" "$protocols" "$@" ;;
    coro) refused transports "$header" "-I$roots/reactor -I$roots/protocols -I$roots/transports" "$@" ;;
    esac
    refusals=$((refusals + 1))
done
[ $refusals -gt 20 ] || { echo "FAIL: only $refusals headers were tried"; failed=1; }

# In what systems differ is the kernel folder's alone: no name of a system and no number of an option elsewhere.
words='__linux__|__APPLE__|__(Free|Net|Open)BSD__|SOL_SOCKET|SO_[A-Z]+|TCP_[A-Z]+|IP_[A-Z]+|IPV6_[A-Z]+|UDP_[A-Z]+'
named() { grep -rwE "$words" --include='*.cpp' --include='*.hpp' "$@" | sed 's@//.*@@' | grep -wE "$words"; }
named "$source/reactor/kernel" >/dev/null || { echo "FAIL: no system is named in reactor/kernel"; failed=1; }
if named "$source/reactor" "$source/protocols" "$source/transports" "$source/coro" | grep -v "reactor/kernel/"; then
    echo "FAIL: these belong into reactor/kernel"
    failed=1
fi
[ $failed = 0 ] && echo "include rules hold"
exit $failed
