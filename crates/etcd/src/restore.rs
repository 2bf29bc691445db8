//! A snapshot brought back as the data folders of a new cluster.
//!
//! Each folder is what `etcdutl snapshot restore --bump-revision N --mark-compacted` leaves, of
//! which no packaged etcd has the options yet; `docs/adr/0011-etcd.md` says why we write it
//! ourselves. A server that starts on it knows the new cluster's members, holds every living key
//! and goes on at a revision that no client has seen.
//!
//! Invariant: a folder that holds anything is not touched, and a server finds nothing in one that
//! is not complete.

mod cluster;
mod database;
mod folder;
mod log;
mod runbook;

use std::path::{Path, PathBuf};
use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest, Step, StepOutcome};
use refloat_model::progress::Progress;
use refloat_model::tree_path::TreePath;
use refloat_source::{Description, StoredPoint, Target, TargetError};

use crate::document::{CLUSTER, ClusterRecord, SNAPSHOT, directory};
use crate::mvcc::Living;
use crate::spool;

pub use cluster::{ClusterError, NewCluster, NewMember};
pub use database::DatabaseError;
use folder::MemberFolder;

pub use folder::FolderError;

/// What etcd's documentation recommends to raise revisions by: more than a busy cluster writes in
/// weeks.
pub const BUMP_DEFAULT: u64 = 1_000_000_000;

/// How a snapshot is to come back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataFolderOptions {
    /// The data folder to be; with several members and no [`own_name`](Self::own_name), the folder
    /// that gets one data folder for each, by its name.
    pub folder: PathBuf,
    /// The new cluster's members, `NAME=URL` each; none for a cluster of the one member that the
    /// old one had.
    pub members: Vec<String>,
    /// The member whose folder this is; none for all of them.
    pub own_name: Option<String>,
    /// What keeps clusters with equal URLs apart; none for one derived from the point.
    pub token: Option<String>,
    /// How far the revision is raised.
    pub bump: u64,
}

/// Data folders to be, as a target.
#[derive(Debug)]
pub struct EtcdDataFolder {
    options: DataFolderOptions,
}

/// One planned restore.
struct Chosen {
    source: String,
    snapshot: TreePath,
    cluster: NewCluster,
    token: String,
    /// Member and folder.
    folders: Vec<(String, PathBuf)>,
}

impl EtcdDataFolder {
    /// A target that writes what `options` say.
    #[must_use]
    pub const fn new(options: DataFolderOptions) -> Self {
        Self { options }
    }

    fn choose(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
    ) -> Result<Chosen, TargetError> {
        let source = source(point, request)?;
        let token = self
            .options
            .token
            .clone()
            .unwrap_or_else(|| format!("refloat-{}", point.record().id));
        let cluster = self.cluster(point, &source, &token)?;
        let folders = match &self.options.own_name {
            Some(name) => {
                cluster.member(name).map_err(|e| self.unavailable(e))?;
                vec![(name.clone(), self.options.folder.clone())]
            }
            None => match cluster.members() {
                [(_, only)] => vec![(only.name.clone(), self.options.folder.clone())],
                all => all
                    .iter()
                    .map(|(_, m)| {
                        (
                            m.name.clone(),
                            self.options.folder.join(folder::name(&m.name)),
                        )
                    })
                    .collect(),
            },
        };
        Ok(Chosen {
            snapshot: directory(&source).child(SNAPSHOT),
            source,
            cluster,
            token,
            folders,
        })
    }

    fn cluster(
        &self,
        point: &dyn StoredPoint,
        source: &str,
        token: &str,
    ) -> Result<NewCluster, TargetError> {
        if !self.options.members.is_empty() {
            let members = self.options.members.iter().map(String::as_str);
            return NewCluster::parse(members, token).map_err(|e| self.unavailable(e));
        }
        let record = cluster_record(point, source)?;
        match record.as_ref().map(|record| record.members.as_slice()) {
            Some([only]) => {
                let member = NewMember {
                    name: only.name.clone(),
                    peer_urls: only.peer_urls.clone(),
                };
                NewCluster::new(vec![member], token).map_err(|e| self.unavailable(e))
            }
            known => Err(TargetError::Unavailable {
                operation: "decide the members of",
                subject: self.options.folder.display().to_string(),
                cause: "the recovery point does not say that there was one member only".into(),
                hint: Some(members_hint(known.unwrap_or_default())),
            }),
        }
    }

    fn unavailable(&self, cause: ClusterError) -> TargetError {
        TargetError::Unavailable {
            operation: "restore etcd into",
            subject: self.options.folder.display().to_string(),
            cause: cause.into(),
            hint: None,
        }
    }
}

