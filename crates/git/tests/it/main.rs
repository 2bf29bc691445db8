//! Exports into real Git repositories.
#![expect(clippy::unwrap_used, reason = "tests: a panic is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use refloat_git::{
    Branch, Commit, FastImport, GitError, GitPath, GitRepository, Ownership, Recipients,
};
use refloat_model::secret::Secret;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn main_branch() -> Branch {
    Branch::new("main").unwrap()
}

fn own(folder: &Path) -> GitRepository {
    GitRepository::own(folder, &main_branch(), "repo-1", Ownership::Ours).unwrap()
}

fn path(path: &str) -> GitPath {
    GitPath::new(path).unwrap()
}

/// A commit on top of what is there.
fn begin<'a>(repository: &'a GitRepository, time_seconds: i64) -> FastImport<'a> {
    let head = repository.head(Some(&main_branch())).unwrap();
    let commit = Commit {
        message: "a point\n\nRefloat-Point: 1",
        time_seconds,
        parent: head.as_deref(),
    };
    FastImport::begin(repository, &main_branch(), &commit).unwrap()
}

fn export(repository: &GitRepository, time_seconds: i64, files: &[(&str, Option<&str>)]) {
    let mut import = begin(repository, time_seconds);
    for (name, content) in files {
        match content {
            Some(text) => import.file(&path(name), text.as_bytes()).unwrap(),
            None => import.remove(&path(name)).unwrap(),
        }
    }
    import.finish().unwrap();
}

#[test]
fn commits_follow_each_other_and_are_the_same_everywhere() {
    let root = tempfile::tempdir().unwrap();
    let odd = "prod/rbac/\"quoted\" \\ back/naïve.yaml";
    let heads: Vec<_> = ["a", "b"]
        .map(|name| {
            let repository = own(&root.path().join(name));
            export(
                &repository,
                1000,
                &[("prod/a.yaml", Some("1\n")), (odd, Some("x"))],
            );
            export(
                &repository,
                2000,
                &[("prod/a.yaml", Some("2\n")), ("prod/b.yaml", Some(""))],
            );
            export(&repository, 3000, &[("prod/rbac", None)]);
            repository.head(Some(&main_branch())).unwrap().unwrap()
        })
        .into();
    assert_eq!(heads[0], heads[1]);
    let folder = root.path().join("a");
    git(&folder, &["fsck", "--strict"]);
    assert_eq!(git(&folder, &["show", "main:prod/a.yaml"]), "2\n");
    assert_eq!(git(&folder, &["show", &format!("main~1:{odd}")]), "x");
    let listed = git(&folder, &["ls-tree", "-r", "--name-only", "main"]);
    assert_eq!(listed, "prod/a.yaml\nprod/b.yaml\n");
    let author = git(&folder, &["log", "-1", "--format=%an %at %ct"]);
    assert_eq!(author, "Refloat 3000 3000\n");
    let log = own(&folder).log(&main_branch()).unwrap();
    assert_eq!(log.len(), 3);
    assert_eq!(
        (log[0].time_seconds, log[0].commit.as_str()),
        (3000, heads[0].as_str())
    );
    assert!(log[0].message.contains("Refloat-Point: 1"));
    let repository = GitRepository::open(&folder).unwrap();
    let files = repository.files("HEAD").unwrap();
    let mut reader = repository.reader().unwrap();
    let read: Vec<_> = files
        .iter()
        .map(|(path, object)| (path.as_str(), reader.read(object).unwrap()))
        .collect();
    assert_eq!(
        read,
        [
            ("prod/a.yaml", b"2\n".to_vec()),
            ("prod/b.yaml", Vec::new())
        ]
    );
}

