//! Opening over `AsyncRead`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bulla_core::ChunkOpener;
use bulla_sys::WipedVec;
use tokio::io::{AsyncRead, ReadBuf};

use super::Lease;

/// Reads an envelope from another reader and gives its plaintext, in memory of two
/// chunks; see [`Scope::open_stream`](crate::Scope::open_stream).
///
/// Every byte that comes out is authenticated and in its place. Only when a read has
/// returned nothing is the plaintext complete: a stream that was cut off ends in an error
/// of kind `InvalidData`. A read that is cancelled has taken nothing.
pub struct OpenStream<R> {
    opener: ChunkOpener,
    lease: Lease,
    inner: R,
    /// The block that is being read, and how much of it is there.
    block: Vec<u8>,
    filled: usize,
    /// Whether `block` is as full as it gets.
    complete: bool,
    /// Plaintext that was opened and not given out yet, from `given` on.
    plaintext: WipedVec,
    given: usize,
}

impl<R: AsyncRead + Unpin> OpenStream<R> {
    pub(crate) fn new(opener: ChunkOpener, lease: Lease, inner: R) -> Self {
        Self {
            opener,
            lease,
            inner,
            block: Vec::new(),
            filled: 0,
            complete: false,
            plaintext: WipedVec::default(),
            given: 0,
        }
    }

    /// The inner reader.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads up to a whole block, or to the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.block.resize(self.opener.block_len(), 0);
        while !self.complete {
            let mut rest = ReadBuf::new(&mut self.block[self.filled..]);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut rest))?;
            let read = rest.filled().len();
            self.filled += read;
            self.complete = read == 0 || self.filled == self.block.len();
        }
        Poll::Ready(Ok(()))
    }

    /// Has the next block at hand, once it is allowed: it has to be opened then. Returns its
    /// length.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.opener.check_open()?;
        ready!(self.poll_fill(cx))?;
        ready!(self.lease.poll_allows(cx, self.filled))?;
        self.complete = false;
        Poll::Ready(Ok(std::mem::take(&mut self.filled)))
    }

    /// Opens the next chunk where the caller wants it, who has room for a whole one.
    fn poll_open_into(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = ready!(self.poll_next(cx))?;
        let out = buf.initialize_unfilled_to(self.opener.chunk_len());
        let opened = self.opener.open_next(&self.block[..len], out)?;
        buf.advance(opened);
        Poll::Ready(Ok(()))
    }

    /// Opens the next chunk.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let len = ready!(self.poll_next(cx))?;
        let block = &self.block[..len];
        self.plaintext.resize(self.opener.chunk_len(), 0);
        let opened = self.opener.open_next(block, &mut self.plaintext);
        self.plaintext.truncate(opened.as_ref().copied().unwrap_or(0));
        self.given = 0;
        opened?;
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for OpenStream<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while buf.remaining() > 0 {
            let ready = &this.plaintext[this.given..];
            if !ready.is_empty() {
                let len = ready.len().min(buf.remaining());
                buf.put_slice(&ready[..len]);
                this.given += len;
                break;
            }
            if this.opener.is_ended() {
                this.plaintext.wipe();
                this.given = 0;
                break;
            }
            if buf.remaining() >= this.opener.chunk_len() {
                let before = buf.filled().len();
                ready!(this.poll_open_into(cx, buf))?;
                if buf.filled().len() > before {
                    break;
                }
            } else {
                ready!(this.poll_open(cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<R> fmt::Debug for OpenStream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStream").field("opener", &self.opener).finish_non_exhaustive()
    }
}
