//! Chunked payloads: streams of any length in constant memory (spec, section 7).
//!
//! | file | what |
//! |---|---|
//! | `layout` | where chunks and ranges are |
//! | `sealer`, `opener` | chunk by chunk, without I/O |
//! | `writer`, `reader` | over `std::io::Write` and `Read` |
//! | `range` | parts of a stream, over `Read + Seek` or a callback |

mod layout;
mod opener;
mod range;
mod reader;
mod sealer;
#[cfg(test)]
mod tests;
mod writer;

use std::io;

use zeroize::Zeroizing;

pub use layout::StreamLayout;
pub use opener::ChunkOpener;
pub use range::{FetchAt, RangeReader, SeekSource};
pub use reader::OpenReader;
pub use sealer::ChunkSealer;
pub use writer::SealWriter;

use crate::aead::{AeadKey, Library, NONCE_LEN, TAG_LEN};
use crate::error::{KeyError, OpenError, SealError};
use crate::limits::{CHUNK_LOG2_MAX, CHUNK_LOG2_MIN};
use crate::{Codec, Header, RecordContext, Suite, kdf};

/// Length of the commitment in front of the chunks, in bytes.
pub(crate) const COMMITMENT_LEN: usize = 32;

/// How a stream is divided and what its plaintext is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// Binary logarithm of the chunk size in bytes, 12 to 22 (4 KiB to 4 MiB). The
    /// default is 16: 64 KiB, of which tags take 0.02 percent. A range read opens whole
    /// chunks; sealing and opening hold one at a time in memory.
    pub chunk_log2: u8,
    /// How the plaintext encodes a value.
    pub codec: Codec,
}

impl StreamOptions {
    /// The same options with another chunk size.
    pub const fn with_chunk_log2(mut self, chunk_log2: u8) -> Self {
        self.chunk_log2 = chunk_log2;
        self
    }

    /// The same options with another codec.
    pub const fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Checks what sealing would refuse, before anything is made for it.
    ///
    /// # Errors
    /// [`SealError::ChunkSize`].
    pub fn check(&self) -> Result<(), SealError> {
        check_chunk_log2(self.chunk_log2)
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { chunk_log2: 16, codec: Codec::RAW }
    }
}

/// What is derived for one stream (spec, section 4.2, last row).
pub(crate) struct StreamKeys {
    aead: AeadKey,
    base_nonce: [u8; NONCE_LEN],
    pub(crate) commitment: [u8; COMMITMENT_LEN],
}

impl StreamKeys {
    pub(crate) fn derive(
        stream_key: &[u8; 32],
        library: Library,
        suite: Suite,
        header: &[u8; Header::LEN],
        context: &RecordContext,
    ) -> Result<Self, KeyError> {
        let mut okm = Zeroizing::new([0; 32 + NONCE_LEN + COMMITMENT_LEN]);
        kdf::expand(stream_key, "chunks", &[header, context.as_bytes()], &mut *okm)?;
        let mut base_nonce = [0; NONCE_LEN];
        let mut commitment = [0; COMMITMENT_LEN];
        let (chunk_key, rest) = okm.split_first_chunk().ok_or(KeyError::Library)?;
        base_nonce.copy_from_slice(&rest[..NONCE_LEN]);
        commitment.copy_from_slice(&rest[NONCE_LEN..]);
        let aead = bulla_sys::apart(|| AeadKey::new(library, suite, chunk_key))?;
        Ok(Self { aead, base_nonce, commitment })
    }

    /// Writes ciphertext and tag of chunk `index` over `out`, which is 16 bytes longer
    /// than `plaintext`.
    fn seal(&self, index: u32, plaintext: &[u8], out: &mut [u8]) -> Result<(), KeyError> {
        let sealed = self.aead.seal(&self.nonce(index), &[], plaintext, out);
        sealed.map_err(|_| KeyError::Library)
    }

    /// Writes the plaintext of chunk `index` over `out`, which is 16 bytes shorter than
    /// `block`. After an error, `out` may hold anything and must be wiped.
    fn open(&self, index: u32, block: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
        let (ciphertext, tag) =
            block.split_last_chunk::<TAG_LEN>().ok_or(OpenError::Authentication)?;
        self.aead
            .open(&self.nonce(index), &[], ciphertext, tag, out)
            .map_err(|_| OpenError::Authentication)
    }

    /// The base nonce with the index mixed into its last four bytes.
    fn nonce(&self, index: u32) -> [u8; NONCE_LEN] {
        let mut nonce = self.base_nonce;
        for (byte, index) in nonce[NONCE_LEN - 4..].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= index;
        }
        nonce
    }
}

pub(crate) fn check_chunk_log2(chunk_log2: u8) -> Result<(), SealError> {
    match chunk_log2 {
        CHUNK_LOG2_MIN..=CHUNK_LOG2_MAX => Ok(()),
        _ => Err(SealError::ChunkSize(chunk_log2)),
    }
}

/// For `Read` and `Write`, whose errors are of one type.
impl From<SealError> for io::Error {
    fn from(error: SealError) -> Self {
        Self::other(error)
    }
}

/// Of kind `InvalidData`; `InvalidInput` for a range beyond the end.
impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::OutOfRange { .. } => Self::new(io::ErrorKind::InvalidInput, error),
            error => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}
