//! A look at everything a cluster holds, changing nothing.
//!
//! What a capture will want is read whole and kept for it, as far as there is room. Beyond, kinds
//! whose references matter are read whole, all others (Secrets, ConfigMaps, custom resources) by
//! metadata only.
//!
//! Invariant: what cannot be seen is a finding; what is not selected is not looked at.

mod images;
mod inventory;
mod members;
mod placement;
mod scope;
mod settings;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, StreamExt};
use refloat_model::finding::Finding;
use refloat_model::item::{Inventory, Placement};
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::client::{Api, Call, List};
use crate::error::ApiError;
use crate::kept::{Kept, KeptFolder};
use crate::kind::{Kind, annotation, label, name, namespace, text};
use crate::layout::Folder;
use crate::options::{Options, Versions};
use crate::references::{Reference, references};
use crate::rules::{Rule, Surroundings, kind_rule, object_rule};
use crate::saved::SavedObject;
use images::{Platforms, Running};
pub(crate) use members::Members;
use scope::{Problem, Scope};

/// How many kinds are listed at once. More would only queue in the server.
const LISTS_AT_ONCE: usize = 8;

/// What a look found.
pub(crate) struct Look {
    pub(crate) catalogue: Catalogue,
    pub(crate) around: Surroundings,
    pub(crate) inventory: Inventory,
    /// The selected namespaces.
    namespaces: BTreeSet<String>,
    /// What belongs to the selected applications; none if all objects are selected.
    members: Option<Members>,
    objects: BTreeMap<Folder, usize>,
    kept: Mutex<Kept>,
}

impl Look {
    /// How many objects a folder held.
    pub(crate) fn objects(&self, folder: &Folder) -> usize {
        self.objects.get(folder).copied().unwrap_or(0)
    }

    /// What was kept of a folder, once; none if it must be read.
    pub(crate) fn take_kept(&self, folder: &Folder) -> Option<KeptFolder> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take(folder)
    }

    /// Whether a policy selects an object. One that the expression cannot judge is selected: the
    /// look has said so.
    pub(crate) fn selects(&self, options: &Options, kind: &Kind, object: &Value) -> bool {
        selects(options, &self.namespaces, kind, object)
            && self.members.as_ref().is_none_or(|m| m.has(kind, object))
            && options.judges(kind, object).unwrap_or(true)
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
    /// Claims that name no application, and what they refer to: their StatefulSet may be of one.
    claims: BTreeMap<String, BTreeSet<Reference>>,
    skipped: BTreeMap<Rule, Vec<String>>,
    naked_pods: Vec<String>,
}

/// An application's objects in one folder.
#[derive(Default)]
struct Application {
    names: Vec<String>,
    references: BTreeSet<Reference>,
}

/// What runs of an image, by namespace and the image as it is written there.
type Digests = BTreeMap<(String, String), BTreeSet<Running>>;

/// Everything seen so far.
#[derive(Default)]
struct Sight {
    folders: BTreeMap<Folder, Seen>,
    placements: Vec<Placement>,
    digests: Digests,
    platforms: Platforms,
    findings: Vec<Finding>,
    skipped_kinds: Vec<(Kind, Rule)>,
}

