//! Which bind mounts hold an application's data, and which are the host's own.
//!
//! Invariant: what is decided depends on the path and the policy only, not on the content.

use std::path::Path;

use refloat_model::glob::Glob;

/// Files and folders that every host has its own of. What somebody put into such a folder is
/// not the host's: a site's certificate lies beside those that a package brings.
const HOST_FILES: &[&str] = &[
    "/etc/localtime",
    "/etc/timezone",
    "/etc/machine-id",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/group",
    "/etc/ssl/certs",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ca-certificates",
];
/// Trees that a package of the host brings whole.
const HOST_TREES: &[&str] = &[
    "/lib/modules",
    "/usr/lib/modules",
    "/usr/share/zoneinfo",
    "/tmp/.X11-unix",
];
/// Trees that the kernel or the running system makes.
const SYSTEM_TREES: &[&str] = &["/dev", "/proc", "/sys", "/run", "/var/run", "/boot"];
/// Folders in which whole systems live: captured by a files source, not as one container's mount.
const WHOLE_TREES: &[&str] = &["/", "/etc", "/var", "/usr", "/var/lib", "/lib"];
/// Folders of everybody's data, likewise.
const HOME_TREES: &[&str] = &["/home", "/root"];

/// Why a bind mount is not captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BindRule {
    /// A socket, a device or a folder of the kernel: each host has its own.
    Device,
    /// The whole host or a large part of it.
    HostTree,
    /// A file of the host's own configuration.
    HostFile,
    /// The engine's own folder, or what lies in it.
    EngineRoot,
    /// A folder that holds the data of many, or the engine's own folder.
    SharedTree,
    /// The policy says so.
    Excluded,
}

impl BindRule {
    /// The rule that leaves `source` out; none if it is captured.
    pub(crate) fn for_source(source: &str, root_dir: &str, exclude: &[Glob]) -> Option<Self> {
        let source = if source.len() > 1 {
            source.trim_end_matches('/')
        } else {
            source
        };
        let below = |tree: &str| Path::new(source).starts_with(tree);
        if SYSTEM_TREES.iter().any(|tree| below(tree)) || is_socket_name(source) {
            return Some(Self::Device);
        }
        if !root_dir.is_empty() && below(root_dir) {
            return Some(Self::EngineRoot);
        }
        if WHOLE_TREES.contains(&source) {
            return Some(Self::HostTree);
        }
        // A folder above the engine's: its copy would hold every volume again.
        let holds_engine = !root_dir.is_empty() && Path::new(root_dir).starts_with(source);
        if holds_engine || HOME_TREES.contains(&source) {
            return Some(Self::SharedTree);
        }
        if HOST_FILES.contains(&source) || HOST_TREES.iter().any(|tree| below(tree)) {
            return Some(Self::HostFile);
        }
        if exclude.iter().any(|glob| glob.matches(source)) {
            return Some(Self::Excluded);
        }
        None
    }

    /// The stable word of reports.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Device => "device-path",
            Self::HostTree => "host-tree",
            Self::HostFile => "host-file",
            Self::EngineRoot => "engine-root",
            Self::SharedTree => "shared-tree",
            Self::Excluded => "excluded",
        }
    }

    /// The rule for people.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Device => "sockets, devices and folders of the kernel are each host's own",
            Self::HostTree => "a whole host is captured as files, not as a container's mount",
            Self::HostFile => "the file is part of each host's own setup",
            Self::EngineRoot => "the engine's own folder is captured object by object",
            Self::SharedTree => {
                "it holds the data of many or the engine's own folder: bind a folder below it, or \
                 capture it as files and waive this bind"
            }
            Self::Excluded => "the policy leaves it out",
        }
    }

    /// Whether a new host brings the thing along, so that nothing is missing without it. Who only
    /// reads a whole host watches it; who writes to it may keep data there.
    pub(crate) const fn is_provided_by_host(self, read_only: bool) -> bool {
        match self {
            Self::Device | Self::HostFile | Self::EngineRoot => true,
            Self::HostTree => read_only,
            Self::SharedTree | Self::Excluded => false,
        }
    }
}

fn is_socket_name(source: &str) -> bool {
    Path::new(source)
        .extension()
        .is_some_and(|extension| extension == "sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_captured_and_the_hosts_own_is_not() {
        let exclude = [Glob::new("/srv/cache*").unwrap()];
        let root = "/var/lib/docker";
        for (source, rule) in [
            ("/srv/data", None),
            ("/srv/sysconfig", None),
            ("/home/me/site", None),
            ("/etc/nginx/nginx.conf", None),
            ("/srv/cache1", Some(BindRule::Excluded)),
            ("/var/run/docker.sock", Some(BindRule::Device)),
            ("/srv/app/app.sock", Some(BindRule::Device)),
            ("/proc", Some(BindRule::Device)),
            ("/sys/fs/cgroup", Some(BindRule::Device)),
            ("/dev/dri", Some(BindRule::Device)),
            ("/", Some(BindRule::HostTree)),
            ("/var/lib/", Some(BindRule::HostTree)),
            ("/etc/localtime", Some(BindRule::HostFile)),
            ("/etc/ssl/certs", Some(BindRule::HostFile)),
            (
                "/etc/ssl/certs/ca-certificates.crt",
                Some(BindRule::HostFile),
            ),
            ("/etc/ssl/certs/site.pem", None),
            ("/etc/ca-certificates/site.crt", None),
            ("/lib/modules/6.1", Some(BindRule::HostFile)),
            ("/home", Some(BindRule::SharedTree)),
            ("/var/lib/docker", Some(BindRule::EngineRoot)),
            (
                "/var/lib/docker/volumes/x/_data",
                Some(BindRule::EngineRoot),
            ),
        ] {
            assert_eq!(
                BindRule::for_source(source, root, &exclude),
                rule,
                "{source}"
            );
        }
        let above = BindRule::for_source("/mnt/big", "/mnt/big/docker", &[]);
        assert_eq!(above, Some(BindRule::SharedTree));
    }

    #[test]
    fn only_what_a_new_host_brings_along_is_not_missed() {
        for (rule, read_only, provided) in [
            (BindRule::Device, false, true),
            (BindRule::HostFile, false, true),
            (BindRule::EngineRoot, false, true),
            (BindRule::HostTree, true, true),
            (BindRule::HostTree, false, false),
            (BindRule::SharedTree, true, false),
            (BindRule::Excluded, true, false),
        ] {
            assert_eq!(rule.is_provided_by_host(read_only), provided, "{rule:?}");
        }
    }
}
