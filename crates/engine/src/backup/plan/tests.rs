use refloat_model::subject::SubjectKind;

use super::*;

fn subject(name: &str) -> Subject {
    Subject::new("web", SubjectKind::Object, name)
}

fn item(kind: ItemKind, name: &str, workload: Option<&str>, requires: &[&str]) -> Item {
    Item {
        workload: workload.map(str::to_owned),
        provides: vec![subject(name)],
        requires: requires.iter().map(|r| subject(r)).collect(),
        ..Item::new(
            kind,
            name.to_owned(),
            TreePath::root().child(kind.word()).child(name),
        )
    }
}

fn workload(name: &str, requires: &[&str]) -> Workload {
    Workload {
        name: name.to_owned(),
        kind: "compose project".to_owned(),
        requires: requires.iter().map(|r| subject(r)).collect(),
    }
}

fn estate() -> Inventory {
    Inventory {
        workloads: vec![
            workload("shop", &["shop-web"]),
            workload("blog", &["blog-web"]),
        ],
        items: vec![
            item(ItemKind::Host, "host", None, &[]),
            item(
                ItemKind::Container,
                "shop-web",
                Some("shop"),
                &["image", "shared"],
            ),
            item(ItemKind::Dump, "shop-db", Some("shop"), &[]),
            item(ItemKind::Volume, "shop-data", Some("shop"), &[]),
            item(ItemKind::Image, "image", None, &["base"]),
            item(ItemKind::Image, "base", None, &[]),
            item(ItemKind::Image, "unused", None, &[]),
            item(ItemKind::Volume, "shared", Some("blog"), &[]),
            item(ItemKind::Container, "blog-web", Some("blog"), &[]),
        ],
        ..Inventory::default()
    }
}

