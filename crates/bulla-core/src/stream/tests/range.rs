//! Parts of a stream, against slices of its plaintext.

use std::cell::RefCell;
use std::io::{Cursor, Seek, SeekFrom};
use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::error::HeaderError;
use crate::limits::{STREAM_CHUNKS_MAX, STREAM_PLAINTEXT_BYTES_MAX};

/// An envelope that notes what is fetched from it, offset and length.
struct Noting<'a> {
    envelope: &'a [u8],
    fetched: &'a RefCell<Vec<(u64, usize)>>,
}

impl FetchAt for Noting<'_> {
    fn fetch_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.fetched.borrow_mut().push((offset, buf.len()));
        let rest = self.envelope.get(offset as usize..).unwrap_or_default();
        let bytes = rest.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

fn range_of<'a>(
    key: &EnvelopeKey,
    envelope: &'a [u8],
) -> RangeReader<SeekSource<Cursor<&'a [u8]>>> {
    key.open_range(Cursor::new(envelope), &record("a"), Codec::RAW).unwrap()
}

fn read(key: &EnvelopeKey, envelope: &[u8], range: Range<u64>) -> Result<Vec<u8>, OpenError> {
    range_of(key, envelope).read_range(range).map_err(|error| open_error(&error))
}

/// What section 7.3 has a range read open, in its own words.
fn chunks_of_the_spec(total_len: usize, a: usize, b: usize) -> std::ops::RangeInclusive<usize> {
    let v = total_len - 68 - 32;
    let (m, r) = (v / (C + 16), v % (C + 16));
    let len = if r >= 16 { m * C + r - 16 } else { m * C };
    if b > len {
        m..=m
    } else if a == b {
        (a / C).min(m)..=(a / C).min(m)
    } else {
        (a / C).min(m)..=((b - 1) / C).min(m)
    }
}

