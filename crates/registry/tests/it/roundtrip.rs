//! Captured, lost, restored: equal digests, and `skopeo` reads the result.

use refloat_model::cancel::Cancel;
use refloat_model::glob::Glob;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_model::tree_path::TreePath;
use refloat_registry::{LayoutTarget, RegistryOptions, RegistryTarget, TargetOptions};
use refloat_source::{Target, TargetError};

use crate::capture::source;
use crate::distribution::Server;
use crate::images::{
    Blob, DOCKER_MANIFEST, Image, Remote, image, image_of, index, noise, referrer,
};
use crate::memory::{Point, back_up};
use crate::skopeo::skopeo;

fn target(server: &Server) -> RegistryTarget {
    RegistryTarget::connect("back", &server.address(), TargetOptions::default()).unwrap()
}

fn restore(
    target: &dyn Target,
    point: &Point,
    request: &RestoreRequest,
) -> Result<(RestorePlan, RestoreReport), TargetError> {
    let plan = target.plan(point, request)?;
    let report = target.execute(
        &plan,
        point,
        request,
        &Silent::default(),
        &Cancel::default(),
    )?;
    Ok((plan, report))
}

fn actions(plan: &RestorePlan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| format!("{} {}", step.action.word(), step.name))
        .collect()
}

fn errors(report: &RestoreReport) -> Vec<String> {
    let steps = report.steps.iter();
    steps
        .filter_map(|s| Some(format!("{}: {}", s.step.name, s.error.as_ref()?)))
        .collect()
}

/// A registry with everything that images can be, and what is in it by repository and reference.
struct Estate {
    manifests: Vec<(String, String, Blob)>,
    blobs: Vec<(String, Blob)>,
}

impl Estate {
    fn fill(remote: &Remote) -> Self {
        let mut estate = Self {
            manifests: Vec::new(),
            blobs: Vec::new(),
        };
        let base = noise(1, 2_500_000);
        let amd = image("amd64", &[base.clone(), noise(2, 100)]);
        let arm = image("arm64", &[base.clone(), noise(3, 100)]);
        let list = index(&[("amd64", &amd), ("arm64", &arm)]);
        for image in [&amd, &arm] {
            estate.push(remote, "team/app", &image.manifest.digest, image);
        }
        for tag in ["1.0", "latest"] {
            estate.put(remote, "team/app", tag, &list);
        }
        let signature = referrer(&list, "cosign", b"signature");
        let hex = list.digest.replace(':', "-");
        estate.push(remote, "team/app", &format!("{hex}.sig"), &signature);
        let sbom = referrer(&list, "application/spdx+json", b"sbom");
        estate.push(remote, "team/app", &sbom.manifest.digest, &sbom);
        estate.put(remote, "team/app", &hex, &index(&[("unknown", &sbom)]));
        let docker = image_of(DOCKER_MANIFEST, "amd64", &[base.clone(), Vec::new()]);
        estate.push(remote, "legacy", "docker", &docker);
        estate.push(remote, "tools", "v1", &image("amd64", &[base]));
        estate
    }

    fn push(&mut self, remote: &Remote, repository: &str, reference: &str, image: &Image) {
        remote.push(repository, reference, image);
        let blobs = image
            .blobs
            .iter()
            .map(|blob| (repository.to_owned(), blob.clone()));
        self.blobs.extend(blobs);
        self.manifests
            .push((repository.into(), reference.into(), image.manifest.clone()));
    }

    fn put(&mut self, remote: &Remote, repository: &str, reference: &str, manifest: &Blob) {
        assert_eq!(remote.put_manifest(repository, reference, manifest), 201);
        self.manifests
            .push((repository.into(), reference.into(), manifest.clone()));
    }

    fn assert_in(&self, remote: &Remote) {
        for (repository, reference, manifest) in &self.manifests {
            let expected = Some((manifest.media_type.clone(), manifest.bytes.clone()));
            assert_eq!(
                remote.manifest(repository, reference),
                expected,
                "{repository} {reference}"
            );
        }
        for (repository, blob) in &self.blobs {
            assert_eq!(
                remote.blob(repository, &blob.digest),
                Some(blob.bytes.clone())
            );
        }
    }
}

