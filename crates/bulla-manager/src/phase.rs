//! What a cached DEK is doing.

/// Phase of a DEK in this process. A closed DEK, a revoked KEK and a passed deadline
/// lead from any phase to `Absent`, with the keys wiped.
///
/// ```text
/// Absent -> Loading -> Warm <-> Refreshing -> Grace -> Warm
/// Loading -> Negative -> Absent        (definite failure; remembered for a while)
/// Loading -> Absent                    (failure that may pass)
/// Warm -> OpenOnly                     (budget, age, decrypt-only, seal lease)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Not at hand.
    Absent,
    /// Being fetched.
    Loading,
    /// A definite failure to load it is remembered.
    Negative,
    /// Serves.
    Warm,
    /// Serves, and is being read and unwrapped again.
    Refreshing,
    /// Serves although the last refresh failed, until the revocation deadline.
    Grace,
    /// Opens and does not seal, whatever else it is doing.
    OpenOnly,
}
