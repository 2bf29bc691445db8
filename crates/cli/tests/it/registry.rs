//! A registry through the binary: captured, lost, restored, judged by `skopeo` and by a plain
//! client.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use refloat_testkit::registry::estate::Estate;
use refloat_testkit::registry::images::{Image, Remote, image, noise};
use refloat_testkit::registry::misbehaving::{Answer, Fake, Good};
use refloat_testkit::registry::server::{Server, Setup};
use refloat_testkit::registry::skopeo;

use crate::cli_env::CliEnv;

/// `ann` with the password `hunter2`, bcrypt.
const HTPASSWD: &str = "ann:$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n";

fn address(server: &Server) -> String {
    format!("registry:{}", server.address::<String>())
}

/// Fails unless the command ended with this code; gives all that is visible of it.
fn ends(env: &CliEnv, code: i32, args: &[&str]) -> String {
    let text = env.run(args);
    assert!(
        text.starts_with(&format!("exit code: {code}\n")),
        "{args:?}: {text}"
    );
    text
}

#[test]
fn a_wiped_registry_comes_back_and_others_read_it_by_digest() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&old.host()));
    let env = CliEnv::with_repository();
    let from = address(&old);
    let shown = ends(&env, 0, &["discover", "--source", &from]);
    for name in ["legacy", "team/app", "tools"] {
        assert!(shown.contains(name), "{shown}");
    }
    ends(&env, 0, &["backup", "--source", &from]);
    let again = env.json(&["backup", "--source", &from]);
    assert_eq!(again["points"][0]["complete"], true, "{again:#}");
    assert_eq!(again["points"][0]["figures"]["files_new"], 0, "{again:#}");
    assert!(ends(&env, 0, &["show", "latest"]).contains("team/app"));
    drop(old);

    let to = address(&new);
    let remote = Remote::new(&new.host());
    let planned = ends(&env, 0, &["restore", "latest", "--to", &to, "--dry-run"]);
    assert!(planned.contains("create  image  team/app:1.0"), "{planned}");
    assert_eq!(
        remote.manifest("team/app", "1.0"),
        None,
        "a dry run changes nothing"
    );
    ends(&env, 0, &["restore", "latest", "--to", &to]);
    estate.assert_in(&remote);
    let repeated = ends(&env, 0, &["restore", "latest", "--to", &to]);
    assert!(
        !repeated.contains("create") && repeated.contains("reuse"),
        "{repeated}"
    );

    let list = &estate.manifests[2].2.digest;
    let by_digest = format!("docker://{}/team/app@{list}", new.host());
    let inspect = ["inspect", "--tls-verify=false", "--raw", &by_digest];
    if let Some(raw) = skopeo(&inspect) {
        assert_eq!(raw.unwrap().as_bytes(), estate.manifests[2].2.bytes);
        let copy = format!("dir:{}", env.path("copied").display());
        let copied = skopeo(&["copy", "--all", "--src-tls-verify=false", &by_digest, &copy]);
        copied.unwrap().unwrap();
        let copied = fs::read(env.path("copied/manifest.json")).unwrap();
        assert_eq!(copied, estate.manifests[2].2.bytes);
    }
}

#[test]
fn images_go_where_the_flags_say_and_differences_are_never_overwritten_unasked() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&old.host()));
    let env = CliEnv::with_repository();
    ends(&env, 0, &["backup", "--source", &address(&old)]);
    let remote = Remote::new(&new.host());
    let other = image("amd64", &[noise(99, 1000)]);
    remote.push("tools", "v1", &other);

    let to = address(&new);
    let restore = |code, more: &[&str]| {
        ends(
            &env,
            code,
            &[&["restore", "latest", "--to", &to], more].concat(),
        )
    };
    let refused = restore(1, &[]);
    assert!(
        refused.contains("conflict") && refused.contains("hint:"),
        "{refused}"
    );
    assert_eq!(
        remote.manifest("legacy", "docker"),
        None,
        "nothing was begun"
    );
    restore(0, &["--only", "tools", "--on-conflict", "rename"]);
    assert!(remote.manifest("tools", "v1-restored").is_some());
    restore(
        0,
        &[
            "--only",
            "legacy",
            "--only",
            "image:team/app:1.0",
            "--as",
            "repository:team/=shop/",
        ],
    );
    let (_, _, list) = &estate.manifests[2];
    let restored = remote.manifest("shop/app", "1.0").map(|(_, bytes)| bytes);
    assert_eq!(restored.as_ref(), Some(&list.bytes));
    let signature = format!("{}.sig", list.digest.replace(':', "-"));
    assert!(
        remote.manifest("shop/app", &signature).is_some(),
        "a signature comes along"
    );
    assert_eq!(
        remote.manifest("shop/app", "latest"),
        None,
        "it was not asked for"
    );
    let kept = remote.manifest("tools", "v1").map(|(_, bytes)| bytes);
    assert_eq!(kept, Some(other.manifest.bytes.clone()));
    restore(0, &["--on-conflict", "replace", "--yes"]);
    estate.assert_in(&remote);

    let unknown = restore(1, &["--only", "image:team/app:7"]);
    assert!(unknown.contains("team/app"), "{unknown}");
}

