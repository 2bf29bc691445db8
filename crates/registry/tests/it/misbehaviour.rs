//! Registries that break, lie or never end: refused or tried again within bounds, named, and
//! nothing else affected. All servers here are [`Fake`]s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_registry::{ConnectOptions, Digest, RegistryOptions, RegistrySource, RetryLimits};
use serde_json::json;

use crate::images::{Blob, INDEX, Image, image, index, noise};
use crate::memory::{Run, back_up, chain};
use crate::misbehaving::{Answer, Asked, Fake, Good};

pub fn options() -> RegistryOptions {
    RegistryOptions {
        connect: ConnectOptions {
            retry: RetryLimits {
                attempts_max: 3,
                first_pause_max: Duration::from_millis(1),
                pause_max: Duration::from_secs(2),
            },
            silence_max: Duration::from_secs(5),
            ..ConnectOptions::default()
        },
        ..RegistryOptions::default()
    }
}

pub fn source(fake: &Fake, options: RegistryOptions) -> RegistrySource {
    RegistrySource::connect("hub", &fake.address(), options).unwrap()
}

/// Captures from a good registry that `spoil` may answer instead of.
fn capture(
    good: Good,
    spoil: impl Fn(&Asked, usize) -> Option<Answer> + Send + Sync + 'static,
) -> (Run, Fake) {
    let fake = Fake::start(move |asked, number| {
        spoil(asked, number).unwrap_or_else(|| good.answer(asked))
    });
    (back_up(&source(&fake, options()), None).unwrap(), fake)
}

pub fn small() -> Image {
    image("amd64", &[noise(1, 40_000)])
}

/// Two tags, of which the first is spoilt: the second must come in any case.
fn pair() -> (Good, Image, Image) {
    let (bad, good) = (small(), image("arm64", &[noise(2, 40_000)]));
    let mut registry = Good::of("bad", &bad);
    registry.tag("good", &good.manifest);
    registry.add(&good);
    (registry, bad, good)
}

fn assert_has(run: &Run, image: &Image) {
    let streamed = &run.figures["app"].streamed;
    for blob in image.blobs.iter().chain([&image.manifest]) {
        assert!(
            streamed.contains(&blob.digest[7..].to_owned()),
            "{}",
            blob.digest
        );
    }
}

#[test]
fn content_that_is_not_its_digest_is_not_kept() {
    let (registry, bad, good) = pair();
    let layer = bad.blobs[1].digest.clone();
    let wanted = format!("/v2/app/blobs/{layer}");
    let (run, _) = capture(registry, move |asked, _| {
        (asked.path == wanted).then(|| Answer::new(200, noise(9, 40_000)))
    });
    let found = Digest::of(&noise(9, 40_000));
    assert_eq!(
        run.failures(),
        format!(
            "app/{}: the content is {found} and not {layer} (needed by bad)\n",
            &layer[7..]
        )
    );
    assert_has(&run, &good);
}

#[test]
fn blobs_of_another_length_are_refused_before_they_flow() {
    let (registry, bad, good) = pair();
    let layer = bad.blobs[1].digest.clone();
    let wanted = format!("/v2/app/blobs/{layer}");
    let (run, fake) = capture(registry, move |asked, _| {
        (asked.path == wanted).then(|| Answer::new(200, noise(1, 39_999)))
    });
    let why = "the content has 39999 bytes and not 40000 (needed by bad)";
    assert_eq!(run.failures(), format!("app/{}: {why}\n", &layer[7..]));
    assert_has(&run, &good);
    let asked = fake
        .lines()
        .iter()
        .filter(|line| line.ends_with(&layer))
        .count();
    assert_eq!(
        asked, 3,
        "it may have been cut on the way, but not for ever"
    );
}

