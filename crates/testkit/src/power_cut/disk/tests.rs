use super::*;

/// Carries calls out one after the other, and gives all that a cut may leave then.
fn left_by(effects: &[Effect]) -> Vec<BTreeMap<PathBuf, Option<Vec<u8>>>> {
    let mut disk = Disk::default();
    for (number, effect) in (1_u64..).zip(effects) {
        disk.apply(&Call {
            thread: 1,
            began: number * 10,
            ended: number * 10 + 5,
            effect: effect.clone(),
        });
    }
    let remains = disk.choices(20, &mut Random::new(1));
    let mut left: Vec<_> = remains.iter().map(|left| disk.after_cut(left)).collect();
    left.sort();
    left.dedup();
    left
}

fn create(path: &str) -> Effect {
    Effect::Create(path.into())
}
fn write(path: &str) -> Effect {
    Effect::Append(path.into(), b"content".to_vec())
}
fn fsync(path: &str) -> Effect {
    Effect::Synchronise(path.into())
}
fn rename(from: &str, to: &str) -> Effect {
    Effect::Rename(from.into(), to.into())
}

#[test]
fn what_is_written_in_the_right_order_is_whole_or_absent() {
    let steps = [
        create("t"),
        write("t"),
        fsync("t"),
        rename("t", "name"),
        fsync(""),
    ];
    for count in 0..=steps.len() {
        for left in left_by(&steps[..count]) {
            let named = left.get(Path::new("name"));
            let whole = named.is_none_or(|content| content.as_deref() == Some(b"content"));
            assert!(whole, "after {count}: {left:?}");
            assert!(count < steps.len() || named.is_some(), "it was promised");
        }
    }
}

#[test]
fn without_synchronisation_of_the_file_it_may_be_empty_and_of_the_folder_gone() {
    let no_file_sync = left_by(&[create("t"), write("t"), rename("t", "name"), fsync("")]);
    let contents: Vec<&[u8]> = no_file_sync
        .iter()
        .map(|left| left[Path::new("name")].as_deref().unwrap())
        .collect();
    assert_eq!(contents, [&b""[..], &[0; 7], b"con", b"content"]);
    let no_folder_sync = left_by(&[create("t"), write("t"), fsync("t"), rename("t", "name")]);
    let named = |left: &BTreeMap<_, _>| left.contains_key(Path::new("name"));
    assert!(no_folder_sync.iter().any(|left| !named(left)));
    assert!(no_folder_sync.iter().any(named));
}

#[test]
fn a_removal_may_come_back_and_a_folder_that_is_lost_takes_its_files_along() {
    let steps = [
        create("a"),
        fsync("a"),
        fsync(""),
        Effect::Remove("a".into()),
    ];
    let back = left_by(&steps);
    assert!(back.iter().any(|left| left.contains_key(Path::new("a"))));
    assert!(back.iter().any(BTreeMap::is_empty));
    let steps = [
        Effect::MakeFolder("d".into()),
        create("d/a"),
        fsync("d/a"),
        fsync("d"),
    ];
    let left = left_by(&steps);
    assert!(left.iter().any(BTreeMap::is_empty), "{left:?}");
    assert!(
        !left
            .iter()
            .any(|left| left.len() == 1 && !left.contains_key(Path::new("d")))
    );
}

#[test]
fn a_synchronisation_covers_only_what_another_thread_had_done_before_it_began() {
    let call = |thread, began, effect| Call {
        thread,
        began,
        ended: began + 5,
        effect,
    };
    for (began, covered) in [(3, false), (5, true)] {
        let mut disk = Disk::default();
        disk.apply(&call(1, 0, create("a")));
        disk.apply(&call(2, began, fsync("")));
        assert_eq!(disk.pending.is_empty(), covered, "began at {began}");
    }
}

#[test]
fn what_is_appended_after_a_synchronisation_costs_nothing_of_what_was_before() {
    for left in left_by(&[create("t"), write("t"), fsync("t"), fsync(""), write("t")]) {
        let content = left[Path::new("t")].as_deref().unwrap();
        assert!(content.starts_with(b"content"), "{content:?}");
    }
}

#[test]
fn writes_at_an_offset_and_a_length_change_what_is_synchronised_next() {
    let at = |offset, bytes: &[u8]| Effect::WriteAt("name".into(), offset, bytes.to_vec());
    let length = |length| Effect::SetLength("name".into(), length);
    let steps = [
        create("name"),
        at(0, b"conte"),
        at(4, b"ent and padding"),
        length(7),
        fsync("name"),
        fsync(""),
        length(9),
    ];
    let promised = left_by(&steps[..6]);
    let whole = BTreeMap::from([(PathBuf::from("name"), Some(b"content".to_vec()))]);
    assert_eq!(promised, [whole]);
    let contents: Vec<_> = left_by(&steps)
        .iter()
        .map(|left| left[Path::new("name")].clone().unwrap())
        .collect();
    assert_eq!(contents, [&b"content"[..], b"content\0", b"content\0\0"]);
}
