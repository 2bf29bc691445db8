//! What an API server serves: groups, versions and resources, aggregated APIs included.
//!
//! Invariant: a group that could not be asked is in `unavailable`, never silently absent.

use futures_util::future::join_all;
use serde_json::Value;

use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::{Kind, text};

/// All kinds of one server.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Every kind in every version it is served in; the versions of a kind in the server's order,
    /// its preferred one first.
    pub kinds: Vec<Kind>,
    /// Group versions that the server announces and cannot serve now, with the reason: usually an
    /// aggregated API whose service is down.
    pub unavailable: Vec<(String, String)>,
    /// `v1.20.2`.
    pub server_version: String,
}

impl Catalogue {
    /// Asks the server.
    pub(crate) async fn read(api: &Api) -> Result<Self, ApiError> {
        let version = api.call(&Call::get("/version")).await?;
        let core = api.call(&Call::get("/api")).await?;
        let groups = api.call(&Call::get("/apis")).await?;
        let group_versions = group_versions(&core, &groups);
        let lists = join_all(group_versions.iter().map(|(group, version)| {
            let path = if group.is_empty() {
                format!("/api/{version}")
            } else {
                format!("/apis/{group}/{version}")
            };
            // Few attempts: a service that is down stays down, and every group waits for it.
            async move { api.call(&Call::get(path).attempts(2)).await }
        }))
        .await;
        let mut catalogue = Self {
            server_version: text(&version, "/gitVersion").unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for ((group, version), list) in group_versions.iter().zip(lists) {
            match list {
                Ok(list) => catalogue.kinds.extend(kinds(group, version, &list)),
                Err(error) => {
                    let name = format!("{group}/{version}");
                    catalogue.unavailable.push((name, error.to_string()));
                }
            }
        }
        Ok(catalogue)
    }

    /// The kinds of one group version, from its own answer.
    pub(crate) fn of_group(group: &str, version: &str, list: &Value) -> Self {
        Self {
            kinds: kinds(group, version, list),
            ..Self::default()
        }
    }

    /// Every kind once, in the version the server prefers among those that serve it.
    pub fn preferred(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter().enumerate().filter_map(|(index, kind)| {
            let is_first = !self.kinds[..index].iter().any(|k| same(k, kind));
            is_first.then_some(kind)
        })
    }

    /// The versions a kind is served in, the preferred one first.
    pub fn versions<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
    ) -> impl Iterator<Item = &'a Kind> {
        self.kinds
            .iter()
            .filter(move |k| k.group == group && k.resource == resource)
    }

    /// A kind in one version.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|k| k.group == group && k.version == version && k.resource == resource)
    }

    /// The kind that documents call `kind` in `api_version`.
    #[must_use]
    pub fn of_document(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|k| k.kind == kind && k.api_version() == api_version)
    }
}

fn same(a: &Kind, b: &Kind) -> bool {
    a.group == b.group && a.resource == b.resource
}

pub(crate) fn group_versions(core: &Value, groups: &Value) -> Vec<(String, String)> {
    let strings = |value: &Value| value.as_str().map(str::to_owned);
    let core = elements(core, "versions").filter_map(strings);
    let mut found: Vec<_> = core.map(|version| (String::new(), version)).collect();
    for group in elements(groups, "groups") {
        let name = text(group, "/name").unwrap_or_default();
        let preferred = text(group, "/preferredVersion/version");
        let versions = || elements(group, "versions").filter_map(|v| text(v, "/version"));
        let ordered = preferred
            .into_iter()
            .chain(versions().filter(|version| Some(*version) != preferred));
        found.extend(ordered.map(|version| (name.to_owned(), version.to_owned())));
    }
    found
}

fn elements<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn kinds(group: &str, version: &str, list: &Value) -> Vec<Kind> {
    elements(list, "resources")
        .filter_map(|resource| {
            let name = text(resource, "/name")?;
            // `deployments/scale` is a way to look at a deployment, no kind of its own.
            if name.contains('/') {
                return None;
            }
            Some(Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                resource: name.to_owned(),
                kind: text(resource, "/kind")?.to_owned(),
                namespaced: resource.get("namespaced")?.as_bool()?,
                verbs: elements(resource, "verbs")
                    .filter_map(|verb| verb.as_str().map(str::to_owned))
                    .collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_comes_in_the_best_version_that_serves_it() {
        let groups = json!({"groups": [{
            "name": "batch",
            "versions": [{"version": "v2alpha1"}, {"version": "v1beta1"}, {"version": "v1"}],
            "preferredVersion": {"version": "v1"},
        }]});
        let core = json!({"versions": ["v1"]});
        let versions = group_versions(&core, &groups);
        let names: Vec<_> = versions.iter().map(|(g, v)| format!("{g}/{v}")).collect();
        assert_eq!(
            names,
            ["/v1", "batch/v1", "batch/v2alpha1", "batch/v1beta1"]
        );

        let resource = |name: &str, kind: &str| json!({"name": name, "kind": kind, "namespaced": true, "verbs": ["list"]});
        let mut catalogue = Catalogue::default();
        let v1 = json!({"resources": [resource("jobs", "Job"), resource("jobs/status", "Job")]});
        let beta = json!({"resources": [resource("jobs", "Job"), resource("cronjobs", "CronJob")]});
        catalogue.kinds.extend(kinds("batch", "v1", &v1));
        catalogue.kinds.extend(kinds("batch", "v1beta1", &beta));
        let preferred: Vec<_> = catalogue
            .preferred()
            .map(|k| format!("{}/{}", k.api_version(), k.resource))
            .collect();
        assert_eq!(preferred, ["batch/v1/jobs", "batch/v1beta1/cronjobs"]);
    }
}