#[test]
fn broken_downloads_are_taken_up_where_they_broke() {
    for with_ranges in [true, false] {
        let image = small();
        let layer = image.blobs[1].clone();
        let wanted = format!("/v2/app/blobs/{}", layer.digest);
        let (run, fake) = capture(Good::of("1", &image), move |asked, _| {
            if asked.path != wanted {
                return None;
            }
            let range = asked.header("range").to_owned();
            let start: usize = match range.strip_prefix("bytes=").filter(|_| with_ranges) {
                Some(range) => range.trim_end_matches('-').parse().unwrap(),
                None => 0,
            };
            let rest = &layer.bytes[start..];
            // Cut in the middle as long as nobody asks for a part.
            let sent = if range.is_empty() {
                &rest[..20_000]
            } else {
                rest
            };
            let status = if start > 0 { 206 } else { 200 };
            let answer = Answer::new(status, sent).declaring(rest.len());
            Some(match start {
                0 => answer,
                _ => answer.with("content-range", format!("bytes {start}-39999/40000")),
            })
        });
        assert_eq!(run.failures(), "", "ranges: {with_ranges}");
        assert_has(&run, &image);
        let ranges: Vec<String> = fake
            .asked()
            .iter()
            .filter(|asked| asked.path.contains("/blobs/"))
            .map(|asked| asked.header("range").to_owned())
            .filter(|range| !range.is_empty())
            .collect();
        assert_eq!(ranges, ["bytes=20000-"]);
    }
}

#[test]
fn downloads_that_never_end_well_are_given_up() {
    let (registry, bad, good) = pair();
    let layer = bad.blobs[1].digest.clone();
    let wanted = format!("/v2/app/blobs/{layer}");
    let (run, fake) = capture(registry, move |asked, _| {
        let cut = || Answer::new(200, noise(1, 20_000)).declaring(40_000);
        (asked.path == wanted).then(cut)
    });
    let text = run.failures();
    assert!(
        text.starts_with(&format!("app/{}: the connection to 127", &layer[7..])),
        "{text}"
    );
    assert_has(&run, &good);
    let asked = fake
        .lines()
        .iter()
        .filter(|line| line.ends_with(&layer))
        .count();
    assert_eq!(asked, 3);
}

#[test]
fn lies_about_manifests_are_refused() {
    let other = Digest::of(b"other").to_string();
    for (name, expected) in [
        (
            "header",
            format!("the registry says that the content is {other}, but it is X"),
        ),
        (
            "header-unknown",
            "digests of the algorithm \"sha512\" are not supported".to_owned(),
        ),
        (
            "html",
            "the registry answers with \"text/html\" where a manifest was asked for".into(),
        ),
        (
            "cut",
            "a manifest is not understood: EOF while parsing an object at line 1 column 1".into(),
        ),
        (
            "huge",
            "the manifest bad has more than 4194304 bytes".to_owned(),
        ),
        (
            "schema-1",
            "manifest Y is refused: schema 1 has no digest over its bytes; push the \
                      image again with a current client"
                .to_owned(),
        ),
    ] {
        let (registry, bad, good) = pair();
        let manifest = bad.manifest.clone();
        let old = Blob::new(
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
        );
        let (lie, old_digest) = (other.clone(), old.digest.clone());
        let (run, _) = capture(registry, move |asked, _| {
            if asked.path != "/v2/app/manifests/bad" || asked.method != "GET" {
                return None;
            }
            let answer =
                Answer::new(200, manifest.bytes.clone()).with("content-type", &manifest.media_type);
            Some(match name {
                "header" => answer.with("docker-content-digest", &lie),
                "header-unknown" => answer.with("docker-content-digest", "sha512:00"),
                "html" => Answer::new(200, "<html>").with("content-type", "text/html; charset=x"),
                "cut" => Answer::new(200, "{").with("content-type", &manifest.media_type),
                "huge" => Answer::new(200, vec![b' '; (4 << 20) + 1]),
                _ => Answer::new(200, old.bytes.clone())
                    .with("content-type", &old.media_type)
                    .with("docker-content-digest", &manifest.digest),
            })
        });
        let text = run
            .failures()
            .replace(&bad.manifest.digest, "X")
            .replace(&old_digest, "Y");
        assert!(
            text.starts_with(&format!("app/bad: {expected}")),
            "{name}: {text}"
        );
        assert_has(&run, &good);
    }
}

