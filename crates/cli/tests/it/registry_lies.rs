//! Registries that lie, lose and refuse, through the binary: each case is named in the outcome, the
//! command ends with 3, and the good image beside it comes back byte for byte.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use refloat_testkit::registry::images::{Blob, INDEX, Image, image, index, noise};
use refloat_testkit::registry::misbehaving::{Answer, Asked, Fake, Good};
use serde_json::json;

use crate::cli_env::CliEnv;

type Answers = Box<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

/// One way to misbehave.
struct Case {
    name: &'static str,
    registry: Good,
    /// Instead of what the registry would answer.
    instead: Answers,
    /// What the report must say.
    says: Vec<String>,
}

fn good() -> Image {
    image("amd64", &[noise(1, 5000), noise(2, 5000)])
}

fn bad() -> Image {
    image("amd64", &[noise(1, 5000), noise(3, 5000)])
}

/// A registry with the tags `good` and `bad`.
fn registry(bad: &Blob) -> Good {
    let mut registry = Good::of("good", &good());
    registry.add(&self::bad());
    registry.tag("bad", bad);
    registry
}

fn case(name: &'static str, bad: &Blob, says: Vec<String>, instead: Answers) -> Case {
    Case {
        name,
        registry: registry(bad),
        instead,
        says,
    }
}

fn is(asked: &Asked, method: &str, path: &str) -> bool {
    asked.method == method && asked.path == path
}

fn manifest(bytes: &[u8], media_type: &str) -> Answer {
    Answer::new(200, bytes).with("content-type", media_type)
}

fn with_a_space(bytes: &[u8]) -> Vec<u8> {
    [bytes, b" "].concat()
}

fn about_manifests() -> Vec<Case> {
    let bad = bad();
    let list = index(&[("amd64", &bad)]);
    let (tag, child) = (
        "/v2/app/manifests/bad".to_owned(),
        format!("/v2/app/manifests/{}", bad.manifest.digest),
    );
    let (other, spoilt) = (bad.manifest.clone(), bad.manifest.clone());
    let lie = Blob::new(INDEX, "lie").digest;
    let claimed = lie.clone();
    let mut nested = bad.manifest.clone();
    let mut endless = registry(&nested);
    for _ in 0..20 {
        let text = json!({"schemaVersion": 2, "manifests": [nested.descriptor()]});
        nested = Blob::new(INDEX, text.to_string());
        endless.tag("bad", &nested);
    }
    vec![
        case(
            "bytes of a manifest that are not its digest",
            &list,
            vec![format!("and not {}", bad.manifest.digest)],
            Box::new(move |asked| {
                let bytes = with_a_space(&other.bytes);
                is(asked, "GET", &child).then(|| manifest(&bytes, &other.media_type))
            }),
        ),
        case(
            "a lying Docker-Content-Digest",
            &bad.manifest,
            vec![format!("the registry says that the content is {lie}")],
            Box::new({
                let tag = tag.clone();
                move |asked| {
                    let answer = manifest(&spoilt.bytes, &spoilt.media_type);
                    let lies = answer.with("docker-content-digest", &claimed);
                    is(asked, "GET", &tag).then_some(lies)
                }
            }),
        ),
        Case {
            name: "indexes without end",
            registry: endless,
            instead: Box::new(|_| None),
            says: vec!["the index has more than 8 levels".to_owned()],
        },
        case(
            "a web page instead of a manifest",
            &bad.manifest,
            vec!["answers with \"text/html\"".to_owned()],
            Box::new(move |asked| {
                is(asked, "GET", &tag).then(|| manifest(b"<html>sign in", "text/html"))
            }),
        ),
    ]
}

