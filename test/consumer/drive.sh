# Sourced by the tests of this folder. For bash.

fail() {
    echo "FAIL: $*"
    exit 1
}

# echoes PROGRAM: starts it, sends a line to the port it prints, wants it back, and ends it with SIGTERM.
echoes() {
    local port line status server
    coproc "$1"
    server=$COPROC_PID
    read -r -t 20 port <&"${COPROC[0]}" || fail "$1 does not tell its port"
    exec 9<>"/dev/tcp/127.0.0.1/$port" || fail "$1 does not listen at port $port"
    echo "a line for $1" >&9
    read -r -t 20 line <&9 || fail "$1 does not answer"
    [ "$line" = "a line for $1" ] || fail "$1 answered '$line'"
    exec 9>&-
    kill -TERM "$server"
    wait "$server"
    status=$?
    [ $status = 0 ] || fail "$1 ended with status $status after SIGTERM"
    echo "$1 works"
}
