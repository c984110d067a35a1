//! Sealer and opener by themselves: misuse, limits, memory.

use super::*;
use crate::error::HeaderError;
use crate::limits::{STREAM_CHUNKS_MAX, STREAM_PLAINTEXT_BYTES_MAX};

fn opener_of(key: &EnvelopeKey, sealer: &ChunkSealer) -> ChunkOpener {
    key.chunk_opener(sealer.head(), &record("a"), Codec::RAW).unwrap()
}

#[test]
fn chunk_by_chunk_is_the_same_stream() {
    let (key, plaintext) = (key(), plaintext(2 * C + 5));
    let mut sealer = sealer(&key);
    assert_eq!((sealer.chunk_len(), sealer.head().len()), (C, HEAD));
    let (mut envelope, mut block) = (sealer.head().to_vec(), vec![0; BLOCK]);
    for chunk in plaintext.chunks(C) {
        assert!(!sealer.is_ended());
        let len = sealer.seal_next(chunk, &mut block).unwrap();
        assert_eq!(len, chunk.len() + 16);
        envelope.extend_from_slice(&block[..len]);
    }
    assert!(sealer.is_ended());
    assert_eq!(sealer.plaintext_len(), plaintext.len() as u64);
    assert_eq!(open(&key, &envelope).0, plaintext);

    let mut opener = key.chunk_opener(&envelope, &record("a"), Codec::RAW).unwrap();
    assert_eq!((opener.chunk_len(), opener.block_len()), (C, BLOCK));
    let (mut opened, mut chunk) = (Vec::new(), vec![0; C]);
    for block in envelope[HEAD..].chunks(opener.block_len()) {
        assert!(!opener.is_ended());
        let len = opener.open_next(block, &mut chunk).unwrap();
        opened.extend_from_slice(&chunk[..len]);
    }
    assert!(opener.is_ended());
    assert_eq!(opened, plaintext);
}

#[test]
fn a_chunk_that_is_too_long_or_a_buffer_that_is_too_small_changes_nothing() {
    let key = key();
    let mut sealer = sealer(&key);
    let mut opener = opener_of(&key, &sealer);
    let mut block = vec![0x55; BLOCK + 1];
    assert_eq!(
        sealer.seal_next(&vec![7; C + 1], &mut block),
        Err(SealError::ChunkTooLong { len: C + 1, max: C })
    );
    assert_eq!(
        sealer.seal_next(&vec![7; C], &mut block[..BLOCK - 1]),
        Err(SealError::BufferTooSmall { len: BLOCK - 1, needed: BLOCK })
    );
    assert!(block.iter().all(|byte| *byte == 0x55), "the buffer was touched");
    assert!(!sealer.is_ended() && sealer.plaintext_len() == 0);
    // Still chunk 0.
    assert_eq!(sealer.seal_next(&vec![7; C], &mut block), Ok(BLOCK));
    assert_eq!(block[BLOCK], 0x55);
    let mut chunk = vec![0x55; C + 1];
    assert_eq!(
        opener.open_next(&block[..BLOCK], &mut chunk[..C - 1]),
        Err(OpenError::BufferTooSmall { len: C - 1, needed: C })
    );
    assert!(chunk.iter().all(|byte| *byte == 0x55), "the buffer was touched");
    assert_eq!(opener.open_next(&block[..BLOCK], &mut chunk), Ok(C));
    assert_eq!((&chunk[..C], chunk[C]), (&[7; C][..], 0x55));
}

#[test]
fn nothing_comes_after_the_end() {
    let key = key();
    let mut sealer = sealer(&key);
    let mut opener = opener_of(&key, &sealer);
    let (mut block, mut chunk) = (vec![0; BLOCK], vec![0x55; C]);
    let len = sealer.seal_next(b"last", &mut block).unwrap();
    let last = block[..len].to_vec();
    assert_eq!(opener.open_next(&last, &mut chunk), Ok(4));
    for after in [&b""[..], b"x", &[7; C]] {
        block.fill(0x55);
        assert_eq!(sealer.seal_next(after, &mut block), Err(SealError::StreamEnded));
        assert!(block.iter().all(|byte| *byte == 0x55));
    }
    assert_eq!(sealer.plaintext_len(), 4);
    for after in [&b""[..], &last, &[7; BLOCK]] {
        assert_eq!(opener.open_next(after, &mut chunk), Err(OpenError::StreamEnded));
    }
    assert!(opener.is_ended());
}

