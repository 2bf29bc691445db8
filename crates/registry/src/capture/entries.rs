//! The index of a layout, written as it flows: a repository may have a million tags.
//!
//! Invariant: equal roots give equal bytes.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use crate::digest::Digest;
use crate::layout::REF_NAME;
use crate::manifest::Descriptor;
use crate::name::Tag;

/// One line of an index: a tag and what it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    pub(crate) tag: Option<Tag>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: Arc<str>,
}

/// See the module.
pub(crate) struct IndexText<'a> {
    entries: std::slice::Iter<'a, IndexEntry>,
    line: Vec<u8>,
    at: usize,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    First,
    Rest,
    End,
}

impl<'a> IndexText<'a> {
    pub(crate) fn new(entries: &'a [IndexEntry]) -> Self {
        Self {
            entries: entries.iter(),
            line: Vec::new(),
            at: 0,
            part: Part::Head,
        }
    }

    fn next_line(&mut self) -> io::Result<()> {
        self.at = 0;
        self.line.clear();
        if self.part == Part::Head {
            self.line.extend_from_slice(
                br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#,
            );
            self.part = Part::First;
            return Ok(());
        }
        if self.part == Part::End {
            return Ok(());
        }
        let Some(entry) = self.entries.next() else {
            self.line.extend_from_slice(b"\n]}");
            self.part = Part::End;
            return Ok(());
        };
        self.line.extend_from_slice(if self.part == Part::First {
            b"\n"
        } else {
            b",\n"
        });
        self.part = Part::Rest;
        let annotations = entry
            .tag
            .as_ref()
            .map(|tag| BTreeMap::from([(REF_NAME.to_owned(), tag.to_string())]));
        let descriptor = Descriptor {
            media_type: entry.media_type.to_string(),
            digest: entry.digest,
            size: entry.size,
            platform: None,
            artifact_type: None,
            annotations,
        };
        serde_json::to_writer(&mut self.line, &descriptor).map_err(io::Error::other)
    }
}

impl Read for IndexText<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.line.len() {
            self.next_line()?;
        }
        let mut rest = self.line.get(self.at..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_any_length_is_one_document() {
        for count in [0, 1, 3] {
            let entries: Vec<IndexEntry> = (0..count)
                .map(|number| IndexEntry {
                    tag: (number > 0).then(|| format!("t{number}").parse().unwrap()),
                    digest: Digest::of(&[number]),
                    size: 1,
                    media_type: "m".into(),
                })
                .collect();
            let mut text = String::new();
            IndexText::new(&entries).read_to_string(&mut text).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                json["manifests"].as_array().unwrap().len(),
                usize::from(count)
            );
            if count == 3 {
                assert_eq!(json["manifests"][0].get("annotations"), None);
                assert_eq!(json["manifests"][2]["annotations"][REF_NAME], "t2");
            }
        }
    }
}
