//! The system's clock.

use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{Clock, Instant};

/// Monotonic time that goes on while the machine is suspended: `CLOCK_BOOTTIME` on
/// Linux, the standard library's monotonic clock elsewhere.
///
/// On Linux it moves with the kernel's ticks, every 1 to 10 ms, and may be that much ahead;
/// that the machine was suspended shows within [`LOOK_EVERY`](Self::LOOK_EVERY) of its
/// running again (decision 0017).
///
/// Sleeps need a tokio runtime. Where its timer stands still during a suspend, a
/// sleep ends late by as much; what depends on it checks `now` itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// How long, while the machine runs, a suspend may go unnoticed: 50 ms.
    pub const LOOK_EVERY: Duration = Duration::from_millis(50);
}

#[cfg(target_os = "linux")]
mod system {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::time::{ClockId, clock_gettime};

    use super::SystemClock;

    /// How much `CLOCK_BOOTTIME` was ahead of the coarse clock at most, in nanoseconds: the
    /// time spent suspended, and up to one tick.
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    /// When that was last looked at, by the coarse clock.
    static LOOKED_AT: AtomicU64 = AtomicU64::new(0);

    /// The coarse clock is read in a quarter of the time, and does not go on during a suspend.
    #[inline]
    pub(super) fn now() -> u64 {
        let coarse = nanos(ClockId::MonotonicCoarse);
        let looked = LOOKED_AT.load(Ordering::Acquire);
        if looked == 0 || coarse.saturating_sub(looked) >= SystemClock::LOOK_EVERY.as_nanos() as u64
        {
            look();
        }
        coarse + AHEAD.load(Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn look() {
        // In this order: a thread that is stopped in between sees too little, which the next
        // look makes good. Too much would stay, and hide as much of a suspend.
        let precise = nanos(ClockId::Boottime);
        let coarse = nanos(ClockId::MonotonicCoarse);
        // Never less than before, so that `now` does not go back.
        AHEAD.fetch_max(precise.saturating_sub(coarse), Ordering::Relaxed);
        LOOKED_AT.store(coarse, Ordering::Release);
    }

    fn nanos(clock: ClockId) -> u64 {
        let now = clock_gettime(clock);
        // Both are non-negative on these clocks.
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn now() -> u64 {
        use std::sync::LazyLock;
        use std::time::Instant;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Instant {
        Instant::from_nanos(system::now())
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

    /// As far as this can be seen without suspending the machine: it follows the precise
    /// clock, and is ahead of it by less than a tick.
    #[cfg(target_os = "linux")]
    #[test]
    fn it_follows_the_precise_clock_and_never_goes_back() {
        let precise = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
        };
        let tick = Duration::from_millis(11).as_nanos() as u64;
        let (began, mut last) = (precise(), 0);
        while precise() < began + 120_000_000 {
            let before = precise();
            let now = SystemClock.now().as_nanos();
            assert!(now + tick >= before, "{} ns behind", before - now);
            assert!(now <= precise() + tick, "ahead by more than a tick");
            assert!(now >= last);
            last = now;
        }
    }
}
