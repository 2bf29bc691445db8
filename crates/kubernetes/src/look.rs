//! A look at everything a cluster holds, changing nothing.
//!
//! Kinds whose references matter are read whole, all others (Secrets, ConfigMaps, custom
//! resources) by metadata only.
//!
//! Invariant: what cannot be seen is a finding; what is not selected is not looked at.

mod inventory;
mod placement;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use refloat_model::finding::{Finding, Severity};
use refloat_model::item::{Inventory, Placement};
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::client::{Api, Call, List};
use crate::error::ApiError;
use crate::kind::{Kind, annotation, label, name, namespace, text};
use crate::layout::Folder;
use crate::options::{Options, Versions};
use crate::references::{Reference, has_references, references};
use crate::rules::{Rule, Surroundings, kind_rule, object_rule};

/// How many kinds are listed at once. More would only queue in the server.
const LISTS_AT_ONCE: usize = 8;

/// What a look found.
pub(crate) struct Look {
    pub(crate) catalogue: Catalogue,
    pub(crate) around: Surroundings,
    pub(crate) inventory: Inventory,
    /// The selected namespaces.
    namespaces: BTreeSet<String>,
    objects: BTreeMap<Folder, usize>,
}

impl Look {
    /// How many objects a folder held.
    pub(crate) fn objects(&self, folder: &Folder) -> usize {
        self.objects.get(folder).copied().unwrap_or(0)
    }

    /// Whether a policy selects an object.
    pub(crate) fn selects(&self, options: &Options, kind: &Kind, object: &Value) -> bool {
        selects(options, &self.namespaces, kind, object)
    }
}

fn selects(options: &Options, spaces: &BTreeSet<String>, kind: &Kind, object: &Value) -> bool {
    if kind.id() == "namespaces" {
        return spaces.contains(name(object));
    }
    namespace(object).is_none_or(|space| spaces.contains(space))
        && options.selects_object(name(object))
}

/// One folder of objects as it was seen.
#[derive(Default)]
struct Seen {
    names: Vec<String>,
    references: BTreeSet<Reference>,
    /// By application: its own objects, and what they refer to.
    applications: BTreeMap<String, Application>,
    skipped: BTreeMap<Rule, Vec<String>>,
    naked_pods: Vec<String>,
}

/// An application's objects in one folder.
#[derive(Default)]
struct Application {
    names: Vec<String>,
    references: BTreeSet<Reference>,
}

/// Which digests of an image run, by namespace and the image as it is written there.
type Digests = BTreeMap<(String, String), BTreeSet<String>>;

/// Everything seen so far.
#[derive(Default)]
struct Sight {
    folders: BTreeMap<Folder, Seen>,
    placements: Vec<Placement>,
    digests: Digests,
    findings: Vec<Finding>,
    skipped_kinds: Vec<(Kind, Rule)>,
}

/// Looks at everything `options` select.
pub(crate) async fn look(api: &Api, source: &str, options: &Options) -> Result<Look, ApiError> {
    let catalogue = Catalogue::read(api).await?;
    let mut sight = Sight::default();
    sight.findings.extend(unavailable(&catalogue));
    let namespaces = namespaces(api, options, &catalogue, &mut sight).await?;
    let around = surroundings(api, options, &catalogue, &namespaces).await;
    let kinds = kinds(options, &catalogue, &mut sight);
    let custom = custom_kinds(api, &catalogue).await;
    let mut lists = stream::iter(kinds.iter().map(|kind| {
        let scope = Scope {
            api,
            options,
            namespaces: &namespaces,
        };
        async move { (*kind, scope.list(kind).await) }
    }))
    .buffer_unordered(LISTS_AT_ONCE);
    while let Some((kind, (objects, problems))) = lists.next().await {
        sight.findings.extend(problems);
        for object in objects {
            sight.see(kind, &object, &around, &custom);
        }
    }
    drop(lists);
    let identity = api.call(&Call::get("/api/v1/namespaces/kube-system")).await;
    let identity = identity
        .ok()
        .and_then(|o| text(&o, "/metadata/uid").map(str::to_owned));
    let objects = sight
        .folders
        .iter()
        .map(|(folder, seen)| (folder.clone(), seen.names.len()))
        .collect();
    let inventory = sight.inventory(source, &catalogue, identity);
    Ok(Look {
        catalogue,
        around,
        inventory,
        namespaces,
        objects,
    })
}

/// Groups that hold measurements, not objects.
const MEASUREMENTS: &str = "metrics.k8s.io";

fn unavailable(catalogue: &Catalogue) -> impl Iterator<Item = Finding> {
    catalogue.unavailable.iter().map(|(group, why)| Finding {
        severity: if group.contains(MEASUREMENTS) {
            Severity::Note
        } else {
            Severity::Error
        },
        subject: group.clone(),
        message: format!("the API server cannot serve this group now: {why}"),
    })
}

fn cannot_list(kind: &Kind, namespace: Option<&str>, error: &ApiError) -> Finding {
    let place = namespace.map_or_else(String::new, |n| format!(" in {n}"));
    let message = if error.is_forbidden() {
        format!("these credentials cannot list {}{place}", kind.id())
    } else {
        format!("{}{place} cannot be listed: {error}", kind.id())
    };
    // What the server does not offer to list is not there to be captured.
    let severity = if matches!(error.status(), Some(404 | 405)) {
        Severity::Note
    } else {
        Severity::Error
    };
    Finding {
        severity,
        subject: kind.id(),
        message,
    }
}

