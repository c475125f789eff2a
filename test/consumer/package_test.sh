#!/usr/bin/env bash
# package_test.sh SOURCE BUILD -- COMPILER...: packs BUILD with tools/package, unpacks the packages into a folder that
# stands for a system's root, and builds and runs programs with what is there.
set -u
unset LD_LIBRARY_PATH # Meson points this at the build.
here=$(dirname "$(readlink -f "$0")")
. "$here/drive.sh"
. "$here/../support/deadline.sh"
deadline 900
source=$1
build=$2
shift 3
compiler=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$source/tools/package" --no-install --no-lintian --build "$build" --output "$work/packages" >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "tools/package"; }
cd "$work/packages" || exit 1

# unpack ROOT PACKAGE...: also that every package which is asked for is one.
unpack() {
    local root=$1 package
    shift
    for package; do dpkg -x "$package"_*.deb "$root" || fail "there is no package $package"; done
}
runtime=(libweft[0-9]* libweft-coro[0-9]*)
unpack "$work/runtime" "${runtime[@]%%_*}"
unpack "$work/root" "${runtime[@]%%_*}" libweft-dev libweft-coro-dev weft-tools weft-doc
if find "$work/runtime" -type f ! -path '*/doc/*' | grep -v '/libweft[^/]*\.so\.[0-9.]*$'; then
    fail "the packages of the libraries hold something else"
fi
packed=$(find "$work/root" -name libweft.so)
[ -n "$packed" ] || fail "libweft-dev holds no libweft.so"
libraries=$(dirname "$packed")
grep -rl -e "$work" -e "$build" "$work/root/usr/include" "$libraries/pkgconfig" "$libraries/cmake" &&
    fail "packages name folders of this machine"

# The program depends on no library of weft; it and its manual tell the same options.
"$work/root/usr/bin/weft" --version | grep -q '^weft [0-9]' || fail "weft does not tell its version"
options() { grep -oE -e '--[a-z][a-z-]+' | sort -u; }
for command in echo load; do "$work/root/usr/bin/weft" "$command" --help; done | options >"$work/told"
zcat "$work/root/usr/share/man/man1/weft.1.gz" | sed 's/\\-/-/g' | options | grep -v '^--version$' >"$work/written"
diff "$work/told" "$work/written" || fail "the options of weft (<) and of its manual (>) are not the same"
[ -e "$work/root/usr/share/doc/weft-doc/html/index.html" ] || fail "weft-doc holds no pages"

export PKG_CONFIG_PATH=$libraries/pkgconfig
for package in weft weft-coro; do
    name=echo
    [ $package = weft ] || name=coro
    "${compiler[@]}" -std=c++20 -Wall -Wextra -Werror "$here/$name.cpp" -o "$work/$name" \
        $(pkg-config --cflags --libs $package) || fail "$name.cpp does not build with the packages"
    # Packages leave finding the libraries to the system.
    if readelf -d "$work/$name" | grep -E 'R(UN)?PATH'; then fail "$package.pc of a package names a RUNPATH"; fi
    LD_LIBRARY_PATH=$libraries echoes "$work/$name"
done
if command -v cmake >/dev/null; then
    CXX=${compiler[*]} cmake -G Ninja -S "$here/cmake" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/root/usr" \
        -DWITH_CORO=ON >"$work/log" 2>&1 && ninja -C "$work/cmake" >>"$work/log" 2>&1 ||
        { cat "$work/log"; fail "the project does not build with CMake and the packages"; }
    echoes "$work/cmake/coro"
fi
ls
