//! Databases from their dumps.
//!
//! Invariant: a server whose dump was not loaded to its end is stopped again if this restore made
//! it; one that was there before is as it was before.

use std::io::{Cursor, Read};
use std::time::{Duration, Instant};

use refloat_database::{
    DumpRestore, Exec, HEAD_BYTES, Input, JUDGED_BYTES, PlacedContent, Recipe, RestoreStep,
};
use refloat_model::entry::Entry;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{Action, Step};
use refloat_model::progress::Counters;
use refloat_model::secret::Secret;
use refloat_model::tree_path::TreePath;
use serde_json::{Value, json};

use super::{Execution, Remarks};
use crate::client::{Command, EXPORT_TIMEOUT, Finished, encode};
use crate::definition::ContainerDefinition;
use crate::error::chain;
use crate::mask::Mask;
use crate::restore::archive::TarSink;
use crate::restore::failure::Failure;
use crate::restore::journal::gone;
use crate::restore::pipe;
use crate::restore::plan::{MISSING, beside, is_made, recipe};

/// How long a new server may take to answer: it makes its data folder first.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
const READY_POLL: Duration = Duration::from_millis(500);
/// How long a loading database may say nothing: it builds indexes in silence.
const SILENCE_MAX: Duration = Duration::from_secs(6 * 3600);

/// One database server and what is loaded into it.
struct Loading {
    container: ContainerDefinition,
    recipe: Recipe,
    mask: Mask,
    restores: Vec<(DumpRestore, TreePath, u64)>,
}

