# Apache with mod_dav below one folder, for one user. Arguments: port, name, password's hash.
source "$(dirname "$0")/supervisor.sh"
port=$1 user=$2 hash=$3
modules=/usr/lib/apache2/modules
mkdir -p "$folder/dav" "$folder/run"
chmod 0777 "$folder" "$folder/dav" "$folder/run"
printf '%s:%s\n' "$user" "$hash" >"$folder/users"
cat >"$folder/apache.conf" <<CONF
ServerRoot $folder
ServerName localhost
Listen 127.0.0.1:$port
PidFile $folder/run/pid
ErrorLog $folder/log
Mutex file:$folder/run
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authn_core_module $modules/mod_authn_core.so
LoadModule authn_file_module $modules/mod_authn_file.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule authz_user_module $modules/mod_authz_user.so
LoadModule auth_basic_module $modules/mod_auth_basic.so
LoadModule dav_module $modules/mod_dav.so
LoadModule dav_fs_module $modules/mod_dav_fs.so
User www-data
Group www-data
DocumentRoot $folder/dav
DavLockDB $folder/run/DavLock
<Directory $folder/dav>
    Dav On
    AuthType Basic
    AuthName dav
    AuthUserFile $folder/users
    Require valid-user
</Directory>
CONF
start apache2 -f "$folder/apache.conf" -DFOREGROUND
await "$port"
ready
