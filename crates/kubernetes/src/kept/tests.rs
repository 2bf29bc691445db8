use super::*;

fn kind(resource: &str) -> Kind {
    Kind {
        group: String::new(),
        version: "v1".into(),
        resource: resource.into(),
        kind: String::new(),
        namespaced: true,
        verbs: Vec::new(),
    }
}

fn folder(resource: &str, space: &str) -> Folder {
    Folder {
        group: String::new(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: Some(space.into()),
    }
}

/// Bytes that no compressor makes smaller, the same for the same number.
fn noise(n: usize, length: usize) -> Vec<u8> {
    let mut state = n as u64 * 2 + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn saved(n: usize, length: usize) -> SavedObject {
    SavedObject {
        name: format!("o-{n}"),
        document: noise(n, length),
        server: format!("{n}\n").into_bytes(),
    }
}

fn taken(kept: &mut Kept, folder: &Folder) -> Option<Vec<SavedObject>> {
    let pieces = kept.take(folder)?;
    Some(pieces.flat_map(Result::unwrap).collect())
}

#[test]
fn folders_come_back_as_they_were_seen_and_once() {
    let mut kept = Kept::up_to(16 << 20);
    // Two lists side by side; one goes through two namespaces, and comes back to the first.
    for n in 0..900 {
        let space = ["a", "b", "a"][n / 300];
        kept.add(&folder("secrets", space), || saved(n, 1_000));
        kept.add(&folder("widgets", "a"), || saved(n, 10));
    }
    kept.finish();
    let secrets = (0..300).chain(600..900).map(|n| saved(n, 1_000));
    let mut take = |resource, space| taken(&mut kept, &folder(resource, space));
    assert_eq!(take("secrets", "a"), Some(secrets.collect()));
    assert_eq!(take("secrets", "a"), None);
    let widgets = (0..900).map(|n| saved(n, 10));
    assert_eq!(take("widgets", "a"), Some(widgets.collect()));
    assert_eq!(take("secrets", "b").map(|all| all.len()), Some(300));
    assert_eq!(kept.bytes, 0);
}

#[test]
fn what_does_not_fit_is_not_kept_in_part() {
    let mut kept = Kept::up_to(1 << 20);
    kept.add(&folder("secrets", "early"), || saved(0, 1_000));
    for n in 0..3_000 {
        kept.add(&folder("secrets", "long"), || saved(n, 1_000));
        kept.add(&folder("widgets", "beside"), || saved(n, 10));
    }
    assert!(!kept.has_room());
    assert!(kept.bytes <= 1 << 20);
    kept.finish();
    let mut take = |resource, space| taken(&mut kept, &folder(resource, space));
    assert_eq!(take("secrets", "early"), Some(vec![saved(0, 1_000)]));
    assert_eq!(take("secrets", "long"), None);
    assert_eq!(take("widgets", "beside"), None);
}

#[test]
fn a_folder_that_comes_back_when_all_is_full_is_not_kept_without_its_end() {
    let mut kept = Kept::up_to(1_000);
    kept.add(&folder("secrets", "a"), || saved(0, 10));
    // Sealed when the first namespace comes back, and too large.
    kept.add(&folder("secrets", "b"), || saved(1, 5_000));
    assert!(kept.has_room());
    kept.add(&folder("secrets", "a"), || saved(2, 10));
    assert!(!kept.has_room());
    kept.finish();
    assert_eq!(taken(&mut kept, &folder("secrets", "a")), None);
    assert_eq!(taken(&mut kept, &folder("secrets", "b")), None);
}

#[test]
fn a_list_that_broke_is_forgotten() {
    let mut kept = Kept::up_to(16 << 20);
    for space in ["a", "b"] {
        kept.add(&folder("secrets", space), || saved(1, 10));
        kept.add(&folder("widgets", space), || saved(1, 10));
    }
    kept.forget(&kind("secrets"), None);
    kept.forget(&kind("widgets"), Some("b"));
    kept.finish();
    for (resource, space, expected) in [
        ("secrets", "a", None),
        ("secrets", "b", None),
        ("widgets", "a", Some(1)),
        ("widgets", "b", None),
    ] {
        let found = taken(&mut kept, &folder(resource, space)).map(|all| all.len());
        assert_eq!(found, expected, "{resource} {space}");
    }
}

#[test]
fn a_list_that_ended_leaves_nothing_open() {
    let mut kept = Kept::up_to(16 << 20);
    for (n, space) in ["a", "b", "a"].into_iter().enumerate() {
        kept.add(&folder("secrets", space), || saved(n, 10));
        kept.add(&folder("widgets", "a"), || saved(n, 10));
        kept.close(&kind("secrets"));
    }
    assert_eq!(kept.open.len(), 1);
    kept.finish();
    let mut take = |resource, space| taken(&mut kept, &folder(resource, space));
    assert_eq!(take("secrets", "a"), Some(vec![saved(0, 10), saved(2, 10)]));
    assert_eq!(take("secrets", "b"), Some(vec![saved(1, 10)]));
    assert_eq!(take("widgets", "a").map(|all| all.len()), Some(3));
    // What does not fit when the list ends is not kept either.
    let mut kept = Kept::up_to(1_000);
    kept.add(&folder("secrets", "a"), || saved(0, 5_000));
    kept.close(&kind("secrets"));
    assert!(!kept.has_room() && kept.open.is_empty());
    assert_eq!(taken(&mut kept, &folder("secrets", "a")), None);
}

#[test]
fn without_room_nothing_is_made_ready() {
    let mut kept = Kept::up_to(0);
    assert!(!kept.has_room());
    kept.add(&folder("secrets", "a"), || panic!("made in vain"));
}
