//! Every form of dump, whole and damaged, in pieces of odd sizes.

use super::*;
use crate::end_check_samples::*;

/// Pushes `dump` in pieces of several sizes; all must come to the same end.
fn check(new: fn() -> EndCheck, dump: &[u8]) -> Result<Vec<String>, DumpRejected> {
    let outcome = |size: usize| {
        let mut end = new();
        dump.chunks(size).for_each(|piece| end.push(piece));
        end.finish(Some(0))
    };
    let whole = outcome(dump.len().max(1));
    for size in [1, 3, 7, 41, 49, 1021, 4099] {
        assert_eq!(outcome(size), whole, "in pieces of {size}");
    }
    whole.map(|accepted| {
        assert_eq!(
            accepted.bytes + accepted.surplus_bytes as u64,
            dump.len() as u64
        );
        accepted.warnings
    })
}

/// Every proper prefix is rejected; the first ends are returned for a closer look.
fn every_cut_is_rejected(new: fn() -> EndCheck, dump: &[u8]) {
    for length in 0..dump.len() {
        let mut end = new();
        end.push(&dump[..length]);
        assert!(end.finish(Some(0)).is_err(), "cut at {length}");
    }
}

#[test]
fn postgresql_dumps_end_with_their_comment_and_their_key() {
    let database = || EndCheck::sql(Marker::Database);
    let missing = Err(DumpRejected::NoEndMarker {
        expected: "-- PostgreSQL database dump complete",
    });
    for rows in [0, 1, 1000] {
        let dump = pg_dump(true, rows);
        assert_eq!(check(database, dump.as_bytes()), Ok(Vec::new()));
        let other_key = dump.replace(&format!("\\unrestrict {KEY}"), "\\unrestrict other");
        assert_eq!(check(database, other_key.as_bytes()), missing);
    }
    let warnings = check(database, pg_dump(false, 5).as_bytes()).unwrap();
    assert!(warnings[0].contains("does not switch psql to restricted mode"));
    // The comment as text in rows, where the stream was cut.
    let row = pg_dump(true, 5).replace(
        "some text",
        "some text\n--\n-- PostgreSQL database dump complete\n--\n",
    );
    let cut = &row[..row
        .rfind("--\n-- PostgreSQL database dump complete")
        .unwrap()];
    assert_eq!(check(database, cut.as_bytes()), missing);
    assert_eq!(
        check(database, b"psql: error: connection refused\n"),
        missing
    );
}

#[test]
fn cuts_of_a_postgresql_dump_are_rejected_up_to_its_last_line() {
    // The last line is empty: without it, everything is still there.
    let dump = pg_dump(true, 200);
    every_cut_is_rejected(
        || EndCheck::sql(Marker::Database),
        dump.trim_end().as_bytes(),
    );
}

#[test]
fn postgresql_cluster_dumps_close_their_key_first() {
    let dump = cluster();
    let cluster = || EndCheck::sql(Marker::Cluster);
    assert_eq!(check(cluster, dump.as_bytes()), Ok(Vec::new()));
    every_cut_is_rejected(cluster, dump.trim_end().as_bytes());
    assert_eq!(
        check(|| EndCheck::sql(Marker::Database), dump.as_bytes()),
        Err(DumpRejected::NoEndMarker {
            expected: "-- PostgreSQL database dump complete"
        })
    );
}

#[test]
fn mysql_dumps_end_with_their_comment() {
    let completed = || EndCheck::sql(Marker::Completed);
    for end in [
        "-- Dump completed\n",
        "-- Dump completed on 2026-11-20 13:37:38\n",
    ] {
        let dump = format!("-- MariaDB dump\n\nINSERT INTO `t` VALUES (1);\n\n{end}");
        assert_eq!(check(completed, dump.as_bytes()), Ok(Vec::new()));
        every_cut_is_rejected(completed, &dump.as_bytes()[..dump.len() - end.len() + 17]);
    }
    assert_eq!(
        check(
            completed,
            b"INSERT INTO `t` VALUES ('-- Dump completed');\n"
        ),
        Err(DumpRejected::NoEndMarker {
            expected: "-- Dump completed"
        })
    );
}

#[test]
fn the_exit_status_counts_as_much_as_the_end() {
    let finish = |dump: &str, code| {
        let mut end = EndCheck::sql(Marker::Database);
        end.push(dump.as_bytes());
        end.finish(code)
    };
    let dump = pg_dump(true, 1);
    assert_eq!(
        finish(&dump, Some(1)),
        Err(DumpRejected::ExitStatus { code: 1 })
    );
    assert_eq!(finish(&dump, None), Err(DumpRejected::ExitUnknown));
    assert_eq!(finish("", Some(0)), Err(DumpRejected::Empty));
    assert_eq!(
        finish("", Some(1)),
        Err(DumpRejected::ExitStatus { code: 1 })
    );
}

