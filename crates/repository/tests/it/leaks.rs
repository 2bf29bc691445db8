//! E3: nothing that was saved can be read in what is stored, nor in its names.

use std::sync::Arc;

use refloat_repository::ChunkerChoice;
use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};

use crate::support::*;

/// Markers that look like nothing else; also in forms that an encoder would make of them.
fn markers() -> Vec<String> {
    (0..1_000)
        .map(|number| format!("canary-{number:04}-{:08x}", number * 2_654_435_761_u64))
        .collect()
}

#[test]
fn no_marker_is_found_in_any_stored_file() {
    let folder = tempfile::tempdir().unwrap();
    let storage: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
    drop(init(&storage, ChunkerChoice::Gear));
    let markers = markers();
    let file = |marker: &String| {
        // Short and long, compressible or not, in content and in names.
        let text = format!("apiVersion: v1\nkind: Secret\npassword: {marker}\n");
        let long = [text.as_bytes(), &noise(3_000, marker.len() as u64)].concat();
        [
            (format!("{marker}/{marker}"), (1, text.into_bytes())),
            (format!("long/{marker}"), (1, long)),
        ]
    };
    let files: Files = markers.iter().flat_map(file).collect();
    let _id = backup(&storage, &files).id;
    let mut names = String::new();
    let mut bytes = storage.read(&FileKey::CONFIG).unwrap();
    for kind in FileKind::FOLDERS {
        for file in storage.list(kind).unwrap() {
            names.push_str(&file.key.path());
            bytes.extend(storage.read(&file.key).unwrap());
        }
    }
    // All markers begin alike, and nothing else does.
    for form in [
        "canary",
        "Y2FuYXJ5",
        "NhbmFyeS",
        "jYW5hcnkt",
        "63616e617279",
        "Secret",
        PASSWORD,
    ] {
        let found = bytes
            .windows(form.len())
            .any(|window| window == form.as_bytes());
        assert!(!found, "{form} is in a stored file");
        assert!(!names.contains(form), "{form} is in a name");
    }
}
