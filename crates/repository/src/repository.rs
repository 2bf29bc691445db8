//! An opened repository: storage, key and config; and the same with its index loaded.
//!
//! Invariant: methods that need an index exist only on [`IndexedRepository`].

use std::sync::{Arc, Mutex, PoisonError};

use refloat_model::secret::Secret;
use refloat_storage::{FileKey, FileKind, Listed, SharedStorage, StorageErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::catalogue::read_twice;
use crate::chunker::{Chunker, gear::Gear, rabin::Polynomial, rabin::Rabin};
use crate::codec::Codec;
use crate::crypto::{Cipher, Key, random_bytes};
use crate::deleter::{DeleterKey, Deleters};
use crate::error::RepositoryError;
use crate::flips::{self, Stage};
use crate::format::config::{ChunkerConfig, Config, VERSION_MAX};
use crate::format::index::{self, IndexFile};
use crate::format::key::KeyOrigin;
use crate::format::snapshot::SnapshotFile;
use crate::id::{IndexId, KeyId, SnapshotId, id_text, sha256};
use crate::index::{Index, IndexBuilder};
use crate::keys;
use crate::other_places::OtherPlaces;
use crate::pack_reading::sizes;
use crate::parallel::{for_each, lock, threads};
use crate::remains::refuse_remains;
use crate::tree_blocks::TreeBlocks;

/// Which chunker a new repository gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ChunkerChoice {
    /// The faster one, ours.
    #[default]
    Gear,
    /// restic's, for repositories that restic will write to as well.
    Rabin,
}

/// Where a repository cuts content; secret, because sizes of blobs tell content to who knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkerParameters {
    polynomial: Polynomial,
    gear: Option<ChunkerConfig>,
}

impl std::fmt::Debug for ChunkerParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkerParameters(***)")
    }
}

/// How a new repository is made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InitOptions {
    /// Which chunker.
    pub chunker: ChunkerChoice,
    /// Another repository's, so that copies between the two deduplicate; wins over the choice.
    pub chunker_parameters: Option<ChunkerParameters>,
    /// Recorded in the first key.
    pub origin: KeyOrigin,
    /// The public key of whoever may delete; without one everybody's exclusive locks count.
    pub deleter: Option<String>,
}

impl ChunkerParameters {
    fn random(choice: ChunkerChoice) -> Result<Self, RepositoryError> {
        let seed = id_text(&random_bytes::<32>()?);
        Ok(Self {
            polynomial: Polynomial::random()?,
            gear: (choice == ChunkerChoice::Gear).then(|| ChunkerConfig {
                kind: ChunkerConfig::GEAR_V2.to_owned(),
                seed,
            }),
        })
    }
}

/// An opened repository.
pub struct Repository {
    storage: SharedStorage,
    codec: Arc<Codec>,
    master: Arc<Key>,
    config: Config,
    chunker: Arc<Chunker>,
    key: KeyId,
    deleters: Arc<Deleters>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository")
            .field("location", &self.storage.location())
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Makes a new repository and opens it.
    ///
    /// Guarantees: an existing repository is never touched, nor what is left of one. Crash behaviour: the key is written
    /// first, the config last; without a config there is no repository, and `init` can be
    /// repeated.
    ///
    /// # Errors
    /// There is a repository already, or one without its config, or storage failed.
    pub fn init(
        storage: SharedStorage,
        password: &Secret,
        options: InitOptions,
    ) -> Result<Self, RepositoryError> {
        let location = storage.location();
        let occupied = || RepositoryError::AlreadyInitialized {
            location: location.clone(),
        };
        if storage.size(&FileKey::CONFIG)?.is_some() {
            if !is_interrupted_init(&storage, password)? {
                return Err(occupied());
            }
            storage.delete(&FileKey::CONFIG)?;
        } else {
            refuse_remains(&storage, password)?;
        }
        storage.create()?;
        let chunker = match options.chunker_parameters {
            Some(parameters) => parameters,
            None => ChunkerParameters::random(options.chunker)?,
        };
        let config = Config {
            version: VERSION_MAX,
            id: id_text(&random_bytes::<32>()?),
            chunker_polynomial: chunker.polynomial,
            refloat_chunker: chunker.gear,
            refloat_deleters: options.deleter.into_iter().collect(),
        };
        let master = Key::random()?;
        let key = keys::write(&storage, &master, password, options.origin)?;
        let cipher = Cipher::new(&master)?;
        let json = to_json("config", &config)?;
        let sealed = cipher.seal(&json)?;
        if let Err(error) = storage.write(&FileKey::CONFIG, &sealed) {
            let lost_race = error.kind() == StorageErrorKind::AlreadyExists;
            if lost_race {
                // Our key is of no use to the winner; if it stays, opening passes it over.
                drop(storage.delete(&FileKey::new(FileKind::Key, key.0)));
            }
            return Err(if lost_race { occupied() } else { error.into() });
        }
        Self::assemble(storage, master, key, config)
    }

