//! Exact counts of what cost something.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters and their snapshot.
macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Counts since the manager started, of this process alone.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)+ }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)+ }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

stats! {
    /// Calls of the KMS, failed ones included.
    kms_calls,
    /// Of these, those that asked for the state of a KEK: at the start and by probes.
    kms_describes,
    /// Reads of DEKs in the key store.
    store_reads,
    /// DEKs unwrapped into the cache.
    loads,
    /// DEK versions that this process has made.
    created,
    /// DEKs evicted, for whatever reason.
    evictions,
    /// Wraps renewed.
    rewraps,
    /// Rewraps that failed or were refused; the old wrap stays.
    rewrap_failures,
    /// Data keys that were on the ordinary heap while they were unwrapped, because the
    /// system let the process lock no more memory; of the whole process.
    unlocked_keys,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Brings `unlocked_keys` up to date, and warns the first time there is one.
    pub(crate) fn count_unlocked_keys(&self) {
        let unlocked = bulla_sys::lock_status().degraded;
        if self.unlocked_keys.0.swap(unlocked, Ordering::Relaxed) == 0 && unlocked > 0 {
            tracing::warn!(
                "data keys could not be kept in locked memory: raise the limit (ulimit -l)"
            );
        }
    }
}
