//! restic's own repositories through our storage, and the oracle against restic's restores.

use std::path::Path;

use refloat_storage::local::LocalStorage;
use refloat_storage::temporaries::Temporaries as _;
use refloat_storage::{FileKey, FileKind, Storage};
use refloat_testkit::damage::Damage;
use refloat_testkit::manifest::{Aspect, Manifest};
use refloat_testkit::random::Random;
use refloat_testkit::restic::{FormatVersion, Restic};
use refloat_testkit::tree::{self, TreeSpec};

/// A repository in `repository` with a backup of a small nasty tree in `source`.
fn backed_up(folder: &Path, version: FormatVersion) -> Option<(Restic, LocalStorage)> {
    let repository = folder.join("repository");
    let restic = Restic::find(&repository, "secret")?;
    restic.init(version);
    let _built = tree::build(&folder.join("source"), &TreeSpec::small(3));
    let _outcome = restic.backup(&folder.join("source"), &[]).require();
    Some((restic, LocalStorage::new(repository)))
}

#[test]
fn a_restic_repository_reads_the_same_through_our_storage() {
    let folder = tempfile::tempdir().unwrap();
    for (name, version) in [("v1", FormatVersion::V1), ("v2", FormatVersion::V2)] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let Some((restic, storage)) = backed_up(&folder, version) else {
            return;
        };
        assert!(restic.check_read_data().is_clean);
        let snapshots = storage.list(FileKind::Snapshot).unwrap();
        let names: Vec<_> = snapshots.iter().map(|file| file.key.name()).collect();
        assert_eq!(names, restic.snapshots());
        assert_eq!(storage.list(FileKind::Key).unwrap().len(), 1);
        assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
        for kind in FileKind::FOLDERS {
            for file in storage.list(kind).unwrap() {
                let bytes = storage.read(&file.key).unwrap();
                assert_eq!(bytes.len() as u64, file.size, "{}", file.key);
                let named = refloat_testkit::conformance::named(kind, &bytes);
                assert_eq!(named, file.key, "the name is the hash");
            }
        }
        let config = storage.size(&FileKey::CONFIG).unwrap().unwrap();
        assert_eq!(storage.read(&FileKey::CONFIG).unwrap().len() as u64, config);
    }
}

#[test]
fn our_layout_and_leftovers_do_not_disturb_restic() {
    let folder = tempfile::tempdir().unwrap();
    let Some((restic, storage)) = backed_up(folder.path(), FormatVersion::V2) else {
        return;
    };
    // Idempotent on a foreign repository, and its temporary files are invisible to restic.
    storage.create().unwrap();
    for kind in ["data/00", "index", "snapshots", "keys", "locks", "."] {
        let leftover = storage
            .root()
            .join(kind)
            .join(".refloat-tmp-00000000deadbeef");
        std::fs::write(leftover, b"half a file").unwrap();
    }
    let report = restic.check_read_data();
    assert!(report.is_clean, "{:?}", report.outcome);
    assert_eq!(restic.snapshots().len(), 1);
    let removed = storage.remove_stale(std::time::Duration::ZERO).unwrap();
    assert_eq!((removed.files, removed.bytes), (6, 66));
}

#[test]
fn the_oracle_accepts_restics_restore_and_names_what_it_cannot_keep() {
    let folder = tempfile::tempdir().unwrap();
    let Some((restic, _storage)) = backed_up(folder.path(), FormatVersion::V2) else {
        return;
    };
    let target = folder.path().join("target");
    let _outcome = restic.restore("latest", &target, &[]);
    let source = Manifest::of(&folder.path().join("source"));
    let restored = Manifest::of(&target);
    // What restic 0.14 does not keep, beside holes; later versions keep some of it.
    const GAPS: [&str; 7] = [
        "attributes/link",
        "hardlinks/a-pipe",
        "hardlinks/a-symlink",
        "hardlinks/the-same-pipe",
        "hardlinks/the-same-symlink",
        "special/socket",
        "symlinks/not-utf-8",
    ];
    let is_gap = |path: &Path| GAPS.iter().any(|gap| path == Path::new(gap));
    let mut differences = source.differences(&restored, &[Aspect::Root, Aspect::Sparseness]);
    differences.retain(|difference| !is_gap(&difference.path));
    let shown: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [""; 0]);

    let file = target.join("sizes/size-4096");
    std::fs::write(&file, std::fs::read(&file).unwrap()).unwrap();
    let file = Path::new("sizes/size-4096");
    let found = source.differences(&Manifest::of(&target), &[Aspect::Root]);
    let found: Vec<_> = found.iter().filter(|found| found.path == file).collect();
    assert_eq!(found.len(), 1, "a changed time is seen: {found:?}");
}

#[test]
fn restic_sees_the_damages_that_we_do() {
    let folder = tempfile::tempdir().unwrap();
    let Some((restic, storage)) = backed_up(folder.path(), FormatVersion::V2) else {
        return;
    };
    // The biggest pack holds data; damage to the other one, of trees, has many consequences.
    let packs = storage.list(FileKind::Pack).unwrap();
    let pack = packs.iter().max_by_key(|pack| pack.size).unwrap().key;
    let good = storage.read(&pack).unwrap();
    let name = pack.name();
    for (damage, arguments, complaint) in [
        (
            Damage::RandomBit,
            ["--read-data", "--no-lock"],
            "does not match",
        ),
        (
            Damage::CutToHalf,
            ["--verbose", "--no-lock"],
            "unexpected file size",
        ),
        (
            Damage::Deleted,
            ["--verbose", "--no-lock"],
            "does not exist",
        ),
    ] {
        damage.inflict(&storage, &pack, b"", &mut Random::new(9));
        let report = restic.check(&arguments);
        assert_eq!(report.outcome.code, Some(1), "{damage:?}");
        let names_it = |line: &String| line.contains(complaint) && line.contains(&name);
        assert!(report.complaints.iter().any(names_it), "{report:?}");
        assert!(!report.is_clean);
        storage.write(&pack, &good).unwrap();
        assert!(restic.check_read_data().is_clean, "{damage:?} healed");
    }
    let orphan = FileKey::new(FileKind::Pack, [0x11; 32]);
    storage.write(&orphan, &good).unwrap();
    let report = restic.check(&["--no-lock"]);
    assert!(report.is_clean, "{report:?}");
    assert!(report.remarks[0].contains(&orphan.name()), "{report:?}");
}