#[test]
fn a_wiped_registry_comes_back_with_equal_digests_and_signatures() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&old.host()));
    let run = back_up(&source(&old, RegistryOptions::default()), None).unwrap();
    assert_eq!(run.failures(), "");
    drop(old);

    let request = RestoreRequest::default();
    let (plan, report) = restore(&target(&new), &run.point, &request).unwrap();
    assert!(
        plan.steps.iter().all(|step| step.action == Action::Create),
        "{:?}",
        actions(&plan)
    );
    // Tags last, and what signs before what is signed.
    let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    let hex = estate.manifests[2].2.digest.replace(':', "-");
    let expected = [
        "legacy:docker".to_owned(),
        format!("team/app:{hex}"),
        format!("team/app:{hex}.sig"),
        "team/app:1.0".to_owned(),
        "team/app:latest".to_owned(),
        "tools:v1".to_owned(),
    ];
    assert_eq!(names, expected);
    assert_eq!(errors(&report), [] as [String; 0]);
    assert!(report.is_complete());
    estate.assert_in(&Remote::new(&new.host()));
    // The base layer travelled once; the others took it over.
    let tools = report
        .steps
        .iter()
        .find(|s| s.step.name == "tools:v1")
        .unwrap();
    assert!(
        tools.remarks[0].contains("1 taken over"),
        "{:?}",
        tools.remarks
    );

    for (repository, _, manifest) in &estate.manifests {
        let reference = format!("docker://{}/{repository}@{}", new.host(), manifest.digest);
        let Some(raw) = skopeo(&["inspect", "--tls-verify=false", "--raw", &reference]) else {
            break;
        };
        assert_eq!(raw.unwrap().into_bytes(), manifest.bytes);
    }
    let copy = tempfile::tempdir().unwrap();
    let from = format!(
        "docker://{}/team/app@{}",
        new.host(),
        estate.manifests[2].2.digest
    );
    let to = format!("dir:{}", copy.path().display());
    if let Some(copied) = skopeo(&["copy", "--src-tls-verify=false", "--all", &from, &to]) {
        copied.unwrap();
        assert_eq!(
            std::fs::read(copy.path().join("manifest.json")).unwrap(),
            estate.manifests[2].2.bytes
        );
    }

    let (plan, report) = restore(&target(&new), &run.point, &request).unwrap();
    assert!(
        plan.steps.iter().all(|step| step.action == Action::Reuse),
        "{:?}",
        actions(&plan)
    );
    assert!(report.is_complete());
    assert!(
        report
            .steps
            .iter()
            .all(|s| s.remarks[0].contains(" 0 blobs uploaded"))
    );
    // And what was restored is the same point again.
    let again = back_up(&source(&new, RegistryOptions::default()), None).unwrap();
    let images = |point: &Point| {
        let node = point
            .root
            .at(&TreePath::parse("/images/hub/team%2Fapp/blobs").unwrap());
        node.cloned().unwrap()
    };
    assert!(images(&again.point) == images(&run.point));
}

#[test]
fn moved_tags_are_conflicts_until_somebody_decides() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let (old, new) = (
        image("amd64", &[noise(1, 9)]),
        image("amd64", &[noise(2, 9)]),
    );
    remote.push("app", "1", &old);
    remote.push("app", "2", &old);
    let run = back_up(&source(&server, RegistryOptions::default()), None).unwrap();
    remote.push("app", "1", &new);
    let at = |reference: &str| remote.manifest("app", reference).map(|(_, bytes)| bytes);
    let attempt = |on_conflict| {
        let request = RestoreRequest {
            on_conflict,
            ..RestoreRequest::default()
        };
        restore(&target(&server), &run.point, &request)
    };
    assert!(matches!(
        attempt(OnConflict::Fail),
        Err(TargetError::NotExecutable(1))
    ));
    assert_eq!(at("1"), Some(new.manifest.bytes.clone()));
    let (plan, report) = attempt(OnConflict::Skip).unwrap();
    assert_eq!(actions(&plan), ["skip app:1", "reuse app:2"]);
    assert!(report.is_complete());
    assert_eq!(at("1"), Some(new.manifest.bytes.clone()));
    let (plan, _) = attempt(OnConflict::Rename).unwrap();
    assert_eq!(actions(&plan), ["rename app:1", "reuse app:2"]);
    assert_eq!(at("1-restored"), Some(old.manifest.bytes.clone()));
    let (plan, report) = attempt(OnConflict::Replace).unwrap();
    assert_eq!(actions(&plan), ["replace app:1", "reuse app:2"]);
    assert_eq!(errors(&report), [] as [String; 0]);
    assert_eq!(at("1"), Some(old.manifest.bytes.clone()));

    // Moved between plan and execution: not touched.
    let request = RestoreRequest::default();
    let plan = target(&server).plan(&run.point, &request).unwrap();
    remote.push("app", "1", &new);
    let (silent, cancel) = (Silent::default(), Cancel::default());
    let report = target(&server)
        .execute(&plan, &run.point, &request, &silent, &cancel)
        .unwrap();
    let changed = "which it was not when the restore was planned";
    assert_eq!(
        errors(&report),
        [format!(
            "app:1: it is {} there, {changed}",
            new.manifest.digest
        )]
    );
    assert_eq!(at("1"), Some(new.manifest.bytes));
}