#[test]
fn a_failed_opener_keeps_failing_even_with_the_right_chunk() {
    for options in all_options() {
        let key = key_with(options);
        let mut sealer = sealer(&key);
        let mut block = vec![0; BLOCK];
        sealer.seal_next(&[b'A'; C], &mut block).unwrap();
        let mut forged = block.clone();
        forged[BLOCK - 1] ^= 1;
        for bad in [&forged[..], &[], &[0; 15], &block[..C], &vec![0; BLOCK + 1]] {
            let mut opener = opener_of(&key, &sealer);
            let mut chunk = vec![0x55; C + 4];
            assert_eq!(opener.open_next(bad, &mut chunk), Err(OpenError::Authentication));
            let opened = bad.len().saturating_sub(16);
            if opened <= C {
                assert!(chunk[..opened].iter().all(|byte| *byte == 0), "plaintext was left");
                assert!(chunk[opened..].iter().all(|byte| *byte == 0x55));
            }
            assert_eq!(opener.open_next(&block, &mut chunk), Err(OpenError::Authentication));
            assert!(!opener.is_ended());
        }
        // No room would be enough for what is longer than a block.
        let longer = opener_of(&key, &sealer).open_next(&[0; BLOCK + 1], &mut [0; C]);
        assert_eq!(longer, Err(OpenError::Authentication));
    }
}

#[test]
fn chunks_open_in_any_order_at_their_own_index_only() {
    let (key, plaintext) = (key(), plaintext(2 * C + 5));
    let envelope = seal(&key, &plaintext);
    let opener = key.chunk_opener(&envelope, &record("a"), Codec::RAW).unwrap();
    let mut out = vec![0; C];
    for (index, block) in (0_u64..).zip(envelope[HEAD..].chunks(BLOCK)).collect::<Vec<_>>() {
        for at in [2, 0, 1, 3, u64::from(u32::MAX)] {
            match opener.open_at(at, block, &mut out) {
                Ok(len) => {
                    assert_eq!(at, index);
                    assert_eq!(out[..len], plaintext[index as usize * C..][..len]);
                }
                Err(error) => {
                    assert_ne!(at, index);
                    assert_eq!(error, OpenError::Authentication);
                }
            }
        }
        for beyond in [1 << 32, u64::MAX] {
            assert_eq!(
                opener.open_at(beyond, block, &mut out),
                Err(HeaderError::PayloadTooLong.into())
            );
        }
    }
}

/// Sealer and opener of one stream, both at chunk `index` with full chunks before it.
fn pair_at(key: &EnvelopeKey, chunk_log2: u8, index: u64) -> (ChunkSealer, ChunkOpener) {
    let options = StreamOptions::default().with_chunk_log2(chunk_log2);
    let mut sealer = key.chunk_sealer(&record("a"), options).unwrap();
    let mut opener = opener_of(key, &sealer);
    sealer.skip_to(index.try_into().unwrap(), index << chunk_log2);
    opener.skip_to(index);
    (sealer, opener)
}

#[test]
fn a_stream_of_4_kib_chunks_ends_at_2_32_chunks() {
    let key = key();
    let last = STREAM_CHUNKS_MAX - 1;
    let (mut block, mut chunk) = (vec![0; BLOCK], vec![0; C]);
    // The last chunk there may be is a short one, of up to 2^44 - 1 bytes in all.
    let (mut sealer, mut opener) = pair_at(&key, 12, last);
    let len = sealer.seal_next(&[7; C - 1], &mut block).unwrap();
    assert_eq!(sealer.plaintext_len(), STREAM_PLAINTEXT_BYTES_MAX - 1);
    assert_eq!(opener.open_next(&block[..len], &mut chunk), Ok(C - 1));
    assert!(opener.is_ended());
    // A full one would need another after it.
    let (mut sealer, _) = pair_at(&key, 12, last);
    assert_eq!(sealer.seal_next(&[7; C], &mut block), Err(SealError::StreamTooLong));
    assert_eq!(sealer.seal_next(b"", &mut block), Err(SealError::StreamEnded));
    let (mut sealer, _) = pair_at(&key, 12, last - 1);
    assert_eq!(sealer.seal_next(&[7; C], &mut block), Ok(BLOCK));
    assert_eq!(sealer.seal_next(b"", &mut block), Ok(16));
}

