use refloat_model::id::PointId;
use refloat_model::item::{Item, ItemKind};
use refloat_repository::SnapshotId;

use super::*;
use crate::point_list::AD_HOC_POLICY;

/// A point of policy `p` on host `h`; `items` are words `name`, `name!` (not saved), `name0`
/// (saved but empty), `name-` (skipped by a rule), `name?` (saved and suspicious), `name_` (left out as empty, and
/// suspicious), each of source `s` or as `source/name`.
fn candidate(number: u8, time: &str, items: &[&str]) -> Candidate {
    let holdings = items.iter().map(|word| {
        let name = word.trim_end_matches(['!', '0', '-', '?', '_']);
        let source = name.split_once('/').map_or("s", |(source, _)| source);
        let holding = Holding {
            source: source.to_owned(),
            title: name.to_owned(),
            saved: !word.ends_with(['!', '-']),
            has_data: !word.ends_with(['0', '_']),
            selected: !word.ends_with('-'),
            is_nothing: word.ends_with('_'),
            suspicious: word.ends_with(['?', '_']),
        };
        (TreePath::root().child(name), holding)
    });
    Candidate {
        point: PointSummary {
            id: Some(PointId::from_random([number; 16])),
            snapshot: SnapshotId([number; 32]),
            time: time.parse::<jiff::Timestamp>().unwrap().into(),
            policy: Some("p".into()),
            host: "h".into(),
            paths: Vec::new(),
            tags: if number == 3 {
                vec!["audit".into()]
            } else {
                Vec::new()
            },
        },
        holdings: Some(holdings.collect()),
        coverage: Coverage::default(),
        unseen: BTreeSet::new(),
        emptied: BTreeSet::new(),
        is_repaired: false,
    }
}

/// One line for each point, newest first: number and reasons.
fn check(candidates: Vec<Candidate>, keep: &Keep) -> Vec<String> {
    let plan = plan(candidates, |_| Some(keep.clone()));
    plan.groups
        .iter()
        .flat_map(|g| &g.decisions)
        .map(|d| {
            let reasons: Vec<_> = d.reasons.iter().map(ToString::to_string).collect();
            format!("{} {}", d.point.snapshot.0[0], reasons.join(", "))
                .trim()
                .to_owned()
        })
        .collect()
}

const TIMES: [&str; 8] = [
    "2024-12-30T12:00:00Z",
    "2025-12-31T23:00:00Z",
    "2026-10-31T10:00:00Z",
    "2026-11-18T23:59:59Z",
    "2026-11-19T08:00:00Z",
    "2026-11-19T09:10:00Z",
    "2026-11-19T09:50:00Z",
    "2026-11-20T10:00:00Z",
];

/// Eight points, numbered from 0, the oldest first; item `db` is in all of them.
fn history() -> Vec<Candidate> {
    (0..)
        .zip(TIMES)
        .map(|(n, t)| candidate(n, t, &["db"]))
        .collect()
}

#[test]
fn only_points_that_cover_the_same_count_as_newer_copies() {
    let of = |number, time, folder: &str| {
        let mut candidate = candidate(number, time, &[folder]);
        candidate.point.policy = Some(AD_HOC_POLICY.to_owned());
        candidate.point.paths = vec![format!("/files/local/{folder}")];
        candidate.coverage = Coverage::of_snapshot(&candidate.point);
        candidate
    };
    let (a, b) = (of(1, TIMES[0], "a"), of(2, TIMES[1], "a"));
    let (c, d) = (of(4, TIMES[2], "b"), of(5, TIMES[3], "b"));
    let keep = Keep {
        last: 1,
        ..Keep::default()
    };
    let lines = check(vec![a.clone(), b.clone(), c.clone(), d.clone()], &keep);
    assert_eq!(
        lines,
        [
            "2 last, newest good copy of a",
            "1",
            "5 last, newest good copy of b",
            "4"
        ]
    );
    let mut of_policy = [a, b, c, d];
    for candidate in &mut of_policy {
        candidate.point.policy = Some("p".to_owned());
        candidate.coverage = Coverage::of_snapshot(&candidate.point);
    }
    let lines = check(of_policy.to_vec(), &keep);
    assert_eq!(lines, ["5 last, newest good copy of b", "4", "2", "1"]);
}

