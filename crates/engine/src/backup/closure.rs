//! The closure of a recovery point: what each workload refers to, and whether it is there.
//!
//! Invariant: only what was saved whole counts as captured.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::closure::{Waiver, WorkloadClosure, close};
use refloat_model::outcome::Outcome;
use refloat_model::point::ItemRecord;
use refloat_model::subject::Subject;
use refloat_model::time::Timestamp;

use super::plan::BackupPlan;

/// Decides every reference of every workload that the policy selects.
pub fn close_all(
    plan: &BackupPlan,
    by_source: &BTreeMap<String, Vec<ItemRecord>>,
    waivers: &[Waiver],
    now: Timestamp,
) -> Vec<WorkloadClosure> {
    let mut provided: BTreeMap<Subject, BTreeSet<String>> = BTreeMap::new();
    let mut not_provided: BTreeMap<&Subject, &Outcome> = BTreeMap::new();
    let records = by_source
        .iter()
        .flat_map(|(source, records)| records.iter().map(move |record| (source, record)));
    for (source, record) in records {
        if record.outcome.is_saved() {
            for subject in &record.item.provides {
                let sources = provided.entry(subject.clone()).or_default();
                sources.insert(source.clone());
            }
        } else {
            not_provided.extend(record.item.provides.iter().map(|s| (s, &record.outcome)));
        }
    }
    let why = |subject: &Subject| match not_provided.get(subject) {
        Some(Outcome::Skipped { rule, why }) => format!("skipped by rule {rule}: {why}"),
        Some(Outcome::Failed { reason }) => reason.clone(),
        Some(Outcome::Partial { missing_count, .. }) => {
            format!("saved in part only: {missing_count} entries are missing")
        }
        Some(Outcome::Saved) | None => "no source of this point has it".to_owned(),
    };
    let workloads = plan.sources.iter().flat_map(|source| {
        let selected = source.groups.iter().filter(|g| g.selected);
        selected.filter_map(move |g| Some((source, g.workload.as_ref()?)))
    });
    workloads
        .map(|(source, workload)| {
            let records = by_source.get(&source.name).into_iter().flatten();
            let own = records.filter(|r| r.item.workload.as_ref() == Some(&workload.name));
            let requires: Vec<Subject> = own
                .flat_map(|r| &r.item.requires)
                .chain(&workload.requires)
                .cloned()
                .collect();
            let mut closure = close(
                &source.name,
                &workload.name,
                &requires,
                &provided,
                waivers,
                now,
                why,
            );
            for record in &mut closure.references {
                let used = source.images.iter().find(|i| i.subject == record.subject);
                record.digests = used.map(|i| i.digests.clone()).unwrap_or_default();
            }
            closure
        })
        .collect()
}
