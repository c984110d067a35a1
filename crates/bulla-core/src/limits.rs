//! Every limit of the format, in one place.
//!
//! The values come from `docs/spec/envelope-v1.md`, section "Limits", where each
//! bound is derived. They are enforced where the data enters, before anything is
//! allocated in proportion to it.

//= spec 10
//# Limits MUST be enforced by the implementation
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

/// Least binary logarithm of a chunk size: 4 KiB, which keeps the tags under half a
/// percent.
pub const CHUNK_LOG2_MIN: u8 = 12;

/// Largest binary logarithm of a chunk size: 4 MiB, which bounds the memory that a
/// stranger's envelope can claim.
pub const CHUNK_LOG2_MAX: u8 = 22;

/// Chunks of a stream: 2^32.
pub const STREAM_CHUNKS_MAX: u64 = 1 << 32;

/// Plaintext of a stream, in bytes: 2^44.
pub const STREAM_PLAINTEXT_BYTES_MAX: u64 = 1 << 44;

/// Wraps in a self-contained envelope.
pub const WRAPS_MAX: usize = 8;

/// Length of the KEK id of a wrap, in bytes.
pub const KEK_ID_BYTES_MAX: usize = 512;

/// Length of the KEK version of a wrap, in bytes.
pub const KEK_VERSION_BYTES_MAX: usize = 255;

/// Length of a wrapped DEK, in bytes.
pub const WRAP_BLOB_BYTES_MAX: usize = 1024;

/// Least value of `wraps_len`, in bytes: one wrap with the shortest fields.
pub const WRAPS_LEN_MIN: usize = 45;

/// Largest value of `wraps_len`, in bytes.
pub const WRAPS_LEN_MAX: usize = 16_384;
