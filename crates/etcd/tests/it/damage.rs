//! D2: a snapshot without hash, with a wrong one, cut, or with a flipped page is refused, always.

use refloat_etcd::{
    BUMP_DEFAULT, DataFolderOptions, Depth, EtcdDataFolder, SnapshotView, StoredValue,
};
use refloat_model::cancel::Cancel;
use refloat_model::plan::RestoreRequest;
use refloat_model::progress::Silent;
use refloat_source::Target as _;

use crate::point::Point;
use crate::restore::fixture;

/// Tries to open and to restore; both must refuse, and nothing may be written.
fn refused(snapshot: &[u8], what: &str) {
    let root = tempfile::tempdir().unwrap();
    let opened = SnapshotView::open(snapshot, root.path());
    assert!(opened.is_err(), "opened: {what}");
    let folder = root.path().join("data");
    let target = EtcdDataFolder::new(DataFolderOptions {
        folder: folder.clone(),
        members: vec!["a=http://127.0.0.1:2380".to_owned()],
        own_name: None,
        token: None,
        bump: BUMP_DEFAULT,
    });
    let (point, request) = (Point::new(snapshot, None), RestoreRequest::default());
    let plan = target.plan(&point, &request).unwrap();
    let done = target.execute(
        &plan,
        &point,
        &request,
        &Silent::default(),
        &Cancel::default(),
    );
    assert!(done.is_err(), "restored: {what}");
    assert!(!folder.exists(), "written: {what}");
}

#[test]
fn a_damaged_snapshot_is_refused_every_time() {
    let whole = fixture();
    let end = whole.len() - 32;
    refused(&whole[..end], "no hash");
    let mut wrong = whole.clone();
    wrong[end] ^= 1;
    refused(&wrong, "wrong hash");
    for part in 0..40 {
        let cut = whole.len() * part / 40;
        refused(&whole[..cut], &format!("cut at {cut}"));
    }
    for page in 1..end / 4096 {
        refused(
            &whole[..page * 4096 + 32],
            &format!("cut in page {page}, as if hashed"),
        );
    }
    for page in 0..end / 4096 {
        let mut flipped = whole.clone();
        for byte in &mut flipped[page * 4096..(page + 1) * 4096] {
            *byte = !*byte;
        }
        refused(&flipped, &format!("page {page} flipped"));
        let mut flipped = whole.clone();
        flipped[page * 4096 + 77] ^= 4;
        refused(&flipped, &format!("one bit of page {page}"));
    }
    for other in [b"".as_slice(), b"{}", &[0; 4096], &[0; 4096 + 32]] {
        refused(other, "something else");
    }
}

/// Damage that carries a right hash: whoever can write the snapshot can write that as well.
#[test]
fn hostile_content_with_a_right_hash_ends() {
    let whole = fixture();
    let end = whole.len() - 32;
    let root = tempfile::tempdir().unwrap();
    let (mut refused, mut read) = (0, 0);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..600 {
        let mut bytes = whole[..end].to_vec();
        for _ in 0..=round % 20 {
            // Structure is hit more often than content.
            let page = random() as usize % (end / 4096) * 4096;
            let within = random() as usize % if round % 2 == 0 { 64 } else { 4096 };
            bytes[page + within] = random() as u8;
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        bytes.extend_from_slice(hash.as_ref());
        match SnapshotView::open(bytes.as_slice(), root.path()) {
            Err(_) => refused += 1,
            Ok(view) => {
                read += 1;
                for listed in view.list(&[], Depth::All).unwrap_or_default() {
                    let _object = view.object(&listed.path).map(|o| o.document());
                }
            }
        }
    }
    assert!(refused > 100 && read > 50, "{refused} {read}");
}

#[test]
fn the_fixture_is_read_as_it_was_written() {
    let root = tempfile::tempdir().unwrap();
    let view = SnapshotView::open(fixture().as_slice(), root.path()).unwrap();
    assert_eq!(view.list(&[], Depth::All).unwrap().len(), 302);
    let path = |text: &str| -> Vec<Vec<u8>> {
        text.split('/')
            .map(|part| part.as_bytes().to_vec())
            .collect()
    };
    let below: Vec<_> = view
        .list(&path("registry"), Depth::One)
        .unwrap()
        .into_iter()
        .map(|l| {
            (
                String::from_utf8(l.path[1].clone()).unwrap(),
                l.is_directory,
            )
        })
        .collect();
    assert_eq!(
        below,
        [
            ("big".to_owned(), false),
            ("configmaps".to_owned(), true),
            ("secrets".to_owned(), true),
        ]
    );
    let object = view
        .object(&path("registry/configmaps/default/c042"))
        .unwrap();
    assert_eq!(object.document()["metadata"]["name"], "c042");
    assert_eq!(object.version, 2);
    assert!(object.mod_revision > object.create_revision);
    assert!(!object.is_sensitive());
    assert_eq!(
        view.object(&path("registry/big")).unwrap().value.len(),
        30_000
    );
    let secret = view.object(&path("registry/secrets/default/s")).unwrap();
    let how = "aescbc:v1:key1".to_owned();
    assert_eq!(secret.recognised(), StoredValue::Encrypted { how });
    assert!(secret.is_sensitive());
    assert!(
        view.object(&path("registry/configmaps/default/gone"))
            .is_err()
    );
    assert!(view.list(&path("registry/nothing"), Depth::One).is_err());
}
