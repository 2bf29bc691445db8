use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink};
use refloat_model::item::{Item, ItemKind};
use refloat_model::outcome::Outcome;
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_source::{StoredError, WrittenFolder};
use serde_json::json;

use super::*;

/// Files by path.
#[derive(Default)]
struct Files {
    files: BTreeMap<TreePath, Vec<u8>>,
    opened: Mutex<usize>,
}

fn hex(digit: u64) -> String {
    format!("{digit:064}")
}

fn descriptor(digit: u64) -> Value {
    json!({"digest": format!("sha256:{}", hex(digit)), "size": 2})
}

fn layout(name: &str) -> TreePath {
    TreePath::root().child("docker").child(name)
}

impl Files {
    fn put(&mut self, path: TreePath, document: &Value) {
        self.files
            .insert(path, serde_json::to_vec(document).unwrap());
    }

    fn blob(&mut self, layout: &TreePath, digit: u64, document: &Value) {
        let path = layout.child(IMAGE_BLOBS).child("sha256").child(&hex(digit));
        self.put(path, document);
    }

    /// A layout whose root is the index `root` with one image of the configuration `config`.
    fn image(&mut self, name: &str, (root, manifest, config): (u64, u64, u64)) {
        let layout = layout(name);
        self.put(
            layout.child(IMAGE_INDEX),
            &json!({"manifests": [descriptor(root)]}),
        );
        self.blob(&layout, root, &json!({"manifests": [descriptor(manifest)]}));
        self.blob(
            &layout,
            manifest,
            &json!({"config": descriptor(config), "layers": []}),
        );
        self.blob(
            &layout,
            config,
            &json!({"os": "linux", "architecture": "amd64"}),
        );
    }
}

impl StoredPoint for Files {
    fn record(&self) -> &PointRecord {
        unreachable!("the record says nothing of images")
    }

    fn items(&self, _: &str) -> Result<Vec<ItemRecord>, StoredError> {
        Ok(Vec::new())
    }

    fn stat(&self, path: &TreePath) -> Result<Option<Entry>, StoredError> {
        let file = self.files.get(path);
        let name = path.name().unwrap_or_default();
        Ok(file.map(|bytes| Entry::synthetic_file(name, bytes.len() as u64)))
    }

    fn list(&self, _: &TreePath) -> Result<Vec<Entry>, StoredError> {
        Ok(Vec::new())
    }

    fn open(&self, path: &TreePath) -> Result<Box<dyn Read + Send>, StoredError> {
        *self.opened.lock().unwrap() += 1;
        let file = self.files.get(path).cloned();
        let file = file.ok_or_else(|| StoredError {
            operation: "read",
            path: path.clone(),
            cause: "it is not there".into(),
        })?;
        Ok(Box::new(io::Cursor::new(file)))
    }

    fn walk(&self, _: &TreePath, _: &mut dyn TreeSink, _: &Cancel) -> Result<(), StoredError> {
        Ok(())
    }

    fn write_folder(
        &self,
        _: &TreePath,
        _: &Path,
        _: &Cancel,
    ) -> Result<WrittenFolder, StoredError> {
        unreachable!("nothing is written here")
    }
}

fn definition(root: u64, tag: &str) -> ImageDefinition {
    ImageDefinition {
        id: format!("sha256:{}", hex(root)),
        tags: vec![tag.to_owned()],
        repo_digests: Vec::new(),
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: String::new(),
        diff_ids: Vec::new(),
        size_bytes: 0,
    }
}

/// A holding of such images, by layout, root and tag.
fn holding(images: &[(&str, u64, &str)]) -> Holding {
    let mut holding = Holding::empty("host");
    for (name, root, tag) in images {
        let item = Item::new(ItemKind::Image, (*tag).to_owned(), layout(name));
        let record = ItemRecord {
            item,
            outcome: Outcome::Saved,
            consistency: None,
            files: 0,
            bytes: 0,
        };
        let definition = definition(*root, tag);
        let held = Held { record, definition };
        holding.images.insert(held.definition.id.clone(), held);
    }
    holding
}

#[test]
fn an_image_keeps_its_id_where_the_target_has_it_under_that() {
    let mut files = Files::default();
    files.image("a", (1, 2, 3));
    let (old, new) = (definition(1, "app:1"), format!("sha256:{}", hex(3)));
    let mut held = holding(&[("a", 1, "app:1")]);
    let there = BTreeMap::from([(old.id.clone(), old.clone())]);
    use_configurations(&files, &mut held, &there);
    assert_eq!(held.images.keys().collect::<Vec<_>>(), [&old.id]);
    assert_eq!(held.images[&old.id].record.item.path, layout("a"));
    // Elsewhere it gets the id that loading gives it.
    use_configurations(&files, &mut held, &BTreeMap::new());
    assert_eq!(held.images.keys().collect::<Vec<_>>(), [&new]);
}

#[test]
fn images_of_one_configuration_become_one_with_all_names() {
    let mut files = Files::default();
    files.image("a", (1, 2, 3));
    files.image("b", (4, 5, 3));
    let mut held = holding(&[("a", 1, "app:1"), ("b", 4, "app:latest")]);
    use_configurations(&files, &mut held, &BTreeMap::new());
    assert_eq!(held.images.len(), 1);
    let image = &held.images[&format!("sha256:{}", hex(3))].definition;
    assert_eq!(image.tags, ["app:1", "app:latest"]);
}

#[test]
fn indexes_that_name_each_other_over_and_over_are_read_once() {
    let mut files = Files::default();
    let root = layout("a");
    let all: Vec<Value> = (0..40).map(descriptor).collect();
    for digit in 0..40 {
        files.blob(&root, digit, &json!({"manifests": all}));
    }
    let blobs = root.child(IMAGE_BLOBS).child("sha256");
    let looked_at = Cell::new(0);
    let found = find_manifest(&files, &blobs, &hex(0), &|_| {
        looked_at.set(looked_at.get() + 1);
        true
    });
    assert!(found.is_none());
    assert_eq!(looked_at.get(), 0);
    assert_eq!(*files.opened.lock().unwrap(), 40);
}
