//! `refloat discover`.
//!
//! Invariant: nothing is changed, neither in the sources nor in the repository, which is not even
//! opened.

use refloat_engine::backup::{Discovered, Discovery, ImageCoverage, image_coverage};
use refloat_model::finding::Finding;
use refloat_model::item::{Inventory, Item};
use refloat_model::outcome::Outcome;
use serde::Serialize;

use crate::command_error::{CommandError, one_line};
use crate::exit_status::ExitStatus;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::sources::{self, Connected, SourceArgs};
use crate::table;

/// Show what the sources hold: what would be saved, what is skipped and why, what is at risk
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sources: SourceArgs,
}

#[derive(Serialize)]
struct Report {
    sources: Vec<SourceView>,
    /// Images that workloads are made from, and who holds them.
    images: Vec<ImageCoverage>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct SourceView {
    source: String,
    kind: String,
    address: String,
    #[serde(flatten)]
    inventory: Inventory,
}

/// Asks the sources and prints what they hold.
pub fn run(
    args: &Args,
    settings: &Settings,
    signals: &Signals,
) -> Result<ExitStatus, CommandError> {
    let declared = sources::declared(&args.sources, settings.config.as_ref())?;
    let mut connected = Connected::to(&declared, args.sources.access.plain_tcp())?;
    let Discovery { found, unreachable } = connected.discover(&[], &signals.cancel)?;
    let unreachable = unreachable
        .iter()
        .map(|(name, error)| Finding::error(format!("source {name}"), one_line(error)));
    let mut findings: Vec<Finding> = unreachable.collect();
    let status = if findings.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Incomplete
    };
    for source in &found {
        findings.extend(source.inventory.findings.iter().cloned());
    }
    let images = image_coverage(&found);
    findings.extend(images.iter().filter_map(uncovered));
    settings.output.findings(&findings);
    let sources = found.into_iter().map(view).collect();
    let report = Report {
        sources,
        images,
        findings,
    };
    settings.output.result("discover", status, &report, || {
        let mut parts: Vec<String> = report.sources.iter().map(text).collect();
        if !report.images.is_empty() {
            parts.push(format!("images in use\n{}", images_text(&report.images)));
        }
        parts.join("\n")
    })
}

/// What to say of an image in use that no recovery point would hold.
fn uncovered(image: &ImageCoverage) -> Option<Finding> {
    if image.would_be_saved() {
        return None;
    }
    let users = image.used_by.join(", ");
    let subject = format!("image {}", image.image.reference);
    let message = match image.places.first() {
        None => format!("{users} needs it, and no source holds it"),
        Some(_) => format!("{users} needs it, and no source would save it"),
    };
    Some(Finding::warning(subject, message))
}

fn images_text(images: &[ImageCoverage]) -> String {
    let rows = images.iter().map(|image| {
        let places = image.places.iter().map(|place| match &place.left_out {
            None => format!("{} {} (saved)", place.kind, place.source),
            Some(why) => format!("{} {} (left out: {why})", place.kind, place.source),
        });
        let places: Vec<String> = places.collect();
        [
            image.image.reference.clone(),
            digest(&image.image.digests),
            image.used_by.join(", "),
            match places.is_empty() {
                true => "NOBODY".to_owned(),
                false => places.join(", "),
            },
        ]
    });
    table::table(["image", "digest", "used by", "held by"], rows)
}

/// The digest that registries have for an image, short; several are shown by the first.
fn digest(digests: &[String]) -> String {
    let first = digests.first().and_then(|text| text.split_once('@'));
    first.map_or_else(String::new, |(_, digest)| digest.chars().take(19).collect())
}

fn view(source: Discovered) -> SourceView {
    SourceView {
        source: source.name,
        kind: source.kind,
        address: source.address,
        inventory: source.inventory,
    }
}

fn text(source: &SourceView) -> String {
    let heading = format!(
        "{}: {} {} ({}, {})\n",
        source.source,
        source.kind,
        table::printable(&source.address),
        table::count(source.inventory.workloads.len() as u64, "workload"),
        table::count(source.inventory.items.len() as u64, "item"),
    );
    let rows = source.inventory.items.iter().map(|item| {
        [
            item.workload.clone().unwrap_or_else(|| "-".to_owned()),
            item.kind.word().to_owned(),
            item.title.clone(),
            item.bytes_estimate.map_or_else(String::new, table::bytes),
            plan(item),
        ]
    });
    heading + &table::table(["workload", "kind", "item", "size", "would be"], rows)
}

fn plan(item: &Item) -> String {
    let plan = match &item.skip {
        None => "saved".to_owned(),
        Some(Outcome::Skipped { rule, why }) => format!("skipped: {rule}: {why}"),
        Some(other) => other.word().to_owned(),
    };
    item.risks
        .iter()
        .fold(plan, |text, risk| format!("{text}; RISK: {risk}"))
}