    /// Where this repository cuts content, for another one that is to do the same.
    #[must_use]
    pub fn chunker_parameters(&self) -> ChunkerParameters {
        ChunkerParameters {
            polynomial: self.config.chunker_polynomial,
            gear: self.config.refloat_chunker.clone(),
        }
    }

    /// Opens a repository with a password, trying its keys one after the other.
    ///
    /// # Errors
    /// There is none, no key fits, it is of an unknown version, or storage failed.
    pub fn open(storage: SharedStorage, password: &Secret) -> Result<Self, RepositoryError> {
        let location = storage.location();
        let sealed = match storage.read(&FileKey::CONFIG) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == StorageErrorKind::NotFound => {
                return Err(RepositoryError::without_config(&storage));
            }
            Err(error) => return Err(error.into()),
        };
        let is_ours = |key: &Key| Cipher::new(key).is_ok_and(|cipher| cipher.open(&sealed).is_ok());
        let (key, master) = keys::open_any(&storage, password, is_ours)?;
        let cipher = Cipher::new(&master)?;
        let damaged = |cause| RepositoryError::DamagedFile {
            file: FileKey::CONFIG,
            cause,
        };
        let json = cipher.open(&sealed).map_err(|e| damaged(e.into()))?;
        let version: VersionOnly = serde_json::from_slice(&json).map_err(|e| damaged(e.into()))?;
        if !(1..=VERSION_MAX).contains(&version.version) {
            return Err(RepositoryError::UnsupportedVersion {
                location,
                version: version.version,
            });
        }
        let config = serde_json::from_slice(&json).map_err(|e| damaged(e.into()))?;
        Self::assemble(storage, master, key, config)
    }

    fn assemble(
        storage: SharedStorage,
        master: Key,
        key: KeyId,
        config: Config,
    ) -> Result<Self, RepositoryError> {
        let chunker = chunker(&config, &storage)?;
        let codec = Codec::new(Cipher::new(&master)?, config.version);
        let deleters = Deleters::new(config.id.clone(), config.refloat_deleters.clone());
        Ok(Self {
            storage,
            codec: Arc::new(codec),
            master: Arc::new(master),
            config,
            chunker: Arc::new(chunker),
            key,
            deleters: Arc::new(deleters),
        })
    }

    /// The same, whose exclusive locks this key vouches for.
    #[must_use]
    pub fn with_deleter(mut self, key: DeleterKey) -> Self {
        self.deleters = Arc::new(self.deleters.with_own(key));
        self
    }

    pub(crate) const fn deleters(&self) -> &Arc<Deleters> {
        &self.deleters
    }

    /// Where its files live.
    #[must_use]
    pub const fn storage(&self) -> &SharedStorage {
        &self.storage
    }

    /// Its config.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The key it was opened with.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key
    }

    pub(crate) fn master(&self) -> &Key {
        &self.master
    }

    /// Seals and opens its blobs and files.
    #[must_use]
    pub const fn codec(&self) -> &Arc<Codec> {
        &self.codec
    }

    pub(crate) const fn chunker(&self) -> &Arc<Chunker> {
        &self.chunker
    }

    /// Reads, authenticates and parses a file that is not a pack.
    ///
    /// # Errors
    /// It is missing, damaged, or not what its kind should hold.
    pub fn read_json<T: DeserializeOwned>(&self, file: &FileKey) -> Result<T, RepositoryError> {
        self.read_as(file, |json| serde_json::from_slice(json))
    }

    /// As [`read_json`](Self::read_json), of an index file.
    pub(crate) fn read_index(&self, file: &FileKey) -> Result<IndexFile, RepositoryError> {
        self.read_as(file, index::decode)
    }

    fn read_as<T>(
        &self,
        file: &FileKey,
        decode: impl FnOnce(&[u8]) -> Result<T, serde_json::Error>,
    ) -> Result<T, RepositoryError> {
        let sealed = self.storage.read(file)?;
        if sha256(&sealed) != *file.id() {
            return Err(RepositoryError::damaged(
                *file,
                "its bytes do not hash to its name",
            ));
        }
        let json = self
            .codec
            .open_file(sealed)
            .map_err(|e| RepositoryError::damaged(*file, e))?;
        decode(&json).map_err(|e| RepositoryError::damaged(*file, e))
    }

    /// Writes a file that is not a pack under the hash of its bytes and returns the name.
    ///
    /// # Errors
    /// It cannot be sealed or stored.
    pub fn write_json<T: Serialize>(
        &self,
        kind: FileKind,
        what: &'static str,
        value: &T,
    ) -> Result<FileKey, RepositoryError> {
        let (mut sealed, digest) = self.codec.seal_json_unproven(what, value)?;
        let file = FileKey::new(kind, sha256(&sealed));
        flips::touch(Stage::File, &mut sealed);
        // What does not open to what was meant is not stored: one flipped bit in a snapshot or an
        // index costs more than one in a blob.
        if !self.codec.opens_to(sealed.clone(), digest) || sha256(&sealed) != *file.id() {
            return Err(RepositoryError::NotReadBack { what });
        }
        self.storage.write(&file, &sealed)?;
        // Packs are looked at before a snapshot is written; what names them is looked at here. Servers were seen to
        // accept what they do not keep.
        let failure = match self.storage.size(&file) {
            Ok(Some(size)) if size == sealed.len() as u64 => return Ok(file),
            Ok(_) => RepositoryError::NotStored { file },
            Err(error) => error.into(),
        };
        // Nobody is told of it, so it should not be found later.
        drop(self.storage.delete(&file));
        Err(failure)
    }

    /// All snapshots that can be read, oldest first, and what is wrong with the others.
    ///
    /// # Errors
    /// The listing failed.
    pub fn snapshots(&self) -> Result<SnapshotList, RepositoryError> {
        let list = Mutex::new(SnapshotList::default());
        let listed = self.storage.list(FileKind::Snapshot)?;
        for_each(&listed, threads(&self.storage), |listed| {
            let id = SnapshotId(*listed.key.id());
            match self.read_json::<SnapshotFile>(&listed.key) {
                Ok(snapshot) => lock(&list).snapshots.push((id, snapshot)),
                Err(error) if is_gone(&error) => {}
                Err(error) => lock(&list).unreadable.push((id, error)),
            }
            Ok(())
        })?;
        let mut list = list.into_inner().unwrap_or_else(PoisonError::into_inner);
        list.snapshots
            .sort_by_key(|(id, snapshot)| (snapshot.time.instant(), *id));
        list.unreadable.sort_by_key(|(id, _)| *id);
        Ok(list)
    }

    /// Loads the index and goes on with it.
    ///
    /// An index file that is damaged is left out and [named](IndexedRepository::damaged_indexes):
    /// what only it lists counts as missing until the index is repaired, all else can be restored,
    /// and a backup stores again what it does not find.
    ///
    /// # Errors
    /// An index file is unreachable: better no backup than one that stores everything again, and
    /// better no restore than one that reports what is there as missing.
    pub fn into_indexed(self) -> Result<IndexedRepository, RepositoryError> {
        let loaded = self.load_index()?;
        Ok(IndexedRepository {
            repository: Arc::new(self),
            loaded: Arc::new(loaded),
        })
    }

    fn load_index(&self) -> Result<LoadedIndex, RepositoryError> {
        let loading = Mutex::new((IndexBuilder::default(), Vec::new()));
        let files = self.storage.list(FileKind::Index)?;
        for_each(&files, threads(&self.storage), |listed| {
            match read_twice(|| self.read_index(&listed.key)) {
                Ok(file) => lock(&loading).0.add_file(&file),
                Err(RepositoryError::DamagedFile { .. }) => {
                    lock(&loading).1.push(IndexId(*listed.key.id()));
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        let loading = loading.into_inner();
        let (builder, mut damaged) = loading.unwrap_or_else(PoisonError::into_inner);
        damaged.sort();
        let packs = self.storage.list(FileKind::Pack)?;
        Ok(LoadedIndex {
            index: builder.build_preferring(&sizes(&packs)),
            damaged,
            digest: digest(files, packs),
            tree_blocks: TreeBlocks::default(),
            other_places: OtherPlaces::default(),
        })
    }
}

/// What the index files say, as far as they can be read.
#[derive(Debug)]
struct LoadedIndex {
    index: Index,
    damaged: Vec<IndexId>,
    /// Of the listings it was made from.
    digest: [u8; 32],
    /// Of trees that were read by this index.
    tree_blocks: TreeBlocks,
    other_places: OtherPlaces,
}

/// The digest of the names and sizes of these index files and packs: an index that was made from
/// the same is the same.
fn digest(mut indexes: Vec<Listed>, mut packs: Vec<Listed>) -> [u8; 32] {
    let mut bytes = Vec::with_capacity((indexes.len() + packs.len()) * 40);
    for files in [&mut indexes, &mut packs] {
        files.sort_unstable_by_key(|file| file.key);
        bytes.extend_from_slice(&(files.len() as u64).to_le_bytes());
        for file in files.iter() {
            bytes.extend_from_slice(file.key.id());
            bytes.extend_from_slice(&file.size.to_le_bytes());
        }
    }
    sha256(&bytes)
}

/// Whether an `init` with this password died while it wrote the config, on a storage that shows
/// half of a file: a key opens, the config is not whole, and nothing was ever stored.
fn is_interrupted_init(
    storage: &SharedStorage,
    password: &Secret,
) -> Result<bool, RepositoryError> {
    // A lock: somebody is about to store something.
    for kind in [
        FileKind::Snapshot,
        FileKind::Index,
        FileKind::Pack,
        FileKind::Lock,
    ] {
        if !storage.list(kind)?.is_empty() {
            return Ok(false);
        }
    }
    // Twice: one bad transfer is no half file. And with every key: one that an earlier `init` left
    // behind opens nothing.
    for _ in 0..2 {
        let config = storage.read(&FileKey::CONFIG)?;
        let opens = |key: &Key| Cipher::new(key).is_ok_and(|cipher| cipher.open(&config).is_ok());
        if keys::open_any(storage, password, opens).is_ok() {
            return Ok(false);
        }
    }
    Ok(keys::open_any(storage, password, |_key| true).is_ok())
}

/// Whether a file vanished between listing and reading: somebody deleted it meanwhile.
fn is_gone(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Storage(e) if e.kind() == StorageErrorKind::NotFound)
}

/// The snapshots of a repository.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// Those that can be read, oldest first.
    pub snapshots: Vec<(SnapshotId, SnapshotFile)>,
    /// Those that cannot.
    pub unreadable: Vec<(SnapshotId, RepositoryError)>,
}

/// A repository whose index is in memory.
#[derive(Clone, Debug)]
pub struct IndexedRepository {
    repository: Arc<Repository>,
    loaded: Arc<LoadedIndex>,
}

impl IndexedRepository {
    /// The index as it was when it was loaded.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.loaded.index
    }

    pub(crate) fn tree_blocks(&self) -> &TreeBlocks {
        &self.loaded.tree_blocks
    }

    pub(crate) fn other_places(&self) -> &OtherPlaces {
        &self.loaded.other_places
    }

    /// Index files that are damaged and were left out.
    #[must_use]
    pub fn damaged_indexes(&self) -> &[IndexId] {
        &self.loaded.damaged
    }

    /// The same repository with the index as it is now.
    ///
    /// # Errors
    /// As [`Repository::into_indexed`].
    pub fn reload(&self) -> Result<Self, RepositoryError> {
        let loaded = Arc::new(self.repository.load_index()?);
        Ok(Self {
            repository: Arc::clone(&self.repository),
            loaded,
        })
    }

    /// As [`reload`](Self::reload), but reads nothing if the same index files and packs are listed
    /// as before: what their names say was proven when they were read.
    ///
    /// # Errors
    /// As [`Repository::into_indexed`].
    pub fn renewed(&self) -> Result<Self, RepositoryError> {
        let storage = self.storage();
        let indexes = storage.list(FileKind::Index)?;
        let now = digest(indexes, storage.list(FileKind::Pack)?);
        if now == self.loaded.digest && self.loaded.damaged.is_empty() {
            return Ok(self.clone());
        }
        self.reload()
    }
}

