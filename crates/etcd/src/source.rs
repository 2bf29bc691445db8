//! The source itself: discover and capture.
//!
//! Invariant: a snapshot is pushed only of a cluster whose members agree, and its entry ends in
//! failure unless the hash at its end is right.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use refloat_localfs::walk::{Candidate, CandidateKind};
use refloat_localfs::{Owners, WalkOptions, walk_entry};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink};
use refloat_model::finding::Finding;
use refloat_model::item::{Capture, Inventory, Item, ItemKind, Workload};
use refloat_model::outcome::Consistency;
use refloat_model::tree_path::TreePath;
use refloat_source::{Description, NothingHeld, Quiesced, Source, SourceError};

use crate::client::{Access, Client, SnapshotStream};
use crate::control_plane::{ControlPlane, HostPath, LEFT_OUT};
use crate::document::{CLUSTER, SNAPSHOT, directory};
use crate::error::EtcdError;
use crate::proof::{Keeping, Proof};
use crate::survey::{Disagreement, Survey, survey};
use crate::trailer::Verified;

/// What is captured of an etcd cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// How it is reached.
    pub access: Access,
    /// Where a nameless copy of the snapshot may be kept until it is proven; none to do without.
    pub scratch: Option<PathBuf>,
    /// The control plane's folder on this host, `/etc/kubernetes`; none to leave it out.
    pub control_plane: Option<PathBuf>,
}

/// An etcd cluster.
pub struct EtcdSource {
    name: String,
    options: Options,
    client: Arc<Client>,
    owners: Arc<Owners>,
    seen: Mutex<Option<Arc<Survey>>>,
}

impl EtcdSource {
    /// Prepares the connections; nothing is asked yet.
    ///
    /// # Errors
    /// An endpoint is none, or certificates cannot be used.
    pub fn connect(name: &str, options: Options) -> Result<Self, SourceError> {
        let prepare = || {
            let client = Client::new(&options.access)?;
            if options.access.endpoints.is_empty() {
                return Err(EtcdError::NoEndpoint);
            }
            for endpoint in &options.access.endpoints {
                client.connection(endpoint)?;
            }
            Ok(client)
        };
        let client = prepare().map_err(|error| unavailable("connect to", name, error))?;
        Ok(Self {
            name: name.to_owned(),
            client: Arc::new(client),
            owners: Arc::new(Owners::system()),
            options,
            seen: Mutex::new(None),
        })
    }

    fn survey(&self, cancel: &Cancel) -> Result<Arc<Survey>, SourceError> {
        let endpoints = &self.options.access.endpoints;
        let seen = survey(&self.client, &self.name, endpoints, cancel)
            .map_err(|error| unavailable("look at the members of", &self.name, error))?;
        let seen = Arc::new(seen);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&seen));
        Ok(seen)
    }

    fn control_plane(&self) -> ControlPlane {
        let folder = self.options.control_plane.as_ref();
        folder.map_or_else(ControlPlane::default, |folder| {
            ControlPlane::look(&self.name, folder)
        })
    }

    fn capture_snapshot(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        // Looked at anew: a member may have fallen since discovery.
        let seen = self.survey(cancel)?;
        let refuse = |cause: Box<dyn std::error::Error + Send + Sync>| SourceError::Item {
            operation: "trust a snapshot of",
            subject: self.name.clone(),
            cause,
        };
        if let Some(corrupt) = &seen.corrupt {
            return Err(refuse(corrupt.clone().into()));
        }
        let agreement = seen.agree(&self.client, cancel).map_err(|e| match e {
            Disagreement::Etcd(EtcdError::Cancelled) => SourceError::Cancelled,
            error => refuse(error.into()),
        })?;
        let compared = format!(
            "{} of {} members have the hash {:08x} at revision {}",
            agreement.members,
            seen.members.len(),
            agreement.hash,
            agreement.revision
        );
        let mut findings = vec![Finding::note(&item.title, compared)];
        let stream = self.open_snapshot(&seen, item, cancel)?;
        let name = item.path.name().unwrap_or_default();
        let entry = Entry::synthetic_file(name, 0);
        if let Some(scratch) = &self.options.scratch {
            let mut kept = Keeping::new(stream, scratch);
            sink.stream(entry, &mut Verified::new(&mut kept))?;
            check(cancel)?;
            let proof = kept.prove(&seen, &self.client, cancel);
            match proof.map_err(|error| unavailable("compare", &self.name, error))? {
                Proof::Differs(why) => return Err(refuse(why.into())),
                proof => findings.push(proof.finding(&item.title)),
            }
        } else {
            sink.stream(entry, &mut Verified::new(stream))?;
            check(cancel)?;
        }
        Ok(Capture {
            consistency: Consistency::Application,
            findings,
        })
    }

    /// Asks the best member for a snapshot, and the next one if it cannot.
    fn open_snapshot(
        &self,
        seen: &Survey,
        item: &Item,
        cancel: &Cancel,
    ) -> Result<SnapshotStream, SourceError> {
        let mut first_error = None;
        for candidate in seen.candidates() {
            match SnapshotStream::open(Arc::clone(&self.client), &candidate.connection, cancel) {
                Ok(stream) => return Ok(stream),
                Err(EtcdError::Cancelled) => return Err(SourceError::Cancelled),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        Err(SourceError::Item {
            operation: "read",
            subject: item.title.clone(),
            cause: match first_error {
                Some(error) => error.into(),
                None => "no voting member answers".into(),
            },
        })
    }

    fn capture_cluster(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        let seen = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let seen = seen.map_or_else(|| self.survey(cancel), Ok)?;
        // Strings and numbers: it cannot fail.
        let json = serde_json::to_vec_pretty(&seen.record()).unwrap_or_default();
        let name = item.path.name().unwrap_or_default();
        let entry = Entry::synthetic_file(name, json.len() as u64);
        sink.stream(entry, &mut json.as_slice())?;
        Ok(Capture {
            consistency: Consistency::Definition,
            findings: Vec::new(),
        })
    }

    fn capture_host(
        &self,
        host: &HostPath,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        let title = host.path.display().to_string();
        let leave_out = |candidate: &Candidate<'_>| {
            candidate.kind == CandidateKind::Directory && candidate.path == LEFT_OUT.as_bytes()
        };
        let options = WalkOptions {
            exclude: Some(&leave_out),
            owners: Arc::clone(&self.owners),
            ..WalkOptions::default()
        };
        let name = host.in_point.name().unwrap_or_default();
        let summary = walk_entry(&host.path, name, &options, sink, cancel);
        let summary = summary.map_err(|error| match error {
            refloat_localfs::WalkError::Cancelled(_) => SourceError::Cancelled,
            refloat_localfs::WalkError::Sink(error) => SourceError::Sink(error),
            error => SourceError::Item {
                operation: "read",
                subject: title.clone(),
                cause: error.into(),
            },
        })?;
        Ok(Capture {
            consistency: Consistency::Crash,
            findings: summary.findings.into_list(&title),
        })
    }

    fn item(&self, kind: ItemKind, title: String, path: TreePath) -> Item {
        Item {
            workload: Some(self.name.clone()),
            sensitive: true,
            ..Item::new(kind, title, path)
        }
    }
}