/// Looks at everything `options` select.
pub(crate) async fn look(api: &Api, source: &str, options: &Options) -> Result<Look, ApiError> {
    let catalogue = Catalogue::read(api).await?;
    let mut sight = Sight::default();
    let findings = settings::unavailable(&catalogue, options);
    sight.findings.extend(findings);
    let findings = settings::unfitting_kinds(options, &catalogue);
    sight.findings.extend(findings);
    let namespaces = namespaces(api, options, &catalogue, &mut sight).await?;
    let around = surroundings(api, options, &catalogue, &namespaces).await;
    let kinds = kinds(options, &catalogue, &mut sight);
    let custom = custom_kinds(api, &catalogue).await;
    let kept = RefCell::new(Kept::up_to(options.kept_bytes_max));
    let mut scope = Scope {
        api,
        options,
        namespaces: &namespaces,
        members: None,
        kept: None,
    };
    let (members, unsure) = members::find(&scope, &catalogue).await;
    sight.findings.extend(unsure);
    scope.members = members.as_ref();
    scope.kept = Some(&kept);
    let sight = RefCell::new(sight);
    let see = |kind: &Kind, object: Value| {
        if let Some(folder) = sight.borrow_mut().see(kind, &object, &around, &custom) {
            let make = || SavedObject::of(object);
            kept.borrow_mut().add(&folder, make);
        }
    };
    let mut lists = stream::iter(kinds.iter().map(|kind| async {
        let mut problems = scope.list(kind, &see).await;
        if options.versions == Versions::Preferred {
            problems = otherwise(&scope, &catalogue, kind, problems, &see).await;
        }
        problems
    }))
    .buffer_unordered(LISTS_AT_ONCE);
    while let Some(problems) = lists.next().await {
        let findings = problems.into_iter().map(Problem::finding);
        sight.borrow_mut().findings.extend(findings);
    }
    drop(lists);
    let sight = sight.into_inner();
    kept.borrow_mut().finish();
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
        members,
        objects,
        kept: Mutex::new(kept.into_inner()),
    })
}

/// A kind that the server cannot convert into its preferred version (the webhook that does it is
/// down) may still be had in the version it is stored in.
async fn otherwise(
    scope: &Scope<'_>,
    catalogue: &Catalogue,
    kind: &Kind,
    problems: Vec<Problem>,
    see: scope::See<'_>,
) -> Vec<Problem> {
    let is_broken = |p: &Problem| p.is_whole() && p.error_status() == Some(500);
    if problems.is_empty() || !problems.iter().all(is_broken) {
        return problems;
    }
    let others = catalogue.versions(&kind.group, &kind.resource);
    for other in others.filter(|other| other.version != kind.version && other.can("list")) {
        if scope.list(other, see).await.is_empty() {
            let in_place = problems.into_iter().map(|p| p.instead(other));
            return in_place.collect();
        }
    }
    problems
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
        Ok(all) => {
            let names: Vec<&str> = all.iter().map(name).collect();
            let findings = settings::unfitting_namespaces(options, &names);
            sight.findings.extend(findings);
            let wanted = all.iter().filter(|o| options.selects_namespace(o));
            let wanted: BTreeSet<String> = wanted.map(|o| name(o).to_owned()).collect();
            sight
                .findings
                .extend(settings::no_namespace(options, &names, &wanted));
            Ok(wanted)
        }
        Err(error) if error.is_forbidden() => {
            sight
                .findings
                .push(Problem::of(kind, None, error).finding());
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
    let around = RefCell::new(Surroundings::default());
    if let Some(kind) = catalogue.find("", "v1", "services") {
        let scope = Scope {
            api,
            options,
            namespaces,
            members: None,
            kept: None,
        };
        let see = |_: &Kind, service: Value| {
            if let Some(space) = namespace(&service)
                && service.pointer("/spec/selector").is_some()
            {
                let key = (space.to_owned(), name(&service).to_owned());
                around.borrow_mut().selecting_services.insert(key);
            }
        };
        let _told_again_later = scope.all(kind, &see).await;
    }
    around.into_inner()
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

/// The application an object belongs to, as Helm or the recommended labels say; Helm's own record
/// of a release belongs to it too.
pub(crate) fn application(object: &Value) -> Option<&str> {
    const RELEASE: &str = "sh.helm.release.v1.";
    annotation(object, "meta.helm.sh/release-name")
        .or_else(|| {
            let is_record = name(object).starts_with(RELEASE);
            label(object, "name").filter(|_| is_record && label(object, "owner") == Some("helm"))
        })
        .or_else(|| label(object, "app.kubernetes.io/instance"))
        .or_else(|| label(object, "app.kubernetes.io/name"))
}
