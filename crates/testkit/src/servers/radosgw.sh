# Ceph's S3 server with one monitor and one store in memory.
# Arguments: three ports (two of the monitor, the server's), then pairs of access and secret keys.
source "$(dirname "$0")/supervisor.sh"
mon2=$1 mon1=$2 port=$3
shift 3
# Daemons refuse to run as root without a name of their own.
mkdir -p "$folder"/{run,log.d,mon,osd,rgw}
fsid=$(cat /proc/sys/kernel/random/uuid)
osd=$(cat /proc/sys/kernel/random/uuid)
cat >"$folder/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:$mon2,v1:127.0.0.1:$mon1]
keyring = $folder/keyring
public_addr = 127.0.0.1
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 2
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 2147483648
run_dir = $folder/run
admin_socket = $folder/run/\$name.\$pid.asok
log_file = $folder/log.d/\$name.log
mon_data_avail_crit = 1
mon_data_avail_warn = 2
# Usually a second passes between two changes of the map, and there are a dozen.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[mon.a]
mon_data = $folder/mon
[osd.0]
osd_data = $folder/osd
[client.rgw]
rgw_data = $folder/rgw
rgw_frontends = beast endpoint=127.0.0.1:$port
CONF
export CEPH_CONF=$folder/ceph.conf
key() { ceph-authtool "$folder/keyring" --gen-key -n "$@" >/dev/null; }
ceph-authtool "$folder/keyring" --create-keyring >/dev/null
key mon. --cap mon 'allow *'
key client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
key client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon2,v1:127.0.0.1:$mon1]" \
    "$folder/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/keyring" >>"$folder/log" 2>&1
start ceph-mon -i a -f
ceph osd new "$osd" >>"$folder/log" 2>&1
ceph auth import -i "$folder/keyring" >>"$folder/log" 2>&1
ceph-osd -i 0 --mkfs --osd-uuid "$osd" >>"$folder/log" 2>&1
start ceph-osd -i 0 -f
# Before the server: it would be told of each user, and may not answer for half a minute while it starts.
number=0
while [ $# -gt 0 ]; do
    radosgw-admin -n client.rgw user create --uid="user$number" --display-name="user$number" \
        --access-key="$1" --secret-key="$2" >>"$folder/log" 2>&1
    number=$((number + 1))
    shift 2
done
start radosgw -n client.rgw -f
await "$port"
ready