#[test]
fn a_part_of_what_a_run_covers_is_of_the_points_that_cover_it_all() {
    let of = |folders: &[&str]| {
        let mut candidate = candidate(1, TIMES[0], &[]);
        candidate.point.policy = Some(AD_HOC_POLICY.to_owned());
        candidate.point.paths = folders.iter().map(|&folder| folder.to_owned()).collect();
        Coverage::of_snapshot(&candidate.point)
    };
    let (both, one, other) = (of(&["/a", "/b"]), of(&["/a"]), of(&["/c"]));
    assert!(both.includes(&one) && both.includes(&both));
    assert!(!one.includes(&both) && !both.includes(&other));
    // Of a policy of the configuration, and none of them.
    let of_policy = Coverage::default();
    assert!(of_policy.includes(&of_policy));
    assert!(!both.includes(&of_policy) && !of_policy.includes(&one));
}

#[test]
fn each_rule_keeps_what_it_says() {
    let keep = |change: &dyn Fn(&mut Keep)| {
        let mut keep = Keep::default();
        change(&mut keep);
        let kept = check(history(), &keep).into_iter().filter_map(|line| {
            let (number, reasons) = line.split_once(' ')?;
            Some(format!(
                "{number}:{}",
                reasons.replace(", newest good copy of db", "")
            ))
        });
        kept.collect::<Vec<_>>().join(" ")
    };
    for (change, expected) in [
        (
            &(|k: &mut Keep| k.last = 2) as &dyn Fn(&mut Keep),
            "7:last 6:last",
        ),
        (&|k: &mut Keep| k.hourly = 3, "7:hourly 6:hourly 4:hourly"),
        (&|k: &mut Keep| k.daily = 3, "7:daily 6:daily 3:daily"),
        (&|k: &mut Keep| k.weekly = 2, "7:weekly 2:weekly"),
        (
            &|k: &mut Keep| k.monthly = 9,
            "7:monthly 2:monthly 1:monthly 0:monthly",
        ),
        (&|k: &mut Keep| k.yearly = 2, "7:yearly 1:yearly"),
        (&|k: &mut Keep| k.within = "1d".parse().ok(), "7:within"),
        (
            &|k: &mut Keep| k.within = "2d".parse().ok(),
            "7:within 6:within 5:within 4:within 3:within",
        ),
        (
            &|k: &mut Keep| k.tags = vec!["audit".into()],
            "7:newest good copy of db 3:tag audit",
        ),
    ] {
        assert_eq!(keep(change), expected);
    }
}

#[test]
fn the_newest_good_copy_of_a_still_selected_item_stays() {
    let keep = Keep {
        last: 1,
        ..Keep::default()
    };
    let check = |items: [&[&str]; 3]| {
        let candidates = (0..)
            .zip(TIMES)
            .zip(items)
            .map(|((n, t), i)| candidate(n, t, i));
        check(candidates.collect(), &keep)
    };
    assert_eq!(
        check([&["db", "web"], &["db", "web"], &["db", "web"]]),
        ["2 last, newest good copy of db and 1 more", "1", "0"]
    );
    assert_eq!(
        check([&["db"], &["db"], &["db!"]]),
        ["2 last", "1 newest good copy of db", "0"],
        "the newest run failed"
    );
    assert_eq!(
        check([&["db"], &["db0"], &["db0"]]),
        [
            "2 last, newest good copy of db",
            "1",
            "0 newest good copy of db"
        ],
        "an empty copy does not rotate out the one with data"
    );
    assert_eq!(
        check([&["db"], &["db"], &["db-"]]),
        ["2 last", "1", "0"],
        "what a rule leaves out is not selected any more"
    );
    assert_eq!(
        check([&["db"], &["web"], &["web"]]),
        ["2 last, newest good copy of web", "1", "0"]
    );
}

