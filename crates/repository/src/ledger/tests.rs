use std::sync::Arc;

use refloat_model::secret::Secret;
use refloat_storage::SharedStorage;
use refloat_storage::memory::MemoryStorage;

use super::*;
use crate::InitOptions;

fn repository() -> Repository {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    Repository::init(storage, &Secret::new("x"), InitOptions::default()).unwrap()
}

fn snapshot(number: u8) -> SnapshotId {
    SnapshotId([number; 32])
}

struct Book {
    ledger: Ledger,
    text: String,
    key: LedgerKey,
    found: Observation,
}

impl Book {
    fn new() -> Self {
        let repository = repository();
        Self {
            ledger: Ledger::default(),
            text: String::new(),
            key: repository.ledger_key().unwrap(),
            found: Observation::of(&repository).unwrap(),
        }
    }

    fn record(&mut self, removed: &Removed) {
        let none = BTreeSet::new();
        let seen = Seen {
            found: &self.found,
            removed,
            added_keys: &none,
            returned: Returned::Suspicious,
        };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let line = self.ledger.record("test", now, &seen, &self.key).unwrap();
        if let Some(line) = line {
            self.text.push_str(&line);
            self.text.push('\n');
        }
        assert_eq!(Ledger::parse(&self.text, &self.key).unwrap(), self.ledger);
    }

    fn findings(&self) -> Vec<LedgerFinding> {
        self.ledger.compare(&self.found)
    }
}

#[test]
fn what_commands_do_is_no_finding_and_what_others_do_is() {
    let mut book = Book::new();
    book.record(&Removed::default());
    for number in 1..=3 {
        book.found.snapshots.insert(snapshot(number));
        book.record(&Removed::default());
    }
    assert_eq!((book.ledger.lines(), book.findings()), (4, vec![]));
    book.record(&Removed::default());
    assert_eq!(
        book.ledger.lines(),
        4,
        "nothing changed, so nothing is written"
    );

    // A command of ours drops one; somebody else drops another.
    let removed = Removed {
        snapshots: BTreeSet::from([snapshot(1)]),
        ..Removed::default()
    };
    book.found.snapshots.remove(&snapshot(1));
    book.record(&removed);
    assert_eq!(book.findings(), []);
    book.found.snapshots.remove(&snapshot(2));
    let missing = LedgerFinding::SnapshotMissing {
        snapshot: snapshot(2),
    };
    assert_eq!(book.findings(), std::slice::from_ref(&missing));
    // Going on does not make it forgotten, nor does a later removal of something else.
    book.found.snapshots.insert(snapshot(4));
    book.record(&removed);
    assert_eq!(book.findings(), [missing]);

    // The storage puts the older state back: what was dropped is there, what came later is not.
    book.found.snapshots = (1..=3).map(snapshot).collect();
    let expected = [
        LedgerFinding::SnapshotMissing {
            snapshot: snapshot(4),
        },
        LedgerFinding::SnapshotReturned {
            snapshot: snapshot(1),
        },
    ];
    let mut found = book.findings();
    found.sort();
    assert_eq!(found, expected);
    let (now, found) = (jiff::Timestamp::UNIX_EPOCH, book.found.clone());
    let accepted = book.ledger.accept(now, &found, &book.key).unwrap();
    assert!(accepted.is_some());
    assert_eq!(book.findings(), []);
}

#[test]
fn keys_and_config_are_watched() {
    let mut book = Book::new();
    book.record(&Removed::default());
    let (own, other) = (*book.found.keys.first().unwrap(), KeyId([7; 32]));
    book.found.keys.insert(other);
    assert_eq!(book.findings(), [LedgerFinding::KeyUnknown { key: other }]);
    book.found.keys.clear();
    assert_eq!(book.findings(), [LedgerFinding::KeyMissing { key: own }]);
    book.found.keys.insert(own);
    book.found.config = "0".repeat(64);
    assert_eq!(book.findings(), [LedgerFinding::ConfigChanged]);
    book.found.repository = "another".to_owned();
    let found = book.findings();
    assert!(matches!(found[..], [LedgerFinding::OtherRepository { .. }]));
}

#[test]
fn no_line_can_be_changed_dropped_moved_or_made_by_others() {
    let mut book = Book::new();
    for number in 0..5 {
        book.found.snapshots.insert(snapshot(number));
        book.record(&Removed::default());
    }
    let lines: Vec<&str> = book.text.lines().collect();
    let parse = |lines: &[&str]| Ledger::parse(&lines.join("\n"), &book.key);
    for victim in 0..lines.len() {
        let changed = lines[victim].replace("test", "rest");
        let mut copy = lines.clone();
        copy[victim] = &changed;
        assert!(matches!(parse(&copy), Err(LedgerError::Signature { .. })));
        let mut copy = lines.clone();
        copy.swap(victim, (victim + 1) % lines.len());
        assert!(matches!(parse(&copy), Err(LedgerError::Chain { .. })));
        if victim + 1 < lines.len() {
            let mut copy = lines.clone();
            copy.remove(victim);
            assert!(matches!(parse(&copy), Err(LedgerError::Chain { .. })));
        }
    }
    // Cutting the end off leaves a valid ledger; its head tells.
    let cut = parse(&lines[..4]).unwrap();
    assert_ne!(cut.head(), book.ledger.head());
    let other = repository().ledger_key().unwrap();
    let foreign = Ledger::parse(&book.text, &other);
    assert!(matches!(foreign, Err(LedgerError::Signature { line: 1 })));
}

/// A command that announced what it drops and died: what is gone is no finding, what is still there
/// is not dropped, and the next line settles both.
#[test]
fn what_was_announced_may_be_gone_until_the_next_line() {
    let mut book = Book::new();
    book.found.snapshots = (1..=4).map(snapshot).collect();
    book.record(&Removed::default());
    let leaving = Removed {
        snapshots: [snapshot(1), snapshot(2)].into(),
        keys: BTreeSet::new(),
    };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let line = book.ledger.announce("forget", now, &leaving, &book.key);
    book.text.push_str(&line.unwrap().unwrap());
    book.text.push('\n');
    assert_eq!(Ledger::parse(&book.text, &book.key).unwrap(), book.ledger);
    book.found.snapshots.remove(&snapshot(1));
    assert_eq!(book.findings(), []);
    book.found.snapshots.remove(&snapshot(4));
    let missing = |number| LedgerFinding::SnapshotMissing {
        snapshot: snapshot(number),
    };
    assert_eq!(book.findings(), [missing(4)], "nobody announced this one");
    book.found.snapshots.insert(snapshot(4));
    // The next command, whatever it is.
    book.record(&Removed::default());
    assert_eq!(book.findings(), []);
    let before = book.ledger.lines();
    book.record(&Removed::default());
    assert_eq!(book.ledger.lines(), before, "it is settled");
    book.found.snapshots.remove(&snapshot(2));
    assert_eq!(book.findings(), [missing(2)], "it was not dropped then");
    book.found.snapshots.extend([snapshot(1), snapshot(2)]);
    let returned = LedgerFinding::SnapshotReturned {
        snapshot: snapshot(1),
    };
    assert_eq!(book.findings(), [returned]);
}
