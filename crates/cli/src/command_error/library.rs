//! What each library's errors mean for a person.
//!
//! Invariant: every variant that a person acts on differently has its own kind or hint.

use refloat_engine::backup::BackupError;
use refloat_engine::folder_restore::FolderRestoreError;
use refloat_engine::manifest::ManifestError;
use refloat_engine::point_list::{InvalidSelector, SelectError};
use refloat_engine::retention::NamedError;
use refloat_engine::stored::TreePathError;
use refloat_etcd::{SnapshotError, ViewError};
use refloat_git::GitError;
use refloat_model::finding::{Finding, Severity};
use refloat_model::tree_path::InvalidComponent;
use refloat_repository::RepositoryError;
use refloat_repository::prune::PruneError;
use refloat_source::{SourceError, StoredError, TargetError};
use refloat_storage::{FileKind, StorageError, StorageErrorKind};

use super::{CommandError, ErrorKind, one_line};

/// How many failed items an error names; the report names all.
const REASONS_MAX: usize = 5;
/// Where a config comes from that is lost.
const CONFIG_BACK: &str =
    "put it back with `refloat key import FILE`, from an earlier `refloat key export`";

impl From<StorageError> for CommandError {
    fn from(error: StorageError) -> Self {
        let this = Self::of(ErrorKind::Storage, &error);
        match error.kind() {
            StorageErrorKind::Interrupted => Self::of(ErrorKind::Interrupted, &error),
            StorageErrorKind::Full => this.hint(
                "make space there and run it again; packs that no index lists yet are not \
                     used then, and go with a `refloat prune` a day later",
            ),
            StorageErrorKind::Denied => {
                this.hint("check who may read and write there: mode, owner, policy")
            }
            StorageErrorKind::Unauthorized => this.hint(
                "check the credentials of the storage; docs/storage.md names where they come from",
            ),
            StorageErrorKind::NoPlace => {
                this.hint("make the bucket or container first, or check its name and region")
            }
            StorageErrorKind::Untrusted => this.hint(
                "check the name in the address; a certificate of your own is trusted with \
                 --option ca-file=FILE",
            ),
            StorageErrorKind::ClockSkew => this.hint("set this machine's clock"),
            _ => this,
        }
    }
}

impl From<RepositoryError> for CommandError {
    fn from(error: RepositoryError) -> Self {
        use RepositoryError as R;
        let of = |kind| Self::of(kind, &error);
        match &error {
            R::Storage(_) => match error {
                R::Storage(inner) => inner.into(),
                other => Self::of(ErrorKind::Storage, &other),
            },
            R::NoRepository { .. } => {
                of(ErrorKind::NoRepository).hint("make one with `refloat init`")
            }
            R::LostConfig { holds, .. } => without_config(of(ErrorKind::Damaged), *holds),
            R::AlreadyInitialized { .. } => of(ErrorKind::AlreadyInitialized)
                .hint("it was not touched; choose another place for a new one"),
            R::WrongPassword { .. } => of(ErrorKind::WrongPassword).hint(
                "passwords come from REFLOAT_PASSWORD, --password-file, --password-fd or \
                 --password-command",
            ),
            R::UnsupportedVersion { .. } | R::UnsupportedFeature { .. } => {
                of(ErrorKind::UnsupportedRepository)
                    .hint("nothing was written; use the program that made it, or a newer refloat")
            }
            R::Locked { .. } => of(ErrorKind::Locked).hint(
                "try again when the other run has ended; the lock of a dead one ends by itself \
                 after 30 minutes; see and clear them with `refloat repair locks`",
            ),
            R::TooManyLocks { .. } => of(ErrorKind::Locked).hint(
                "whoever may delete clears them with `refloat repair locks`; take the credentials away \
                 from whoever makes them",
            ),
            R::NotDeleter => {
                of(ErrorKind::Refused).hint("give the key's file with --deleter-key")
            }
            R::DeleterClock { .. } => of(ErrorKind::Refused).hint("set this machine's clock"),
            // Not even a check gets further than this.
            R::DamagedFile { file, .. }
                if matches!(file.kind(), FileKind::Config | FileKind::Key) =>
            {
                of(ErrorKind::Damaged).hint(CONFIG_BACK)
            }
            R::DamagedFile { .. }
            | R::DamagedBlob { .. }
            | R::MissingBlob { .. }
            | R::InvalidTree { .. }
            | R::NotStored { .. } => of(ErrorKind::Damaged)
                .hint("see what else is affected with `refloat check --read-data`"),
            R::NotExtended { .. } => of(ErrorKind::Storage)
                .hint("the file itself is there; see whether the storage honours its object lock"),
            R::VerifyFailed { .. } | R::NotReadBack { .. } => {
                of(ErrorKind::Internal).hint("nothing wrong was stored; test this machine's memory")
            }
            R::Target(_) => of(ErrorKind::Io)
                .hint("repeat the restore with --into-existing: only what is missing is written"),
            R::NotFound { .. } => of(ErrorKind::NotFound),
            R::OnlyKey(_) => {
                of(ErrorKind::Refused).hint("add another with `refloat key add` first")
            }
            R::KeyInUse(_) => of(ErrorKind::Refused)
                .hint("open the repository with another password to remove it"),
            R::Cancelled(_) => of(ErrorKind::Interrupted),
            R::LostLock => of(ErrorKind::Locked).hint("run it again"),
            R::NotWithdrawn { .. } => of(ErrorKind::Locked)
                .hint("run it again, and see with `refloat check` whether that snapshot is whole"),
            _ => of(ErrorKind::Internal),
        }
    }
}