#[test]
fn an_export_that_fails_moves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let repository = own(&root.path().join("a"));
    export(&repository, 1000, &[("a", Some("1"))]);
    let before = repository.head(Some(&main_branch())).unwrap();
    let mut import = begin(&repository, 2000);
    import.file(&path("b"), &[b'x'; 1 << 20]).unwrap();
    drop(import);
    assert_eq!(repository.head(Some(&main_branch())).unwrap(), before);
    let left: Vec<_> = fs::read_dir(root.path().join("a"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("crash"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    git(&root.path().join("a"), &["fsck", "--strict"]);
}

#[test]
fn a_branch_that_somebody_moved_meanwhile_is_left_where_they_put_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a");
    let repository = own(&folder);
    export(&repository, 1000, &[("a", Some("1"))]);
    let mut import = begin(&repository, 2000);
    import.file(&path("b"), b"2").unwrap();
    let tree = git(&folder, &["rev-parse", "main^{tree}"]);
    let arguments = ["commit-tree", "-p", "main", "-m", "theirs", tree.trim()];
    let theirs = git(&folder, &arguments);
    git(&folder, &["update-ref", "refs/heads/main", theirs.trim()]);
    assert!(matches!(import.finish(), Err(GitError::Moved(_))));
    let head = repository.head(Some(&main_branch())).unwrap().unwrap();
    assert_eq!(head, theirs.trim());
    // On top of theirs it goes on, and theirs stays.
    export(&repository, 3000, &[("b", Some("2"))]);
    let log = repository.log(&main_branch()).unwrap();
    let committers: Vec<_> = log.iter().map(|entry| entry.committer.as_str()).collect();
    assert_eq!(
        committers,
        ["refloat@localhost", "t@t", "refloat@localhost"]
    );
}

#[test]
fn no_message_of_others_makes_the_log_unreadable() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a");
    let repository = own(&folder);
    export(&repository, 1000, &[("a", Some("1"))]);
    let tree = git(&folder, &["rev-parse", "main^{tree}"]);
    let message = "theirs\u{1f}\u{1e}\u{1}\n\nRefloat-Point: x\u{1e}";
    let arguments = ["commit-tree", "-p", "main", "-m", message, tree.trim()];
    let theirs = git(&folder, &arguments);
    git(&folder, &["update-ref", "refs/heads/main", theirs.trim()]);
    let log = repository.log(&main_branch()).unwrap();
    assert_eq!(log.len(), 2);
    assert_eq!(log[0].message, message);
    assert_eq!(log[0].commit, theirs.trim());
}

#[test]
fn many_exports_leave_few_packs() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a");
    let repository = own(&folder);
    for round in 0..30 {
        let files: Vec<(String, String)> = (0..120)
            .map(|n| (format!("prod/{n}.yaml"), format!("{round} {n}")))
            .collect();
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), Some(text.as_str())))
            .collect();
        export(&repository, round, &files);
        repository.tidy().unwrap();
    }
    let packs = fs::read_dir(folder.join("objects/pack")).unwrap();
    let packs = packs
        .filter(|e| {
            let name = e.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".pack")
        })
        .count();
    assert!((1..=21).contains(&packs), "{packs}");
    git(&folder, &["fsck", "--strict"]);
    assert_eq!(git(&folder, &["show", "main~29:prod/7.yaml"]), "0 7");
}

#[test]
fn what_is_not_ours_is_not_touched_unless_asked() {
    let root = tempfile::tempdir().unwrap();
    let refused = |folder: &Path, ownership| {
        let error = GitRepository::own(folder, &main_branch(), "repo-1", ownership).unwrap_err();
        assert!(matches!(error, GitError::NotOurs { .. }), "{error:?}");
    };
    let files = root.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("x"), "mine").unwrap();
    refused(&files, Ownership::Ours);
    refused(&files, Ownership::Adopt);
    let theirs = root.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    git(&theirs, &["init", "--bare", "--initial-branch=main"]);
    refused(&theirs, Ownership::Ours);
    GitRepository::own(&theirs, &main_branch(), "repo-1", Ownership::Adopt).unwrap();
    own(&theirs);
    let another = GitRepository::own(&theirs, &main_branch(), "repo-2", Ownership::Ours);
    assert!(matches!(another, Err(GitError::NotOurs { .. })));
    // A branch that lies in a work tree would look changed by hand.
    let work = root.path().join("work");
    fs::create_dir(&work).unwrap();
    git(&work, &["init", "--initial-branch=main"]);
    refused(&work, Ownership::Adopt);
    let beside = Branch::new("export").unwrap();
    GitRepository::own(&work, &beside, "repo-1", Ownership::Adopt).unwrap();
}

#[test]
fn hooks_and_settings_of_a_repository_run_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("trap");
    fs::create_dir(&folder).unwrap();
    git(&folder, &["init", "--bare", "--initial-branch=main"]);
    let proof = root.path().join("ran");
    let script = format!("#!/bin/sh\ntouch {}\n", proof.display());
    for hook in [
        "reference-transaction",
        "post-update",
        "update",
        "post-index-change",
    ] {
        let path = folder.join("hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let trap = root.path().join("trap.sh");
    fs::write(&trap, &script).unwrap();
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).unwrap();
    let trap = trap.to_str().unwrap();
    for (key, value) in [
        ("core.fsmonitor", trap),
        ("core.pager", trap),
        ("core.editor", trap),
        ("core.sshCommand", trap),
        ("gpg.program", trap),
        ("log.showSignature", "true"),
        ("diff.external", trap),
        ("credential.helper", trap),
    ] {
        git(&folder, &["config", key, value]);
    }
    let repository = GitRepository::own(&folder, &main_branch(), "r", Ownership::Adopt).unwrap();
    export(&repository, 1000, &[("a", Some("1"))]);
    repository.log(&main_branch()).unwrap();
    let files = repository.files("HEAD").unwrap();
    repository.reader().unwrap().read(&files[0].1).unwrap();
    assert!(!proof.exists());
}

