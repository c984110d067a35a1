//! | file | what |
//! |---|---|
//! | here | round trips, and how reader and writer behave towards other I/O |
//! | `refusals` | what is cut, moved or changed |
//! | `chunks` | sealer and opener by themselves: misuse, limits, memory |
//! | `range` | parts of a stream |

mod chunks;
mod range;
mod refusals;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::{mem, panic};

use super::*;
use crate::{DataKey, DekVersion, Envelope, EnvelopeKey, KeyOptions, ScopeContext};

/// The smallest chunk size: these tests are about boundaries.
const C: usize = 1 << 12;
const BLOCK: usize = C + TAG_LEN;
const HEAD: usize = EnvelopeKey::STREAM_HEAD_LEN;
/// Around the boundaries of chunks.
const LENGTHS: [usize; 7] = [0, 1, C - 1, C, C + 1, 3 * C, 3 * C + 5];

fn key_with(options: KeyOptions) -> EnvelopeKey {
    let dek = DataKey::init_with(|bytes| (0..).zip(bytes).for_each(|(i, byte)| *byte = i));
    let scope = ScopeContext::new([("tenant", "acme"), ("purpose", "backups")]).unwrap();
    EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, options).unwrap()
}

fn key() -> EnvelopeKey {
    key_with(KeyOptions::default())
}

/// Every suite through every library.
fn all_options() -> impl Iterator<Item = KeyOptions> {
    Library::ALL.iter().flat_map(|library| {
        let options = KeyOptions::default().with_library(*library);
        Suite::ALL.iter().map(move |suite| options.with_suite(*suite))
    })
}

fn record(object: &str) -> RecordContext {
    RecordContext::new([("object", object)]).unwrap()
}

fn small_chunks() -> StreamOptions {
    StreamOptions::default().with_chunk_log2(12)
}

/// No two chunks of it are alike.
fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn sealer(key: &EnvelopeKey) -> ChunkSealer {
    key.chunk_sealer(&record("a"), small_chunks()).unwrap()
}

fn seal(key: &EnvelopeKey, plaintext: &[u8]) -> Vec<u8> {
    let mut writer = sealer(key).into_writer(Vec::new());
    writer.write_all(plaintext).unwrap();
    writer.finish().unwrap()
}

/// What came out, and how it ended.
fn open(key: &EnvelopeKey, envelope: &[u8]) -> (Vec<u8>, io::Result<()>) {
    match key.open_reader(envelope, &record("a"), Codec::RAW) {
        Ok(reader) => drain(reader),
        Err(error) => (Vec::new(), Err(error)),
    }
}

fn drain(mut reader: impl Read) -> (Vec<u8>, io::Result<()>) {
    let mut plaintext = Vec::new();
    let end = reader.read_to_end(&mut plaintext).map(|_| ());
    (plaintext, end)
}

fn open_error(error: &io::Error) -> OpenError {
    error.get_ref().and_then(|error| error.downcast_ref::<OpenError>()).unwrap().clone()
}

fn seal_error(error: &io::Error) -> SealError {
    error.get_ref().and_then(|error| error.downcast_ref::<SealError>()).unwrap().clone()
}

#[test]
fn streams_of_every_length_round_trip_in_writes_and_reads_of_any_size() {
    let sizes = [7, 1000, C - 1, C, C + 1, 2 * C + 3];
    for options in all_options() {
        let key = key_with(options);
        for len in LENGTHS {
            let plaintext = plaintext(len);
            for (write_size, read_size) in sizes.iter().zip(sizes.iter().cycle().skip(2)) {
                let mut writer = sealer(&key).into_writer(Vec::new());
                for part in plaintext.chunks(*write_size) {
                    writer.write_all(part).unwrap();
                    writer.flush().unwrap();
                }
                assert_eq!(writer.plaintext_len(), len as u64);
                let envelope = writer.finish().unwrap();
                assert_eq!(envelope.len(), HEAD + len + 16 * (len / C + 1));
                assert_eq!(Envelope::parse(&envelope).unwrap().plaintext_len(), len as u64);
                let mut reader = key.open_reader(&envelope[..], &record("a"), Codec::RAW).unwrap();
                let (mut opened, mut buf) = (Vec::new(), vec![0; *read_size]);
                loop {
                    match reader.read(&mut buf).unwrap() {
                        0 => break,
                        read => opened.extend_from_slice(&buf[..read]),
                    }
                }
                assert!(opened == plaintext, "{options:?}, {len}, {write_size}, {read_size}");
            }
        }
    }
}

