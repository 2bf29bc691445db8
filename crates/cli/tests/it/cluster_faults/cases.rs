//! What a server does in the middle of a backup, and what must become of it.
//!
//! Invariant: a case that costs something names it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use refloat_testkit::http_proxy::{Fault, Seen};

type Plan = Box<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

const EXPIRED: &str =
    r#"{"kind":"Status","reason":"Unauthorized","message":"Unauthorized","code":401}"#;
const GONE: &str = r#"{"kind":"Status","reason":"Expired","message":"too old","code":410}"#;
const BUSY: &str = r#"{"kind":"Status","reason":"TooManyRequests","message":"later","code":429}"#;

/// What a backup is like behind a proxy.
pub struct Case {
    pub name: &'static str,
    pub fault: Plan,
    pub exit_code: u64,
    /// Of the ConfigMaps, and of the service account.
    pub outcomes: [&'static str; 2],
    /// Parts of the report.
    pub told: &'static [&'static str],
}

fn is_list(seen: &Seen, kind: &str) -> bool {
    seen.path.contains(&format!("/namespaces/bumpy/{kind}?"))
}

/// All of them.
pub fn cases() -> Vec<Case> {
    [that_pass_by(), that_stay()]
        .into_iter()
        .flatten()
        .collect()
}

fn that_pass_by() -> Vec<Case> {
    let first = Arc::new(AtomicUsize::new(0));
    vec![
        Case {
            name: "nothing",
            fault: Box::new(|_| None),
            exit_code: 0,
            outcomes: ["saved", "saved"],
            told: &[],
        },
        Case {
            name: "429 once",
            fault: Box::new(move |seen| {
                let is_first =
                    is_list(seen, "configmaps") && first.fetch_add(1, Ordering::Relaxed) == 0;
                is_first.then_some(Fault::Answer(429, BUSY))
            }),
            exit_code: 0,
            outcomes: ["saved", "saved"],
            told: &[],
        },
    ]
}

fn that_stay() -> Vec<Case> {
    vec![
        Case {
            name: "a token that expires between two kinds",
            fault: Box::new(|seen| {
                is_list(seen, "serviceaccounts").then_some(Fault::Answer(401, EXPIRED))
            }),
            exit_code: 3,
            outcomes: ["saved", "absent"],
            told: &[
                "serviceaccounts in bumpy cannot be listed: the server no longer accepts the credentials",
            ],
        },
        Case {
            name: "a token that expires in the middle of a list",
            fault: Box::new(|seen| {
                seen.path
                    .contains("continue=")
                    .then_some(Fault::Answer(401, EXPIRED))
            }),
            exit_code: 3,
            outcomes: ["partial", "saved"],
            told: &[
                "configmaps in bumpy cannot be listed",
                "objects after c-499",
            ],
        },
        Case {
            name: "410 on continue",
            fault: Box::new(|seen| {
                seen.path
                    .contains("continue=")
                    .then_some(Fault::Answer(410, GONE))
            }),
            exit_code: 3,
            outcomes: ["partial", "saved"],
            told: &["410 Expired", "objects after c-499"],
        },
        Case {
            name: "429 for ever",
            fault: Box::new(|seen| is_list(seen, "configmaps").then_some(Fault::Answer(429, BUSY))),
            exit_code: 3,
            outcomes: ["absent", "saved"],
            told: &[
                "configmaps in bumpy cannot be listed",
                "429 TooManyRequests",
            ],
        },
        Case {
            name: "connections that end inside an answer",
            fault: Box::new(|seen| is_list(seen, "configmaps").then_some(Fault::ResetInside)),
            exit_code: 3,
            outcomes: ["absent", "saved"],
            told: &["configmaps in bumpy cannot be listed"],
        },
    ]
}
