use super::*;
use crate::error::WrapsError;
use crate::limits::ONE_SHOT_PLAINTEXT_BYTES_MAX;
use crate::{DekVersion, EnvelopeKey, KeyId, Wrap};
use proptest::prelude::*;

fn header(kind: Kind, suite: Suite) -> Header {
    Header {
        kind,
        suite,
        codec: Codec::RAW,
        chunk_log2: kind.is_chunked().then_some(16),
        dek_version: (!kind.is_self_contained()).then_some(DekVersion::FIRST),
        key_id: KeyId::from_bytes([0xab; 32]),
        nonce: [0xcd; 24],
    }
}

fn wraps() -> Wraps {
    let first = Wraps::new([Wrap::new(1, *b"example-kek", *b"", [0; 40])]).unwrap();
    first
        .replaced_by([
            Wrap::new(2, *b"arn:aws:kms:eu-central-1:1:key/\x1b", *b"", [0; 184]),
            Wrap::new(1, *b"example-kek", *b"2", [0; 40]),
        ])
        .unwrap()
}

/// Header, wraps where there are some, and `payload`; no key has made any of it.
fn envelope(header: &Header, payload: &[u8]) -> Vec<u8> {
    let section = match header.kind.is_self_contained() {
        true => [wraps().to_bytes(), vec![0xee; MAC_LEN]].concat(),
        false => Vec::new(),
    };
    [&header.to_bytes()[..], &section, payload].concat()
}

const GCM: Suite = Suite::Xaes256Gcm;

fn parse(bytes: &[u8]) -> HeaderError {
    Envelope::parse(bytes).map(|_| ()).expect_err("a malformed envelope was parsed")
}

/// Each step of section 2.5 is violated together with all later ones, and named.
#[test]
fn the_first_violation_is_the_one_reported() {
    let mut bytes = envelope(&header(Kind::SelfContainedOneShot, GCM), &[0; 15]);
    bytes[0] = b'b';
    bytes[3] = 9;
    bytes[4] = 3;
    bytes[5] = 3;
    bytes[6] = 3;
    bytes[7] = 99;
    bytes[11] = 1;
    bytes[74] = 9; // count
    assert_eq!(parse(&bytes[..67]), HeaderError::TooShort { len: 67 });
    assert_eq!(parse(&bytes), HeaderError::NotAnEnvelope);
    bytes[0] = b'B';
    assert_eq!(parse(&bytes), HeaderError::UnsupportedFormat(9));
    bytes[3] = 1;
    assert_eq!(parse(&bytes), HeaderError::UnknownKind(3));
    bytes[4] = 0x11;
    assert_eq!(parse(&bytes), HeaderError::UnknownSuite(3));
    bytes[5] = 1;
    assert_eq!(parse(&bytes), HeaderError::UnknownCodec(3));
    bytes[6] = 0;
    assert_eq!(parse(&bytes), HeaderError::BadChunkSize(99));
    bytes[7] = 0;
    assert_eq!(parse(&bytes), HeaderError::BadDekVersion(1));
    bytes[11] = 0;
    assert_eq!(parse(&bytes), HeaderError::Wraps(WrapsError::Count(9)));
    bytes[74] = 2;
    assert_eq!(parse(&bytes), HeaderError::PayloadTooShort { len: 15, min: 16 });
    bytes.push(0);
    assert!(Envelope::parse(&bytes).is_ok());
}

#[test]
fn a_stream_of_known_length_has_room_for_its_commitment() {
    for kind in [Kind::ReferencedChunked, Kind::SelfContainedChunked] {
        let bytes = envelope(&header(kind, GCM), &[0; 31]);
        assert_eq!(parse(&bytes), HeaderError::PayloadTooShort { len: 31, min: 32 });
        let bytes = envelope(&header(kind, GCM), &[0; 32]);
        let parsed = Envelope::parse(&bytes).unwrap();
        assert_eq!((parsed.plaintext_len(), parsed.layout().unwrap().chunks()), (0, 0));
    }
}

#[test]
fn one_shot_envelopes_end_at_2_30_bytes() {
    let head = header(Kind::ReferencedOneShot, GCM).to_bytes();
    // Pages that nobody touches cost nothing.
    let mut bytes = vec![0; Header::LEN + ONE_SHOT_PLAINTEXT_BYTES_MAX + 17];
    bytes[..Header::LEN].copy_from_slice(&head);
    assert_eq!(parse(&bytes), HeaderError::PayloadTooLong);
    let of = |bytes: &[u8]| EnvelopeKey::header_of(bytes, Codec::RAW, Suites::default());
    assert_eq!(of(&bytes), Err(HeaderError::PayloadTooLong.into()));
    bytes.pop();
    assert_eq!(Envelope::parse(&bytes).unwrap().plaintext_len(), 1 << 30);
    assert!(of(&bytes).is_ok());
}