impl Source for EtcdSource {
    fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            kind: "etcd",
            address: self.options.access.endpoints.join(","),
        }
    }

    fn discover(&self, cancel: &Cancel) -> Result<Inventory, SourceError> {
        let seen = self.survey(cancel)?;
        let control_plane = self.control_plane();
        let bytes = seen.answers.values().map(|a| a.status.db_size).max();
        let mut snapshot = self.item(
            ItemKind::Dump,
            format!("snapshot of {}", self.name),
            directory(&self.name).child(SNAPSHOT),
        );
        snapshot.bytes_estimate = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let mut cluster = self.item(
            ItemKind::Host,
            format!("members of {}", self.name),
            directory(&self.name).child(CLUSTER),
        );
        cluster.sensitive = false;
        let mut items = vec![cluster, snapshot];
        for host in &control_plane.paths {
            let title = host.path.display().to_string();
            items.push(self.item(ItemKind::Folder, title, host.in_point.clone()));
        }
        let mut findings = seen.findings.clone();
        findings.extend(control_plane.findings);
        let versions = seen.answers.values().filter_map(|answer| {
            let id = answer.status.header.unwrap_or_default().member_id;
            let member = seen.members.iter().find(|member| member.id == id)?;
            Some((
                format!("etcd {}", member.name),
                answer.status.version.clone(),
            ))
        });
        Ok(Inventory {
            identity: format!("{:x}", seen.cluster),
            versions: versions.collect(),
            workloads: vec![Workload {
                name: self.name.clone(),
                kind: "etcd cluster".to_owned(),
                requires: Vec::new(),
            }],
            items,
            placements: Vec::new(),
            images: Vec::new(),
            findings,
        })
    }

    fn quiesce(&self, _: &Workload, _: &Cancel) -> Result<Box<dyn Quiesced>, SourceError> {
        // A member's snapshot is of one moment by itself.
        Ok(Box::new(NothingHeld))
    }

    fn capture(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        match item.kind {
            ItemKind::Dump => self.capture_snapshot(item, sink, cancel),
            ItemKind::Host => self.capture_cluster(item, sink, cancel),
            _ => {
                let control_plane = self.control_plane();
                let mut paths = control_plane.paths.iter();
                let host = paths.find(|host| host.in_point == item.path);
                let host = host.ok_or_else(|| SourceError::Item {
                    operation: "find",
                    subject: item.title.clone(),
                    cause: "it is gone since discovery".into(),
                })?;
                self.capture_host(host, sink, cancel)
            }
        }
    }
}

fn check(cancel: &Cancel) -> Result<(), SourceError> {
    cancel.check().map_err(|_cancelled| SourceError::Cancelled)
}

fn unavailable(operation: &'static str, name: &str, error: EtcdError) -> SourceError {
    match error {
        EtcdError::Cancelled => SourceError::Cancelled,
        error => SourceError::Unavailable {
            operation,
            subject: format!("etcd {name}"),
            hint: error.hint(),
            cause: Box::new(error),
        },
    }
}
