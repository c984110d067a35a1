//! Opening chunk by chunk, without I/O.

use std::fmt;
use std::io::Read;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{COMMITMENT_LEN, FetchAt, OpenReader, RangeReader, StreamKeys, StreamLayout};
use crate::aead::TAG_LEN;
use crate::error::{HeaderError, OpenError};
use crate::limits::{STREAM_CHUNKS_MAX, STREAM_PLAINTEXT_BYTES_MAX};

/// Opens one stream: in order, with [`open_next`](Self::open_next), or any chunk of it,
/// with [`open_at`](Self::open_at). Most callers want it behind `std::io::Read`
/// ([`EnvelopeKey::open_reader`](crate::EnvelopeKey::open_reader)) or for ranges
/// ([`EnvelopeKey::open_range`](crate::EnvelopeKey::open_range)).
///
/// Header, record context and commitment have been checked when it exists. Chunks that
/// come out are authentic and in their place; that the stream is complete is known only
/// when [`is_ended`](Self::is_ended).
///
/// What lies in memory, or in a mapped file, is opened from there without a copy:
///
/// ```
/// use bulla_core::{
///     Codec, DataKey, DekVersion, EnvelopeKey, KeyOptions, RecordContext, ScopeContext,
///     StreamOptions,
/// };
/// use std::io::Write;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let scope = ScopeContext::new([("tenant", "t-9f2c")])?;
/// # let dek = DataKey::generate()?;
/// # let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, KeyOptions::default())?;
/// let context = RecordContext::new([("object", "backup-7")])?;
/// let mut writer = key.seal_writer(Vec::new(), &context, StreamOptions::default())?;
/// writer.write_all(&[b'x'; 150_000])?;
/// let envelope = writer.finish()?;
///
/// let (head, chunks) = envelope.split_at(EnvelopeKey::STREAM_HEAD_LEN);
/// let mut opener = key.chunk_opener(head, &context, Codec::RAW)?;
/// let (mut out, mut opened) = (vec![0; opener.chunk_len()], 0);
/// for block in chunks.chunks(opener.block_len()) {
///     let len = opener.open_next(block, &mut out)?;
///     opened += out[..len].len();
/// }
/// assert!(opener.is_ended(), "it was cut off");
/// assert_eq!(opened, 150_000);
/// # Ok(())
/// # }
/// ```
pub struct ChunkOpener {
    keys: StreamKeys,
    chunk_len: usize,
    /// Index of the next chunk in order.
    next: u64,
    plaintext_len: u64,
    state: State,
}

enum State {
    Open,
    Ended,
    Failed(OpenError),
}

impl ChunkOpener {
    pub(crate) fn new(
        keys: StreamKeys,
        chunk_log2: u8,
        commitment: &[u8; COMMITMENT_LEN],
    ) -> Result<Self, OpenError> {
        //= spec 7.2
        //# An opener derives chunk key, base nonce and commitment, and MUST compare the commitment
        //# with envelope[P : P+32] in constant time before it opens any chunk
        if !bool::from(keys.commitment.ct_eq(commitment)) {
            return Err(OpenError::Authentication);
        }
        let chunk_len = 1 << chunk_log2;
        Ok(Self { keys, chunk_len, next: 0, plaintext_len: 0, state: State::Open })
    }

    /// This stream over `reader`, which stands at the first chunk: what is read comes out
    /// opened.
    pub fn into_reader<R: Read>(self, reader: R) -> OpenReader<R> {
        OpenReader::new(self, reader)
    }

    /// Ranges of this stream, whose chunks are where `layout` says, fetched by `source`.
    pub fn into_range<S: FetchAt>(self, layout: StreamLayout, source: S) -> RangeReader<S> {
        RangeReader::new(self, layout, source)
    }

    /// Length of the commitment in front of the chunks, in bytes.
    pub const COMMITMENT_LEN: usize = COMMITMENT_LEN;

