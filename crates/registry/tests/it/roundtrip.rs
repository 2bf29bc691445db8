//! Captured, lost, restored: equal digests, and `skopeo` reads the result.

use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_model::tree_path::TreePath;
use refloat_registry::{RegistryOptions, RegistryTarget, TargetOptions};
use refloat_source::{Target, TargetError};

use crate::capture::source;
use crate::estate::Estate;
use crate::images::{Remote, image, noise};
use crate::memory::{Point, back_up};
use crate::server::Server;
use crate::skopeo;

fn target(server: &Server) -> RegistryTarget {
    RegistryTarget::connect("back", &server.address(), TargetOptions::default()).unwrap()
}

pub fn restore(
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

pub fn actions(plan: &RestorePlan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| format!("{} {}", step.action.word(), step.name))
        .collect()
}

pub fn errors(report: &RestoreReport) -> Vec<String> {
    let steps = report.steps.iter();
    steps
        .filter_map(|s| Some(format!("{}: {}", s.step.name, s.error.as_ref()?)))
        .collect()
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

    assert_skopeo_reads(&new, &estate);

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

/// Reads every manifest by digest, and copies a whole image, with skopeo.
fn assert_skopeo_reads(new: &Server, estate: &Estate) {
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
}

#[test]
fn a_rename_within_a_registry_uploads_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let remote = Remote::new(&server.host());
    let first = image("amd64", &[noise(1, 9000), noise(2, 9000)]);
    let second = image("amd64", &[noise(1, 9000), noise(3, 9000)]);
    remote.push("team/app", "1", &first);
    remote.push("team/app", "2", &second);
    let run = back_up(&source(&server, RegistryOptions::default()), None).unwrap();
    let request = RestoreRequest {
        rename: vec![("repository:team/".to_owned(), "archive/team/".to_owned())],
        ..RestoreRequest::default()
    };
    let (plan, report) = restore(&target(&server), &run.point, &request).unwrap();
    assert_eq!(actions(&plan), ["rename team/app:1", "rename team/app:2"]);
    assert_eq!(errors(&report), [] as [String; 0]);
    for (step, image) in report.steps.iter().zip([&first, &second]) {
        let remark = &step.remarks[0];
        assert!(
            remark.contains(" 0 blobs uploaded (0 bytes), 3 taken over"),
            "{remark}"
        );
        let tag = step.step.name.rsplit_once(':').unwrap().1;
        let restored = remote.manifest("archive/team/app", tag).unwrap().1;
        assert_eq!(restored, image.manifest.bytes);
    }
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
    let name = image.manifest.digest.as_bytes()[7..].to_vec();
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

/// Restores a whole point, and asserts that nothing failed.
pub fn restore_all(target: &dyn Target, point: &Point) {
    let (_, report) = restore(target, point, &RestoreRequest::default()).unwrap();
    assert_eq!(errors(&report), [] as [String; 0]);
    assert!(report.is_complete(), "{:?}", report.findings);
}
