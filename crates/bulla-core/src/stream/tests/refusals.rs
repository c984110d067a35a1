//! What is cut, moved or changed: an error, and before it whole chunks of the truth only.

use super::*;
use crate::error::HeaderError;

/// Opens what must not open; what was released before is whole chunks of `truth`, this
/// many bytes.
fn refused_after(key: &EnvelopeKey, forged: &[u8], truth: &[u8]) -> (usize, OpenError) {
    let (opened, end) = open(key, forged);
    assert!(opened.len() % C == 0 && truth.starts_with(&opened), "something else came out");
    (opened.len(), open_error(&end.expect_err("a forged stream was opened")))
}

fn refused(key: &EnvelopeKey, forged: &[u8], truth: &[u8]) -> OpenError {
    refused_after(key, forged, truth).1
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    let (key, plaintext) = (key(), plaintext(C + 37));
    let envelope = seal(&key, &plaintext);
    for cut in 0..envelope.len() {
        let (opened, error) = refused_after(&key, &envelope[..cut], &plaintext);
        match cut {
            0..68 => assert_eq!(error, HeaderError::TooShort { len: cut }.into()),
            68..HEAD => {
                assert_eq!(error, HeaderError::PayloadTooShort { len: cut - 68, min: 32 }.into());
            }
            _ => assert_eq!(error, OpenError::Authentication, "{cut}"),
        }
        assert_eq!(opened, cut.saturating_sub(HEAD) / BLOCK * C);
    }
}

#[test]
fn a_cut_is_an_error_in_every_suite_and_library() {
    for options in all_options() {
        let (key, plaintext) = (key_with(options), plaintext(C + 21));
        let envelope = seal(&key, &plaintext);
        let last = HEAD + BLOCK;
        for cut in [HEAD, HEAD + 1, HEAD + 15, HEAD + 16, last - 1, last, last + 15, last + 16] {
            assert_eq!(refused(&key, &envelope[..cut], &plaintext), OpenError::Authentication);
        }
        for cut in last..envelope.len() {
            assert_eq!(refused(&key, &envelope[..cut], &plaintext), OpenError::Authentication);
        }
    }
}

#[test]
fn reads_as_large_as_chunks_meet_the_cut_too() {
    let (key, plaintext) = (key(), plaintext(2 * C));
    let envelope = seal(&key, &plaintext);
    for cut in [HEAD, HEAD + BLOCK, HEAD + 2 * BLOCK, HEAD + 2 * BLOCK + 15] {
        let mut reader = key.open_reader(&envelope[..cut], &record("a"), Codec::RAW).unwrap();
        let (mut opened, mut buf) = (Vec::new(), vec![0x55; 3 * C]);
        let error = loop {
            match reader.read(&mut buf) {
                Ok(0) => panic!("an ordinary end of a stream that was cut at {cut}"),
                Ok(read) => opened.extend_from_slice(&buf[..read]),
                Err(error) => break error,
            }
        };
        assert_eq!(open_error(&error), OpenError::Authentication);
        assert!(plaintext.starts_with(&opened));
    }
}

#[test]
fn an_extended_stream_is_refused() {
    for len in LENGTHS {
        let plaintext = plaintext(len);
        let envelope = seal(&key(), &plaintext);
        for more in [1, 15, 16, 17, BLOCK, BLOCK + 16] {
            let forged = [&envelope[..], &vec![0; more]].concat();
            let error = refused(&key(), &forged, &plaintext);
            assert_eq!(error, OpenError::Authentication, "{len} and {more}");
        }
        // Also by chunks that are authentic elsewhere in the stream.
        let forged = [&envelope[..], &envelope[HEAD..]].concat();
        refused(&key(), &forged, &plaintext);
    }
}

