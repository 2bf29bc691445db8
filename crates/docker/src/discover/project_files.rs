//! The files a compose project was made from.
//!
//! Labels name the compose files; those name the rest: environment files, configs, secrets,
//! included and extended files. They are looked for only where the engine is on this machine.
//!
//! Invariant: nothing but regular files that the project names is taken; a compose file that is
//! not understood is kept all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use refloat_model::finding::Finding;
use refloat_model::tree_path::escape;
use serde_json::Value;

use super::{Estate, RunningContainer};
use crate::definition::project::{LABEL_CONFIG_FILES, LABEL_ENVIRONMENT_FILE, LABEL_WORKING_DIR};
use crate::definition::{FileRole, MountKind, ProjectDefinition, ProjectFile, ServiceDefinition};

/// Files that one project may name; more are a mistake.
const FILES_MAX: usize = 1000;
/// The largest file that is parsed as a compose file, in bytes.
const COMPOSE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Where files outside the working directory are stored.
const OUTSIDE: &str = "outside";

/// What is known of a project. `readable` says whether paths on the engine's host are ours.
pub(crate) fn project_definition(
    name: &str,
    estate: &Estate,
    readable: bool,
) -> (ProjectDefinition, Vec<Finding>) {
    let members: Vec<&RunningContainer> = estate
        .containers
        .iter()
        .filter(|container| container.project() == Some(name))
        .collect();
    let label = |wanted: &str| {
        members
            .iter()
            .find_map(|container| container.definition.label(wanted))
            .unwrap_or_default()
            .to_owned()
    };
    let working_dir = label(LABEL_WORKING_DIR);
    let mut search = Search::new(name, &working_dir);
    let compose_files = label(LABEL_CONFIG_FILES);
    if readable {
        for file in split(&compose_files) {
            search.add(&file, FileRole::Compose);
        }
        let environment = label(LABEL_ENVIRONMENT_FILE);
        for file in split(&environment) {
            search.add(&file, FileRole::Environment);
        }
        search.add_if_there(".env", FileRole::Environment);
    } else if !compose_files.is_empty() {
        search.complain("its files are on another machine and are not captured");
    }
    let (files, findings) = search.finish();
    let definition = ProjectDefinition {
        name: name.to_owned(),
        working_dir,
        files,
        services: services(&members),
        volumes: volumes(&members),
        networks: networks(&members, estate),
    };
    (definition, findings)
}

fn split(label: &str) -> Vec<PathBuf> {
    label
        .split(',')
        .map(str::trim)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect()
}

fn services(members: &[&RunningContainer]) -> BTreeMap<String, ServiceDefinition> {
    let mut services: BTreeMap<String, ServiceDefinition> = BTreeMap::new();
    for container in members {
        let Some(member) = &container.definition.project else {
            continue;
        };
        let service = services.entry(member.service.clone()).or_default();
        service.containers.push(container.definition.name.clone());
        service.depends_on.extend(member.depends_on.clone());
    }
    services
}

fn volumes(members: &[&RunningContainer]) -> Vec<String> {
    let mounts = members
        .iter()
        .flat_map(|container| &container.definition.mounts);
    let names: BTreeSet<_> = mounts
        .filter(|mount| mount.kind == MountKind::Volume && !mount.anonymous)
        .map(|mount| mount.source.clone())
        .collect();
    names.into_iter().collect()
}

fn networks(members: &[&RunningContainer], estate: &Estate) -> Vec<String> {
    let names: BTreeSet<_> = members
        .iter()
        .flat_map(|container| container.definition.networks.keys())
        .filter(|name| !estate.is_built_in_network(name))
        .cloned()
        .collect();
    names.into_iter().collect()
}

/// The files found so far.
struct Search<'a> {
    project: &'a str,
    working_dir: &'a Path,
    found: BTreeMap<PathBuf, FileRole>,
    findings: Vec<Finding>,
}

