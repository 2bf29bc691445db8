# rclone as a REST server for restic or as a WebDAV server, over memory or a folder.
# Arguments: protocol, port, remote, more flags. A user and a password come from the environment.
source "$(dirname "$0")/supervisor.sh"
protocol=$1 port=$2 remote=$3
shift 3
start rclone serve "$protocol" --config "$folder/rclone.conf" --addr "127.0.0.1:$port" "$@" "$remote"
await "$port"
ready
