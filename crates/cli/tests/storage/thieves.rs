//! A0 to A6: whoever holds stolen credentials, against a real S3 server with versions and Object Lock.
//!
//! What comes back comes back by the procedure of docs/storage.md, with `rclone` as the independent client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use refloat_model::secret::Secret;
use refloat_repository::format::index::{IndexFile, IndexPack};
use refloat_repository::format::lock::LockFile;
use refloat_repository::format::pack::PackedBlob;
use refloat_repository::{BlobId, BlobKind, IndexedRepository, Repository, SnapshotFile};
use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};
use refloat_testkit::servers::Radosgw;

use crate::cli_env::tree;
use crate::cycle::Remote;

type Keys = (&'static str, &'static str);
const OWNER: Keys = Radosgw::OWNER;
const THIEF: Keys = Radosgw::WRITER;

/// A bucket with versions and Object Lock, a writer, and what the owner keeps elsewhere: a ledger and a
/// key export.
struct Estate {
    server: Radosgw,
    remote: Remote,
}

impl Estate {
    /// With two points. `actions` is what the writer may do with objects besides deleting locks.
    fn with_two_points(actions: &str) -> Option<Self> {
        Self::made_by(actions, &["init"])
    }

    /// As [`Self::with_two_points`], with another `init`.
    fn made_by(actions: &str, init: &[&str]) -> Option<Self> {
        if Command::new("rclone").arg("version").output().is_err() {
            refloat_testkit::skip("rclone is not installed: no recovery by versions");
            return None;
        }
        let server = Radosgw::start()?;
        server.make_locking_bucket("vault");
        let address = format!("s3:http://127.0.0.1:{}/vault/r", server.port);
        let mut remote = Remote::new(&address, &[("REFLOAT_LEDGER", "ledger")]);
        remote.options.push("object-lock=compliance".to_owned());
        remote.options.push("object-lock-period=2d".to_owned());
        let mut estate = Self { server, remote };
        estate.allow(actions);
        estate.act_as(THIEF);
        let _made = estate.remote.succeed(init);
        estate.remote.back_up(1);
        estate.remote.back_up(2);
        let _sound = estate.remote.succeed(&["check", "--read-data"]);
        estate.act_as(OWNER);
        let _kept = estate.remote.succeed(&["key", "export", "escrow"]);
        let _sound = estate.remote.succeed(&["audit"]);
        Some(estate)
    }

    /// Gives the writer these rights, and the owner a word on what the writer wrote.
    fn allow(&self, actions: &str) {
        let bucket = "arn:aws:s3:::vault";
        let who = |user: &str| {
            format!(
                "\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \"arn:aws:iam:::user/{user}\"}}"
            )
        };
        let (owner, writer) = (who("user0"), who("user1"));
        let policy = format!(
            "{{\"Version\": \"2012-10-17\", \"Statement\": [\
             {{{owner}, \"Action\": \"s3:*\", \"Resource\": [\"{bucket}\", \"{bucket}/*\"]}},\
             {{{writer}, \"Action\": [\"s3:ListBucket\", \"s3:GetBucketObjectLockConfiguration\"], \
              \"Resource\": \"{bucket}\"}},\
             {{{writer}, \"Action\": [{actions}], \"Resource\": \"{bucket}/*\"}},\
             {{{writer}, \"Action\": [\"s3:DeleteObject\"], \"Resource\": \"{bucket}/r/locks/*\"}}]}}"
        );
        self.server.set_policy("vault", &policy);
    }

    fn act_as(&mut self, (access, secret): Keys) {
        let keys = [
            ("AWS_ACCESS_KEY_ID", access),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ];
        let keys = keys.map(|(name, value)| (name, value.to_owned()));
        self.remote.variables.extend(keys);
    }

    fn code(&self, args: &[&str]) -> i32 {
        self.remote.run(args).0
    }

    /// The names of all objects that show.
    fn objects(&self) -> Vec<String> {
        let listed = self.server.call(OWNER, "GET", "/vault?list-type=2", &[]);
        values(&listed, "Key")
    }

    /// All versions and marks, with all that is said of them.
    fn versions(&self) -> String {
        self.server.call(OWNER, "GET", "/vault?versions", &[])
    }

    fn put(&self, keys: Keys, object: &str, bytes: &[u8]) -> u16 {
        self.server
            .send(keys, ("PUT", &format!("/vault/{object}")), &[], bytes)
            .0
    }

    fn delete(&self, keys: Keys, object: &str) -> u16 {
        self.server
            .send(keys, ("DELETE", &format!("/vault/{object}")), &[], b"")
            .0
    }

