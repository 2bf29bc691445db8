//! From the configuration's words to the Docker adapter's.
//!
//! Invariant: every key of the configuration is carried over.

use refloat_docker::{
    ConnectOptions, Consistency, DumpMode, Hold, HookCommand, ImageSelection, Options,
    RootfsSelection, VolumeAccess,
};
use refloat_engine::config::{self, DockerConfig, Dumps, HoldMode, Images, RootFilesystems};

/// The adapter's options.
pub fn options(config: &DockerConfig, connect: ConnectOptions) -> Options {
    let DockerConfig {
        host: _,
        tls: _,
        images,
        rootfs,
        volumes,
        exclude,
        exclude_binds,
        consistency,
    } = config;
    Options {
        connect,
        exclude: exclude.clone(),
        images: match images {
            Images::InUse => ImageSelection::InUse,
            Images::All => ImageSelection::All,
            Images::None => ImageSelection::None,
        },
        rootfs: match rootfs {
            RootFilesystems::Report => RootfsSelection::Report,
            RootFilesystems::Save => RootfsSelection::Save,
            RootFilesystems::Ignore => RootfsSelection::Ignore,
        },
        exclude_binds: exclude_binds.clone(),
        volume_access: match volumes {
            config::VolumeReading::Auto => VolumeAccess::Auto,
            config::VolumeReading::Engine => VolumeAccess::Engine,
        },
        consistency: consistency
            .iter()
            .map(|c| (c.containers.clone(), of(c)))
            .collect(),
        ..Options::default()
    }
}

fn of(config: &config::ContainerConsistency) -> Consistency {
    Consistency {
        before: config.before.as_ref().map(hook),
        after: config.after.as_ref().map(hook),
        hold: match config.hold {
            HoldMode::Run => Hold::Run,
            HoldMode::Pause => Hold::Pause,
            HoldMode::Stop => Hold::Stop,
        },
        dump: match config.dump {
            Dumps::Auto => DumpMode::Auto,
            Dumps::None => DumpMode::None,
        },
        exclude: false,
    }
}

fn hook(hook: &config::HookCommand) -> HookCommand {
    match hook {
        config::HookCommand::Shell(text) => {
            HookCommand(vec!["sh".to_owned(), "-c".to_owned(), text.clone()])
        }
        config::HookCommand::Program(words) => HookCommand(words.clone()),
    }
}
