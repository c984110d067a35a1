use super::*;
use crate::HeaderError;
use proptest::prelude::*;

fn scope(tenant: &str) -> ScopeContext {
    ScopeContext::new([("tenant", tenant), ("purpose", "customers")]).unwrap()
}

/// With row 42, the record context of the specification's example.
fn record(row: &str) -> RecordContext {
    RecordContext::new([("table", "customers"), ("column", "email"), ("row", row)]).unwrap()
}

fn version(n: u32) -> DekVersion {
    DekVersion::new(n).unwrap()
}

fn dek() -> DataKey {
    DataKey::init_with(|bytes| (0..).zip(bytes).for_each(|(i, byte)| *byte = i))
}

fn key_of(dek: &DataKey, library: Library) -> EnvelopeKey {
    let options = KeyOptions::default().with_library(library);
    EnvelopeKey::derive(dek, DekVersion::FIRST, &scope("acme"), options).unwrap()
}

fn key() -> EnvelopeKey {
    key_of(&dek(), Library::default())
}

#[test]
fn the_overhead_is_84_bytes() {
    for len in [0, 1, 15, 16, 17, 1000] {
        assert_eq!(key().seal(&vec![7; len], &record("1")).unwrap().len(), len + 84);
    }
    assert_eq!(EnvelopeKey::OVERHEAD, 84);
}

#[test]
fn every_library_opens_what_every_library_seals() {
    for sealer in Library::ALL {
        for opener in Library::ALL {
            let envelope = key_of(&dek(), *sealer).seal(b"payload", &record("1")).unwrap();
            let opened = key_of(&dek(), *opener).open(&envelope, &record("1")).unwrap();
            assert_eq!(opened, b"payload");
        }
    }
}

#[test]
fn libraries_agree_to_the_byte() {
    let nonce: [u8; 24] = std::array::from_fn(|i| i as u8);
    let sealed: Vec<_> = Library::ALL
        .iter()
        .map(|library| seal_with_nonce(&key_of(&dek(), *library), nonce, b"payload"))
        .collect();
    assert!(sealed.windows(2).all(|two| two[0] == two[1]));
}

pub(super) fn seal_with_nonce(key: &EnvelopeKey, nonce: [u8; 24], plaintext: &[u8]) -> Vec<u8> {
    let derived = key.derived.derive(split_nonce(&nonce).0).unwrap();
    let mut out = vec![0; plaintext.len() + EnvelopeKey::OVERHEAD];
    key.encrypt(&derived.aead, &nonce, plaintext, &record("42"), &mut out).unwrap();
    out
}

#[test]
fn any_flipped_byte_is_refused() {
    for library in Library::ALL {
        let key = key_of(&dek(), *library);
        let envelope = key.seal(b"nineteen characters", &record("1")).unwrap();
        for at in 0..envelope.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut forged = envelope.clone();
                forged[at] ^= flip;
                assert!(key.open(&forged, &record("1")).is_err(), "byte {at} flipped by {flip}");
            }
        }
    }
}

#[test]
fn each_refusal_has_its_error() {
    let key = key();
    let envelope = key.seal(b"payload", &record("1")).unwrap();
    let open = |envelope: &[u8]| key.open(envelope, &record("1")).unwrap_err();
    let with = |at: usize, byte: u8| {
        let mut forged = envelope.clone();
        forged[at] = byte;
        open(&forged)
    };
    assert_eq!(with(0, b'X'), OpenError::Header(HeaderError::NotAnEnvelope));
    assert_eq!(with(5, 2), OpenError::SuiteNotAllowed(Suite::Xaes256GcmSiv));
    assert_eq!(with(6, 1), OpenError::WrongCodec { found: 1, expected: 0 });
    assert_eq!(with(11, 2), OpenError::WrongKey(key.key_id()));
    assert!(matches!(with(12, !envelope[12]), OpenError::WrongKey(_)));
    assert_eq!(with(44, !envelope[44]), OpenError::Authentication);
    assert_eq!(with(67, !envelope[67]), OpenError::Authentication);
    assert_eq!(with(68, !envelope[68]), OpenError::Authentication);
    assert_eq!(open(&envelope[..83]), OpenError::Truncated);
    assert_eq!(open(&envelope[..90]), OpenError::Authentication);
    assert_eq!(open(&[]), OpenError::Header(HeaderError::TooShort { len: 0 }));
}

#[test]
fn another_context_scope_version_or_dek_is_refused() {
    let key = key();
    let envelope = key.seal(b"payload", &record("1")).unwrap();
    for other in [
        record("2"),
        RecordContext::empty(),
        RecordContext::new([("table", "customers"), ("column", "email")]).unwrap(),
        RecordContext::new([("table", "customers"), ("column", "emai"), ("row", "l1")]).unwrap(),
    ] {
        assert_eq!(key.open(&envelope, &other), Err(OpenError::Authentication));
    }
    let options = KeyOptions::default();
    let other_dek = DataKey::init_with(|bytes| bytes.fill(1));
    for other in [
        EnvelopeKey::derive(&dek(), DekVersion::FIRST, &scope("evil"), options),
        EnvelopeKey::derive(&dek(), version(2), &scope("acme"), options),
        EnvelopeKey::derive(&other_dek, DekVersion::FIRST, &scope("acme"), options),
    ] {
        let refused = other.unwrap().open(&envelope, &record("1"));
        assert_eq!(refused, Err(OpenError::WrongKey(key.key_id())));
    }
}

