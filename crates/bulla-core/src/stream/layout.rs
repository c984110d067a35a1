//! Where the chunks of a stream are: arithmetic on public lengths (spec, section 7.3).

use std::io;
use std::ops::Range;

use crate::aead::TAG_LEN;
use crate::error::{HeaderError, OpenError};
use crate::limits::{STREAM_CHUNKS_MAX, STREAM_PLAINTEXT_BYTES_MAX};

use super::COMMITMENT_LEN;

/// Division of a chunked envelope of known length. What it says about the end of the
/// stream is a claim until the last chunk has been opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLayout {
    /// Where the first chunk begins.
    chunks_offset: u64,
    chunk_log2: u8,
    /// Length of all chunks, V in the specification.
    chunks_len: u64,
}

impl StreamLayout {
    /// The layout of an envelope of `total_len` bytes whose payload begins at
    /// `payload_offset`.
    ///
    /// # Errors
    /// [`HeaderError`] without room for the commitment, for a chunk size outside 2^12 to
    /// 2^22 bytes, and for more than 2^32 chunks or 2^44 bytes of plaintext.
    pub fn new(payload_offset: u64, chunk_log2: u8, total_len: u64) -> Result<Self, HeaderError> {
        super::check_chunk_log2(chunk_log2).map_err(|_| HeaderError::BadChunkSize(chunk_log2))?;
        let payload_len = total_len.saturating_sub(payload_offset);
        let chunks_len =
            payload_len.checked_sub(COMMITMENT_LEN as u64).ok_or(HeaderError::PayloadTooShort {
                len: payload_len as usize,
                min: COMMITMENT_LEN,
            })?;
        let layout = Self { chunks_offset: total_len - chunks_len, chunk_log2, chunks_len };
        if layout.chunks() > STREAM_CHUNKS_MAX
            || layout.claimed_plaintext_len() > STREAM_PLAINTEXT_BYTES_MAX
        {
            return Err(HeaderError::PayloadTooLong);
        }
        Ok(layout)
    }

    /// Plaintext in every chunk but the last, in bytes: C in the specification.
    pub const fn chunk_len(&self) -> u64 {
        1 << self.chunk_log2
    }

    /// Number of chunks; what is left over where fewer than 16 bytes are is none.
    pub const fn chunks(&self) -> u64 {
        self.last_chunk() + (self.rest() >= TAG_LEN as u64) as u64
    }

    /// Length of the plaintext in bytes, if the last chunk is what it seems to be.
    pub const fn claimed_plaintext_len(&self) -> u64 {
        self.last_chunk() * self.chunk_len() + self.rest().saturating_sub(TAG_LEN as u64)
    }

    /// Where chunk `index` is in the envelope, in bytes; the last chunk as far as there
    /// are bytes.
    pub fn block(&self, index: u64) -> Range<u64> {
        //= spec 7.3
        //# It MUST treat chunks before m as full ones.
        let at = |index: u64| index.saturating_mul(self.block_len()).min(self.chunks_len);
        self.chunks_offset + at(index)..self.chunks_offset + at(index.saturating_add(1))
    }

    /// Number of the last chunk: m in the specification.
    pub const fn last_chunk(&self) -> u64 {
        self.chunks_len / self.block_len()
    }

    /// Numbers of the chunks to open for plaintext bytes `range`: those that they lie in,
    /// or one chunk if the range is empty; the last chunk alone if the range ends beyond
    /// it. Open these, in order, and collect what [`part_of`](Self::part_of) says; once the
    /// last chunk of the stream has been opened, [`check_end`](Self::check_end) must agree.
    ///
    /// # Errors
    /// An error of kind `InvalidInput` for a range that ends before it begins.
    pub fn chunks_of(&self, range: &Range<u64>) -> io::Result<Range<u64>> {
        let last = self.last_chunk();
        let chunk_of = |byte: u64| (byte >> self.chunk_log2).min(last);
        let (first, end) = match range.end {
            end if end < range.start => {
                return Err(invalid_input("a range that ends before it begins"));
            }
            end if end > self.claimed_plaintext_len() => (last, last),
            end if end == range.start => (chunk_of(end), chunk_of(end)),
            //= spec 7.3
            //# A range read that needs only chunks before m MUST NOT be refused because r < 16 or
            //# because chunk m is not authentic
            end => (chunk_of(range.start), chunk_of(end - 1)),
        };
        Ok(first..end + 1)
    }

    /// An empty buffer with room for plaintext bytes `range`; without, if the range ends
    /// beyond the plaintext, which is an error whatever the stream turns out to hold.
    ///
    /// # Errors
    /// An error of kind `OutOfMemory` if there is none.
    pub fn buffer_for(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        if range.end > self.claimed_plaintext_len() {
            return Ok(buffer);
        }
        usize::try_from(range.end.saturating_sub(range.start))
            .ok()
            .and_then(|len| buffer.try_reserve_exact(len).ok())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(buffer)
    }

    /// The part of the plaintext of chunk `index` that lies in `range`.
    pub fn part_of<'a>(&self, index: u64, plaintext: &'a [u8], range: &Range<u64>) -> &'a [u8] {
        let first = index.saturating_mul(self.chunk_len());
        let within = |byte: u64| byte.saturating_sub(first).min(plaintext.len() as u64) as usize;
        plaintext.get(within(range.start)..within(range.end)).unwrap_or_default()
    }

    /// Compares the end of `range` with the length of the plaintext, which is no claim any
    /// more once the last chunk has been opened.
    ///
    /// # Errors
    /// [`OpenError::OutOfRange`] if the range ends beyond the plaintext.
    pub fn check_end(&self, range: &Range<u64>) -> Result<(), OpenError> {
        match self.claimed_plaintext_len() {
            len if range.end > len => Err(OpenError::OutOfRange { len }),
            _ => Ok(()),
        }
    }

    /// Length of the last chunk with its tag, in bytes: r in the specification.
    const fn rest(&self) -> u64 {
        self.chunks_len % self.block_len()
    }

    /// Length of a full chunk with its tag, in bytes.
    pub(super) const fn block_len(&self) -> u64 {
        self.chunk_len() + TAG_LEN as u64
    }
}

pub(super) fn invalid_input(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
