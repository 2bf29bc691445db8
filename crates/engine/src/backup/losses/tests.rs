use super::*;

/// `place` or `kind:name`, a number of files, and `-rule` or `!` if it was not saved; of the
/// workload that the last part of a place names.
fn record(words: &str) -> ItemRecord {
    let mut words = words.split(' ');
    let (name, files) = (words.next().unwrap(), words.next().unwrap());
    let outcome = match words.next() {
        None => Outcome::Saved,
        Some("!") => Outcome::Failed {
            reason: "it is gone".into(),
        },
        Some(rule) => Outcome::Skipped {
            rule: rule.trim_start_matches('-').to_owned(),
            why: String::new(),
        },
    };
    let (kind, path) = match name.split_once(':') {
        Some(("image", name)) => (ItemKind::Image, format!("/images/prod/{name}")),
        Some(("volume", name)) => (ItemKind::Volume, format!("/docker/prod/volumes/{name}")),
        Some(("pod", name)) => (ItemKind::Container, format!("/docker/prod/{name}")),
        _ => (
            ItemKind::Object,
            format!("/kubernetes/prod/resources/{name}"),
        ),
    };
    let workload = name.rsplit_once('/').map(|(_, space)| space.to_owned());
    let item = Item {
        workload: workload.filter(|space| space != "_cluster"),
        ..Item::new(
            kind,
            parts(name).unwrap_or_else(|| name.to_owned()),
            TreePath::parse(path).unwrap(),
        )
    };
    ItemRecord {
        item,
        outcome,
        consistency: None,
        files: files.parse().unwrap(),
        bytes: 0,
    }
}

/// `secrets in shop`.
fn parts(place: &str) -> Option<String> {
    let (rest, space) = place.rsplit_once('/')?;
    let (_, resource) = rest.rsplit_once('/')?;
    Some(format!("{resource} in {space}"))
}

fn check(before: &[&str], now: &[&str], findings: &[Finding]) -> String {
    let source = SourcePlan {
        name: "prod".into(),
        kind: "kubernetes".into(),
        address: String::new(),
        identity: String::new(),
        versions: BTreeMap::new(),
        groups: Vec::new(),
        settled: Vec::new(),
        placements: Vec::new(),
        images: Vec::new(),
        findings: findings.to_vec(),
    };
    let records = |words: &[&str]| words.iter().map(|word| record(word)).collect::<Vec<_>>();
    let finding = compare(&source, &records(before), &records(now));
    finding.map_or_else(String::new, |finding| {
        assert_eq!(finding.subject, "source prod");
        let (_, lost) = finding.message.split_once('(').unwrap();
        lost.trim_end_matches(')').to_owned()
    })
}

const SPACES: &str = "core/v1/namespaces/_cluster 6";
const SECRETS: &str = "core/v1/secrets/shop 4";
const CONFIGS: &str = "core/v1/configmaps/shop 3";
const DEPLOYMENTS: &str = "apps/v1/deployments/shop 8";

#[test]
fn a_kind_that_is_gone_and_a_workload_that_lost_most_are_losses() {
    let whole = [SPACES, SECRETS, CONFIGS, DEPLOYMENTS];
    for (now, expected) in [
        (&whole[..], ""),
        (
            &[SPACES, DEPLOYMENTS],
            "configmaps: 3 before, 0 now; object configmaps in shop: 3 before, 0 now; \
             object secrets in shop: 4 before, 0 now; secrets: 4 before, 0 now",
        ),
        // The namespace is still there, and so is what the cluster itself puts into it.
        (
            &[
                SPACES,
                SECRETS,
                "skipped/automanaged/core/v1/configmaps/shop 0 -automanaged",
            ],
            "all: 15 before, 4 now; configmaps: 3 before, 0 now; deployments.apps: 8 before, 0 now; \
             object configmaps in shop: 3 before, 0 now; object deployments in shop: 8 before, 0 now; \
             workload shop: 15 before, 4 now",
        ),
        (
            &[SPACES, SECRETS, CONFIGS, "apps/v1/deployments/shop 3"],
            "",
        ),
        // Another place, as of a new version of its kind.
        (
            &[SPACES, SECRETS, CONFIGS, "apps/v2/deployments/shop 8"],
            "",
        ),
    ] {
        assert_eq!(check(&whole, now, &[]), expected, "{now:?}");
    }
    let few = [SPACES, "core/v1/secrets/shop 2", "core/v1/pods/shop 50"];
    assert_eq!(check(&few, &[SPACES], &[]), "", "too few, and what passes");
}

