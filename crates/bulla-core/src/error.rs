//! Errors, one enum per thing a caller can be doing.
//!
//! Authentication failures are opaque on purpose: nothing here says which bit,
//! field or comparison failed. Malformed headers and unknown keys are separate
//! errors, because they are about public bytes.

use std::fmt;

use crate::{Codec, KeyId, Kind, Suite};

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

/// The bytes are no envelope that this library knows, by what can be said without a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer bytes than the fixed header.
    #[error("not a whole Bulla envelope: a header is 68 bytes long, and there are only {len}")]
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
    /// The wraps section of a self-contained envelope.
    #[error(transparent)]
    Wraps(#[from] WrapsError),
    /// No room for a tag, or for the commitment of a stream.
    #[error("the payload is {len} bytes long; one of this kind has at least {min}")]
    PayloadTooShort {
        /// Length of the payload, in bytes.
        len: usize,
        /// The least that its kind needs, in bytes.
        min: usize,
    },
    /// More plaintext than a one-shot envelope may hold (2^30 bytes), or more
    /// plaintext (2^44 bytes) or chunks (2^32) than a stream may.
    #[error("the payload is longer than one of this kind may be")]
    PayloadTooLong,
}

/// A wraps section that is malformed, or wraps that no section may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrapsError {
    /// Fewer than one wrap, or more than eight.
    #[error("a self-contained envelope has 1 to 8 wraps, not {0}")]
    Count(usize),
    /// A field that is shorter or longer than it may be.
    #[error("the {field} of a wrap is {len} bytes long; it may have {min} to {max}")]
    FieldLength {
        /// Which field.
        field: &'static str,
        /// Its length, in bytes.
        len: usize,
        /// The least it may have, in bytes.
        min: usize,
        /// The most it may have, in bytes.
        max: usize,
    },
    /// The backend byte 0, or one that is reserved where wraps are made.
    #[error("backend {0} cannot be the maker of a wrap")]
    Backend(u8),
    /// Two wraps by the same version of the same KEK; in a section that was read,
    /// also wraps that are not in order.
    #[error("the same key-encryption key is there twice, or the wraps are not in order")]
    Order,
    /// `wraps_len` does not fit what it should measure, or the section is cut off.
    #[error("the wraps section does not have the length that it states")]
    SectionLength,
    /// Wraps of another generation than the one after those that they replace.
    #[error("generation {0} is not the one after the present wraps")]
    Generation(u32),
    /// The generation cannot be counted any further (2^32 - 1 rewraps).
    #[error("the wraps have been replaced as often as the format can count")]
    GenerationEnded,
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
    #[error(
        "the plaintext is {len} bytes long; a one-shot envelope holds at most {max}: seal a stream"
    )]
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
    /// A chunk size outside 2^12 to 2^22 bytes.
    #[error("chunk_log2 is {0}; chunks have 2^12 to 2^22 bytes")]
    ChunkSize(u8),
    /// A chunk longer than the stream's chunk size.
    #[error("the chunk is {len} bytes long; those of this stream have at most {max}")]
    ChunkTooLong {
        /// Length of the chunk, in bytes.
        len: usize,
        /// Chunk size of the stream, in bytes.
        max: usize,
    },
    /// More than a stream holds: 2^32 chunks, 2^44 bytes.
    #[error("a stream holds at most 2^44 bytes, in at most 2^32 chunks")]
    StreamTooLong,
    /// The stream was ended by a short chunk, or has failed before. It cannot go on:
    /// seal the whole again, as another stream.
    #[error("the stream has ended or failed and cannot be continued")]
    StreamEnded,
    /// The process was forked, or restored from a snapshot, since the stream or the
    /// single-use key was begun. Going on would use a nonce twice: begin again.
    #[error("the process was forked or restored since this was begun; begin again")]
    ProcessCopied,
    /// The wraps cannot be written.
    #[error(transparent)]
    Wraps(#[from] WrapsError),
    /// A nonce or a derived key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Opening failed. No plaintext was released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are no envelope.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// An envelope of another kind than the call opens.
    #[error("this call does not open {0} envelopes")]
    WrongKind(Kind),
    /// A suite that the opener does not accept.
    #[error("suite {0} is not accepted here; allow it with KeyOptions::accepting")]
    SuiteNotAllowed(Suite),
    /// The plaintext was encoded by another codec than the caller asked for.
    #[error("the plaintext is {}, the call expects {}", codec_name(*found), codec_name(*expected))]
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
    /// The caller's buffer is too small.
    #[error("the output buffer is {len} bytes long; the plaintext needs {needed}")]
    BufferTooSmall {
        /// Length of the buffer, in bytes.
        len: usize,
        /// Length that is needed, in bytes.
        needed: usize,
    },
    //= spec 8.2
    //# Within the authentication error it MUST NOT tell which check failed, in value, text or log.
    /// The envelope, or the context it is opened under, is not what was sealed; or a
    /// stream was cut off.
    #[error("the envelope is not authentic under this context, or was cut off")]
    Authentication,
    /// A range ends beyond the plaintext.
    #[error("the range ends beyond the plaintext, which is {len} bytes long")]
    OutOfRange {
        /// Length of the plaintext, authenticated, in bytes.
        len: u64,
    },
    /// A block after the last one of a stream.
    #[error("the stream has ended; there is nothing more to open")]
    StreamEnded,
    /// A derived key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn codec_name(codec: u8) -> String {
    Codec::from_byte(codec).map_or_else(|| format!("codec {codec}"), |codec| codec.to_string())
}