#[test]
fn chunks_have_their_place() {
    let plaintext = plaintext(3 * C + 5);
    for options in all_options() {
        let key = key_with(options);
        let envelope = seal(&key, &plaintext);
        let (head, payload) = envelope.split_at(HEAD);
        let chunks: Vec<_> = payload.chunks(BLOCK).collect();
        let with = |order: &[usize]| {
            let picked = order.iter().map(|at| chunks[*at]);
            [head].into_iter().chain(picked).collect::<Vec<_>>().concat()
        };
        assert_eq!(open(&key, &with(&[0, 1, 2, 3])).0, plaintext, "the control");
        for order in [
            &[1, 0, 2, 3][..],
            &[0, 2, 1, 3],
            &[0, 1, 3],
            &[1, 2, 3],
            &[0, 1, 2],
            &[0, 1, 2, 2, 3],
            &[0, 0, 1, 2, 3],
            &[0, 1, 2, 3, 3],
            &[3],
            &[0, 3],
            &[3, 0, 1, 2],
            &[],
        ] {
            let error = refused(&key, &with(order), &plaintext);
            assert_eq!(error, OpenError::Authentication, "{order:?}");
        }
    }
}

#[test]
fn chunks_of_another_stream_are_refused() {
    let (key, plaintext) = (key(), plaintext(2 * C + 5));
    let (ours, theirs) = (seal(&key, &plaintext), seal(&key, &plaintext));
    for at in 0..3 {
        let begin = HEAD + at * BLOCK;
        let end = ours.len().min(begin + BLOCK);
        let mut forged = ours.clone();
        forged[begin..end].copy_from_slice(&theirs[begin..end]);
        assert_eq!(refused(&key, &forged, &plaintext), OpenError::Authentication);
    }
    for head in [68, HEAD] {
        let forged = [&ours[..head], &theirs[head..]].concat();
        assert_eq!(refused(&key, &forged, &plaintext), OpenError::Authentication);
    }
}

#[test]
fn another_context_key_or_codec_is_refused_before_any_chunk_is_read() {
    let key = key();
    let envelope = seal(&key, b"payload");
    let open = |key: &EnvelopeKey, envelope: &[u8], context: &RecordContext, codec: Codec| {
        let reads = Cell::new(0);
        let source = Counting { inner: envelope, reads: &reads };
        let error = key.open_reader(source, context, codec).map(|_| ()).unwrap_err();
        assert_eq!(reads.get(), 1, "more than the head was read");
        open_error(&error)
    };
    assert_eq!(
        open(&key, &envelope, &record("b"), Codec::RAW),
        OpenError::Authentication,
        "the commitment binds the record context"
    );
    assert_eq!(
        open(&key, &envelope, &record("a"), Codec::JSON),
        OpenError::WrongCodec { found: 0, expected: 2 }
    );
    let siv = key_with(KeyOptions::default().with_suite(Suite::Xaes256GcmSiv));
    assert_eq!(
        open(&siv, &envelope, &record("a"), Codec::RAW),
        OpenError::SuiteNotAllowed(Suite::Xaes256Gcm)
    );
    let mut forged = envelope.clone();
    forged[11] = 2;
    assert_eq!(open(&key, &forged, &record("a"), Codec::RAW), OpenError::WrongKey(key.key_id()));
    for at in 68..HEAD {
        let mut forged = envelope.clone();
        forged[at] ^= 0x10;
        assert_eq!(open(&key, &forged, &record("a"), Codec::RAW), OpenError::Authentication);
    }
}

#[test]
fn any_flipped_byte_is_refused() {
    for options in all_options() {
        let other = Suite::ALL.iter().copied().find(|suite| *suite != options.suite);
        let key = key_with(options.accepting(other.unwrap()));
        let envelope = seal(&key, b"nineteen characters");
        for at in 0..envelope.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut forged = envelope.clone();
                forged[at] ^= flip;
                let (opened, end) = open(&key, &forged);
                assert!(end.is_err() && opened.is_empty(), "byte {at} flipped by {flip}");
            }
        }
    }
}

#[test]
fn envelopes_of_other_kinds_are_not_accepted_whatever_their_length() {
    let key = key();
    for len in [0, 1, 15, 16, 17, 100, 5000] {
        let one_shot = key.seal(&vec![7; len], &record("a")).unwrap();
        let expected = OpenError::WrongKind(crate::Kind::ReferencedOneShot);
        assert_eq!(refused(&key, &one_shot, b""), expected, "{len}");
        let range = key.open_range(io::Cursor::new(&one_shot), &record("a"), Codec::RAW);
        assert_eq!(open_error(&range.map(|_| ()).unwrap_err()), expected, "{len}");
    }
    let stream = seal(&key, b"");
    assert_eq!(
        key.open(&stream, &record("a")),
        Err(OpenError::WrongKind(crate::Kind::ReferencedChunked))
    );
}
