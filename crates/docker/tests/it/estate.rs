//! Engines, sources and items, as the tests need them.

use refloat_docker::{DockerSource, Options};
use refloat_model::cancel::Cancel;
use refloat_model::item::{Capture, Inventory, Item};
use refloat_model::outcome::Outcome;
use refloat_source::{Source, SourceError};
use refloat_testkit::docker::{Engine, EngineOptions};

use crate::tree::Tree;

pub const IMAGE: &str = "demo/box:1";

/// An engine with one small image; none where there can be no engine.
pub fn engine() -> Option<Engine> {
    let engine = Engine::start(&EngineOptions::default())?;
    engine.import_busybox(IMAGE);
    Some(engine)
}

pub fn connect(engine: &Engine, options: Options) -> DockerSource {
    DockerSource::connect("web", &engine.address().parse().unwrap(), options).unwrap()
}

pub fn discover(source: &DockerSource) -> Inventory {
    source.discover(&Cancel::default()).unwrap()
}

pub fn item<'a>(inventory: &'a Inventory, path: &str) -> &'a Item {
    let found = inventory
        .items
        .iter()
        .find(|item| item.path.to_string() == path);
    found.unwrap_or_else(|| {
        let paths: Vec<_> = inventory.items.iter().map(|i| i.path.to_string()).collect();
        panic!("no item {path} in {paths:#?}")
    })
}

/// The rule that skips an item; empty if it is captured.
pub fn rule(item: &Item) -> &str {
    match &item.skip {
        Some(Outcome::Skipped { rule, .. }) => rule,
        Some(other) => panic!("{other:?} is no skip"),
        None => "",
    }
}

pub fn try_capture(
    source: &DockerSource,
    inventory: &Inventory,
    path: &str,
    tree: &mut Tree,
) -> Result<Capture, SourceError> {
    source.capture(item(inventory, path), tree, &Cancel::default())
}

/// Captures an item that must be whole.
pub fn capture(source: &DockerSource, inventory: &Inventory, path: &str) -> (Tree, Capture) {
    let mut tree = Tree::default();
    let capture = try_capture(source, inventory, path, &mut tree).unwrap();
    tree.assert_whole();
    (tree, capture)
}
