//! `refloat restore`.
//!
//! Invariant: nothing that is there is overwritten unless a flag says so.

mod accepted;
mod etcd_keys;
mod folder;
mod system;

use std::path::PathBuf;

use clap::ValueEnum;
use refloat_model::glob::Glob;
use refloat_model::plan::{GitKeepers, OnConflict, RestoreRequest};

use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::point;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::sources::EtcdTargetArgs;

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
    /// Bring workloads back into this system: docker:, docker:unix:///run/docker.sock,
    /// kubernetes:CONTEXT; or an etcd snapshot into new data folders: etcd:FOLDER
    #[arg(long, value_name = "KIND:ADDRESS")]
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
    #[arg(long, requires = "target")]
    into_existing: bool,
    /// Write even into / or the home folder
    #[arg(long, requires = "into_existing")]
    into_system_folder: bool,
}

/// Options of `--to`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Into a running system")]
struct SystemArgs {
    /// Only this workload, or one object: shop, volume:db-data, object:deployments.apps/shop/web
    #[arg(long, value_name = "NAME", requires = "to")]
    only: Vec<String>,
    /// Restore under a new name: volume:db-data=db-copy, namespace:shop=shop-copy
    #[arg(long = "as", value_name = "OLD=NEW", requires = "to")]
    rename: Vec<String>,
    /// What to do about objects of the same name that differ
    #[arg(long, value_enum, default_value_t, requires = "to")]
    on_conflict: OnConflictArg,
    /// Do not start restored containers
    #[arg(long, requires = "to")]
    leave_stopped: bool,
    /// Do not ask before something is replaced
    #[arg(long, requires = "to")]
    yes: bool,
    /// Execute this plan, which --dry-run --json wrote, if the target is still as it was then
    #[arg(
        long,
        value_name = "FILE",
        requires = "to",
        conflicts_with_all = ["only", "rename", "on_conflict", "leave_stopped", "dry_run",
                              "privileged", "transforms", "gitops"]
    )]
    plan: Option<PathBuf>,
    /// Restore what gives rights or changes a cluster too, named with its kind:
    /// roles.rbac.authorization.k8s.io/shop/*
    #[arg(long, value_name = "KIND/NAME", requires = "to")]
    privileged: Vec<String>,
    /// What to do about Flux or Argo CD where they would undo what is restored
    #[arg(long, value_enum, default_value_t, requires = "to")]
    gitops: GitopsArg,
    /// Change objects on their way back as this file says
    #[arg(long, value_name = "FILE", requires = "to")]
    transforms: Vec<PathBuf>,
    /// A folder with ca.pem, cert.pem and key.pem for docker:tcp://
    #[arg(long, value_name = "FOLDER", requires = "to")]
    docker_certificates: Option<PathBuf>,
    /// The kubeconfig for kubernetes:, instead of those in KUBECONFIG
    #[arg(long, value_name = "FILE", requires = "to")]
    kubeconfig: Option<PathBuf>,
    /// Speak to a Docker engine on another machine without encryption
    #[arg(long, requires = "to")]
    plain_tcp: bool,
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
        })
    }
}