    fn rclone(&self, args: &[&str]) {
        self.rclone_as(OWNER, args);
    }

    fn rclone_as(&self, (access, secret): Keys, args: &[&str]) {
        let output = Command::new("rclone")
            .args(["--config", "/dev/null", "--quiet", "--s3-no-check-bucket"])
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.remote.env.path("home"))
            .env("RCLONE_CONFIG_VAULT_TYPE", "s3")
            .env("RCLONE_CONFIG_VAULT_PROVIDER", "Ceph")
            .env("RCLONE_CONFIG_VAULT_ACCESS_KEY_ID", access)
            .env("RCLONE_CONFIG_VAULT_SECRET_ACCESS_KEY", secret)
            .env(
                "RCLONE_CONFIG_VAULT_ENDPOINT",
                format!("http://127.0.0.1:{}", self.server.port),
            )
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rclone {args:?}: {shown}");
    }

    /// A folder with the repository as it was at a moment, or as it is.
    fn fetch(&self, name: &str, at: Option<&str>) -> PathBuf {
        let folder = self.remote.env.path(name);
        let text = folder.display().to_string();
        let mut args = vec!["copy", "vault:vault/r", &text];
        if let Some(moment) = at {
            args.extend(["--s3-version-at", moment]);
        }
        self.rclone(&args);
        folder
    }

    /// The thief has the password as well: the repository, opened in a copy.
    fn thief_opens(&self, name: &str) -> (PathBuf, IndexedRepository) {
        let folder = self.fetch(name, None);
        let storage: SharedStorage = Arc::new(LocalStorage::new(&folder));
        let opened = Repository::open(storage, &Secret::new("secret words")).unwrap();
        (folder, opened.into_indexed().unwrap())
    }

    /// What the thief made in the copy goes into the bucket.
    fn thief_puts(&self, folder: &Path, key: &FileKey) {
        let bytes = std::fs::read(folder.join(key.path())).unwrap();
        assert_eq!(self.put(THIEF, &format!("r/{}", key.path()), &bytes), 200);
    }

    /// Everything of the points is in this folder, and the ledger agrees.
    fn is_whole_in(&self, folder: &Path) {
        let folder = folder.display().to_string();
        let mut local = self.remote.command(&["check", "--read-data"]);
        // Locally there are no options of S3.
        let mut args: Vec<String> = local
            .get_args()
            .map(|a| a.to_str().unwrap().to_owned())
            .collect();
        args.retain(|arg| arg != "--option" && !arg.starts_with("object-lock"));
        local = self.remote.env.command(&[]);
        local
            .args(&args)
            .env("REFLOAT_REPOSITORY", &folder)
            .env("REFLOAT_LEDGER", "ledger");
        let output = local.output().unwrap();
        assert!(output.status.success(), "{}", self.remote.env.show(&output));
        let out = self.remote.env.path("recovered").display().to_string();
        let mut restore = self
            .remote
            .env
            .command(&["restore", "latest", "--target", &out]);
        let output = restore.env("REFLOAT_REPOSITORY", &folder).output().unwrap();
        assert!(output.status.success(), "{}", self.remote.env.show(&output));
        let data = self.remote.env.path("data");
        let restored = crate::cycle::find_folder(Path::new(&out), "data");
        assert_eq!(tree(&restored), tree(&data));
    }
}

/// The texts of an XML element.
fn values(xml: &str, name: &str) -> Vec<String> {
    let start = format!("<{name}>");
    let parts = xml.split(start.as_str()).skip(1);
    let value = |part: &str| part.split('<').next().unwrap_or_default().to_owned();
    parts.map(value).collect()
}

/// What a writer needs on storage with Object Lock.
const WRITER: &str = "\"s3:GetObject\", \"s3:PutObject\", \"s3:PutObjectRetention\"";

/// A moment between what was saved and what a thief does: versions are told apart by seconds.
fn moment() -> String {
    std::thread::sleep(Duration::from_millis(2_100));
    let moment = jiff::Timestamp::now().to_string();
    std::thread::sleep(Duration::from_millis(2_100));
    format!("{}Z", &moment[..19])
}