#[test]
fn every_chunk_size_round_trips() {
    for chunk_log2 in CHUNK_LOG2_MIN..=CHUNK_LOG2_MAX {
        let options = StreamOptions::default().with_chunk_log2(chunk_log2);
        let plaintext = plaintext(70_000);
        let mut writer = key().seal_writer(Vec::new(), &record("a"), options).unwrap();
        writer.write_all(&plaintext).unwrap();
        let (opened, end) = open(&key(), &writer.finish().unwrap());
        end.unwrap();
        assert!(opened == plaintext, "chunk_log2 {chunk_log2}");
    }
    for chunk_log2 in [0, 11, 23, 255] {
        let options = StreamOptions::default().with_chunk_log2(chunk_log2);
        assert_eq!(
            key().chunk_sealer(&record("a"), options).unwrap_err(),
            SealError::ChunkSize(chunk_log2)
        );
        assert_eq!(options.check(), Err(SealError::ChunkSize(chunk_log2)));
    }
}

#[test]
fn every_library_opens_what_every_library_seals() {
    for options in all_options() {
        let envelope = seal(&key_with(options), &plaintext(2 * C + 9));
        for library in Library::ALL {
            let (opened, end) = open(&key_with(options.with_library(*library)), &envelope);
            end.unwrap();
            assert_eq!(opened, plaintext(2 * C + 9));
        }
    }
}

#[test]
fn libraries_and_ways_of_writing_agree_to_the_byte() {
    for suite in Suite::ALL {
        let mut sealed = Vec::new();
        for library in Library::ALL {
            let key = key_with(KeyOptions::default().with_library(*library).with_suite(*suite));
            for write_size in [100, C, 5 * C] {
                let sealer = key
                    .chunk_sealer_with(
                        bulla_sys::generation(),
                        [7; 24],
                        &record("a"),
                        small_chunks(),
                    )
                    .unwrap();
                let mut writer = sealer.into_writer(Vec::new());
                plaintext(2 * C)
                    .chunks(write_size)
                    .for_each(|part| writer.write_all(part).unwrap());
                sealed.push(writer.finish().unwrap());
            }
        }
        assert!(sealed.windows(2).all(|two| two[0] == two[1]), "{suite}");
    }
}

#[test]
fn the_end_stays_the_end() {
    for len in LENGTHS {
        for read_size in [1000, C, 5 * C] {
            let envelope = seal(&key(), &plaintext(len));
            let reads = Cell::new(0);
            let source = Counting { inner: &envelope[..], reads: &reads };
            let mut reader = key().open_reader(source, &record("a"), Codec::RAW).unwrap();
            let mut buf = vec![0; read_size];
            while reader.read(&mut buf).unwrap() > 0 {}
            let read_until_the_end = reads.get();
            for _ in 0..3 {
                assert_eq!(reader.read(&mut buf).unwrap(), 0);
                assert_eq!(reader.read(&mut []).unwrap(), 0);
            }
            assert_eq!(reads.get(), read_until_the_end);
        }
    }
}

/// Counts calls of `read`.
struct Counting<'a> {
    inner: &'a [u8],
    reads: &'a Cell<usize>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        assert!(!buf.is_empty(), "there was no need to ask");
        self.inner.read(buf)
    }
}

#[test]
fn a_failed_reader_keeps_failing_and_reads_nothing_more() {
    let mut envelope = seal(&key(), &plaintext(3 * C));
    envelope[HEAD + BLOCK + 100] ^= 1;
    for read_size in [1000, C, 5 * C] {
        let reads = Cell::new(0);
        let source = Counting { inner: &envelope[..], reads: &reads };
        let mut reader = key().open_reader(source, &record("a"), Codec::RAW).unwrap();
        let (mut opened, mut buf) = (0, vec![0x55; read_size]);
        let error = loop {
            match reader.read(&mut buf) {
                Ok(read) => opened += read,
                Err(error) => break error,
            }
        };
        assert_eq!(opened, C);
        assert_eq!(open_error(&error), OpenError::Authentication);
        let until_the_error = reads.get();
        for _ in 0..3 {
            let again = reader.read(&mut buf).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::InvalidData);
            assert_eq!(open_error(&again), OpenError::Authentication);
        }
        assert_eq!(reads.get(), until_the_error);
    }
}

