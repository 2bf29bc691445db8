//! Whether the engine's files are ours to write, because it runs on this machine.
//!
//! Invariant: in doubt the answer is no; everything then goes through the engine's API.

use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use crate::address::Address;
use crate::client::{Client, encode};
use crate::definition::{HostDefinition, Object, VolumeDefinition};
use crate::discover::BindRule;
use crate::locality;

/// Where a system keeps what runs and who may run it. What is written there can take the whole
/// machine over, so it is written only if it is asked for by name.
const SYSTEM_PLACES: &[&str] = &[
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/root",
    "/sbin",
    "/usr",
    "/var/spool/cron",
];
/// The folder by which people log in, wherever it lies.
const LOGIN_FOLDER: &str = ".ssh";

/// What of the target's machine is within reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// The engine's data folder, if it is a folder of this machine that we may write to.
    pub(super) data_root: Option<PathBuf>,
    /// The engine's data folder as the engine says it, wherever that is.
    pub(super) root_dir: String,
    /// The process that listens on the engine's socket.
    pub(super) engine_pid: Option<i32>,
}

impl Reach {
    /// Nothing is within reach but the engine's API.
    pub(super) fn none(host: &HostDefinition) -> Self {
        Self {
            root_dir: host.root_dir.clone(),
            ..Self::default()
        }
    }

    /// Looks at the address, the engine's settings and this machine.
    pub(super) fn of(client: &Client, host: &HostDefinition) -> Self {
        let root_dir = host.root_dir.clone();
        let Address::Unix(socket) = client.address() else {
            return Self {
                root_dir,
                ..Self::default()
            };
        };
        let may_write = rustix::process::geteuid().is_root();
        let ours = may_write && locality::is_local(client.address(), host);
        let data_root = ours.then(|| PathBuf::from(&root_dir));
        Self {
            data_root,
            root_dir,
            engine_pid: listener(socket).filter(|_| ours),
        }
    }

    /// Whether host paths of the engine are paths of this machine.
    pub(super) const fn is_local(&self) -> bool {
        self.data_root.is_some()
    }

    /// Whether a host path is surely not there: one that cannot be looked at may be.
    pub(super) fn is_gone(&self, path: &str) -> bool {
        let looked = Path::new(path).symlink_metadata();
        self.is_local() && looked.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    }

    /// Proves by a container the engine just made that its folder is this machine's: a socket may
    /// be forwarded from another machine that has the same paths.
    pub(super) fn prove(&mut self, container_id: &str) {
        let Some(root) = &self.data_root else {
            return;
        };
        let docker = root.join("containers").join(container_id);
        let podman = root.join("overlay-containers").join(container_id);
        let podman_vfs = root.join("vfs-containers").join(container_id);
        if ![docker, podman, podman_vfs]
            .iter()
            .any(|folder| folder.is_dir())
        {
            self.data_root = None;
        }
    }

    /// The folder of a volume's data on this machine, if it can be written directly. A volume
    /// with options may be mounted from elsewhere only while a container uses it.
    pub(super) fn volume_folder(
        &self,
        definition: &VolumeDefinition,
        mountpoint: &str,
    ) -> Option<PathBuf> {
        let direct = self.is_local() && definition.driver == "local";
        let folder = PathBuf::from(mountpoint);
        (direct && definition.options.is_empty() && folder.is_absolute() && folder.is_dir())
            .then_some(folder)
    }

    /// Why a host path is none that a restore writes to, if so: the rules by which it would not
    /// have been captured, and paths that are not plainly written.
    pub(super) fn refusal(&self, path: &str) -> Option<String> {
        let plain = path.starts_with('/')
            && !path.contains('\0')
            && path
                .split('/')
                .skip(1)
                .all(|part| !matches!(part, "." | ".."));
        if !plain {
            return Some("it is not an absolute path without '.' and '..'".to_owned());
        }
        let rule = BindRule::for_source(path, &self.root_dir, &[])?;
        Some(rule.why().to_owned())
    }

    /// The folder of the host that a volume shows, if it can be looked at, as it leads.
    pub(super) fn folder_of(&self, volume: &VolumeDefinition) -> Option<PathBuf> {
        let folder = volume.bound_folder().filter(|_| self.is_local())?;
        self.refusal(folder).is_none().then(|| self.real(folder))
    }

    /// Whether a host path is a place of the system, as it is written or, where links can be
    /// looked at, as they lead.
    pub(super) fn is_system_place(&self, path: &str) -> bool {
        is_system_place(Path::new(path)) || is_system_place(&self.real(path))
    }

    /// Where a host path leads, as far as links can be looked at.
    pub(super) fn real(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let real = || {
            let there = path.ancestors().find(|path| path.exists())?;
            let rest = path.strip_prefix(there).ok()?;
            let there = there.canonicalize().ok()?;
            // Joined with nothing, a file would get a slash at its end.
            Some(if rest.as_os_str().is_empty() {
                there
            } else {
                there.join(rest)
            })
        };
        let real = self.is_local().then(real).flatten();
        real.unwrap_or_else(|| path.to_owned())
    }

    /// Bytes free where a path is or would be; none if that is not known.
    pub(super) fn bytes_free(&self, path: &Path) -> Option<u64> {
        self.data_root.as_ref()?;
        refloat_localfs::bytes_free(path)
    }
}

fn is_system_place(path: &Path) -> bool {
    SYSTEM_PLACES.iter().any(|place| path.starts_with(place))
        || path
            .components()
            .any(|part| part.as_os_str() == LOGIN_FOLDER)
}

/// Who listens on a socket of this machine.
fn listener(socket: &Path) -> Option<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .ok()?;
    runtime.block_on(async {
        UnixStream::connect(socket)
            .await
            .ok()?
            .peer_cred()
            .ok()?
            .pid()
    })
}

/// A volume as the engine says it now, with the folder of its data.
pub(super) fn inspect_volume(
    client: &Client,
    name: &str,
) -> Result<Option<(VolumeDefinition, String)>, crate::error::EngineError> {
    match client.get(&format!("/volumes/{}", encode(name))) {
        Ok(answer) => {
            let object: Object = answer.as_object().cloned().unwrap_or_default();
            let mountpoint = super::present::text(object.get("Mountpoint"));
            Ok(Some((VolumeDefinition::from_inspect(object), mountpoint)))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_the_system_are_known_by_name_and_through_links() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("conf")).unwrap();
        let linked = folder.path().join("conf/nowhere/app.conf");
        let linked = linked.to_str().unwrap();
        let local = Reach {
            data_root: Some(PathBuf::from("/data")),
            ..Reach::default()
        };
        for (path, expected) in [
            ("/etc/nginx/nginx.conf", true),
            ("/etc", true),
            ("/root/shop/compose.yaml", true),
            ("/home/me/.ssh/authorized_keys", true),
            ("/etcetera/x", false),
            ("/srv/etc/x", false),
            ("/srv/shop", false),
            (linked, true),
        ] {
            assert_eq!(local.is_system_place(path), expected, "{path}");
        }
        assert!(!Reach::default().is_system_place(linked), "not looked at");
    }
}