/// The kinds to look at.
fn kinds<'a>(options: &Options, catalogue: &'a Catalogue, sight: &mut Sight) -> Vec<&'a Kind> {
    let mut chosen = Vec::new();
    let served: Vec<&Kind> = match options.versions {
        Versions::Preferred => catalogue.preferred().collect(),
        Versions::All => catalogue.kinds.iter().collect(),
    };
    for kind in served {
        if !kind.can("list") || !options.selects_kind(kind) {
            continue;
        }
        match kind_rule(kind) {
            Some(rule) => sight.skipped_kinds.push((kind.clone(), rule)),
            None => chosen.push(kind),
        }
    }
    chosen
}

/// The names of the selected namespaces.
async fn namespaces(
    api: &Api,
    options: &Options,
    catalogue: &Catalogue,
    sight: &mut Sight,
) -> Result<BTreeSet<String>, ApiError> {
    let Some(kind) = catalogue.find("", "v1", "namespaces") else {
        return Err(ApiError::Incomplete("namespaces"));
    };
    match List::new(api, kind, None).all().await {
        Ok(all) => Ok(all
            .iter()
            .filter(|o| options.selects_namespace(o))
            .map(|o| name(o).to_owned())
            .collect()),
        Err(error) if error.is_forbidden() => {
            sight.findings.push(cannot_list(kind, None, &error));
            // Credentials of one namespace: what is named without a pattern can still be read.
            Ok(options.named_namespaces().map(str::to_owned).collect())
        }
        Err(error) => Err(error),
    }
}

/// What rules must know. A failure here shows again when the services themselves are listed.
async fn surroundings(
    api: &Api,
    options: &Options,
    catalogue: &Catalogue,
    namespaces: &BTreeSet<String>,
) -> Surroundings {
    let mut around = Surroundings::default();
    if let Some(kind) = catalogue.find("", "v1", "services") {
        let scope = Scope {
            api,
            options,
            namespaces,
        };
        let (services, _) = scope.list(kind).await;
        around.selecting_services = services
            .iter()
            .filter(|service| service.pointer("/spec/selector").is_some())
            .filter_map(|service| Some((namespace(service)?.to_owned(), name(service).to_owned())))
            .collect();
    }
    around
}

/// The names of the definitions of custom resources: `widgets.example.org`.
async fn custom_kinds(api: &Api, catalogue: &Catalogue) -> BTreeSet<String> {
    let group = "apiextensions.k8s.io";
    let Some(kind) = catalogue
        .versions(group, "customresourcedefinitions")
        .next()
    else {
        return BTreeSet::new();
    };
    // Without the right to see definitions nothing refers to them; the finding is made elsewhere.
    let all = List::new(api, kind, None).metadata_only().all().await;
    all.unwrap_or_default()
        .iter()
        .map(|o| name(o).to_owned())
        .collect()
}

/// Where a look may look.
struct Scope<'a> {
    api: &'a Api,
    options: &'a Options,
    namespaces: &'a BTreeSet<String>,
}

impl Scope<'_> {
    /// The selected objects of a kind, and what could not be listed.
    async fn list(&self, kind: &Kind) -> (Vec<Value>, Vec<Finding>) {
        if !kind.namespaced || self.options.is_everywhere() {
            match self.part(kind, None).await {
                Ok(objects) => return (objects, Vec::new()),
                Err(error) if error.is_forbidden() && kind.namespaced => {
                    let (objects, problems) = self.by_namespace(kind).await;
                    if objects.is_empty() {
                        return (objects, vec![cannot_list(kind, None, &error)]);
                    }
                    return (objects, problems);
                }
                Err(error) => return (Vec::new(), vec![cannot_list(kind, None, &error)]),
            }
        }
        self.by_namespace(kind).await
    }

    async fn by_namespace(&self, kind: &Kind) -> (Vec<Value>, Vec<Finding>) {
        let (mut objects, mut problems) = (Vec::new(), Vec::new());
        for namespace in self.namespaces {
            match self.part(kind, Some(namespace)).await {
                Ok(part) => objects.extend(part),
                Err(error) => problems.push(cannot_list(kind, Some(namespace), &error)),
            }
        }
        (objects, problems)
    }

    async fn part(&self, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Value>, ApiError> {
        let is_namespace = kind.id() == "namespaces";
        let labels = self.options.labels.as_deref().filter(|_| !is_namespace);
        let mut list = List::new(self.api, kind, namespace).labels(labels);
        let is_whole = has_references(&kind.id()) || is_namespace;
        if !is_whole {
            list = list.metadata_only();
        }
        let mut objects = Vec::new();
        while let Some(page) = list.next().await? {
            let selected = page
                .objects
                .into_iter()
                .filter(|object| selects(self.options, self.namespaces, kind, object))
                .map(slim);
            objects.extend(selected);
        }
        Ok(objects)
    }
}

/// Drops what a look has no use for and what is long.
fn slim(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    object
}

/// The application an object belongs to, as Helm or the recommended labels say.
pub(crate) fn application(object: &Value) -> Option<&str> {
    annotation(object, "meta.helm.sh/release-name")
        .or_else(|| label(object, "app.kubernetes.io/instance"))
        .or_else(|| label(object, "app.kubernetes.io/name"))
}
