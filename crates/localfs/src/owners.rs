//! Names of users and groups, for people who read a recovery point elsewhere.
//!
//! Invariant: a name is only a label; owners are restored by number.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

/// User and group names by number, read once.
#[derive(Clone, Debug)]
pub struct Owners {
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
    unknown: Arc<str>,
}

impl Owners {
    /// Reads `/etc/passwd` and `/etc/group`. Directory services are not asked: that would need
    /// the C library's resolver, and a hanging LDAP server would hang the backup.
    #[must_use]
    pub fn system() -> Self {
        // A machine without these files (a scratch container) has no names: not an error.
        let read = |path| fs::read(path).unwrap_or_default();
        Self::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    /// Knows no names: for folders whose numbers belong to another machine or container.
    #[must_use]
    pub fn unnamed() -> Self {
        Self::parse(b"", b"")
    }

    /// Parses the two files' content; lines that are not of the form `name:x:number:…` are
    /// ignored, and the first name of a number counts, as it does for the C library.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            users: names(passwd),
            groups: names(group),
            unknown: Arc::from(""),
        }
    }

    /// The user's name; empty if unknown.
    #[must_use]
    pub fn user(&self, uid: u32) -> Arc<str> {
        Arc::clone(self.users.get(&uid).unwrap_or(&self.unknown))
    }

    /// The group's name; empty if unknown.
    #[must_use]
    pub fn group(&self, gid: u32) -> Arc<str> {
        Arc::clone(self.groups.get(&gid).unwrap_or(&self.unknown))
    }
}

fn names(file: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in file.split(|b| *b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let mut fields = line.split(':');
        let (Some(name), Some(_password), Some(number)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if let Ok(number) = number.parse() {
            names.entry(number).or_insert_with(|| Arc::from(name));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_counts_and_nonsense_is_ignored() {
        let owners = Owners::parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n\n+::::::\nweb:x:33\nbad:x:-1:\n\xff:x:7:\n",
            b"adm:x:4:a,b\n",
        );
        let users: Vec<_> = [0, 33, 7, 1].map(|uid| owners.user(uid).to_string()).into();
        assert_eq!(users, ["root", "web", "", ""]);
        assert_eq!(&*owners.group(4), "adm");
        assert_eq!(&*owners.group(0), "");
    }
}
