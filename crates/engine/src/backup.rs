//! Backup: from what the sources hold and a policy to one recovery point.
//!
//! [`discover`] asks the sources, [`plan`] decides, [`execute`] follows the plan.
//!
//! Invariant: every item of every inventory ends with exactly one outcome in the manifest.

mod anomaly;
mod capture;
mod checkpoint;
mod clocks;
mod closure;
mod contents;
mod discover;
mod history;
mod images;
mod losses;
mod parents;
mod partial;
mod plan;
mod publish;
mod punctual;
mod run;
mod skeleton;

pub(crate) use anomaly::is_compared;
pub use discover::{Discovery, discover};
pub use images::{ImageCoverage, ImagePlace, ImagePoint, image_coverage, look_into_points};
pub(crate) use losses::EMPTY;
pub use plan::{
    BackupPlan, BackupPolicy, Discovered, Group, Selection, SourcePlan, plan, source_title, title,
};
pub use publish::is_complete;
pub use run::{
    BackupError, BackupOptions, BackupReport, BackupRun, Clock, Figures, ItemReport, execute,
};
