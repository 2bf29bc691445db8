#!/bin/bash
# Runs one container engine on a "machine" of its own: own folder, own network namespace, own
# control groups, so that several engines and whatever the user runs do not meet.
#
# usage: engine.sh FOLDER docker|podman [OPTION…]
#
# It runs until the engine ends, TERM arrives, or standard input closes, which also happens when
# whoever started it dies; then the engine, its containers and its mounts are gone. FOLDER stays.
# Files in FOLDER: sock (the API), pid (the engine), netns (for nsenter --net=), log, data/.
set -uo pipefail

folder=$1 kind=$2
shift 2
group=refloat/$(basename "$folder")
mkdir -p "$folder/data" "$folder/exec"

case $kind in
docker)
    engine=(dockerd --data-root "$folder/data" --exec-root "$folder/exec"
        --pidfile "$folder/dockerd.pid" --host "unix://$folder/sock"
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$group"
        --config-file "$folder/daemon.json" --shutdown-timeout 3 "$@")
    [ -e "$folder/daemon.json" ] || echo '{}' >"$folder/daemon.json"
    ;;
podman)
    mkdir -p "$folder/net"
    # Podman asks for more open files than a machine without CAP_SYS_RESOURCE grants: a runtime
    # that leaves the limits as they are (runc: crun refuses mixed control groups v1 and v2).
    cat >"$folder/runc" <<'EOF'
#!/bin/sh
[ -e config.json ] && bundle=. || bundle=$(printf '%s\n' "$@" | sed -n '/^--bundle$/{n;p}')
[ -e "$bundle/config.json" ] && sed -i 's/"rlimits":\[[^]]*\]/"rlimits":[]/' "$bundle/config.json"
exec runc "$@"
EOF
    chmod +x "$folder/runc"
    podman=(podman --root "$folder/data" --runroot "$folder/exec" --tmpdir "$folder/exec/tmp"
        --volumepath "$folder/data/volumes" --network-config-dir "$folder/net"
        --cgroup-manager cgroupfs --events-backend file --runtime "$folder/runc")
    engine=("${podman[@]}" "$@" system service --time 0 "unix://$folder/sock")
    ;;
*)
    echo "unknown engine $kind" >&2
    exit 2
    ;;
esac

# The namespace is kept by a bind mount, so that it outlives the engine while we clean up.
: >"$folder/netns"
unshare --net="$folder/netns" ip link set lo up || exit 1
nsenter --net="$folder/netns" "${engine[@]}" >"$folder/log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$folder/pid"

# Containers are known by their control groups. Nobody needs what they would do at a polite end,
# and the engine would wait 10 s for each that ignores TERM.
kill_containers() {
    find /sys/fs/cgroup -path "*/$group/*" -name cgroup.procs -exec cat {} + 2>/dev/null |
        sort -u | xargs -r kill -KILL 2>/dev/null
}

stop() {
    if [ "$kind" = podman ]; then
        nsenter --net="$folder/netns" "${podman[@]}" rm --all --force --time 0 >>"$folder/log" 2>&1
    fi
    kill -TERM "$pid" 2>/dev/null
    sleep 0.1
    kill_containers
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return
        sleep 0.2
    done
    kill -KILL "$pid" 2>/dev/null
}
trap stop TERM INT HUP

exec 3<&0
(cat <&3 >/dev/null; kill -TERM $$ 2>/dev/null) &
watcher=$!
exec 3<&-

wait "$pid"
while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
status=$?
trap '' TERM INT HUP
kill "$watcher" 2>/dev/null

# Left over only if the engine was killed: containers, and its containerd, known by its pid file.
kill_containers
containerd=$(cat "$folder/exec/containerd/containerd.pid" 2>/dev/null)
if [ -n "$containerd" ] && grep -qs "$folder" "/proc/$containerd/cmdline"; then
    kill -KILL "$containerd"
fi
awk -v folder="$folder/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | sort -ru |
    while read -r mount; do umount -l "$mount" 2>/dev/null; done
find /sys/fs/cgroup -depth -type d \( -path "*/$group" -o -path "*/$group/*" \) -exec rmdir {} + 2>/dev/null
exit "$status"
