//! What a manager is allowed to do, and for how long.

use std::time::Duration;

use bulla_core::limits::ONE_SHOT_PLAINTEXT_BYTES_MAX;

use crate::Error;

/// Where a manager runs; it has no default, so that nobody is in the wrong one by
/// accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Any KEK will do.
    Development,
    /// KEKs must be remote, unless
    /// [`allow_local_kek`](crate::ManagerBuilder::allow_local_kek) says otherwise, and
    /// their wraps authenticated.
    Production,
}

/// Limits and intervals of a manager. The defaults suit a service with some
/// thousands of scopes.
///
/// **Worst-case exposure**, after which a key is wiped from this process:
///
/// | what happened | while store and KMS answer | if they do not |
/// |---|---|---|
/// | the KEK or the version in use is disabled, or its use denied as a whole | `probe_interval` + `denied_confirmation` | `revocation_deadline` |
/// | the DEK is disabled or shredded in the store | `feed_interval` | `revocation_deadline` |
/// | its use is denied for single scopes, by a condition on the context | 2 x `refresh_after` | `revocation_deadline` |
///
/// The first two columns come on top of one `feed_interval`, at which the background
/// wakes, and of the time that the calls take, at most `load_timeout` each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// DEKs kept unwrapped at most; the least recently used goes first. About 2 KiB
    /// each. Default 10,000.
    pub cached_deks_max: u64,
    /// Age after which a cached DEK that is in use is read from the store and
    /// unwrapped again, in the background; at twice that age one that is not in use is
    /// wiped. Default 1 hour.
    pub refresh_after: Duration,
    /// How often each KEK with cached DEKs is probed. Default 1 minute.
    pub probe_interval: Duration,
    /// How long cached DEKs serve after the last successful unwrap under their KEK
    /// began, and after the last successful read of the store's changes began.
    /// Default 10 minutes.
    pub revocation_deadline: Duration,
    /// How often the store is asked for changes. Default 5 seconds.
    pub feed_interval: Duration,
    /// A denial evicts when it is repeated after this time. Default 5 seconds.
    pub denied_confirmation: Duration,
    /// How long a definite failure to load a key is remembered. Default 1 second.
    pub negative_for: Duration,
    /// How long a caller waits for a key at most. Default 10 seconds.
    pub load_timeout: Duration,
    /// Calls at once that use one KEK. Default 16.
    pub kms_concurrency: usize,
    /// Rewraps at once, in the background; 0 switches lazy rewrap off. Default 4.
    pub rewrap_concurrency: usize,
    /// How long a new DEK version stays pending at least: the lag of read replicas.
    /// Default zero.
    pub activation_delay: Duration,
    /// How long a process counts as alive after it was last heard of. Default 1
    /// minute.
    pub member_alive_for: Duration,
    /// How long a process seals while it can read the store and not write to it.
    /// Without reading it, it stops with the revocation deadline. Default 24 hours.
    pub seal_lease: Duration,
    /// Records that this process seals under one DEK at most. Default 2^32 (spec,
    /// "Limits").
    pub dek_records_max: u64,
    /// Plaintext bytes that this process seals under one DEK at most: 2^30 to 2^44.
    /// Default 2^44 (spec, "Limits").
    pub dek_bytes_max: u64,
    /// Age at which a DEK seals no more. Default 90 days (spec, "Limits").
    pub dek_age_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            cached_deks_max: 10_000,
            refresh_after: 60 * MINUTE,
            probe_interval: MINUTE,
            revocation_deadline: 10 * MINUTE,
            feed_interval: Duration::from_secs(5),
            denied_confirmation: Duration::from_secs(5),
            negative_for: Duration::from_secs(1),
            load_timeout: Duration::from_secs(10),
            kms_concurrency: 16,
            rewrap_concurrency: 4,
            activation_delay: Duration::ZERO,
            member_alive_for: MINUTE,
            seal_lease: DAY,
            dek_records_max: 1 << 32,
            dek_bytes_max: 1 << 44,
            dek_age_max: 90 * DAY,
        }
    }
}

/// KMS calls at once that a policy may allow.
const CONCURRENCY_MAX: usize = 10_000;

impl Policy {
    /// Refuses values that contradict each other or the bounds of the format.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let default = Self::default();
        let rules = [
            (self.cached_deks_max > 0, "cached_deks_max must not be 0"),
            (self.kms_concurrency > 0, "kms_concurrency must not be 0"),
            (self.kms_concurrency <= CONCURRENCY_MAX, "kms_concurrency is over 10,000"),
            (self.rewrap_concurrency <= CONCURRENCY_MAX, "rewrap_concurrency is over 10,000"),
            (
                self.load_timeout < self.revocation_deadline,
                "load_timeout must be less than revocation_deadline",
            ),
            (self.dek_records_max > 0, "dek_records_max must not be 0"),
            (self.dek_records_max <= default.dek_records_max, "dek_records_max is over 2^32"),
            // Otherwise a record that no DEK admits would have them made without end.
            (
                self.dek_bytes_max >= ONE_SHOT_PLAINTEXT_BYTES_MAX as u64,
                "dek_bytes_max must admit the largest record, of 2^30 bytes",
            ),
            (self.dek_bytes_max <= default.dek_bytes_max, "dek_bytes_max is over 2^44"),
            (!self.dek_age_max.is_zero(), "dek_age_max must not be 0"),
            (!self.load_timeout.is_zero(), "load_timeout must not be 0"),
            (!self.seal_lease.is_zero(), "seal_lease must not be 0"),
            (!self.refresh_after.is_zero(), "refresh_after must not be 0"),
            (!self.feed_interval.is_zero(), "feed_interval must not be 0"),
            (!self.probe_interval.is_zero(), "probe_interval must not be 0"),
            (
                self.probe_interval.saturating_add(self.denied_confirmation)
                    < self.revocation_deadline,
                "probe_interval plus denied_confirmation must be less than revocation_deadline",
            ),
            (
                self.feed_interval < self.revocation_deadline,
                "feed_interval must be less than revocation_deadline",
            ),
            (
                self.feed_interval.saturating_mul(2) <= self.member_alive_for,
                "member_alive_for must be at least two feed_intervals",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(Error::Policy(reason)),
            None => Ok(()),
        }
    }
}