/// Gives a few bytes at a time, and an error before each.
struct Stuttering<'a> {
    inner: &'a [u8],
    kinds: &'a [io::ErrorKind],
    calls: usize,
}

impl Read for Stuttering<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        match self.calls % 2 {
            1 => Err(self.kinds[self.calls / 2 % self.kinds.len()].into()),
            _ => {
                let len = buf.len().min(self.calls % 700);
                self.inner.read(&mut buf[..len])
            }
        }
    }
}

#[test]
fn errors_of_the_source_are_passed_on_and_lose_no_data() {
    let (key, plaintext) = (key(), plaintext(3 * C + 5));
    let envelope = seal(&key, &plaintext);
    for kinds in [
        &[io::ErrorKind::WouldBlock][..],
        &[io::ErrorKind::Interrupted],
        &[io::ErrorKind::TimedOut, io::ErrorKind::Interrupted, io::ErrorKind::Other],
    ] {
        let opener = key.chunk_opener(&envelope, &record("a"), Codec::RAW).unwrap();
        let mut reader =
            opener.into_reader(Stuttering { inner: &envelope[HEAD..], kinds, calls: 0 });
        let (mut opened, mut failures, mut buf) = (Vec::new(), 0, vec![0; C + 9]);
        for read_size in [1, C + 9, 100, C, 17].into_iter().cycle() {
            match reader.read(&mut buf[..read_size]) {
                Ok(0) => break,
                Ok(read) => opened.extend_from_slice(&buf[..read]),
                Err(error) => {
                    assert!(kinds.contains(&error.kind()), "{error}");
                    assert_ne!(error.kind(), io::ErrorKind::Interrupted, "to be tried again");
                    failures += 1;
                }
            }
        }
        assert_eq!(opened, plaintext);
        assert_eq!(failures > 0, kinds != [io::ErrorKind::Interrupted]);
    }
}

#[test]
fn into_inner_gives_the_source_back() {
    let (key, envelope) = (key(), seal(&key(), &plaintext(C)));
    let mut reader = key.open_reader(&envelope[..], &record("a"), Codec::RAW).unwrap();
    reader.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(reader.into_inner(), &envelope[HEAD + BLOCK..], "no more than a block was read");
}

/// Panics once, and would go on.
struct Panicking {
    panics: bool,
}

impl Write for Panicking {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        assert!(!mem::take(&mut self.panics), "as asked");
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_panicked_has_failed() {
    let key = key();
    let mut writer = sealer(&key).into_writer(Panicking { panics: true });
    let write = || writer.write_all(&plaintext(C + 1));
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(write)).is_err());
    let end = writer.finish().map(|_| ()).unwrap_err();
    assert_eq!(seal_error(&end), SealError::StreamEnded);
}

/// Takes a few bytes at a time, and fails in call number `fails`, once.
struct Failing {
    taken: Vec<u8>,
    calls: usize,
    fails: usize,
}