#[test]
fn the_length_of_the_plaintext_is_told_for_each_kind() {
    for (kind, payload, plaintext) in [
        (Kind::ReferencedOneShot, 16 + 15, 15),
        (Kind::SelfContainedOneShot, 16, 0),
        (Kind::ReferencedChunked, 32 + 16, 0),
        (Kind::ReferencedChunked, 32 + (65_536 + 16) + 21, 65_541),
        (Kind::SelfContainedChunked, 32 + 2 * (65_536 + 16) + 16, 131_072),
    ] {
        let bytes = envelope(&header(kind, GCM), &vec![0; payload]);
        let parsed = Envelope::parse(&bytes).unwrap();
        assert_eq!(parsed.plaintext_len(), plaintext, "{kind}");
        assert_eq!(parsed.payload().len(), payload);
        assert_eq!(parsed.layout().is_some(), kind.is_chunked());
        assert_eq!(parsed.head().wraps().is_some(), kind.is_self_contained());
    }
}

#[test]
fn a_person_can_read_a_referenced_one_shot_envelope() {
    let bytes = envelope(&header(Kind::ReferencedOneShot, GCM), &[0; 31]);
    let parsed = Envelope::parse(&bytes).unwrap();
    assert_eq!(
        parsed.to_string(),
        "\
referenced one-shot envelope, format 1
suite       1, XAES-256-GCM
codec       0, raw bytes
DEK         version 1 of its scope
key id      abababababababababababababababababababababababababababababababab
nonce       cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
plaintext   15 bytes
Nothing of this is authenticated until the envelope is opened."
    );
    assert_eq!(
        format!("{parsed:?}"),
        "Envelope(referenced one-shot, XAES-256-GCM, raw bytes, DEK version 1, key id \
         abababababababababababababababababababababababababababababababab, 15 bytes)"
    );
    assert_eq!(
        format!("{:?}", parsed.head()),
        "Head(referenced one-shot, XAES-256-GCM, raw bytes, DEK version 1, key id \
         abababababababababababababababababababababababababababababababab)"
    );
}

#[test]
fn a_person_can_read_a_referenced_stream() {
    let mut header = header(Kind::ReferencedChunked, Suite::Xaes256GcmSiv);
    header.codec = Codec::JSON;
    let bytes = envelope(&header, &vec![0; 32 + 65_552 + 21]);
    assert_eq!(
        Envelope::parse(&bytes).unwrap().to_string(),
        "\
referenced chunked envelope, format 1
suite       2, AES-256-GCM-SIV chunks
codec       2, JSON
DEK         version 1 of its scope
key id      abababababababababababababababababababababababababababababababab
salt        cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
chunks      2 of 64 KiB
plaintext   65541 bytes
Nothing of this is authenticated until the envelope is opened."
    );
}

#[test]
fn a_person_can_read_a_self_contained_one_shot_envelope() {
    let mut header = header(Kind::SelfContainedOneShot, Suite::Xaes256GcmSiv);
    header.codec = Codec::from_byte(200).unwrap();
    let bytes = envelope(&header, &[0; 16]);
    assert_eq!(
        Envelope::parse(&bytes).unwrap().to_string(),
        "\
self-contained one-shot envelope, format 1
suite       2, XAES-256-GCM-SIV
codec       200, private codec 200
DEK         single-use, carried in the envelope
key id      abababababababababababababababababababababababababababababababab
nonce       cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
wraps       2, generation 1
            local \"example-kek\", version \"2\", 40 bytes
            aws-kms \"arn:aws:kms:eu-central-1:1:key/\\x1b\", version not known, 184 bytes
plaintext   0 bytes
Nothing of this is authenticated until the envelope is opened."
    );
}

#[test]
fn a_person_can_read_a_self_contained_stream() {
    let bytes = envelope(&header(Kind::SelfContainedChunked, GCM), &[0; 48]);
    let parsed = Envelope::parse(&bytes).unwrap();
    assert_eq!(
        parsed.to_string(),
        "\
self-contained chunked envelope, format 1
suite       1, AES-256-GCM chunks
codec       0, raw bytes
DEK         single-use, carried in the envelope
key id      abababababababababababababababababababababababababababababababab
salt        cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
wraps       2, generation 1
            local \"example-kek\", version \"2\", 40 bytes
            aws-kms \"arn:aws:kms:eu-central-1:1:key/\\x1b\", version not known, 184 bytes
chunks      1 of 64 KiB
plaintext   0 bytes
Nothing of this is authenticated until the envelope is opened."
    );
    for debug in [format!("{parsed:?}"), format!("{:?}", parsed.head())] {
        assert!(!debug.contains(['\n', '\x1b']), "{debug}");
    }
}

