//! What was asked for by name or pattern and is not there, and what need not be there.
//!
//! Invariant: a setting that selects nothing is told: it may be a slip, and then all of a kind or a
//! namespace is not saved.

use std::collections::BTreeSet;

use refloat_model::finding::{Finding, Severity};
use refloat_model::glob::Glob;

use crate::catalogue::Catalogue;
use crate::options::Options;

/// Groups that hold measurements, not objects.
const MEASUREMENTS: &str = "metrics.k8s.io";

/// What has a meaning of its own in a pattern.
const SIGNS: [char; 6] = ['*', '?', '[', ']', '{', '}'];

/// Groups that the server announces and cannot serve now.
pub(super) fn unavailable(
    catalogue: &Catalogue,
    options: &Options,
) -> impl Iterator<Item = Finding> {
    catalogue.unavailable.iter().map(|(name, why)| Finding {
        severity: if name.contains(MEASUREMENTS) || !wants_group(options, name) {
            Severity::Note
        } else {
            Severity::Error
        },
        subject: name.clone(),
        message: format!("the API server cannot serve this group now: {why}"),
    })
}

/// Whether kinds of a group, `example.org/v1`, may be selected: what it has cannot be asked.
fn wants_group(options: &Options, name: &str) -> bool {
    let (group, _) = name.rsplit_once('/').unwrap_or((name, ""));
    // A pattern that fits whatever comes before the group leaves out, or selects, all of it.
    let any = format!("\u{1}.{group}");
    let is_excluded = options.exclude_kinds.iter().any(|glob| glob.matches(&any));
    let may_fit = |glob: &Glob| {
        let tail = glob.pattern().rsplit(SIGNS).next().unwrap_or_default();
        let end = format!(".{group}");
        let is_literal = tail == glob.pattern();
        tail.ends_with(&end) || (!is_literal && end.ends_with(tail))
    };
    !is_excluded && (options.kinds.is_empty() || options.kinds.iter().any(may_fit))
}

/// Whether a kind that is named may be of a group that cannot be served now, which is told by itself.
fn is_of_unavailable(catalogue: &Catalogue, glob: &Glob) -> bool {
    let mut groups = catalogue.unavailable.iter();
    groups.any(|(name, _)| {
        let (group, _) = name.rsplit_once('/').unwrap_or((name, ""));
        let kind = glob.pattern().split_once('.');
        kind.is_some_and(|(_, of)| of == group)
    })
}

/// Patterns of kinds that fit none that the server has.
pub(super) fn unfitting_kinds<'a>(
    options: &'a Options,
    catalogue: &'a Catalogue,
) -> impl Iterator<Item = Finding> + 'a {
    let fits = |glob: &Glob| catalogue.kinds.iter().any(|kind| glob.matches(&kind.id()));
    let is_told = |glob: &Glob| is_of_unavailable(catalogue, glob);
    let patterns = options.kinds.iter();
    let unfitting = patterns.filter(move |glob| !fits(glob) && !is_told(glob));
    unfitting.map(|glob| {
        let pattern = glob.pattern();
        let meant = catalogue
            .preferred()
            .find(|kind| kind.kind.eq_ignore_ascii_case(pattern) || kind.resource == pattern);
        let hint = meant.map_or_else(String::new, |kind| format!("; it has {}", kind.id()));
        let message = format!("the server has no kind {pattern}, so none is saved{hint}");
        Finding::of_misfit("kinds", glob, message)
    })
}

/// Patterns of namespaces that fit none of `names`, which are all that there are.
pub(super) fn unfitting_namespaces<'a>(
    options: &'a Options,
    names: &'a [&str],
) -> impl Iterator<Item = Finding> + 'a {
    let fits = |glob: &Glob| names.iter().any(|name| glob.matches(name));
    let patterns = options.namespaces.iter().flat_map(|n| &n.names);
    patterns.filter(move |glob| !fits(glob)).map(|glob| {
        let pattern = glob.pattern();
        let message = format!("the cluster has no namespace {pattern}, so nothing of it is saved");
        Finding::of_misfit("namespaces", glob, message)
    })
}

