//! The cluster that a snapshot comes back as: new identities, derived as etcd derives them.
//!
//! A member's id is the first eight bytes of SHA-1 over its sorted peer URLs and the cluster's
//! token, a cluster's that of its members' sorted ids, big-endian. So every member that is
//! restored on its own machine with the same arguments belongs to the same cluster.
//!
//! Invariant: members are sorted by id, and no two have an id, a name or a URL in common.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Serialize;

/// A member to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMember {
    /// Its name: etcd's `--name`.
    pub name: String,
    /// Where the others reach it, sorted.
    pub peer_urls: Vec<String>,
}

/// A cluster to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewCluster {
    id: u64,
    members: Vec<(u64, NewMember)>,
}

/// What a member list cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is nobody.
    #[error("a cluster needs a member")]
    Empty,
    /// Not `NAME=URL`.
    #[error("{0:?} is no member: write NAME=URL, for example cp1=https://10.0.0.1:2380")]
    Form(String),
    /// A URL that etcd would not take.
    #[error("{0:?} is no peer URL: write https://HOST:PORT")]
    Url(String),
    /// Used twice.
    #[error("{0:?} is used by two members")]
    Twice(String),
    /// Not in the list.
    #[error("no member is called {name:?}; there are {}", .known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
}

/// A member as etcd writes it into its log and its database.
#[derive(Serialize)]
struct MemberRecord<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    name: &'a str,
}

impl NewCluster {
    /// A cluster of these members.
    ///
    /// # Errors
    /// There are none, or two share something.
    pub fn new(members: Vec<NewMember>, token: &str) -> Result<Self, ClusterError> {
        if members.is_empty() {
            return Err(ClusterError::Empty);
        }
        let mut seen = BTreeSet::new();
        let mut identified = Vec::new();
        for mut member in members {
            member.peer_urls.sort();
            for unique in member.peer_urls.iter().chain([&member.name]) {
                if !seen.insert(unique.clone()) {
                    return Err(ClusterError::Twice(unique.clone()));
                }
            }
            for url in &member.peer_urls {
                check_url(url)?;
            }
            let text = member.peer_urls.concat() + token;
            identified.push((short_hash(text.as_bytes()), member));
        }
        identified.sort_by_key(|(id, _)| *id);
        let ids: Vec<u8> = identified
            .iter()
            .flat_map(|(id, _)| id.to_be_bytes())
            .collect();
        Ok(Self {
            id: short_hash(&ids),
            members: identified,
        })
    }

    /// Reads `NAME=URL`; a name given again has several URLs.
    ///
    /// # Errors
    /// One is not of that form, or [`NewCluster::new`] refuses them.
    pub fn parse<'a>(
        members: impl IntoIterator<Item = &'a str>,
        token: &str,
    ) -> Result<Self, ClusterError> {
        let mut list: Vec<NewMember> = Vec::new();
        for text in members {
            let (name, url) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| ClusterError::Form(text.to_owned()))?;
            let url = url.to_owned();
            match list.iter_mut().find(|member| member.name == name) {
                Some(member) => member.peer_urls.push(url),
                None => list.push(NewMember {
                    name: name.to_owned(),
                    peer_urls: vec![url],
                }),
            }
        }
        Self::new(list, token)
    }

    /// The cluster's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The members with their ids, in order of these.
    #[must_use]
    pub fn members(&self) -> &[(u64, NewMember)] {
        &self.members
    }

    /// The id of the member of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn member(&self, name: &str) -> Result<u64, ClusterError> {
        let mut members = self.members.iter();
        let found = members.find(|(_, member)| member.name == name);
        found
            .map(|(id, _)| *id)
            .ok_or_else(|| ClusterError::Unknown {
                name: name.to_owned(),
                known: self.members.iter().map(|(_, m)| m.name.clone()).collect(),
            })
    }

    /// etcd's `--initial-cluster`.
    #[must_use]
    pub fn initial_cluster(&self) -> String {
        let each = self.members.iter().flat_map(|(_, member)| {
            let name = &member.name;
            member
                .peer_urls
                .iter()
                .map(move |url| format!("{name}={url}"))
        });
        each.collect::<Vec<_>>().join(",")
    }
}

/// A member's record in JSON.
pub fn member_json(id: u64, member: &NewMember) -> String {
    let record = MemberRecord {
        id,
        peer_urls: &member.peer_urls,
        name: &member.name,
    };
    // Strings and numbers: it cannot fail.
    serde_json::to_string(&record).unwrap_or_default()
}

fn check_url(url: &str) -> Result<(), ClusterError> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let port = rest
        .and_then(|rest| rest.rsplit_once(':'))
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| ())
        .ok_or_else(|| ClusterError::Url(url.to_owned()))
}

fn short_hash(bytes: &[u8]) -> u64 {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    crate::bytes::u64_be_at(hash.as_ref(), 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids are those that `etcdctl snapshot restore` 3.4.23 gave to the same arguments.
    #[test]
    fn ids_are_those_that_etcd_gives() {
        let cluster = NewCluster::parse(
            ["n1=http://10.0.0.1:2380", "n2=http://10.0.0.2:2380"],
            "tok",
        )
        .unwrap();
        assert_eq!(cluster.id(), 0x0892_7b54_829f_97ce);
        assert_eq!(cluster.member("n1"), Ok(0x9852_1e8c_6c48_c6da));
        assert_eq!(cluster.member("n2"), Ok(0x61b0_46c1_789d_11d8));
        let names: Vec<_> = cluster.members().iter().map(|(_, m)| &m.name).collect();
        assert_eq!(names, ["n2", "n1"]);
    }

    #[test]
    fn what_etcd_would_not_start_with_is_refused() {
        for (members, expected) in [
            (vec![], ClusterError::Empty),
            (vec!["http://a:1"], ClusterError::Form("http://a:1".into())),
            (vec!["a=b:1"], ClusterError::Url("b:1".into())),
            (vec!["a=https://b"], ClusterError::Url("https://b".into())),
            (
                vec!["a=http://h:1", "b=http://h:1"],
                ClusterError::Twice("http://h:1".into()),
            ),
            (
                vec!["a=http://h:1", "a=http://h:1"],
                ClusterError::Twice("http://h:1".into()),
            ),
        ] {
            assert_eq!(NewCluster::parse(members, "t"), Err(expected));
        }
    }
}
