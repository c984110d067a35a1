//! Opening parts of a stream, fetched as they are needed.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;

use bulla_core::{ChunkOpener, StreamLayout};
use bulla_sys::{Unreleased, WipedVec};

use super::Lease;
use crate::Error;

/// Reads ranges of the plaintext of a stream, fetching and opening only the chunks that
/// they lie in; see [`Scope::open_range`](crate::Scope::open_range).
///
/// What it returns is authentic. That the rest of the stream still exists is not claimed,
/// but for [`len`](Self::len).
pub struct RangeStream<F> {
    opener: ChunkOpener,
    layout: StreamLayout,
    lease: Lease,
    fetch: F,
    /// Length of the plaintext, once the last chunk has been opened.
    len: Option<u64>,
}

impl<F, Fetched> RangeStream<F>
where
    F: FnMut(Range<u64>) -> Fetched,
    Fetched: Future<Output = io::Result<Vec<u8>>>,
{
    pub(crate) fn new(opener: ChunkOpener, layout: StreamLayout, lease: Lease, fetch: F) -> Self {
        Self { opener, layout, lease, fetch, len: None }
    }

    /// Length of the plaintext, in bytes, after the last chunk has proved to be the last.
    ///
    /// # Errors
    /// [`Error::Open`] if the stream was cut off; [`Error::Io`] if `fetch` fails; what is
    /// wrong with the keys.
    pub async fn len(&mut self) -> Result<u64, Error> {
        if let Some(len) = self.len {
            return Ok(len);
        }
        self.open_chunk(self.layout.last_chunk()).await?;
        Ok(*self.len.insert(self.layout.claimed_plaintext_len()))
    }

    /// Whether the plaintext is empty.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub async fn is_empty(&mut self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }

    /// Plaintext bytes `range`. An empty range is empty, but only after one chunk has
    /// proved authentic.
    ///
    /// # Errors
    /// [`Error::Open`], with `OutOfRange` for a range that ends beyond the plaintext;
    /// [`Error::Io`] for one that ends before it begins or does not fit into memory, and
    /// if `fetch` fails; what is wrong with the keys.
    pub async fn read_range(&mut self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let mut plaintext = Unreleased::default();
        for index in self.layout.chunks_of(&range)? {
            let chunk = self.open_chunk(index).await?;
            if index == self.layout.last_chunk() {
                self.len = Some(self.layout.claimed_plaintext_len());
                self.layout.check_end(&range)?;
            }
            // Room is made once something has proved authentic.
            if plaintext.is_empty() {
                plaintext = self.layout.buffer_for(&range)?.into();
            }
            plaintext.extend_from_slice(self.layout.part_of(index, &chunk, &range));
        }
        Ok(plaintext.release())
    }

    /// Fetches and opens one chunk.
    async fn open_chunk(&mut self, index: u64) -> Result<WipedVec, Error> {
        let block = fetched(&mut self.fetch, self.layout.block(index)).await?;
        poll_fn(|cx| self.lease.poll_allows(cx, block.len())).await?;
        let mut chunk = WipedVec::from(vec![0; self.opener.chunk_len()]);
        let len = self.opener.open_at(index, &block, &mut chunk)?;
        chunk.truncate(len);
        Ok(chunk)
    }
}

/// What `fetch` returns for `range`, as long as the range.
pub(super) async fn fetched<F, Fetched>(fetch: &mut F, range: Range<u64>) -> Result<Vec<u8>, Error>
where
    F: FnMut(Range<u64>) -> Fetched,
    Fetched: Future<Output = io::Result<Vec<u8>>>,
{
    let len = range.end - range.start;
    let bytes = fetch(range).await?;
    match bytes.len() as u64 == len {
        true => Ok(bytes),
        false => {
            let message =
                format!("fetch returned {} bytes where {len} were asked for", bytes.len());
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, message).into())
        }
    }
}

impl<F> fmt::Debug for RangeStream<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeStream").field("layout", &self.layout).finish_non_exhaustive()
    }
}
