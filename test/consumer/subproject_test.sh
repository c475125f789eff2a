#!/usr/bin/env bash
# subproject_test.sh SOURCE -- COMPILER...: builds a program in a project that has weft's SOURCE as a Meson
# subproject, without the coroutine front-end and so without Boost, and runs it.
set -u
here=$(dirname "$(readlink -f "$0")")
. "$here/drive.sh"
. "$here/../support/deadline.sh"
deadline 900
source=$1
shift 2
export CXX="$*"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/project/subprojects"
cp "$here/project/meson.build" "$here/echo.cpp" "$work/project/"
ln -s "$source" "$work/project/subprojects/weft"
# Quick to build: what is tested is that it does.
meson setup "$work/build" "$work/project" --force-fallback-for=weft -Dweft:coro=disabled \
    --buildtype=plain >"$work/log" 2>&1 && ninja -C "$work/build" >>"$work/log" 2>&1 ||
    { tail -n 40 "$work/log"; fail "the project does not build"; }
if grep -qi boost "$work/build/build.ninja"; then fail "the build without coroutines names Boost"; fi
if find "$work/build" -name 'test-*' -o -name 'bench-*' | grep .; then
    fail "the subproject builds its own tests or benchmarks"
fi
echoes "$work/build/echo"