#[test]
fn a_partial_clone_fetches_nothing_by_a_command_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let (folder, marker) = (root.path().join("g"), root.path().join("ran"));
    let repository = own(&folder);
    export(&repository, 1000, &[("prod/a.yaml", Some("1\n"))]);
    // What is promised by a remote, and not here.
    let blob = "5626abf0f72e58d7a153368ba57db4c673c0e171";
    git(&folder, &["config", "core.repositoryFormatVersion", "1"]);
    git(&folder, &["config", "extensions.partialClone", "origin"]);
    git(&folder, &["config", "remote.origin.promisor", "true"]);
    git(&folder, &["config", "protocol.ext.allow", "always"]);
    let url = format!("ext::touch {}", marker.display());
    git(&folder, &["config", "remote.origin.url", &url]);
    let repository = GitRepository::open(&folder).unwrap();
    let read = repository.reader().unwrap().read(blob);
    assert!(matches!(read, Err(GitError::Answer { .. })), "{read:?}");
    let commit = Commit {
        message: "m",
        time_seconds: 2000,
        parent: Some(blob),
    };
    let import = FastImport::begin(&repository, &main_branch(), &commit);
    let _refused = import.and_then(FastImport::finish).unwrap_err();
    assert!(!marker.exists(), "a command of the repository was run");
    // git without our settings does run it.
    let mut bare = Command::new("git");
    let _failed = bare
        .current_dir(&folder)
        .args(["cat-file", "-p", blob])
        .output();
    assert!(marker.exists(), "the trap does not work");
}

#[test]
fn words_from_outside_are_no_options() {
    for name in [
        "-x",
        "--upload-pack=x",
        "a..b",
        "",
        "a b",
        "x.lock",
        "a/../b",
        "@{1}",
    ] {
        assert!(
            matches!(Branch::new(name), Err(GitError::Branch(_))),
            "{name}"
        );
    }
    let root = tempfile::tempdir().unwrap();
    own(&root.path().join("--exec=x"));
    assert!(GitRepository::open(&root.path().join("nothing")).is_err());
}

#[test]
fn ten_thousand_objects_take_seconds() {
    let root = tempfile::tempdir().unwrap();
    let repository = own(&root.path().join("many"));
    let begun = std::time::Instant::now();
    for round in 0..2 {
        let mut import = begin(&repository, round);
        for n in 0..10_000 {
            let text = format!("apiVersion: v1\nkind: ConfigMap\ndata: {{n: \"{n} {round}\"}}\n");
            let name = format!("prod/core/v1/configmaps/ns{}/c{n}.yaml", n % 50);
            import.file(&path(&name), text.as_bytes()).unwrap();
        }
        import.finish().unwrap();
    }
    let took = begun.elapsed();
    eprintln!("2 commits of 10,000 files: {:.2} s", took.as_secs_f32());
    assert_eq!(repository.files("HEAD").unwrap().len(), 10_000);
    assert!(took.as_secs() < 60, "{took:?}");
}

#[test]
fn keys_are_opened_by_who_holds_the_other_half_alone() {
    let root = tempfile::tempdir().unwrap();
    let key = root.path().join("key.txt");
    let Ok(made) = Command::new("age-keygen").arg("-o").arg(&key).output() else {
        refloat_testkit::skip("age is not installed");
        return;
    };
    let said = String::from_utf8(made.stderr).unwrap();
    let public = said.split_whitespace().last().unwrap().to_owned();
    let list = root.path().join("recipients");
    fs::write(&list, format!("# ours\n\n{public}\n")).unwrap();
    for named in [public.clone(), list.display().to_string()] {
        let recipients = Recipients::new(&[named]).unwrap();
        assert_eq!(recipients.fingerprint(), public);
        let sealed = recipients.seal(&Secret::new("data key")).unwrap();
        let [(recipient, sealed)] = sealed.as_slice() else {
            panic!("{sealed:?}");
        };
        assert_eq!(recipient, &public);
        assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        let file = root.path().join("sealed");
        fs::write(&file, sealed).unwrap();
        let opened = Command::new("age")
            .arg("-d")
            .arg("-i")
            .arg(&key)
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(opened.stdout, b"data key");
    }
    let refused = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Recipients::new(&names).unwrap_err()
    };
    assert!(matches!(refused(&[]), GitError::NoRecipient));
    assert!(matches!(refused(&["age1x -o f"]), GitError::Recipient(_)));
    // The file with the private key, and the key itself; neither is told.
    let private = refused(&[key.to_str().unwrap()]);
    assert!(matches!(private, GitError::PrivateKey));
    assert!(matches!(
        refused(&["AGE-SECRET-KEY-1X"]),
        GitError::PrivateKey
    ));
    let wrong = Recipients::new(&["age1notakey".to_owned()]).unwrap();
    assert!(matches!(
        wrong.seal(&Secret::new("x")),
        Err(GitError::Encrypt { .. })
    ));
}