/// One line for each group and settled item.
fn check(inventory: Inventory, workloads: &[&str]) -> Vec<String> {
    let policy = BackupPolicy {
        name: "p".into(),
        select: vec![Selection {
            source: "web".into(),
            workloads: workloads.iter().map(|w| Glob::new(w).unwrap()).collect(),
        }],
        waivers: Vec::new(),
    };
    let source = |name: &str, inventory| Discovered {
        name: name.into(),
        kind: "docker".into(),
        address: "unix:".into(),
        inventory,
    };
    let plan = plan(
        &policy,
        vec![source("web", inventory), source("other", estate())],
    );
    let names = |items: &[Item]| {
        items
            .iter()
            .map(|i| i.title.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut lines = Vec::new();
    for source in &plan.sources {
        assert_eq!(
            source.name, "web",
            "a source that is not selected is not planned"
        );
        for group in &source.groups {
            let name = group.workload.as_ref().map_or("-", |w| w.name.as_str());
            lines.push(format!(
                "{name}: {} | {} | {}",
                names(&group.running),
                names(&group.held),
                names(&group.after)
            ));
        }
        lines.extend(source.settled.iter().map(|(item, outcome)| match outcome {
            Outcome::Skipped { rule, why } => format!("{}: {rule}: {why}", item.title),
            Outcome::Failed { reason } => format!("{}: {reason}", item.title),
            other => format!("{}: {other:?}", item.title),
        }));
    }
    lines
}

#[test]
fn a_whole_source_is_grouped_by_workload_and_phase() {
    assert_eq!(
        check(estate(), &[]),
        [
            "blog:  | shared | blog-web",
            "shop: shop-db | shop-data | shop-web",
            "-:  |  | host image base unused",
        ]
    );
}

#[test]
fn a_selected_workload_brings_along_what_it_refers_to() {
    assert_eq!(
        check(estate(), &["sh*"]),
        [
            "blog:  | shared | ",
            "shop: shop-db | shop-data | shop-web",
            "-:  |  | host image base",
            "unused: not-selected: the policy selects workloads sh*",
            "blog-web: not-selected: the policy selects workloads sh*",
        ]
    );
}

#[test]
fn where_no_workload_is_selected_nothing_is_not_even_the_host() {
    let lines = check(estate(), &["datbase"]);
    assert_eq!(lines[0], "-:  |  | ");
    let left_out = lines[1..]
        .iter()
        .filter(|line| line.contains(": not-selected: "));
    assert_eq!(left_out.count(), estate().items.len());
}

#[test]
fn skipped_and_overlapping_items_are_settled_beforehand() {
    let mut inventory = estate();
    inventory.items.truncate(1);
    inventory.workloads.clear();
    let mut inner = item(ItemKind::Volume, "inner", None, &[]);
    inner.path = inventory.items[0].path.child("inner");
    let mut skipped = item(ItemKind::Bind, "/proc", Some("gone"), &[]);
    skipped.skip = Some(Outcome::Skipped {
        rule: "device-path".into(),
        why: "/proc is the kernel's".into(),
    });
    let again = inventory.items[0].clone();
    inventory.items.extend([inner, skipped, again]);
    assert_eq!(
        check(inventory, &[]),
        [
            "-:  |  | host",
            "inner: its place /host/host/inner overlaps that of another item, /host/host",
            "/proc: device-path: /proc is the kernel's",
            "host: its place /host/host overlaps that of another item, /host/host",
        ]
    );
}

#[test]
fn a_pattern_that_fits_nothing_is_told() {
    let mut inventory = estate();
    // As engines tell of what their own rules leave out: an item, and no workload.
    inventory
        .items
        .push(item(ItemKind::Image, "hidden", Some("left-out"), &[]));
    let select = |workloads: &[&str]| Selection {
        source: "web".into(),
        workloads: workloads.iter().map(|w| Glob::new(w).unwrap()).collect(),
    };
    let told = |select: Vec<Selection>| {
        let policy = BackupPolicy {
            name: "p".into(),
            select,
            waivers: Vec::new(),
        };
        let source = Discovered {
            name: "web".into(),
            kind: "docker".into(),
            address: "unix:".into(),
            inventory: inventory.clone(),
        };
        let plan = plan(&policy, vec![source]);
        let findings = plan.sources.into_iter().flat_map(|s| s.findings);
        findings
            .map(|f| format!("{:?} {}: {}", f.severity, f.subject, f.message))
            .collect::<Vec<_>>()
    };
    let unmatched = "Error policy p: source web has no workloads \"datbase\": misspelt, renamed, \
         gone, or left out by the source's own rules";
    assert_eq!(told(vec![select(&["shop", "datbase", "b*"])]), [unmatched]);
    assert_eq!(
        told(vec![select(&["shop"]), select(&["datbase", "datbase"])]),
        [unmatched]
    );
    assert_eq!(
        told(vec![select(&["shop", "left-*"])]),
        [
            "Warning policy p: the workloads \"left-*\" of source web are left out by the \
             source's own rules"
        ]
    );
    // All of it is selected anyway; and a source that did not answer tells of itself.
    assert_eq!(told(vec![select(&[]), select(&["datbase"])]), [""; 0]);
    let elsewhere = Selection {
        source: "dead".into(),
        ..select(&["datbase"])
    };
    assert_eq!(told(vec![select(&["shop"]), elsewhere]), [""; 0]);
}

#[test]
fn what_another_source_of_the_policy_has_and_what_wildcards_stand_for_need_not_be_here() {
    let source = |name: &str, inventory: Inventory| Discovered {
        name: name.to_owned(),
        kind: "docker".into(),
        address: "unix:".into(),
        inventory,
    };
    let standby = Inventory {
        workloads: vec![workload("proxy", &[])],
        ..Inventory::default()
    };
    let told = |active: &[&str], other: &[&str]| {
        let select = [("web", active), ("standby", other)].map(|(source, workloads)| Selection {
            source: source.to_owned(),
            workloads: workloads.iter().map(|w| Glob::new(w).unwrap()).collect(),
        });
        let policy = BackupPolicy {
            name: "p".into(),
            select: select.to_vec(),
            waivers: Vec::new(),
        };
        let both = vec![source("web", estate()), source("standby", standby.clone())];
        let plan = plan(&policy, both);
        let findings = plan.sources.into_iter().flat_map(|s| s.findings);
        findings
            .map(|f| {
                format!(
                    "{:?} {}",
                    f.severity,
                    &f.message[..f.message.find(':').unwrap()]
                )
            })
            .collect::<Vec<_>>()
    };
    for (active, other, expected) in [
        (
            &["sh*"][..],
            &["sh*", "proxy"][..],
            &["Warning source standby has no workloads \"sh*\""][..],
        ),
        (
            &["shop"],
            &["shop", "proxy"],
            &["Warning source standby has no workloads \"shop\""],
        ),
        // The other has it, and the policy does not want it there.
        (
            &["blog"],
            &["shop", "proxy"],
            &["Error source standby has no workloads \"shop\""],
        ),
        (
            &["shpo"],
            &["shpo"],
            &[
                "Error source web has no workloads \"shpo\"",
                "Error source standby has no workloads \"shpo\"",
            ],
        ),
    ] {
        assert_eq!(told(active, other), expected, "{active:?} {other:?}");
    }
}