#[test]
fn a_key_id_swapped_in_the_header_does_not_help() {
    let (ours, theirs) = (key(), key_of(&DataKey::init_with(|b| b.fill(9)), Library::default()));
    let mut envelope = ours.seal(b"payload", &record("1")).unwrap();
    envelope[12..44].copy_from_slice(theirs.key_id().as_bytes());
    assert_eq!(theirs.open(&envelope, &record("1")), Err(OpenError::Authentication));
    assert!(matches!(ours.open(&envelope, &record("1")), Err(OpenError::WrongKey(_))));
}

#[test]
fn a_refused_open_leaves_no_plaintext_in_the_buffer() {
    for library in Library::ALL {
        let key = key_of(&dek(), *library);
        let mut envelope = key.seal(&[b'A'; 64], &record("1")).unwrap();
        *envelope.last_mut().unwrap() ^= 1;
        let mut out = [0x55; 70];
        assert_eq!(
            key.open_into(&envelope, &record("1"), &mut out),
            Err(OpenError::Authentication)
        );
        assert_eq!(out[..64], [0; 64]);
        assert_eq!(out[64..], [0x55; 6], "bytes beyond the plaintext are the caller's");
    }
}

#[test]
fn buffers_that_are_too_small_are_refused_untouched() {
    let key = key();
    let mut out = [0x55; 90];
    assert_eq!(
        key.seal_into(b"payload", &record("1"), &mut out),
        Err(SealError::BufferTooSmall { len: 90, needed: 91 })
    );
    assert_eq!(out, [0x55; 90]);
    let envelope = key.seal(b"payload", &record("1")).unwrap();
    assert_eq!(
        key.open_into(&envelope, &record("1"), &mut out[..6]),
        Err(OpenError::BufferTooSmall { len: 6, needed: 7 })
    );
}

#[test]
fn lengths_over_the_limit_are_refused_before_allocation() {
    let max = ONE_SHOT_PLAINTEXT_BYTES_MAX;
    assert_eq!(EnvelopeKey::sealed_len(max), Ok(max + 84));
    assert_eq!(
        EnvelopeKey::sealed_len(max + 1),
        Err(SealError::PlaintextTooLong { len: max + 1, max })
    );
}

#[test]
fn warm_calls_on_the_callers_buffers_allocate_nothing() {
    for library in Library::ALL {
        for nonces in [NonceMode::Fresh, NonceMode::Epoch] {
            let options = KeyOptions::default().with_library(*library).with_nonces(nonces);
            let key =
                EnvelopeKey::derive(&dek(), DekVersion::FIRST, &scope("acme"), options).unwrap();
            let context = record("1");
            let (mut envelope, mut plaintext) = ([0; 64 + 84], [0; 64]);
            for _ in 0..2 {
                key.seal_into(&[7; 64], &context, &mut envelope).unwrap();
            }
            let info = allocation_counter::measure(|| {
                for _ in 0..1000 {
                    key.seal_into(&[7; 64], &context, &mut envelope).unwrap();
                    key.open_into(&envelope, &context, &mut plaintext).unwrap();
                }
            });
            assert_eq!(info.count_total, 0, "{library:?}, {nonces:?}");
        }
    }
}

#[test]
fn contexts_of_every_length_round_trip() {
    let key = key();
    for len in [0, 100, 190, 200, 201, 202, 203, 204, 205, 206, 207, 210, 256, 1024] {
        let context = RecordContext::new([("k", "v".repeat(len))]).unwrap();
        let envelope = key.seal(b"payload", &context).unwrap();
        assert_eq!(key.open(&envelope, &context).unwrap(), b"payload");
    }
    let longest = (0..4).map(|i| (format!("{i}"), "v".repeat(if i < 3 { 1024 } else { 991 })));
    let context = RecordContext::new(longest).unwrap();
    assert_eq!(context.as_bytes().len(), 2 + 4 * 5 + 3 * 1024 + 991);
    let envelope = key.seal(b"payload", &context).unwrap();
    assert_eq!(key.open(&envelope, &context).unwrap(), b"payload");
}

#[test]
fn debug_shows_names_only() {
    let text = format!("{:?}", key());
    assert!(text.starts_with("EnvelopeKey { version: v1, key_id: KeyId("), "{text}");
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        plaintext in prop::collection::vec(any::<u8>(), 0..2000),
        row in ".{0,40}",
        mode in prop::sample::select(vec![NonceMode::Fresh, NonceMode::Epoch]),
        library in prop::sample::select(Library::ALL.to_vec()),
    ) {
        let options = KeyOptions::default().with_library(library).with_nonces(mode);
        let key = EnvelopeKey::derive(&dek(), DekVersion::FIRST, &scope("acme"), options).unwrap();
        let envelope = key.seal(&plaintext, &record(&row)).unwrap();
        prop_assert_eq!(key.open(&envelope, &record(&row)).unwrap(), plaintext);
    }

    /// Any change of the bytes, at any place, is refused.
    #[test]
    fn any_change_is_refused(
        plaintext in prop::collection::vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(),
        insert in prop::collection::vec(any::<u8>(), 0..4),
        remove in 0_usize..4,
    ) {
        let key = key();
        let envelope = key.seal(&plaintext, &record("1")).unwrap();
        let at = at.index(envelope.len() + 1);
        let end = (at + remove).min(envelope.len());
        let mut forged = envelope.clone();
        forged.splice(at..end, insert);
        prop_assume!(forged != envelope);
        prop_assert!(key.open(&forged, &record("1")).is_err());
    }

    /// Bytes from anywhere never panic and never open.
    #[test]
    fn garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), aim in any::<bool>()) {
        let key = key();
        if aim && bytes.len() > 44 {
            bytes[..44].copy_from_slice(&key.prefix);
        }
        prop_assert!(key.open(&bytes, &record("1")).is_err());
    }
}
