//! S1: every damage of every kind of file, many times: found, no wrong byte is read, what is lost
//! is named exactly, and a repair saves the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use refloat_model::secret::Secret;
use refloat_repository::check::{CheckFinding, CheckReport, ReadData};
use refloat_repository::format::key::KeyOrigin;
use refloat_repository::repair::OldSnapshots;
use refloat_repository::{
    BlobId, BlobKind, BlobReader as _, ChunkerChoice, IndexedRepository, Node, PackId, Repository,
    SnapshotId,
};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};
use refloat_testkit::damage::Damage;
use refloat_testkit::random::Random;
use refloat_testkit::tier;

use crate::crash::commands::back_up;
use crate::oracle::*;
use crate::repair::{contents_of, repair_all, without};
use crate::support::*;

/// A kind of file; packs of content and of directories are different ones here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Config,
    Key,
    Snapshot,
    Index,
    DataPack,
    TreePack,
}

const VICTIMS: [Victim; 6] = [
    Victim::Config,
    Victim::Key,
    Victim::Snapshot,
    Victim::Index,
    Victim::DataPack,
    Victim::TreePack,
];

struct Ground {
    original: MemoryStorage,
    sound: IndexedRepository,
    before: BTreeMap<SnapshotId, Content>,
    tree_packs: BTreeSet<PackId>,
    /// A config that this repository had before, valid and sealed with its key.
    older_config: Vec<u8>,
    now: jiff::Timestamp,
}

fn ground() -> Ground {
    let memory = Arc::new(MemoryStorage::new());
    let now = jiff::Timestamp::now();
    memory.set_clock(now.into());
    let storage: SharedStorage = Arc::clone(&memory) as SharedStorage;
    let repository = init(&storage, ChunkerChoice::Gear).into_indexed().unwrap();
    let clock = Hands::at(now).clock();
    let files = |numbers: std::ops::Range<u64>| -> Files {
        let file = |number: u64| {
            let path = format!("d{}/s{}/file-{number}", number % 3, number % 2);
            (path, (1, noise(3_000 + 400 * number as usize, number)))
        };
        numbers.map(file).collect()
    };
    for numbers in [0..12, 4..16, 8..20] {
        let _id = back_up(&repository, &clock, &files(numbers)).unwrap();
    }
    let _other = repository
        .add_key(&Secret::new("other"), KeyOrigin::default())
        .unwrap();
    let sound = repository.reload().unwrap();
    let mut older = sound.config().clone();
    older.refloat_chunker = None;
    let older = serde_json::to_vec(&older).unwrap();
    let trees = sound.index();
    let packs = storage.list(FileKind::Pack).unwrap();
    let packs = packs.iter().map(|file| PackId(*file.key.id()));
    let mut tree_packs = BTreeSet::new();
    for (_, snapshot) in sound.snapshots().unwrap().snapshots {
        let place = trees.get(BlobKind::Tree, &snapshot.tree.unwrap());
        tree_packs.insert(place.unwrap().pack);
    }
    assert!(packs.count() > tree_packs.len());
    Ground {
        original: memory.duplicate(),
        before: all_of(&sound),
        older_config: sound.codec().cipher().seal(&older).unwrap(),
        sound: open(&(Arc::new(memory.duplicate()) as SharedStorage))
            .into_indexed()
            .unwrap(),
        tree_packs,
        now,
    }
}

impl Ground {
    /// The files of a kind.
    fn files(&self, victim: Victim) -> Vec<FileKey> {
        use refloat_storage::Storage as _;
        let of = |kind| -> Vec<FileKey> {
            let listed = self.original.list(kind).unwrap();
            listed.into_iter().map(|file| file.key).collect()
        };
        let packs = |trees: bool| -> Vec<FileKey> {
            let wanted = |key: &FileKey| self.tree_packs.contains(&PackId(*key.id())) == trees;
            of(FileKind::Pack).into_iter().filter(wanted).collect()
        };
        match victim {
            Victim::Config => vec![FileKey::CONFIG],
            Victim::Key => of(FileKind::Key),
            Victim::Snapshot => of(FileKind::Snapshot),
            Victim::Index => of(FileKind::Index),
            Victim::DataPack => packs(false),
            Victim::TreePack => packs(true),
        }
    }

    /// Damages one file of a kind, as the seed says.
    fn damaged(&self, victim: Victim, damage: Damage, seed: u64) -> (SharedStorage, FileKey) {
        let mut random = Random::new(seed * 1_000 + damage as u64 * 10 + victim as u64);
        let files = self.files(victim);
        let file = files[random.index(files.len())];
        let copy: SharedStorage = Arc::new(self.original.duplicate());
        let donor = files.iter().find(|other| **other != file);
        let donor = match (victim, donor) {
            (Victim::Config, _) => self.older_config.clone(),
            (_, Some(other)) => copy.read(other).unwrap(),
            (_, None) => b"{}".to_vec(),
        };
        damage.inflict(&*copy, &file, &donor, &mut random);
        (copy, file)
    }