    /// Length of the tag behind each chunk, in bytes.
    pub const TAG_LEN: usize = TAG_LEN;

    /// Plaintext in every chunk but the last, in bytes.
    pub fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// Length of every chunk but the last with its tag, in bytes. Read this much and
    /// give what there is to [`open_next`](Self::open_next).
    pub fn block_len(&self) -> usize {
        self.chunk_len + TAG_LEN
    }

    /// Whether the last chunk has been opened: the plaintext is complete.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Opens the next block into the start of `out` and returns the length of its
    /// plaintext, 16 bytes less. A block shorter than [`block_len`](Self::block_len) is
    /// the last one. Give it *all* that there is to read up to that length: nothing at
    /// all means that the stream was cut off. Allocates nothing.
    ///
    /// # Errors
    /// [`OpenError::BufferTooSmall`] and [`OpenError::StreamEnded`] change nothing. After
    /// [`OpenError::Authentication`], which a stream that is cut off also ends in, and
    /// [`OpenError::Header`] beyond 2^32 chunks or 2^44 bytes, every later call of it fails in
    /// the same way. `out` then holds nothing of the plaintext.
    pub fn open_next(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize, OpenError> {
        self.check_open()?;
        match self.open_at(self.next, block, out) {
            Ok(len) => {
                self.next += 1;
                self.plaintext_len += len as u64;
                if len < self.chunk_len {
                    self.state = State::Ended;
                }
                Ok(len)
            }
            Err(error @ OpenError::BufferTooSmall { .. }) => Err(error),
            Err(error) => {
                self.state = State::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// Whether there is a next chunk, as far as is known: reading it is worth the while.
    ///
    /// # Errors
    /// What [`open_next`](Self::open_next) would fail with.
    pub fn check_open(&self) -> Result<(), OpenError> {
        match &self.state {
            State::Open => Ok(()),
            State::Ended => Err(OpenError::StreamEnded),
            //= spec 7.2
            //# An opener that has failed MUST keep failing.
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// Opens `block` as chunk `index`, whatever was opened or refused before (each range
    /// stands for itself, spec 7.3), into the start of `out` and returns the length of its
    /// plaintext. A block shorter than [`block_len`](Self::block_len) opens only as the last
    /// chunk of the stream.
    ///
    /// # Errors
    /// [`OpenError::Authentication`]; [`OpenError::BufferTooSmall`];
    /// [`OpenError::Header`] beyond 2^32 chunks or 2^44 bytes. `out` then holds nothing
    /// of the plaintext.
    pub fn open_at(&self, index: u64, block: &[u8], out: &mut [u8]) -> Result<usize, OpenError> {
        let plaintext_len = match block.len().checked_sub(TAG_LEN) {
            Some(len) if len <= self.chunk_len => len,
            //= spec 7.2
            //# A truncated stream MUST end in an error and never in an ordinary end of data.
            _ => return Err(OpenError::Authentication),
        };
        let end = u128::from(index) * self.chunk_len as u128 + plaintext_len as u128;
        let index = match u32::try_from(index) {
            Ok(index) if end <= u128::from(STREAM_PLAINTEXT_BYTES_MAX) => index,
            _ => return Err(HeaderError::PayloadTooLong.into()),
        };
        let (len, needed) = (out.len(), plaintext_len);
        let out = out.get_mut(..needed).ok_or(OpenError::BufferTooSmall { len, needed })?;
        match self.keys.open(index, block, out) {
            Ok(()) => Ok(plaintext_len),
            Err(error) => {
                out.zeroize();
                Err(error)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, index: u64) {
        self.next = index;
    }
}

/// The index of a chunk fits the four bytes that the nonce has for it.
const _: () = assert!(STREAM_CHUNKS_MAX == 1 << u32::BITS);

impl fmt::Debug for ChunkOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkOpener")
            .field("chunk_len", &self.chunk_len)
            .field("plaintext_len", &self.plaintext_len)
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}
