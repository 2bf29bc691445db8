//! `--to KIND:ADDRESS`: what a point is restored into.
//!
//! Invariant: an address that nothing can be restored into is refused before anything is opened.

use refloat_engine::config::SourceConfig;
use refloat_engine::suggest::closest;
use refloat_registry::LayoutTarget;
use refloat_source::Target;

use super::access::AccessArgs;
use super::address::{Declared, by_address};
use super::etcd::EtcdSourceArgs;
use super::{connect, kubernetes, registry};
use crate::command_error::CommandError;
use crate::settings::LoadedConfig;

/// The folder of OCI image layouts, as skopeo writes it.
const LAYOUT: &str = "oci";

/// The system or folder that `to` names: an address, or a source of the configuration.
///
/// # Errors
/// It is not understood, or nobody answers there.
pub fn target(
    to: &str,
    access: &AccessArgs,
    config: Option<&LoadedConfig>,
) -> Result<Box<dyn Target>, CommandError> {
    if let Some((LAYOUT, folder)) = to.split_once(':') {
        return layout(folder);
    }
    let declared = match configured(to, config)? {
        Some(declared) => {
            access.refuse_unused()?;
            declared
        }
        None => by_address(to, access, &EtcdSourceArgs::default())?,
    };
    match &declared.config {
        SourceConfig::Docker(config) => {
            connect::docker_target(&declared, config, access.plain_tcp())
        }
        SourceConfig::Kubernetes(config) => kubernetes::target(&declared, config),
        SourceConfig::Registry(config) => registry::target(&declared, config),
        SourceConfig::Etcd(_) => Err(
            CommandError::usage("etcd is restored into new data folders")
                .hint("write --to etcd:FOLDER"),
        ),
        SourceConfig::Files(_) => Err(CommandError::usage("folders are restored with --target")
            .hint("--to is for docker:, kubernetes:, registry:, oci: and etcd: addresses")),
    }
}

fn layout(folder: &str) -> Result<Box<dyn Target>, CommandError> {
    if folder.is_empty() {
        return Err(CommandError::usage("oci: needs a folder").hint("for example oci:/srv/images"));
    }
    let path = std::path::absolute(folder).map_err(|e| CommandError::io("find", folder, &e))?;
    Ok(Box::new(LayoutTarget::new(LAYOUT, path)))
}

/// The source of the configuration that has this name; a name has no `:`.
fn configured(name: &str, config: Option<&LoadedConfig>) -> Result<Option<Declared>, CommandError> {
    if name.contains([':', '/']) {
        return Ok(None);
    }
    let Some(loaded) = config else {
        return Ok(None);
    };
    let sources = &loaded.config.sources;
    if let Some(found) = sources.get(name) {
        return Ok(Some(Declared {
            name: name.to_owned(),
            config: found.clone(),
            base: loaded.base.clone(),
            namespaces: None,
        }));
    }
    let error = CommandError::usage(format!("refloat.yaml has no source {name:?}"));
    Err(match closest(name, sources.keys().map(String::as_str)) {
        Some(word) => error.hint(format!("did you mean {word:?}?")),
        None => error.hint("name one, or write KIND:ADDRESS"),
    })
}
