//! Streams under a DEK of a lineage.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::EnvelopeKey;
use crate::context::RecordContext;
use crate::envelope::{accept, check_payload_len};
use crate::error::{HeaderError, OpenError, SealError};
use crate::stream::{
    ChunkOpener, ChunkSealer, FetchAt, OpenReader, RangeReader, SealWriter, SeekSource,
    StreamLayout, StreamOptions, check_chunk_log2,
};
use crate::{Codec, Header, Kind, Suites, nonce};

impl EnvelopeKey {
    /// Begins a stream, to be sealed chunk by chunk.
    ///
    /// # Errors
    /// [`SealError::ChunkSize`], [`SealError::Key`].
    pub fn chunk_sealer(
        &self,
        context: &RecordContext,
        options: StreamOptions,
    ) -> Result<ChunkSealer, SealError> {
        check_chunk_log2(options.chunk_log2)?;
        //= spec 7.1
        //# The salt, header[44:68], MUST be 24 fresh bytes from the operating system for every
        //# stream, in both suites and regardless of section 9.
        self.chunk_sealer_with(bulla_sys::generation(), nonce::random()?, context, options)
    }

    /// Begins a stream whose plaintext is written to what this returns, and whose
    /// envelope is written to `writer`.
    ///
    /// # Errors
    /// As [`chunk_sealer`](Self::chunk_sealer). Nothing has been written then.
    pub fn seal_writer<W: Write>(
        &self,
        writer: W,
        context: &RecordContext,
        options: StreamOptions,
    ) -> Result<SealWriter<W>, SealError> {
        Ok(self.chunk_sealer(context, options)?.into_writer(writer))
    }

    /// Begins to open the stream that starts with `head`, of which
    /// [`STREAM_HEAD_LEN`](Self::STREAM_HEAD_LEN) bytes are read: header and commitment.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Authentication`] if the record context is another.
    pub fn chunk_opener(
        &self,
        head: &[u8],
        context: &RecordContext,
        codec: Codec,
    ) -> Result<ChunkOpener, OpenError> {
        let header = Self::stream_header_of(head, codec, self.accepted)?;
        let (bytes, rest) = head
            .split_first_chunk::<{ Header::LEN }>()
            .ok_or(HeaderError::TooShort { len: head.len() })?;
        let commitment = rest.first_chunk().ok_or(OpenError::Authentication)?;
        let (Some(chunk_log2), Some(keys)) = (header.chunk_log2, self.keys(header.suite)) else {
            return Err(OpenError::SuiteNotAllowed(header.suite));
        };
        if header.key_id != self.key_id || header.dek_version != Some(self.version) {
            return Err(OpenError::WrongKey(header.key_id));
        }
        let keys = keys.stream(self.library, bytes, context)?;
        ChunkOpener::new(keys, chunk_log2, commitment)
    }

    /// The header of the stream that starts with `head`, which is as long as
    /// [`STREAM_HEAD_LEN`](Self::STREAM_HEAD_LEN) or the whole envelope, if everything that
    /// can be said without a key speaks for opening it as `codec`: ask this before you fetch
    /// the key that it names.
    ///
    /// # Errors
    /// As [`header_of`](Self::header_of).
    pub fn stream_header_of(
        head: &[u8],
        codec: Codec,
        accepted: Suites,
    ) -> Result<Header, OpenError> {
        let header = Header::parse(head)?;
        check_payload_len(header.kind, head.len() - Header::LEN)?;
        accept(&header, Kind::ReferencedChunked, codec, accepted)?;
        Ok(header)
    }

    /// Bytes in front of the chunks of a referenced stream: header 68, commitment 32.
    pub const STREAM_HEAD_LEN: usize = Header::LEN + ChunkOpener::COMMITMENT_LEN;

    /// Begins to open the stream that is read from `reader`.
    ///
    /// # Errors
    /// What the reader fails with; an [`OpenError`] inside an [`io::Error`].
    pub fn open_reader<R: Read>(
        &self,
        mut reader: R,
        context: &RecordContext,
        codec: Codec,
    ) -> io::Result<OpenReader<R>> {
        let head = read_up_to(&mut reader, Self::STREAM_HEAD_LEN)?;
        Ok(self.chunk_opener(&head, context, codec)?.into_reader(reader))
    }

    /// Opens ranges of the stream in `source`, whose first byte is at position 0 and
    /// which ends where the envelope ends.
    ///
    /// # Errors
    /// What the source fails with; an [`OpenError`] inside an [`io::Error`].
    pub fn open_range<R: Read + Seek>(
        &self,
        mut source: R,
        context: &RecordContext,
        codec: Codec,
    ) -> io::Result<RangeReader<SeekSource<R>>> {
        let total_len = source.seek(SeekFrom::End(0))?;
        self.open_range_with(SeekSource(source), total_len, context, codec)
    }

    /// Opens ranges of a stream of `total_len` bytes, fetched by `source` as they are
    /// needed.
    ///
    /// # Errors
    /// What the source fails with; an [`OpenError`] inside an [`io::Error`].
    pub fn open_range_with<S: FetchAt>(
        &self,
        mut source: S,
        total_len: u64,
        context: &RecordContext,
        codec: Codec,
    ) -> io::Result<RangeReader<S>> {
        let head_len = total_len.min(Self::STREAM_HEAD_LEN as u64);
        let mut head = vec![0; head_len as usize];
        source.fetch_at(0, &mut head)?;
        let layout = match Header::parse(&head).map_err(OpenError::from)?.chunk_log2 {
            Some(log2) => Some(
                StreamLayout::new(Header::LEN as u64, log2, total_len).map_err(OpenError::from)?,
            ),
            None => None,
        };
        //= spec 7.3
        //# It MUST check the commitment first, as any open.
        let opener = self.chunk_opener(&head, context, codec)?;
        // A header without chunk size is of a kind that `chunk_opener` has refused.
        let layout = layout.ok_or(OpenError::Authentication)?;
        Ok(opener.into_range(layout, source))
    }

    /// A stream with a salt of the caller's. `generation` is read before the salt is: who
    /// is copied in between must not seal with both copies.
    pub(crate) fn chunk_sealer_with(
        &self,
        generation: u64,
        salt: [u8; Header::NONCE_LEN],
        context: &RecordContext,
        options: StreamOptions,
    ) -> Result<ChunkSealer, SealError> {
        let header = Header {
            kind: Kind::ReferencedChunked,
            suite: self.sealing.suite,
            codec: options.codec,
            chunk_log2: Some(options.chunk_log2),
            dek_version: Some(self.version),
            key_id: self.key_id,
            nonce: salt,
        };
        let bytes = header.to_bytes();
        let keys = self.sealing.stream(self.library, &bytes, context)?;
        Ok(ChunkSealer::new(bytes.to_vec(), options.chunk_log2, keys, generation))
    }
}

/// Reads `len` bytes, or as many as there are.
fn read_up_to(reader: &mut impl Read, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    reader.take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
