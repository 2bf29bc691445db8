//! A volume as it must be created again; its data lies beside it.
//!
//! Invariant: nothing in it depends on the volume's content or on who uses it at the moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Document, Object, take_string, take_strings, without};

/// `/docker/<source>/volumes/<name>/volume.json`; the data is the directory `data` beside it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VolumeDefinition {
    /// Its name.
    pub name: String,
    /// `local`, or a plugin's name.
    pub driver: String,
    /// The driver's options: an NFS server and path, a device, a tmpfs size. May hold passwords.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `local` or `global`.
    pub scope: String,
    /// Whether the engine made the name up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// What the engine says besides and this program does not know.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub other: Object,
}

impl Document for VolumeDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "volume";
}

impl VolumeDefinition {
    /// The compose project it belongs to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.labels
            .get(super::project::LABEL_PROJECT)
            .map(String::as_str)
    }

    /// The folder of the host that it shows.
    pub(crate) fn bound_folder(&self) -> Option<&str> {
        let option = |key: &str| self.options.get(key).map(String::as_str);
        let mut words = option("o").unwrap_or_default().split(',');
        let binds = self.driver == "local" && words.any(|o| ["bind", "rbind"].contains(&o));
        option("device").filter(|_| binds)
    }
}

impl VolumeDefinition {
    /// Where its data is if that is neither the engine's own folder nor one of its host: a share, a device,
    /// what a plugin keeps. Memory keeps nothing.
    pub(crate) fn foreign_place(&self) -> Option<String> {
        if self.driver != "local" {
            return Some(format!("volume driver {}", self.driver));
        }
        let option = |key: &str| self.options.get(key).map(String::as_str);
        let kind = option("type").unwrap_or_default();
        let device = option("device").filter(|_| kind != "tmpfs" && self.bound_folder().is_none());
        device.map(|device| format!("{kind} {device}").trim_start().to_owned())
    }

    /// Where its data is if not in the engine's own folder.
    pub(crate) fn place(&self) -> Option<String> {
        let folder = self.bound_folder().map(str::to_owned);
        folder.or_else(|| self.foreign_place())
    }

    /// Drops what is running state from the engine's answer.
    pub(crate) fn from_inspect(mut inspect: Object) -> Self {
        let name = take_string(&mut inspect, "Name");
        Self {
            driver: take_string(&mut inspect, "Driver"),
            options: take_strings(&mut inspect, "Options"),
            labels: take_strings(&mut inspect, "Labels"),
            scope: take_string(&mut inspect, "Scope"),
            anonymous: super::container::is_made_up(&name),
            name,
            other: without(
                inspect,
                &[
                    "CreatedAt",
                    "Mountpoint",
                    "Status",
                    "UsageData",
                    "LockNumber",
                ],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_keeps_driver_options_and_unknown_keys_and_loses_its_state() {
        let serde_json::Value::Object(inspect) = json!({
            "Name": "media", "Driver": "local", "Mountpoint": "/var/lib/docker/volumes/media/_data",
            "CreatedAt": "2026-11-20T13:00:00Z", "Scope": "local", "Status": {"x": 1},
            "Labels": {"com.docker.compose.project": "shop"},
            "Options": {"type": "nfs", "o": "addr=10.0.0.5,rw", "device": ":/export/media"},
            "ClusterVolume": {"ID": "abc"}
        }) else {
            panic!("an object")
        };
        let volume = VolumeDefinition::from_inspect(inspect);
        assert_eq!(volume.project(), Some("shop"));
        assert_eq!(volume.place().as_deref(), Some("nfs :/export/media"));
        assert_eq!(volume.options["device"], ":/export/media");
        let text = String::from_utf8(super::super::to_bytes(&volume).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{
  "driver": "local",
  "labels": {
    "com.docker.compose.project": "shop"
  },
  "name": "media",
  "options": {
    "device": ":/export/media",
    "o": "addr=10.0.0.5,rw",
    "type": "nfs"
  },
  "other": {
    "ClusterVolume": {
      "ID": "abc"
    }
  },
  "scope": "local",
  "version": 1
}
"#
        );
        assert_eq!(
            super::super::from_bytes::<VolumeDefinition>(text.as_bytes()).unwrap(),
            volume
        );
    }

    #[test]
    fn data_that_lies_elsewhere_is_known_by_driver_and_options() {
        let check = |driver: &str, options: &[(&str, &str)], place: Option<&str>| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let volume = VolumeDefinition {
                name: "v".into(),
                driver: driver.into(),
                options: options.iter().map(owned).collect(),
                labels: BTreeMap::new(),
                scope: "local".into(),
                anonymous: false,
                other: Object::new(),
            };
            assert_eq!(volume.place().as_deref(), place, "{driver} {options:?}");
        };
        check("local", &[], None);
        check(
            "local",
            &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")],
            None,
        );
        check(
            "local",
            &[("o", "bind"), ("type", "none"), ("device", "/srv/a")],
            Some("/srv/a"),
        );
        check(
            "local",
            &[("device", "/dev/sdb1"), ("type", "ext4")],
            Some("ext4 /dev/sdb1"),
        );
        check("rclone", &[], Some("volume driver rclone"));
    }
}