/// The classes into which the specification sorts refusals (section 8.2): what a
/// caller can act on, and what another implementation must agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Not an envelope of this format, or its fields contradict each other.
    Malformed,
    /// An envelope that this version of the format does not define: update the reader.
    Unsupported,
    /// Well-formed, of a kind, suite or codec that the caller did not ask for.
    NotAccepted,
    /// No key at hand has the version and key id, in the caller's scope.
    UnknownKey,
    /// Changed, moved, cut off, or opened under another record context.
    Authentication,
    /// A range that ends beyond the plaintext.
    OutOfRange,
    /// Nothing is wrong with the envelope: a buffer, a call or the system.
    Local,
}

/// The words of the specification.
impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::NotAccepted => "not accepted",
            Self::UnknownKey => "unknown key",
            Self::Authentication => "authentication error",
            Self::OutOfRange => "out of range",
            Self::Local => "local error",
        })
    }
}

impl HeaderError {
    /// The class of this refusal.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::UnsupportedFormat(_)
            | Self::UnknownKind(_)
            | Self::UnknownSuite(_)
            | Self::UnknownCodec(_) => ErrorClass::Unsupported,
            _ => ErrorClass::Malformed,
        }
    }
}

impl OpenError {
    //= spec 8.2
    //# An implementation MUST keep header errors, unknown keys and authentication errors apart
    /// The class of this refusal.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Header(error) => error.class(),
            Self::WrongKind(_) | Self::SuiteNotAllowed(_) | Self::WrongCodec { .. } => {
                ErrorClass::NotAccepted
            }
            Self::WrongKey(_) => ErrorClass::UnknownKey,
            Self::Authentication => ErrorClass::Authentication,
            Self::OutOfRange { .. } => ErrorClass::OutOfRange,
            Self::BufferTooSmall { .. } | Self::StreamEnded | Self::Key(_) => ErrorClass::Local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_version_does_not_define_is_unsupported() {
        for error in [
            HeaderError::UnsupportedFormat(2),
            HeaderError::UnknownKind(9),
            HeaderError::UnknownSuite(9),
            HeaderError::UnknownCodec(9),
        ] {
            assert_eq!(error.class(), ErrorClass::Unsupported);
            assert_eq!(OpenError::from(error).class(), ErrorClass::Unsupported);
        }
        assert_eq!(HeaderError::TooShort { len: 1 }.class(), ErrorClass::Malformed);
    }

    #[test]
    fn classes_have_the_words_of_the_specification() {
        assert_eq!(ErrorClass::UnknownKey.to_string(), "unknown key");
        assert_eq!(ErrorClass::Authentication.to_string(), "authentication error");
    }

    #[test]
    fn codecs_are_named_where_they_have_a_name() {
        let error = OpenError::WrongCodec { found: 2, expected: 99 };
        let (text, json) = (error.to_string(), Codec::from_byte(2).unwrap().to_string());
        assert!(text.contains(&json) && text.contains("codec 99"), "{text}");
    }
}