#[test]
fn a_head_is_read_from_a_prefix_that_is_long_enough() {
    for kind in Kind::ALL {
        let bytes = envelope(&header(*kind, GCM), &[0; 48]);
        let len = Head::len_of(&bytes[..Head::LEN_MIN]).unwrap();
        assert_eq!(len, bytes.len() - 48);
        let whole = Head::parse(&bytes).unwrap();
        assert_eq!(whole.payload_offset(), len);
        let head = Head::parse(&bytes[..len]).unwrap();
        assert_eq!((head.header(), head.wraps()), (whole.header(), whole.wraps()));
        assert_eq!((head.header_bytes(), head.section()), (whole.header_bytes(), whole.section()));
        for cut in 0..len {
            let error = Head::parse(&bytes[..cut]).map(|_| ()).unwrap_err();
            match cut {
                0..68 => assert_eq!(error, HeaderError::TooShort { len: cut }),
                _ => assert_eq!(error, HeaderError::Wraps(WrapsError::SectionLength)),
            }
            assert_eq!(Head::len_of(&bytes[..cut]).is_ok(), cut >= 70 || cut >= len);
        }
    }
}

#[test]
fn what_the_caller_did_not_ask_for_is_not_accepted() {
    let bytes = envelope(&header(Kind::SelfContainedOneShot, GCM), &[0; 16]);
    let head = Head::parse(&bytes).unwrap();
    let siv = Suites::only(Suite::Xaes256GcmSiv);
    let kind = Kind::SelfContainedOneShot;
    // In the order of section 8.1: kind, suite, codec.
    assert_eq!(
        head.accept(Kind::ReferencedOneShot, Codec::JSON, siv),
        Err(OpenError::WrongKind(kind))
    );
    assert_eq!(head.accept(kind, Codec::JSON, siv), Err(OpenError::SuiteNotAllowed(GCM)));
    assert_eq!(
        head.accept(kind, Codec::JSON, Suites::default()),
        Err(OpenError::WrongCodec { found: 0, expected: 2 })
    );
    assert_eq!(head.accept(kind, Codec::RAW, Suites::default()), Ok(()));
}

/// What decides, without a key, whether a key is worth fetching.
#[test]
fn an_envelope_that_is_malformed_behind_its_header_is_so_before_it_is_not_accepted() {
    let of = |bytes: &[u8]| EnvelopeKey::header_of(bytes, Codec::RAW, Suites::default());
    let good = header(Kind::ReferencedOneShot, GCM);
    assert_eq!(of(&envelope(&good, &[0; 16])), Ok(good));
    for kind in Kind::ALL {
        let short = envelope(&header(*kind, Suite::Xaes256GcmSiv), &[0; 15]);
        assert!(matches!(of(&short), Err(OpenError::Header(HeaderError::PayloadTooShort { .. }))));
    }
    for kind in &Kind::ALL[1..] {
        assert_eq!(of(&envelope(&header(*kind, GCM), &[0; 48])), Err(OpenError::WrongKind(*kind)));
    }
}

proptest! {
    /// Bytes from anywhere never panic; what they claim fits their length.
    #[test]
    fn any_bytes_are_parsed_or_refused(
        kind in prop::sample::select(Kind::ALL),
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        aim in any::<bool>(),
    ) {
        let header = header(kind, GCM).to_bytes();
        if aim && bytes.len() > Header::LEN {
            bytes[..Header::LEN].copy_from_slice(&header);
        }
        if let Ok(parsed) = Envelope::parse(&bytes) {
            prop_assert!(parsed.plaintext_len() as usize <= parsed.payload().len());
            prop_assert_eq!(parsed.head().payload_offset() + parsed.payload().len(), bytes.len());
            let _ = (parsed.to_string(), format!("{parsed:?}"));
        }
    }

    #[test]
    fn a_changed_head_parses_to_something_else(
        kind in prop::sample::select(Kind::ALL),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let bytes = envelope(&header(kind, GCM), &[0; 48]);
        let head = Head::parse(&bytes).unwrap();
        let mut forged = bytes.clone();
        forged[at.index(head.payload_offset())] ^= flip;
        if let Ok(other) = Head::parse(&forged) {
            prop_assert!(
                head.header() != other.header()
                    || head.wraps() != other.wraps()
                    || head.section() != other.section()
            );
        }
    }
}
