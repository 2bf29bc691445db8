//! The brake: data that turned into noise is flagged, and the copy before it outlives every rule.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli_env::CliEnv;

/// Text as people write it: words, numbers, line breaks.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = [
        "invoice",
        "customer",
        "quantity",
        "delivered",
        "amount",
        "remark",
        "paid",
        "open",
    ];
    let mut random = refloat_testkit::random::Random::new(seed);
    let mut text = String::new();
    while text.len() < length {
        text.push_str(words[random.index(words.len())]);
        text.push_str(&format!(" {},\n", random.below(100_000)));
    }
    text.into_bytes()
}

/// What a program makes of bytes.
fn through(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// What ransom software makes of a file.
fn encrypted(bytes: &[u8]) -> Vec<u8> {
    let args = [
        "enc",
        "-aes-256-ctr",
        "-pbkdf2",
        "-pass",
        "pass:known to the thief",
    ];
    through("openssl", &args, bytes)
}

fn rewrite(folder: &Path, numbers: std::ops::Range<u64>, content: impl Fn(u64) -> Vec<u8>) {
    fs::create_dir_all(folder).unwrap();
    for number in numbers {
        fs::write(folder.join(format!("document-{number}")), content(number)).unwrap();
    }
}

fn back_up(env: &CliEnv) -> (i32, String) {
    let source = format!("files:{}", env.path("data").display());
    let args = ["backup", "--host", "testhost", "--source", &source];
    let output = env.command(&args).output().unwrap();
    (output.status.code().unwrap(), env.show(&output))
}

fn points(env: &CliEnv) -> usize {
    env.json(&["points"])["points"].as_array().unwrap().len()
}

#[test]
fn files_that_somebody_encrypted_are_flagged_and_the_copy_before_stays() {
    let env = CliEnv::with_repository();
    let documents = env.path("data/documents");
    rewrite(&documents, 0..40, |number| text(number, 9_000));
    // Pictures beside them never compressed.
    rewrite(&env.path("data/pictures"), 0..20, |number| {
        encrypted(&text(number, 30_000))
    });
    assert_eq!(back_up(&env).0, 0);
    let good = fs::read(documents.join("document-3")).unwrap();
    rewrite(&documents, 0..12, |number| encrypted(&text(number, 9_000)));
    let (code, shown) = back_up(&env);
    assert_eq!(code, 3, "{shown}");
    assert!(shown.contains("12 changed files"), "{shown}");
    let point = env.json(&["show", "latest"]);
    assert!(
        point.to_string().contains("cannot be any more"),
        "it is in the record: {point:#}"
    );
    // What is encrypted stays so: nothing new is suspicious, and the doubt stays.
    for _ in 0..3 {
        assert_eq!(back_up(&env).0, 0);
    }
    env.succeed(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(
        points(&env),
        3,
        "the newest, the flagged one and the one before it"
    );
    let listed = env.json(&["points"]);
    let oldest = listed["points"][0]["id"].as_str().unwrap();
    let stored = format!("{oldest}:/files/local{}", documents.display());
    env.succeed(&["restore", &stored, "--target", "out"]);
    assert_eq!(fs::read(env.path("out/document-3")).unwrap(), good);
    env.succeed(&["forget", "--keep-last", "1", "--accept-changes", "--yes"]);
    assert_eq!(points(&env), 1);
    assert_eq!(env.code(&["check", "--read-data"]), 0);
}

#[test]
fn one_large_file_that_somebody_encrypted_is_flagged() {
    let env = CliEnv::with_repository();
    rewrite(&env.path("data"), 0..1, |_| text(1, 3_000_000));
    rewrite(&env.path("data/other"), 0..5, |number| {
        text(number, 100_000)
    });
    assert_eq!(back_up(&env).0, 0);
    rewrite(&env.path("data"), 0..1, |_| encrypted(&text(1, 3_000_000)));
    let (code, shown) = back_up(&env);
    assert_eq!(code, 3, "{shown}");
    assert!(shown.contains("1 changed file"), "{shown}");
}

#[test]
fn what_never_compressed_and_everyday_changes_are_not_flagged() {
    let env = CliEnv::with_repository();
    let media =
        |salt: u64| move |number: u64| through("gzip", &["-c"], &text(number + salt, 60_000));
    rewrite(&env.path("data/media"), 0..40, media(0));
    rewrite(&env.path("data/documents"), 0..40, |number| {
        text(number, 9_000)
    });
    assert_eq!(back_up(&env).0, 0);
    // Other media under the same names, documents that were worked on, and new media.
    rewrite(&env.path("data/media"), 0..40, media(1_000));
    rewrite(&env.path("data/documents"), 0..30, |number| {
        text(number + 500, 9_500)
    });
    rewrite(&env.path("data/media"), 40..60, media(2_000));
    let (code, shown) = back_up(&env);
    assert_eq!(code, 0, "{shown}");
    // A few documents become archives: that is no half of what changed.
    rewrite(&env.path("data/documents"), 0..40, |number| match number {
        0..9 => encrypted(&text(number, 9_000)),
        _ => text(number + 700, 9_000),
    });
    let (code, shown) = back_up(&env);
    assert_eq!(code, 0, "{shown}");
}

/// A disk image holds both, and what a machine does with it changes little.
#[test]
fn noise_that_takes_the_place_of_noise_in_a_file_that_compresses_is_not_flagged() {
    let env = CliEnv::with_repository();
    let mut image = text(1, 6_000_000);
    image.extend(encrypted(&text(2, 6_000_000)));
    rewrite(&env.path("data"), 0..1, |_| image.clone());
    assert_eq!(back_up(&env).0, 0);
    let archive = encrypted(&text(3, 100_000));
    image[9_000_000..][..archive.len()].copy_from_slice(&archive);
    rewrite(&env.path("data"), 0..1, |_| image.clone());
    let (code, shown) = back_up(&env);
    assert_eq!(code, 0, "{shown}");
    // All of what compressed is encrypted now.
    let encrypted = encrypted(&image[..6_000_000]);
    image[..encrypted.len()].copy_from_slice(&encrypted);
    rewrite(&env.path("data"), 0..1, |_| image.clone());
    let (code, shown) = back_up(&env);
    assert_eq!(code, 3, "{shown}");
    assert!(shown.contains("1 changed file"), "{shown}");
}

/// What is encrypted is as long as what it was made from.
#[test]
fn a_little_noise_in_the_place_of_much_text_is_not_flagged() {
    let env = CliEnv::with_repository();
    rewrite(&env.path("data"), 0..3, |number| text(number, 3_000_000));
    assert_eq!(back_up(&env).0, 0);
    rewrite(&env.path("data"), 0..1, |_| encrypted(&text(1, 2_000)));
    let (code, shown) = back_up(&env);
    assert_eq!(code, 0, "{shown}");
}
