//! Volumes and bind mounts: directly where the folder is ours, else through the engine.
//!
//! Invariant: what the engine's archive cannot say is a finding. A folder that only *should* be a
//! mount point is not taken for the data behind it.

use std::path::Path;

use refloat_localfs::{Owners, WalkError, WalkOptions, walk_entry};
use refloat_model::outcome::Consistency;
use refloat_source::SourceError;
use serde_json::{Value, json};

use super::{Session, failed};
use crate::archive::{Losses, TarTree, push_file};
use crate::client::{BodyReader, Client, EXPORT_TIMEOUT, encode};
use crate::definition::{EngineKind, MountDefinition, MountKind, VolumeDefinition};
use crate::discover::StoredVolume;
use crate::error::EngineError;
use crate::layout::{VOLUME_DATA, VOLUME_FILE};
use crate::options::VolumeAccess;

/// Where a helper container has the volume.
const HELPER_PLACE: &str = "/refloat-data";
/// Largest file list of findings.
const EVERYTHING: &dyn Fn(&[Vec<u8>]) -> bool = &|_| true;

/// Through whom a mount is read.
struct Reader<'a> {
    client: &'a Client,
    container: String,
    place: String,
    /// Whether the container is ours, made for this and to be removed.
    helper: bool,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if self.helper {
            let id = encode(&self.container);
            // It was never started and holds nothing; one that stays is named by its label.
            drop(self.client.delete(&format!("/containers/{id}?force=true")));
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn volume(&mut self, name: &str) -> Result<Consistency, SourceError> {
        let inspect = self.inspect(&format!("/volumes/{}", encode(name)))?;
        let mountpoint = match inspect.get("Mountpoint") {
            Some(Value::String(path)) => path.clone(),
            _ => String::new(),
        };
        let volume = StoredVolume {
            definition: VolumeDefinition::from_inspect(inspect),
            mountpoint,
        };
        let fits =
            |mount: &MountDefinition| mount.kind == MountKind::Volume && mount.source == name;
        let writers = self.writers(fits);
        self.enter(self.name)?;
        self.document(VOLUME_FILE.as_bytes(), &volume.definition)?;
        let data = VOLUME_DATA.as_bytes();
        if volume.definition.options.get("type").map(String::as_str) == Some("tmpfs") {
            self.note("it is in memory only: its content is not captured");
            self.enter(data)?;
            self.leave()?;
        } else if self.is_reachable(&volume) {
            self.walk(Path::new(&volume.mountpoint), data)?;
        } else {
            let running = self.is_mounted_while_used(&volume.definition);
            let through = if running {
                Through::Running
            } else {
                Through::Any
            };
            let reader = self.reader(fits, Some(name), through)?;
            self.archive(&reader, data)?;
        }
        self.leave()?;
        Ok(self.consistency_since(&writers, fits))
    }

    pub(super) fn bind(&mut self, source: &str) -> Result<Consistency, SourceError> {
        let fits =
            |mount: &MountDefinition| mount.kind == MountKind::Bind && mount.source == source;
        let writers = self.writers(fits);
        let direct = self.source.options().volume_access == VolumeAccess::Auto
            && self.source.is_local(self.discovered);
        if direct && readable(Path::new(source)) {
            self.walk(Path::new(source), self.name)?;
        } else {
            let reader = self.reader(fits, None, Through::Any)?;
            self.archive(&reader, self.name)?;
        }
        Ok(self.consistency_since(&writers, fits))
    }

    fn is_reachable(&self, volume: &StoredVolume) -> bool {
        let path = Path::new(&volume.mountpoint);
        self.source.options().volume_access == VolumeAccess::Auto
            && volume.definition.driver == "local"
            && !volume.mountpoint.is_empty()
            && self.source.is_local(self.discovered)
            && readable(path)
            // With options the folder is a mount point, and mounted only while in use.
            && (volume.definition.options.is_empty() || is_mount_point(path))
    }

    /// Whether its data is there only while a container runs that uses it: Podman does not mount
    /// it for the archive API, which then gives the empty folder below.
    fn is_mounted_while_used(&self, volume: &VolumeDefinition) -> bool {
        let option = |key: &str| volume.options.get(key).is_some_and(|v| !v.is_empty());
        self.discovered.estate.host.engine == EngineKind::Podman
            && (volume.driver != "local" || option("type") || option("device"))
    }

    fn walk(&mut self, path: &Path, name: &[u8]) -> Result<(), SourceError> {
        let options = WalkOptions {
            // Numbers belong to the container; names of this host would be somebody else's.
            owners: Owners::unnamed().into(),
            ..WalkOptions::default()
        };
        let summary = walk_entry(path, name, &options, self.sink, self.cancel).map_err(
            |error| match error {
                WalkError::Cancelled(_) => SourceError::Cancelled,
                WalkError::Sink(error) => SourceError::Sink(error),
                other => failed("read", self.item, other),
            },
        )?;
        self.walked(&summary.findings);
        Ok(())
    }

    /// Takes over what a walk found.
    pub(super) fn walked(&mut self, findings: &refloat_localfs::Findings) {
        self.findings.extend(findings.first().iter().cloned());
        if findings.count() > findings.first().len() as u64 {
            self.warn(format!("{} findings in all", findings.count()));
        }
    }

    fn archive(&mut self, reader: &Reader<'_>, name: &[u8]) -> Result<(), SourceError> {
        let losses = match reader.open(&[], "/.", self.cancel) {
            Ok(stream) => {
                let tree = TarTree {
                    keep: EVERYTHING,
                    fetch: &|path| reader.fetch(path, self.cancel),
                };
                let pushed = tree.push(stream, name, self.sink, self.cancel);
                pushed.map_err(|error| self.fail_archive(error))?
            }
            Err(error) if is_no_directory(&error) => {
                let stream = reader
                    .open(&[], "", self.cancel)
                    .map_err(|error| self.fail("read", error))?;
                push_file(stream, name, self.sink).map_err(|error| self.fail_archive(error))?;
                Losses::default()
            }
            Err(error) => return Err(self.fail("read", error)),
        };
        self.note(
            "read through the engine's archive API: times are whole seconds, sockets and extended \
             attributes other than capabilities are not captured",
        );
        self.report(&losses);
        Ok(())
    }

    /// Names what a stream could not say.
    pub(super) fn report(&mut self, losses: &Losses) {
        if losses.hard_links > 0 {
            self.note(format!(
                "{} hard links are captured as files of their own",
                losses.hard_links
            ));
        }
        for refused in &losses.refused {
            self.warn(format!("refused in the engine's archive: {refused}"));
        }
        if losses.refused_count > losses.refused.len() as u64 {
            self.warn(format!("{} entries refused in all", losses.refused_count));
        }
    }

    /// A container that has it mounted, with nothing else mounted below; else a helper.
    fn reader(
        &self,
        fits: impl Fn(&MountDefinition) -> bool,
        volume: Option<&str>,
        through: Through,
    ) -> Result<Reader<'a>, SourceError> {
        for container in &self.discovered.estate.containers {
            let mounts = &container.definition.mounts;
            let whole = |mount: &&MountDefinition| {
                fits(mount) && !container.definition.is_part(&mount.destination)
            };
            let Some(mount) = mounts.iter().find(whole) else {
                continue;
            };
            if through == Through::Running && !self.is_up(&container.id)? {
                continue;
            }
            let prefix = format!("{}/", mount.destination.trim_end_matches('/'));
            if mounts
                .iter()
                .any(|other| other.destination.starts_with(&prefix))
            {
                continue;
            }
            return Ok(Reader {
                client: self.client(),
                container: container.id.clone(),
                place: mount.destination.clone(),
                helper: false,
            });
        }
        let Some(volume) = volume else {
            return Err(failed("read", self.item, NoReader));
        };
        if through == Through::Running {
            return Err(failed("read", self.item, NotMounted));
        }
        self.helper(volume)
    }

    /// Whether a container runs at this moment, paused or not.
    fn is_up(&self, container: &str) -> Result<bool, SourceError> {
        let inspect = self.inspect(&format!("/containers/{}/json", encode(container)))?;
        let state = inspect.get("State").unwrap_or(&Value::Null);
        let flag = |name: &str| state.get(name).and_then(Value::as_bool) == Some(true);
        Ok(flag("Running") || flag("Paused"))
    }

    /// A container that is created and never started: that is enough for the archive API.
    fn helper(&self, volume: &str) -> Result<Reader<'a>, SourceError> {
        let images = &self.discovered.estate.images;
        let image = images
            .keys()
            .next()
            .ok_or_else(|| failed("read", self.item, NoReader))?;
        let body = json!({
            "Image": image,
            "Cmd": ["refloat"],
            "Labels": {"refloat.helper": "true", "refloat.exclude": "true"},
            "NetworkDisabled": true,
            "HostConfig": {
                "NetworkMode": "none",
                "Mounts": [{
                    "Type": "volume", "Source": volume, "Target": HELPER_PLACE,
                    "ReadOnly": true, "VolumeOptions": {"NoCopy": true},
                }],
            },
        });
        let created = self
            .client()
            .post("/containers/create", Some(&body))
            .map_err(|error| self.fail("make a helper container to read", error))?;
        let id = created.get("Id").and_then(Value::as_str);
        let id = id.ok_or_else(|| self.fail("read", EngineError::Incomplete("container id")))?;
        Ok(Reader {
            client: self.client(),
            container: id.to_owned(),
            place: HELPER_PLACE.to_owned(),
            helper: true,
        })
    }
}

