#!/bin/sh
# include_rules_test.sh ROOTS SOURCE COMPILER...: protocols are given the reactor's value types and nothing else of
# it. ROOTS is the folder with one include root per component. Checks that each public header of protocols compiles
# alone and twice with the roots that it may use, that every value header does with the value root only, and that an
# upward include does not compile: if it did, the rule would be a remark. That all headers compile alone is checked
# where they are installed (consumer/installed_test.sh).
set -u
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
for file in "$source"/protocols/*.hpp; do
    header=weft/protocols/$(basename "$file")
    compiles "$header" "$protocols" "$@" || { echo "FAIL: <$header> does not compile alone"; cat "$log"; failed=1; }
done
for header in weft/reactor/loop.hpp weft/reactor/kernel.hpp weft/reactor/timer.hpp weft/transports/tcp.hpp \
    weft/coro/task.hpp; do
    if compiles "$header" "$protocols" "$@"; then
        echo "FAIL: protocols can include <$header>"
        failed=1
    elif ! grep -q "$header" "$log"; then
        echo "FAIL: <$header> is refused for another reason:"
        cat "$log"
        failed=1
    fi
done
if compiles weft/coro/task.hpp "-I$roots/reactor -I$roots/protocols -I$roots/transports" "$@"; then
    echo "FAIL: transports can include <weft/coro/task.hpp>"
    failed=1
fi
[ $failed = 0 ] && echo "include rules hold"
exit $failed