fn without_config(error: CommandError, holds: FileKind) -> CommandError {
    let error = error.hint(CONFIG_BACK);
    match holds {
        FileKind::Key => {
            error.hint("if it was an `init` that broke off, repeat it with the same password")
        }
        _ => error,
    }
}

impl From<InvalidSelector> for CommandError {
    fn from(error: InvalidSelector) -> Self {
        Self::of(ErrorKind::Usage, &error)
            .hint("for example latest, latest@production, 3f2a, 2026-11-20T10:00, latest:/files")
    }
}

impl From<SelectError> for CommandError {
    fn from(error: SelectError) -> Self {
        Self::of(ErrorKind::NotFound, &error).hint(match error {
            SelectError::Empty => "make one with `refloat backup`",
            SelectError::Ambiguous { .. } => "give more digits",
            SelectError::None { .. } => "list them with `refloat points`",
        })
    }
}

impl From<NamedError> for CommandError {
    fn from(error: NamedError) -> Self {
        match error {
            NamedError::Select(error) => error.into(),
            NamedError::Foreign(_) => {
                Self::of(ErrorKind::Refused, &error).hint("drop it with the program that made it")
            }
        }
    }
}

impl From<SourceError> for CommandError {
    fn from(error: SourceError) -> Self {
        let this = match error {
            SourceError::Cancelled => Self::of(ErrorKind::Interrupted, &error),
            _ => Self::of(ErrorKind::Source, &error),
        };
        match error {
            SourceError::Unavailable {
                hint: Some(hint), ..
            } => this.hint(hint),
            _ => this,
        }
    }
}

impl From<GitError> for CommandError {
    fn from(error: GitError) -> Self {
        let of = |kind| Self::of(kind, &error);
        match &error {
            GitError::NotOurs { .. } => {
                of(ErrorKind::Refused).hint("choose an empty folder, or insist with --adopt")
            }
            GitError::Moved(_) => of(ErrorKind::Refused).hint("nothing is lost: run it again"),
            GitError::PrivateKey => {
                of(ErrorKind::Usage).hint("name the public key, age1…; age-keygen -y prints it")
            }
            GitError::Branch(_) | GitError::NoRecipient | GitError::Recipient(_) => {
                of(ErrorKind::Usage)
            }
            GitError::Run(_) => of(ErrorKind::Io).hint("install git"),
            GitError::Age(_) => of(ErrorKind::Io).hint("install age, or leave Secrets out"),
            _ => of(ErrorKind::Io),
        }
    }
}

impl From<ViewError> for CommandError {
    fn from(error: ViewError) -> Self {
        match &error {
            ViewError::NotFound(_) => Self::of(ErrorKind::NotFound, &error)
                .hint("list what it holds with `refloat ls POINT:/etcd/NAME/snapshot.db`"),
            ViewError::Snapshot(SnapshotError::Keep { .. }) => Self::of(ErrorKind::Io, &error)
                .hint("it needs room for a copy of the snapshot; choose another with TMPDIR"),
            _ => Self::of(ErrorKind::Damaged, &error)
                .hint("take another recovery point, and see what else is affected with `refloat check --read-data`"),
        }
    }
}

