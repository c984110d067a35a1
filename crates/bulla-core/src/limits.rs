//! Every limit of the format, in one place.
//!
//! The values come from `docs/spec/envelope-v1.md`, section "Limits", where each
//! bound is derived. They are enforced where the data enters, before anything is
//! allocated in proportion to it.

/// Largest plaintext of a one-shot envelope, in bytes: 2^30.
pub const ONE_SHOT_PLAINTEXT_BYTES_MAX: usize = 1 << 30;

/// Records sealed under one derived key (an epoch): 2^16.
pub const EPOCH_RECORDS_MAX: u64 = 1 << 16;

/// AES blocks processed under one derived key (an epoch): 2^30, associated data
/// included. Keeps the GCM distinguishing bound at 2^-69 per epoch.
pub const EPOCH_BLOCKS_MAX: u64 = 1 << 30;

/// Pairs in a record context.
pub const RECORD_PAIRS_MAX: usize = 32;

/// Pairs in a scope context.
pub const SCOPE_PAIRS_MAX: usize = 8;

/// Length of a context key, in bytes.
pub const CONTEXT_KEY_BYTES_MAX: usize = 64;

/// Length of a context value, in bytes.
pub const CONTEXT_VALUE_BYTES_MAX: usize = 1024;

/// Encoded length of a record context, in bytes.
pub const RECORD_CONTEXT_BYTES_MAX: usize = 4096;

/// Encoded length of a scope context, in bytes.
pub const SCOPE_CONTEXT_BYTES_MAX: usize = 1024;
