//! Is the engine on this machine, so that its paths are ours?
//!
//! Invariant: "yes" only if everything we can compare is equal; "no" costs speed and detail, a
//! wrong "yes" would back up another machine's folders.

use std::fs;
use std::path::Path;

use crate::address::Address;
use crate::definition::HostDefinition;

/// Whether paths that the engine names lead to the same files here.
pub(crate) fn is_local(address: &Address, host: &HostDefinition) -> bool {
    let local = |path: &str| fs::read_to_string(path).ok();
    address.is_local_socket()
        && is_same(
            host,
            local("/proc/sys/kernel/hostname").as_deref(),
            local("/proc/sys/kernel/osrelease").as_deref(),
            local(&format!("{}/engine-id", host.root_dir)).as_deref(),
        )
        && Path::new(&host.root_dir).is_dir()
}

/// A socket may be forwarded from another machine, or mounted into our container.
fn is_same(
    host: &HostDefinition,
    hostname: Option<&str>,
    kernel: Option<&str>,
    engine_id: Option<&str>,
) -> bool {
    let says = |value: Option<&str>, expected: &str| value.map(str::trim) == Some(expected);
    says(hostname, &host.name)
        && host
            .versions
            .get("kernel")
            .is_none_or(|expected| says(kernel, expected))
        && engine_id.is_none_or(|id| id.trim() == host.id)
}

/// Whether this program runs in the container: stopping that would end the program half way.
pub(crate) fn is_own_container(id: &str) -> bool {
    // Without the list this program is in no container that an engine made.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    names_own_container(&mounts, id)
}

/// Engines mount the files by which a container is called and finds others from a folder that is
/// named after it.
fn names_own_container(mounts: &str, id: &str) -> bool {
    let own = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    !id.is_empty()
        && mounts.lines().any(|line| {
            let mut fields = line.split(' ').skip(3);
            let (root, place) = (fields.next(), fields.next());
            place.is_some_and(|place| own.contains(&place))
                && root.is_some_and(|root| root.split('/').any(|part| part == id))
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::definition::{EngineKind, Object};

    #[test]
    fn one_difference_is_enough_to_be_elsewhere() {
        let host = HostDefinition {
            engine: EngineKind::Docker,
            id: "E1".into(),
            name: "web".into(),
            versions: BTreeMap::from([("kernel".to_owned(), "6.1".to_owned())]),
            architecture: String::new(),
            root_dir: "/d".into(),
            settings: Object::new(),
            daemon_file: None,
            plugins: Vec::new(),
            swarm: None,
        };
        assert!(is_same(&host, Some("web\n"), Some("6.1\n"), Some("E1\n")));
        assert!(is_same(&host, Some("web"), Some("6.1"), None));
        assert!(!is_same(&host, Some("other"), Some("6.1"), None));
        assert!(!is_same(&host, Some("web"), Some("5.10"), None));
        assert!(!is_same(&host, Some("web"), Some("6.1"), Some("E2")));
        assert!(!is_same(&host, None, None, None));
    }

    #[test]
    fn the_container_of_this_program_is_known_by_its_mounts() {
        let inside = "1 2 8:1 /var/lib/docker/containers/ab12/hostname /etc/hostname rw - ext4 x y";
        let outside = "1 2 0:4 / /var/lib/docker/containers/ab12/mounts/shm rw - tmpfs shm rw";
        assert!(names_own_container(inside, "ab12"));
        assert!(!names_own_container(inside, "cd34"));
        assert!(!names_own_container(inside, ""));
        assert!(!names_own_container(outside, "ab12"));
    }
}