#[test]
fn a_registry_that_takes_nothing_is_named_and_one_that_never_deletes_is_enough() {
    let setup = |storage| Setup {
        storage,
        ..Setup::default()
    };
    let read_only = Server::start_with(&setup("  maintenance: {readonly: {enabled: true}}\n"));
    let no_deletion = Server::start_with(&setup("  delete: {enabled: false}\n"));
    let (Some(old), Some(read_only), Some(no_deletion)) = (Server::start(), read_only, no_deletion)
    else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&old.host()));
    let env = CliEnv::with_repository();
    ends(&env, 0, &["backup", "--source", &address(&old)]);
    let refused = ends(
        &env,
        3,
        &["restore", "latest", "--to", &address(&read_only)],
    );
    assert!(refused.contains("may be read-only"), "{refused}");
    ends(
        &env,
        0,
        &["restore", "latest", "--to", &address(&no_deletion)],
    );
    estate.assert_in(&Remote::new(&no_deletion.host()));
}

#[test]
fn a_folder_of_layouts_is_what_skopeo_reads() {
    let Some(old) = Server::start() else {
        return;
    };
    let estate = Estate::fill(&Remote::new(&old.host()));
    let env = CliEnv::with_repository();
    ends(&env, 0, &["backup", "--source", &address(&old)]);
    drop(old);
    ends(&env, 0, &["restore", "latest", "--to", "oci:images"]);
    let layout = format!("oci:{}:1.0", env.path("images/team%2Fapp").display());
    let Some(raw) = skopeo(&["inspect", "--raw", &layout]) else {
        return;
    };
    assert_eq!(raw.unwrap().as_bytes(), estate.manifests[2].2.bytes);
    let copy = format!("dir:{}", env.path("copied").display());
    skopeo(&["copy", "--all", &layout, &copy]).unwrap().unwrap();
    let repeated = ends(&env, 0, &["restore", "latest", "--to", "oci:images"]);
    assert!(!repeated.contains("create"), "{repeated}");
}