impl<'a> Search<'a> {
    fn new(project: &'a str, working_dir: &'a str) -> Self {
        Self {
            project,
            working_dir: Path::new(working_dir),
            found: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    fn complain(&mut self, message: impl Into<String>) {
        self.findings.push(Finding::warning(
            format!("project {}", self.project),
            message,
        ));
    }

    fn add_if_there(&mut self, path: &str, role: FileRole) {
        if self.working_dir.is_absolute() && self.working_dir.join(path).is_file() {
            self.add(Path::new(path), role);
        }
    }

    /// Takes a file in, relative paths from the working directory, and follows compose files.
    fn add(&mut self, path: &Path, role: FileRole) {
        let Some(path) = absolute(self.working_dir, path) else {
            self.complain(format!("{} is no usable path", path.display()));
            return;
        };
        if self.found.contains_key(&path) {
            return;
        }
        if self.found.len() >= FILES_MAX {
            self.complain(format!("it names more than {FILES_MAX} files"));
            return;
        }
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                self.found.insert(path.clone(), role);
                if role == FileRole::Compose && metadata.len() <= COMPOSE_BYTES_MAX {
                    self.follow(&path);
                }
            }
            Ok(_) => self.complain(format!("{} is no regular file", path.display())),
            Err(error) => self.complain(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn follow(&mut self, compose: &Path) {
        let text = match std::fs::read_to_string(compose) {
            Ok(text) => text,
            Err(error) => {
                self.complain(format!("cannot read {}: {error}", compose.display()));
                return;
            }
        };
        match serde_saphyr::from_str::<Value>(&text) {
            Ok(document) => {
                // Paths in included files count from their own folder.
                let base = compose.parent().unwrap_or(self.working_dir).to_owned();
                for (path, role) in named_files(&document) {
                    self.add(&base.join(path), role);
                }
            }
            // serde_saphyr quotes the text in its error, which may hold secrets.
            Err(_) => self.complain(format!(
                "{} is no YAML that is understood: files it names are not captured",
                compose.display()
            )),
        }
    }

    fn finish(self) -> (Vec<ProjectFile>, Vec<Finding>) {
        let files = self
            .found
            .iter()
            .map(|(path, role)| ProjectFile {
                path: path.to_string_lossy().into_owned(),
                stored: stored(self.working_dir, path),
                role: *role,
            })
            .collect();
        (files, self.findings)
    }
}

/// The files a compose document names. Paths with variables are left to whoever reads `.env`.
fn named_files(document: &Value) -> Vec<(String, FileRole)> {
    let mut files = Vec::new();
    let mut add = |value: Option<&Value>, role| {
        for path in texts(value) {
            if !path.contains('$') {
                files.push((path, role));
            }
        }
    };
    for service in values(document.get("services")) {
        add(service.get("env_file"), FileRole::ServiceEnvironment);
        let extends = service
            .get("extends")
            .and_then(|extends| extends.get("file"));
        add(extends, FileRole::Compose);
    }
    for (key, role) in [("configs", FileRole::Config), ("secrets", FileRole::Secret)] {
        for entry in values(document.get(key)) {
            add(entry.get("file"), role);
        }
    }
    add(document.get("include"), FileRole::Compose);
    files
}

/// A path, a list of paths, or a list of objects with a `path`.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().flat_map(|item| texts(Some(item))).collect(),
        Some(Value::Object(object)) => texts(object.get("path")),
        _ => Vec::new(),
    }
}

fn values(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(_, value)| value)
}

/// The path from the root, `.` and `..` taken out without asking the file system.
fn absolute(base: &Path, path: &Path) -> Option<PathBuf> {
    let joined = base.join(path);
    if !joined.is_absolute() {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for component in joined.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

/// Where a file lies below `files/`.
fn stored(working_dir: &Path, path: &Path) -> String {
    let inside = path
        .strip_prefix(working_dir)
        .ok()
        .filter(|_| working_dir.is_absolute());
    match inside {
        // A folder of the project that has the name of ours is told apart by escaping.
        Some(inside) if !inside.starts_with(OUTSIDE) => inside.to_string_lossy().into_owned(),
        _ => format!("{OUTSIDE}/{}", escape(&path.to_string_lossy())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_files_lead_to_all_files_of_a_project() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("shop");
        std::fs::create_dir_all(root.join("conf")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
        write(
            "compose.yml",
            "x-env: &env {env_file: [a.env, {path: b.env, required: false}]}\n\
             include: [more.yml]\n\
             services:\n  web:\n    <<: *env\n    image: x\n  db: {image: y, env_file: '${NAME}'}\n\
             configs: {nginx: {file: ./conf/nginx.conf}}\n\
             secrets: {key: {file: ../key.txt}, other: {external: true}}\n",
        );
        write(
            "more.yml",
            "services: {job: {image: z, env_file: gone.env}}\n",
        );
        for path in ["a.env", "b.env", ".env", "conf/nginx.conf", "../key.txt"] {
            write(path, "x");
        }
        let root_text = root.to_string_lossy().into_owned();
        let mut search = Search::new("shop", &root_text);
        search.add(Path::new("compose.yml"), FileRole::Compose);
        search.add_if_there(".env", FileRole::Environment);
        let (files, findings) = search.finish();
        let outside = format!(
            "outside/{}",
            escape(&folder.path().join("key.txt").to_string_lossy())
        );
        let mut stored: Vec<_> = files
            .iter()
            .map(|file| (file.stored.as_str(), file.role))
            .collect();
        stored.sort();
        assert_eq!(
            stored,
            [
                (".env", FileRole::Environment),
                ("a.env", FileRole::ServiceEnvironment),
                ("b.env", FileRole::ServiceEnvironment),
                ("compose.yml", FileRole::Compose),
                ("conf/nginx.conf", FileRole::Config),
                ("more.yml", FileRole::Compose),
                (outside.as_str(), FileRole::Secret),
            ]
        );
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].message.contains("gone.env"),
            "{}",
            findings[0].message
        );
    }
}