#[test]
fn a0_whoever_may_only_read_reads_everything_and_writes_nothing() {
    let Some(mut estate) = Estate::with_two_points(WRITER) else {
        return;
    };
    // Not even locks may be written or deleted now.
    let policy = "{\"Version\": \"2012-10-17\", \"Statement\": [\
        {\"Effect\": \"Allow\", \"Principal\": {\"AWS\": \"arn:aws:iam:::user/user0\"}, \"Action\": \"s3:*\", \
         \"Resource\": [\"arn:aws:s3:::vault\", \"arn:aws:s3:::vault/*\"]},\
        {\"Effect\": \"Allow\", \"Principal\": {\"AWS\": \"arn:aws:iam:::user/user1\"}, \
         \"Action\": [\"s3:ListBucket\", \"s3:GetObject\"], \
         \"Resource\": [\"arn:aws:s3:::vault\", \"arn:aws:s3:::vault/*\"]}]}";
    estate.server.set_policy("vault", policy);
    estate.act_as(THIEF);
    estate.remote.options.clear();
    let before = estate.versions();
    for args in [
        &["points"][..],
        &["show", "latest"],
        &["ls", "latest"],
        &["find", "small"],
        &["check"],
        &["check", "--read-data"],
        &["audit"],
    ] {
        let _shown = estate.remote.succeed(args);
    }
    estate.remote.restores_equal("out");
    for args in [
        &["forget", "--keep-last", "1", "--yes"][..],
        &["key", "passwd", "--new-password-file", "escrow"],
    ] {
        let (code, shown) = estate.remote.run(args);
        assert_ne!(code, 0, "{args:?}: {shown}");
    }
    // There is nothing to reclaim, which it may find out and say.
    let _nothing = estate.remote.succeed(&["prune", "--yes"]);
    let (code, shown) = estate.remote.try_back_up(3);
    assert_ne!(code, 0, "{shown}");
    assert_eq!(
        estate.versions(),
        before,
        "not one object was written or deleted"
    );
}

#[test]
fn a1_everything_that_a_writer_overwrites_or_hides_comes_back() {
    // Worse than what docs/storage.md gives a writer: this one may hide every object.
    let worst = format!("{WRITER}, \"s3:DeleteObject\"");
    let Some(mut estate) = Estate::with_two_points(&worst) else {
        return;
    };
    let before = moment();
    let versions = estate.versions();
    let objects = estate.objects();
    assert!(objects.len() >= 8, "{objects:?}");
    for (number, object) in objects.iter().enumerate() {
        assert_eq!(estate.put(THIEF, object, &[0; 500]), 200, "{object}");
        if number % 2 == 0 {
            assert_eq!(estate.delete(THIEF, object), 204, "{object}");
        }
    }
    // Neither the thief nor the owner ends a version or its protection.
    let shorter = b"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2026-11-20T00:00:00Z</RetainUntilDate></Retention>";
    for (object, version) in values(&versions, "Key")
        .iter()
        .zip(values(&versions, "VersionId"))
    {
        if object.starts_with("r/locks/") {
            continue;
        }
        for keys in [THIEF, OWNER] {
            let of_version = format!("{object}?versionId={version}");
            let status = estate.delete(keys, &of_version);
            assert_eq!(status, 403, "{object} is ended by {}", keys.0);
        }
        let path = format!("/vault/{object}?retention&versionId={version}");
        let (status, _) = estate.server.send(THIEF, ("PUT", &path), &[], shorter);
        assert!(
            status >= 400,
            "the protection of {object} is cut short: {status}"
        );
    }
    assert_ne!(estate.code(&["check"]), 0);
    assert_ne!(estate.code(&["audit"]), 0);

    let folder = estate.fetch("back", Some(&before));
    estate.is_whole_in(&folder);
    // And into its place again, for the next run.
    let text = folder.display().to_string();
    estate.rclone(&["copy", &text, "vault:vault/r"]);
    let _sound = estate.remote.succeed(&["check", "--read-data"]);
    let _sound = estate.remote.succeed(&["audit"]);
    estate.act_as(THIEF);
    estate.remote.back_up(3);
    let _sound = estate.remote.succeed(&["check", "--read-data"]);
}

#[test]
fn a2_destroyed_keys_and_config_come_back_from_the_export() {
    let Some(mut estate) = Estate::with_two_points(WRITER) else {
        return;
    };
    for object in estate.objects() {
        if object == "r/config" || object.starts_with("r/keys/") {
            assert_eq!(estate.put(THIEF, &object, b"zeros"), 200);
        }
    }
    assert_ne!(estate.code(&["points"]), 0);
    let _back = estate.remote.succeed(&["key", "import", "escrow"]);
    let _sound = estate.remote.succeed(&["check", "--read-data"]);
    let _sound = estate.remote.succeed(&["audit"]);
    estate.remote.restores_equal("out");
    estate.act_as(THIEF);
    estate.remote.back_up(3);
}