    /// What every snapshot needs of the blobs of which `is_lost` says so, found the slow way.
    fn needing(
        &self,
        is_lost: &dyn Fn(BlobKind, &BlobId) -> bool,
    ) -> BTreeSet<(SnapshotId, String)> {
        let mut lost = BTreeSet::new();
        for (id, snapshot) in self.sound.snapshots().unwrap().snapshots {
            let mut open = vec![(String::new(), snapshot.tree.unwrap())];
            while let Some((prefix, tree)) = open.pop() {
                if is_lost(BlobKind::Tree, &tree) {
                    let path = if prefix.is_empty() { "/" } else { &prefix };
                    lost.insert((id, path.to_owned()));
                    continue;
                }
                for node in self.sound.read_tree(tree).unwrap() {
                    let path = format!("{prefix}/{}", String::from_utf8_lossy(node.name()));
                    if node
                        .content
                        .iter()
                        .any(|blob| is_lost(BlobKind::Data, blob))
                    {
                        lost.insert((id, path.clone()));
                    }
                    open.extend(node.subtree.map(|subtree| (path, subtree)));
                }
            }
        }
        lost
    }

    /// What is lost by the damage of this file.
    fn expected(&self, file: FileKey, bytes: &[u8]) -> BTreeSet<(SnapshotId, String)> {
        let opens = |kind: BlobKind, blob: &BlobId| {
            let place = self.sound.index().get(kind, blob).unwrap();
            let start = place.blob.offset as usize;
            let sealed = bytes.get(start..start + place.blob.length as usize);
            place.pack.0 != *file.id()
                || sealed.is_some_and(|sealed| {
                    let mut out = Vec::new();
                    let mut sealed = sealed.to_vec();
                    self.sound
                        .open_located(&place, &mut sealed, &mut out)
                        .is_ok()
                })
        };
        match file.kind() {
            FileKind::Pack => self.needing(&|kind, blob| !opens(kind, blob)),
            FileKind::Index => {
                let index: refloat_repository::format::index::IndexFile =
                    self.sound.read_json(&file).unwrap();
                let listed = index.packs.iter().flat_map(|pack| pack.blobs.iter());
                let ids: BTreeSet<_> = listed.map(|blob| (blob.kind, blob.id)).collect();
                self.needing(&|kind, blob| ids.contains(&(kind, *blob)))
            }
            _ => BTreeSet::new(),
        }
    }
}

fn lost(report: &CheckReport) -> BTreeSet<(SnapshotId, String)> {
    let lost = report.lost.iter();
    lost.map(|lost| (lost.snapshot, lost.path.to_string()))
        .collect()
}

/// Reads every file of every point: whatever is read is what was stored, and what cannot be read is
/// named as lost.
fn read_everything(
    ground: &Ground,
    repository: &IndexedRepository,
    lost: &BTreeSet<(SnapshotId, String)>,
    what: &str,
) {
    let is_lost = |id: SnapshotId, path: &str| {
        lost.iter().any(|(snapshot, lost)| {
            let below = lost == "/" || path == lost || path.starts_with(&format!("{lost}/"));
            *snapshot == id && below
        })
    };
    for (id, files) in &ground.before {
        let file = FileKey::new(FileKind::Snapshot, id.0);
        let Ok(snapshot) =
            repository.read_json::<refloat_repository::format::snapshot::SnapshotFile>(&file)
        else {
            continue;
        };
        for (path, content) in files {
            let path = format!("/{path}");
            match read_path(repository, snapshot.tree.unwrap(), &path) {
                Ok(read) => assert!(read == *content, "{what}: {path} has other bytes"),
                Err(error) => assert!(is_lost(*id, &path), "{what}: {path}: {error}"),
            }
        }
    }
}

fn read_path(repository: &IndexedRepository, root: BlobId, path: &str) -> Result<Vec<u8>, String> {
    let mut tree = root;
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let nodes = repository.read_tree(tree).map_err(|e| e.to_string())?;
        let node: Option<&Node> = nodes.iter().find(|node| node.name() == part.as_bytes());
        let node = node.ok_or_else(|| "it is not there".to_owned())?;
        if parts.peek().is_none() {
            let blobs = node.content.iter();
            let read = blobs.map(|blob| repository.read_blob(BlobKind::Data, *blob));
            let read: Result<Vec<Vec<u8>>, _> = read.collect();
            return Ok(read.map_err(|e| e.to_string())?.concat());
        }
        tree = node
            .subtree
            .ok_or_else(|| "it is no directory".to_owned())?;
    }
    Err("it names nothing".to_owned())
}

