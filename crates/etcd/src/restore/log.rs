//! A new member's raft log and its first raft snapshot: who is in the cluster, and nothing else.
//!
//! A log file is records `length u64 little-endian · walpb.Record · zeros to eight bytes`; where
//! there are zeros, the length's top byte is `0x80 |` their number. Each record carries the
//! CRC-32C of the data of all records so far. The file `.snap` is `snappb.Snapshot {crc, data}`.
//!
//! Invariant: equal to what `etcdutl snapshot restore` writes, byte for byte; a test compares.

use super::cluster::{NewCluster, member_json};
use crate::crc::crc32c;
use crate::wire::{push_bytes, push_varint};

/// The one term of the new log.
pub const TERM: u64 = 1;
/// etcd makes log files this long beforehand.
pub const LOG_BYTES: u64 = 64_000_000;
/// The name of a log's first file.
pub const LOG_NAME: &str = "0000000000000000-0000000000000000.wal";
/// Events that etcd's version 2 store keeps.
const EVENTS: usize = 1000;

const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const STATE: u64 = 3;
const CRC: u64 = 4;
const SNAPSHOT: u64 = 5;
/// `raftpb.EntryConfChange`.
const CONF_CHANGE: u64 = 1;

/// The content of a member's log file, without the zeros behind it.
pub fn log(cluster: &NewCluster, own_id: u64) -> Vec<u8> {
    let mut log = Log::default();
    log.record(CRC, None);
    let mut metadata = Vec::new();
    push_varint(&mut metadata, 1, own_id);
    push_varint(&mut metadata, 2, cluster.id());
    log.record(METADATA, Some(&metadata));
    log.record(SNAPSHOT, Some(&snapshot_record(0, 0, None)));
    for (index, (id, member)) in (1..).zip(cluster.members()) {
        let mut change = Vec::new();
        push_varint(&mut change, 1, 0);
        push_varint(&mut change, 2, 0);
        push_varint(&mut change, 3, *id);
        push_bytes(&mut change, 4, member_json(*id, member).as_bytes());
        let mut entry = Vec::new();
        push_varint(&mut entry, 1, CONF_CHANGE);
        push_varint(&mut entry, 2, TERM);
        push_varint(&mut entry, 3, index);
        push_bytes(&mut entry, 4, &change);
        log.record(ENTRY, Some(&entry));
    }
    let mut state = Vec::new();
    push_varint(&mut state, 1, TERM);
    push_varint(
        &mut state,
        2,
        cluster.members().first().map_or(0, |(id, _)| *id),
    );
    push_varint(&mut state, 3, last_index(cluster));
    log.record(STATE, Some(&state));
    let voters = conf_state(cluster);
    let at_end = snapshot_record(last_index(cluster), TERM, Some(&voters));
    log.record(SNAPSHOT, Some(&at_end));
    log.bytes
}

/// The index of the log's last entry.
pub fn last_index(cluster: &NewCluster) -> u64 {
    cluster.members().len() as u64
}

/// The name of the raft snapshot's file.
pub fn snapshot_name(cluster: &NewCluster) -> String {
    format!("{TERM:016x}-{:016x}.snap", last_index(cluster))
}

/// The content of the raft snapshot's file.
pub fn snapshot(cluster: &NewCluster) -> Vec<u8> {
    let mut metadata = Vec::new();
    push_bytes(&mut metadata, 1, &conf_state(cluster));
    push_varint(&mut metadata, 2, last_index(cluster));
    push_varint(&mut metadata, 3, TERM);
    let mut snapshot = Vec::new();
    push_bytes(&mut snapshot, 1, version_2_store(cluster).as_bytes());
    push_bytes(&mut snapshot, 2, &metadata);
    let mut file = Vec::new();
    push_varint(&mut file, 1, crc32c(0, &snapshot).into());
    push_bytes(&mut file, 2, &snapshot);
    file
}

fn conf_state(cluster: &NewCluster) -> Vec<u8> {
    let mut state = Vec::new();
    for (id, _) in cluster.members() {
        push_varint(&mut state, 1, *id);
    }
    push_varint(&mut state, 5, 0);
    state
}

