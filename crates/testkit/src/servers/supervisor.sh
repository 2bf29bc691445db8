# Runs servers below one folder until standard input ends, and ends them by the pids it recorded.
# Sourced by the script of each server, with the folder as its first argument.
set -euo pipefail
folder=$1
shift
pids=()

# Starts a server; its output goes to the log.
start() {
    "$@" >>"$folder/log" 2>&1 </dev/null &
    pids+=($!)
}

stop() {
    trap - EXIT
    set +e
    if [ ${#pids[@]} -gt 0 ]; then
        kill -TERM "${pids[@]}" 2>/dev/null
        for _ in $(seq 30); do
            kill -0 "${pids[@]}" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "${pids[@]}" 2>/dev/null
        wait
    fi
}
trap stop EXIT

# Waits until a port of this machine is open.
await() {
    for _ in $(seq 900); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    echo "port $1 does not open" >>"$folder/log"
    exit 1
}

# Tells that the servers can be used, and waits for the end.
ready() {
    echo ready
    cat >/dev/null
}
