//! Services of the machine itself that give credentials: there, or silent where there is none.
//!
//! Invariant: a service that was reached before is never taken for absent, and one that is asked
//! for the first time only after it was asked more than once.

use std::time::Duration;

use crate::failure::Failure;

/// How often a machine is asked that may have no such service.
const ATTEMPTS: u32 = 2;
/// The pause in between.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks; none if nobody is there.
///
/// A service whose answer breaks, or that answers in another way that may pass, is there: that
/// failure is the caller's, whose storage is asked again.
pub(crate) fn ask<T>(
    was_there: bool,
    mut call: impl FnMut() -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    for attempt in 0.. {
        let failure = match call() {
            Ok(answer) => return Ok(Some(answer)),
            Err(failure) => failure,
        };
        if was_there || !is_absence(&failure) {
            return Err(failure);
        }
        if attempt + 1 >= ATTEMPTS {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

const fn is_absence(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Connection { .. } | Failure::Silent(_) | Failure::HostUnknown(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Failure {
        Failure::Silent("machine".to_owned())
    }

    #[test]
    fn absence_is_believed_after_some_attempts_and_never_of_who_was_there() {
        let mut calls = 0;
        let absent = ask(false, || {
            calls += 1;
            Err::<(), _>(silent())
        });
        assert!(matches!(absent, Ok(None)));
        assert_eq!(calls, ATTEMPTS);
        let mut calls = 0;
        let hiccup = ask(false, || {
            calls += 1;
            if calls < ATTEMPTS {
                Err(silent())
            } else {
                Ok(7)
            }
        });
        assert_eq!(hiccup.unwrap(), Some(7));
        let known = ask(true, || Err::<(), _>(silent()));
        assert!(matches!(known, Err(Failure::Silent(_))));
        let broken = ask(false, || {
            Err::<(), _>(Failure::Malformed {
                host: String::new(),
                what: "x",
            })
        });
        assert!(matches!(broken, Err(Failure::Malformed { .. })));
    }
}
