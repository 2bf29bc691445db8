//! Names of a repository's files.
//!
//! Invariant: a [`FileKey`] is the config or an id of 32 bytes within a kind; no other name is
//! ever read or written.

use sha2::{Digest as _, Sha256};

/// The kinds of files of a repository in restic's format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// The one `config`.
    Config,
    /// `keys/`.
    Key,
    /// `locks/`.
    Lock,
    /// `snapshots/`.
    Snapshot,
    /// `index/`.
    Index,
    /// `data/`.
    Pack,
}

impl FileKind {
    /// All kinds that live in folders.
    pub const FOLDERS: [Self; 5] = [
        Self::Key,
        Self::Lock,
        Self::Snapshot,
        Self::Index,
        Self::Pack,
    ];

    /// The folder of this kind; `config` is a file of that name.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Pack => "data",
        }
    }
}

/// One file of a repository. Keys of the same file are equal, whatever they say of its use.
#[derive(Clone, Copy)]
pub struct FileKey {
    kind: FileKind,
    id: [u8; 32],
    holds_trees: bool,
}

impl PartialEq for FileKey {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.id) == (other.kind, other.id)
    }
}

impl Eq for FileKey {}

impl PartialOrd for FileKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FileKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.kind, self.id).cmp(&(other.kind, other.id))
    }
}

impl std::hash::Hash for FileKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.kind, self.id).hash(state);
    }
}

impl FileKey {
    /// The repository's config.
    pub const CONFIG: Self = Self {
        kind: FileKind::Config,
        id: [0; 32],
        holds_trees: false,
    };

    /// The file of an id.
    #[must_use]
    pub const fn new(kind: FileKind, id: [u8; 32]) -> Self {
        Self {
            kind,
            id,
            holds_trees: false,
        }
    }

    /// The same file, a pack whose trees are wanted, which later commands will want too: a cache
    /// keeps it.
    #[must_use]
    pub const fn holding_trees(self) -> Self {
        Self {
            holds_trees: true,
            ..self
        }
    }

    /// Whether it was said that later commands will want its trees.
    #[must_use]
    pub const fn holds_trees(&self) -> bool {
        self.holds_trees
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FileKind {
        self.kind
    }

    /// Its id: for all kinds but the config, the SHA-256 of its bytes.
    #[must_use]
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The file's name: 64 hex digits, or `config`.
    #[must_use]
    pub fn name(&self) -> String {
        use std::fmt::Write as _;
        if self.kind == FileKind::Config {
            return "config".to_owned();
        }
        self.id
            .iter()
            .fold(String::with_capacity(64), |mut name, byte| {
                // Writing to a String cannot fail.
                let _infallible = write!(name, "{byte:02x}");
                name
            })
    }

    /// Whether these bytes are what the name says, as far as it says anything: the config's does not.
    #[must_use]
    pub fn names(&self, bytes: &[u8]) -> bool {
        self.kind == FileKind::Config || Sha256::digest(bytes).as_slice() == self.id
    }

    /// The path below the repository's root: packs are in 256 folders by their first byte.
    #[must_use]
    pub fn path(&self) -> String {
        let name = self.name();
        match self.kind {
            FileKind::Config => name,
            FileKind::Pack => format!("data/{}/{name}", &name[..2]),
            kind => format!("{}/{name}", kind.folder()),
        }
    }
}

impl std::fmt::Display for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileKey({self})")
    }
}

/// One file of a listing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// Which.
    pub key: FileKey,
    /// Its size in bytes.
    pub size: u64,
    /// When the storage last changed it, by the storage's own clock; none if it does not tell.
    pub modified: Option<refloat_model::time::Timestamp>,
}
