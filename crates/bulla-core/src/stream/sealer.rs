//! Sealing chunk by chunk, without I/O.

use std::fmt;
use std::io::Write;

use zeroize::Zeroize;

use super::{SealWriter, StreamKeys};
use crate::Header;
use crate::aead::TAG_LEN;
use crate::error::SealError;
use crate::limits::{STREAM_CHUNKS_MAX, STREAM_PLAINTEXT_BYTES_MAX};

/// Seals one stream, chunk by chunk. Most callers want it behind `std::io::Write`:
/// [`EnvelopeKey::seal_writer`](crate::EnvelopeKey::seal_writer).
///
/// The envelope is [`head`](Self::head) followed by what [`seal_next`](Self::seal_next)
/// returns, until it was given a chunk shorter than [`chunk_len`](Self::chunk_len), which
/// ends the stream. A stream that is dropped before that is cut off, and no opener takes
/// it for complete.
///
/// It is not `Clone` and cannot be resumed: two continuations would seal two chunks under
/// one nonce. For the same reason it fails for good once a call has failed, and in a
/// process that was forked since, or restored and told so
/// ([`notify_restored`](crate::notify_restored)).
pub struct ChunkSealer {
    head: Vec<u8>,
    keys: StreamKeys,
    chunk_len: usize,
    /// Index of the next chunk; `None` once the stream has ended or failed.
    next: Option<u32>,
    plaintext_len: u64,
    /// Number of the process that began the stream.
    generation: u64,
}

impl ChunkSealer {
    /// `head` is all that goes before the commitment.
    pub(crate) fn new(mut head: Vec<u8>, chunk_log2: u8, keys: StreamKeys, born: u64) -> Self {
        head.extend_from_slice(&keys.commitment);
        let chunk_len = 1 << chunk_log2;
        Self { head, keys, chunk_len, next: Some(0), plaintext_len: 0, generation: born }
    }

    /// This stream over `writer`: what is written to it goes out sealed.
    pub fn into_writer<W: Write>(self, writer: W) -> SealWriter<W> {
        SealWriter::new(self, writer)
    }

    /// What goes in front of the chunks: header, wraps if the envelope is self-contained,
    /// commitment.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Plaintext in every chunk but the last, in bytes.
    pub fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// Plaintext sealed so far, in bytes.
    pub fn plaintext_len(&self) -> u64 {
        self.plaintext_len
    }

    /// Whether nothing more can be sealed: the stream was ended, or has failed. (Of an
    /// opener, [`is_ended`](crate::ChunkOpener::is_ended) says that all has arrived.)
    pub fn is_ended(&self) -> bool {
        self.next.is_none()
    }

    /// Seals the next chunk into the start of `out` and returns its length, 16 bytes
    /// more than the plaintext's. A chunk shorter than [`chunk_len`](Self::chunk_len),
    /// which may be empty, ends the stream. Allocates nothing.
    ///
    /// # Errors
    /// [`SealError::BufferTooSmall`] and [`SealError::ChunkTooLong`] change nothing;
    /// after every other error the stream is at its end: [`SealError::ProcessCopied`],
    /// [`SealError::StreamTooLong`], [`SealError::StreamEnded`], [`SealError::Key`].
    /// `out` then holds nothing of the plaintext.
    pub fn seal_next(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, SealError> {
        let (len, needed) = (out.len(), plaintext.len() + TAG_LEN);
        if plaintext.len() > self.chunk_len {
            return Err(SealError::ChunkTooLong { len: plaintext.len(), max: self.chunk_len });
        }
        let out = out.get_mut(..needed).ok_or(SealError::BufferTooSmall { len, needed })?;
        //= spec 7.1
        //# A sealer MUST use each index once.
        // Until the chunk is sealed, this stream has failed.
        let index = self.next.take().ok_or(SealError::StreamEnded)?;
        //= spec 7.1
        //# It MUST NOT be cloned, serialised, resumed or appended to; once it has failed, or has
        //# noticed that its process was forked or restored from a snapshot, every later call MUST
        //# fail.
        //= spec 7.1
        //# A sealer of streams MUST detect forks, in whatever mode records are sealed
        if bulla_sys::generation() != self.generation {
            return Err(SealError::ProcessCopied);
        }
        let ends = plaintext.len() < self.chunk_len;
        let plaintext_len = self.plaintext_len + plaintext.len() as u64;
        //= spec 7.1
        //# A sealer and an opener MUST stop with an error rather than let the index wrap
        // A full chunk needs another one after it.
        let chunks = u64::from(index) + 1 + u64::from(!ends);
        if chunks > STREAM_CHUNKS_MAX || plaintext_len > STREAM_PLAINTEXT_BYTES_MAX {
            return Err(SealError::StreamTooLong);
        }
        if let Err(error) = self.keys.seal(index, plaintext, out) {
            out.zeroize();
            return Err(error.into());
        }
        self.plaintext_len = plaintext_len;
        self.next = if ends { None } else { index.checked_add(1) };
        Ok(needed)
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, index: u32, plaintext_len: u64) {
        (self.next, self.plaintext_len) = (Some(index), plaintext_len);
    }
}

impl fmt::Debug for ChunkSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkSealer")
            .field("header", &Header::parse(&self.head))
            .field("plaintext_len", &self.plaintext_len)
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}