#[test]
fn manifests_of_an_index_that_are_not_their_digest_or_length_are_refused() {
    for exchange in ["bytes", "length"] {
        let image = small();
        let mut list = index(&[("amd64", &image)]);
        if exchange == "length" {
            let size = format!("\"size\":{}", image.manifest.bytes.len());
            let text = String::from_utf8(list.bytes)
                .unwrap()
                .replace(&size, "\"size\":7");
            list = Blob::new(INDEX, text);
        }
        let mut registry = Good::of("1", &image);
        registry.tag("1", &list);
        let (url, kept) = (
            format!("/v2/app/manifests/{}", image.manifest.digest),
            image.manifest.clone(),
        );
        let (run, _) = capture(registry, move |asked, _| {
            let spoilt = exchange == "bytes" && asked.path == url;
            spoilt.then(|| {
                let mut bytes = kept.bytes.clone();
                bytes.push(b' ');
                Answer::new(200, bytes).with("content-type", &kept.media_type)
            })
        });
        let digest = &image.manifest.digest;
        let expected = match exchange {
            "length" => {
                let found = image.manifest.bytes.len();
                format!("app/1: {digest}: the content has {found} bytes and not 7\n")
            }
            _ => {
                let mut bytes = image.manifest.bytes.clone();
                bytes.push(b' ');
                let found = Digest::of(&bytes);
                format!("app/1: {digest}: the content is {found} and not {digest}\n")
            }
        };
        assert_eq!(run.failures(), expected);
    }
}

#[test]
fn an_index_that_lies_about_the_parts_of_others_spoils_only_itself() {
    let image = small();
    let list = index(&[("amd64", &image)]);
    let text = |list: &Blob, from: String, to: &str| {
        let text = String::from_utf8(list.bytes.clone()).unwrap();
        assert!(text.contains(&from));
        Blob::new(&list.media_type, text.replace(&from, to))
    };
    let size = format!("\"size\":{}", image.manifest.bytes.len());
    let shorter = text(&list, size, "\"size\":7");
    let deeper = text(&image.manifest, "40000".to_owned(), "40001");
    let mut registry = Good::of("image", &image);
    registry.tag("a-shorter", &shorter);
    registry.tag("b-longer-layer", &deeper);
    registry.tag("good", &list);
    let (run, _) = capture(registry, |asked, _| {
        // The registry's word on a length, which HEAD asks for.
        let is_blob = asked.method == "HEAD" && asked.path.contains("/blobs/");
        is_blob.then(|| Answer::new(200, "").declaring(40_000))
    });
    let failures = run.failures();
    let mut lines: Vec<&str> = failures.lines().collect();
    lines.sort_unstable();
    let found = image.manifest.bytes.len();
    let (manifest, layer) = (&image.manifest.digest, &image.blobs[1].digest);
    assert_eq!(
        lines,
        [
            format!("app/a-shorter: {manifest}: the content has {found} bytes and not 7"),
            format!("app/b-longer-layer: {layer}: the content has 40000 bytes and not 40001"),
        ]
    );
    assert_has(&run, &image);
}

#[test]
fn a_tag_whose_head_lies_is_taken_for_what_it_is() {
    let image = small();
    let (run, _) = capture(Good::of("1", &image), |asked, _| {
        let lie = Digest::of(b"lie").to_string();
        (asked.method == "HEAD").then(|| Answer::new(200, "").with("docker-content-digest", lie))
    });
    assert_eq!(run.failures(), "");
    assert_has(&run, &image);
}

