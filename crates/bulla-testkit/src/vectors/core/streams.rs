//! Streams: read in pieces of several sizes, and in part.

use std::io::{self, Read, Seek, SeekFrom};

use bulla_core::{FetchAt, OpenReader, RangeReader};

use super::unexpected;
use crate::vectors::{Blob, Operation, Output, Refusal};

/// A reader that gives at most so many bytes at once.
pub(super) struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.piece);
        self.bytes.read(&mut buf[..len])
    }
}

/// Opens `bytes` with readers from `open`, in pieces of several sizes, which must make no
/// difference.
pub(super) fn in_pieces<'a>(
    bytes: &'a [u8],
    open: impl Fn(Pieces<'a>) -> io::Result<OpenReader<Pieces<'a>>>,
) -> Result<Vec<u8>, Refusal> {
    let small = bytes.len() < 1 << 14;
    // What the reader gives at once, and what it is asked for at once.
    let sizes =
        [(usize::MAX, 1 << 23), (if small { 1 } else { 1021 }, if small { 3 } else { 997 })];
    let [whole, pieces] = sizes.map(|(piece, buf)| -> Result<_, Refusal> {
        let mut reader = open(Pieces { bytes, piece })?;
        let mut plaintext = Vec::new();
        let mut buf = vec![0; buf];
        loop {
            match reader.read(&mut buf) {
                Ok(0) => return Ok(plaintext),
                Ok(len) => plaintext.extend_from_slice(&buf[..len]),
                Err(error) => {
                    let error = Refusal::from(error);
                    // A failed opener keeps failing.
                    return Err(match reader.read(&mut buf).map_err(Refusal::from) {
                        Err(again) if again == error => error,
                        again => unexpected(format!("first {error}, then {again:?}")),
                    });
                }
            }
        }
    });
    if whole != pieces {
        let (whole, pieces) = (whole.err(), pieces.err());
        return Err(unexpected(format!("in one piece {whole:?}, in many {pieces:?}")));
    }
    whole
}

/// An envelope with holes as a source of ranges.
pub(super) fn source(blob: &Blob) -> impl FetchAt + use<'_> {
    |offset: u64, buf: &mut [u8]| {
        buf.fill(0);
        match blob.read_at(offset, buf) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Performs `operation`, one of those that read a part.
pub(super) fn read<S: FetchAt>(
    mut ranges: RangeReader<S>,
    operation: Operation,
) -> Result<Output, Refusal> {
    Ok(match operation {
        Operation::Range(a, b) => Output::Plaintext(ranges.read_range(a..b)?),
        Operation::Length => Output::Length(ranges.len()?),
        Operation::Tail(len) => {
            let back = i64::try_from(len).map_err(unexpected)?;
            ranges.seek(SeekFrom::End(-back))?;
            let mut tail = Vec::new();
            ranges.read_to_end(&mut tail)?;
            Output::Plaintext(tail)
        }
        other => return Err(unexpected(format!("{other:?} reads no part of a stream"))),
    })
}
