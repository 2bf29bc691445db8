use super::*;

fn point(id: u8, snapshot: u8, time: &str, policy: &str) -> PointSummary {
    PointSummary {
        id: (id > 0).then(|| PointId::from_random([id; 16])),
        snapshot: SnapshotId([snapshot; 32]),
        time: time.parse::<jiff::Timestamp>().unwrap().into(),
        policy: (!policy.is_empty()).then(|| policy.to_owned()),
        host: "host".into(),
        paths: Vec::new(),
        tags: Vec::new(),
    }
}

#[test]
fn a_point_is_found_by_what_people_type() {
    let points = [
        point(0x1a, 0xaa, "2026-11-18T10:00:00Z", "hourly"),
        point(0x1b, 0xbb, "2026-11-19T10:00:00Z", "daily"),
        point(0x2c, 0xcc, "2026-11-20T10:00:00Z", "hourly"),
        point(0x2c, 0xdd, "2026-11-20T10:00:00Z", "hourly"),
        point(0, 0xee, "2026-11-17T10:00:00Z", ""),
    ];
    let check = |text: &str| match text.parse::<PointSelector>().unwrap().find(&points) {
        Ok(point) => point.snapshot.short(),
        Err(error) => error.to_string(),
    };
    for (text, expected) in [
        ("latest", "dddddddd"),
        ("latest@daily", "bbbbbbbb"),
        ("latest@weekly", "there is no recovery point latest@weekly"),
        ("1a", "aaaaaaaa"),
        ("2c2c", "dddddddd"),
        ("ee", "eeeeeeee"),
        ("bbbb", "bbbbbbbb"),
        ("ff", "there is no recovery point ff"),
        ("2026-11-19", "bbbbbbbb"),
        ("2026-11-19T09:59", "aaaaaaaa"),
        ("2026-11-20 10:00:00", "dddddddd"),
        ("2026-11-20T11:00:00+02:00", "bbbbbbbb"),
        (
            "2020-01-01",
            "there is no recovery point at or before 2020-01-01T23:59:59.999999999Z",
        ),
    ] {
        assert_eq!(check(text), expected, "{text}");
    }
    let ambiguous = PointSelector::Prefix("1".into()).find(&points).unwrap_err();
    assert_eq!(
        ambiguous.to_string(),
        "1 fits more than one recovery point: 1b1b1b1b, 1a1a1a1a"
    );
    assert!(matches!(
        PointSelector::Prefix("1a".into()).find(&[]),
        Err(SelectError::Empty)
    ));
}

#[test]
fn the_latest_point_is_of_the_past_if_there_is_one() {
    let points = [
        point(0x1a, 0xaa, "2026-11-18T10:00:00Z", "hourly"),
        point(0x1b, 0xbb, "2026-11-19T10:00:00Z", "daily"),
        point(0x2c, 0xcc, "2036-11-20T10:00:00Z", "hourly"),
        point(0x3d, 0xdd, "2037-11-20T10:00:00Z", "wrong"),
    ];
    let check = |text: &str, now: &str| {
        let now = now.parse::<jiff::Timestamp>().unwrap().into();
        let selector = text.parse::<PointSelector>().unwrap();
        let found = selector.find_at(&points, now).unwrap();
        let passed = found.passed_over.iter().map(|p| p.snapshot.short());
        let words: Vec<String> = [found.point.snapshot.short()]
            .into_iter()
            .chain(passed)
            .collect();
        words.join(" ")
    };
    for (text, now, expected) in [
        (
            "latest",
            "2026-11-19T10:00:00Z",
            "bbbbbbbb cccccccc dddddddd",
        ),
        ("latest@hourly", "2026-11-19T10:00:00Z", "aaaaaaaa cccccccc"),
        ("latest@daily", "2026-11-19T09:55:00Z", "bbbbbbbb"),
        // There is no other, and it is all there is.
        ("latest@daily", "2026-11-19T09:54:59Z", "bbbbbbbb"),
        ("latest@wrong", "2026-11-19T10:00:00Z", "dddddddd"),
        ("latest", "2040-01-01T00:00:00Z", "dddddddd"),
        // Whoever names one means it.
        ("2c", "2026-11-19T10:00:00Z", "cccccccc"),
    ] {
        assert_eq!(check(text, now), expected, "{text} {now}");
    }
    let wanted = PointSelector::Latest { policy: None };
    let now = "2026-11-19T10:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let found = wanted.find_at(&points, now.into()).unwrap();
    let told = found.finding().unwrap();
    assert_eq!(told.subject, "point 3d3d3d3d");
    assert!(
        told.message
            .starts_with("is of 2037-11-20T10:00:00Z, and this machine's clock says ")
    );
    let found = wanted.find_at(&points[..2], now.into()).unwrap();
    assert_eq!(found.finding(), None);
    let wanted = PointSelector::Latest {
        policy: Some("none".into()),
    };
    let now = refloat_model::time::Timestamp::EPOCH;
    assert!(matches!(
        wanted.find_at(&points, now),
        Err(SelectError::None { .. })
    ));
}

#[test]
fn what_a_time_leaves_out_means_its_end() {
    let at = |text: &str| match text.parse() {
        Ok(PointSelector::At(time)) => time.to_string(),
        other => panic!("{text}: {other:?}"),
    };
    for (text, end) in [
        ("2026-11-20", "2026-11-20T23:59:59.999999999Z"),
        ("2026-11-20 12:30", "2026-11-20T12:30:59.999999999Z"),
        ("2026-11-20 12:30:18", "2026-11-20T12:30:18.999999999Z"),
        ("2026-11-20T12:30:18Z", "2026-11-20T12:30:18.999999999Z"),
        (
            "2026-11-20T12:30:18+01:00",
            "2026-11-20T11:30:18.999999999Z",
        ),
        ("2026-11-20T12:30:18.5Z", "2026-11-20T12:30:18.5Z"),
        ("2026-11-20 12:30:18.000", "2026-11-20T12:30:18Z"),
    ] {
        assert_eq!(at(text), end, "{text}");
    }
}

#[test]
fn paths_are_told_from_times() {
    let check = |text: &str| {
        let locator: Locator = text.parse().unwrap();
        (locator.point.to_string(), locator.path.to_string())
    };
    for (text, point, path) in [
        ("latest", "latest", "/"),
        ("latest:", "latest", "/"),
        ("latest:/files/local/a:b", "latest", "/files/local/a:b"),
        (
            "2026-11-20T10:00:/etc",
            "at or before 2026-11-20T10:00:59.999999999Z",
            "/etc",
        ),
    ] {
        assert_eq!(check(text), (point.to_owned(), path.to_owned()), "{text}");
    }
    for text in ["", "yesterday", "latest@", "latest:/a/../b", "LATEST"] {
        assert!(text.parse::<Locator>().is_err(), "{text}");
    }
}
