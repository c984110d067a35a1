//! How much one process seals under one DEK.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Policy;

/// Counts of one DEK in this process. They outlive the cached key: a DEK that is
/// evicted and loaded again goes on where it was.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    records: AtomicU64,
    bytes: AtomicU64,
    /// Whether the successor was asked for.
    staged: AtomicBool,
}

/// Answer of a [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Seal.
    Admitted,
    /// Seal, and have the successor made: half of the budget is used. Said once.
    AdmittedAndStage,
    /// The budget is used up.
    Refused,
}

impl Budget {
    /// Takes one record of `len` bytes. What was refused stays counted, which errs on
    /// the safe side: admitted records and bytes never exceed the policy's.
    #[inline]
    pub(crate) fn take(&self, len: u64, policy: &Policy) -> Admission {
        let records = self.records.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        if records > policy.dek_records_max || bytes > policy.dek_bytes_max {
            return Admission::Refused;
        }
        let half = records > policy.dek_records_max / 2 || bytes > policy.dek_bytes_max / 2;
        if half && self.stage() { Admission::AdmittedAndStage } else { Admission::Admitted }
    }

    /// Whether not even an empty record would be admitted.
    pub(crate) fn is_used_up(&self, policy: &Policy) -> bool {
        self.records.load(Ordering::Relaxed) >= policy.dek_records_max
            || self.bytes.load(Ordering::Relaxed) >= policy.dek_bytes_max
    }

    /// True for the first caller.
    pub(crate) fn stage(&self) -> bool {
        !self.staged.load(Ordering::Relaxed) && !self.staged.swap(true, Ordering::Relaxed)
    }

    /// Staging failed: let the next caller try again.
    pub(crate) fn unstage(&self) {
        self.staged.store(false, Ordering::Relaxed);
    }

    /// Whether anything was counted.
    pub(crate) fn is_touched(&self) -> bool {
        self.records.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(records: u64, bytes: u64) -> Policy {
        Policy { dek_records_max: records, dek_bytes_max: bytes, ..Policy::default() }
    }

    #[test]
    fn it_stages_once_and_refuses_above() {
        let (budget, policy) = (Budget::default(), policy(4, 1000));
        let taken: Vec<_> = (0..6).map(|_| budget.take(1, &policy)).collect();
        use Admission::{Admitted, AdmittedAndStage, Refused};
        assert_eq!(taken, [Admitted, Admitted, AdmittedAndStage, Admitted, Refused, Refused]);
        assert!(budget.is_used_up(&policy));
    }

    #[test]
    fn bytes_count_too() {
        let (budget, policy) = (Budget::default(), policy(100, 10));
        assert_eq!(budget.take(6, &policy), Admission::AdmittedAndStage);
        assert_eq!(budget.take(5, &policy), Admission::Refused);
    }

    #[test]
    fn threads_never_exceed_it() {
        let (budget, policy) = (Budget::default(), policy(10_000, 1 << 40));
        let admitted: usize = std::thread::scope(|scope| {
            let work =
                || (0..5_000).filter(|_| budget.take(1, &policy) != Admission::Refused).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 10_000);
    }
}