impl Reader<'_> {
    fn open(
        &self,
        path: &[Vec<u8>],
        suffix: &str,
        cancel: &refloat_model::cancel::Cancel,
    ) -> Result<BodyReader, EngineError> {
        let mut place = self.place.trim_end_matches('/').to_owned();
        for name in path {
            // A name that is no text cannot be asked for.
            let Ok(name) = std::str::from_utf8(name) else {
                return Err(EngineError::Incomplete("way to ask for such a name"));
            };
            place.push('/');
            place.push_str(name);
        }
        place.push_str(suffix);
        let id = encode(&self.container);
        let target = format!("/containers/{id}/archive?path={}", encode(&place));
        self.client.download(&target, EXPORT_TIMEOUT, cancel)
    }

    /// The content of one file.
    fn fetch(
        &self,
        path: &[Vec<u8>],
        cancel: &refloat_model::cancel::Cancel,
    ) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        let stream = self.open(path, "", cancel)?;
        crate::archive::single_file(stream)
    }
}

/// Who may be read through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    /// Containers that do not run as well, and one made for it.
    Any,
    /// Only who runs and so has it mounted.
    Running,
}

/// It shows its data only while a container runs.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is not mounted: start a container that uses it, and back up while that runs; where the \
     backup itself stops it (refloat.stop, or the policy's consistency), have it paused instead"
)]
struct NotMounted;

/// Nobody has it mounted, and no helper can be made.
#[derive(Debug, thiserror::Error)]
#[error("no container has it mounted alone, and there is no image to make a helper from")]
struct NoReader;

/// What engines answer when `/.` is asked of a file.
fn is_no_directory(error: &EngineError) -> bool {
    matches!(error, EngineError::Refused { status: 400 | 404 | 500, message }
        if message.contains("not a directory"))
}

fn readable(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::read_dir(path).is_ok(),
        Ok(metadata) => metadata.is_file() && std::fs::File::open(path).is_ok(),
        Err(_) => false,
    }
}

fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(own), Some(Ok(parent))) = (path.metadata(), path.parent().map(std::fs::metadata))
    else {
        return false;
    };
    // A bind mount of the same file system keeps the device: then the kernel's list decides.
    own.dev() != parent.dev()
        || std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| {
            mounts
                .lines()
                .filter_map(|line| line.split(' ').nth(4))
                .any(|place| Path::new(place) == path)
        })
}
