//! A compose project: its services, what they wait for, and the files it was made from.
//!
//! Invariant: what a project's containers say in their labels is enough to start it in order;
//! the files are for people and for `compose up`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Document;

pub(crate) const LABEL_PROJECT: &str = "com.docker.compose.project";
pub(crate) const LABEL_SERVICE: &str = "com.docker.compose.service";
pub(crate) const LABEL_NUMBER: &str = "com.docker.compose.container-number";
pub(crate) const LABEL_DEPENDS_ON: &str = "com.docker.compose.depends_on";
pub(crate) const LABEL_WORKING_DIR: &str = "com.docker.compose.project.working_dir";
pub(crate) const LABEL_CONFIG_FILES: &str = "com.docker.compose.project.config_files";
pub(crate) const LABEL_ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";

/// `/docker/<source>/projects/<project>/project.json`; the files lie in `files/` beside it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProjectDefinition {
    /// Its name.
    pub name: String,
    /// The folder the compose files were read from, as the labels say; empty if they do not.
    pub working_dir: String,
    /// Its files that were captured, sorted by path.
    pub files: Vec<ProjectFile>,
    /// Its services by name.
    pub services: BTreeMap<String, ServiceDefinition>,
    /// Its named volumes, sorted.
    pub volumes: Vec<String>,
    /// Its networks, sorted.
    pub networks: Vec<String>,
}

impl Document for ProjectDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "compose project";
}

/// One service of a project.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// Names of its containers, sorted.
    pub containers: Vec<String>,
    /// What it waits for, by service name.
    pub depends_on: BTreeMap<String, Dependency>,
}

/// How one service waits for another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dependency {
    /// When the wait is over.
    pub condition: Condition,
    /// Whether it restarts with the other one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

/// When a dependency counts as fulfilled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It was started.
    Started,
    /// Its health check passes.
    Healthy,
    /// It ended with exit code 0.
    Completed,
}

/// One captured file of a project.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ProjectFile {
    /// Its absolute path on the host.
    pub path: String,
    /// Where it lies below `files/`: relative to the working directory, or `outside/` and the
    /// escaped absolute path.
    pub stored: String,
    /// What it is to the project.
    pub role: FileRole,
}

/// What a file is to its project.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileRole {
    /// A compose file, also an included or extended one.
    Compose,
    /// The project's `.env`, or a file named in its stead.
    Environment,
    /// A service's `env_file`.
    ServiceEnvironment,
    /// The file of a `configs:` entry.
    Config,
    /// The file of a `secrets:` entry.
    Secret,
}

/// What a container's labels say about its project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The project.
    pub project: String,
    /// The service within it.
    pub service: String,
    /// The replica, from 1.
    pub number: u32,
    /// What the service waits for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<String, Dependency>,
}

impl Membership {
    /// Reads the labels compose puts on a container; none if it belongs to no project.
    pub fn from_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self {
            project: label(LABEL_PROJECT).filter(|p| !p.is_empty())?.to_owned(),
            service: label(LABEL_SERVICE).unwrap_or_default().to_owned(),
            number: label(LABEL_NUMBER)
                .and_then(|n| n.parse().ok())
                .unwrap_or(1),
            depends_on: label(LABEL_DEPENDS_ON).map(depends_on).unwrap_or_default(),
        })
    }
}

/// Parses `db:service_healthy:false,cache:service_started:true`; older compose wrote names only.
fn depends_on(label: &str) -> BTreeMap<String, Dependency> {
    label
        .split(',')
        .filter_map(|part| {
            let mut fields = part.trim().split(':');
            let service = fields.next().filter(|s| !s.is_empty())?;
            let condition = match fields.next() {
                Some("service_healthy") => Condition::Healthy,
                Some("service_completed_successfully") => Condition::Completed,
                _ => Condition::Started,
            };
            let restart = fields.next() == Some("true");
            Some((service.to_owned(), Dependency { condition, restart }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_give_project_service_and_what_it_waits_for() {
        let labels = BTreeMap::from([
            (LABEL_PROJECT, "shop"),
            (LABEL_SERVICE, "web"),
            (LABEL_NUMBER, "2"),
            (
                LABEL_DEPENDS_ON,
                "db:service_healthy:true,cache,init:service_completed_successfully:false",
            ),
        ]);
        let member = Membership::from_labels(|name| labels.get(name).copied()).unwrap();
        let wait = |condition, restart| Dependency { condition, restart };
        assert_eq!(
            (
                member.project.as_str(),
                member.service.as_str(),
                member.number
            ),
            ("shop", "web", 2)
        );
        assert_eq!(
            member.depends_on,
            BTreeMap::from([
                ("cache".to_owned(), wait(Condition::Started, false)),
                ("db".to_owned(), wait(Condition::Healthy, true)),
                ("init".to_owned(), wait(Condition::Completed, false)),
            ])
        );
        assert_eq!(Membership::from_labels(|_| None), None);
    }
}
