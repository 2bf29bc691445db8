//! How long copies take, beside `skopeo sync --all`. Figures, not a race: only requests that must
//! not be made are asserted.
//!
//! `REFLOAT_SPEED_TAGS=10 cargo test -p refloat-registry speed -- --nocapture` for the size that
//! the figures in the report have (20 repositories of 10 tags, 2 GB as skopeo counts).

use std::time::Instant;

use refloat_registry::RegistryOptions;

use crate::capture::source;
use crate::images::{Remote, image, noise};
use crate::memory::{back_up, content_bytes};
use crate::server::Server;
use crate::skopeo;

const REPOSITORIES: u64 = 20;

#[test]
fn first_and_unchanged_copies_beside_skopeo() {
    let Some(server) = Server::start() else {
        return;
    };
    let tags: u64 = std::env::var("REFLOAT_SPEED_TAGS").map_or(1, |tags| tags.parse().unwrap());
    let remote = Remote::new(&server.host());
    let mebi = if tags > 1 { 1 << 20 } else { 1 << 10 };
    let base: Vec<Vec<u8>> = (0..3).map(|layer| noise(layer, 2 * mebi)).collect();
    for repository in 0..REPOSITORIES {
        let own = noise(100 + repository, 3 * mebi);
        for tag in 0..tags {
            let top = noise(1000 + repository * 1000 + tag, mebi);
            let layers = [base.clone(), vec![own.clone(), top]].concat();
            remote.push(
                &format!("team/app{repository}"),
                &format!("v{tag}"),
                &image("amd64", &layers),
            );
        }
    }
    let began = Instant::now();
    let first = back_up(&source(&server, RegistryOptions::default()), None).unwrap();
    let first_seconds = began.elapsed().as_secs_f64();
    assert_eq!(first.failures(), "");
    let began = Instant::now();
    let second = back_up(
        &source(&server, RegistryOptions::default()),
        Some(&first.point),
    )
    .unwrap();
    let second_seconds = began.elapsed().as_secs_f64();
    assert_eq!(second.failures(), "");
    assert!(
        second
            .figures
            .values()
            .all(|figures| figures.streamed.is_empty())
    );
    println!("refloat: first {first_seconds:.2} s, unchanged {second_seconds:.2} s");
    println!("tree: {:?} bytes", content_bytes(&first.point.root));

    let copy = tempfile::tempdir().unwrap();
    let began = Instant::now();
    for repository in 0..REPOSITORIES {
        let from = format!("{}/team/app{repository}", server.host());
        let to = copy.path().to_str().unwrap();
        let arguments = [
            "sync",
            "--all",
            "--scoped",
            "--src-tls-verify=false",
            "--src",
            "docker",
        ];
        let arguments = [&arguments[..], &["--dest", "dir", &from, to]].concat();
        let Some(done) = skopeo(&arguments) else {
            return;
        };
        done.unwrap();
    }
    // A second time it refuses: it has no unchanged run to compare with.
    println!("skopeo: first {:.2} s", began.elapsed().as_secs_f64());
}
