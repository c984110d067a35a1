//! Further attempts, few and far between.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulla_backend::KmsError;
use tower::retry::budget::{Budget, TpsBudget};

use super::{Answer, Attempt, Call, CircuitOpen, Layer};

/// Makes a call again when it failed for a reason that may pass
/// ([`is_retryable`](bulla_backend::KmsErrorKind::is_retryable)), after a random pause of
/// up to `pause_min`, twice that, four times that, and so on up to `pause_max`.
///
/// Changes of a KEK are never repeated: a rotation that seemed to fail may have happened.
/// Nor is a call that a [`CircuitBreaker`](super::CircuitBreaker) within refused.
#[derive(Debug, Clone)]
pub struct Retry {
    attempts_max: u32,
    pause_min: Duration,
    pause_max: Duration,
    budget: Arc<RetryBudget>,
}

impl Retry {
    /// Makes a call `attempts_max` times in all, as far as `budget` allows.
    pub fn new(
        attempts_max: u32,
        pause_min: Duration,
        pause_max: Duration,
        budget: Arc<RetryBudget>,
    ) -> Self {
        Self { attempts_max, pause_min, pause_max, budget }
    }

    /// How long to wait after so many attempts: anything from nothing to a ceiling that
    /// doubles ("full jitter"), so that callers who failed together do not return
    /// together.
    fn pause(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let ceiling = self.pause_min.saturating_mul(1 << doublings).min(self.pause_max);
        ceiling.mul_f64(fastrand::f64())
    }
}

impl Layer for Retry {
    async fn around<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        if call.operation.is_administration() {
            return attempt().await;
        }
        self.budget.0.deposit();
        let mut attempts = 1;
        loop {
            let error = match attempt().await {
                Err(error) if is_worth_repeating(&error) => error,
                outcome => return outcome,
            };
            if attempts >= self.attempts_max || !self.budget.0.withdraw() {
                return Err(error);
            }
            tracing::debug!(%error, attempts, "a KMS call is made again");
            tokio::time::sleep(self.pause(attempts)).await;
            attempts += 1;
        }
    }
}

fn is_worth_repeating(error: &KmsError) -> bool {
    let refused = error.source().is_some_and(|source| source.is::<CircuitOpen>());
    error.kind().is_retryable() && !refused
}

/// How many repetitions all calls that share it may have. Without it, an outage would
/// multiply the load by the number of attempts, just when the KMS can bear it least.
pub struct RetryBudget(TpsBudget);

/// How long a call entitles to repetitions. Finagle's and tower's default.
const ENTITLES_FOR: Duration = Duration::from_secs(10);

impl RetryBudget {
    /// Allows repetitions of `percent` of the calls of the last ten seconds, at most
    /// 1,000 percent; and `per_second` besides, for those who make few calls.
    pub fn new(percent: u16, per_second: u16) -> Self {
        let share = f32::from(percent.min(1000)) / 100.0;
        Self(TpsBudget::new(ENTITLES_FOR, u32::from(per_second), share))
    }
}

/// 20 percent and 10 per second, as Finagle and tower have it.
impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(20, 10)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryBudget")
    }
}
