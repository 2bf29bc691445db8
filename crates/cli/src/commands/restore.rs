//! `refloat restore`.
//!
//! Invariant: nothing that is there is overwritten unless a flag says so.

mod accepted;
mod etcd_keys;
mod folder;
mod system;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use refloat_model::glob::Glob;
use refloat_model::plan::{GitKeepers, OnConflict, Permission, RestoreRequest};

use crate::belonging::Belonging;
use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::point;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::sources::{AccessArgs, EtcdTargetArgs};

/// Restore a recovery point, or part of it, into a folder or a running system
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["target", "to"]))]
pub struct Args {
    /// The point, and for --target a path in it: latest, latest:/docker/web/volumes/db/data
    #[arg(value_name = "POINT[:PATH]")]
    point: String,
    /// Write the raw tree, or keys of an etcd snapshot, into this folder, which must be empty or
    /// not be there yet
    #[arg(long, value_name = "FOLDER")]
    target: Option<PathBuf>,
    /// Bring workloads and images back into this system: docker:, docker:unix:///run/docker.sock,
    /// kubernetes:CONTEXT, registry:https://registry.local:5000, a folder of image layouts
    /// oci:FOLDER, an etcd snapshot into new data folders etcd:FOLDER, or a source of refloat.yaml
    /// by its name
    #[arg(long, value_name = "KIND:ADDRESS|NAME")]
    to: Option<String>,
    /// Print the plan and stop
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    etcd: EtcdTargetArgs,
}

/// Options of `--target`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Into a folder")]
struct FolderArgs {
    /// Write into a folder that holds something; entries of the same names are replaced
    #[arg(long)]
    into_existing: bool,
    /// Write even into / or the home folder
    #[arg(long, requires = "into_existing")]
    into_system_folder: bool,
    /// Restore set-id bits, device nodes and file capabilities too
    #[arg(long)]
    with_privileges: bool,
    /// Begin even if the space seems not to suffice, as for files with many holes
    #[arg(long)]
    no_space_check: bool,
}

