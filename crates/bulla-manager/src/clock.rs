//! The system's clock.

use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{Clock, Instant};

/// Monotonic time that goes on while the machine is suspended: `CLOCK_BOOTTIME` on
/// Linux, the standard library's monotonic clock elsewhere.
///
/// Sleeps need a tokio runtime. Where its timer stands still during a suspend, a
/// sleep ends late by as much; what depends on it checks `now` itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Instant {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Both are non-negative on this clock.
        Instant::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Instant {
        use std::sync::LazyLock;
        static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        Instant::default().after(START.elapsed())
    }

    async fn sleep_until(&self, deadline: Instant) {
        loop {
            let left = deadline.since(self.now());
            if left == Duration::ZERO {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_advances_and_never_wakes_early() {
        let before = SystemClock.now();
        let deadline = before.after(Duration::from_millis(2));
        SystemClock.sleep_until(deadline).await;
        assert!(SystemClock.now() >= deadline);
    }
}
