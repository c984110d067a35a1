//! Where the chunks of a stream are: arithmetic on public lengths (spec, section 7.3).

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

/// What a range read has to fetch and to open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangePlan {
    /// Numbers of the chunks to open.
    pub chunks: Range<u64>,
    /// Whether the last of them is the last of the stream: its length decides the
    /// length of the plaintext.
    pub ends_stream: bool,
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
        let chunks_offset = payload_offset.saturating_add(COMMITMENT_LEN as u64);
        let chunks_len = total_len.checked_sub(chunks_offset).ok_or_else(|| {
            let len = total_len.saturating_sub(payload_offset) as usize;
            HeaderError::PayloadTooShort { len, min: COMMITMENT_LEN }
        })?;
        let layout = Self { chunks_offset, chunk_log2, chunks_len };
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
        self.last() + (self.rest() >= TAG_LEN as u64) as u64
    }

    /// Length of the plaintext in bytes, if the last chunk is what it seems to be.
    pub const fn claimed_plaintext_len(&self) -> u64 {
        self.last() * self.chunk_len() + self.rest().saturating_sub(TAG_LEN as u64)
    }

    /// Where chunk `index` is in the envelope, in bytes; the last chunk as far as there
    /// are bytes.
    pub fn block(&self, index: u64) -> Range<u64> {
        let at = |index: u64| index.saturating_mul(self.block_len()).min(self.chunks_len);
        self.chunks_offset + at(index)..self.chunks_offset + at(index.saturating_add(1))
    }

    /// What to open for plaintext bytes `range`: the chunks that they lie in, or one
    /// chunk if the range is empty; the last chunk alone if the range ends beyond it.
    pub fn plan(&self, range: &Range<u64>) -> RangePlan {
        let last = self.last();
        let chunk_of = |byte: u64| (byte >> self.chunk_log2).min(last);
        let chunks = match range.end {
            end if end > self.claimed_plaintext_len() => last..last + 1,
            end if end <= range.start => chunk_of(range.start)..chunk_of(range.start) + 1,
            end => chunk_of(range.start)..chunk_of(end - 1) + 1,
        };
        RangePlan { ends_stream: chunks.end > last, chunks }
    }

    /// Number of the last chunk: m in the specification.
    pub(super) const fn last(&self) -> u64 {
        self.chunks_len / self.block_len()
    }

    /// Length of the last chunk with its tag, in bytes: r in the specification.
    const fn rest(&self) -> u64 {
        self.chunks_len % self.block_len()
    }

    /// Length of a full chunk with its tag, in bytes.
    pub(super) const fn block_len(&self) -> u64 {
        self.chunk_len() + TAG_LEN as u64
    }

    /// The length that was claimed, once the last chunk has been opened, against the
    /// end of `range`.
    pub(super) fn check_end(&self, range: &Range<u64>) -> Result<(), OpenError> {
        match self.claimed_plaintext_len() {
            len if range.end > len => Err(OpenError::OutOfRange { len }),
            _ => Ok(()),
        }
    }
}
