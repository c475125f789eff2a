#!/bin/sh
# usage: bsd_headers_test.sh INCLUDE-ROOTS SOURCE-ROOT COMPILER...
# Compiles the sources for macOS and the BSDs against test/bsd_headers, syntax only and as one file, for each system
# on x86-64 and arm64. See the README there.
set -u
. "$(dirname "$0")/support/deadline.sh"
deadline 500
roots=$1 source=$2
shift 2
kernel=$source/reactor/kernel
failed=0

# compile SYSTEM COMPILER... <SOURCE
compile() {
    for_system=-DFOR_$1
    shift
    "$@" -std=c++20 -fsyntax-only -Wall -Wextra -Werror "$for_system" \
        -include "$source/test/bsd_headers/prelude.h" -I"$source/test/bsd_headers" \
        -I"$roots/reactor" -x c++ -
}

all=$(for file in "$source"/reactor/address.cpp "$kernel"/bsd_*.cpp "$kernel"/posix_*.cpp \
    "$kernel"/kqueue_kernel.cpp "$kernel"/poll_kernel.cpp "$kernel"/kernel.cpp; do
    printf '#include "%s"\n' "$file"
done)
for system in MACOS FREEBSD OPENBSD NETBSD; do
    echo "$all" | compile $system "$@" || failed=1
    if command -v aarch64-linux-gnu-g++ >/dev/null; then
        echo "$all" | compile $system aarch64-linux-gnu-g++ || failed=1
    elif [ $system = MACOS ]; then
        echo "arm64 is left out: there is no aarch64-linux-gnu-g++"
    fi
done
# They have to find something.
if echo "#include \"$kernel/linux_system.cpp\"" | compile FREEBSD "$@" 2>/dev/null; then
    echo "what is Linux alone compiles: these headers find nothing"
    failed=1
fi
exit $failed