#[test]
fn a_kind_that_is_gone_from_one_namespace_is_a_loss() {
    let before = [SPACES, SECRETS, DEPLOYMENTS, "core/v1/secrets/blog 20"];
    let after = [SPACES, DEPLOYMENTS, "core/v1/secrets/blog 20"];
    let lost = "object secrets in shop: 4 before, 0 now";
    assert_eq!(check(&before, &after, &[]), lost);
}

#[test]
fn namespaces_that_are_gone_as_a_whole_are_no_loss_by_themselves() {
    let before = [
        SPACES,
        DEPLOYMENTS,
        "apps/v1/deployments/preview-1 9",
        "apps/v1/deployments/preview-2 9",
        "core/v1/persistentvolumeclaims/preview-1 3",
    ];
    let after = ["core/v1/namespaces/_cluster 1", DEPLOYMENTS];
    assert_eq!(check(&before, &after, &[]), "");
    let standing = [
        SPACES,
        DEPLOYMENTS,
        "core/v1/serviceaccounts/preview-1 1",
        "core/v1/serviceaccounts/preview-2 1",
    ];
    let lost = check(&before, &standing, &[]);
    assert!(
        lost.starts_with("all: 29 before, 8 now; deployments.apps: 26 before, 8 now; "),
        "{lost}"
    );
}

#[test]
fn what_comes_and_goes_by_itself_is_no_loss() {
    let passing = [
        "nodes",
        "nodeclaims.karpenter.sh",
        "machines.cluster.x-k8s.io",
        "ciliumendpoints.cilium.io",
        "vulnerabilityreports.aquasecurity.github.io",
        "taskruns.tekton.dev",
        "workflows.argoproj.io",
        "namespaces",
    ]
    .map(|kind| match kind.split_once('.') {
        Some((resource, group)) => format!("{group}/v1/{resource}/shop 40"),
        None => format!("core/v1/{kind}/_cluster 40"),
    });
    let passing = passing.iter().map(String::as_str);
    let before: Vec<&str> = passing.chain([SECRETS, DEPLOYMENTS]).collect();
    assert_eq!(check(&before, &[SECRETS, DEPLOYMENTS], &[]), "");
    let standing = [SPACES, "core/v1/serviceaccounts/shop 1"];
    assert_eq!(
        check(&[SPACES, SECRETS, CONFIGS], &standing, &[]),
        "all: 7 before, 0 now; configmaps: 3 before, 0 now; object configmaps in shop: 3 before, 0 now; \
         object secrets in shop: 4 before, 0 now; secrets: 4 before, 0 now; workload shop: 7 before, 0 now"
    );
}

#[test]
fn what_is_not_seen_not_saved_or_left_out_is_not_lost() {
    let whole = [SPACES, SECRETS, DEPLOYMENTS];
    let unseen = [Finding::error(
        "secrets",
        "these credentials cannot list secrets",
    )];
    assert_eq!(check(&whole, &[SPACES, DEPLOYMENTS], &unseen), "");
    for outcome in ["!", "-not-selected"] {
        let secrets = format!("core/v1/secrets/shop 0 {outcome}");
        assert_eq!(check(&whole, &[SPACES, DEPLOYMENTS, &secrets], &[]), "");
    }
}

#[test]
fn emptied_registries_and_engines_are_losses() {
    let images = ["image:a 9", "image:b 9", "image:c 9"];
    let emptied = ["image:a 0 -empty", "image:b 0 -empty", "image:c 0 -empty"];
    let lost = "all: 3 before, 0 now; image: 3 before, 0 now";
    assert_eq!(check(&images, &emptied, &[]), lost);
    assert_eq!(check(&images, &["image:c 9"], &[]), "");
    let volumes = ["volume:a 9", "volume:b 9", "volume:c 9", "pod:web 1"];
    let lost = "all: 3 before, 0 now; volume: 3 before, 0 now";
    assert_eq!(check(&volumes, &["pod:web 1"], &[]), lost);
}
