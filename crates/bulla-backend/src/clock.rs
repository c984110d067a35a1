//! Time, injected.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

/// Time as the DEK manager sees it. Tests inject one that they move by hand.
///
/// # Contract
/// - `now` never goes back, and goes on while the machine is suspended: a key must
///   not outlive its revocation deadline because a laptop was closed
///   (`CLOCK_BOOTTIME` on Linux).
/// - `now` is cheap, does not block and does not fail.
/// - `sleep_until` may wake late, never early; dropping it cancels it.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present.
    fn now(&self) -> Instant;

    /// Completes once `now` has reached `deadline`.
    async fn sleep_until(&self, deadline: Instant);
}

/// A point in time of one [`Clock`], in nanoseconds since a start of its own.
/// Meaningless across clocks and processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The point `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The point `duration` later; the end of time if there is none.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