#[test]
fn passwords_come_from_where_the_configuration_says_and_never_show() {
    let env = CliEnv::with_repository();
    env.write("htpasswd", HTPASSWD);
    let file = env.path("htpasswd").display().to_string();
    let extra = format!("auth:\n  htpasswd: {{realm: test, path: {file}}}\n");
    let setup = Setup {
        extra: &extra,
        tls: None,
        ..Setup::default()
    };
    let Some(server) = Server::start_with(&setup) else {
        return;
    };
    env.write("password", "hunter2\n");
    let config = format!(
        r#"{{"auths":{{"{}":{{"auth":"YW5uOmh1bnRlcjI="}}}}}}"#,
        server.host()
    );
    env.write("docker.json", &config);
    let helper = r#"echo '{"Username":"ann","Secret":"hunter2"}'"#;
    env.write(
        "bin/docker-credential-test",
        &format!("#!/bin/sh\n{helper}\n"),
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(env.path("bin/docker-credential-test"), mode).unwrap();
    for (auth, code) in [
        ("none", 1),
        ("{basic: {user: ann, password: {file: password}}}", 0),
        ("{basic: {user: ann, password: {env: SECRET}}}", 0),
        ("{basic: {user: ann, password: {command: cat password}}}", 0),
        ("{basic: {user: bob, password: {file: password}}}", 1),
        ("{docker-config: docker.json}", 0),
        ("{helper: test}", 0),
    ] {
        let url = server.address::<String>();
        let source = format!("sources: {{hub: {{registry: {{url: \"{url}\", auth: {auth}}}}}}}\n");
        env.write("refloat.yaml", &source);
        let path = format!("{}:/usr/bin:/bin", env.path("bin").display());
        let mut command = env.command(&["-v", "discover"]);
        command.env("SECRET", "hunter2").env("PATH", path);
        let shown = env.show(&command.output().unwrap());
        assert!(
            shown.starts_with(&format!("exit code: {code}\n")),
            "{auth}: {shown}"
        );
        assert!(!shown.contains("hunter2"), "{auth}: {shown}");
        assert!(code == 0 || shown.contains("hint: "), "{auth}: {shown}");
    }
}

#[test]
fn a_configuration_chooses_repositories_tags_and_the_registrys_own_file() {
    let env = CliEnv::with_repository();
    let Some(old) = Server::start() else {
        return;
    };
    Estate::fill(&Remote::new(&old.host()));
    let config = format!(
        "sources:\n  hub:\n    registry:\n      url: {}\n      repositories: [team/*, tools]\n      \
         tags: [\"1.*\", v1]\n      config-file: {}\npolicies:\n  images: {{select: [{{source: hub}}]}}\n",
        old.address::<String>(),
        old.config().display()
    );
    env.write("refloat.yaml", &config);
    let report = env.json(&["backup"]);
    assert_eq!(report["points"][0]["complete"], true, "{report:#}");
    let index = env.succeed(&["cat", "latest:/images/hub/team%2Fapp/index.json"]);
    assert!(
        index.contains("\"1.0\"") && !index.contains("\"latest\""),
        "{index}"
    );
    let shown = ends(&env, 0, &["show", "latest"]);
    assert!(shown.contains("not-selected"), "{shown}");
    let own = env.succeed(&["cat", "--reveal", "latest:/images/hub/_registry-config"]);
    assert_eq!(own, fs::read_to_string(old.config()).unwrap());
    let hidden = env.succeed(&["cat", "latest:/images/hub/_registry-config"]);
    assert_ne!(hidden, own, "a registry's configuration may hold passwords");
}

#[test]
fn an_unchanged_registry_is_asked_for_heads_only() {
    let good = Good::of("1", &image("amd64", &[noise(1, 5000)]));
    let fake = Fake::start(move |asked, _| good.answer(asked));
    let env = CliEnv::with_repository();
    let from = format!("registry:{}", fake.address::<String>());
    ends(&env, 0, &["backup", "--source", &from]);
    let before = fake.asked().len();
    ends(&env, 0, &["backup", "--source", &from]);
    let asked: Vec<String> = fake.asked()[before..]
        .iter()
        .map(|asked| format!("{} {}", asked.method, asked.path.split('?').next().unwrap()))
        .collect();
    let (probes, asked): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .partition(|line| line.contains("/referrers/"));
    assert_eq!(
        probes.len(),
        1,
        "whether there is the API is asked once a run: {probes:?}"
    );
    assert_eq!(
        asked,
        [
            "GET /v2/",
            "GET /v2/_catalog",
            "GET /v2/app/tags/list",
            "HEAD /v2/app/manifests/1"
        ]
    );
}

#[test]
fn a_blob_is_downloaded_once_for_all_repositories_and_runs() {
    let good = Good::of("1", &image("amd64", &[noise(1, 3_000_000), noise(2, 100)]));
    let count = Arc::new(AtomicUsize::new(4));
    let repositories = Arc::clone(&count);
    let fake = Fake::start(move |asked, _| {
        let names: Vec<String> = (0..repositories.load(Ordering::SeqCst))
            .map(|number| format!("app{number}"))
            .collect();
        if asked.path.starts_with("/v2/_catalog") {
            return Answer::new(200, serde_json::json!({"repositories": names}).to_string());
        }
        let mut same = asked.clone();
        for name in names {
            same.path = same.path.replace(&format!("/{name}/"), "/app/");
        }
        good.answer(&same)
    });
    let env = CliEnv::with_repository();
    let from = format!("registry:{}", fake.address::<String>());
    let downloads = || {
        let lines = fake.lines();
        lines
            .iter()
            .filter(|line| line.starts_with("GET") && line.contains("/blobs/"))
            .count()
    };
    ends(&env, 0, &["backup", "--source", &from]);
    assert_eq!(
        downloads(),
        3,
        "configuration and two layers: {:?}",
        fake.lines()
    );
    count.store(5, Ordering::SeqCst);
    ends(&env, 0, &["backup", "--source", &from]);
    assert_eq!(
        downloads(),
        3,
        "the repository has what the new one needs: {:?}",
        fake.lines()
    );
    ends(&env, 0, &["check", "--read-data"]);
    ends(&env, 0, &["restore", "latest", "--to", "oci:out"]);
    let blobs = |name: &str| fs::read_dir(env.path(name)).unwrap().count();
    assert_eq!(blobs("out/app0/blobs/sha256"), 4);
    assert_eq!(blobs("out/app4/blobs/sha256"), 4);
}

/// A registry with two tags, of which one is spoilt.
fn spoilt(spoil: impl Fn(&Image, &mut Good)) -> Good {
    let bad = image("amd64", &[noise(2, 5000)]);
    let mut good = Good::of("good", &image("amd64", &[noise(1, 5000)]));
    good.tag("bad", &bad.manifest);
    good.add(&bad);
    spoil(&bad, &mut good);
    good
}

#[test]
fn what_is_not_what_it_says_is_named_and_nothing_else_is_lost() {
    let layer = |bad: &Image| bad.blobs[1].digest.clone();
    type Spoil<'a> = (&'a str, Box<dyn Fn(&Image, &mut Good)>);
    let cases: [Spoil<'_>; 3] = [
        (
            "sha256",
            Box::new(move |bad, good| {
                good.blobs.insert(layer(bad), noise(3, 5000));
            }),
        ),
        (
            "length",
            Box::new(move |bad, good| {
                good.blobs.insert(layer(bad), noise(2, 4000));
            }),
        ),
        (
            "404",
            Box::new(move |bad, good| {
                good.blobs.remove(&layer(bad));
            }),
        ),
    ];
    for (_, spoil) in cases {
        let good = spoilt(spoil);
        let fake = Fake::start(move |asked, _| good.answer(asked));
        let env = CliEnv::with_repository();
        let from = format!("registry:{}", fake.address::<String>());
        let report = ends(&env, 3, &["backup", "--source", &from]);
        assert!(report.contains("needed by bad"), "{report}");
        let partial = ends(&env, 0, &["show", "latest"]);
        assert!(
            partial.contains("INCOMPLETE") && partial.contains("partial"),
            "{partial}"
        );
        let restored = ends(&env, 3, &["restore", "latest", "--to", "oci:out"]);
        assert!(restored.contains("app:good"), "{restored}");
        let index = fs::read_to_string(env.path("out/app/index.json")).unwrap();
        assert!(
            index.contains("\"good\"") && !index.contains("\"bad\""),
            "{index}"
        );
    }
}

