//! What an application must never do, for test vectors and for tools that check other
//! implementations (feature `hazmat`): nonces, salts and single-use keys of the caller's
//! choice. **A nonce that is used twice gives away both plaintexts.**

//= spec 9.1
//# An implementation MUST NOT let callers choose them, test vectors excepted.
use crate::error::{KeyError, SealError};
use crate::stream::{ChunkSealer, StreamOptions};
use crate::{
    Codec, DataKey, EnvelopeKey, Header, KeyOptions, RecordContext, ScopeContext, SingleUseKey,
    Wraps,
};

/// A one-shot envelope with `nonce`, in the suite that `key` seals in.
///
/// # Errors
/// As [`EnvelopeKey::seal`].
pub fn seal(
    key: &EnvelopeKey,
    nonce: [u8; Header::NONCE_LEN],
    codec: Codec,
    plaintext: &[u8],
    context: &RecordContext,
) -> Result<Vec<u8>, SealError> {
    key.seal_with_nonce(nonce, codec, plaintext, context)
}

/// A stream with `salt`.
///
/// # Errors
/// As [`EnvelopeKey::chunk_sealer`].
pub fn chunk_sealer(
    key: &EnvelopeKey,
    salt: [u8; Header::NONCE_LEN],
    context: &RecordContext,
    options: StreamOptions,
) -> Result<ChunkSealer, SealError> {
    crate::stream::check_chunk_log2(options.chunk_log2)?;
    key.chunk_sealer_with(bulla_sys::generation(), salt, context, options)
}

/// `dek` as the key of one self-contained envelope.
///
/// # Errors
/// As [`SingleUseKey::generate`].
pub fn single_use_key(
    dek: DataKey,
    scope: &ScopeContext,
    options: KeyOptions,
) -> Result<SingleUseKey, KeyError> {
    SingleUseKey::of(bulla_sys::generation(), dek, scope, options)
}

/// A self-contained one-shot envelope with `nonce`.
///
/// # Errors
/// As [`SingleUseKey::seal`].
pub fn seal_self_contained(
    key: SingleUseKey,
    nonce: [u8; Header::NONCE_LEN],
    wraps: &Wraps,
    codec: Codec,
    plaintext: &[u8],
    context: &RecordContext,
) -> Result<Vec<u8>, SealError> {
    key.seal_with(nonce, wraps, codec, plaintext, context)
}

/// A self-contained stream with `salt`.
///
/// # Errors
/// As [`SingleUseKey::chunk_sealer`].
pub fn self_contained_chunk_sealer(
    key: SingleUseKey,
    salt: [u8; Header::NONCE_LEN],
    wraps: &Wraps,
    context: &RecordContext,
    options: StreamOptions,
) -> Result<ChunkSealer, SealError> {
    key.chunk_sealer_with(salt, wraps, context, options)
}
