//! A circuit breaker: no calls to a KMS that has stopped answering, but for one now and
//! then.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulla_backend::{KmsError, KmsErrorKind};
use tokio::time::Instant;

use super::{Answer, Attempt, Call, Layer};

/// Refuses calls for a while after so many in a row have failed for a reason that may
/// pass, then lets a single one through: if it gets an answer, the others follow.
///
/// ```text
///           failures in a row                     time is up
/// CLOSED ----------------------> OPEN ------------------------------> HALF-OPEN
///    ^                            ^                                     |  |
///    |                            +--- the probe failed or was dropped -+  |
///    +------------------------------------------------- it was answered ---+
/// ```
///
/// A refused call fails at once, as the last failure did (`Unavailable` or `Throttled`),
/// with [`CircuitOpen`] as its source. Put a [`Timeout`](super::Timeout) within: a probe
/// that hangs keeps the circuit half-open.
#[derive(Debug)]
pub struct CircuitBreaker {
    failures_max: u32,
    open_for: Duration,
    circuit: Mutex<Circuit>,
}

/// The source of an error that says that a call was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitOpen {
    /// When the next call is made; zero while it is under way.
    pub remaining: Duration,
}

#[derive(Debug)]
struct Circuit {
    state: State,
    /// Bumped with each change of state: what a call that began before it says does not
    /// count any more.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, kind: KmsErrorKind },
    HalfOpen { kind: KmsErrorKind },
}

/// What the outcome of a call tells about the KMS.
enum Sign {
    Alive,
    Failing(KmsErrorKind),
    /// The call may have been refused before it was sent.
    None,
}

impl CircuitBreaker {
    /// Opens after `failures_max` failures in a row, one at least, for `open_for`.
    pub fn new(failures_max: u32, open_for: Duration) -> Self {
        let circuit = Circuit { state: State::Closed { failures: 0 }, epoch: 0 };
        Self { failures_max: failures_max.max(1), open_for, circuit: Mutex::new(circuit) }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to make a call, or what the refusal says.
    fn admit(&self) -> Result<Admission<'_>, (KmsErrorKind, Duration)> {
        let mut circuit = self.circuit();
        let now = Instant::now();
        match circuit.state {
            State::Closed { .. } => {}
            State::Open { until, kind } if now < until => return Err((kind, until - now)),
            State::Open { kind, .. } => circuit.change(State::HalfOpen { kind }),
            State::HalfOpen { kind } => return Err((kind, Duration::ZERO)),
        }
        Ok(Admission { breaker: self, epoch: circuit.epoch })
    }

    fn refuse(&self, call: &Call<'_>, kind: KmsErrorKind, remaining: Duration) -> KmsError {
        let message = if remaining.is_zero() {
            "not tried: the last calls failed, and one is trying whether the next will".into()
        } else {
            format!("not tried: the last calls failed; the next is made in {remaining:.1?}")
        };
        call.error(kind, message).with_source(CircuitOpen { remaining })
    }
}

impl Circuit {
    fn change(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

/// A call that was let through. Dropped without a sign, it counts for nothing.
struct Admission<'a> {
    breaker: &'a CircuitBreaker,
    epoch: u64,
}

impl Admission<'_> {
    fn ended(&self, call: &Call<'_>, sign: Sign) {
        let mut circuit = self.breaker.circuit();
        if circuit.epoch != self.epoch {
            return;
        }
        let open = |kind| State::Open { until: Instant::now() + self.breaker.open_for, kind };
        match (circuit.state, sign) {
            (State::Closed { failures }, Sign::Failing(kind)) => {
                let failures = failures.saturating_add(1);
                if failures < self.breaker.failures_max {
                    circuit.state = State::Closed { failures };
                    return;
                }
                circuit.change(open(kind));
                drop(circuit);
                let (kek, open_for) = (call.kek, self.breaker.open_for);
                tracing::warn!(%kek, failures, ?open_for, "a key service fails: calls are refused for a while");
            }
            (State::Closed { .. }, Sign::Alive) => circuit.state = State::Closed { failures: 0 },
            (State::HalfOpen { .. }, Sign::Failing(kind)) => circuit.change(open(kind)),
            (State::HalfOpen { .. }, Sign::Alive) => {
                circuit.change(State::Closed { failures: 0 });
                drop(circuit);
                tracing::info!(kek = %call.kek, "a key service answers again");
            }
            (_, Sign::None) | (State::Open { .. }, _) => {}
        }
    }
}

/// A probe that nobody waits for any more, or that told nothing, leaves its place to the
/// next call.
impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let mut circuit = self.breaker.circuit();
        if let (State::HalfOpen { kind }, true) = (circuit.state, circuit.epoch == self.epoch) {
            circuit.change(State::Open { until: Instant::now(), kind });
        }
    }
}

impl Layer for CircuitBreaker {
    async fn around<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        if !call.is_sent() {
            return attempt().await;
        }
        let admission =
            self.admit().map_err(|(kind, remaining)| self.refuse(&call, kind, remaining))?;
        let outcome = attempt().await;
        let sign = match outcome.as_ref().map_err(KmsError::kind) {
            Ok(_) => Sign::Alive,
            Err(kind) if kind.is_retryable() => Sign::Failing(kind),
            Err(
                KmsErrorKind::Tampered | KmsErrorKind::Misconfigured | KmsErrorKind::Unsupported,
            ) => Sign::None,
            Err(_) => Sign::Alive,
        };
        admission.ended(&call, sign);
        outcome
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the circuit breaker is open")
    }
}

impl std::error::Error for CircuitOpen {}