#[test]
fn images_are_chosen_and_renamed_by_rules() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&old.host()));
    let run = back_up(&source(&old, RegistryOptions::default()), None).unwrap();
    let remote = Remote::new(&new.host());
    let request = |only: &[&str], rename: &[(&str, &str)]| RestoreRequest {
        only: only.iter().map(ToString::to_string).collect(),
        rename: rename
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect(),
        ..RestoreRequest::default()
    };
    let rules = [("registry:hub", "mirror"), ("repository:team/", "shop/")];
    let (plan, report) = restore(
        &target(&new),
        &run.point,
        &request(&["image:team/app:1.0"], &rules),
    )
    .unwrap();
    assert_eq!(plan.steps.len(), 3, "{:?}", actions(&plan));
    assert_eq!(errors(&report), [] as [String; 0]);
    let list = &estate.manifests[2].2;
    let hex = list.digest.replace(':', "-");
    for reference in ["1.0", &hex, &format!("{hex}.sig")] {
        assert!(
            remote.manifest("mirror/shop/app", reference).is_some(),
            "{reference}"
        );
    }
    assert_eq!(remote.manifest("mirror/shop/app", "latest"), None);
    let rules = [("image:legacy:docker", "kept")];
    restore(&target(&new), &run.point, &request(&["legacy"], &rules)).unwrap();
    assert!(remote.manifest("legacy", "kept").is_some());
    for (only, rename) in [
        (&["nothing"] as &[&str], &[] as &[(&str, &str)]),
        (&[], &[("repository:nothing", "x")]),
        (&[], &[("repository:legacy", "Not A Name")]),
    ] {
        let plan = target(&new).plan(&run.point, &request(only, rename));
        assert!(
            matches!(plan, Err(TargetError::NotInPoint { .. })),
            "{only:?} {rename:?}"
        );
    }
    // Two images must not become one.
    let both = request(
        &["legacy", "tools"],
        &[("image:legacy:docker", "x:1"), ("image:tools:v1", "x:1")],
    );
    let plan = target(&new).plan(&run.point, &both).unwrap();
    assert_eq!(
        actions(&plan),
        ["rename legacy:docker", "conflict tools:v1"]
    );
}

#[test]
fn what_the_point_lacks_is_named_and_the_rest_restored() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let remote = Remote::new(&old.host());
    let (good, bad) = (
        image("amd64", &[noise(1, 50)]),
        image("arm64", &[noise(2, 50)]),
    );
    remote.push("app", "good", &good);
    remote.push("app", "bad", &bad);
    let mut run = back_up(&source(&old, RegistryOptions::default()), None).unwrap();
    let lost = &bad.blobs[1].digest;
    let path = format!("/images/hub/app/blobs/sha256/{}", &lost[7..]);
    run.point
        .root
        .remove(&TreePath::parse(&path).unwrap())
        .unwrap();
    let (plan, report) = restore(&target(&new), &run.point, &RestoreRequest::default()).unwrap();
    assert_eq!(actions(&plan), ["skip app:bad", "create app:good"]);
    assert!(!report.is_complete());
    let why = format!("missing in the recovery point: {lost}");
    assert_eq!(report.findings[0].message, why);
    let remote = Remote::new(&new.host());
    assert_eq!(remote.manifest("app", "bad"), None);
    assert_eq!(
        remote.manifest("app", "good").unwrap().1,
        good.manifest.bytes
    );
}

#[test]
fn a_damaged_manifest_of_the_point_is_never_pushed() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let image = image("amd64", &[noise(1, 50)]);
    Remote::new(&old.host()).push("app", "1", &image);
    let mut run = back_up(&source(&old, RegistryOptions::default()), None).unwrap();
    let folder = TreePath::parse("/images/hub/app/blobs/sha256").unwrap();
    let name = image.manifest.digest[7..].as_bytes().to_vec();
    run.point
        .root
        .remove(&folder.clone().join(&name).unwrap())
        .unwrap();
    let node = folder
        .components()
        .iter()
        .fold(&mut run.point.root, |node, name| {
            node.entries().get_mut(name).unwrap()
        });
    let mut bytes = image.manifest.bytes.clone();
    bytes[0] = b' ';
    node.entries()
        .insert(name, crate::memory::Node::File(bytes));
    let (plan, report) = restore(&target(&new), &run.point, &RestoreRequest::default()).unwrap();
    assert_eq!(actions(&plan), ["skip app:1"]);
    assert!(
        report.findings[0]
            .message
            .ends_with(&format!("not {}", image.manifest.digest))
    );
    assert!(!report.is_complete());
    assert_eq!(Remote::new(&new.host()).manifest("app", "1"), None);
}

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

/// Restores a whole point, and asserts that nothing failed.
pub fn restore_all(target: &dyn Target, point: &Point) {
    let (_, report) = restore(target, point, &RestoreRequest::default()).unwrap();
    assert_eq!(errors(&report), [] as [String; 0]);
    assert!(report.is_complete(), "{:?}", report.findings);
}
