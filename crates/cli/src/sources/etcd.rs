//! etcd clusters as sources, and data folders as targets.
//!
//! Invariant: every key of the configuration is carried over.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_engine::config::{BasicAuth, EtcdConfig, PasswordConfig, TlsConfig};
use refloat_etcd::{
    Access, BUMP_DEFAULT, Certificates, DataFolderOptions, EtcdDataFolder, EtcdSource, Login,
    Options, Plain,
};
use refloat_source::{SourceError, Target};

use super::address::Declared;
use crate::command_error::CommandError;
use crate::environment;
use crate::home;
use crate::password;
use crate::settings::PasswordSource;

/// Options of etcd: sources given on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EtcdSourceArgs {
    /// Who signs etcd's certificates, a file in PEM; for etcd: sources given here
    #[arg(long, value_name = "FILE", requires_all = ["etcd_cert", "etcd_key"])]
    etcd_ca: Option<PathBuf>,
    /// The client's certificate for etcd
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    etcd_cert: Option<PathBuf>,
    /// The client's key for etcd
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    etcd_key: Option<PathBuf>,
    /// The etcd user, which needs the role root; the password comes from the next one or from
    /// REFLOAT_ETCD_PASSWORD
    #[arg(long, value_name = "NAME")]
    etcd_user: Option<String>,
    /// A file whose first line is the etcd user's password
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
    /// Save this control-plane folder of this host too, usually /etc/kubernetes; for etcd: sources
    /// given here
    #[arg(long, value_name = "FOLDER")]
    control_plane: Option<PathBuf>,
}

impl EtcdSourceArgs {
    /// The configuration that an address and these options mean.
    pub fn config(&self, address: &str) -> Result<EtcdConfig, CommandError> {
        let endpoints: Vec<String> = address
            .split(',')
            .filter(|endpoint| !endpoint.is_empty())
            .map(str::to_owned)
            .collect();
        if endpoints.is_empty() {
            return Err(CommandError::usage("etcd: needs an endpoint")
                .hint("for example etcd:https://127.0.0.1:2379"));
        }
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|e| CommandError::io("find", path.display(), &e))
        };
        let tls = match (&self.etcd_ca, &self.etcd_cert, &self.etcd_key) {
            (Some(ca), Some(cert), Some(key)) => Some(TlsConfig {
                ca: absolute(ca)?,
                cert: absolute(cert)?,
                key: absolute(key)?,
            }),
            _ => None,
        };
        let auth = self.etcd_user.as_ref().map(|user| {
            let password = match &self.etcd_password_file {
                Some(file) => PasswordConfig::File(absolute(file)?),
                None => PasswordConfig::Env(environment::ETCD_PASSWORD.name.to_owned()),
            };
            Ok::<_, CommandError>(BasicAuth {
                user: user.clone(),
                password,
            })
        });
        Ok(EtcdConfig {
            endpoints,
            tls,
            auth: auth.transpose()?,
            control_plane: self.control_plane.as_ref().map(absolute).transpose()?,
        })
    }
}

/// The inner error is a cluster that does not answer.
///
/// # Errors
/// The password cannot be had.
pub fn source(
    declared: &Declared,
    config: &EtcdConfig,
    plain: Plain,
) -> Result<Result<EtcdSource, SourceError>, CommandError> {
    let EtcdConfig {
        endpoints,
        tls,
        auth,
        control_plane,
    } = config;
    let resolve = |path: &Path| home::resolve(path, &declared.base);
    let certificates = tls.as_ref().map(|tls| Certificates {
        ca: resolve(&tls.ca),
        identity: Some((resolve(&tls.cert), resolve(&tls.key))),
    });
    let login = auth.as_ref().map(|auth| {
        let password = password::get(&PasswordSource::of(&auth.password, &declared.base))?;
        let user = auth.user.clone();
        Ok::<_, CommandError>(Arc::new(Login { user, password }))
    });
    let options = Options {
        access: Access {
            endpoints: endpoints.clone(),
            certificates,
            login: login.transpose()?,
            plain,
        },
        scratch: Some(environment::temporary()),
        control_plane: control_plane.as_deref().map(resolve),
    };
    Ok(EtcdSource::connect(&declared.name, options))
}

/// Options of `--to etcd:FOLDER`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Into data folders of etcd, --to etcd:FOLDER")]
pub struct EtcdTargetArgs {
    /// A member of the new cluster, once for each: cp1=https://10.0.0.1:2380; a cluster of one
    /// member comes back as it was without
    #[arg(long, value_name = "NAME=URL")]
    etcd_member: Vec<String>,
    /// Make the folder of this member only; otherwise each gets one below FOLDER
    #[arg(long, value_name = "NAME", requires = "etcd_member")]
    etcd_name: Option<String>,
    /// What keeps clusters with equal URLs apart; derived from the point if not given
    #[arg(long, value_name = "TOKEN")]
    etcd_token: Option<String>,
    /// How far revisions are raised beyond the snapshot's, so that no watch misses an event
    #[arg(long, value_name = "N", default_value_t = BUMP_DEFAULT)]
    etcd_bump_revision: u64,
}

impl EtcdTargetArgs {
    /// The target that `to` means; none if it is no etcd: address.
    pub fn target(&self, to: &str) -> Result<Option<Box<dyn Target>>, CommandError> {
        let Some(folder) = to.strip_prefix("etcd:") else {
            return Ok(None);
        };
        if folder.is_empty() || folder.contains("://") {
            return Err(
                CommandError::usage("etcd is restored into new data folders")
                    .hint("write --to etcd:FOLDER, for example --to etcd:/var/lib/etcd-restored"),
            );
        }
        let folder =
            std::path::absolute(folder).map_err(|e| CommandError::io("find", folder, &e))?;
        Ok(Some(Box::new(EtcdDataFolder::new(DataFolderOptions {
            folder,
            members: self.etcd_member.clone(),
            own_name: self.etcd_name.clone(),
            token: self.etcd_token.clone(),
            bump: self.etcd_bump_revision,
        }))))
    }
}
