#!/usr/bin/env bash
# cmake_test.sh BUILD -- COMPILER...: installs BUILD into a folder of its own, moves that, and builds the project in
# cmake/ against it: with shared and static libraries, with COMPILER and with Clang 16, and where something is missing.
set -u
unset LD_LIBRARY_PATH # Meson points this at the build.
here=$(dirname "$(readlink -f "$0")")
. "$here/drive.sh"
. "$here/../support/deadline.sh"
deadline 900
if ! command -v cmake >/dev/null; then
    echo "left out: there is no program cmake"
    exit 77
fi
build=$1
shift 2
compiler=$*
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$work/stage" >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "meson install"; }
config=$(find "$work/stage" -name weftConfig.cmake)
[ -n "$config" ] || fail "no weftConfig.cmake was installed"
# Neither where it was built nor where it was to be installed.
mv "${config%%/lib*/cmake/weft/weftConfig.cmake}" "$work/moved"
libraries=$(dirname "$(find "$work/moved" -name libweft.so)")
coro=OFF
[ ! -e "$libraries/libweft-coro.so" ] || coro=ON

# configure FOLDER COMPILER PREFIX OPTION...: what CMake says is in FOLDER.log. The generator is Ninja, which a build
# with Meson has.
configure() {
    local folder=$1 compiler=$2 at=$3
    shift 3
    CXX=$compiler cmake -G Ninja -S "$here/cmake" -B "$work/$folder" -DCMAKE_PREFIX_PATH="$at" \
        "$@" >"$work/$folder.log" 2>&1
}
builds() { # FOLDER COMPILER PREFIX OPTION...
    configure "$@" && ninja -C "$work/$1" >>"$work/$1.log" 2>&1 ||
        { cat "$work/$1.log"; fail "the project does not build: $*"; }
    echoes "$work/$1/echo"
    [ $coro = OFF ] || echoes "$work/$1/coro"
}
refused() { # TEXT FOLDER COMPILER PREFIX OPTION...
    local text=$1
    shift
    if configure "$@"; then fail "CMake found what is not there: $*"; fi
    # CMake breaks lines where it likes.
    tr -s ' \n' ' ' <"$work/$1.log" | grep -qF "$text" ||
        { cat "$work/$1.log"; fail "CMake does not say \"$text\""; }
    echo "refused: $text"
}
uses_moved_library() { # PROGRAM
    ldd "$1" | grep -q "$work/moved/.*libweft" || fail "$1 does not use the shared library that was moved"
}

builds shared "$compiler" "$work/moved" -DWITH_CORO=$coro
uses_moved_library "$work/shared/echo"
if ldd "$work/shared/echo" | grep -i boost; then fail "a program with callbacks alone depends on Boost"; fi
builds static "$compiler" "$work/moved" -DWITH_CORO=$coro -Dweft_USE_STATIC_LIBS=ON
if ldd "$work/static/echo" | grep libweft; then fail "a program uses a shared libweft, and was to be static"; fi
case $compiler in
*-fsanitize=*) echo "without Clang: the libraries are instrumented for another compiler" ;;
*)
    if command -v clang++-16 >/dev/null; then
        builds clang clang++-16 "$work/moved" -DWITH_CORO=$coro
    else
        echo "without Clang: there is no program clang++-16"
    fi
    ;;
esac

# What is missing is told by name.
refused "requested version \"0.2\"" newer "$compiler" "$work/moved" -DWANTED_VERSION=0.2
cp -r "$work/moved" "$work/partly"
find "$work/partly" \( -name 'libweft-coro*' -o -name 'weftCoro.cmake' \) -delete
refused "libweft-coro, the coroutine front-end, is not installed" no-coro "$compiler" "$work/partly" \
    -DWITH_CORO=ON
if [ $coro = ON ]; then
    refused "needs Boost.Context, which was not found" no-boost "$compiler" "$work/moved" -DWITH_CORO=ON \
        -Dweft_USE_STATIC_LIBS=ON -DCMAKE_DISABLE_FIND_PACKAGE_Boost=ON
fi
coro=OFF builds callbacks "$compiler" "$work/partly"
find "$work/partly" -name 'libweft.a' -delete
refused "there is no static libweft in" no-static "$compiler" "$work/partly" -Dweft_USE_STATIC_LIBS=ON