#[test]
fn a_source_that_is_missing_in_new_points_keeps_its_newest_copies() {
    let keep = Keep {
        last: 3,
        ..Keep::default()
    };
    let both: &[&str] = &["host1/db", "host1/log", "host2/web"];
    let one: &[&str] = &["host2/web"];
    for (last_of_host1, expected) in [
        (both, "1 newest good copy of host1/db and 1 more"),
        (
            &["host1/db", "host1/log-", "host2/web"],
            "1 newest good copy of host1/db",
        ),
        (&["host1/log-", "host2/web"], "1"),
    ] {
        let points = [both, last_of_host1, one, one, one, one, one, one, one];
        let days = (1..).map(|day| format!("2026-11-{day:02}T10:00:00Z"));
        let candidates = (0..)
            .zip(days)
            .zip(points)
            .map(|((n, t), items)| candidate(n, &t, items));
        let lines = check(candidates.collect(), &keep);
        let newest = ["8 last, newest good copy of host2/web", "7 last", "6 last"];
        assert_eq!(lines[..3], newest);
        assert_eq!(lines[3..], ["5", "4", "3", "2", expected, "0"]);
    }
}

#[test]
fn groups_do_not_mix_and_foreign_snapshots_are_left_alone() {
    let mut candidates = history();
    candidates[0].point.policy = Some("q".into());
    candidates[1].point.host = "other".into();
    candidates[2].point.id = None;
    candidates[3].point.policy = None;
    let plan = plan(candidates, |policy| {
        (policy == "p").then(|| Keep {
            last: 1,
            ..Keep::default()
        })
    });
    let groups: Vec<_> = plan
        .groups
        .iter()
        .map(|g| (g.policy.as_str(), g.host.as_str(), g.decisions.len()))
        .collect();
    assert_eq!(groups, [("p", "h", 4), ("p", "other", 1)]);
    let dropped: Vec<_> = plan.dropped().map(|p| p.snapshot.0[0]).collect();
    assert_eq!((dropped, plan.kept_count()), (vec![6, 5, 4], 2));
}

#[test]
fn a_point_that_cannot_be_judged_stays() {
    let mut candidates = history();
    candidates[2].holdings = None;
    let keep = Keep {
        last: 1,
        ..Keep::default()
    };
    assert_eq!(check(candidates, &keep)[5], "2 its manifest cannot be read");
}

#[test]
fn named_points_go_and_what_no_other_holds_is_told() {
    let candidates = || {
        vec![
            candidate(1, TIMES[1], &["old/gone", "s/data"]),
            candidate(2, TIMES[4], &["s/data", "s/empty0"]),
            candidate(4, TIMES[5], &["s/data!", "s/other"]),
        ]
    };
    let id = |number: u8| format!("{number:02x}").repeat(4);
    let named = |ids: &[String]| plan_named(candidates(), ids).unwrap();
    let shown = |plan: &ForgetPlan| -> Vec<String> {
        let lost = plan.unprotected.iter();
        lost.map(|lost| format!("{}: {}", lost.source, lost.item))
            .collect()
    };
    let plan = named(&[id(1)]);
    let dropped: Vec<u8> = plan.dropped().map(|point| point.snapshot.0[0]).collect();
    assert_eq!(dropped, [1]);
    assert_eq!(
        shown(&plan),
        ["old: old/gone"],
        "data is in a younger point"
    );
    assert_eq!(plan.groups[0].decisions[0].reasons, [Reason::NotNamed]);
    assert_eq!(
        shown(&named(&[id(1), id(2)])),
        ["old: old/gone", "s: s/data", "s: s/empty"],
        "a copy that failed protects nothing"
    );
    assert!(matches!(
        plan_named(candidates(), &["ff".to_owned()]),
        Err(NamedError::Select(_))
    ));
    let mut foreign = candidates();
    foreign[0].point.id = None;
    assert!(matches!(
        plan_named(foreign, &[id(1)]),
        Err(NamedError::Foreign(_))
    ));
}

/// The last point of each group is the oldest; what is kept of it and why.
fn kept(candidates: Vec<Candidate>, circumstances: Circumstances) -> Vec<(u8, Vec<Reason>)> {
    let keep = Keep {
        last: 1,
        ..Keep::default()
    };
    let plan = plan_under(candidates, circumstances, |_| Some(keep.clone()));
    let decisions = plan.groups.into_iter().flat_map(|g| g.decisions);
    let kept = decisions.filter(Decision::is_kept);
    kept.map(|d| (d.point.snapshot.0[0], d.reasons)).collect()
}

