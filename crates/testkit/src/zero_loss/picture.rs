//! What a point holds, in a form that compares.
//!
//! Invariant: two pictures are equal only if content and every field of metadata are, by path.

use std::collections::BTreeMap;

use refloat_repository::format::tree::encode;
use refloat_repository::{BlobId, BlobKind, BlobReader as _, IndexedRepository, RepositoryError};
use sha2::{Digest as _, Sha256};

/// By path: the entry as the format encodes it, without the ids of what lies below it, and the
/// SHA-256 of its content.
pub type Picture = BTreeMap<Vec<u8>, (Vec<u8>, [u8; 32])>;

/// Reads everything below a root.
///
/// # Errors
/// A blob is missing or damaged.
pub fn picture(repository: &IndexedRepository, root: BlobId) -> Result<Picture, RepositoryError> {
    let mut picture = Picture::new();
    let mut open = vec![(Vec::new(), root)];
    while let Some((prefix, tree)) = open.pop() {
        for mut node in repository.read_tree(tree)? {
            let mut path = prefix.clone();
            path.push(b'/');
            path.extend_from_slice(node.name());
            let mut content = Sha256::new();
            for blob in node.content.iter() {
                content.update(repository.read_blob(BlobKind::Data, *blob)?);
            }
            if let Some(subtree) = node.subtree.take() {
                open.push((path.clone(), subtree));
            }
            picture.insert(path, (encode([&node]), content.finalize().into()));
        }
    }
    Ok(picture)
}
