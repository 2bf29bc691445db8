//! Whether the numbers of owners mean the same on both machines.
//!
//! With user namespaces an engine shifts them: what root owns in a container belongs to another
//! number in the host's folders, from which data is copied as it is.

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;

use super::super::plan::{Planner, is_made};
use crate::definition::HostDefinition;

pub(super) fn check(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let ground = planner.ground;
    let Some(source) = &planner.holding.host else {
        return;
    };
    let (from, to) = (source.owners(), ground.present.host.owners());
    let data = [ItemKind::Volume, ItemKind::Bind];
    let written = planner
        .steps
        .iter()
        .any(|step| data.contains(&step.kind) && is_made(&step.action));
    if from != to && written {
        findings.push(Finding::warning(
            ground.address.clone(),
            format!(
                "owners come back as the numbers they had ({from}), and this engine has other \
                 numbers ({to}): containers may not read or write their volumes and binds before \
                 these are given to whom they belong (chown)"
            ),
        ));
    }
}

impl HostDefinition {
    /// How the engine's containers and the host number owners, for people.
    fn owners(&self) -> String {
        let options = self.settings.get("SecurityOptions");
        let options = options.and_then(serde_json::Value::as_array);
        let has = |name: &str| {
            let mut options = options.into_iter().flatten().filter_map(|o| o.as_str());
            options.any(|option| option.split(',').any(|part| part == name))
        };
        if has("name=rootless") {
            return format!("rootless below {}", self.root_dir);
        }
        if !has("name=userns") {
            return "as the host's".to_owned();
        }
        // The engine names a folder of its own by the numbers: `/var/lib/docker/165536.165536`.
        let numbers = self.root_dir.rsplit('/').next().unwrap_or_default();
        format!("remapped to {numbers}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_are_told_by_the_engines_settings() {
        let owners = |options: Value, root: &str| {
            let info = json!({"SecurityOptions": options, "DockerRootDir": root});
            let Value::Object(info) = info else {
                panic!("an object")
            };
            HostDefinition::from_answers(&Value::Null, info, &Value::Null).owners()
        };
        let plain = json!(["name=seccomp,profile=default"]);
        assert_eq!(owners(plain, "/var/lib/docker"), "as the host's");
        assert_eq!(owners(Value::Null, "/var/lib/docker"), "as the host's");
        assert_eq!(
            owners(json!(["name=userns"]), "/var/lib/docker/165536.165536"),
            "remapped to 165536.165536"
        );
        assert_eq!(
            owners(json!(["name=rootless"]), "/home/me/.local/share/docker"),
            "rootless below /home/me/.local/share/docker"
        );
    }
}
