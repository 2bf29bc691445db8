//! Reading blobs and trees.
//!
//! Invariant: a blob that is handed out hashes to its id, but for what another repository is to prove.

use std::sync::Arc;

use crate::codec::{Decrypted, OpenError, SealedBlob};
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::tree::{self, Node};
use crate::id::BlobId;
use crate::index::Location;
use crate::pack_reading::{pack_file, pack_file_for};
use crate::repository::IndexedRepository;

/// Reads blobs one by one. For many blobs of one pack, see the restore pipeline.
pub trait BlobReader {
    /// The plaintext of a blob.
    ///
    /// # Errors
    /// No index knows it, its pack is unreachable, or its bytes are damaged.
    fn read_blob(&self, kind: BlobKind, id: BlobId) -> Result<Vec<u8>, RepositoryError>;

    /// The entries of a directory.
    ///
    /// # Errors
    /// As [`read_blob`](Self::read_blob), or the blob is no tree.
    fn read_tree(&self, id: BlobId) -> Result<Vec<Node>, RepositoryError> {
        let json = self.read_blob(BlobKind::Tree, id)?;
        tree::decode(&json).map_err(|cause| RepositoryError::InvalidTree {
            tree: id,
            cause: cause.into(),
        })
    }
}

impl BlobReader for IndexedRepository {
    fn read_blob(&self, kind: BlobKind, id: BlobId) -> Result<Vec<u8>, RepositoryError> {
        let missing = || RepositoryError::MissingBlob {
            kind: kind.word(),
            blob: id,
        };
        let read = match kind {
            BlobKind::Data => {
                let location = self.index().get(kind, &id).ok_or_else(missing)?;
                self.read_place(&pack_file_for(location.pack, kind), &location.blob)
            }
            BlobKind::Tree => {
                let (location, end) = self.index().tree(&id).ok_or_else(missing)?;
                let pack = pack_file_for(location.pack, kind);
                self.tree_blocks().read(self, &pack, &location.blob, end)
            }
        };
        read.or_else(|failure| self.read_elsewhere(kind, id, failure))
    }
}

impl IndexedRepository {
    /// Opens a blob's sealed bytes, appending its plaintext to `out`.
    ///
    /// # Errors
    /// The bytes are not that blob.
    pub fn open_located(
        &self,
        location: &Location,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let blob = &location.blob;
        self.codec()
            .open_blob(blob.id, sealed, blob.uncompressed(), out)
            .map_err(|cause| damaged(location, cause))
    }

    /// Authenticates and decrypts a blob's sealed bytes, for another repository to prove and to store.
    ///
    /// # Errors
    /// The bytes are not authentic.
    pub(crate) fn decrypt_located<'b>(
        &self,
        location: &Location,
        sealed: &'b mut [u8],
    ) -> Result<Decrypted<'b>, RepositoryError> {
        let blob = &location.blob;
        self.codec()
            .decrypt(blob.id, sealed, blob.uncompressed())
            .map_err(|cause| damaged(location, cause))
    }

    /// Opens the sealed bytes of two blobs, with memory for the plaintext of each that is
    /// compressed, in less time than one after the other.
    ///
    /// # Errors
    /// The bytes are not that blob; the other one is not concerned.
    pub fn open_two_located<'b>(
        &self,
        locations: [&Location; 2],
        sealed: [&'b mut [u8]; 2],
        plain: &'b mut [Vec<u8>; 2],
    ) -> [Result<&'b [u8], RepositoryError>; 2] {
        let blob = |location: &Location, sealed, plain| SealedBlob {
            id: location.blob.id,
            sealed,
            uncompressed: location.blob.uncompressed(),
            plain,
        };
        let ([one, two], [first, second]) = (sealed, plain);
        let blobs = [
            blob(locations[0], one, first),
            blob(locations[1], two, second),
        ];
        let [first, second] = self.codec().open_two(blobs);
        [
            first.map_err(|cause| damaged(locations[0], cause)),
            second.map_err(|cause| damaged(locations[1], cause)),
        ]
    }
}

fn damaged(location: &Location, cause: OpenError) -> RepositoryError {
    RepositoryError::DamagedBlob {
        blob: location.blob.id,
        pack: pack_file(location.pack),
        cause: cause.into(),
    }
}

impl<T: BlobReader + ?Sized> BlobReader for Arc<T> {
    fn read_blob(&self, kind: BlobKind, id: BlobId) -> Result<Vec<u8>, RepositoryError> {
        (**self).read_blob(kind, id)
    }
}