fn snapshot_record(index: u64, term: u64, conf_state: Option<&[u8]>) -> Vec<u8> {
    let mut record = Vec::new();
    push_varint(&mut record, 1, index);
    push_varint(&mut record, 2, term);
    if let Some(state) = conf_state {
        push_bytes(&mut record, 3, state);
    }
    record
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    crc: u32,
}

impl Log {
    fn record(&mut self, kind: u64, data: Option<&[u8]>) {
        self.crc = crc32c(self.crc, data.unwrap_or_default());
        let mut record = Vec::new();
        push_varint(&mut record, 1, kind);
        push_varint(&mut record, 2, self.crc.into());
        if let Some(data) = data {
            push_bytes(&mut record, 3, data);
        }
        let length = record.len() as u64;
        let padding = length.next_multiple_of(8) - length;
        let marked = match padding {
            0 => length,
            padding => length | (0x80 | padding) << 56,
        };
        self.bytes.extend(marked.to_le_bytes());
        self.bytes.extend(&record);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
}

/// The state of etcd's version 2 store, in which servers up to 3.5 look up the members.
///
/// Written as text because the order of keys, and the thousand empty places of the ring of
/// events, are those that etcd writes.
fn version_2_store(cluster: &NewCluster) -> String {
    let count = cluster.members().len();
    let mut children: Vec<(String, String)> = Vec::new();
    let mut events = Vec::new();
    for (index, (id, member)) in (1_u64..).zip(cluster.members()) {
        let path = format!("/0/members/{id:x}");
        let urls = serde_json::json!({ "peerURLs": member.peer_urls }).to_string();
        let urls = serde_json::Value::String(urls).to_string();
        let leaf = node(&format!("{path}/raftAttributes"), index, &urls, "null");
        let below = format!("{{\"raftAttributes\":{leaf}}}");
        children.push((format!("{id:x}"), node(&path, index, "\"\"", &below)));
        events.push(format!(
            "{{\"action\":\"create\",\"node\":{{\"key\":\"{path}/raftAttributes\",\
             \"value\":{urls},\"modifiedIndex\":{index},\"createdIndex\":{index}}}}}"
        ));
    }
    children.sort();
    let children: Vec<String> = children
        .into_iter()
        .map(|(name, node)| format!("\"{name}\":{node}"))
        .collect();
    let members = node(
        "/0/members",
        1,
        "\"\"",
        &format!("{{{}}}", children.join(",")),
    );
    let zero = node("/0", 0, "\"\"", &format!("{{\"members\":{members}}}"));
    let one = node("/1", 0, "\"\"", "{}");
    let root = node("/", 0, "\"\"", &format!("{{\"0\":{zero},\"1\":{one}}}"));
    events.resize(EVENTS.max(count), "null".to_owned());
    let events = events.join(",");
    format!(
        "{{\"Root\":{root},\"WatcherHub\":{{\"EventHistory\":{{\"Queue\":{{\"Events\":[{events}],\
         \"Size\":{count},\"Front\":0,\"Back\":{count},\"Capacity\":{EVENTS}}},\"StartIndex\":1,\
         \"LastIndex\":{count}}}}},\"CurrentIndex\":{count},\"Stats\":{{\"getsSuccess\":0,\
         \"getsFail\":0,\"setsSuccess\":0,\"setsFail\":0,\"deleteSuccess\":0,\"deleteFail\":0,\
         \"updateSuccess\":0,\"updateFail\":0,\"createSuccess\":{count},\"createFail\":0,\
         \"compareAndSwapSuccess\":0,\"compareAndSwapFail\":0,\"compareAndDeleteSuccess\":0,\
         \"compareAndDeleteFail\":0,\"expireCount\":0,\"watchers\":0}},\"CurrentVersion\":2}}"
    )
}

fn node(path: &str, index: u64, value: &str, children: &str) -> String {
    format!(
        "{{\"Path\":\"{path}\",\"CreatedIndex\":{index},\"ModifiedIndex\":{index},\
         \"ExpireTime\":\"0001-01-01T00:00:00Z\",\"Value\":{value},\"Children\":{children}}}"
    )
}