/// Options of `--to`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Into a running system")]
struct SystemArgs {
    /// Only this workload, or one object: shop, volume:db-data, object:deployments.apps/shop/web,
    /// image:team/app:1.2, of a cluster also where:CONDITION (CEL)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Restore under a new name: volume:db-data=db-copy, namespace:shop=shop-copy,
    /// repository:team/=shop/, image:team/app:1=1-old, registry:hub=mirror/hub
    #[arg(long = "as", value_name = "OLD=NEW")]
    rename: Vec<String>,
    /// What to do about objects of the same name that differ
    #[arg(long, value_enum, default_value_t)]
    on_conflict: OnConflictArg,
    /// Do what is refused otherwise
    #[arg(long, value_enum, value_name = "WHAT")]
    allow: Vec<AllowArg>,
    /// The file with the value of a swarm secret, which no engine gives out: token=./token.txt
    #[arg(long = "secret", value_name = "NAME=FILE")]
    secrets: Vec<String>,
    /// Do not start restored containers
    #[arg(long)]
    leave_stopped: bool,
    /// Do not ask before something is replaced
    #[arg(long)]
    yes: bool,
    /// Execute this plan, which --dry-run --json wrote, if the target is still as it was then
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["only", "rename", "on_conflict", "leave_stopped", "dry_run",
                              "privileged", "transforms", "gitops"]
    )]
    plan: Option<PathBuf>,
    /// Restore what gives rights or changes a cluster too, named with its kind:
    /// roles.rbac.authorization.k8s.io/shop/*
    #[arg(long, value_name = "KIND/NAME")]
    privileged: Vec<String>,
    /// What to do about Flux or Argo CD where they would undo what is restored
    #[arg(long, value_enum, default_value_t)]
    gitops: GitopsArg,
    /// Change objects on their way back as this file says
    #[arg(long, value_name = "FILE")]
    transforms: Vec<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum OnConflictArg {
    /// Refuse the whole restore
    #[default]
    Fail,
    /// Keep what is there
    Skip,
    /// Replace what is there
    Replace,
    /// Restore under a new name
    Rename,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum GitopsArg {
    /// Refuse the whole restore
    #[default]
    Refuse,
    /// Suspend them, restore, and resume them
    Suspend,
    /// Restore all the same
    Ignore,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AllowArg {
    /// Write binds and project files although what lies in their place cannot be looked at: on
    /// an engine of another machine, or without being root
    UnseenFiles,
    /// Write binds and project files below /etc, /root, /usr and other places of the system
    SystemPlaces,
    /// Restore into a cluster what can be restored, and leave out what conflicts, each named; the
    /// exit code is 3
    Incomplete,
}

impl From<&AllowArg> for Permission {
    fn from(allow: &AllowArg) -> Self {
        match allow {
            AllowArg::UnseenFiles => Self::UnseenFiles,
            AllowArg::SystemPlaces => Self::SystemPlaces,
            AllowArg::Incomplete => Self::Incomplete,
        }
    }
}

/// Which options are for which of the two ways to restore.
pub fn belongings() -> Vec<Belonging> {
    vec![
        Belonging::all_of::<FolderArgs>("target"),
        Belonging::all_of::<SystemArgs>("to"),
        Belonging::all_of::<EtcdTargetArgs>("to"),
    ]
}

/// Restores.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let locator = point::locator(&args.point)?;
    if let Some(target) = &args.target {
        return folder::run(args, target, &locator, settings, signals);
    }
    if !locator.path.components().is_empty() {
        return Err(
            CommandError::usage("a path is restored with --target, not with --to")
                .hint("name objects with --only, for example --only volume:db-data"),
        );
    }
    let to = args.to.as_deref().unwrap_or_default();
    system::run(args, to, &locator.point, settings, signals)
}

impl SystemArgs {
    fn request(&self) -> Result<RestoreRequest, CommandError> {
        let rename = |text: &String| match text.split_once('=') {
            Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                Ok((old.to_owned(), new.to_owned()))
            }
            _ => Err(CommandError::usage(format!("{text:?} is no new name"))
                .hint("write OLD=NEW, for example volume:db-data=db-copy")),
        };
        Ok(RestoreRequest {
            only: self.only.clone(),
            rename: self.rename.iter().map(rename).collect::<Result<_, _>>()?,
            on_conflict: match self.on_conflict {
                OnConflictArg::Fail => OnConflict::Fail,
                OnConflictArg::Skip => OnConflict::Skip,
                OnConflictArg::Replace => OnConflict::Replace,
                OnConflictArg::Rename => OnConflict::Rename,
            },
            leave_stopped: self.leave_stopped,
            git_keepers: match self.gitops {
                GitopsArg::Refuse => GitKeepers::Refuse,
                GitopsArg::Suspend => GitKeepers::Suspend,
                GitopsArg::Ignore => GitKeepers::Ignore,
            },
            privileged: self
                .privileged
                .iter()
                .map(|text| Glob::new(text).map_err(|e| CommandError::of(ErrorKind::Usage, &e)))
                .collect::<Result<_, _>>()?,
            transforms: self
                .transforms
                .iter()
                .map(|path| {
                    std::fs::read_to_string(path)
                        .map_err(|e| CommandError::io("read", path.display(), &e))
                })
                .collect::<Result<_, _>>()?,
            allow: self.allow.iter().map(Into::into).collect(),
            secrets: self.secrets()?,
        })
    }

    fn secrets(&self) -> Result<BTreeMap<String, PathBuf>, CommandError> {
        let mut secrets = BTreeMap::new();
        for text in &self.secrets {
            let (name, file) = match text.split_once('=') {
                Some((name, file)) if !name.is_empty() && !file.is_empty() => (name, file),
                // Not repeated: it may be the secret itself.
                _ => {
                    return Err(CommandError::usage("a --secret names no file")
                        .hint("write NAME=FILE, for example token=./token.txt"));
                }
            };
            if secrets.insert(name.to_owned(), file.into()).is_some() {
                return Err(CommandError::usage(format!(
                    "the secret {name:?} is given twice"
                )));
            }
        }
        Ok(secrets)
    }
}
