//! Restoring into a folder of OCI layouts.

use refloat_model::glob::Glob;
use refloat_model::plan::{Action, RestoreRequest};
use refloat_registry::{LayoutTarget, RegistryOptions};

use crate::capture::source;
use crate::estate::Estate;
use crate::images::{Remote, image, noise};
use crate::memory::back_up;
use crate::roundtrip::{errors, restore};
use crate::server::Server;
use crate::skopeo;

#[test]
fn a_folder_of_layouts_is_one_that_skopeo_accepts() {
    let Some(server) = Server::start() else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&server.host()));
    let options = RegistryOptions {
        select: vec![Glob::new("t*").unwrap()],
        ..RegistryOptions::default()
    };
    let run = back_up(&source(&server, options), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = LayoutTarget::new("out", folder.path().join("images"));
    let request = RestoreRequest::default();
    let (plan, report) = restore(&target, &run.point, &request).unwrap();
    assert!(plan.steps.iter().all(|step| step.action == Action::Create));
    assert_eq!(errors(&report), [] as [String; 0]);
    let layout = folder.path().join("images/team%2Fapp");
    let list = &estate.manifests[2].2;
    let from = format!("oci:{}:1.0", layout.display());
    let copy = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", copy.path().display());
    if let Some(copied) = skopeo(&["copy", "--all", &from, &to]) {
        copied.unwrap();
        let raw = skopeo(&["inspect", "--raw", &from]).unwrap().unwrap();
        assert_eq!(raw.into_bytes(), list.bytes);
        assert_eq!(
            std::fs::read(copy.path().join("manifest.json")).unwrap(),
            list.bytes
        );
    }
    // Again: everything is there. Damaged: put right.
    let (plan, _) = restore(&target, &run.point, &request).unwrap();
    assert!(plan.steps.iter().all(|step| step.action == Action::Reuse));
    let blob = layout
        .join("blobs/sha256")
        .join(&estate.blobs[1].1.digest[7..]);
    std::fs::write(&blob, b"rot").unwrap();
    let (_, report) = restore(&target, &run.point, &request).unwrap();
    assert!(report.is_complete());
    assert_eq!(std::fs::read(&blob).unwrap(), estate.blobs[1].1.bytes);
}

#[test]
fn nothing_is_written_through_a_link_in_the_folder() {
    let Some(server) = Server::start() else {
        return;
    };
    Remote::new(&server.host()).push("app", "1", &image("amd64", &[noise(1, 50)]));
    let run = back_up(&source(&server, RegistryOptions::default()), None).unwrap();
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("app")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("app/blobs")).unwrap();
    let target = LayoutTarget::new("out", folder.path());
    let (_, report) = restore(&target, &run.point, &RestoreRequest::default()).unwrap();
    assert!(errors(&report)[0].ends_with("app/blobs is a symbolic link or no folder"));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}