impl std::ops::Deref for IndexedRepository {
    type Target = Repository;
    fn deref(&self) -> &Repository {
        &self.repository
    }
}

#[derive(serde::Deserialize)]
struct VersionOnly {
    version: u32,
}

fn chunker(config: &Config, storage: &SharedStorage) -> Result<Chunker, RepositoryError> {
    let Some(ours) = &config.refloat_chunker else {
        return Ok(Chunker::Rabin(Rabin::new(config.chunker_polynomial)));
    };
    let kind = match ours.kind.as_str() {
        ChunkerConfig::GEAR_V1 => Chunker::Gear,
        ChunkerConfig::GEAR_V2 => Chunker::GearAndZeros,
        unknown => {
            return Err(RepositoryError::UnsupportedFeature {
                location: storage.location(),
                feature: format!("the chunker {unknown:?}"),
            });
        }
    };
    let seed: crate::id::BlobId = ours
        .seed
        .parse()
        .map_err(|e: crate::id::InvalidId| RepositoryError::damaged(FileKey::CONFIG, e))?;
    Ok(kind(Gear::new(&seed.0)))
}

fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, RepositoryError> {
    serde_json::to_vec(value).map_err(|e| RepositoryError::encode(what, e))
}

#[cfg(test)]
mod tests {
    use refloat_storage::memory::MemoryStorage;

