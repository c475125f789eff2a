# Sourced by scripts that are tests, in any shell: deadline SECONDS [PURPOSE] says after that time which programs the script
# waits for, and ends them, over and over until the script has ended.
deadline() {
    seconds=${WEFT_CASE_DEADLINE:-$1}
    [ "$seconds" = 0 ] && return
    (
        exec 0</dev/null 3>&- 4>&- 9>&-
        waited=0
        while [ "$waited" -lt "$seconds" ]; do
            sleep 1
            kill -0 $$ 2>/dev/null || exit 0
            waited=$((waited + 1))
        done
        echo "STUCK: $0 has not ended after $seconds s; it waits for"
        ps -o pid=,etimes=,wchan=,args= --ppid $$
        while kill -0 $$ 2>/dev/null; do
            for child in $(ps -o pid=,args= --ppid $$ | grep -v "$0" | awk '{ print $1 }'); do
                ps -o pid=,etimes=,wchan=,args= --ppid "$child"
                kill "$child" 2>/dev/null
            done
            sleep 1
        done
    ) &
}