#[test]
fn indexes_without_end_are_refused() {
    let (mut registry, _, good) = pair();
    // Every index leads to one more; all digests are right.
    let mut inner = small().manifest;
    for _ in 0..64 {
        let text = json!({"schemaVersion": 2, "manifests": [inner.descriptor()]});
        inner = Blob::new(INDEX, text.to_string());
        registry
            .manifests
            .insert(inner.digest.clone(), inner.clone());
    }
    registry.tag("bad", &inner);
    let (run, fake) = capture(registry, |_, _| None);
    let text = run.failures();
    assert!(text.starts_with("app/bad: sha256:"), "{text}");
    assert!(
        text.ends_with("the index has more than 8 levels\n"),
        "{text}"
    );
    assert_has(&run, &good);
    assert!(fake.asked().len() < 30);
}

#[test]
fn lists_without_end_are_refused() {
    let fake = Fake::start(|asked, number| match asked.path.as_str() {
        "/v2/" => Answer::new(200, "{}"),
        _ => Answer::new(200, r#"{"repositories":[]}"#).with(
            "link",
            format!("</v2/_catalog?n=1&last={number}>; rel=\"next\""),
        ),
    });
    let error = back_up(&source(&fake, options()), None)
        .map(|_| ())
        .unwrap_err();
    assert!(
        chain(&error).contains("more than 1000000 entries"),
        "{}",
        chain(&error)
    );
    assert!(fake.asked().len() < 5);
}

#[test]
fn overload_is_waited_for_as_long_as_the_registry_says_and_not_for_ever() {
    let image = small();
    let began = Instant::now();
    let (run, fake) = capture(Good::of("1", &image), |asked, number| match number {
        // Every third request fails, each time in another way.
        n if n % 3 == 2 && asked.path != "/v2/" => Some(match n % 4 {
            0 => Answer::new(500, "<html>"),
            1 => Answer::new(503, ""),
            _ => Answer::new(429, "").with("retry-after", "1"),
        }),
        _ => None,
    });
    assert_eq!(run.failures(), "");
    assert_has(&run, &image);
    assert!(fake.asked().len() > 7);
    assert!(began.elapsed() >= Duration::from_secs(1));

    let fake = Fake::start(|_, _| Answer::new(429, "").with("retry-after", "86400"));
    let error = back_up(&source(&fake, options()), None)
        .map(|_| ())
        .unwrap_err();
    assert!(chain(&error).contains("429 (busy or limiting requests)"));
    assert_eq!(
        fake.asked().len(),
        1,
        "told to come back tomorrow, nobody asks again today"
    );
}

#[test]
fn a_web_page_is_no_registry() {
    let page = |_: &Asked, _| Answer::new(200, "<html>").with("content-type", "text/html");
    let fake = Fake::start(page);
    let error = back_up(&source(&fake, options()), None)
        .map(|_| ())
        .unwrap_err();
    assert!(
        chain(&error).ends_with("is no registry"),
        "{}",
        chain(&error)
    );
}

#[test]
fn an_unchanged_repository_is_asked_only_for_tags_and_heads() {
    let (registry, ..) = pair();
    let registry = Arc::new(registry);
    let fake = Fake::start(move |asked, _| registry.answer(asked));
    let first = back_up(&source(&fake, options()), None).unwrap();
    let before = fake.asked().len();
    let second = back_up(&source(&fake, options()), Some(&first.point)).unwrap();
    assert_eq!(second.failures(), "");
    let mut lines: Vec<String> = fake.asked()[before..]
        .iter()
        .map(|asked| format!("{} {}", asked.method, asked.path))
        .filter(|line| !line.contains("/referrers/"))
        .collect();
    lines.sort();
    let expected = [
        "GET /v2/",
        "GET /v2/_catalog?n=1000",
        "GET /v2/app/tags/list?n=1000",
        "HEAD /v2/app/manifests/bad",
        "HEAD /v2/app/manifests/good",
    ];
    assert_eq!(lines, expected);
}
