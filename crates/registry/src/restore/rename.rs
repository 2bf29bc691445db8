//! New names for registries, repositories and tags.
//!
//! | rule | means |
//! |---|---|
//! | `registry:hub` → `mirror` | everything that came from the source `hub` goes below `mirror/` |
//! | `repository:team/app` → `shop/app` | one repository (`repository:` may be left out) |
//! | `repository:team/` → `shop/` | all repositories that begin so |
//! | `image:team/app:1.2` → `1.2-old` or `other/app:1` | one tag |
//!
//! The rule for an image is applied before that for its repository, and that before the registry's.
//!
//! Invariant: a rule that fits nothing is an error, and so is a name that no registry takes.

use std::collections::BTreeSet;

use refloat_source::TargetError;

use super::stored::{StoredLayout, StoredRoot};
use crate::name::{ImageName, Reference, RepositoryName, Tag};

enum Rule {
    Registry(String),
    Repository(String),
    Image(ImageName),
}

/// See the module.
pub(super) struct Renames<'a> {
    rules: Vec<(Rule, &'a str, &'a str)>,
}

impl<'a> Renames<'a> {
    pub(super) fn new(
        rename: &'a [(String, String)],
        layouts: &[StoredLayout],
    ) -> Result<Self, TargetError> {
        let mut rules = Vec::new();
        for (old, new) in rename {
            let rule = match old.split_once(':') {
                Some(("registry", source)) => Rule::Registry(source.to_owned()),
                Some(("repository", name)) => Rule::Repository(name.to_owned()),
                Some(("image", name)) => {
                    let name = name.parse().map_err(|_| unusable("image", old))?;
                    Rule::Image(name)
                }
                _ => Rule::Repository(old.clone()),
            };
            rules.push((rule, old.as_str(), new.as_str()));
        }
        let renames = Self { rules };
        renames.check_all_used(layouts)?;
        Ok(renames)
    }

    /// A root's name in the target.
    pub(super) fn apply(
        &self,
        layout: &StoredLayout,
        root: &StoredRoot,
    ) -> Result<ImageName, TargetError> {
        let name = layout.name(root);
        for (rule, _, new) in &self.rules {
            if let Rule::Image(image) = rule
                && *image == name
            {
                return renamed_image(&name, new);
            }
        }
        let old = name.repository.as_str();
        let mut repository = None;
        for (rule, _, new) in &self.rules {
            if let Rule::Repository(rule) = rule
                && let Some(rest) = fits(rule, old)
            {
                repository = Some(format!("{new}{rest}"));
                break;
            }
        }
        let mut repository = repository.unwrap_or_else(|| old.to_owned());
        for (rule, _, new) in &self.rules {
            if matches!(rule, Rule::Registry(source) if *source == layout.source) && !new.is_empty()
            {
                repository = format!("{}/{repository}", new.trim_end_matches('/'));
                break;
            }
        }
        let repository = repository
            .parse()
            .map_err(|_| unusable("repository", &repository))?;
        Ok(ImageName {
            repository,
            reference: name.reference,
        })
    }

    fn check_all_used(&self, layouts: &[StoredLayout]) -> Result<(), TargetError> {
        let used = |rule: &Rule| match rule {
            Rule::Registry(source) => layouts.iter().any(|layout| layout.source == *source),
            Rule::Repository(rule) => layouts
                .iter()
                .any(|layout| fits(rule, layout.repository.as_str()).is_some()),
            Rule::Image(image) => layouts.iter().any(|layout| {
                layout.repository == image.repository
                    && layout.roots.iter().any(|root| layout.name(root) == *image)
            }),
        };
        match self.rules.iter().find(|(rule, ..)| !used(rule)) {
            None => Ok(()),
            Some((_, old, _)) => {
                let names: BTreeSet<String> = layouts
                    .iter()
                    .map(|layout| layout.repository.to_string())
                    .collect();
                Err(TargetError::NotInPoint {
                    what: (*old).to_owned(),
                    candidates: names.into_iter().collect(),
                })
            }
        }
    }
}

/// What follows the part of a repository's name that the rule replaces; none if it does not fit.
fn fits<'n>(rule: &str, name: &'n str) -> Option<&'n str> {
    match rule.ends_with('/') {
        true => name.strip_prefix(rule),
        false => (name == rule).then_some(""),
    }
}

fn renamed_image(name: &ImageName, new: &str) -> Result<ImageName, TargetError> {
    if let Ok(tag) = new.parse::<Tag>() {
        let repository = name.repository.clone();
        return Ok(ImageName {
            repository,
            reference: Reference::Tag(tag),
        });
    }
    if let Ok(image) = new.parse::<ImageName>() {
        return Ok(image);
    }
    let repository: RepositoryName = new.parse().map_err(|_| unusable("image", new))?;
    Ok(ImageName {
        repository,
        reference: name.reference.clone(),
    })
}

fn unusable(kind: &str, name: &str) -> TargetError {
    TargetError::NotInPoint {
        what: format!("usable {kind} name {name:?}"),
        candidates: Vec::new(),
    }
}
