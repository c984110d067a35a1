//! A clock that tests move by hand.

use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{Clock, Instant};
use tokio::sync::watch;

/// A [`Clock`] that stands still until it is told to go on. Starts at one hour, so
/// that tests can tell a real time from an unset zero.
///
/// ```
/// use bulla_backend::Clock;
/// use bulla_testkit::ManualClock;
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now().since(before), Duration::from_secs(5));
/// ```
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Instant>);

impl ManualClock {
    /// A clock of its own.
    pub fn new() -> Self {
        Self(watch::Sender::new(Instant::default().after(Duration::from_secs(3600))))
    }

    /// Moves the clock and wakes every sleeper whose time has come.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|now| *now = now.after(duration));
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Instant {
        *self.0.borrow()
    }

    async fn sleep_until(&self, deadline: Instant) {
        let mut now = self.0.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = now.wait_for(|now| *now >= deadline).await;
    }
}

/// Lets every task of a single-threaded runtime run until it waits for something:
/// call it after [`ManualClock::advance`], before looking at the effect.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