/// Lengths and offsets, half of them at the boundaries of chunks.
fn offset() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..5 * C,
        (0..5_usize, 0..3_usize).prop_map(|(chunk, by)| (chunk * C + by).saturating_sub(1)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_range_is_the_slice_and_fetches_its_chunks_only(
        len in offset(),
        a in offset(),
        b in offset(),
        options in prop::sample::select(all_options().collect::<Vec<_>>()),
    ) {
        let (a, b) = (a.min(b), a.max(b));
        let (key, plaintext) = (key_with(options), plaintext(len));
        let envelope = seal(&key, &plaintext);
        let fetched = RefCell::new(Vec::new());
        let source = Noting { envelope: &envelope, fetched: &fetched };
        let total_len = envelope.len() as u64;
        let mut reader =
            key.open_range_with(source, total_len, &record("a"), Codec::RAW).unwrap();
        let result = reader.read_range(a as u64..b as u64);
        match plaintext.get(a..b) {
            Some(slice) => prop_assert_eq!(&result.unwrap()[..], slice),
            None => prop_assert_eq!(
                open_error(&result.unwrap_err()),
                OpenError::OutOfRange { len: len as u64 }
            ),
        }
        let expected = chunks_of_the_spec(envelope.len(), a, b).map(|chunk| {
            let begin = HEAD + chunk * BLOCK;
            (begin as u64, BLOCK.min(envelope.len() - begin))
        });
        let expected: Vec<_> = [(0, HEAD)].into_iter().chain(expected).collect();
        prop_assert_eq!(fetched.into_inner(), expected);
    }

    /// Reading and seeking is that of a cursor over the plaintext, but for reads that
    /// stop at the end of a chunk.
    #[test]
    fn read_and_seek_are_those_of_a_cursor(
        len in offset(),
        steps in prop::collection::vec(
            prop_oneof![
                offset().prop_map(Step::Read),
                prop_oneof![
                    offset().prop_map(|to| to as u64),
                    Just(u64::MAX),
                    Just(i64::MAX as u64),
                ].prop_map(|to| Step::Seek(SeekFrom::Start(to))),
                any_distance().prop_map(|by| Step::Seek(SeekFrom::Current(by))),
                any_distance().prop_map(|by| Step::Seek(SeekFrom::End(by))),
                offset().prop_map(Step::Range),
            ],
            1..12,
        ),
    ) {
        let (key, plaintext) = (key(), plaintext(len));
        let envelope = seal(&key, &plaintext);
        let mut reader = range_of(&key, &envelope);
        let mut model = Cursor::new(&plaintext[..]);
        for step in steps {
            match step {
                Step::Read(size) => {
                    let mut buf = vec![0; size];
                    let read = reader.read(&mut buf).unwrap();
                    let mut expected = vec![0; read];
                    model.read_exact(&mut expected).unwrap();
                    prop_assert_eq!(&buf[..read], &expected[..]);
                    let at_end = model.position() >= len as u64;
                    prop_assert!(read > 0 || size == 0 || at_end, "no progress");
                }
                Step::Seek(to) => {
                    let (sought, expected) = (reader.seek(to), model.seek(to));
                    prop_assert_eq!(
                        sought.map_err(|error| error.kind()),
                        expected.map_err(|error| error.kind())
                    );
                }
                // A range read does not move the position.
                Step::Range(from) => {
                    let from = from.min(len);
                    let range = reader.read_range(from as u64..len as u64).unwrap();
                    prop_assert_eq!(&range[..], &plaintext[from..]);
                }
            }
            prop_assert_eq!(reader.stream_position().unwrap(), model.position());
        }
        prop_assert_eq!(reader.len().unwrap(), len as u64);
        prop_assert_eq!(reader.is_empty().unwrap(), len == 0);
    }

    /// What the store says about the length decides what is fetched and never what is
    /// returned.
    #[test]
    fn a_total_length_that_lies_never_gives_wrong_data(
        len in offset(),
        lie in 0..6 * BLOCK,
        a in offset(),
        b in offset(),
        padded in any::<bool>(),
    ) {
        let (a, b) = (a.min(b) as u64, a.max(b) as u64);
        let (key, plaintext) = (key(), plaintext(len));
        let mut envelope = seal(&key, &plaintext);
        let total_len = envelope.len();
        if padded {
            // The lie is backed by bytes that were never sealed.
            envelope.resize(total_len.max(lie), 0xcd);
        }
        let fetched = RefCell::new(Vec::new());
        let source = Noting { envelope: &envelope, fetched: &fetched };
        let lie_len = lie as u64;
        let reader = key.open_range_with(source, lie_len, &record("a"), Codec::RAW);
        let Ok(mut reader) = reader else {
            prop_assert!(lie < HEAD);
            return Ok(());
        };
        match reader.read_range(a..b) {
            Ok(range) => prop_assert_eq!(Some(&range[..]), plaintext.get(a as usize..b as usize)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                prop_assert!(lie > total_len && !padded);
            }
            Err(error) => match open_error(&error) {
                OpenError::OutOfRange { len: told } => {
                    prop_assert_eq!((lie, told), (total_len, len as u64));
                }
                error => prop_assert_eq!(error, OpenError::Authentication),
            },
        }
        prop_assert_eq!(reader.len().is_ok(), lie == total_len);
        prop_assert_eq!(reader.seek(SeekFrom::End(0)).is_ok(), lie == total_len);
        // Reading on ends in an ordinary end only where the stream ends.
        reader.seek(SeekFrom::Start(a)).unwrap();
        let mut rest = Vec::new();
        let ended = reader.read_to_end(&mut rest);
        prop_assert_eq!(ended.is_ok(), lie == total_len);
        prop_assert!(plaintext.get(a as usize..).unwrap_or_default().starts_with(&rest));
    }

    /// Arithmetic on any lengths: in debug builds an overflow is a panic.
    #[test]
    fn layouts_of_any_length_are_sound(
        payload_offset in extreme(),
        chunk_log2 in 0_u8..30,
        total_len in extreme(),
        start in extreme(),
        end in extreme(),
        index in extreme(),
    ) {
        let Ok(layout) = StreamLayout::new(payload_offset, chunk_log2, total_len) else {
            return Ok(());
        };
        prop_assert!((12..=22).contains(&chunk_log2));
        let chunks_len = u128::from(total_len) - u128::from(payload_offset) - 32;
        prop_assert!(layout.chunks() <= STREAM_CHUNKS_MAX);
        prop_assert!(layout.claimed_plaintext_len() <= STREAM_PLAINTEXT_BYTES_MAX);
        prop_assert!(u128::from(layout.claimed_plaintext_len()) <= chunks_len);
        let block = layout.block(index);
        prop_assert!(payload_offset < block.start && block.start <= block.end);
        prop_assert!(block.end <= total_len);
        prop_assert!(block.end - block.start <= layout.chunk_len() + 16);
        let range = start..end;
        let chunks = layout.chunks_of(&range);
        prop_assert_eq!(chunks.is_err(), end < start);
        if let Ok(chunks) = chunks {
            prop_assert!(chunks.start < chunks.end && chunks.end <= layout.last_chunk() + 1);
        }
        prop_assert!(layout.part_of(index, &[7; 100], &range).len() <= 100);
        prop_assert_eq!(
            layout.check_end(&range).is_ok(),
            end <= layout.claimed_plaintext_len()
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    Read(usize),
    Seek(SeekFrom),
    Range(usize),
}

fn any_distance() -> impl Strategy<Value = i64> {
    let near = -(5 * C as i64)..5 * C as i64;
    prop_oneof![4 => near, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

/// Any number, most of them near a power of two, at an end of the numbers or near a limit.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u32..64, -40_i64..40).prop_map(|(log2, by)| (1_u64 << log2).wrapping_add_signed(by)),
        (0_u64..200).prop_map(|by| u64::MAX - by),
        0_u64..10_000,
        (12_u32..23, -40_i64..40).prop_map(|(log2, by)| {
            let full = (STREAM_PLAINTEXT_BYTES_MAX >> log2).min(STREAM_CHUNKS_MAX);
            (full * ((1 << log2) + 16)).wrapping_add_signed(by)
        }),
    ]
}

#[test]
fn four_kib_of_a_stream_of_64_kib_chunks_take_two_chunks_at_most() {
    let (key, plaintext) = (key(), plaintext(300_000));
    let mut writer = key.seal_writer(Vec::new(), &record("a"), StreamOptions::default()).unwrap();
    writer.write_all(&plaintext).unwrap();
    let envelope = writer.finish().unwrap();
    for begin in (0..290_000).step_by(4567) {
        let fetched = RefCell::new(Vec::new());
        let source = Noting { envelope: &envelope, fetched: &fetched };
        let total_len = envelope.len() as u64;
        let mut reader = key.open_range_with(source, total_len, &record("a"), Codec::RAW).unwrap();
        let range = reader.read_range(begin..begin + 4096).unwrap();
        assert_eq!(range, plaintext[begin as usize..begin as usize + 4096]);
        let fetched = fetched.into_inner();
        assert_eq!(fetched[0], (0, HEAD));
        let chunks = fetched.len() - 1;
        assert_eq!(chunks, if begin % 65_536 > 65_536 - 4096 { 2 } else { 1 });
    }
}

#[test]
fn a_closure_is_a_source() {
    let envelope = seal(&key(), b"payload");
    let fetch = |offset: u64, buf: &mut [u8]| {
        buf.copy_from_slice(&envelope[offset as usize..][..buf.len()]);
        Ok(())
    };
    let total_len = envelope.len() as u64;
    let mut reader = key().open_range_with(fetch, total_len, &record("a"), Codec::RAW).unwrap();
    assert_eq!(reader.read_range(3..7).unwrap(), b"load");
}

#[test]
fn out_of_range_is_reported_only_of_an_end_that_is_authentic() {
    let (key, plaintext) = (key(), plaintext(2 * C + 5));
    let envelope = seal(&key, &plaintext);
    let len = plaintext.len() as u64;
    for range in [0..len + 1, len..len + 1, len + 1..len + 1, 9 * len..9 * len, 5..u64::MAX] {
        assert_eq!(read(&key, &envelope, range.clone()), Err(OpenError::OutOfRange { len }));
        let mut forged = envelope.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(read(&key, &forged, range.clone()), Err(OpenError::Authentication));
        let cut = &envelope[..HEAD + 2 * BLOCK];
        assert_eq!(read(&key, cut, range), Err(OpenError::Authentication));
    }
    let error = range_of(&key, &envelope).read_range(0..len + 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let (key, envelope) = (key(), seal(&key(), &plaintext(C + 5)));
    let mut reader = range_of(&key, &envelope);
    #[expect(clippy::reversed_empty_ranges, reason = "it is what is refused")]
    for range in [1..0, u64::MAX..0, 5000..4999] {
        assert_eq!(reader.read_range(range).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn an_empty_range_takes_one_authentic_chunk() {
    let (key, plaintext) = (key(), plaintext(2 * C));
    let envelope = seal(&key, &plaintext);
    for (at, chunk) in [(0, 0), (C - 1, 0), (C, 1), (2 * C, 2)] {
        assert_eq!(read(&key, &envelope, at as u64..at as u64), Ok(Vec::new()));
        let mut forged = envelope.clone();
        forged[HEAD + chunk * BLOCK] ^= 1;
        assert_eq!(read(&key, &forged, at as u64..at as u64), Err(OpenError::Authentication));
    }
}

#[test]
fn a_stream_is_empty_only_when_its_end_says_so() {
    let key = key();
    assert!(range_of(&key, &seal(&key, &[])).is_empty().unwrap());
    assert!(!range_of(&key, &seal(&key, &plaintext(1))).is_empty().unwrap());
    let cut = &seal(&key, &plaintext(C))[..HEAD];
    assert!(range_of(&key, cut).is_empty().is_err());
}

#[test]
fn ranges_before_a_cut_are_read_and_those_behind_it_refused() {
    let (key, plaintext) = (key(), plaintext(3 * C + 5));
    let envelope = seal(&key, &plaintext);
    let cuts = (0..4).flat_map(|chunk| [0, 1, 15, 16, 17, 20, C, BLOCK - 1].map(|by| (chunk, by)));
    for (whole, by) in cuts {
        let cut = HEAD + whole * BLOCK + by;
        if cut >= envelope.len() {
            continue;
        }
        let (cut, end) = (&envelope[..cut], (whole * C) as u64);
        // Before the cut: also up to it.
        if whole > 0 {
            for begin in [0, end / 2, end - 1] {
                let range = read(&key, cut, begin..end).unwrap();
                assert_eq!(range, plaintext[begin as usize..end as usize]);
            }
        }
        for range in [end..end, end..end + 1, 0..end + 1, end + 9..end + 9, 0..u64::MAX] {
            let refused = read(&key, cut, range.clone());
            assert_eq!(refused, Err(OpenError::Authentication), "{range:?} of {}", cut.len());
        }
        let mut reader = range_of(&key, cut);
        assert_eq!(open_error(&reader.len().unwrap_err()), OpenError::Authentication);
        assert!(reader.seek(SeekFrom::End(-1)).is_err());
        let (before, ended) = drain(reader);
        assert_eq!(open_error(&ended.unwrap_err()), OpenError::Authentication);
        assert_eq!(before, plaintext[..whole * C]);
    }
}

#[test]
fn a_changed_head_is_refused_before_any_chunk_is_fetched() {
    let (key, envelope) = (key(), seal(&key(), &plaintext(C)));
    for at in (0..HEAD).filter(|at| *at != 7) {
        let mut forged = envelope.clone();
        forged[at] ^= 0x40;
        let fetched = RefCell::new(Vec::new());
        let source = Noting { envelope: &forged, fetched: &fetched };
        let total_len = forged.len() as u64;
        let refused = key.open_range_with(source, total_len, &record("a"), Codec::RAW);
        let error = open_error(&refused.map(|_| ()).unwrap_err());
        if at >= 44 {
            assert_eq!(error, OpenError::Authentication, "byte {at}");
        }
        assert_eq!(fetched.into_inner(), [(0, HEAD)]);
    }
    let refused = key.open_range(Cursor::new(&envelope), &record("b"), Codec::RAW);
    assert_eq!(open_error(&refused.map(|_| ()).unwrap_err()), OpenError::Authentication);
}

#[test]
fn a_source_that_is_too_short_fails_in_its_own_way() {
    let (key, envelope) = (key(), seal(&key(), &plaintext(2 * C)));
    for (there, told) in [(0, 40), (50, 100), (99, 200), (HEAD + 9, envelope.len())] {
        let fetched = RefCell::new(Vec::new());
        let source = Noting { envelope: &envelope[..there], fetched: &fetched };
        let reader = key.open_range_with(source, told as u64, &record("a"), Codec::RAW);
        let error = match reader {
            Ok(mut reader) => reader.read_range(0..1).unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.get_ref().is_none(), "{error:?}");
    }
}

#[test]
fn an_envelope_without_room_for_its_head_is_malformed() {
    let (key, envelope) = (key(), seal(&key(), &plaintext(9)));
    for cut in 0..HEAD {
        let refused = key.open_range(Cursor::new(&envelope[..cut]), &record("a"), Codec::RAW);
        let error = open_error(&refused.map(|_| ()).unwrap_err());
        assert_eq!(error.class(), crate::ErrorClass::Malformed, "{cut}");
    }
}

#[test]
fn a_failed_read_may_be_repeated_and_the_rest_is_still_readable() {
    let (key, plaintext) = (key(), plaintext(3 * C));
    let mut forged = seal(&key, &plaintext);
    forged[HEAD + BLOCK] ^= 1;
    let mut reader = range_of(&key, &forged);
    let mut buf = vec![0; C];
    reader.read_exact(&mut buf).unwrap();
    for _ in 0..2 {
        assert_eq!(open_error(&reader.read(&mut buf).unwrap_err()), OpenError::Authentication);
        assert_eq!(reader.stream_position().unwrap(), C as u64);
    }
    reader.seek(SeekFrom::Start(2 * C as u64)).unwrap();
    reader.read_exact(&mut buf).unwrap();
    assert_eq!(buf, plaintext[2 * C..]);
}

#[test]
fn a_range_beyond_a_length_that_was_only_claimed_allocates_nothing_for_it() {
    let (key, envelope) = (key(), seal(&key(), b"payload"));
    let source = |offset: u64, buf: &mut [u8]| {
        let rest = envelope.get(offset as usize..).unwrap_or_default();
        let bytes = rest.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    };
    let claim = 256 << 20;
    let info = allocation_counter::measure(|| {
        let mut reader = key.open_range_with(source, claim, &record("a"), Codec::RAW).unwrap();
        reader.read_range(0..u64::MAX).unwrap_err();
    });
    assert!(info.bytes_max < 1 << 20, "{}", info.bytes_max);
}

#[test]
fn layouts_have_bounds() {
    let new = |chunk_log2, chunks_len| StreamLayout::new(68, chunk_log2, 100 + chunks_len);
    for log2 in [0, 11, 23, 64, 255] {
        assert_eq!(new(log2, 16), Err(HeaderError::BadChunkSize(log2)));
    }
    assert_eq!(
        StreamLayout::new(68, 12, 99),
        Err(HeaderError::PayloadTooShort { len: 31, min: 32 })
    );
    assert_eq!(StreamLayout::new(68, 12, 3), Err(HeaderError::PayloadTooShort { len: 0, min: 32 }));
    assert!(StreamLayout::new(u64::MAX - 31, 12, u64::MAX).is_err());
    assert!(StreamLayout::new(u64::MAX, 12, u64::MAX).is_err());
    for (len, chunks, plaintext) in [
        (0, 0, 0),
        (15, 0, 0),
        (16, 1, 0),
        (17, 1, 1),
        (BLOCK, 1, C),
        (BLOCK + 15, 1, C),
        (BLOCK + 16, 2, C),
        (2 * BLOCK + 21, 3, 2 * C + 5),
    ] {
        let layout = new(12, len as u64).unwrap();
        assert_eq!(layout.chunks(), chunks, "{len}");
        assert_eq!(layout.claimed_plaintext_len(), plaintext as u64, "{len}");
        assert_eq!(layout.chunk_len(), C as u64);
    }
    // 2^32 chunks of which the last is short: 2^44 - 1 bytes.
    let longest = (STREAM_CHUNKS_MAX - 1) * BLOCK as u64 + C as u64 - 1 + 16;
    let layout = new(12, longest).unwrap();
    assert_eq!(layout.chunks(), STREAM_CHUNKS_MAX);
    assert_eq!(layout.claimed_plaintext_len(), STREAM_PLAINTEXT_BYTES_MAX - 1);
    assert!(new(12, STREAM_CHUNKS_MAX * BLOCK as u64 + 15).is_ok(), "cut off, not too long");
    assert_eq!(new(12, STREAM_CHUNKS_MAX * BLOCK as u64 + 16), Err(HeaderError::PayloadTooLong));
    // Above 4 KiB the bytes are what binds: 2^44 of them and the empty chunk.
    for log2 in 13..=22 {
        let full = (STREAM_PLAINTEXT_BYTES_MAX >> log2) * ((1 << log2) + 16);
        let layout = new(log2, full + 16).unwrap();
        assert_eq!(layout.claimed_plaintext_len(), STREAM_PLAINTEXT_BYTES_MAX);
        assert_eq!(new(log2, full + 17), Err(HeaderError::PayloadTooLong));
    }
}

#[test]
fn blocks_follow_one_another() {
    let layout = StreamLayout::new(68, 12, (HEAD + 2 * BLOCK + 21) as u64).unwrap();
    let block = |index| {
        let block = layout.block(index);
        (block.start as usize - HEAD, block.end as usize - HEAD)
    };
    assert_eq!(block(0), (0, BLOCK));
    assert_eq!(block(1), (BLOCK, 2 * BLOCK));
    assert_eq!(block(2), (2 * BLOCK, 2 * BLOCK + 21));
    assert_eq!(block(3), (2 * BLOCK + 21, 2 * BLOCK + 21));
    assert_eq!(block(u64::MAX), (2 * BLOCK + 21, 2 * BLOCK + 21));
}

/// Room is reserved for what there may be, and for nothing else.
#[test]
fn buffers_are_as_long_as_the_range() {
    let layout = StreamLayout::new(68, 12, (HEAD + 2 * BLOCK + 21) as u64).unwrap();
    let len = layout.claimed_plaintext_len();
    assert_eq!(len, 2 * 4096 + 5);
    for (range, room) in [(0..len, len), (0..1, 1), (4000..5000, 1000), (7..7, 0)] {
        assert!(layout.buffer_for(&range).unwrap().capacity() as u64 >= room, "{range:?}");
    }
    assert_eq!(layout.buffer_for(&(0..len + 1)).unwrap().capacity(), 0);
    assert_eq!(layout.buffer_for(&(0..u64::MAX)).unwrap().capacity(), 0);
}
