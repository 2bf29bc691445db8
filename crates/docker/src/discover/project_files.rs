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
    // Services may have been started with other files than the first one.
    let label = |wanted: &str| -> Vec<&str> {
        let mut found = Vec::new();
        for text in members.iter().filter_map(|m| m.definition.label(wanted)) {
            if !found.contains(&text) {
                found.push(text);
            }
        }
        found
    };
    let working_dir = label(LABEL_WORKING_DIR);
    let working_dir = working_dir.first().copied().unwrap_or_default().to_owned();
    let mut search = Search::new(name, &working_dir);
    let compose_files = label(LABEL_CONFIG_FILES);
    if readable {
        for file in compose_files.into_iter().flat_map(split) {
            search.add_of_label(&file);
        }
        for file in label(LABEL_ENVIRONMENT_FILE).into_iter().flat_map(split) {
            search.add(&file, FileRole::Environment);
        }
        search.add_if_there(&search.working_dir.join(".env"));
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

    /// Takes in the variables of a folder, which need not be there.
    fn add_if_there(&mut self, path: &Path) {
        if path.is_absolute() && path.is_file() {
            self.add(path, FileRole::Environment);
        }
    }

    /// A compose file that the project was started with: its paths count from the working directory.
    fn add_of_label(&mut self, path: &Path) {
        self.add_from(path, FileRole::Compose, Some(self.working_dir));
    }

    /// Takes a file in, relative paths from the working directory, and follows compose files.
    fn add(&mut self, path: &Path, role: FileRole) {
        self.add_from(path, role, None);
    }

    /// The same; paths in a compose file count from `base`, or else from its own folder.
    fn add_from(&mut self, path: &Path, role: FileRole, base: Option<&Path>) {
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
                    let base = base.or(path.parent()).unwrap_or(self.working_dir);
                    self.follow(&path, base);
                }
            }
            Ok(_) => self.complain(format!("{} is no regular file", path.display())),
            Err(error) => self.complain(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn follow(&mut self, compose: &Path, base: &Path) {
        let text = match std::fs::read_to_string(compose) {
            Ok(text) => text,
            Err(error) => {
                self.complain(format!("cannot read {}: {error}", compose.display()));
                return;
            }
        };
        match serde_saphyr::from_str::<Value>(&text) {
            Ok(document) => {
                for (path, role) in named_files(&document) {
                    if path.contains('$') {
                        self.complain(format!(
                            "{} names a file by variables, {path}, which is not captured",
                            compose.display()
                        ));
                        continue;
                    }
                    self.add(&base.join(path), role);
                }
                for path in texts(document.get("include"), "path") {
                    let included = base.join(path);
                    let folder = included.parent().unwrap_or(base);
                    self.add_if_there(&folder.join(".env"));
                }
                for name in made_at_start(&document) {
                    self.complain(format!(
                        "{} makes the content of {name}, which is copied into its containers as they \
                         are created: it comes back only with their root filesystems (rootfs: save)",
                        compose.display()
                    ));
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

/// Secrets and configs whose content is in no file: in a variable, or in the document itself.
fn made_at_start(document: &Value) -> Vec<String> {
    let is_made = |entry: &Value| entry.get("environment").or(entry.get("content")).is_some();
    let mut names = Vec::new();
    for (key, word) in [("configs", "config"), ("secrets", "secret")] {
        let entries = document.get(key).and_then(Value::as_object);
        let made = entries
            .into_iter()
            .flatten()
            .filter(|(_, entry)| is_made(entry));
        names.extend(made.map(|(name, _)| format!("{word} {name}")));
    }
    names
}

/// The files a compose document names, as they are written there.
fn named_files(document: &Value) -> Vec<(String, FileRole)> {
    let mut files = Vec::new();
    let mut add = |value: Option<&Value>, role| {
        files.extend(texts(value, "path").into_iter().map(|path| (path, role)));
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
    let included = document.get("include").and_then(Value::as_array);
    for included in included.into_iter().flatten() {
        add(included.get("env_file"), FileRole::Environment);
    }
    files
}

/// A path, a list of paths, or a list of objects with paths as `key`.
fn texts(value: Option<&Value>, key: &str) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|item| texts(Some(item), key));
            texts.flatten().collect()
        }
        Some(Value::Object(object)) => texts(object.get(key), key),
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

    /// A project in `root`: two files that it was started with, and what they lead to.
    fn lay_out(root: &Path) {
        for folder in ["conf", "db"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let write = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
        write(
            "compose.yml",
            "x-env: &env {env_file: [a.env, {path: b.env, required: false}]}\n\
             include: [more.yml, {path: db/compose.yml, env_file: db/db.env}]\n\
             services:\n  web:\n    <<: *env\n    image: x\n  db: {image: y, env_file: '${NAME}'}\n\
             configs: {nginx: {file: ./conf/nginx.conf}}\n\
             secrets: {key: {file: ../key.txt}, other: {external: true}, token: {environment: TOKEN}}\n",
        );
        write(
            "more.yml",
            "services: {job: {image: z, env_file: gone.env}}\n",
        );
        write("db/compose.yml", "services: {}\n");
        // Started with a second file, whose paths count from where the project is.
        write(
            "db/late.yml",
            "services: {late: {image: l, env_file: a.env}}\n",
        );
        for path in [
            "a.env",
            "b.env",
            ".env",
            "conf/nginx.conf",
            "../key.txt",
            "db/.env",
            "db/db.env",
        ] {
            write(path, "x");
        }
    }

    #[test]
    fn compose_files_lead_to_all_files_of_a_project() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("shop");
        lay_out(&root);
        let root_text = root.to_string_lossy().into_owned();
        let mut search = Search::new("shop", &root_text);
        search.add_of_label(Path::new("compose.yml"));
        search.add_of_label(Path::new("db/late.yml"));
        search.add_if_there(&search.working_dir.join(".env"));
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
                ("db/.env", FileRole::Environment),
                ("db/compose.yml", FileRole::Compose),
                ("db/db.env", FileRole::Environment),
                ("db/late.yml", FileRole::Compose),
                ("more.yml", FileRole::Compose),
                (outside.as_str(), FileRole::Secret),
            ]
        );
        let told = ["${NAME}", "gone.env", "secret token"];
        assert_eq!(findings.len(), told.len(), "{findings:?}");
        for told in told {
            assert!(
                findings.iter().any(|f| f.message.contains(told)),
                "{findings:?}"
            );
        }
    }
}
