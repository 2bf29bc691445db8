//! A repository's life: made, written, checked, restored, thinned out, reclaimed, checked again.

use std::path::Path;
use std::process::Command;

use refloat_testkit::restic::Restic;
use refloat_testkit::servers::{
    Azurite, GcsEmulator, Radosgw, RcloneServer, SshServer, WebDavServer,
};

use crate::cli_env::{CliEnv, tree};

/// A place and what its service needs.
pub struct Remote {
    pub env: CliEnv,
    pub variables: Vec<(&'static str, String)>,
    pub options: Vec<String>,
}

impl Remote {
    pub fn new(address: &str, variables: &[(&'static str, &str)]) -> Self {
        let env = CliEnv::new();
        let mut this = Self {
            env,
            variables: vec![("REFLOAT_REPOSITORY", address.to_owned())],
            options: Vec::new(),
        };
        let owned = variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        this.variables.extend(owned);
        this
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.command(args);
        for option in &self.options {
            command.args(["--option", option]);
        }
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(args).output().unwrap();
        (output.status.code().unwrap_or(-1), self.env.show(&output))
    }

    pub fn succeed(&self, args: &[&str]) -> String {
        let (code, shown) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {shown}");
        shown
    }

    fn fill(&self, round: u64) {
        let mut random = refloat_testkit::random::Random::new(round);
        for (name, length) in [("big", 3_000_000), ("small", 700), ("sub/other", 90_000)] {
            let path = self.env.path(&format!("data/{round}/{name}"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, random.bytes(length)).unwrap();
        }
    }

    pub fn back_up(&self, round: u64) {
        let (code, shown) = self.try_back_up(round);
        assert_eq!(code, 0, "{shown}");
    }

    pub fn try_back_up(&self, round: u64) -> (i32, String) {
        self.fill(round);
        let source = format!("files:{}", self.env.path("data").display());
        self.run(&["backup", "--host", "testhost", "--source", &source])
    }

    pub fn restores_equal(&self, target: &str) {
        let out = self.env.path(target);
        let out_text = out.display().to_string();
        let _shown = self.succeed(&["restore", "latest", "--target", &out_text]);
        let data = self.env.path("data");
        let restored = find_folder(&out, "data");
        assert_eq!(
            tree(&restored),
            tree(&data),
            "what came back is what was saved"
        );
    }
}

/// The folder of this name, wherever below it was restored.
pub fn find_folder(root: &Path, name: &str) -> std::path::PathBuf {
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_name() == name {
                return entry.path();
            }
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    panic!("no {name} below {}", root.display());
}

fn live(remote: &Remote, witness: Option<Restic>) {
    let _made = remote.succeed(&["init"]);
    remote.back_up(1);
    remote.back_up(2);
    let _sound = remote.succeed(&["check", "--read-data"]);
    remote.restores_equal("out");
    let witnessed = |snapshots: usize| {
        let Some(restic) = &witness else { return };
        let report = restic.check_read_data();
        assert!(report.is_clean, "{report:?}");
        assert_eq!(restic.snapshots().len(), snapshots);
    };
    witnessed(2);
    let forget = ["forget", "--keep-last", "1", "--prune", "--yes"];
    let _forgot = remote.succeed(&forget);
    let _sound = remote.succeed(&["check", "--read-data"]);
    remote.restores_equal("again");
    witnessed(1);
    let (code, shown) = remote.run(&["init"]);
    assert_eq!(code, 1, "a repository is not made twice: {shown}");
}

#[test]
fn on_s3() {
    let Some(server) = Radosgw::start() else {
        return;
    };
    server.make_bucket("bucket");
    let address = format!("s3:http://127.0.0.1:{}/bucket/deep/r", server.port);
    let (access, secret) = Radosgw::OWNER;
    let keys = [
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let remote = Remote::new(&address, &keys);
    live(
        &remote,
        Restic::find_remote(&address, "secret words", &keys, &[]),
    );
}

#[test]
fn on_sftp() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/r").display().to_string();
    let address = format!("sftp://{}@127.0.0.1:{}/{path}", server.user, server.port);
    let config = server.client_config().display().to_string();
    let mut remote = Remote::new(&address, &[]);
    remote.options.push(format!("ssh-config={config}"));
    let command = format!(
        "sftp.command=ssh -F {config} -p {} {}@127.0.0.1 -s sftp",
        server.port, server.user
    );
    let witness = Restic::find_remote(
        &format!("sftp:{}@127.0.0.1:{path}", server.user),
        "secret words",
        &[],
        &["-o", &command],
    );
    live(&remote, witness);
}

#[test]
fn on_a_rest_server() {
    let Some(server) = RcloneServer::rest() else {
        return;
    };
    let (user, password) = RcloneServer::LOGIN;
    let host = format!("127.0.0.1:{}/r/", server.port);
    let remote = Remote::new(
        &format!("rest:http://{host}"),
        &[
            ("REFLOAT_STORAGE_USER", user),
            ("REFLOAT_STORAGE_PASSWORD", password),
        ],
    );
    let address = format!("rest:http://{user}:{password}@{host}");
    live(
        &remote,
        Restic::find_remote(&address, "secret words", &[], &[]),
    );
}

#[test]
fn on_webdav() {
    let Some(server) = WebDavServer::start() else {
        return;
    };
    let (user, password) = WebDavServer::LOGIN;
    let remote = Remote::new(
        &format!("webdav://127.0.0.1:{}/deep/r", server.port),
        &[
            ("REFLOAT_STORAGE_USER", user),
            ("REFLOAT_STORAGE_PASSWORD", password),
        ],
    );
    let folder = server.server.folder().join("dav/deep/r");
    live(&remote, Restic::find(&folder, "secret words"));
}

#[test]
fn on_azure() {
    let Some(server) = Azurite::start() else {
        return;
    };
    server.make_container("container");
    let (account, key) = Azurite::ACCOUNT;
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let remote = Remote::new(
        "azblob://container/deep/r",
        &[
            ("AZURE_STORAGE_ACCOUNT", account),
            ("AZURE_STORAGE_KEY", key),
            ("AZURE_STORAGE_ENDPOINT", &endpoint),
        ],
    );
    live(&remote, None);
}

#[test]
fn on_google() {
    let Some(server) = GcsEmulator::start() else {
        return;
    };
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let address = format!("gcs://{}/deep/r", GcsEmulator::BUCKET);
    let remote = Remote::new(&address, &[("STORAGE_EMULATOR_HOST", &endpoint)]);
    live(&remote, None);
}
