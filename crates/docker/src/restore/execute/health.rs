//! Waiting until containers do what they are for.
//!
//! Invariant: every wait ends: with success, with the container's end, or at a time that follows
//! from its own health check.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Execution;
use crate::restore::failure::Failure;

/// How long a container without a health check must stay up to count as up.
const SETTLE: Duration = Duration::from_secs(1);
/// The least and the longest wait for health.
const WAIT_MIN: Duration = Duration::from_secs(60);
const WAIT_MAX: Duration = Duration::from_secs(900);
/// How often the state is asked for.
const POLL: Duration = Duration::from_millis(100);
/// What engines take where a health check does not say, in nanoseconds and times.
const INTERVAL_DEFAULT: u64 = 30_000_000_000;
const RETRIES_DEFAULT: u64 = 3;

/// What the engine says of a container's state.
struct State {
    status: String,
    health: Option<String>,
    exit_code: i64,
    restarting: bool,
}

impl State {
    fn of(inspect: &Value) -> Self {
        let text = |path: &str| {
            inspect
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        // Podman says an empty status where there is no check.
        let health = text("/State/Health/Status").filter(|h| !h.is_empty() && h != "none");
        Self {
            status: text("/State/Status").unwrap_or_default(),
            health,
            exit_code: inspect
                .pointer("/State/ExitCode")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            restarting: inspect.pointer("/State/Restarting") == Some(&Value::Bool(true)),
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "exited" | "dead" | "stopped")
    }
}

impl Execution<'_> {
    /// Waits until a started container is healthy, or stays up where it has no health check.
    pub(super) fn await_healthy(&self, name: &str) -> Result<String, Failure> {
        let begin = Instant::now();
        let inspect = self.inspect(name)?;
        let limit = patience(&inspect);
        let unhealthy = |what: String| Failure::Unhealthy {
            container: name.to_owned(),
            what,
        };
        loop {
            let state = State::of(&self.inspect(name)?);
            let up = state.status == "running" && !state.restarting;
            match state.health.as_deref() {
                Some("healthy") if up => {
                    let took = begin.elapsed().as_secs_f64();
                    return Ok(format!("healthy after {took:.1} s"));
                }
                None if up && begin.elapsed() >= SETTLE => return Ok("running".to_owned()),
                _ if state.has_ended() => {
                    return Err(unhealthy(format!(
                        "ended with exit status {}",
                        state.exit_code
                    )));
                }
                _ => {}
            }
            if begin.elapsed() >= limit {
                let how = state.health.unwrap_or(state.status);
                let seconds = limit.as_secs();
                return Err(unhealthy(format!("is {how} after {seconds} s")));
            }
            self.tools.cancel.check()?;
            std::thread::sleep(POLL);
        }
    }

    /// Waits until a container has done its work.
    pub(super) fn await_completed(&self, name: &str) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let state = State::of(&self.inspect(name)?);
            let what = if state.has_ended() && state.exit_code == 0 {
                return Ok(());
            } else if state.has_ended() {
                format!("ended with exit status {}", state.exit_code)
            } else {
                format!("has not ended after {} s", WAIT_MAX.as_secs())
            };
            if state.has_ended() || begin.elapsed() >= WAIT_MAX {
                return Err(Failure::Unhealthy {
                    container: name.to_owned(),
                    what,
                });
            }
            self.tools.cancel.check()?;
            std::thread::sleep(POLL);
        }
    }
}

/// How long a container's own health check can take to say "unhealthy", and as long again.
fn patience(inspect: &Value) -> Duration {
    let check = inspect.pointer("/Config/Healthcheck");
    let number = |key: &str, default| {
        let value = check
            .and_then(|check| check.get(key))
            .and_then(Value::as_u64);
        value.filter(|value| *value > 0).unwrap_or(default)
    };
    let round = number("Interval", INTERVAL_DEFAULT).saturating_add(number("Timeout", 0));
    let rounds = number("Retries", RETRIES_DEFAULT).saturating_add(1);
    let nanoseconds = number("StartPeriod", 0).saturating_add(round.saturating_mul(rounds));
    Duration::from_nanos(nanoseconds.saturating_mul(2)).clamp(WAIT_MIN, WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patience_follows_the_health_check_within_bounds() {
        let patience =
            |check: Value| patience(&json!({"Config": {"Healthcheck": check}})).as_secs();
        assert_eq!(patience(Value::Null), 240);
        assert_eq!(
            patience(json!({"Interval": 1_000_000_000_u64, "Retries": 3})),
            60
        );
        assert_eq!(patience(json!({"Interval": u64::MAX, "Retries": 100})), 900);
    }
}