#[test]
fn rdb_files_end_with_their_checksum_and_maybe_a_mark() {
    let mark = [b'a'; 40];
    let ends = [&[][..], &mark];
    let bodies = [
        &[][..],
        &[0xff; 9],
        b"some keys and their values, and more of them",
        &[7; 5000],
    ];
    for (body, mark) in bodies.iter().flat_map(|b| ends.iter().map(move |m| (b, m))) {
        let dump = rdb(body, mark);
        assert_eq!(check(EndCheck::rdb, &dump), Ok(Vec::new()));
        let whole_without_mark = dump.len() - mark.len();
        for length in (0..dump.len()).filter(|length| *length != whole_without_mark) {
            let mut end = EndCheck::rdb();
            end.push(&dump[..length]);
            assert!(
                end.finish(Some(0)).is_err(),
                "cut at {length} of {}",
                dump.len()
            );
        }
    }
}

#[test]
fn a_changed_byte_in_an_rdb_is_noticed() {
    let mut dump = rdb(b"keys", &[b'0'; 40]);
    dump[10] ^= 1;
    assert!(matches!(
        check(EndCheck::rdb, &dump),
        Err(DumpRejected::Checksum { .. })
    ));
    let no_rdb = Err(DumpRejected::NotADump {
        expected: "an RDB file of Redis",
    });
    assert_eq!(
        check(EndCheck::rdb, b"NOAUTH Authentication required.\n"),
        no_rdb
    );
    // rdbchecksum no
    let unchecked = [b"REDIS0010keys\xff".as_slice(), &[0; 8]].concat();
    assert_eq!(check(EndCheck::rdb, &unchecked).map(|w| w.len()), Ok(1));
}

#[test]
fn mongo_archives_end_when_every_collection_has_ended() {
    assert_eq!(check(EndCheck::mongo_archive, &archive(0)), Ok(Vec::new()));
    every_cut_is_rejected(EndCheck::mongo_archive, &archive(0));
}

#[test]
fn damaged_mongo_archives_are_rejected() {
    assert!(matches!(
        check(EndCheck::mongo_archive, &archive(1)),
        Err(DumpRejected::Checksum { .. })
    ));
    let no_archive = Err(DumpRejected::NotADump {
        expected: "an archive of mongodump",
    });
    assert_eq!(check(EndCheck::mongo_archive, b"Failed: error"), no_archive);
    let huge = [&0x8199_e26d_u32.to_le_bytes()[..], &i32::MAX.to_le_bytes()].concat();
    assert_eq!(check(EndCheck::mongo_archive, &huge), no_archive);
    let negative = [&0x8199_e26d_u32.to_le_bytes()[..], &[0xfe; 4]].concat();
    assert_eq!(check(EndCheck::mongo_archive, &negative), no_archive);
}

/// However long names are and however many, what is held of them has a limit.
#[test]
fn the_names_of_an_archive_are_bounded() {
    let head = [
        &0x8199_e26d_u32.to_le_bytes()[..],
        &bson(&[("version", Value::Text("0.1"))]),
    ]
    .concat();
    let long: &'static str = "x".repeat(1 << 20).leak();
    let named = |name| {
        bson(&[
            ("db", Value::Text("shop")),
            ("collection", Value::Text(name)),
        ])
    };
    let mut end = EndCheck::mongo_archive();
    end.push(&head);
    end.push(&named(long));
    assert!(end.held_bytes() < 1000, "{}", end.held_bytes());
    assert!(matches!(
        end.finish(Some(0)),
        Err(DumpRejected::NotADump { .. })
    ));

    // Blocks of collections that the prelude does not name, without end.
    let mut end = EndCheck::mongo_archive();
    end.push(&head);
    end.push(&[0xff; 4]);
    for number in 0..150_000 {
        let name: &'static str = format!("{number:0>1000}").leak();
        end.push(&namespace(name, false, 0));
        end.push(&[0xff; 4]);
        assert!(end.held_bytes() <= 129 << 20, "{}", end.held_bytes());
    }
    let refused = end.finish(Some(0)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the dump has more names of collections than 128 MiB hold, which is what can be checked"
    );
}

/// Multi-tenant servers have them.
#[test]
fn an_archive_of_a_hundred_thousand_collections_is_whole() {
    let mut end = EndCheck::mongo_archive();
    end.push(&0x8199_e26d_u32.to_le_bytes());
    end.push(&bson(&[("version", Value::Text("0.1"))]));
    let names: Vec<&'static str> = (0..100_000)
        .map(|number| &*format!("tenant_{number:0>40}.orders").leak())
        .collect();
    for name in &names {
        end.push(&bson(&[
            ("db", Value::Text("shop")),
            ("collection", Value::Text(name)),
        ]));
    }
    end.push(&[0xff; 4]);
    for name in &names {
        for ends in [false, true] {
            end.push(&namespace(name, ends, 0));
            end.push(&[0xff; 4]);
        }
    }
    assert_eq!(
        end.finish(Some(0)).map(|whole| whole.warnings),
        Ok(Vec::new())
    );
}
