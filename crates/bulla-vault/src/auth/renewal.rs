//! The task that keeps a token valid.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time;

use super::session::{Session, Token};
use crate::failure::Failure;

/// First and longest wait after a renewal that failed.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long a renewal or login may take: this task has nobody above who would give it up,
/// and calls wait for a login that is under way.
const RENEWAL_MAX: Duration = Duration::from_secs(30);
/// Shortest wait before a renewal: in its last moments a token may be renewed in vain.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Renews the token at about two thirds of its lease, for as long as there is a session.
///
/// Nothing depends on it: a call whose token has ended logs in by itself. It spares the
/// calls that wait, and Vault the herd of them.
pub(super) async fn run(session: Weak<Session>) {
    let mut failures = 0;
    loop {
        let Some(strong) = session.upgrade() else { return };
        let (changed, token) = (Arc::clone(&strong.changed), strong.token());
        let hopeless = !strong.can_prolong(&token);
        drop(strong);
        let due = async {
            match wait(&token, failures) {
                Some(wait) if !hopeless => time::sleep(wait).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = changed.notified() => {
                failures = 0;
                continue;
            }
        }
        let Some(strong) = session.upgrade() else { return };
        let renewed = time::timeout(RENEWAL_MAX, strong.renew()).await;
        match renewed.unwrap_or_else(|_| Err(Failure::no_answer())) {
            Ok(()) => failures = 0,
            Err(failure) => {
                failures += 1;
                tracing::warn!(reason = ?failure, failures, "the Vault token could not be renewed");
            }
        }
    }
}

/// How long to wait before the next attempt; `None` where no attempt is needed.
fn wait(token: &Token, failures: u32) -> Option<Duration> {
    let ttl = token.lease.ttl?;
    if failures > 0 {
        let wait = RETRY_FIRST.saturating_mul(1 << (failures - 1).min(16));
        return Some(jittered(wait.min(RETRY_MAX)));
    }
    let due = jittered(ttl.mul_f64(2.0 / 3.0));
    Some(due.saturating_sub(token.since.elapsed()).max(WAIT_MIN))
}

/// Up to a tenth more or less, so that a fleet that started together parts.
fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::login::{Grant, Lease};
    use super::*;
    use crate::wire::Headers;

    fn token(ttl: Option<Duration>) -> Token {
        let lease = Lease { ttl, renewable: true };
        Token::new(1, &Headers::default(), Grant { headers: Headers::default(), lease })
    }

    #[test]
    fn renewals_are_due_at_two_thirds_give_or_take_a_tenth() {
        let hour = token(Some(Duration::from_secs(3600)));
        let waits: Vec<_> = (0..1000).filter_map(|_| wait(&hour, 0)).collect();
        let possible = Duration::from_secs(2159)..Duration::from_secs(2641);
        assert!(waits.len() == 1000 && waits.iter().all(|wait| possible.contains(wait)));
        assert_ne!(waits.first(), waits.last(), "a fleet must not renew as one");
        assert_eq!(wait(&token(None), 0), None);
        assert!(wait(&token(Some(Duration::ZERO)), 0).is_some_and(|wait| wait >= WAIT_MIN));
    }

    #[test]
    fn failed_renewals_are_repeated_less_and_less_often() {
        let hour = token(Some(Duration::from_secs(3600)));
        let after = |failures| wait(&hour, failures).unwrap();
        assert!(after(1) < Duration::from_secs(1));
        assert!(after(4) > after(1));
        for failures in [8, 100, u32::MAX] {
            assert!((RETRY_MAX * 9 / 10..=RETRY_MAX * 11 / 10).contains(&after(failures)));
        }
    }
}
