//! How much one process seals under one DEK.

use std::sync::atomic::{AtomicU64, Ordering};

use bulla_backend::Instant;
use once_cell::race::OnceBox;
use try_lock::TryLock;

use crate::Policy;
use crate::slot::take_if_due;

/// Counts of one DEK in this process. They outlive the cached key: a DEK that is
/// evicted and loaded again goes on where it was.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// What was taken, that in the purses included.
    records: AtomicU64,
    bytes: AtomicU64,
    /// Taken in advance, so that threads do not meet at every record. What is left in them
    /// at the end is not used.
    purses: [OnceBox<TryLock<Purse>>; PURSES],
    /// When the successor may be asked for again, in nanoseconds.
    stage_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Purse {
    records: u64,
    bytes: u64,
}

/// Threads up to this number have purses to themselves.
const PURSES: usize = 8;
/// What goes into a purse at a time, in records and bytes: while so much more is left that
/// what may stay in purses is next to nothing of it.
const PURSE: Purse = Purse { records: 1 << 10, bytes: 1 << 24 };
const LEFT: Purse = Purse { records: 1 << 20, bytes: 1 << 34 };

/// Answer of a [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Seal.
    Admitted,
    /// Seal, and have the successor made: half of the budget is used. Said to one
    /// caller in a while, until the DEK seals no more.
    AdmittedAndStage,
    /// The budget is used up.
    Refused,
}

impl Budget {
    /// Whether `records` of `bytes` in all would be admitted now.
    pub(crate) fn has_room(&self, records: u64, bytes: u64, policy: &Policy) -> bool {
        let after = |used: &AtomicU64, more| used.load(Ordering::Relaxed).saturating_add(more);
        after(&self.records, records) <= policy.dek_records_max
            && after(&self.bytes, bytes) <= policy.dek_bytes_max
    }

    /// Takes `taken` records of `len` bytes in all. What was refused stays counted, which errs on
    /// the safe side: admitted records and bytes never exceed the policy's.
    #[inline]
    pub(crate) fn take(&self, taken: u64, len: u64, policy: &Policy, now: Instant) -> Admission {
        let purse = self.purses[bulla_sys::thread_number() % PURSES].get();
        if let Some(mut purse) = purse.and_then(TryLock::try_lock)
            && let (Some(records), Some(bytes)) =
                (purse.records.checked_sub(taken), purse.bytes.checked_sub(len))
        {
            *purse = Purse { records, bytes };
            return Admission::Admitted;
        }
        let admission = self.take_from_all(taken, len, policy, now);
        if admission != Admission::Refused {
            self.fill_purse(policy);
        }
        admission
    }

    /// Fills the thread's purse, while not half of the budget is used and plenty is left of
    /// that half: beyond, every record is taken from the whole.
    fn fill_purse(&self, policy: &Policy) {
        let left = |max: u64, used: &AtomicU64| max.saturating_sub(used.load(Ordering::Relaxed));
        if left(policy.dek_records_max / 2, &self.records) < LEFT.records
            || left(policy.dek_bytes_max / 2, &self.bytes) < LEFT.bytes
        {
            return;
        }
        let purse = self.purses[bulla_sys::thread_number() % PURSES].get_or_init(Box::default);
        if let Some(mut purse) = purse.try_lock() {
            self.records.fetch_add(PURSE.records - purse.records, Ordering::Relaxed);
            self.bytes.fetch_add(PURSE.bytes - purse.bytes, Ordering::Relaxed);
            *purse = PURSE;
        }
    }

    fn take_from_all(&self, taken: u64, len: u64, policy: &Policy, now: Instant) -> Admission {
        let records = self.records.fetch_add(taken, Ordering::Relaxed).saturating_add(taken);
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        if records > policy.dek_records_max || bytes > policy.dek_bytes_max {
            return Admission::Refused;
        }
        let half = records > policy.dek_records_max / 2 || bytes > policy.dek_bytes_max / 2;
        self.admit(half, now)
    }

    /// Takes `len` bytes more of a stream, which is one record and was taken as one.
    pub(crate) fn take_bytes(&self, len: u64, policy: &Policy, now: Instant) -> Admission {
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        if bytes > policy.dek_bytes_max {
            return Admission::Refused;
        }
        self.admit(bytes > policy.dek_bytes_max / 2, now)
    }

    #[inline]
    fn admit(&self, half: bool, now: Instant) -> Admission {
        if half && self.stage(now) { Admission::AdmittedAndStage } else { Admission::Admitted }
    }