fn at(time: &str, changes: Changes) -> Circumstances {
    Circumstances {
        now: time.parse::<jiff::Timestamp>().unwrap().into(),
        changes,
    }
}

#[test]
fn the_last_copy_before_a_suspicious_one_stays_until_a_person_accepts() {
    let points = || {
        vec![
            candidate(1, "2026-11-01T00:00:00Z", &["db"]),
            candidate(2, "2026-11-02T00:00:00Z", &["db"]),
            candidate(4, "2026-11-03T00:00:00Z", &["db?"]),
            // Compared with the suspicious one, it is as usual.
            candidate(5, "2026-11-04T00:00:00Z", &["db"]),
            candidate(6, "2026-11-05T00:00:00Z", &["db"]),
        ]
    };
    let now = "2026-11-06T00:00:00Z";
    let found = kept(points(), at(now, Changes::Suspicious));
    let numbers: Vec<u8> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [6, 4, 2]);
    let db = vec!["db".to_owned()];
    assert_eq!(found[1].1, [Reason::Suspicious(db.clone())]);
    assert_eq!(found[2].1, [Reason::BeforeChange(db)]);
    let found = kept(points(), at(now, Changes::Accepted));
    let numbers: Vec<u8> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [6]);
}

#[test]
fn a_second_alarm_takes_nothing_from_what_the_first_one_protects() {
    let points = |words: [&str; 6]| {
        let days = (1..).map(|day| format!("2026-11-{day:02}T00:00:00Z"));
        let numbers = [1, 2, 4, 5, 6, 7].into_iter();
        let points = numbers.zip(days).zip(words);
        points
            .map(|((n, time), word)| candidate(n, &time, &[word]))
            .collect::<Vec<_>>()
    };
    let now = "2026-11-07T00:00:00Z";
    let numbers = |points, changes| {
        let found = kept(points, at(now, changes));
        found.iter().map(|(n, _)| *n).collect::<Vec<_>>()
    };
    // Encrypted, then shrunk: the good one is the first.
    let words = ["db", "db?", "db", "db", "db?", "db"];
    assert_eq!(
        numbers(points(words), Changes::Suspicious),
        [7, 6, 5, 2, 1],
        "both alarms, and what was before each"
    );
    assert_eq!(numbers(points(words), Changes::Accepted), [7]);
    // A person may have meant the first of two that follow each other.
    let words = ["db", "db", "db?", "db?", "db", "db"];
    assert_eq!(numbers(points(words), Changes::Suspicious), [7, 5, 4, 2]);
    // Of what repairs left the newest is enough.
    let mut repaired = points(words);
    for candidate in &mut repaired[2..4] {
        candidate.is_repaired = true;
    }
    assert_eq!(numbers(repaired, Changes::Suspicious), [7, 5, 2]);
}

#[test]
fn the_last_point_before_a_source_was_emptied_stays_until_a_person_accepts() {
    let full: &[&str] = &["prod/secrets", "prod/namespaces", "host/db"];
    let empty: &[&str] = &["prod/namespaces", "host/db"];
    let points = || {
        let mut points = vec![
            candidate(1, "2026-11-01T00:00:00Z", full),
            candidate(2, "2026-11-02T00:00:00Z", full),
            candidate(4, "2026-11-03T00:00:00Z", empty),
            candidate(5, "2026-11-04T00:00:00Z", empty),
            candidate(6, "2026-11-05T00:00:00Z", empty),
        ];
        points[2].emptied.insert("prod".to_owned());
        points
    };
    let now = "2026-11-06T00:00:00Z";
    let found = kept(points(), at(now, Changes::Suspicious));
    let numbers: Vec<u8> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [6, 4, 2]);
    let prod = vec!["source prod".to_owned()];
    assert_eq!(found[1].1, [Reason::Suspicious(prod.clone())]);
    assert_eq!(found[2].1, [Reason::BeforeChange(prod)]);
    let found = kept(points(), at(now, Changes::Accepted));
    assert_eq!(found.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [6]);
}

