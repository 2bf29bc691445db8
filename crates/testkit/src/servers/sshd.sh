# OpenSSH for one user with one key, SFTP only. Arguments: port, the user's name.
source "$(dirname "$0")/supervisor.sh"
port=$1 user=$2
mkdir -p "$folder/ssh" /run/sshd
ssh-keygen -q -t ed25519 -N '' -f "$folder/ssh/host"
ssh-keygen -q -t ed25519 -N '' -f "$folder/ssh/id"
cp "$folder/ssh/id.pub" "$folder/ssh/authorized"
echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$folder/ssh/host.pub")" >"$folder/ssh/known"
cat >"$folder/ssh/sshd_config" <<CONF
ListenAddress 127.0.0.1:$port
HostKey $folder/ssh/host
PidFile $folder/ssh/pid
AuthorizedKeysFile $folder/ssh/authorized
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
AllowUsers $user
PermitRootLogin prohibit-password
MaxStartups 100
Subsystem sftp internal-sftp
ForceCommand internal-sftp
CONF
cat >"$folder/ssh/config" <<CONF
Host *
    IdentityFile $folder/ssh/id
    IdentitiesOnly yes
    UserKnownHostsFile $folder/ssh/known
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
CONF
start /usr/sbin/sshd -D -e -f "$folder/ssh/sshd_config"
await "$port"
ready
