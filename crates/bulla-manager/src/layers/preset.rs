//! All layers in the right order.

use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{AuditSink, Kek};

use super::{Audited, CircuitBreaker, ConcurrencyLimit, Layered, Retry, RetryBudget, Timeout};

/// How [`dependable`] treats a KEK.
///
/// The defaults suit a KMS in the same region, which answers in 20 to 50 ms.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerOptions {
    /// How long one attempt may take. Default 2 seconds: forty times what is usual, and
    /// all attempts fit into the default `deadline`.
    pub attempt_timeout: Duration,
    /// Attempts in all. Default 3, as the AWS SDKs have it.
    pub attempts_max: u32,
    /// Longest pause after the first attempt; it doubles with each. Pauses are random
    /// between nothing and that ("full jitter", which of all spreads the load best: AWS
    /// Architecture Blog, "Exponential backoff and jitter"). Default 100 ms.
    pub pause_min: Duration,
    /// Longest pause after any attempt. Default 2 seconds.
    pub pause_max: Duration,
    /// What repetitions are taken from. Default: one of this KEK's own, of 20 percent and
    /// 10 per second, as Finagle and tower have it.
    pub retry_budget: Arc<RetryBudget>,
    /// Failed attempts in a row that open the circuit. Default 5, as Finagle has it.
    pub failures_max: u32,
    /// How long it stays open. Default 5 seconds, Finagle's first period.
    pub open_for: Duration,
    /// Calls at once. Default 64, four times what one manager makes
    /// ([`kms_concurrency`](crate::Policy::kms_concurrency)).
    pub at_once: usize,
    /// Calls that wait for their turn. Default 1,024.
    pub waiting_max: usize,
    /// How long a call may take as a whole, waiting, attempts and pauses. Default 8
    /// seconds, less than the manager's [`load_timeout`](crate::Policy::load_timeout):
    /// who waits then learns what was wrong with the KMS, not only that it took too long.
    pub deadline: Duration,
    /// Who is told of each attempt. Default nobody.
    pub audit: Option<Arc<dyn AuditSink>>,
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(2),
            attempts_max: 3,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(2),
            retry_budget: Arc::default(),
            failures_max: 5,
            open_for: Duration::from_secs(5),
            at_once: 64,
            waiting_max: 1024,
            deadline: Duration::from_secs(8),
            audit: None,
        }
    }
}

/// Puts every layer around `kek`, from the outside in:
///
/// | layer | why there |
/// |---|---|
/// | [`Timeout`] (`deadline`) | outermost: it covers waiting for a turn, attempts and pauses |
/// | [`ConcurrencyLimit`] | a call keeps its turn while it pauses, so those under way are bounded; being turned away is not repeated |
/// | [`Retry`] | each attempt is subject to all that follows |
/// | [`CircuitBreaker`] | sees each attempt, so that it opens soon; what it refuses is not repeated |
/// | [`Timeout`] (`attempt_timeout`) | within the breaker, for which a KMS that hangs is one that fails |
/// | [`Audited`] | innermost: one event for each attempt, and none for what never reached the KMS |
///
/// Call it once for each KEK: the circuit and the budget are its own.
pub fn dependable(kek: Arc<dyn Kek>, options: LayerOptions) -> Arc<dyn Kek> {
    let LayerOptions { attempts_max, pause_min, pause_max, retry_budget, .. } = options;
    let kek: Arc<dyn Kek> = match options.audit {
        Some(sink) => Arc::new(Layered::new(Audited::new(sink), kek)),
        None => kek,
    };
    let kek = Arc::new(Layered::new(Timeout::new(options.attempt_timeout), kek));
    let breaker = CircuitBreaker::new(options.failures_max, options.open_for);
    let kek = Arc::new(Layered::new(breaker, kek));
    let retry = Retry::new(attempts_max, pause_min, pause_max, retry_budget);
    let kek = Arc::new(Layered::new(retry, kek));
    let limit = ConcurrencyLimit::new(options.at_once, options.waiting_max);
    let kek = Arc::new(Layered::new(limit, kek));
    Arc::new(Layered::new(Timeout::new(options.deadline), kek))
}