    use super::*;

    #[test]
    fn old_kinds_of_chunkers_stay_and_unknown_ones_are_refused() {
        let storage: SharedStorage = Arc::new(MemoryStorage::new());
        let parameters = ChunkerParameters::random(ChunkerChoice::Gear).unwrap();
        let mut config = Config {
            version: VERSION_MAX,
            id: "0".repeat(64),
            chunker_polynomial: parameters.polynomial,
            refloat_chunker: parameters.gear,
            refloat_deleters: Vec::new(),
        };
        let mut kind = |kind: Option<&str>| {
            if let (Some(ours), Some(kind)) = (&mut config.refloat_chunker, kind) {
                kind.clone_into(&mut ours.kind);
            }
            chunker(&config, &storage)
        };
        assert!(matches!(kind(None), Ok(Chunker::GearAndZeros(_))), "new");
        assert!(matches!(kind(Some("gear-v1")), Ok(Chunker::Gear(_))));
        assert!(matches!(
            kind(Some("gear-v2")),
            Ok(Chunker::GearAndZeros(_))
        ));
        let refused = kind(Some("gear-v3")).unwrap_err().to_string();
        assert!(refused.contains("the chunker \"gear-v3\""), "{refused}");
        config.refloat_chunker = None;
        assert!(matches!(chunker(&config, &storage), Ok(Chunker::Rabin(_))));
    }
}
