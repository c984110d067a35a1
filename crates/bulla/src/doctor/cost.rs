//! How many KMS calls a deployment makes, and what they cost.

use std::time::Duration;

use bulla_manager::Policy;

/// A month, for prices: 30 days.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a deployment does. The defaults are those of one process with one scope.
///
/// ```
/// use bulla::Policy;
/// use bulla::doctor::Workload;
///
/// let mut workload = Workload::default();
/// workload.processes = 10;
/// workload.scopes = 1_000;
/// workload.deks_in_use = 200; // of them, each process uses these within an hour
/// workload.records_per_second = 5_000.0;
///
/// let estimate = workload.estimate(&Policy::default());
/// assert!(estimate.calls() < 3.0e6, "{estimate:?}");
/// assert!(estimate.calls_without_cache > 1.0e10);
/// // At a price per 10,000 calls:
/// println!("{:.2} a month", estimate.price(0.03));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Workload {
    /// Processes with a manager.
    pub processes: u64,
    /// Scopes that seal.
    pub scopes: u64,
    /// DEKs that one process uses within [`Policy::refresh_after`].
    pub deks_in_use: u64,
    /// How often each process starts in a month.
    pub starts_per_month: f64,
    /// How often the KEK is rotated in a month.
    pub kek_rotations_per_month: f64,
    /// Records sealed and opened per second by all processes together, for the comparison
    /// with a KMS call per record.
    pub records_per_second: f64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            processes: 1,
            scopes: 1,
            deks_in_use: 1,
            starts_per_month: 30.0,
            kek_rotations_per_month: 1.0 / 12.0,
            records_per_second: 100.0,
        }
    }
}

/// KMS calls in a month of 30 days, by cause.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// New DEKs: one call makes each, one proves it.
    pub new_deks: f64,
    /// DEKs loaded by processes that have just started.
    pub cold_loads: f64,
    /// DEKs in use, unwrapped again once in `refresh_after`.
    pub refreshes: f64,
    /// The probes: one look at the KEK, one unwrap.
    pub probes: f64,
    /// Rewraps: one call each, one to prove it, and one by each other process that sees it.
    pub rewraps: f64,
    /// What a call for each record would be.
    pub calls_without_cache: f64,
}

impl Workload {
    /// How many calls of the contract this makes under `policy`: an upper bound for a steady
    /// load and one KEK. Some take more than one request: to describe a key is two at AWS
    /// where versions may be listed, a rewrap is two under a Vault key that does not derive.
    pub fn estimate(&self, policy: &Policy) -> Estimate {
        let per_month = |interval: Duration| MONTH.as_secs_f64() / interval.as_secs_f64();
        let (processes, deks) = (self.processes as f64, self.deks_in_use as f64);
        let in_use = processes * deks;
        Estimate {
            // The successor is made at half of a DEK's age.
            new_deks: 2.0 * self.scopes as f64 * per_month(policy.dek_age_max / 2),
            cold_loads: in_use * self.starts_per_month,
            refreshes: in_use * per_month(policy.refresh_after),
            probes: 2.0 * processes * per_month(policy.probe_interval),
            rewraps: (in_use + deks) * self.kek_rotations_per_month,
            calls_without_cache: self.records_per_second * MONTH.as_secs_f64(),
        }
    }
}

impl Estimate {
    /// All calls in a month.
    pub fn calls(&self) -> f64 {
        self.new_deks + self.cold_loads + self.refreshes + self.probes + self.rewraps
    }

    /// What they cost, at a price for 10,000 calls. The KEK itself costs extra where the
    /// KMS says so.
    pub fn price(&self, per_10_000_calls: f64) -> f64 {
        self.calls() / 10_000.0 * per_10_000_calls
    }
}
