//! Policies in `refloat.yaml`: what, how often, how long.
//!
//! Invariant: a policy states intent only; which items follow from it is computed by the plans.

use refloat_model::closure::Waiver;
use refloat_model::glob::Glob;
use refloat_model::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::Spanned;

use super::kubernetes::Namespaces;
use crate::period::Period;

/// What is saved together into one recovery point.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicyConfig {
    /// The sources, whole or in part.
    pub select: Vec<Select>,
    /// How often a point is due. Refloat does not start runs by itself: a timer or cron does;
    /// `refloat points` warns of a policy that is overdue by this.
    #[schemars(with = "Option<String>")]
    pub every: Option<Period>,
    /// How long a run may take; what is not finished then is named as failed.
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Period>,
    /// Which points `refloat forget` keeps.
    pub keep: Option<Keep>,
    /// Repositories that each point is copied to after the backup: names under repositories.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub copy_to: Vec<Spanned<String>>,
    /// References that need not be captured.
    #[serde(default)]
    pub waive: Vec<WaiverConfig>,
}

/// A source, or the part of it that a policy selects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Select {
    /// A source's name.
    #[schemars(with = "String")]
    pub source: Spanned<String>,
    /// Patterns of workload names; all workloads if not given. What they refer to comes along.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub workloads: Vec<Glob>,
    /// Of a Kubernetes cluster, only these of the namespaces that the source captures.
    pub namespaces: Option<Namespaces>,
}

/// Which recovery points are kept: the union of all rules given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Keep {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of the newest so many hours that have one.
    pub hourly: u32,
    /// The newest of each of the newest so many days that have one.
    pub daily: u32,
    /// The newest of each of the newest so many weeks that have one.
    pub weekly: u32,
    /// The newest of each of the newest so many months that have one.
    pub monthly: u32,
    /// The newest of each of the newest so many years that have one.
    pub yearly: u32,
    /// All within this time before the newest.
    #[schemars(with = "Option<String>")]
    pub within: Option<Period>,
    /// All that carry one of these tags.
    pub tags: Vec<String>,
}

impl Keep {
    /// Whether no rule is given: nothing would be kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Somebody's decision that a reference need not be captured.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WaiverConfig {
    /// A pattern over `kind:name`, `image:legacy/tool@*`.
    #[schemars(with = "String")]
    pub reference: Glob,
    /// Who decided.
    pub who: String,
    /// Why.
    pub why: String,
    /// The last day on which it counts, in UTC.
    #[schemars(with = "String")]
    pub until: Until,
}

impl From<&WaiverConfig> for Waiver {
    fn from(waiver: &WaiverConfig) -> Self {
        Self {
            reference: waiver.reference.clone(),
            who: waiver.who.clone(),
            why: waiver.why.clone(),
            until: waiver.until.0,
        }
    }
}

/// The end of a day, written `2027-06-30`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Until(pub Timestamp);

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let end = text
            .parse::<jiff::civil::Date>()
            .and_then(jiff::civil::Date::tomorrow)
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|_| {
                serde::de::Error::custom(format!("{text:?} is not a date such as 2027-06-30"))
            })?;
        Ok(Self(end.timestamp().into()))
    }
}