#[test]
fn a3_an_index_that_promises_what_is_not_there_is_found_by_the_next_check() {
    let Some(mut estate) = Estate::with_two_points(WRITER) else {
        return;
    };
    // What the victim will save next is claimed to be in a pack that is there.
    let (folder, repository) = estate.thief_opens("copy");
    let content = b"what is written tomorrow".repeat(20);
    let pack = repository.index().packs()[0];
    let claim = PackedBlob {
        id: BlobId::of(&content),
        kind: BlobKind::Data,
        offset: 0,
        length: 512,
        uncompressed_length: None,
    };
    let poisoned = IndexFile {
        supersedes: Vec::new(),
        packs: vec![IndexPack {
            id: pack,
            blobs: vec![claim.into()],
        }],
    };
    let key = repository
        .write_json(FileKind::Index, "an index", &poisoned)
        .unwrap();
    estate.thief_puts(&folder, &key);
    std::fs::write(estate.remote.env.path("data/tomorrow"), &content).unwrap();
    estate.act_as(THIEF);
    let _trusting = estate.remote.try_back_up(3);
    // By the sizes of packs, without reading data.
    let (code, shown) = estate.remote.run(&["check"]);
    assert_eq!(code, 1, "{shown}");
    estate.act_as(OWNER);
    let _mended = estate.remote.succeed(&["repair", "index", "--yes"]);
    estate.act_as(THIEF);
    estate.remote.back_up(4);
    estate.remote.restores_equal("out");
    estate.act_as(OWNER);
    let (_, shown) = estate
        .remote
        .run(&["repair", "snapshots", "--forget", "--yes"]);
    let (code, checked) = estate.remote.run(&["check", "--read-data"]);
    assert_eq!(code, 0, "{shown}\n{checked}");
}

#[test]
fn a4_forged_points_of_the_future_push_no_real_one_out() {
    let Some(estate) = Estate::with_two_points(WRITER) else {
        return;
    };
    let (folder, repository) = estate.thief_opens("copy");
    let real = repository.snapshots().unwrap().snapshots;
    for number in 0..30_u8 {
        let time =
            jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * (1 + i64::from(number)));
        let mut forged: SnapshotFile = real[1].1.clone();
        forged.time = time.into();
        let id = format!("point:{:032x}", 0xfeed_0000_u32 + u32::from(number));
        let tags = forged.tags.get_or_insert_default();
        tags.retain(|tag| !tag.starts_with("point:"));
        tags.push(id);
        let key = repository
            .write_json(FileKind::Snapshot, "a snapshot", &forged)
            .unwrap();
        estate.thief_puts(&folder, &key);
    }
    let shown = estate
        .remote
        .succeed(&["forget", "--keep-last", "2", "--yes"]);
    assert!(shown.contains("in the future"), "{shown}");
    for (id, _) in &real {
        assert!(
            estate.objects().contains(&format!("r/snapshots/{id}")),
            "{id} is gone"
        );
    }
}

/// As many exclusive locks as a thief with the password likes.
fn forge_locks(repository: &Repository, count: i64) {
    for number in 0..count {
        let lock = LockFile {
            time: jiff::Timestamp::now(),
            exclusive: true,
            hostname: format!("thief-{number}"),
            username: "thief".to_owned(),
            pid: number,
            uid: 0,
            gid: 0,
            refloat_voucher: None,
        };
        let _key = repository
            .write_json(FileKind::Lock, "a lock", &lock)
            .unwrap();
    }
}

impl Estate {
    /// Everything below `locks/` of a folder goes into the bucket, with the thief's credentials.
    fn thief_puts_locks(&self, folder: &Path) {
        let from = folder.join("locks").display().to_string();
        self.rclone_as(
            THIEF,
            &["copy", "--transfers", "16", &from, "vault:vault/r/locks"],
        );
    }

    fn locks(&self) -> usize {
        let listed = self.server.call(
            OWNER,
            "GET",
            "/vault?list-type=2&max-keys=1&prefix=r%2Flocks%2F",
            &[],
        );
        values(&listed, "Key").len()
    }
}

