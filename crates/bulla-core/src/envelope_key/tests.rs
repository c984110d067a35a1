use super::*;
use crate::Envelopes;
use crate::limits::ONE_SHOT_PLAINTEXT_BYTES_MAX;
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

fn key_with(options: KeyOptions) -> EnvelopeKey {
    EnvelopeKey::derive(&dek(), DekVersion::FIRST, &scope("acme"), options).unwrap()
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

#[test]
fn the_overhead_is_84_bytes() {
    for len in [0, 1, 15, 16, 17, 1000] {
        assert_eq!(key().seal(&vec![7; len], &record("1")).unwrap().len(), len + 84);
    }
    assert_eq!(EnvelopeKey::OVERHEAD, 84);
}

#[test]
fn many_are_sealed_as_each_would_be() {
    for options in all_options() {
        for mode in [NonceMode::Fresh, NonceMode::Epoch] {
            let key = key_with(options.with_nonces(mode));
            let contexts: Vec<_> = (0..100).map(|row| record(&row.to_string())).collect();
            let plaintexts: Vec<_> = (0..100).map(|len| vec![b'x'; len * 7]).collect();
            let items = || plaintexts.iter().map(Vec::as_slice).zip(&contexts);
            let mut sealed = key.seal_many(items()).unwrap();
            key.seal_many_onto(items(), &mut sealed).unwrap();
            assert_eq!(sealed.len(), 200);
            for (envelope, (plaintext, context)) in sealed.iter().zip(items().chain(items())) {
                assert_eq!(key.open(envelope, context).unwrap(), plaintext);
            }
            let nonces = sealed.iter().map(|envelope| Header::parse(envelope).unwrap().nonce);
            assert_eq!(nonces.collect::<std::collections::HashSet<_>>().len(), 200);
        }
    }
    assert_eq!(key().seal_many([]), Ok(Envelopes::default()));
}

#[test]
fn many_are_sealed_all_or_none() {
    let (key, context, too_long) = (key(), record("1"), vec![0; (1 << 30) + 1]);
    let mut envelopes = key.seal_many([(&b"before"[..], &context); 2]).unwrap();
    let before = envelopes.clone();
    let items = [&b"payload"[..], &b""[..], &too_long[..], &b"behind"[..]];
    let sealed = key.seal_many_onto(items.map(|plaintext| (plaintext, &context)), &mut envelopes);
    assert!(matches!(sealed, Err(SealError::PlaintextTooLong { .. })));
    assert_eq!(envelopes, before);
}

/// A caller's iterator may use the key itself, whose lane the batch holds.
#[test]
fn a_batch_does_not_wait_for_itself() {
    let (key, context) = (key(), record("1"));
    let nested = (0..3).map(|_| {
        let envelopes = key.seal_many([(&b"inner"[..], &context)]).unwrap();
        assert_eq!(key.open(envelopes.get(0).unwrap(), &context).unwrap(), b"inner");
        (&b"outer"[..], &context)
    });
    assert_eq!(key.seal_many(nested).unwrap().len(), 3);
}

#[test]
fn every_library_opens_what_every_library_seals() {
    for sealer in all_options() {
        let envelope = key_with(sealer).seal(b"payload", &record("1")).unwrap();
        for library in Library::ALL {
            let opener = key_with(sealer.with_library(*library));
            assert_eq!(opener.open(&envelope, &record("1")).unwrap(), b"payload");
        }
    }
}

#[test]
fn libraries_agree_to_the_byte() {
    for suite in Suite::ALL {
        let sealed = Library::ALL.iter().map(|library| {
            let key = key_with(KeyOptions::default().with_library(*library).with_suite(*suite));
            key.seal_with_nonce([7; 24], Codec::RAW, b"payload", &record("42")).unwrap()
        });
        let sealed: Vec<_> = sealed.collect();
        assert!(sealed.windows(2).all(|two| two[0] == two[1]), "{suite}");
    }
}

#[test]
fn another_suite_is_opened_only_where_it_is_accepted() {
    let (gcm, siv) = (Suite::Xaes256Gcm, Suite::Xaes256GcmSiv);
    let (one, two) = (key(), key_with(KeyOptions::default().with_suite(siv)));
    let both = key_with(KeyOptions::default().with_suite(siv).accepting(gcm));
    let (in_one, in_two) =
        (one.seal(b"1", &record("1")).unwrap(), two.seal(b"2", &record("1")).unwrap());
    assert_eq!(one.open(&in_two, &record("1")), Err(OpenError::SuiteNotAllowed(siv)));
    assert_eq!(two.open(&in_one, &record("1")), Err(OpenError::SuiteNotAllowed(gcm)));
    assert_eq!(both.open(&in_one, &record("1")).unwrap(), b"1");
    assert_eq!(both.open(&in_two, &record("1")).unwrap(), b"2");
    // The byte alone does not turn one into the other.
    for (envelope, suite) in [(in_one, siv), (in_two, gcm)] {
        let mut relabelled = envelope;
        relabelled[5] = suite as u8;
        assert_eq!(both.open(&relabelled, &record("1")), Err(OpenError::Authentication));
    }
}

#[test]
fn the_codec_is_authenticated_and_has_to_be_named() {
    let (key, private) = (key(), Codec::from_byte(200).unwrap());
    let sealed = key.seal_as(private, b"payload", &record("1")).unwrap();
    assert_eq!(key.open_as(private, &sealed, &record("1")).unwrap(), b"payload");
    assert_eq!(
        key.open(&sealed, &record("1")),
        Err(OpenError::WrongCodec { found: 200, expected: 0 })
    );
    let mut relabelled = sealed;
    relabelled[6] = 0;
    assert_eq!(key.open(&relabelled, &record("1")), Err(OpenError::Authentication));
}

#[test]
fn any_flipped_byte_is_refused() {
    for options in all_options() {
        let other = Suite::ALL.iter().copied().find(|suite| *suite != options.suite);
        let key = key_with(options.accepting(other.unwrap()));
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
    assert_eq!(
        open(&envelope[..83]),
        OpenError::Header(HeaderError::PayloadTooShort { len: 15, min: 16 })
    );
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
    let other_dek = DataKey::init_with(|bytes| bytes.fill(9));
    let theirs =
        EnvelopeKey::derive(&other_dek, DekVersion::FIRST, &scope("acme"), KeyOptions::default());
    let (ours, theirs) = (key(), theirs.unwrap());
    let mut envelope = ours.seal(b"payload", &record("1")).unwrap();
    envelope[12..44].copy_from_slice(theirs.key_id().as_bytes());
    assert_eq!(theirs.open(&envelope, &record("1")), Err(OpenError::Authentication));
    assert!(matches!(ours.open(&envelope, &record("1")), Err(OpenError::WrongKey(_))));
}

#[test]
fn a_refused_open_leaves_no_plaintext_in_the_buffer() {
    for options in all_options() {
        let key = key_with(options);
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
fn the_length_of_the_plaintext_can_be_told_without_a_key() {
    assert_eq!(EnvelopeKey::opened_len(&[0; 84]), Ok(0));
    assert_eq!(EnvelopeKey::opened_len(&[0; 84 + 7]), Ok(7));
    let refused = |len: usize| EnvelopeKey::opened_len(&vec![0; len]).unwrap_err();
    assert_eq!(refused(67), OpenError::from(HeaderError::TooShort { len: 67 }));
    let short = HeaderError::PayloadTooShort { len: 15, min: 16 };
    assert_eq!(refused(83), OpenError::from(short));
}

#[test]
fn warm_calls_on_the_callers_buffers_allocate_nothing() {
    for options in all_options() {
        for nonces in [NonceMode::Fresh, NonceMode::Epoch] {
            let key = key_with(options.with_nonces(nonces));
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
            assert_eq!(info.count_total, 0, "{options:?}, {nonces:?}");
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
        options in prop::sample::select(all_options().collect::<Vec<_>>()),
    ) {
        let key = key_with(options.with_nonces(mode));
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
            bytes[..44].copy_from_slice(&key.sealing.prefix);
        }
        prop_assert!(key.open(&bytes, &record("1")).is_err());
    }
}
