//! F1: nothing that a producer, a server or a container's definition says makes a reader panic, hang,
//! or judge by the sizes of pieces.

use refloat_testkit::fuzz::{Target, run};

use crate::end_check::{Accepted, DumpRejected, EndCheck, Marker};
use crate::end_check_samples as samples;
use crate::restore::Proof;
use crate::{Container, Exec, Input, Recipe, RestoreStep};

fn judge(new: fn() -> EndCheck, dump: &[u8], piece: usize) -> Result<Accepted, DumpRejected> {
    let mut end = new();
    for piece in dump.chunks(piece) {
        end.push(piece);
        let held = end.held_bytes();
        assert!(held <= (17 << 20) + dump.len(), "{held} bytes are held");
    }
    end.finish(Some(0))
}

/// A dump by the name that reports have, its judge, and samples.
fn dump(name: &'static str, new: fn() -> EndCheck, corpus: Vec<Vec<u8>>) -> Target<'static> {
    Target::new(name, corpus, move |bytes| {
        let whole = judge(new, bytes, bytes.len().max(1));
        let pieces = judge(new, bytes, 13);
        assert_eq!(whole, pieces, "the sizes of pieces do not matter");
        if let Ok(accepted) = whole {
            let all = accepted.bytes + accepted.surplus_bytes as u64;
            assert_eq!(all, bytes.len() as u64);
        }
    })
}

#[test]
fn no_bytes_of_a_dump_make_its_judge_panic() {
    let pg = |restricted| samples::pg_dump(restricted, 3).into_bytes();
    let maria = b"-- MariaDB dump\n\nINSERT INTO `t` VALUES (1);\n\n-- Dump completed on 2026-11-20 13:37:38\n";
    let dumps = [
        dump(
            "pg_dump",
            || EndCheck::sql(Marker::Database),
            vec![pg(true), pg(false)],
        ),
        dump(
            "pg_dumpall",
            || EndCheck::sql(Marker::Cluster),
            vec![samples::cluster().into_bytes()],
        ),
        dump(
            "mysqldump",
            || EndCheck::sql(Marker::Completed),
            vec![maria.to_vec()],
        ),
        dump(
            "rdb",
            EndCheck::rdb,
            vec![
                samples::rdb(b"keys", &[]),
                samples::rdb(b"keys", &[b'a'; 40]),
            ],
        ),
        dump(
            "mongodump",
            EndCheck::mongo_archive,
            vec![samples::archive(0), samples::archive(1)],
        ),
    ];
    run("F1 of dumps", &dumps);
}

#[test]
fn no_answer_of_a_server_makes_its_reader_panic() {
    let steps = [
        Proof::Complete,
        Proof::CompleteOrDuplicate,
        Proof::NoDocumentFailed,
    ]
    .map(|proof| RestoreStep {
        title: "load".into(),
        exec: Exec::new(["psql"]),
        input: Input::None,
        proof,
    });
    let recipes = ["postgres:15", "mariadb:11", "redis:7", "mongo:7"].map(|image| {
        let container = Container {
            image,
            environment: &[],
            command: &[],
        };
        Recipe::recognise(&container).unwrap()
    });
    let answers = [
        "database 73686f70\ndatabase e282ac\nend\n",
        "redis_version:7.0.1\r\naof_enabled:1\r\n",
        "psql:<stdin>:14: ERROR:  42710\npsql:<stdin>:15: ERROR:  42P01\n",
        "2026 finished restoring shop.a (3 documents, 0 document(s) failed to restore)\n",
    ];
    let words = [
        "postgres -c data_directory=/srv/pg",
        "sh -c 'redis-server --appendonly yes --dir /d'",
    ];
    let targets = [
        Target::new("answers of servers and clients", answers, |bytes| {
            for recipe in &recipes {
                let Ok(survey) = recipe.parse_survey(Some(0), bytes) else {
                    continue;
                };
                let names: Vec<String> = recipe
                    .dumps(&survey)
                    .into_iter()
                    .map(|dump| dump.file_name)
                    .collect();
                for name in &names {
                    assert!(!name.contains(['/', '\0']) && name.len() <= 255, "{name:?}");
                }
                let restored = recipe.restore(&names).unwrap();
                assert_eq!(restored.len(), names.len(), "each dump has its way back");
            }
            for step in &steps {
                let _judged = step.judge(Some(0), bytes, bytes);
            }
        }),
        Target::text("definitions of containers", words, |text| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            let environment = [format!("PGDATA={text}"), text.to_owned()];
            for image in ["x/postgres", "x/mysql", "x/redis", "x/mongo", text] {
                let container = Container {
                    image,
                    environment: &environment,
                    command: &words,
                };
                let _recipe = Recipe::recognise(&container);
            }
        }),
    ];
    run("F1 of databases", &targets);
}