impl Write for Failing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls == self.fails {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = buf.len().min(1500);
        self.taken.extend_from_slice(&buf[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_failed_keeps_failing_and_writes_nothing_more() {
    let (key, plaintext) = (key(), plaintext(2 * C + 100));
    // Head, then three writes for each full block, then one for the last.
    for fails in 1..=7 {
        let mut inner = Failing { taken: Vec::new(), calls: 0, fails };
        let mut writer = sealer(&key).into_writer(&mut inner);
        match writer.write_all(&plaintext) {
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                for _ in 0..2 {
                    let again = writer.write(b"more").unwrap_err();
                    assert_eq!(seal_error(&again), SealError::StreamEnded);
                }
                assert_eq!(seal_error(&writer.flush().unwrap_err()), SealError::StreamEnded);
                let end = writer.finish().map(|_| ()).unwrap_err();
                assert_eq!(seal_error(&end), SealError::StreamEnded);
            }
            Ok(()) => panic!("call {fails} was not made while writing"),
        }
        assert_eq!(inner.calls, fails, "something was written after the failure");
        let (opened, end) = open(&key, &inner.taken);
        assert!(end.is_err() && plaintext.starts_with(&opened));
    }
    let mut inner = Failing { taken: Vec::new(), calls: 0, fails: 8 };
    let mut writer = sealer(&key).into_writer(&mut inner);
    writer.write_all(&plaintext).unwrap();
    let error = writer.finish().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let (_, end) = open(&key, &inner.taken);
    assert_eq!(open_error(&end.unwrap_err()), OpenError::Authentication);
}

#[test]
fn an_envelope_that_was_not_finished_is_cut_off() {
    for len in LENGTHS {
        let mut envelope = Vec::new();
        let mut writer = sealer(&key()).into_writer(&mut envelope);
        writer.write_all(&plaintext(len)).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let (opened, end) = open(&key(), &envelope);
        let error = open_error(&end.unwrap_err());
        if envelope.is_empty() {
            // Not even the head: nothing was written to it.
            assert_eq!(error.class(), crate::ErrorClass::Malformed);
        } else {
            assert_eq!(error, OpenError::Authentication, "{len}");
        }
        assert!(plaintext(len).starts_with(&opened) && opened.len() % C == 0);
    }
}

#[test]
fn io_errors_have_a_kind_and_the_error_inside() {
    let error = io::Error::from(OpenError::Authentication);
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(open_error(&error), OpenError::Authentication);
    let error = io::Error::from(OpenError::OutOfRange { len: 7 });
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(open_error(&error), OpenError::OutOfRange { len: 7 });
    let error = io::Error::from(SealError::StreamEnded);
    assert_eq!(error.kind(), io::ErrorKind::Other);
    assert_eq!(seal_error(&error), SealError::StreamEnded);
    // Nobody is told more by the one than by the other.
    assert_eq!(
        io::Error::from(OpenError::Authentication).to_string(),
        OpenError::Authentication.to_string()
    );
}

#[test]
fn memory_does_not_grow_with_the_stream() {
    const MIB: usize = 1 << 20;
    // Pure Rust takes its time without optimisation.
    let long = if cfg!(feature = "aws-lc-rs") { 64 } else { 2 };
    let (key, part) = (key(), plaintext(MIB));
    let [short, long] = [1, long].map(|mib| {
        let options = StreamOptions::default();
        let mut envelope = Vec::with_capacity(mib * (MIB + 512));
        let writing = allocation_counter::measure(|| {
            let mut writer = key.seal_writer(&mut envelope, &record("a"), options).unwrap();
            (0..mib).for_each(|_| part.chunks(1000).for_each(|p| writer.write_all(p).unwrap()));
            writer.finish().unwrap();
        });
        let mut buf = [0; 10_000];
        let reading = allocation_counter::measure(|| {
            let mut reader = key.open_reader(&envelope[..], &record("a"), Codec::RAW).unwrap();
            let mut opened = 0;
            loop {
                match reader.read(&mut buf).unwrap() {
                    0 => break,
                    read => opened += read,
                }
            }
            assert_eq!(opened, mib * MIB);
        });
        (writing.bytes_max, reading.bytes_max)
    });
    assert_eq!(short, long);
    let two_chunks = 2 * (1 << 16) + 4096;
    assert!(short.0 <= two_chunks && short.1 <= two_chunks, "{short:?}");
}

#[test]
fn debug_shows_no_plaintext_and_no_keys() {
    let envelope = seal(&key(), b"a secret");
    let mut writer = sealer(&key()).into_writer(Vec::new());
    writer.write_all(b"a secret").unwrap();
    let mut reader = key().open_reader(&envelope[..], &record("a"), Codec::RAW).unwrap();
    reader.read_exact(&mut [0; 3]).unwrap();
    let range = key().open_range(io::Cursor::new(&envelope), &record("a"), Codec::RAW).unwrap();
    assert!(format!("{writer:?}").starts_with("SealWriter { sealer: ChunkSealer { header: Ok("));
    assert_eq!(
        format!("{reader:?}"),
        "OpenReader { opener: ChunkOpener { chunk_len: 4096, plaintext_len: 8, ended: true, .. }, \
         .. }"
    );
    assert_eq!(
        format!("{range:?}"),
        "RangeReader { layout: StreamLayout { chunks_offset: 100, chunk_log2: 12, chunks_len: 24 \
         }, position: 0, .. }"
    );
}