impl From<StoredError> for CommandError {
    fn from(error: StoredError) -> Self {
        // The repository's own error says what kind it is; the path is the context.
        match error.cause.downcast::<RepositoryError>() {
            Ok(cause) => {
                let context = format!(
                    "cannot {} {} of the recovery point",
                    error.operation, error.path
                );
                let mut this = Self::from(*cause);
                this.causes
                    .insert(0, std::mem::replace(&mut this.message, context));
                this
            }
            Err(cause) => Self {
                causes: vec![one_line(&*cause)],
                ..Self::new(
                    ErrorKind::NotFound,
                    format!(
                        "cannot {} {} of the recovery point",
                        error.operation, error.path
                    ),
                )
            },
        }
    }
}

impl From<TargetError> for CommandError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Stored(stored) => stored.into(),
            TargetError::Cancelled => Self::of(ErrorKind::Interrupted, &error),
            TargetError::NotInPoint { ref candidates, .. } => {
                let this = Self::of(ErrorKind::NotFound, &error);
                if candidates.is_empty() {
                    this
                } else {
                    this.hint(format!("it holds {}", candidates.join(", ")))
                }
            }
            TargetError::Request { ref hint, .. } => {
                let this = Self::of(ErrorKind::Usage, &error);
                match hint {
                    Some(hint) => this.hint(hint.clone()),
                    None => this,
                }
            }
            TargetError::NotExecutable(_) => Self::of(ErrorKind::Refused, &error)
                .hint("see the plan with --dry-run, and choose with --on-conflict, --only or --as"),
            TargetError::Unavailable { ref hint, .. } => {
                let this = Self::of(ErrorKind::Source, &error);
                match hint {
                    Some(hint) => this.hint(hint.clone()),
                    None => this,
                }
            }
        }
    }
}

impl From<TreePathError> for CommandError {
    fn from(error: TreePathError) -> Self {
        match error {
            TreePathError::Repository(inner) => inner.into(),
            TreePathError::NotFound(_) => {
                Self::of(ErrorKind::NotFound, &error).hint("see what is there with `refloat ls`")
            }
            _ => Self::of(ErrorKind::NotFound, &error),
        }
    }
}

impl From<ManifestError> for CommandError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Read { path, source } => {
                let mut this = Self::from(source);
                let context = format!("cannot read {path} of the recovery point");
                this.causes
                    .insert(0, std::mem::replace(&mut this.message, context));
                this
            }
            _ => Self::of(ErrorKind::Damaged, &error),
        }
    }
}

impl From<InvalidComponent> for CommandError {
    fn from(error: InvalidComponent) -> Self {
        Self::of(ErrorKind::Damaged, &error)
    }
}

impl From<BackupError> for CommandError {
    fn from(error: BackupError) -> Self {
        let reasons = |this: Self, findings: &[Finding]| Self {
            causes: findings
                .iter()
                .filter(|f| f.severity == Severity::Error)
                .map(|f| format!("{}: {}", f.subject, f.message))
                .take(REASONS_MAX)
                .collect(),
            ..this
        };
        match error {
            BackupError::Repository(inner) => inner.into(),
            BackupError::Cancelled(_) => Self::of(ErrorKind::Interrupted, &error),
            BackupError::NothingSaved { ref findings } => {
                reasons(Self::of(ErrorKind::NothingSaved, &error), findings)
            }
            BackupError::NothingSelected { ref findings, .. } => {
                reasons(Self::of(ErrorKind::NothingSaved, &error), findings)
                    .hint("see what there is with `refloat discover`")
            }
            BackupError::Manifest(_) | BackupError::Sink(_) | BackupError::Panicked => {
                Self::of(ErrorKind::Internal, &error)
            }
        }
    }
}

impl From<FolderRestoreError> for CommandError {
    fn from(error: FolderRestoreError) -> Self {
        match error {
            FolderRestoreError::Tree(inner) => inner.into(),
            FolderRestoreError::Repository(inner) => inner.into(),
            FolderRestoreError::Folder(inner) => Self::of(ErrorKind::Io, &inner),
        }
    }
}

impl From<PruneError> for CommandError {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Repository(inner) => inner.into(),
            PruneError::StateChanged => Self::of(ErrorKind::Refused, &error).hint("run it again"),
            PruneError::ClockSkew { .. } => {
                Self::of(ErrorKind::Refused, &error).hint("set the clocks; nothing was deleted")
            }
            PruneError::UnreadableSnapshot { ref snapshot, .. } => {
                let short = snapshot.short();
                Self::of(ErrorKind::Damaged, &error).hint(format!(
                    "nothing was deleted; if it cannot be had back from a copy, drop it with \
                     `refloat forget --unreadable {short}`"
                ))
            }
            _ => Self::of(ErrorKind::Damaged, &error)
                .hint("nothing was deleted; see what is damaged with `refloat check`"),
        }
    }
}