/// Labels that no namespace has, of those that are selected by name: those that fit none are told one by
/// one.
pub(super) fn no_namespace(
    options: &Options,
    names: &[&str],
    wanted: &BTreeSet<String>,
) -> Option<Finding> {
    let has_labels = options.namespaces.iter().any(|n| !n.labels.is_empty());
    let is_named = names
        .iter()
        .any(|name| options.selects_namespace_name(name));
    (wanted.is_empty() && has_labels && is_named).then(|| {
        let message = "no namespace has the labels that are selected, so no object in a namespace is \
                       saved";
        Finding::error("namespaces", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Access;
    use crate::options::Namespaces;
    use serde_json::json;

    #[test]
    fn labels_that_no_namespace_has_are_an_error() {
        let check = |labels: bool, names: &[&str], wanted: &[&str]| {
            let mut options = Options::new(Access::InCluster);
            options.namespaces = vec![Namespaces {
                names: globs(names),
                labels: labels
                    .then(|| ("tier".into(), "gold".into()))
                    .into_iter()
                    .collect(),
                ..Namespaces::default()
            }];
            let wanted = wanted.iter().map(|&name| name.to_owned()).collect();
            no_namespace(&options, &["shop"], &wanted).map(|finding| finding.severity)
        };
        assert_eq!(check(true, &[], &[]), Some(Severity::Error));
        assert_eq!(check(true, &[], &["shop"]), None);
        // Told by itself, and of a pattern with a wildcard as a warning.
        assert_eq!(check(true, &["preview-*"], &[]), None);
        assert_eq!(check(false, &["preview-*"], &[]), None);
    }

    fn globs(patterns: &[&str]) -> Vec<Glob> {
        patterns.iter().map(|p| Glob::new(p).unwrap()).collect()
    }

    fn options(kinds: &[&str], exclude: &[&str]) -> Options {
        let mut options = Options::new(Access::InCluster);
        options.kinds = globs(kinds);
        options.exclude_kinds = globs(exclude);
        options
    }

    #[test]
    fn a_group_that_is_down_is_an_error_only_if_it_may_be_wanted() {
        let catalogue = Catalogue {
            unavailable: vec![("dead.example.org/v1".into(), "503".into())],
            ..Catalogue::default()
        };
        let check = |kinds: &[&str], exclude: &[&str], severity| {
            let options = options(kinds, exclude);
            let findings: Vec<Finding> = unavailable(&catalogue, &options).collect();
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].severity, severity, "{kinds:?} {exclude:?}");
        };
        for kinds in [
            "*",
            "thing*",
            "*.example.org",
            "things.dead.example.org",
            "*s",
        ] {
            let is_wanted = if kinds == "*s" {
                Severity::Note
            } else {
                Severity::Error
            };
            check(&[kinds], &[], is_wanted);
        }
        check(&[], &[], Severity::Error);
        check(
            &["secrets", "*.apps", "deployments.apps"],
            &[],
            Severity::Note,
        );
        check(&[], &["*.dead.example.org"], Severity::Note);
        check(&[], &["*.example.org"], Severity::Note);
        // Whether it has other kinds is not known.
        check(&[], &["things.dead.example.org"], Severity::Error);
    }

    #[test]
    fn patterns_that_fit_nothing_are_told() {
        let list = json!({"resources": [
            {"name": "secrets", "kind": "Secret", "namespaced": true, "verbs": ["list"]},
            {"name": "configmaps", "kind": "ConfigMap", "namespaced": true, "verbs": ["list"]}]});
        let mut catalogue = Catalogue::of_group("", "v1", &list);
        catalogue.unavailable = vec![("dead.example.org/v1".into(), "503".into())];
        let kinds = ["secret", "config*", "x*", "things.dead.example.org"];
        let mut options = options(&kinds, &["nothing"]);
        let messages = |findings: Vec<Finding>| {
            let all = findings.into_iter();
            all.map(|f| (f.severity, f.message)).collect::<Vec<_>>()
        };
        let error = |message: &str| (Severity::Error, message.to_owned());
        let warning = |message: &str| (Severity::Warning, message.to_owned());
        assert_eq!(
            messages(unfitting_kinds(&options, &catalogue).collect()),
            [
                error("the server has no kind secret, so none is saved; it has secrets"),
                warning("the server has no kind x*, so none is saved"),
            ]
        );
        options.namespaces = vec![Namespaces {
            names: globs(&["shop*", "pay", "preview-*"]),
            ..Namespaces::default()
        }];
        assert_eq!(
            messages(unfitting_namespaces(&options, &["shop-a", "default"]).collect()),
            [
                error("the cluster has no namespace pay, so nothing of it is saved"),
                warning("the cluster has no namespace preview-*, so nothing of it is saved"),
            ]
        );
    }
}
