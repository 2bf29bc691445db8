//! Where a look may look, and what it could not see there.
//!
//! Objects are shown one by one as their pages come in: memory holds a few pages, whatever a
//! cluster holds.
//!
//! Invariant: an object that is not shown is not selected, or in a list that a problem names.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use refloat_model::finding::{Finding, Severity};
use serde_json::Value;

use super::{Members, selects};
use crate::client::{Api, List};
use crate::error::ApiError;
use crate::kept::Kept;
use crate::kind::Kind;
use crate::options::Options;
use crate::references::has_references;

/// Where a look may look.
pub(super) struct Scope<'a> {
    pub(super) api: &'a Api,
    pub(super) options: &'a Options,
    pub(super) namespaces: &'a BTreeSet<String>,
    /// What belongs to the selected applications, as far as that is known yet.
    pub(super) members: Option<&'a Members>,
    /// What keeps the objects that are shown, if anything does.
    pub(super) kept: Option<&'a RefCell<Kept>>,
}

/// Shows an object of a kind.
pub(super) type See<'a> = &'a dyn Fn(&Kind, Value);

/// What could not be seen, or not as it should be.
pub(super) struct Problem {
    kind: String,
    namespace: Option<String>,
    what: What,
}

enum What {
    /// The list broke, after so many objects.
    Broken(ApiError, usize),
    /// It was read in another version.
    Instead(ApiError, String),
    /// An expression cannot judge objects, so many, and why the first.
    Unjudged(usize, String),
}

impl Problem {
    pub(super) fn of(kind: &Kind, namespace: Option<&str>, error: ApiError) -> Self {
        Self {
            kind: kind.id(),
            namespace: namespace.map(str::to_owned),
            what: What::Broken(error, 0),
        }
    }

    /// Whether nothing at all of the list was seen.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.what, What::Broken(_, 0))
    }

    pub(super) const fn error_status(&self) -> Option<u16> {
        match &self.what {
            What::Broken(error, _) => error.status(),
            _ => None,
        }
    }

    /// The problem after all, once the kind was seen as `other`.
    pub(super) fn instead(mut self, other: &Kind) -> Self {
        if let What::Broken(error, _) = self.what {
            self.what = What::Instead(error, other.version.clone());
        }
        self
    }

    /// What it means for the question which objects belong to an application, if anything.
    pub(super) fn of_members(self, is_selected: bool) -> Option<Finding> {
        let What::Broken(error, _) = &self.what else {
            return None;
        };
        // Who gives no right to a kind that is not to be saved either does so on purpose.
        let is_withheld = error.is_forbidden() && !is_selected;
        let mut finding = self.finding();
        if is_withheld {
            finding.severity = Severity::Warning;
        }
        finding.message.push_str(
            ": what belongs to the selected applications, or is owned by such objects, may be \
             missing",
        );
        Some(finding)
    }

    pub(super) fn finding(self) -> Finding {
        let Self {
            kind,
            namespace,
            what,
        } = self;
        let place = namespace.map_or_else(String::new, |n| format!(" in {n}"));
        let (severity, message) = match what {
            What::Broken(error, _) if error.status() == Some(401) => (
                Severity::Error,
                format!(
                    "{kind}{place} cannot be listed: the server no longer accepts the credentials"
                ),
            ),
            What::Broken(error, _) if error.is_forbidden() => (
                Severity::Error,
                format!("these credentials cannot list {kind}{place}"),
            ),
            // What the server does not offer to list is not there to be captured.
            What::Broken(error, _) if matches!(error.status(), Some(404 | 405)) => (
                Severity::Note,
                format!("{kind}{place} cannot be listed: {error}"),
            ),
            What::Broken(error, _) => (
                Severity::Error,
                format!("{kind}{place} cannot be listed: {error}"),
            ),
            What::Instead(error, version) => (
                Severity::Warning,
                format!(
                    "{kind}{place} cannot be had in the preferred version ({error}): saved as \
                     {version}, which is served"
                ),
            ),
            What::Unjudged(count, why) => (
                Severity::Warning,
                format!(
                    "the expression cannot judge {count} {kind}{place}, which are saved: {why}"
                ),
            ),
        };
        Finding {
            severity,
            subject: kind,
            message,
        }
    }
}

