//! Errors, one enum per thing a caller can be doing.
//!
//! Authentication failures are opaque on purpose: nothing here says which bit,
//! field or comparison failed. Malformed headers and unknown keys are separate
//! errors, because they are about public bytes.

use crate::{KeyId, Suite};

/// A context was refused. Nothing was sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// More pairs than the context may hold.
    #[error("a context of this kind holds at most {max} pairs")]
    TooManyPairs {
        /// The limit, in pairs.
        max: usize,
    },
    /// A key of zero length.
    #[error("context keys must not be empty")]
    EmptyKey,
    /// A key longer than [`CONTEXT_KEY_BYTES_MAX`](crate::limits::CONTEXT_KEY_BYTES_MAX).
    #[error("a context key is {len} bytes long; the limit is {max}")]
    KeyTooLong {
        /// Length of the key, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// A value longer than [`CONTEXT_VALUE_BYTES_MAX`](crate::limits::CONTEXT_VALUE_BYTES_MAX).
    #[error("the value of context key {key:?} is {len} bytes long; the limit is {max}")]
    ValueTooLong {
        /// The key, as far as it is UTF-8.
        key: String,
        /// Length of the value, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The pairs are fine one by one, their encoding is too long.
    #[error("the encoded context is {len} bytes long; the limit is {max}")]
    TooLong {
        /// Encoded length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The same key twice.
    #[error("context key {key:?} appears twice")]
    DuplicateKey {
        /// The key, as far as it is UTF-8.
        key: String,
    },
    /// A key that starts with `bulla`, which the format keeps for itself.
    #[error("context key {key:?} is reserved, as is every key that starts with `bulla`")]
    ReservedKey {
        /// The key, as far as it is UTF-8.
        key: String,
    },
    /// A scope context holds UTF-8 text only: key services take strings.
    #[error("scope contexts must be UTF-8")]
    NotUtf8,
}

/// The bytes are not an envelope header that this library knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer bytes than the fixed header.
    #[error("an envelope header is 68 bytes long; there are only {len}")]
    TooShort {
        /// Bytes there are.
        len: usize,
    },
    /// The first three bytes are not `BUL`.
    #[error("not a Bulla envelope (wrong magic)")]
    NotAnEnvelope,
    /// A Bulla envelope of a format version that this library does not know.
    #[error("envelope format version {0} is not supported")]
    UnsupportedFormat(u8),
    /// An unknown kind byte.
    #[error("unknown envelope kind {0:#04x}")]
    UnknownKind(u8),
    /// An unknown or reserved suite byte.
    #[error("unknown or reserved suite {0:#04x}")]
    UnknownSuite(u8),
    /// A reserved codec byte.
    #[error("unknown codec {0:#04x}")]
    UnknownCodec(u8),
    /// `chunk_log2` does not fit the kind: 0 for one-shot, 12 to 22 for chunked.
    #[error("chunk_log2 {0} does not fit the kind of the envelope")]
    BadChunkSize(u8),
    /// A referenced envelope with DEK version 0, or a self-contained one with another.
    #[error("DEK version {0} does not fit the kind of the envelope")]
    BadDekVersion(u32),
}

/// A key could not be made or derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("the operating system's random generator failed")]
    Random,
    /// The cryptographic library refused a key; in practice it is out of memory.
    #[error("the cryptographic library refused the key")]
    Library,
}

/// Sealing failed. The output buffer holds nothing of the plaintext.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The plaintext is longer than a one-shot envelope may be (2^30 bytes).
    #[error("the plaintext is {len} bytes long; a one-shot envelope holds at most {max}")]
    PlaintextTooLong {
        /// Length of the plaintext, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The caller's buffer is too small.
    #[error("the output buffer is {len} bytes long; the envelope needs {needed}")]
    BufferTooSmall {
        /// Length of the buffer, in bytes.
        len: usize,
        /// Length that is needed, in bytes.
        needed: usize,
    },
    /// A nonce or a derived key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Opening failed. No plaintext was released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The header cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header is fine, what follows is too short to hold a tag.
    #[error("the envelope is cut off after its header")]
    Truncated,
    /// An envelope of another kind than the call opens.
    #[error("this call opens referenced one-shot envelopes only")]
    WrongKind,
    /// A suite that the opener does not accept.
    #[error("suite {0} is not on the opener's allow-list")]
    SuiteNotAllowed(Suite),
    /// The plaintext was encoded by another codec than the caller asked for.
    #[error("the plaintext has codec {found}, the call expects {expected}")]
    WrongCodec {
        /// Codec byte in the header.
        found: u8,
        /// Codec byte that the call expects.
        expected: u8,
    },
    /// The header names another key than the one at hand: another DEK, another
    /// version, or another scope.
    #[error("the envelope is sealed under key {0}, which is not the key at hand")]
    WrongKey(KeyId),
    /// The ciphertext is longer than a one-shot envelope may be.
    #[error("the envelope is longer than a one-shot envelope may be")]
    TooLong,
    /// The caller's buffer is too small.
    #[error("the output buffer is {len} bytes long; the plaintext needs {needed}")]
    BufferTooSmall {
        /// Length of the buffer, in bytes.
        len: usize,
        /// Length that is needed, in bytes.
        needed: usize,
    },
    /// The envelope, or the context it is opened under, is not what was sealed.
    #[error("the envelope could not be authenticated under this context")]
    Authentication,
    /// A derived key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}
