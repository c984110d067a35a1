//! Reading parts of a stream.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bulla_sys::{Unreleased, WipedVec};

use super::layout::invalid_input;
use super::{ChunkOpener, StreamLayout};
#[cfg(doc)]
use crate::error::OpenError;

/// Where the bytes of an envelope come from: anything that can fill a buffer from an
/// offset, such as a ranged GET. Closures do: `|offset, buf| file.read_exact_at(buf,
/// offset)`.
pub trait FetchAt {
    /// Fills `buf` with the envelope's bytes from `offset` on.
    ///
    /// # Errors
    /// What the source fails with; it is passed on.
    fn fetch_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl<F: FnMut(u64, &mut [u8]) -> io::Result<()>> FetchAt for F {
    fn fetch_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self(offset, buf)
    }
}

/// `Read + Seek` as a [`FetchAt`].
#[derive(Debug)]
pub struct SeekSource<R>(pub R);

impl<R: Read + Seek> FetchAt for SeekSource<R> {
    fn fetch_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(offset))?;
        self.0.read_exact(buf)
    }
}

/// Reads ranges of the plaintext of a stream, fetching and opening only the chunks that
/// they lie in, one at a time.
///
/// What it returns is authentic. That the rest of the stream still exists is not claimed,
/// but for [`len`](Self::len), reads relative to the end and the end of data that `read`
/// reports: these authenticate the last chunk first.
///
/// It is also `Read + Seek` over the plaintext, and then keeps the chunk it read last.
pub struct RangeReader<S> {
    opener: ChunkOpener,
    layout: StreamLayout,
    source: S,
    block: Vec<u8>,
    /// Length of the plaintext, once the last chunk has been opened.
    len: Option<u64>,
    position: u64,
    /// Number and plaintext of the chunk that `read` opened last.
    kept: Option<(u64, WipedVec)>,
}

impl<S: FetchAt> RangeReader<S> {
    pub(crate) fn new(opener: ChunkOpener, layout: StreamLayout, source: S) -> Self {
        Self { opener, layout, source, block: Vec::new(), len: None, position: 0, kept: None }
    }

    /// Length of the plaintext, in bytes, after the last chunk has proved to be the last.
    ///
    /// # Errors
    /// [`OpenError::Authentication`] inside an [`io::Error`] if the stream was cut off;
    /// what the source fails with.
    pub fn len(&mut self) -> io::Result<u64> {
        if let Some(len) = self.len {
            return Ok(len);
        }
        let mut last = WipedVec::from(vec![0; self.opener.chunk_len()]);
        self.open_chunk(self.layout.last_chunk(), &mut last)?;
        Ok(*self.len.insert(self.layout.claimed_plaintext_len()))
    }

    /// Whether the plaintext is empty.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&mut self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Plaintext bytes `range`. An empty range is empty, but only after one chunk has
    /// proved authentic.
    ///
    /// # Errors
    /// An [`OpenError`] inside an [`io::Error`]: [`OpenError::OutOfRange`] for a range
    /// that ends beyond the plaintext; [`OpenError::Authentication`]. An [`io::Error`] of
    /// kind `InvalidInput` for a range that ends before it begins, and of kind
    /// `OutOfMemory` for one that does not fit. What the source fails with. Nothing is
    /// returned then.
    pub fn read_range(&mut self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut plaintext = Unreleased::default();
        let mut chunk = WipedVec::from(vec![0; self.opener.chunk_len()]);
        for index in self.layout.chunks_of(&range)? {
            let len = self.open_chunk(index, &mut chunk)?;
            //= spec 7.3
            //# T comes from the store and is not authenticated, so a result that depends on it
            //# MUST NOT be given before chunk m has been opened
            if index == self.layout.last_chunk() {
                self.len = Some(self.layout.claimed_plaintext_len());
                self.layout.check_end(&range)?;
            }
            // Room is made once something has proved authentic.
            if plaintext.is_empty() {
                plaintext = self.layout.buffer_for(&range)?.into();
            }
            plaintext.extend_from_slice(self.layout.part_of(index, &chunk[..len], &range));
        }
        Ok(plaintext.release())
    }

    /// The source.
    pub fn into_inner(self) -> S {
        self.source
    }

    /// Fetches and opens one chunk into `out`; returns the length of its plaintext.
    fn open_chunk(&mut self, index: u64, out: &mut [u8]) -> io::Result<usize> {
        let block = self.layout.block(index);
        self.block.resize((block.end - block.start) as usize, 0);
        self.source.fetch_at(block.start, &mut self.block)?;
        Ok(self.opener.open_at(index, &self.block, out)?)
    }
}

impl<S: FetchAt> Read for RangeReader<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let chunk_len = self.layout.chunk_len();
        let index = self.position / chunk_len;
        if self.position >= self.layout.claimed_plaintext_len() && self.position >= self.len()? {
            return Ok(0);
        }
        if self.kept.as_ref().is_none_or(|(kept, _)| *kept != index) {
            let mut chunk = match self.kept.take() {
                Some((_, chunk)) => chunk,
                None => WipedVec::default(),
            };
            chunk.resize(self.opener.chunk_len(), 0);
            let len = self.open_chunk(index, &mut chunk)?;
            chunk.truncate(len);
            self.kept = Some((index, chunk));
        }
        let chunk = self.kept.as_ref().map_or(&[][..], |(_, chunk)| chunk);
        let rest = chunk.get((self.position % chunk_len) as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.position += len as u64;
        Ok(len)
    }
}

impl<S: FetchAt> Seek for RangeReader<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len()?.checked_add_signed(by),
        };
        self.position =
            position.ok_or_else(|| invalid_input("a position before the start of the stream"))?;
        Ok(self.position)
    }
}

impl<S> fmt::Debug for RangeReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeReader")
            .field("layout", &self.layout)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