/// One case. `opened` was opened before the damage: with a damaged config nobody gets in.
fn judge(
    ground: &Ground,
    swap: &Arc<Swap>,
    opened: &IndexedRepository,
    case: (Victim, Damage, u64),
) {
    let (victim, damage, seed) = case;
    let (copy, file) = ground.damaged(victim, damage, seed);
    swap.set(&copy);
    let what = format!("{damage:?} of {victim:?} {file}, seed {seed}");
    let bytes = copy.read(&file).unwrap_or_default();
    let report = check_with(opened, ReadData::All);
    let expected = ground.expected(file, &bytes);
    let detected = match (victim, damage) {
        // Nobody gets in, or, with an older config that is authentic, only the ledger can tell.
        (Victim::Config, _) => None,
        // Only the ledger can tell that something was there.
        (Victim::Key | Victim::Snapshot, Damage::Deleted) => Some(false),
        _ => Some(true),
    };
    if let Some(detected) = detected {
        assert_eq!(
            !report.is_clean(),
            detected,
            "{what}: {:#?}",
            report.findings
        );
    }
    let is_named_file = matches!(victim, Victim::Index | Victim::Snapshot);
    if is_named_file && damage != Damage::Deleted {
        // Not only what is missing because of it.
        let named = report.findings.iter().any(|found| names(found, file));
        assert!(named, "{what} is not named: {:#?}", report.findings);
    }
    assert_eq!(lost(&report), expected, "{what}: {:#?}", report.findings);
    if detected == Some(true) && (damage.changes_size() || damage == Damage::Deleted) {
        let structure = check_with(opened, ReadData::None);
        assert!(
            !structure.is_clean(),
            "{what} was not found without reading data"
        );
        assert_eq!(lost(&structure), expected, "{what}, without reading data");
    }
    read_everything(ground, &opened.reload().unwrap(), &expected, &what);
    repair(ground, &copy, opened, &report, (file, &what));
}

/// Whether a finding says of a file that it cannot be read.
fn names(finding: &CheckFinding, file: FileKey) -> bool {
    match finding {
        CheckFinding::UnreadableSnapshot { snapshot, .. } => snapshot.0 == *file.id(),
        CheckFinding::UnreadableIndex { index, .. } => index.0 == *file.id(),
        _ => false,
    }
}

fn repair(
    ground: &Ground,
    copy: &SharedStorage,
    opened: &IndexedRepository,
    report: &CheckReport,
    (file, what): (FileKey, &str),
) {
    if matches!(file.kind(), FileKind::Config | FileKind::Key) {
        return;
    }
    if file.kind() == FileKind::Index {
        // The packs say of themselves what was in it: nothing is lost.
        repair_all(opened, OldSnapshots::Keep, ground.now).unwrap();
        assert!(
            all_of(&opened.reload().unwrap()) == ground.before,
            "{what}: repaired"
        );
        return;
    }
    if file.kind() == FileKind::Snapshot {
        let left = opened.snapshots().unwrap();
        assert_eq!(left.snapshots.len() + 1, ground.before.len(), "{what}");
        return;
    }
    repair_all(opened, OldSnapshots::Delete, ground.now).unwrap();
    let hopeless: Vec<SnapshotId> = report
        .lost
        .iter()
        .filter(|lost| lost.path.components().is_empty())
        .map(|lost| lost.snapshot)
        .collect();
    let left = contents_of(opened, &hopeless);
    assert!(left == without(&ground.before, report), "{what}: repaired");
    let after = check_with(opened, ReadData::All);
    let errors = after
        .lost
        .iter()
        .filter(|lost| !hopeless.contains(&lost.snapshot));
    assert_eq!(errors.count(), 0, "{what}: {:#?}", after.findings);
    drop(copy.list(FileKind::Lock));
}

#[test]
fn every_damage_is_found_and_named_and_costs_no_more_than_it_must() {
    let started = Instant::now();
    let ground = ground();
    let seeds = tier::seeds(20, 100, 500);
    let cases: Vec<(Victim, Damage, u64)> = VICTIMS
        .into_iter()
        .flat_map(|victim| Damage::ALL.map(|damage| (victim, damage)))
        .flat_map(|(victim, damage)| seeds.iter().map(move |seed| (victim, damage, *seed)))
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let storage: SharedStorage = Arc::new(ground.original.duplicate());
                let swap = Swap::new(&storage);
                let opened = open(&swap.shared()).into_indexed().unwrap();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    judge(&ground, &swap, &opened, *case);
                }
            });
        }
    });
    let what = format!("{} cases in 78 cells", cases.len());
    tier::report("S1 damage matrix", &what, started);
    assert!(cases.len() >= 78);
}

#[test]
fn what_a_damaged_key_or_config_lets_in() {
    let ground = ground();
    for damage in Damage::ALL {
        let (copy, _) = ground.damaged(Victim::Config, damage, 1);
        let opened = Repository::open(copy, &Secret::new(PASSWORD));
        // Put back whole, it opens; everything else is refused.
        let whole = matches!(damage, Damage::Swapped | Damage::OlderVersion);
        assert_eq!(opened.is_ok(), whole, "config, {damage:?}: {opened:?}");
        for seed in 0..6 {
            // Whichever key was damaged, the other one opens.
            let (copy, _) = ground.damaged(Victim::Key, damage, seed);
            let open = |password| Repository::open(Arc::clone(&copy), &Secret::new(password));
            let opened = [open(PASSWORD), open("other")];
            let count = opened.iter().filter(|opened| opened.is_ok()).count();
            assert_eq!(count, 1, "key, {damage:?}, seed {seed}: {opened:?}");
        }
    }
}