impl Scope<'_> {
    /// Shows the selected objects of a kind.
    pub(super) async fn list(&self, kind: &Kind, see: See<'_>) -> Vec<Problem> {
        let unjudged: Cell<usize> = Cell::default();
        let why: Cell<Option<String>> = Cell::default();
        let judge = |kind: &Kind, object: Value| {
            if self
                .members
                .is_some_and(|members| !members.has(kind, &object))
            {
                return;
            }
            match self.options.judges(kind, &object) {
                Ok(false) => return,
                Ok(true) => {}
                Err(reason) => {
                    unjudged.set(unjudged.get() + 1);
                    why.set(Some(why.take().unwrap_or(reason)));
                }
            }
            see(kind, object);
        };
        let mut problems = self.all(kind, &judge).await;
        if let Some(why) = why.take() {
            problems.push(Problem {
                kind: kind.id(),
                namespace: None,
                what: What::Unjudged(unjudged.get(), why),
            });
        }
        problems
    }

    /// Shows the objects of a kind that are selected by name, label and namespace.
    pub(super) async fn all(&self, kind: &Kind, see: See<'_>) -> Vec<Problem> {
        if kind.namespaced && !self.options.is_everywhere() {
            return self.by_namespace(kind, see).await.0;
        }
        match self.part(kind, None, see).await {
            (_, Ok(())) => Vec::new(),
            (0, Err(error)) if error.is_forbidden() && kind.namespaced => {
                let (problems, seen) = self.by_namespace(kind, see).await;
                // Who is let into one namespace has seen that there is nothing.
                if seen == 0 && problems.len() == self.namespaces.len() {
                    return vec![Problem::of(kind, None, error)];
                }
                problems
            }
            (seen, Err(error)) => vec![Problem {
                what: What::Broken(error, seen),
                kind: kind.id(),
                namespace: None,
            }],
        }
    }

    async fn by_namespace(&self, kind: &Kind, see: See<'_>) -> (Vec<Problem>, usize) {
        let (mut problems, mut all) = (Vec::new(), 0);
        for namespace in self.namespaces {
            let (seen, result) = self.part(kind, Some(namespace), see).await;
            all += seen;
            if let Err(error) = result {
                problems.push(Problem {
                    what: What::Broken(error, seen),
                    kind: kind.id(),
                    namespace: Some(namespace.clone()),
                });
            }
        }
        (problems, all)
    }

    /// One list; also how many objects it had until it ended or broke.
    async fn part(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        see: See<'_>,
    ) -> (usize, Result<(), ApiError>) {
        let is_namespace = kind.id() == "namespaces";
        let labels = self.options.labels.as_deref().filter(|_| !is_namespace);
        let mut list = List::new(self.api, kind, namespace).labels(labels);
        let is_whole = has_references(&kind.id()) || is_namespace || self.options.reads_fields();
        if !is_whole && !self.keeps() {
            list = list.metadata_only();
        }
        let mut seen = 0;
        let result = loop {
            let page = match list.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            seen += page.objects.len();
            for object in page.objects {
                if selects(self.options, self.namespaces, kind, &object) {
                    see(kind, object);
                }
            }
        };
        // What is not of one version, or not all, is better read again.
        if let Some(kept) = self.kept {
            if result.is_err() || list.is_torn {
                kept.borrow_mut().forget(kind, namespace);
            }
            kept.borrow_mut().close(kind);
        }
        (seen, result)
    }

    fn keeps(&self) -> bool {
        self.kept.is_some_and(|kept| kept.borrow().has_room())
    }
}