    /// Whether not even an empty record would be admitted.
    pub(crate) fn is_used_up(&self, policy: &Policy) -> bool {
        self.records.load(Ordering::Relaxed) >= policy.dek_records_max
            || self.bytes.load(Ordering::Relaxed) >= policy.dek_bytes_max
    }

    /// True for one caller in a while.
    pub(crate) fn stage(&self, now: Instant) -> bool {
        take_if_due(&self.stage_at, now)
    }

    /// Whether anything was counted.
    pub(crate) fn is_touched(&self) -> bool {
        self.records.load(Ordering::Relaxed) > 0 || self.bytes.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1);

    fn policy(records: u64, bytes: u64) -> Policy {
        Policy { dek_records_max: records, dek_bytes_max: bytes, ..Policy::default() }
    }

    #[test]
    fn it_stages_once_and_refuses_above() {
        let (budget, policy) = (Budget::default(), policy(4, 1000));
        let taken: Vec<_> = (0..6).map(|_| budget.take(1, 1, &policy, NOW)).collect();
        use Admission::{Admitted, AdmittedAndStage, Refused};
        assert_eq!(taken, [Admitted, Admitted, AdmittedAndStage, Admitted, Refused, Refused]);
        assert!(budget.is_used_up(&policy));
    }

    #[test]
    fn many_are_admitted_together_or_not_at_all() {
        let (budget, policy) = (Budget::default(), policy(10, 100));
        assert!(budget.has_room(10, 100, &policy));
        assert!(!budget.has_room(11, 0, &policy) && !budget.has_room(1, 101, &policy));
        assert_ne!(budget.take(8, 60, &policy, NOW), Admission::Refused);
        assert!(!budget.has_room(3, 0, &policy) && !budget.has_room(1, 41, &policy));
        assert!(budget.has_room(2, 40, &policy));
        assert_eq!(budget.take(3, 0, &policy, NOW), Admission::Refused);
    }

    #[test]
    fn bytes_count_too() {
        let (budget, policy) = (Budget::default(), policy(100, 10));
        assert_eq!(budget.take(1, 6, &policy, NOW), Admission::AdmittedAndStage);
        assert_eq!(budget.take(1, 5, &policy, NOW), Admission::Refused);
    }

    #[test]
    fn a_stream_is_one_record_and_pays_for_its_bytes() {
        let (budget, policy) = (Budget::default(), policy(1, 10));
        assert_ne!(budget.take(1, 0, &policy, NOW), Admission::Refused);
        assert_eq!(budget.take(1, 0, &policy, NOW), Admission::Refused);
        assert_ne!(
            budget.take_bytes(10, &policy, NOW),
            Admission::Refused,
            "records are no matter"
        );
        assert_eq!(budget.take_bytes(1, &policy, NOW), Admission::Refused);
    }

    /// However many threads take from purses: what was admitted is counted, with no more on
    /// top than purses hold, and the end is where it should be but for what they hold.
    #[test]
    fn purses_are_part_of_the_budget() {
        const MAX: u64 = 1 << 22;
        let (budget, policy) = (Budget::default(), policy(MAX, 1 << 44));
        let held = PURSES as u64;
        let held = Purse { records: held * PURSE.records, bytes: held * PURSE.bytes };
        let work = |tries: u64| {
            let admitted = |_: &u64| budget.take(1, 3, &policy, NOW) != Admission::Refused;
            (0..tries).filter(admitted).count() as u64
        };
        let take = |tries: u64| -> u64 {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| work(tries / 4))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            })
        };
        let before = take(MAX / 8);
        assert_eq!(before, MAX / 8);
        let counted = budget.records.load(Ordering::Relaxed);
        assert!((before..=before + held.records).contains(&counted), "{counted}");
        assert!(counted > before, "purses were used");
        let counted = budget.bytes.load(Ordering::Relaxed);
        assert!((3 * before..=3 * before + held.bytes).contains(&counted), "{counted}");
        let all = before + take(2 * MAX);
        assert!((MAX - held.records..=MAX).contains(&all), "{all}");
        assert!(budget.is_used_up(&policy));
    }

    #[test]
    fn threads_never_exceed_it() {
        let (budget, policy) = (Budget::default(), policy(10_000, 1 << 40));
        let admitted: usize = std::thread::scope(|scope| {
            let work = || {
                (0..5_000).filter(|_| budget.take(1, 1, &policy, NOW) != Admission::Refused).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 10_000);
    }
}