/// The thief has the password, so that its locks are as good as ours but for the deleter key.
#[test]
fn a5_backups_go_on_under_a_flood_of_locks_of_whoever_has_no_deleter_key() {
    let key = "deleter";
    let init = ["init", "--require-deleter-key", key];
    let Some(mut estate) = Estate::made_by(WRITER, &init) else {
        return;
    };
    let (folder, repository) = estate.thief_opens("copy");
    forge_locks(&repository, 1_000);
    estate.thief_puts_locks(&folder);
    estate.act_as(THIEF);
    let (code, shown) = estate.remote.try_back_up(3);
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("1000 locks: exclusive and vouched for by no deleter"),
        "{shown}"
    );
    estate.remote.restores_equal("out");
    let _sound = estate.remote.succeed(&["check", "--read-data"]);
    // The writer cannot pass for a deleter.
    let (code, shown) = estate.remote.run(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("--deleter-key"), "{shown}");
    // The owner clears it, deletes, and lets nobody be deleted from under: its own lock counts.
    estate.act_as(OWNER);
    let forget = ["forget", "--keep-last", "2", "--yes", "--deleter-key", key];
    let (code, shown) = estate.remote.run(&forget);
    assert_eq!(code, 11, "{shown}");
    assert!(shown.contains("refloat repair locks"), "{shown}");
    let cleared = estate.remote.succeed(&["repair", "locks", "--yes"]);
    assert!(cleared.contains("deleted 1000 locks"), "{cleared}");
    assert_eq!(estate.locks(), 0);
    let _forgot = estate.remote.succeed(&forget);
    let prune = ["prune", "--yes", "--deleter-key", key];
    let _pruned = estate.remote.run(&prune);
    estate.act_as(THIEF);
    estate.remote.back_up(4);
    let _sound = estate.remote.succeed(&["check", "--read-data"]);
}

/// Without the password a lock is none.
#[test]
fn a5_what_a_thief_without_the_password_puts_below_locks_keeps_nobody_out() {
    let Some(mut estate) = Estate::with_two_points(WRITER) else {
        return;
    };
    let junk = estate.remote.env.path("junk");
    std::fs::create_dir_all(junk.join("locks")).unwrap();
    for number in 0..200_u32 {
        let bytes = number.to_le_bytes().repeat(50);
        let key = FileKey::new(FileKind::Lock, refloat_repository::id::sha256(&bytes));
        std::fs::write(junk.join(key.path()), bytes).unwrap();
    }
    estate.thief_puts_locks(&junk);
    estate.act_as(THIEF);
    estate.remote.back_up(3);
    estate.remote.restores_equal("out");
}

/// Without a deleter key nobody can tell; the owner has one command.
#[test]
fn a5_without_a_deleter_key_a_flood_keeps_backups_out_until_its_owner_clears_it() {
    let Some(mut estate) = Estate::with_two_points(WRITER) else {
        return;
    };
    let (folder, repository) = estate.thief_opens("copy");
    forge_locks(&repository, 10);
    estate.thief_puts_locks(&folder);
    estate.act_as(THIEF);
    let (code, shown) = estate.remote.try_back_up(3);
    assert_eq!(code, 11, "{shown}");
    assert!(shown.contains("refloat repair locks"), "{shown}");
    estate.act_as(OWNER);
    let shown = estate.remote.succeed(&["repair", "locks", "--dry-run"]);
    assert!(shown.contains("thief@thief-3"), "{shown}");
    let _cleared = estate.remote.succeed(&["repair", "locks", "--yes"]);
    estate.remote.back_up(4);
    let _sound = estate.remote.succeed(&["check", "--read-data"]);
}

#[test]
fn a6_what_the_storages_master_deletes_or_puts_back_the_ledger_reveals() {
    let Some(estate) = Estate::with_two_points(WRITER) else {
        return;
    };
    let (_, repository) = estate.thief_opens("copy");
    let points = repository.snapshots().unwrap().snapshots;
    let [oldest, newest] = [0, 1].map(|number| format!("r/snapshots/{}", points[number].0));
    let bytes_of = |object: &str| {
        let name = object.strip_prefix("r/").unwrap();
        std::fs::read(estate.remote.env.path("copy").join(name)).unwrap()
    };
    // The newest point is hidden: nothing but the ledger can tell.
    assert_eq!(estate.delete(OWNER, &newest), 204);
    assert_eq!(estate.code(&["check", "--no-cache"]), 1);
    assert_eq!(estate.code(&["audit"]), 1);
    assert_eq!(estate.put(OWNER, &newest, &bytes_of(&newest)), 200);
    assert_eq!(estate.code(&["audit"]), 0);
    // What was forgotten is put back: an old list is replayed.
    let _forgot = estate
        .remote
        .succeed(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(estate.code(&["audit"]), 0);
    assert_eq!(estate.put(OWNER, &oldest, &bytes_of(&oldest)), 200);
    assert_eq!(estate.code(&["audit"]), 1);
    assert_eq!(estate.delete(OWNER, &oldest), 204);
    assert_eq!(estate.code(&["audit"]), 0);
    // A key is gone.
    let key = estate
        .objects()
        .into_iter()
        .find(|object| object.starts_with("r/keys/"));
    assert_eq!(estate.delete(OWNER, &key.unwrap()), 204);
    assert_ne!(estate.code(&["audit"]), 0);
}