#[test]
fn an_opener_of_4_kib_chunks_does_not_let_the_index_wrap() {
    let key = key();
    let (mut block, mut chunk) = (vec![0; BLOCK], vec![0x55; C]);
    let (mut sealer, _) = pair_at(&key, 12, 0);
    let first = sealer.seal_next(b"chunk 0", &mut block).unwrap();
    let too_long = OpenError::from(HeaderError::PayloadTooLong);
    for len in [16, first, BLOCK] {
        let mut opener = opener_of(&key, &sealer);
        opener.skip_to(STREAM_CHUNKS_MAX);
        assert_eq!(opener.open_next(&block[..len], &mut chunk), Err(too_long.clone()));
        assert_eq!(opener.open_next(&block[..first], &mut chunk), Err(too_long.clone()));
    }
    // Fewer than 16 bytes are no chunk 2^32 but a stream that was cut off.
    for len in [0, 15] {
        let mut opener = opener_of(&key, &sealer);
        opener.skip_to(STREAM_CHUNKS_MAX);
        assert_eq!(opener.open_next(&block[..len], &mut chunk), Err(OpenError::Authentication));
    }
    assert!(chunk.iter().all(|byte| *byte == 0x55), "it was opened");
}

#[test]
fn a_stream_of_64_kib_chunks_ends_at_2_44_bytes() {
    const LARGE: usize = 1 << 16;
    let key = key();
    let full = STREAM_PLAINTEXT_BYTES_MAX >> 16;
    let (mut block, mut chunk) = (vec![0; LARGE + 16], vec![0; LARGE]);
    let (mut sealer, mut opener) = pair_at(&key, 16, full - 1);
    // Exactly 2^44 bytes: one full chunk more, and the empty one.
    sealer.seal_next(&[7; LARGE], &mut block).unwrap();
    assert_eq!(opener.open_next(&block, &mut chunk), Ok(LARGE));
    assert_eq!(sealer.plaintext_len(), STREAM_PLAINTEXT_BYTES_MAX);
    let (mut over, _) = pair_at(&key, 16, full);
    assert_eq!(over.seal_next(b"x", &mut block), Err(SealError::StreamTooLong));
    assert_eq!(over.seal_next(b"", &mut block), Err(SealError::StreamEnded));
    assert_eq!(sealer.seal_next(b"", &mut block), Ok(16));
    let mut one_over = opener_of(&key, &sealer);
    one_over.skip_to(full);
    assert_eq!(
        one_over.open_next(&block[..17], &mut chunk),
        Err(HeaderError::PayloadTooLong.into())
    );
    assert_eq!(opener.open_next(&block[..16], &mut chunk), Ok(0));
    assert!(opener.is_ended());
}

#[test]
fn chunks_are_sealed_and_opened_without_the_heap() {
    for options in all_options() {
        let key = key_with(options);
        let mut sealer = sealer(&key);
        let mut opener = opener_of(&key, &sealer);
        let (data, mut block, mut chunk) = ([7; C], [0; BLOCK], [0; C]);
        let info = allocation_counter::measure(|| {
            for _ in 0..20 {
                sealer.seal_next(&data, &mut block).unwrap();
                opener.open_next(&block, &mut chunk).unwrap();
            }
            let len = sealer.seal_next(b"", &mut block).unwrap();
            opener.open_next(&block[..len], &mut chunk).unwrap();
        });
        assert_eq!(info.count_total, 0, "{options:?}");
    }
}
