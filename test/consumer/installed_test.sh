#!/usr/bin/env bash
# installed_test.sh [--headers] BUILD -- COMPILER...: installs BUILD into a folder of its own and uses nothing else
# of it: a program with the flags of pkg-config, shared and static, and with --headers each public header alone.
set -u
# Meson points this at the build.
unset LD_LIBRARY_PATH
here=$(dirname "$(readlink -f "$0")")
. "$here/drive.sh"
. "$here/../support/deadline.sh"
deadline 900
each_header=
if [ "$1" = --headers ]; then
    each_header=yes
    shift
fi
build=$1
shift 2
compiler=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$work/stage" >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "meson install"; }
pc=$(find "$work/stage" -name weft.pc)
[ -n "$pc" ] || fail "no weft.pc was installed"
# The folder was installed for another place; its pkg-config files say everything from where they lie.
prefix=${pc%%/lib*/pkgconfig/weft.pc}
package=weft
flags_of() { # PREFIX FLAG...
    local at=$1 folder
    folder=$(dirname "$(find "$at" -name weft.pc)")
    shift
    PKG_CONFIG_PATH=$folder pkg-config "$@" "$package"
}

# The users' compile lines get none of the libraries that weft itself is built with.
flags=$(flags_of "$prefix" --cflags) || fail "pkg-config --cflags weft"
case $flags in
*spdlog* | *SPDLOG* | *fmt* | *boost*) fail "flags of private libraries reach the users: $flags" ;;
esac

headers=$(cd "$prefix/include" && find weft -name '*.hpp' | sort)
[ -n "$headers" ] || fail "no header was installed"
export flags
compile_alone() { # HEADER COMPILER...
    local header=$1
    shift
    printf '#include <%s>\n#include <%s>\n' "$header" "$header" |
        "$@" -std=c++20 -Wall -Wextra -Wshadow -Werror -fsyntax-only $flags -x c++ - ||
        { echo "FAIL: <$header> does not compile alone"; return 1; }
}
export -f compile_alone
# Two at a time: the tests may have two processors.
if [ -n "$each_header" ]; then
    xargs -P 2 -I '{}' bash -c 'compile_alone "$@"' _ '{}' "${compiler[@]}" <<<"$headers" || exit 1
    echo "$(wc -l <<<"$headers") headers compile alone"
fi

for header in $headers; do printf '#include <%s>\n' "$header"; done >"$work/all.cpp"
"${compiler[@]}" -std=c++20 $flags -M "$work/all.cpp" >"$work/includes" || fail "all headers together"
if grep -oE '[^ ]*/(spdlog|fmt|CLI|boost)/[^ ]*' "$work/includes"; then
    fail "a public header includes a private library"
fi
if command -v clang++-16 >/dev/null; then
    clang++-16 -std=c++20 -Wall -Wextra -Wshadow -Werror -fsyntax-only $flags "$work/all.cpp" ||
        fail "clang 16 refuses the headers"
fi

# The shared libraries export what is theirs and nothing that they were built with.
for library in $(find "$prefix" -name 'libweft*.so'); do
    exported=$(nm --dynamic --defined-only --demangle "$library") || fail "nm $library"
    grep -q 'weft::' <<<"$exported" || fail "$library exports nothing"
    if [ -n "$each_header" ] && grep -E '^\S+ \S ([^ (]+ )?(spdlog|fmt|boost|std)::' <<<"$exported"; then
        fail "$library exports what is not its own"
    fi
done
for header in $headers; do
    pushes=$(grep -c '^#pragma GCC visibility push(default)$' "$prefix/include/$header")
    pops=$(grep -c '^#pragma GCC visibility pop$' "$prefix/include/$header")
    grep -q '^namespace' "$prefix/include/$header" || continue
    [ "$pushes $pops" = '1 1' ] || fail "<$header> does not export what it declares, as other public headers do"
done

# Nor does the optimizer find anything in what is instantiated from them.
compiles_quietly() { # COMPILER...
    local level
    for level in -O0 -O2 -O3; do
        "$@" -std=c++20 -Wall -Wextra -Werror $level $(flags_of "$prefix" --cflags) -c "$here/warnings.cpp" \
            -o "$work/warnings.o" || fail "warnings in a user's code with $1 $level"
    done
}
if [ -n "$each_header" ] && [ -n "$(find "$prefix" -name weft-coro.pc)" ]; then
    compiles_quietly "${compiler[@]}"
    if command -v clang++-16 >/dev/null; then compiles_quietly clang++-16; fi
fi

# A program with the shared libraries, and with the static ones alone, which is what pkg-config --static is for.
cp -r "$prefix" "$work/static"
find "$work/static" -name 'libweft*.so*' -delete
builds_and_runs() { # SOURCE
    local name=${1%.cpp}
    "${compiler[@]}" -std=c++20 $(flags_of "$prefix" --cflags) "$here/$1" -o "$work/$name-shared" \
        $(flags_of "$prefix" --libs) || fail "$1 does not link with the shared library"
    ldd "$work/$name-shared" | grep -q "$work.*libweft" || fail "$1 does not use the shared library"
    echoes "$work/$name-shared"
    "${compiler[@]}" -std=c++20 $(flags_of "$prefix" --cflags) "$here/$1" -o "$work/$name-static" \
        $(flags_of "$work/static" --libs --static) || fail "$1 does not link with the static library"
    if ldd "$work/$name-static" | grep libweft; then fail "$1 uses a shared libweft"; fi
    echoes "$work/$name-static"
}
builds_and_runs echo.cpp
if ldd "$work/echo-shared" | grep -i boost; then fail "a program with callbacks alone depends on Boost"; fi
if [ -n "$(find "$prefix" -name weft-coro.pc)" ]; then
    package=weft-coro
    builds_and_runs coro.cpp
    # libweft-coro finds libweft beside itself, whatever the program links first, and wherever both are moved.
    libraries=$(flags_of "$prefix" --variable=libdir)
    "${compiler[@]}" -std=c++20 $(flags_of "$prefix" --cflags) "$here/coro.cpp" -o "$work/coro-alone" \
        -L"$libraries" -Wl,--as-needed -lweft-coro -lweft -Wl,-rpath,"$libraries" ||
        fail "coro.cpp does not link with libweft-coro alone"
    echoes "$work/coro-alone"
    "${compiler[@]}" -std=c++20 -fvisibility=hidden -fvisibility-inlines-hidden $(flags_of "$prefix" --cflags) \
        "$here/catches.cpp" -o "$work/catches" $(flags_of "$prefix" --libs) || fail "catches.cpp does not link"
    "$work/catches" || fail "catches.cpp"
    mv "$prefix" "$work/elsewhere" # relocated, as packages are
    LD_LIBRARY_PATH= ldd "$(find "$work/elsewhere" -name 'libweft-coro.so')" | grep -q "$work/elsewhere.*libweft.so" ||
        fail "a moved libweft-coro does not find libweft"
    "${compiler[@]}" -std=c++20 $(flags_of "$work/elsewhere" --cflags) "$here/coro.cpp" -o "$work/coro-moved" \
        $(flags_of "$work/elsewhere" --libs) || fail "coro.cpp does not link with libraries that were moved"
    echoes "$work/coro-moved"
else
    echo "without coroutines: libweft-coro is not part of this build"
fi
