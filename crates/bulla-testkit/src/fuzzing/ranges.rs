//! Target `ranges`: parts of streams.

use std::io::{self, Read, Seek, SeekFrom};

use arbitrary::{Result, Unstructured};
use bulla_core::{ChunkOpener, FetchAt, Library, OpenError, RangeReader, StreamLayout};

use super::case::{Ask, Case, Keks, STREAMS};
use super::{mutate, real};
use crate::reference::header::REFERENCED_CHUNKED;
use crate::reference::{Class, Opener};

/// Changes a stream, lies about its length, and reads ranges of it: results are those of the
/// reference, and no byte is ever another than the one that was sealed there. As `Read + Seek`
/// it behaves like the plaintext itself.
pub fn ranges(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let case = Case::take(u, &STREAMS)?;
    let Ok(sealed) = case.seal() else { return Ok(()) };
    let library = *u.choose(Library::ALL)?;
    let (ask, keks, mut envelope) = (case.ask(), case.keks(), sealed.clone());
    mutate::envelope(u, &mut envelope, case.grid(&sealed))?;
    let len = envelope.len() as u64;
    let total_len = match u.int_in_range(0..=7_u8)? {
        0 => u.int_in_range(0..=len)?,
        1 => len + u.int_in_range(0..=10_000)?,
        2 => u.int_in_range(0..=1 << 46)?,
        _ => len,
    };
    // Up to where there are bytes, a lie is a truncation.
    let known = total_len <= len;
    envelope.truncate(usize::try_from(total_len).unwrap_or(usize::MAX));
    let genuine = known && envelope == sealed;

    let opener = ask.opener(&case, &keks);
    let source = Source { bytes: &envelope };
    let mut reader = match open(library, &ask, &case, &keks, source, total_len) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!genuine);
            if let (Some(class), true) = (real::io_class(&error), known) {
                let reference = opener.open_range(&envelope, 0, 0);
                real::agree(&ask, &envelope, &Err(class), &reference);
            }
            return Ok(());
        }
    };
    let truth = Truth { case: &case, opener, envelope: &envelope, known, genuine };
    let mut position = 0;
    for _ in 0..u.int_in_range(1..=12)? {
        match u.int_in_range(0..=3_u8)? {
            0 => truth.len(&mut reader),
            1 => truth.seek(&mut reader, &mut position, u)?,
            2 => truth.read(&mut reader, &mut position, u.int_in_range(0..=9000)?),
            _ => truth.range(&mut reader, offset(u, &case)?, offset(u, &case)?),
        }
    }
    Ok(())
}

fn open<'a>(
    library: Library,
    ask: &Ask,
    case: &Case,
    keks: &Keks,
    source: Source<'a>,
    total_len: u64,
) -> io::Result<RangeReader<Source<'a>>> {
    let context = real::record(&ask.record).unwrap();
    if ask.kind == REFERENCED_CHUNKED {
        let key = real::lineage_key(library, ask, case).unwrap();
        return key.open_range_with(source, total_len, &context, real::codec(ask.codec));
    }
    let bytes = source.bytes;
    let (key, head_len) = real::unwrapped(library, ask, keks, bytes).map_err(io::Error::other)?;
    let chunk_log2 = key.head().header().chunk_log2.unwrap();
    let layout =
        StreamLayout::new(head_len as u64, chunk_log2, total_len).map_err(OpenError::from)?;
    let commitment = &bytes[head_len..head_len + ChunkOpener::COMMITMENT_LEN];
    Ok(key.chunk_opener(commitment, &context)?.into_range(layout, source))
}

/// A place in or near the plaintext, or far beyond.
fn offset(u: &mut Unstructured<'_>, case: &Case) -> Result<u64> {
    let len = case.plaintext.len() as u64;
    Ok(match u.int_in_range(0..=9_u8)? {
        0 => u64::MAX - u.int_in_range(0..=3)?,
        1 => len + u.int_in_range(0..=40)?,
        2 => (u.int_in_range(0..=4)? << case.chunk_log2) + u.int_in_range(0..=1)?,
        _ => u.int_in_range(0..=len)?,
    })
}

/// An envelope that ends where its bytes end, whatever is said of its length.
struct Source<'a> {
    bytes: &'a [u8],
}

impl FetchAt for Source<'_> {
    fn fetch_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buf.len());
        let bytes = self.bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// What readers are held to.
struct Truth<'a> {
    case: &'a Case,
    opener: Opener<'a>,
    envelope: &'a [u8],
    /// The reader was told how many bytes there are.
    known: bool,
    /// And they are those that were sealed.
    genuine: bool,
}

type Reader<'a> = RangeReader<Source<'a>>;

impl Truth<'_> {
    fn range(&self, reader: &mut Reader<'_>, a: u64, b: u64) {
        // Where the length is a lie, no more is asked for than there could be.
        let b = if self.known { b } else { b.min(a.saturating_add(1 << 16)) };
        let result = reader.read_range(a..b);
        if a > b {
            return assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        if let Ok(bytes) = &result {
            assert_eq!(*bytes, self.case.plaintext[a as usize..b as usize]);
        }
        if self.known {
            let real: std::result::Result<_, Class> =
                result.map_err(|error| real::io_class(&error).unwrap());
            assert_eq!(real, self.opener.open_range(self.envelope, a, b));
        }
    }

    fn len(&self, reader: &mut Reader<'_>) {
        match reader.len() {
            Ok(len) => assert_eq!(len, self.case.plaintext.len() as u64),
            Err(error) => self.failed(&error),
        }
    }

    fn seek(
        &self,
        reader: &mut Reader<'_>,
        position: &mut u64,
        u: &mut Unstructured<'_>,
    ) -> Result<()> {
        let len = self.case.plaintext.len() as i64;
        let by = match u.int_in_range(0..=7_u8)? {
            0 => u.arbitrary()?,
            _ => u.int_in_range(-len - 1..=len + 1)?,
        };
        let (to, from) = match u.int_in_range(0..=2_u8)? {
            0 => (SeekFrom::Start(by as u64), None),
            1 => (SeekFrom::Current(by), Some(*position)),
            _ => (SeekFrom::End(by), Some(len as u64)),
        };
        let expected = from.map_or(Some(by as u64), |from| from.checked_add_signed(by));
        match (reader.seek(to), expected) {
            (Ok(reached), expected) => {
                assert_eq!(Some(reached), expected);
                *position = reached;
            }
            (Err(error), Some(_)) => {
                assert!(matches!(to, SeekFrom::End(_)), "{error}");
                self.failed(&error);
            }
            (Err(error), None) if real::io_class(&error).is_none() && self.known => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
            (Err(_), None) => {}
        }
        assert_eq!(reader.stream_position().unwrap(), *position);
        Ok(())
    }

    fn read(&self, reader: &mut Reader<'_>, position: &mut u64, size: usize) {
        let mut buffer = vec![0; size];
        let rest = usize::try_from(*position).ok().and_then(|at| self.case.plaintext.get(at..));
        let rest = rest.unwrap_or_default();
        match reader.read(&mut buffer) {
            Ok(0) => assert!(size == 0 || rest.is_empty(), "the end before the end"),
            Ok(len) => {
                assert_eq!(buffer[..len], rest[..len]);
                *position += len as u64;
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &io::Error) {
        assert!(!self.genuine, "{error}");
        if self.known {
            assert_eq!(real::io_class(error), Some(Class::Authentication));
        }
    }
}
