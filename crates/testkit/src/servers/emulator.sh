# An emulator that a package index has. Arguments: port, program, its arguments.
source "$(dirname "$0")/supervisor.sh"
port=$1
shift
cd "$folder"
start "$@"
await "$port"
ready
