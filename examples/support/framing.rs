//! Records of a CSV file, one at a time.
//!
//! The `csv` crate reads fields well, and is generous where this example must not be:
//! a quote that is never closed makes the rest of the file one field. [`Framing`] sits
//! beneath it, hands out one record per read, and so knows at any time in which line
//! and field the reader is. It also strips a byte order mark and bounds the memory
//! that a record can take.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// Longest record that is read, in bytes: a cell of 64 MiB fits, with many a quote.
const RECORD_BYTES_MAX: u64 = 96 << 20;

/// A [`Read`] that never reads past the end of a record.
#[derive(Debug)]
pub(crate) struct Framing<R> {
    inner: BufReader<R>,
    scanner: Scanner,
    bytes_read: u64,
}

impl<R: Read> Framing<R> {
    /// Reads `inner` from its start.
    pub(crate) fn new(inner: R) -> io::Result<Self> {
        let mut inner = BufReader::with_capacity(64 << 10, inner);
        if inner.fill_buf()?.starts_with("\u{feff}".as_bytes()) {
            inner.consume('\u{feff}'.len_utf8());
        }
        Ok(Self { inner, scanner: Scanner::new(), bytes_read: 0 })
    }

    /// The line in which the record that was read last begins.
    pub(crate) fn record_line(&self) -> u64 {
        self.scanner.record_line
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

impl<R: Read> Read for Framing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.inner.fill_buf()?;
        if available.is_empty() {
            return match self.scanner.state {
                State::Quoted => Err(self.scanner.flaw(FlawKind::Unterminated)),
                _ => Ok(0),
            };
        }
        let len = self.scanner.scan(&available[..available.len().min(out.len())]);
        if self.scanner.record_bytes > RECORD_BYTES_MAX {
            return Err(self.scanner.flaw(FlawKind::TooLong));
        }
        out[..len].copy_from_slice(&available[..len]);
        self.inner.consume(len);
        self.bytes_read += len as u64;
        Ok(len)
    }
}

/// Where a record went wrong; comes out of the reader inside an [`io::Error`].
#[derive(Debug)]
pub(crate) struct Flaw {
    /// The line: of the opening quote if there is one, else of the record.
    pub(crate) line: u64,
    /// The field, counted from 0.
    pub(crate) field: usize,
    /// What is wrong there.
    pub(crate) kind: FlawKind,
}

#[derive(Debug)]
pub(crate) enum FlawKind {
    /// The file ends inside quotes.
    Unterminated,
    /// The record has more than [`RECORD_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for FlawKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unterminated => f.write_str("the quote that opens here is never closed"),
            Self::TooLong => write!(
                f,
                "the record is longer than {} MiB; is a closing quote missing?",
                RECORD_BYTES_MAX >> 20
            ),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, field {}: {}", self.line, self.field + 1, self.kind)
    }
}

impl std::error::Error for Flaw {}

/// Follows quotes, fields and lines as the `csv` crate does (RFC 4180; a quote inside
/// an unquoted field is a character like any other).
#[derive(Debug)]
struct Scanner {
    state: State,
    /// The line of the next byte.
    line: u64,
    after_carriage_return: bool,
    record_line: u64,
    record_bytes: u64,
    quote_line: u64,
    field: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// After a record: empty lines are passed over.
    BetweenRecords,
    StartOfField,
    Unquoted,
    Quoted,
    /// After a quote inside quotes: the closing one, or the first half of `""`.
    QuoteInQuoted,
}

impl Scanner {
    fn new() -> Self {
        Self {
            state: State::BetweenRecords,
            line: 1,
            after_carriage_return: false,
            record_line: 1,
            record_bytes: 0,
            quote_line: 1,
            field: 0,
        }
    }

    /// How many of `bytes` belong to the present record, with what ends it.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.step(byte) {
                return at + 1;
            }
        }
        bytes.len()
    }

    /// Takes one byte; true if it ends a record.
    fn step(&mut self, byte: u8) -> bool {
        use State::{BetweenRecords, QuoteInQuoted, Quoted, StartOfField, Unquoted};
        let ends_line = matches!(byte, b'\r' | b'\n');
        if matches!(self.state, BetweenRecords) && !ends_line {
            self.state = StartOfField;
            self.record_line = self.line;
            self.record_bytes = 0;
            self.field = 0;
        }
        self.record_bytes += 1;
        self.state = match (self.state, byte) {
            (Quoted, b'"') => QuoteInQuoted,
            (Quoted, _) | (QuoteInQuoted, b'"') => Quoted,
            (StartOfField, b'"') => {
                self.quote_line = self.line;
                Quoted
            }
            (_, b',') => {
                self.field += 1;
                StartOfField
            }
            (_, b'\r' | b'\n') => BetweenRecords,
            _ => Unquoted,
        };
        if byte == b'\r' || (byte == b'\n' && !self.after_carriage_return) {
            self.line += 1;
        }
        self.after_carriage_return = byte == b'\r';
        ends_line && matches!(self.state, BetweenRecords)
    }

    fn flaw(&self, kind: FlawKind) -> io::Error {
        let line = match self.state {
            State::Quoted | State::QuoteInQuoted => self.quote_line,
            _ => self.record_line,
        };
        io::Error::new(io::ErrorKind::InvalidData, Flaw { line, field: self.field, kind })
    }
}
