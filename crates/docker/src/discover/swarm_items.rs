//! Items of a swarm.
//!
//! Invariant: a secret's value is missing by name until somebody waives it: no engine gives it out.

use refloat_model::item::{Item, ItemKind};
use refloat_model::subject::{Subject as Reference, SubjectKind};

use super::inventory::Build;
use super::{Subject, named_image};
use crate::definition::{ImageDefinition, ObjectKind, SwarmObject};

impl Build<'_> {
    pub(super) fn swarm(&mut self) {
        for object in &self.estate.swarm {
            let group = object.stack.as_deref();
            if !self.options.selects(&object.name, group) {
                continue;
            }
            let path = self.layout.swarm(object.kind, &object.name);
            let title = format!("{} {}", object.kind.word(), object.name);
            let mut found = Item::new(ItemKind::Object, title, path);
            found.workload = object
                .stack
                .clone()
                .or_else(|| (object.kind == ObjectKind::Service).then(|| object.name.clone()));
            found.sensitive = true;
            match object.kind {
                ObjectKind::Service => {
                    let subject = self.references.subject(SubjectKind::Object, &object.name);
                    found.provides = vec![subject.clone()];
                    found.requires = self.of_service(object);
                    let kind = match object.stack {
                        Some(_) => "swarm stack",
                        None => "swarm service",
                    };
                    let workload = found.workload.clone().unwrap_or_default();
                    self.need_of(&workload, kind, &[subject]);
                }
                ObjectKind::Config => {
                    let subject = self.references.subject(SubjectKind::Config, &object.name);
                    found.provides = vec![subject];
                }
                ObjectKind::Secret => {
                    // The name alone brings no secret back.
                    let risk = "the engine does not give its value out".to_owned();
                    found.risks.push(risk);
                    self.swarm_secret_value(object);
                }
            }
            let subject = Subject::Swarm(object.kind.folder().to_owned(), object.name.clone());
            self.add(found, subject);
        }
    }

    /// What cannot be captured of a secret, so that it is missed where it is used.
    fn swarm_secret_value(&mut self, secret: &SwarmObject) {
        let path = self.layout.secret_value(&secret.name);
        let title = format!("value of swarm secret {}", secret.name);
        let why = format!(
            "no engine gives a secret's value out: keep it elsewhere, waive secret:{name}, and give it \
             to the restore with --secret {name}=FILE",
            name = secret.name
        );
        let mut value = self.secret_value(title, path, &secret.name, why);
        value.workload.clone_from(&secret.stack);
        let subject = Subject::Swarm("secret-values".to_owned(), secret.name.clone());
        self.add(value, subject);
    }

    /// What a service refers to, also while none of its tasks runs here.
    fn of_service(&self, service: &SwarmObject) -> Vec<Reference> {
        let subject = |kind, name: &str| self.references.subject(kind, name);
        let mut found: Vec<Reference> = Vec::new();
        for (kind, of) in [
            (ObjectKind::Config, SubjectKind::Config),
            (ObjectKind::Secret, SubjectKind::Secret),
        ] {
            let names = service.files(kind);
            found.extend(names.into_iter().map(|name| subject(of, name)));
        }
        let networks = service.networks().into_iter();
        let networks = networks.filter(|name| !self.estate.is_built_in_network(name));
        found.extend(networks.map(|name| subject(SubjectKind::Network, name)));
        // A template is no name; what comes of it on this node is captured by its own.
        let mounts = service.mounts().into_iter();
        for mount in mounts.filter(|mount| !mount.source.contains("{{")) {
            // Also what is on the nodes where the tasks run: this engine cannot read it, and
            // nothing else of the backup says that it is missing.
            match mount.kind.as_str() {
                "volume" => found.push(subject(SubjectKind::Volume, &mount.source)),
                "bind" if self.references.misses_bind(&mount.source, mount.read_only) => {
                    found.push(subject(SubjectKind::Bind, &mount.source));
                }
                _ => {}
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Whether a service of the swarm starts its tasks from the image, though none is there now.
    pub(super) fn is_of_service(&self, image: &ImageDefinition) -> bool {
        let wanted = |object: &SwarmObject| {
            let name = object.image()?.split('@').next()?;
            Some(named_image(name, ""))
        };
        let wanted: Vec<String> = self.estate.swarm.iter().filter_map(wanted).collect();
        let mut tags = image.tags.iter();
        tags.any(|tag| wanted.contains(&named_image(tag, "")))
    }
}
