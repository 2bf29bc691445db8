//! Restores into a folder that holds other file systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refloat_localfs::{FolderWriter, Landing};
use refloat_model::entry::Xattr;

use crate::copier::write;
use crate::manifest::{is_root, xattrs};
use crate::writer::{Mounted, file, path};

/// An ext4 of its own on a loop device, in a file of its own tmpfs: whatever is in the file was
/// written to the disk. Unmounted at the end.
pub struct Disk {
    // In this order.
    _mounted: Mounted,
    _below: Mounted,
    pub image: PathBuf,
}

impl Disk {
    /// Mounts 64 MiB at `at`, of which the disk really has `size`. None where that is not allowed.
    pub fn ext4(base: &Path, at: &Path, size: &str, options: &[&str]) -> Option<Self> {
        let below = base.join("below");
        fs::create_dir(&below).unwrap();
        fs::create_dir_all(at).unwrap();
        let below_mounted = Mounted::tmpfs(&below, size)?;
        let image = below.join("image");
        let made = fs::File::create(&image).unwrap().set_len(64 << 20);
        made.unwrap();
        let run = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let is_mounted = run(Command::new("mkfs.ext4")
            .arg("-q")
            .args(options)
            .arg(&image))
            && run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(at));
        if !is_mounted {
            println!("skipped: an ext4 cannot be made or mounted here");
            return None;
        }
        Some(Self {
            _mounted: Mounted::at(at),
            _below: below_mounted,
            image,
        })
    }
}

#[test]
fn an_attribute_that_does_not_fit_is_a_finding_and_the_restore_goes_on() {
    let base = tempfile::tempdir().unwrap();
    let target = base.path().join("target");
    let Some(_disk) = Disk::ext4(base.path(), &target, "64m", &["-b", "1024"]) else {
        return;
    };
    let writer = FolderWriter::open(&target).unwrap();
    let attribute = |name: &str, length| Xattr {
        name: name.as_bytes().to_vec(),
        value: vec![b'x'; length],
    };
    let mut entry = file(0o640);
    entry.metadata.xattrs = vec![attribute("user.large", 3000), attribute("user.small", 3)];
    write(&writer, &path("f"), &entry, b"content", Landing::Atomic).unwrap();
    let _state = writer.create_directory(&path("d")).unwrap();
    writer
        .set_directory_metadata(&path("d"), &entry.metadata)
        .unwrap();
    let findings = writer.take_findings().into_list("all");
    let told: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}: {}", finding.subject, finding.message))
        .collect();
    let told = |at: &str| {
        let message = "cannot set extended attribute user.large: No space left on device";
        told.iter()
            .any(|told| told.starts_with(&format!("{at}: {message}")))
    };
    assert_eq!(
        (findings.len(), told("f"), told("d")),
        (2, true, true),
        "{findings:?}"
    );
    for name in ["f", "d"] {
        let restored = xattrs(&target.join(name));
        let small = (b"user.small".to_vec(), b"xxx".to_vec());
        assert_eq!(restored.into_iter().collect::<Vec<_>>(), [small]);
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u32;
    let bytes = (0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    });
    bytes.collect()
}

#[test]
fn what_lies_on_another_file_system_is_written_out_too() {
    let base = tempfile::tempdir().unwrap();
    let target = base.path().join("target");
    let Some(disk) = Disk::ext4(base.path(), &target.join("a/mount"), "64m", &[]) else {
        return;
    };
    let writer = FolderWriter::open(&target).unwrap();
    let content = noise(5000);
    let is_on_disk = || {
        let disk = fs::read(&disk.image).unwrap();
        disk.chunks(1024).any(|block| block == &content[..1024])
    };
    let inside = path("a/mount/f");
    write(&writer, &inside, &file(0o600), &content, Landing::Atomic).unwrap();
    assert!(!is_on_disk(), "it is in memory yet");
    writer.sync().unwrap();
    assert!(is_on_disk());
}

#[test]
fn a_file_that_is_a_mount_is_written_out_too() {
    let base = tempfile::tempdir().unwrap();
    let (target, away) = (base.path().join("target"), base.path().join("away"));
    let Some(disk) = Disk::ext4(base.path(), &away, "64m", &[]) else {
        return;
    };
    fs::create_dir(&target).unwrap();
    for file in [away.join("f"), target.join("f")] {
        fs::write(file, b"old").unwrap();
    }
    let bound = Command::new("mount")
        .arg("--bind")
        .args([away.join("f"), target.join("f")])
        .status();
    assert!(bound.unwrap().success());
    let _bound = Mounted::at(&target.join("f"));
    let writer = FolderWriter::open(&target).unwrap();
    let content = noise(5000);
    write(
        &writer,
        &path("f"),
        &file(0o600),
        &content,
        Landing::InPlace,
    )
    .unwrap();
    writer.sync().unwrap();
    let image = fs::read(&disk.image).unwrap();
    assert!(image.chunks(1024).any(|block| block == &content[..1024]));
    drop(writer);
}

#[test]
fn trouble_of_another_file_system_is_told() {
    if !is_root() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let target = base.path().join("target");
    // The disk has much less than it says.
    let Some(_disk) = Disk::ext4(base.path(), &target.join("mount"), "12m", &[]) else {
        return;
    };
    let writer = FolderWriter::open(&target).unwrap();
    let content = noise(20 << 20);
    let inside = path("mount/f");
    write(&writer, &inside, &file(0o600), &content, Landing::Atomic).unwrap();
    let error = writer.sync().unwrap_err();
    // The kernel says once that the disk failed, once that it is full.
    assert!(error.to_string().ends_with(" write out mount"), "{error}");
}
