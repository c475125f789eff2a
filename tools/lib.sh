# Shared by tools/check and tools/demo, which source it: messages, packages, building. For bash.

# Lines of progress, with the seconds since the start. SECONDS is bash's own clock.
say() { printf '%4ds  %s\n' "$SECONDS" "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The packages of Debian 12 that a build needs, those that only the tests need, and those that
# tools/package needs.
build_packages=(g++ meson ninja-build pkg-config libspdlog-dev libcli11-dev catch2)
coro_packages=(libboost-context-dev)
test_packages=(python3 clang-format-16 cmake doxygen abigail-tools debhelper dpkg-dev chrpath strace valgrind socat netcat-openbsd util-linux procps)
package_packages=(python3 debhelper dpkg-dev chrpath doxygen lintian)

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt_run() { # LOG ARGUMENT...
    local log=$1
    shift
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -qq "$@" >>"$log" 2>&1 </dev/null
}

# install_packages PACKAGE...: installs what is missing, and asks for the lists only if it has to.
install_packages() {
    local package missing=() as_root=() log
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "no apt-get here; taking for granted what it would install: $*"
        return
    fi
    for package; do installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            die "not root and no sudo; run as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    log=$(mktemp)
    if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null ||
        ! apt_run "$log" install --no-install-recommends "${missing[@]}"; then
        apt_run "$log" update
        if ! apt_run "$log" install --no-install-recommends "${missing[@]}"; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            die "apt-get could not install ${missing[*]}"
        fi
    fi
    rm -f "$log"
}

# What ninja says, as a count that moves on a terminal, and as one line per quarter elsewhere. A loop of the
# shell's, because Debian's awk waits for more input before it says anything.
show_progress() {
    local line done_ total quarter=0
    while IFS= read -r line; do
        [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
        done_=${BASH_REMATCH[1]} total=${BASH_REMATCH[2]}
        if [ -t 1 ]; then
            printf '\r       %d of %d ' "$done_" "$total"
        elif [ $((4 * done_ / total)) -gt $quarter ]; then
            quarter=$((4 * done_ / total))
            say "$done_ of $total"
        fi
    done
    [ ! -t 1 ] || printf '\r\033[K'
}

# build FOLDER SETUP-OPTION...: configures FOLDER if it is not yet, and builds it. The log is FOLDER/build.log.
build() {
    local folder=$1 log=$1/build.log
    shift
    mkdir -p "$folder"
    : >"$log"
    # A folder that was left half configured is started over.
    if [ ! -f "$folder/build.ninja" ] || [ ! -f "$folder/meson-info/meson-info.json" ]; then
        meson setup "$@" "$folder" >>"$log" 2>&1 || return
    fi
    ninja -C "$folder" 2>&1 | tee -a "$log" | show_progress
    return "${PIPESTATUS[0]}"
}

# What failed first in the build of FOLDER, or the end of its log if nothing says so.
show_failure() { grep -m 1 -A 40 '^FAILED' "$1/build.log" || tail -n 40 "$1/build.log"; }
