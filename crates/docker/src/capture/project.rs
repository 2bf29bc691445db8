//! A compose project: its definition and its files.
//!
//! Invariant: the definition names exactly the files that were looked for and found; one that
//! cannot be read after all is reported by the sink.

use std::collections::BTreeMap;
use std::path::Path;

use refloat_localfs::{Owners, WalkOptions, walk_entry};
use refloat_model::outcome::Consistency;
use refloat_source::SourceError;

use super::Session;
use crate::discover::project_definition;
use crate::error::chain;
use crate::layout::{PROJECT_FILE, PROJECT_FILES};

/// Files by their place below `files/`.
#[derive(Default)]
struct Folder {
    files: BTreeMap<String, String>,
    folders: BTreeMap<String, Folder>,
}

impl Session<'_> {
    pub(super) fn project(&mut self, name: &str) -> Result<Consistency, SourceError> {
        let readable = self.source.is_local(self.discovered);
        let (definition, findings) = project_definition(name, &self.discovered.estate, readable);
        self.findings.extend(findings);
        let mut root = Folder::default();
        for file in &definition.files {
            let mut folder = &mut root;
            let mut rest = file.stored.as_str();
            while let Some((name, below)) = rest.split_once('/') {
                folder = folder.folders.entry(name.to_owned()).or_default();
                rest = below;
            }
            folder.files.insert(rest.to_owned(), file.path.clone());
        }
        self.enter(self.name)?;
        self.document(PROJECT_FILE.as_bytes(), &definition)?;
        self.folder(PROJECT_FILES, &root)?;
        self.leave()?;
        Ok(Self::definition())
    }

    fn folder(&mut self, name: &str, folder: &Folder) -> Result<(), SourceError> {
        self.enter(name.as_bytes())?;
        for (name, path) in &folder.files {
            let options = WalkOptions {
                owners: Owners::unnamed().into(),
                ..WalkOptions::default()
            };
            let path = Path::new(path);
            let walked = walk_entry(path, name.as_bytes(), &options, self.sink, self.cancel);
            match walked {
                Ok(summary) => self.walked(&summary.findings),
                Err(refloat_localfs::WalkError::Cancelled(_)) => {
                    return Err(SourceError::Cancelled);
                }
                Err(refloat_localfs::WalkError::Sink(error)) => return Err(error.into()),
                Err(error) => self.sink.fail(name.as_bytes(), chain(&error)),
            }
        }
        for (name, folder) in &folder.folders {
            self.folder(name, folder)?;
        }
        self.leave()?;
        Ok(())
    }
}
