//! Looking at all members, and whether they agree.
//!
//! Invariant: a snapshot is taken only after every member that answered had the same hash at the
//! same revision; who did not answer is named.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;

use crate::client::{Client, Connection, HashKvResponse, Member, StatusResponse};
use crate::document::{CLUSTER_VERSION, ClusterRecord, MemberRecord};
use crate::error::{EtcdError, chain};

/// How often the alarms are asked for: a request that a leader took with it ends with a time limit
/// of the server's, and the next one finds the new leader.
const ALARM_TRIES_MAX: usize = 3;

/// How often members are asked again while one of them is compacting.
const ATTEMPTS_MAX: u32 = 8;
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// The revision that means the newest.
const PRESENT: i64 = 0;

const ALARM_NO_SPACE: i32 = 1;
const ALARM_CORRUPT: i32 = 2;

/// A member that answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it was reached.
    pub connection: Connection,
    /// What it said.
    pub status: StatusResponse,
}

/// What was seen of a cluster.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The cluster's id.
    pub cluster: u64,
    /// All members, in order of ids.
    pub members: Vec<Member>,
    /// Those that answered, by id.
    pub answers: BTreeMap<u64, Answer>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// Why no snapshot may be taken: a member is known to be corrupt.
    pub corrupt: Option<String>,
}

/// That members agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// At which revision.
    pub revision: i64,
    /// The hash of the history up to it.
    pub hash: u32,
    /// How many members have it.
    pub members: usize,
}

/// Why no agreement was found.
#[derive(Debug, thiserror::Error)]
pub enum Disagreement {
    /// A member could not be asked.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Histories differ: at least one member's is wrong.
    #[error(
        "the members' histories differ at revision {revision} ({}): at least one is corrupt, and a \
         snapshot of it would be as well", .hashes.join(", ")
    )]
    Differ {
        /// Where they were compared.
        revision: i64,
        /// `cp1: 2f3a…` each.
        hashes: Vec<String>,
    },
    /// They never stood still together.
    #[error("the members compacted at different times in each of {ATTEMPTS_MAX} rounds")]
    NeverAligned,
}

/// Asks every member how it is.
///
/// # Errors
/// None of the endpoints answers, or they are of different clusters.
pub fn survey(
    client: &Client,
    name: &str,
    endpoints: &[String],
    cancel: &Cancel,
) -> Result<Survey, EtcdError> {
    let mut answers = BTreeMap::new();
    let mut first_error = None;
    let mut findings = Vec::new();
    for endpoint in endpoints {
        let connection = client.connection(endpoint)?;
        match client.status(&connection, cancel) {
            Ok(status) => {
                let member = status.header.unwrap_or_default().member_id;
                answers
                    .entry(member)
                    .or_insert(Answer { connection, status });
            }
            Err(EtcdError::Cancelled) => return Err(EtcdError::Cancelled),
            Err(error) => {
                let message = format!("does not answer: {}", chain(&error));
                findings.push(Finding::warning(endpoint, message));
                first_error.get_or_insert(error);
            }
        }
    }
    let Some(first) = answers.values().next() else {
        return Err(first_error.unwrap_or(EtcdError::NoEndpoint));
    };
    let cluster = first.status.header.unwrap_or_default().cluster_id;
    let mut members = client.members(&first.connection, cancel)?;
    members.sort_by_key(|member| member.id);
    // Asked through the log, so without a leader nobody knows.
    let mut asked = client.alarms(&first.connection, cancel);
    for _ in 1..ALARM_TRIES_MAX {
        let is_leaderless = first.status.leader == 0;
        if is_leaderless || matches!(asked, Ok(_) | Err(EtcdError::Cancelled)) {
            break;
        }
        asked = client.alarms(&first.connection, cancel);
    }
    let alarms = match asked {
        Ok(alarms) => alarms,
        Err(EtcdError::Cancelled) => return Err(EtcdError::Cancelled),
        Err(error) => {
            let message = format!("its alarms are not known: {}", chain(&error));
            findings.push(Finding::warning(name, message));
            Vec::new()
        }
    };
    for member in &members {
        let Entry::Vacant(place) = answers.entry(member.id) else {
            continue;
        };
        match ask(client, member, cancel)? {
            Some(answer) => drop(place.insert(answer)),
            None => findings.push(Finding::warning(
                name,
                format!(
                    "the member {} did not answer: its history is not compared",
                    title(member)
                ),
            )),
        }
    }
    let mut survey = Survey {
        cluster,
        members,
        answers,
        findings,
        corrupt: None,
    };
    survey.states(name);
    for alarm in alarms {
        survey.alarm(name, alarm.member_id, alarm.alarm);
    }
    Ok(survey)
}

/// Asks a member at the addresses that it gives to clients.
fn ask(client: &Client, member: &Member, cancel: &Cancel) -> Result<Option<Answer>, EtcdError> {
    for url in &member.client_urls {
        let Ok(connection) = client.connection(url) else {
            continue;
        };
        match client.status(&connection, cancel) {
            // 127.0.0.1 may be another member than the one that says so.
            Ok(status) if status.header.unwrap_or_default().member_id == member.id => {
                return Ok(Some(Answer { connection, status }));
            }
            Ok(_) => {}
            Err(EtcdError::Cancelled) => return Err(EtcdError::Cancelled),
            // Not answering is the finding; each address' reason would only repeat it.
            Err(_unreachable) => {}
        }
    }
    Ok(None)
}