#[test]
fn what_could_not_be_seen_of_a_source_is_still_wanted() {
    let whole: &[&str] = &["prod/secrets", "prod/configmaps", "prod/old"];
    let keep = Keep {
        last: 2,
        ..Keep::default()
    };
    // The newest account of the whole source is that of point 1, unless a later one could see all.
    let lines = |unseen: [bool; 4]| {
        let points = [whole, &["prod/secrets", "prod/configmaps"]]
            .into_iter()
            .chain([&["prod/configmaps", "prod/new"][..]; 2]);
        let candidates = (0..).zip(TIMES).zip(points).zip(unseen);
        let candidates = candidates.map(|(((n, time), items), is_unseen)| {
            let mut candidate = candidate(n, time, items);
            let unseen = is_unseen.then(|| "prod".to_owned());
            candidate.unseen.extend(unseen);
            candidate
        });
        check(candidates.collect(), &keep)
    };
    let newest = "3 last, newest good copy of prod/configmaps and 1 more";
    assert_eq!(
        lines([false, false, true, true]),
        [newest, "2 last", "1 newest good copy of prod/secrets", "0"]
    );
    assert_eq!(lines([false; 4]), [newest, "2 last", "1", "0"]);
    assert_eq!(
        lines([true; 4])[3],
        "0 newest good copy of prod/old",
        "nobody ever saw the whole"
    );
}

#[test]
fn points_of_the_future_push_no_real_one_out_and_are_named() {
    // K2: forged or of a wrong clock, so many and so far ahead.
    for forged in [1, 5, 49] {
        for year in [2027, 2038, 2262] {
            let mut points = vec![
                candidate(1, "2026-11-01T00:00:00Z", &["db"]),
                candidate(2, "2026-11-02T00:00:00Z", &["db"]),
            ];
            for number in 0..forged {
                let time = format!("{year}-01-01T00:00:{:02}Z", number % 60);
                points.push(candidate(100 + number, &time, &["db"]));
            }
            let found = kept(points, at("2026-11-03T00:00:00Z", Changes::Suspicious));
            let future = found.iter().filter(|(_, why)| *why == [Reason::Future]);
            assert_eq!(future.count(), usize::from(forged), "{found:?}");
            let (number, reasons) = found.last().unwrap();
            assert_eq!(*number, 2);
            assert!(reasons.contains(&Reason::Last));
        }
    }
    // Some minutes ahead are no future: clocks differ.
    let points = vec![candidate(1, "2026-11-03T00:04:00Z", &["db"])];
    let found = kept(points, at("2026-11-03T00:00:00Z", Changes::Suspicious));
    assert!(found[0].1.contains(&Reason::Last));
}

#[test]
fn what_a_repository_held_before_it_was_emptied_stays_until_a_person_accepts() {
    let points = || {
        vec![
            candidate(1, "2026-11-01T00:00:00Z", &["app", "db"]),
            candidate(2, "2026-11-02T00:00:00Z", &["app", "db"]),
            candidate(4, "2026-11-03T00:00:00Z", &["app_", "db"]),
            candidate(5, "2026-11-04T00:00:00Z", &["app_", "db"]),
        ]
    };
    let now = "2026-11-06T00:00:00Z";
    let numbers = |changes| -> Vec<u8> {
        let found = kept(points(), at(now, changes));
        found.iter().map(|(number, _)| *number).collect()
    };
    assert_eq!(numbers(Changes::Suspicious), [5, 4, 2]);
    assert_eq!(numbers(Changes::Accepted), [5]);
}

#[test]
fn what_is_left_out_as_empty_is_a_copy_of_nothing() {
    let record = |outcome: Outcome| {
        let item = Item::new(
            ItemKind::Image,
            "app",
            TreePath::root().child("images").child("hub").child("app"),
        );
        let record = ItemRecord {
            item,
            outcome,
            consistency: None,
            files: 3,
            bytes: 100,
        };
        let (_, holding) = Holding::of("hub", &record);
        (holding.saved, holding.has_data, holding.selected)
    };
    let skipped = |rule: &str| Outcome::Skipped {
        rule: rule.into(),
        why: String::new(),
    };
    assert_eq!(record(Outcome::Saved), (true, true, true));
    assert_eq!(record(skipped("excluded")), (false, true, false));
    assert_eq!(record(skipped("empty")), (true, false, true));
}
