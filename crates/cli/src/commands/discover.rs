//! `refloat discover`.
//!
//! Invariant: nothing is changed, neither in the sources nor in the repository, and nobody is asked
//! for a password: a repository that does not open is a finding.

use refloat_engine::backup::{
    Discovered, Discovery, ImageCoverage, image_coverage, look_into_points,
};
use refloat_model::finding::Finding;
use refloat_model::item::{Inventory, Item};
use refloat_model::outcome::Outcome;
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind, one_line};
use crate::exit_status::ExitStatus;
use crate::repository;
use crate::settings::{PasswordSource, Settings};
use crate::signals::Signals;
use crate::sources::{self, Connected, Purpose, SourceArgs};
use crate::table;

/// Show what the sources hold: what would be saved, what is skipped and why, what is at risk
///
/// Of images that workloads are made from it says which image store, registry or recovery point
/// holds them. For the latter it opens the repository, if one is named with a password.
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
    let plain_tcp = args.sources.access.plain_tcp();
    let mut connected = Connected::to(&declared, plain_tcp, Purpose::Look)?;
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
    let mut images = image_coverage(&found);
    let looked = points(&mut images, settings, signals)?;
    findings.extend(images.iter().filter_map(|image| uncovered(image, &looked)));
    findings.extend(looked.findings);
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

/// What a look into the recovery points came to.
#[derive(Default)]
struct Looked {
    /// Whether all of them could be read.
    at_all: bool,
    findings: Vec<Finding>,
}

/// Finds out which recovery points hold the images.
fn points(
    images: &mut [ImageCoverage],
    settings: &Settings,
    signals: &Signals,
) -> Result<Looked, CommandError> {
    // A look is no reason to ask a person for a password.
    let is_silent = settings.password != PasswordSource::Ask;
    if images.is_empty() || settings.repository.is_none() || !is_silent {
        return Ok(Looked::default());
    }
    let looked = repository::open_if_it_answers(settings).and_then(|(list, repository)| {
        let unreadable = list.unreadable.iter().map(|(id, error)| {
            Finding::warning(format!("snapshot {}", id.short()), one_line(error))
        });
        let mut findings: Vec<Finding> = unreadable.collect();
        let snapshots = &list.snapshots;
        let found = look_into_points(images, &repository, snapshots, &signals.cancel)
            .map_err(|error| CommandError::of(ErrorKind::Interrupted, &error))?;
        findings.extend(found);
        Ok(findings)
    });
    let findings = match looked {
        Ok(findings) => findings,
        Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
        Err(error) => {
            let told = format!("not looked into for images: {}", error.line());
            vec![Finding::note("recovery points", told)]
        }
    };
    Ok(Looked {
        at_all: findings.is_empty(),
        findings,
    })
}

/// What to say of an image in use that the next recovery point would not hold.
fn uncovered(image: &ImageCoverage, looked: &Looked) -> Option<Finding> {
    if image.would_be_saved() {
        return None;
    }
    let users = image.used_by.join(", ");
    let subject = format!("image {}", image.image.reference);
    let mut message = match image.places.first() {
        None => format!("{users} needs it, and no source holds it"),
        Some(_) => format!("{users} needs it, and no source would save it"),
    };
    match &image.point {
        Some(held) => message.push_str(&format!(
            "; the point {} of {} UTC has it in {}",
            held.point,
            table::time(held.time),
            held.source
        )),
        None if looked.at_all => message.push_str(", and no recovery point has it"),
        None => {}
    }
    Some(Finding::warning(subject, message))
}

fn images_text(images: &[ImageCoverage]) -> String {
    let rows = images.iter().map(|image| {
        let places = image.places.iter().map(|place| match &place.left_out {
            None => format!("{} {} (saved)", place.kind, place.source),
            Some(why) => format!("{} {} (left out: {why})", place.kind, place.source),
        });
        let point = image.point.as_ref();
        let point = point.map(|held| format!("point {} ({})", held.point, held.source));
        let places: Vec<String> = places.chain(point).collect();
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
