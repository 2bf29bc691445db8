//! What discovery and capture say of the application.
//!
//! Invariant: whole values are compared wherever they are short enough to read.

use refloat_model::item::Inventory;
use refloat_model::outcome::Outcome;

use crate::memory::MemoryPoint;

/// What discovery says of the application.
pub fn is_complete(point: &MemoryPoint) {
    let inventory = &point.inventory;
    rules_are_named(inventory);
    objects_are_readable(point);
    let shop = inventory
        .workloads
        .iter()
        .find(|w| w.name == "shop")
        .unwrap();
    let needs: Vec<String> = shop.requires.iter().map(ToString::to_string).collect();
    for need in [
        "image:registry.old/web:1",
        "secret:shop/db",
        "secret:shop/pull",
        "config:shop/settings",
        "object:storageclasses.storage.k8s.io/shop-disk",
        "volume:shop/uploads",
        "object:priorityclasses.scheduling.k8s.io/shop-gold",
        "object:serviceaccounts/shop/web",
        "object:customresourcedefinitions.apiextensions.k8s.io/widgets.example.org",
    ] {
        assert!(
            needs.iter().any(|n| n == need),
            "{need} is not in {needs:#?}"
        );
    }
    assert!(
        inventory
            .workloads
            .iter()
            .any(|w| w.name == "shop/web" && w.kind == "application")
    );
    assert!(
        inventory
            .findings
            .iter()
            .any(|f| f.subject == "pods/shop/naked")
    );
    let placement = inventory
        .placements
        .iter()
        .find(|p| p.container == "naked/c")
        .unwrap();
    assert_eq!(
        (placement.workload.as_str(), placement.state.as_str()),
        ("shop", "Pending")
    );
    let secrets = inventory
        .items
        .iter()
        .find(|i| i.title == "secrets in shop" && i.skip.is_none());
    assert!(secrets.unwrap().sensitive);
}

fn rules_are_named(inventory: &Inventory) {
    let rules: Vec<String> = inventory
        .items
        .iter()
        .filter_map(|item| match item.skip.as_ref()? {
            Outcome::Skipped { rule, .. } => Some(format!("{rule}: {}", item.title)),
            _ => None,
        })
        .collect();
    for rule in [
        "owned: pods in shop",
        "owned: replicasets.apps in shop",
        "token: secrets in shop",
        "selected-endpoints: endpoints in shop",
        "generated: configmaps in shop",
        "events: events",
        "leases: leases.coordination.k8s.io",
    ] {
        assert!(
            rules.iter().any(|r| r == rule),
            "{rule} is not in {rules:#?}"
        );
    }
}

fn objects_are_readable(point: &MemoryPoint) {
    let widget = point.text("/kubernetes/prod/resources/example.org/v1/widgets/shop/main.yaml");
    assert_eq!(
        widget,
        "apiVersion: example.org/v1\nkind: Widget\nmetadata:\n  name: main\n  namespace: shop\nspec:\n  \
         big: 9007199254740993\n  float: 1e+21\n  list:\n  - a: null\n  - []\n  ratio: 0.1\n  unknown:\n    \
         \"yes\": \"no\"\n"
    );
    let server = point.text("/kubernetes/prod/resources/example.org/v1/widgets/shop/_server.jsonl");
    assert!(server.contains("\"managedFields\"") && server.contains("\"resourceVersion\""));
}
