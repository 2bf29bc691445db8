//! Amazon's shared files, `~/.aws/config` and `~/.aws/credentials`.
//!
//! Invariant: values are secrets until somebody says otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use refloat_model::secret::Secret;

use crate::failure::Failure;

/// The settings of the sections of a file.
#[derive(Default)]
pub(super) struct Sections(BTreeMap<String, BTreeMap<String, Secret>>);

impl Sections {
    /// Reads a file; one that is not there is empty.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(
                Secret::new(bytes).expose(),
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::CredentialSource {
                place: path.display().to_string(),
                source: Box::new(error),
            }),
        }
    }

    fn parse(text: &str) -> Self {
        let mut sections = Self::default();
        let mut section: Option<String> = None;
        for line in text.lines() {
            // Indented lines are settings of settings (`s3 =`), which nothing here reads.
            if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                let name = name.trim();
                let name = name.strip_prefix("profile ").unwrap_or(name).trim();
                section = Some(name.to_owned());
            } else if let (Some(section), Some((name, value))) = (&section, line.split_once('=')) {
                let value = value.split(" #").next().unwrap_or_default().trim();
                let settings = sections.0.entry(section.clone()).or_default();
                let _earlier =
                    settings.insert(name.trim().to_ascii_lowercase(), Secret::new(value));
            }
        }
        sections
    }

    pub(super) fn has(&self, section: &str) -> bool {
        self.0.contains_key(section)
    }

    /// A value that may be secret.
    pub(super) fn secret(&self, section: &str, name: &str) -> Option<Secret> {
        let value = self.0.get(section)?.get(name)?;
        Some(Secret::new(value.expose())).filter(|value| !value.expose().is_empty())
    }

    /// A value that is none.
    pub(super) fn text(&self, section: &str, name: &str) -> Option<String> {
        let value = self.secret(section, name)?;
        String::from_utf8(value.expose().to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_settings_are_read() {
        let text = "# comment\n[default]\nregion = eu-west-1 # here\naws_access_key_id=A\n\
                    [profile prod]\nROLE_ARN = arn:x\ns3 =\n  max_queue = 1\nempty =\n";
        let sections = Sections::parse(text);
        assert_eq!(
            sections.text("default", "region").as_deref(),
            Some("eu-west-1")
        );
        assert_eq!(sections.text("prod", "role_arn").as_deref(), Some("arn:x"));
        assert_eq!(sections.text("prod", "max_queue"), None);
        assert_eq!(sections.text("prod", "empty"), None);
        assert!(sections.has("prod") && !sections.has("profile prod"));
    }
}