impl Execution<'_> {
    pub(super) fn restore_dump(&mut self, step: &Step) -> Result<Remarks, Failure> {
        if step.action == Action::Reuse {
            return Ok(vec!["an earlier run loaded it".to_owned()]);
        }
        if self.has_failed(ItemKind::Container, &step.name) {
            return Err(Failure::Needs("its server did not come back".to_owned()));
        }
        let loading = self.loading(&step.name)?;
        let name = loading.container.name.clone();
        self.tools
            .progress
            .phase(&format!("loading the dump of {name}"));
        // A server that this restore made is not one that was there before, whatever its data is.
        let existing = matches!(step.action, Action::Replace { .. }) && !self.makes(&step.name);
        self.journal.begin(ItemKind::Dump, &name)?;
        match self.load(&loading, existing) {
            Ok(remarks) => {
                self.journal.done(ItemKind::Dump, &name)?;
                self.tools
                    .progress
                    .item(&format!("dump {}", step.name), &Outcome::Saved);
                let (point, holding) = (self.tools.point, &self.tools.holding);
                if !existing && let Some(beside) = beside(point, holding, &self.reach, &step.name) {
                    let subject = format!("container {name}");
                    self.findings.push(Finding::error(subject, beside));
                }
                let keep_running = loading.container.started && !self.tools.request.leave_stopped;
                if !existing && !keep_running {
                    self.stop(&name)?;
                }
                Ok(remarks)
            }
            Err(failure) => {
                if !existing && let Err(stop) = self.stop(&name) {
                    let message = format!("it runs with half a database: {}", chain(&stop));
                    self.findings
                        .push(Finding::error(format!("container {name}"), message));
                }
                Err(failure)
            }
        }
    }

    /// Whether the plan makes the container.
    fn makes(&self, name: &str) -> bool {
        let mut steps = self.plan.steps.iter();
        steps.any(|step| {
            step.kind == ItemKind::Container && step.name == name && is_made(&step.action)
        })
    }

    fn loading(&self, name: &str) -> Result<Loading, Failure> {
        let lacks = |what: &str| Failure::Needs(format!("{MISSING}{what}"));
        let held = self
            .tools
            .holding
            .dumps
            .get(name)
            .ok_or_else(|| lacks("the dump"))?;
        let container = self.tools.holding.containers.get(name);
        let container = container
            .ok_or_else(|| lacks("its container"))?
            .definition
            .clone();
        let recipe = recipe(&container).ok_or_else(|| lacks("a recipe for its server"))?;
        let names: Vec<&str> = held
            .files
            .iter()
            .map(|(name, _, _)| name.as_str())
            .collect();
        let restores = recipe
            .restore(&names)?
            .into_iter()
            .filter_map(|restore| {
                let mut files = held.files.iter();
                let (_, path, size) = files.find(|(name, _, _)| *name == restore.file_name)?;
                Some((restore, path.clone(), *size))
            })
            .collect();
        let mask = Mask::of(container.environment());
        Ok(Loading {
            container,
            recipe,
            mask,
            restores,
        })
    }

    fn load(&mut self, loading: &Loading, existing: bool) -> Result<Remarks, Failure> {
        let name = &loading.container.name;
        let places = loading.restores.iter().any(|(restore, _, _)| {
            !restore.placed_files.is_empty() || !restore.removals.is_empty()
        });
        if places {
            self.stop(name)?;
            for (restore, path, size) in &loading.restores {
                if existing || !restore.removals.is_empty() {
                    self.remove_inside(loading, &restore.removals)?;
                }
                self.place(loading, restore, path, *size)?;
            }
        }
        self.start(name)?;
        self.await_ready(loading)?;
        self.check_placed(loading)?;
        self.run_all(loading, existing)?;
        self.run_step(loading, &loading.recipe.verify(), None)?;
        let bytes: u64 = loading.restores.iter().map(|(_, _, size)| size).sum();
        Counters::add(&self.tools.progress.counters().bytes_done, bytes);
        let titles: Vec<&str> = loading
            .restores
            .iter()
            .map(|(restore, _, _)| restore.database.as_deref().unwrap_or(&restore.file_name))
            .collect();
        Ok(vec![format!(
            "{} loaded, the server answers",
            titles.join(", ")
        )])
    }

    /// Asks a server that started on placed files whether it loaded them.
    fn check_placed(&self, loading: &Loading) -> Result<(), Failure> {
        for (restore, path, _) in &loading.restores {
            if restore.placed_files.is_empty() {
                continue;
            }
            let mut head = Vec::new();
            let dump = self.tools.point.open(path)?;
            dump.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
            let check = loading.recipe.check_placed(&restore.file_name, &head);
            if let Some(check) = check {
                self.run_step(loading, &check, None)?;
            }
        }
        Ok(())
    }

    /// Loads all files. One that is rejected does not keep the others out, and gets a second try:
    /// a view may need a table of a database that came after it. Where a dump drops what an
    /// existing server has and nothing brings it back, the first failure is the last.
    fn run_all(&self, loading: &Loading, existing: bool) -> Result<(), Failure> {
        let mut open: Vec<_> = loading.restores.iter().collect();
        let mut failures = Vec::new();
        for _try in 0..2 {
            failures.clear();
            for restore in std::mem::take(&mut open) {
                self.tools.cancel.check()?;
                let Err(failure) = self.run_steps(loading, &restore.0, &restore.1) else {
                    continue;
                };
                let is_harmless = !existing || !restore.0.undo.is_empty();
                let goes_on = failure.is_rejection() && is_harmless;
                failures.push(failure);
                open.push(restore);
                if !goes_on {
                    return Failure::all(failures).map_or(Ok(()), Err);
                }
            }
        }
        Failure::all(failures).map_or(Ok(()), Err)
    }

    /// Runs the steps of one file; if one is rejected, the database is brought back as it was.
    fn run_steps(
        &self,
        loading: &Loading,
        restore: &DumpRestore,
        path: &TreePath,
    ) -> Result<(), Failure> {
        for step in &restore.steps {
            if let Err(failure) = self.run_step(loading, step, Some(path)) {
                for undo in &restore.undo {
                    // The first failure is the one to tell; what cannot be undone stays begun in
                    // the journal, and the next run sets it aside again.
                    drop(self.run_step(loading, undo, None));
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    fn run_step(
        &self,
        loading: &Loading,
        step: &RestoreStep,
        path: Option<&TreePath>,
    ) -> Result<(), Failure> {
        let input: Option<Box<dyn Read + Send>> = match (&step.input, path) {
            (Input::None, _) | (Input::Dump { .. }, None) => None,
            (Input::Text(text), _) => Some(Box::new(Cursor::new(text.clone().into_bytes()))),
            (Input::Dump { suffix }, Some(path)) => {
                let dump = self.tools.point.open(path)?;
                Some(Box::new(dump.chain(suffix.as_bytes())))
            }
        };
        let (output, finished) = self.exec(loading, &step.exec, input)?;
        let judged = step.judge(finished.code, &output, &finished.complaint);
        judged.map_err(|rejected| {
            let said = loading.mask.apply(&finished.stderr);
            match said.trim() {
                "" => Failure::Rejected(rejected),
                said => Failure::RejectedSaying {
                    rejected,
                    said: said.to_owned(),
                },
            }
        })
    }

    fn exec(
        &self,
        loading: &Loading,
        exec: &Exec,
        input: Option<Box<dyn Read + Send>>,
    ) -> Result<(Vec<u8>, Finished), Failure> {
        let name = &loading.container.name;
        let environment: Vec<(&str, &Secret)> = exec
            .environment
            .iter()
            .map(|(name, value)| (*name, value))
            .collect();
        let command = Command {
            container: name,
            argv: &exec.argv,
            environment: &environment,
            input,
            silence_max: SILENCE_MAX,
        };
        let run = self
            .tools
            .client
            .run_for_its_end(command, JUDGED_BYTES, self.tools.cancel);
        run.map_err(Failure::engine(
            "run a command in",
            format!("container {name}"),
        ))
    }

    /// Waits until the server answers twice in a row: official images run a first server only to
    /// set up the data folder.
    fn await_ready(&self, loading: &Loading) -> Result<(), Failure> {
        let name = &loading.container.name;
        let begin = Instant::now();
        let unhealthy = |what: String| Failure::Unhealthy {
            container: name.clone(),
            what,
        };
        let mut answers = 0;
        while answers < 2 {
            self.tools.cancel.check()?;
            let inspect = self.inspect(name)?;
            let status = inspect.pointer("/State/Status").and_then(Value::as_str);
            if status == Some("exited") {
                let code = inspect.pointer("/State/ExitCode").and_then(Value::as_i64);
                return Err(unhealthy(format!("ended with exit status {code:?}")));
            }
            // While it starts, a command may fail in every way.
            let answered = self.exec(loading, &loading.recipe.readiness(), None);
            answers = match answered.is_ok_and(|(_, finished)| finished.code == Some(0)) {
                true => answers + 1,
                false => 0,
            };
            if begin.elapsed() > READY_TIMEOUT {
                let seconds = READY_TIMEOUT.as_secs();
                return Err(unhealthy(format!("does not answer after {seconds} s")));
            }
            std::thread::sleep(READY_POLL);
        }
        Ok(())
    }

    /// Puts the files of a dump where the server will look for them.
    fn place(
        &self,
        loading: &Loading,
        restore: &DumpRestore,
        path: &TreePath,
        size: u64,
    ) -> Result<(), Failure> {
        let name = &loading.container.name;
        for file in &restore.placed_files {
            let root = mount_above(&loading.container, &file.path);
            let owner = self.owner_of(name, &root)?;
            let below = file.path.strip_prefix(root.as_str()).unwrap_or(&file.path);
            let below = below.trim_start_matches('/');
            let (content, length): (Box<dyn Read + Send>, u64) = match &file.content {
                PlacedContent::Dump => (self.tools.point.open(path)?, size),
                PlacedContent::Text(text) => {
                    let bytes = text.clone().into_bytes();
                    (Box::new(Cursor::new(bytes.clone())), bytes.len() as u64)
                }
            };
            let target = format!(
                "/containers/{}/archive?path={}",
                encode(name),
                encode(&root)
            );
            pipe::stream(
                |output| {
                    let mut tar = TarSink::new(output, "");
                    let mut content = content;
                    let mut folder = TarFolder {
                        tar: &mut tar,
                        owner,
                    };
                    folder.put(below, length, &mut content)?;
                    Ok::<_, Failure>(tar.finish()?)
                },
                |body| {
                    let sent = self.tools.client.upload("PUT", &target, body);
                    sent.map_err(Failure::engine(
                        "place files in",
                        format!("container {name}"),
                    ))
                },
            )?;
        }
        Ok(())
    }

    /// User and group of a folder inside a container.
    fn owner_of(&self, container: &str, folder: &str) -> Result<(u32, u32), Failure> {
        let target = format!(
            "/containers/{}/archive?path={}",
            encode(container),
            encode(folder)
        );
        let stream = self
            .tools
            .client
            .download(&target, EXPORT_TIMEOUT, self.tools.cancel)
            .map_err(Failure::engine(
                "look at",
                format!("{folder} in container {container}"),
            ))?;
        let mut archive = tar::Archive::new(stream);
        let Some(entry) = archive.entries()?.next() else {
            return Ok((0, 0));
        };
        let entry = entry?;
        let number = |value: u64| u32::try_from(value).unwrap_or(0);
        Ok((number(entry.header().uid()?), number(entry.header().gid()?)))
    }

    /// Removes paths in a stopped container's volumes, by a container of the same image.
    fn remove_inside(&self, loading: &Loading, paths: &[String]) -> Result<(), Failure> {
        if paths.is_empty() {
            return Ok(());
        }
        let client = self.tools.client;
        let server = &loading.container;
        let helper = format!("refloat-remove-{}", server.name);
        let failed = |operation| Failure::engine(operation, format!("container {helper}"));
        let target = format!("/containers/{}?force=true&v=false", encode(&helper));
        gone(client.delete(&target)).map_err(failed("remove"))?;
        let mut words = vec!["-rf".to_owned(), "--".to_owned()];
        words.extend(paths.iter().cloned());
        let body = json!({
            "Image": server.image.id, "Entrypoint": ["rm"], "Cmd": words, "User": "0",
            "Labels": {crate::restore::LABEL_JOURNAL: self.tools.point.record().id.to_string()},
            "HostConfig": {"NetworkMode": "none", "VolumesFrom": [server.name]},
        });
        let create = format!("/containers/create?name={}", encode(&helper));
        client
            .post(&create, Some(&body))
            .map_err(failed("create"))?;
        let ran = self
            .start(&helper)
            .and_then(|()| self.await_completed(&helper));
        gone(client.delete(&target)).map_err(failed("remove"))?;
        ran
    }
}

/// Puts files into a tar with the folders above them, all of one owner.
struct TarFolder<'t, W: std::io::Write> {
    tar: &'t mut TarSink<W>,
    owner: (u32, u32),
}

impl<W: std::io::Write> TarFolder<'_, W> {
    fn put(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<(), Failure> {
        use refloat_model::entry::TreeSink as _;
        let stream =
            |error: refloat_model::entry::SinkError| Failure::Stream(std::io::Error::other(error));
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for folder in folders.split('/').filter(|f| !f.is_empty()) {
            let entry = self.owned(Entry::synthetic_directory(folder));
            self.tar.enter(entry).map_err(stream)?;
        }
        let entry = self.owned(Entry::synthetic_file(name, size));
        Ok(self.tar.content(&entry, content)?)
    }

    fn owned(&self, mut entry: Entry) -> Entry {
        (entry.metadata.uid, entry.metadata.gid) = self.owner;
        entry
    }
}

/// The innermost mount that holds `path`; the folder above it if there is none.
fn mount_above(container: &ContainerDefinition, path: &str) -> String {
    let mounts = container
        .mounts
        .iter()
        .map(|mount| mount.destination.trim_end_matches('/'));
    let above = mounts.filter(|mount| {
        path.strip_prefix(mount)
            .is_some_and(|rest| rest.starts_with('/'))
    });
    let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
    above
        .max_by_key(|mount| mount.len())
        .unwrap_or(parent)
        .to_owned()
}