impl Survey {
    fn states(&mut self, name: &str) {
        for answer in self.answers.values() {
            let header = answer.status.header.unwrap_or_default();
            let endpoint = &answer.connection.endpoint;
            if header.cluster_id != self.cluster {
                self.corrupt = Some(format!("{endpoint} belongs to another cluster"));
            }
            if answer.status.leader == 0 {
                self.findings.push(Finding::warning(
                    name,
                    format!("{endpoint} knows no leader: the newest writes may be missing"),
                ));
            }
            if answer.status.is_learner {
                self.findings.push(Finding::note(
                    name,
                    format!("{endpoint} is a learner: no snapshot is taken of it"),
                ));
            }
        }
    }

    fn alarm(&mut self, name: &str, member: u64, alarm: i32) {
        let known = self.members.iter().find(|m| m.id == member);
        let who = known.map_or_else(|| format!("{member:x}"), title);
        let finding = match alarm {
            ALARM_NO_SPACE => Finding::warning(
                name,
                format!(
                    "{who} raised NOSPACE: the cluster takes no writes until it is compacted, \
                     defragmented and disarmed"
                ),
            ),
            ALARM_CORRUPT => {
                self.corrupt = Some(format!("{who} raised CORRUPT"));
                Finding::error(
                    name,
                    format!("{who} raised CORRUPT: its history is not that of the others"),
                )
            }
            other => Finding::warning(name, format!("{who} raised alarm {other}")),
        };
        self.findings.push(finding);
    }

    /// Compares the histories of all members that answered.
    ///
    /// # Errors
    /// They differ, or one cannot be asked.
    pub fn agree(&self, client: &Client, cancel: &Cancel) -> Result<Agreement, Disagreement> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(agreement) = self.compare(client, cancel)? {
                return Ok(agreement);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Disagreement::NeverAligned)
    }

    fn revisions(&self, client: &Client, cancel: &Cancel) -> Result<Vec<i64>, EtcdError> {
        let statuses = self.answers.values();
        statuses
            .map(|answer| {
                let status = client.status(&answer.connection, cancel)?;
                Ok(status.header.unwrap_or_default().revision)
            })
            .collect()
    }

    fn hashes(
        &self,
        client: &Client,
        revision: i64,
        cancel: &Cancel,
    ) -> Result<Vec<(String, HashKvResponse)>, EtcdError> {
        let hash = |(id, answer): (&u64, &Answer)| {
            let hash = client.hash_kv(&answer.connection, revision, cancel)?;
            Ok((self.title(*id), hash))
        };
        self.answers.iter().map(hash).collect()
    }

    fn compare(&self, client: &Client, cancel: &Cancel) -> Result<Option<Agreement>, Disagreement> {
        // What every member has applied already.
        let revisions = self.revisions(client, cancel)?;
        let revision = revisions.iter().min().copied().unwrap_or_default();
        let answers = match self.hashes(client, revision, cancel) {
            Ok(answers) => answers,
            // Compacted up to its end, as after a restore: only the present can be compared, which
            // is the same for all if none of them moves meanwhile.
            Err(error) if error.is_out_of_range() => {
                let answers = self.hashes(client, PRESENT, cancel)?;
                let stand_still = self.revisions(client, cancel)? == revisions
                    && revisions.iter().all(|r| *r == revision);
                if !stand_still {
                    return Ok(None);
                }
                answers
            }
            Err(error) => return Err(error.into()),
        };
        let Some((_, first)) = answers.first() else {
            return Ok(None);
        };
        let aligned = |h: &HashKvResponse| h.compact_revision == first.compact_revision;
        if !answers.iter().all(|(_, hash)| aligned(hash)) {
            return Ok(None);
        }
        if answers.iter().any(|(_, hash)| hash.hash != first.hash) {
            let hashes = answers.iter();
            let hashes = hashes.map(|(who, hash)| format!("{who}: {:08x}", hash.hash));
            return Err(Disagreement::Differ {
                revision,
                hashes: hashes.collect(),
            });
        }
        Ok(Some(Agreement {
            revision,
            hash: first.hash,
            members: answers.len(),
        }))
    }

    /// Whom to take a snapshot of, best first: voters, followers before the leader, the most
    /// advanced first.
    #[must_use]
    pub fn candidates(&self) -> Vec<&Answer> {
        let mut voters: Vec<(u64, &Answer)> = self
            .answers
            .iter()
            .filter(|(_, answer)| !answer.status.is_learner)
            .map(|(id, answer)| (*id, answer))
            .collect();
        voters.sort_by_key(|(id, answer)| {
            let status = &answer.status;
            (status.leader == *id, u64::MAX - status.raft_applied_index)
        });
        voters.into_iter().map(|(_, answer)| answer).collect()
    }

    /// The cluster as a document.
    #[must_use]
    pub fn record(&self) -> ClusterRecord {
        let members = self.members.iter().map(|member| MemberRecord {
            id: format!("{:x}", member.id),
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            learner: member.is_learner,
            etcd: self
                .answers
                .get(&member.id)
                .map_or_else(String::new, |answer| answer.status.version.clone()),
        });
        ClusterRecord {
            version: CLUSTER_VERSION,
            cluster: format!("{:x}", self.cluster),
            members: members.collect(),
        }
    }

    /// What people call a member.
    #[must_use]
    pub fn title(&self, id: u64) -> String {
        let member = self.members.iter().find(|member| member.id == id);
        member.map_or_else(|| format!("{id:x}"), title)
    }
}

fn title(member: &Member) -> String {
    match member.name.as_str() {
        "" => format!("{:x}", member.id),
        name => name.to_owned(),
    }
}
