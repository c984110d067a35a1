//! How much one process seals under one DEK.

use std::sync::atomic::{AtomicU64, Ordering};

use bulla_backend::Instant;

use crate::Policy;
use crate::slot::take_if_due;

/// Counts of one DEK in this process. They outlive the cached key: a DEK that is
/// evicted and loaded again goes on where it was.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    records: AtomicU64,
    bytes: AtomicU64,
    /// When the successor may be asked for again, in nanoseconds.
    stage_at: AtomicU64,
}

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