/// Of a tag that could not be resolved no point holds anything: only its report tells.
#[test]
fn what_a_point_lacks_is_told_by_the_restore_into_a_registry_too() {
    let Some(new) = Server::start() else { return };
    let good = spoilt(|_, _| ());
    let fake = Fake::start(
        move |asked, _| match asked.path.ends_with("/manifests/bad") {
            true => Answer::new(500, ""),
            false => good.answer(asked),
        },
    );
    let env = CliEnv::with_repository();
    let from = format!("registry:{}", fake.address::<String>());
    ends(&env, 3, &["backup", "--source", &from]);
    for to in [address(&new), "oci:out".to_owned()] {
        let restored = ends(&env, 3, &["restore", "latest", "--to", &to]);
        assert!(
            restored.contains("image app: is in this point in part only"),
            "{restored}"
        );
        assert!(!restored.contains("restore complete"), "{restored}");
    }
}

#[test]
fn refusals_are_clear_and_nothing_hangs() {
    let env = CliEnv::with_repository();
    let html = Fake::start(|_, _| Answer::new(200, "<html>").with("content-type", "text/html"));
    let from = format!("registry:{}", html.address::<String>());
    let refused = ends(&env, 1, &["backup", "--source", &from]);
    assert!(refused.contains("hint:"), "{refused}");
    let none = ends(
        &env,
        1,
        &["backup", "--source", "registry:http://127.0.0.1:1"],
    );
    assert!(none.contains("check the address"), "{none}");
    let far = ends(
        &env,
        1,
        &["discover", "--source", "registry:http://registry.invalid"],
    );
    assert!(far.contains("plain"), "{far}");
    for args in [
        &["backup", "--source", "registry:"] as &[&str],
        &["backup", "--source", "registry:https://ann:hunter2@host"],
        &["restore", "latest", "--to", "oci:"],
        &["restore", "latest", "--to", "nowhere"],
        &[
            "backup",
            "--source",
            "registry:https://h",
            "--registry-user",
            "a",
            "--registry-token-command",
            "b",
        ],
    ] {
        let shown = ends(&env, 2, args);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