fn about_blobs() -> Vec<Case> {
    let bad = bad();
    let layer = bad.blobs[2].digest.clone();
    let url = format!("/v2/app/blobs/{layer}");
    let answers = |answer: Answer| -> Answers {
        let url = url.clone();
        Box::new(move |asked| is(asked, "GET", &url).then(|| answer.clone()))
    };
    let needed = "needed by bad".to_owned();
    let says = |text: &str| vec![text.to_owned(), needed.clone()];
    vec![
        case(
            "a missing blob",
            &bad.manifest,
            says("404"),
            answers(Answer::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#)),
        ),
        case(
            "bytes of a blob that are not its digest",
            &bad.manifest,
            says(&format!("and not {layer}")),
            answers(Answer::new(200, noise(9, 5000))),
        ),
        case(
            "a layer of the wrong size",
            &bad.manifest,
            says("the content has 4000 bytes and not 5000"),
            answers(Answer::new(200, noise(3, 4000))),
        ),
        case(
            "a web page instead of a blob",
            &bad.manifest,
            says("bytes and not 5000"),
            answers(manifest(b"<html>sign in", "text/html")),
        ),
        case(
            "429 with a wait that is too long",
            &bad.manifest,
            says("429"),
            answers(Answer::new(429, "").with("retry-after", "86400")),
        ),
        case(
            "500 without end",
            &bad.manifest,
            says("500"),
            answers(Answer::new(500, "<html>oops")),
        ),
    ]
}

fn assert_named_and_nothing_else_lost(case: Case) {
    let Case {
        name,
        registry,
        instead,
        says,
    } = case;
    let fake = Fake::start(move |asked, _| {
        let answer = instead(asked);
        answer.unwrap_or_else(|| registry.answer(asked))
    });
    let env = CliEnv::with_repository();
    let from = format!("registry:{}", fake.address::<String>());
    let report = env.run(&["backup", "--source", &from]);
    assert!(report.starts_with("exit code: 3\n"), "{name}: {report}");
    for text in says {
        assert!(report.contains(&text), "{name}: {text} in {report}");
    }
    let shown = env.succeed(&["show", "latest"]);
    assert!(shown.contains("INCOMPLETE"), "{name}: {shown}");
    assert_eq!(env.code(&["check", "--read-data"]), 0, "{name}");
    let restored = env.run(&["restore", "latest", "--to", "oci:out", "--only", "app:good"]);
    assert!(restored.starts_with("exit code: 0\n"), "{name}: {restored}");
    let good = good();
    for blob in good.blobs.iter().chain([&good.manifest]) {
        let file = env.path(&format!("out/app/blobs/sha256/{}", &blob.digest[7..]));
        assert!(fs::read(file).unwrap() == blob.bytes, "{name}");
    }
}

#[test]
fn each_lie_and_loss_is_named_and_nothing_else_is_affected() {
    std::thread::scope(|scope| {
        for case in about_manifests().into_iter().chain(about_blobs()) {
            scope.spawn(|| assert_named_and_nothing_else_lost(case));
        }
    });
}

#[test]
fn a_registry_that_is_overloaded_for_a_while_is_waited_for() {
    let registry = registry(&bad().manifest);
    let fake = Fake::start(move |asked, number| match number % 4 {
        0 => Answer::new(429, "").with("retry-after", "0"),
        2 => Answer::new(500, "<html>oops"),
        _ => registry.answer(asked),
    });
    let env = CliEnv::with_repository();
    let from = format!("registry:{}", fake.address::<String>());
    let report = env.json(&["backup", "--source", &from]);
    assert_eq!(report["points"][0]["complete"], true, "{report:#}");
}

/// A registry whose tokens are good for three requests each, and which gives so many of them.
fn with_tokens(registry: Good, tokens_max: usize) -> Fake {
    let (left, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let take = |count: &AtomicUsize| {
        let taken = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        taken.is_ok()
    };
    Fake::start(move |asked, _| {
        if asked.path.starts_with("/token") {
            if given.load(Ordering::SeqCst) == tokens_max {
                return Answer::new(403, "");
            }
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            left.store(3, Ordering::SeqCst);
            let text = json!({"token": format!("t{number}"), "expires_in": 300});
            return Answer::new(200, text.to_string());
        }
        let current = format!("Bearer t{}", given.load(Ordering::SeqCst));
        if asked.header("authorization") == current && take(&left) {
            return registry.answer(asked);
        }
        let realm = format!("http://{}/token", asked.header("host"));
        let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"");
        Answer::new(401, "").with("www-authenticate", challenge)
    })
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed_or_its_loss_is_named() {
    let attempt = |tokens_max| {
        let fake = with_tokens(registry(&bad().manifest), tokens_max);
        let env = CliEnv::with_repository();
        env.write(
            "refloat.yaml",
            &format!(
                "sources: {{hub: {{registry: {{url: \"{}\", requests-at-once: 1}}}}}}\n\
                 policies: {{all: {{select: [{{source: hub}}]}}}}\n",
                fake.address::<String>()
            ),
        );
        let report = env.run(&["backup"]);
        assert_eq!(env.code(&["check", "--read-data"]), 0);
        report
    };
    let renewed = attempt(usize::MAX);
    assert!(renewed.starts_with("exit code: 0\n"), "{renewed}");
    // Enough for discovery, and for the first blobs.
    let lost = attempt(4);
    assert!(lost.starts_with("exit code: 3\n"), "{lost}");
    assert!(lost.contains("credentials"), "{lost}");
}