fn members_hint(known: &[crate::document::MemberRecord]) -> String {
    let each = known.iter().flat_map(|member| {
        let name = &member.name;
        member
            .peer_urls
            .iter()
            .map(move |url| format!("--etcd-member {name}={url}"))
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return "name them: --etcd-member NAME=https://HOST:2380".to_owned();
    }
    format!(
        "name the members of the new cluster; the old one had {}",
        each.join(" ")
    )
}

/// The etcd of the point that is meant.
fn source(point: &dyn StoredPoint, request: &RestoreRequest) -> Result<String, TargetError> {
    let sources = point.record().sources.iter();
    let known: Vec<String> = sources
        .filter(|(_, source)| source.kind == "etcd")
        .map(|(name, _)| name.clone())
        .collect();
    let candidates = known.clone();
    match (request.only.as_slice(), known.as_slice()) {
        ([], [only]) => Ok(only.clone()),
        ([name], _) if known.contains(name) => Ok(name.clone()),
        ([], []) => Err(TargetError::NotInPoint {
            what: "source of kind etcd".to_owned(),
            candidates,
        }),
        ([], _) => Err(TargetError::NotInPoint {
            what: "single source of kind etcd: choose one with --only".to_owned(),
            candidates,
        }),
        (names, _) => Err(TargetError::NotInPoint {
            what: format!("etcd called {:?}", names.join(", ")),
            candidates,
        }),
    }
}

/// What the point says of the old cluster; none in points without the document.
fn cluster_record(
    point: &dyn StoredPoint,
    source: &str,
) -> Result<Option<ClusterRecord>, TargetError> {
    let path = directory(source).child(CLUSTER);
    if point.stat(&path)?.is_none() {
        return Ok(None);
    }
    let stored = |cause| {
        TargetError::Stored(refloat_source::StoredError {
            operation: "read",
            path: path.clone(),
            cause,
        })
    };
    serde_json::from_reader(point.open(&path)?)
        .map(Some)
        .map_err(|e| stored(e.into()))
}

impl Target for EtcdDataFolder {
    fn description(&self) -> Description {
        Description {
            name: "etcd".to_owned(),
            kind: "etcd",
            address: self.options.folder.display().to_string(),
        }
    }

    fn plan(
        &self,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, TargetError> {
        let chosen = self.choose(point, request)?;
        let entry = point
            .stat(&chosen.snapshot)?
            .ok_or_else(|| TargetError::NotInPoint {
                what: format!("etcd snapshot of {}", chosen.source),
                candidates: Vec::new(),
            })?;
        let bytes = match entry.kind {
            refloat_model::entry::EntryKind::File { size } => Some(size),
            _ => None,
        };
        let steps = chosen.folders.iter().map(|(name, folder)| Step {
            kind: ItemKind::Dump,
            name: format!("{name} in {}", folder.display()),
            path: chosen.snapshot.clone(),
            workload: Some(chosen.source.clone()),
            action: match folder::obstacle(folder) {
                None => Action::Create,
                Some(why) => Action::Conflict { why },
            },
            bytes,
        });
        let raised = format!(
            "the revision will be raised by {} and the history before it dropped, so that no \
             watch misses an event",
            self.options.bump
        );
        Ok(RestorePlan {
            target: self.options.folder.display().to_string(),
            steps: steps.collect(),
            findings: vec![Finding::note(&chosen.source, raised)],
            ..RestorePlan::default()
        })
    }

    fn execute(
        &self,
        plan: &RestorePlan,
        point: &dyn StoredPoint,
        request: &RestoreRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<RestoreReport, TargetError> {
        if !plan.is_executable() {
            let conflicts = plan.steps.iter();
            let conflicts = conflicts.filter(|s| matches!(s.action, Action::Conflict { .. }));
            return Err(TargetError::NotExecutable(conflicts.count()));
        }
        let chosen = self.choose(point, request)?;
        progress.phase("verifying the etcd snapshot");
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| TargetError::Unavailable {
            operation: "restore etcd from",
            subject: chosen.snapshot.to_string(),
            cause,
            hint: Some("take another recovery point: nothing was written".to_owned()),
        };
        let scratch = scratch(&self.options.folder);
        let snapshot = point.open(&chosen.snapshot)?;
        let bolt = spool::open(snapshot, &scratch).map_err(|e| failed(e.into()))?;
        let living = Living::read(&bolt).map_err(|e| failed(e.into()))?;
        let mut report = RestoreReport::default();
        for (step, (name, folder)) in plan.steps.iter().zip(&chosen.folders) {
            cancel
                .check()
                .map_err(|_cancelled| TargetError::Cancelled)?;
            progress.phase(&format!("writing {}", folder.display()));
            let begun = Instant::now();
            let member = MemberFolder {
                cluster: &chosen.cluster,
                name,
                folder,
                bump: self.options.bump,
            };
            let made = folder::write(&bolt, &living, member);
            let (error, remarks) = match made {
                Ok(proof) => (None, proof),
                Err(error) => (Some(crate::error::chain(&error)), Vec::new()),
            };
            report.steps.push(StepOutcome {
                step: step.clone(),
                error,
                remarks,
                milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            });
        }
        report.next_steps = runbook::steps(
            &chosen.source,
            &chosen.cluster,
            &chosen.token,
            &chosen.folders,
        );
        Ok(report)
    }
}

/// Where the snapshot is kept meanwhile: the nearest folder that exists, since the data will need
/// the same room there.
fn scratch(folder: &Path) -> PathBuf {
    let mut near = folder.ancestors().skip(1);
    near.find(|parent| parent.is_dir())
        .unwrap_or_else(|| Path::new("/"))
        .to_owned()
}
