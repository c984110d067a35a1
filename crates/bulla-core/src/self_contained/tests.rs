use super::*;
use std::io::{self, Read, Write};

use crate::{Envelope, HeaderError, Library, Suite, Suites, Wrap, WrapsError};

fn scope(tenant: &str) -> ScopeContext {
    ScopeContext::new([("tenant", tenant), ("purpose", "exports")]).unwrap()
}

fn record(file: &str) -> RecordContext {
    RecordContext::new([("file", file)]).unwrap()
}

/// Every suite through every library.
fn all_options() -> impl Iterator<Item = KeyOptions> {
    Library::ALL.iter().flat_map(|library| {
        let options = KeyOptions::default().with_library(*library);
        Suite::ALL.iter().map(move |suite| options.with_suite(*suite))
    })
}

/// Accepts the other suite as well.
fn both(options: KeyOptions) -> KeyOptions {
    Suite::ALL.iter().fold(options, |options, suite| options.accepting(*suite))
}

fn copy(dek: &DataKey) -> DataKey {
    DataKey::init_with(|bytes| bytes.copy_from_slice(dek.expose_secret()))
}

/// `n` wraps, whose blobs no KEK has made: what they hold is for others to know.
fn wraps(n: u8) -> Wraps {
    wraps_of(n, 0xb0)
}

/// [`wraps`] of the same KEKs, with other blobs of the same length.
fn wraps_of(n: u8, blob: u8) -> Wraps {
    let backends = [1, 1, 1, 2, 3, 200, 201, 202];
    let entry = |(i, backend)| Wrap::new(backend, [b'k', i], [i], [blob | i; 20]);
    Wraps::new((0..n).zip(backends).map(entry)).unwrap()
}

fn generate(options: KeyOptions) -> (SingleUseKey, DataKey) {
    let key = SingleUseKey::generate(&scope("acme"), options).unwrap();
    let dek = copy(key.data_key());
    (key, dek)
}

/// A one-shot envelope and its DEK.
fn seal(options: KeyOptions, wraps: &Wraps, plaintext: &[u8]) -> (Vec<u8>, DataKey) {
    let (key, dek) = generate(options);
    (key.seal(wraps, Codec::RAW, plaintext, &record("a")).unwrap(), dek)
}

fn seal_stream(options: KeyOptions, wraps: &Wraps, plaintext: &[u8]) -> (Vec<u8>, DataKey) {
    let (key, dek) = generate(options);
    let stream = StreamOptions::default().with_chunk_log2(12);
    let sealer = key.chunk_sealer(wraps, &record("a"), stream).unwrap();
    let mut writer = sealer.into_writer(Vec::new());
    writer.write_all(plaintext).unwrap();
    (writer.finish().unwrap(), dek)
}

fn check(
    envelope: &[u8],
    dek: &DataKey,
    scope: &ScopeContext,
    options: KeyOptions,
) -> Result<UnwrappedKey, OpenError> {
    UnwrappedKey::check(copy(dek), &Head::parse(envelope)?, Codec::RAW, scope, options)
}

/// Opens an envelope of either kind, as section 8.1 orders the checks.
fn open_with(
    envelope: &[u8],
    kind: Kind,
    dek: &DataKey,
    scope: &ScopeContext,
    context: &RecordContext,
    options: KeyOptions,
) -> Result<Vec<u8>, OpenError> {
    let parsed = Envelope::parse(envelope)?;
    parsed.head().accept(kind, Codec::RAW, options.accepted)?;
    let key = check(envelope, dek, scope, options)?;
    if kind == Kind::SelfContainedOneShot {
        return key.open(parsed.payload(), context);
    }
    let (commitment, chunks) = parsed.payload().split_at(ChunkOpener::COMMITMENT_LEN);
    let mut plaintext = Vec::new();
    let mut reader = key.chunk_opener(commitment, context)?.into_reader(chunks);
    match reader.read_to_end(&mut plaintext) {
        Ok(_) => Ok(plaintext),
        Err(error) => Err(error.get_ref().unwrap().downcast_ref::<OpenError>().unwrap().clone()),
    }
}

const ONE_SHOT: Kind = Kind::SelfContainedOneShot;
const CHUNKED: Kind = Kind::SelfContainedChunked;

fn open(envelope: &[u8], kind: Kind, dek: &DataKey) -> Result<Vec<u8>, OpenError> {
    open_with(envelope, kind, dek, &scope("acme"), &record("a"), both(KeyOptions::default()))
}

#[test]
fn what_is_sealed_opens_in_every_suite_through_every_library() {
    for options in all_options() {
        for len in [0, 1, 15, 16, 1000] {
            let plaintext = vec![7; len];
            let (envelope, dek) = seal(options, &wraps(2), &plaintext);
            assert_eq!(open(&envelope, ONE_SHOT, &dek).unwrap(), plaintext);
            let wraps_len = usize::from(u16::from_be_bytes([envelope[68], envelope[69]]));
            assert_eq!(envelope.len(), len + 86 + wraps_len);
        }
        for len in [0, 1, 4095, 4096, 4097, 3 * 4096 + 5] {
            let plaintext = vec![7; len];
            let (envelope, dek) = seal_stream(options, &wraps(2), &plaintext);
            assert_eq!(open(&envelope, CHUNKED, &dek).unwrap(), plaintext);
            let wraps_len = usize::from(u16::from_be_bytes([envelope[68], envelope[69]]));
            assert_eq!(envelope.len(), len + 102 + wraps_len + 16 * (len / 4096 + 1));
        }
    }
}

#[test]
fn one_to_eight_wraps_travel_along() {
    for n in 1..=8 {
        let (envelope, dek) = seal(KeyOptions::default(), &wraps(n), b"payload");
        let head = Head::parse(&envelope).unwrap();
        assert_eq!(head.wraps(), Some(&wraps(n)));
        assert_eq!(head.header().dek_version, None);
        assert_eq!(open(&envelope, ONE_SHOT, &dek).unwrap(), b"payload");
    }
}

#[test]
fn a_fresh_key_names_itself_in_the_header() {
    let (key, dek) = generate(KeyOptions::default());
    let (other, _) = generate(KeyOptions::default());
    assert_ne!(key.key_id(), other.key_id());
    let key_id = key.key_id();
    assert_eq!(format!("{key:?}"), format!("SingleUseKey({key_id})"));
    let envelope = key.seal(&wraps(1), Codec::RAW, b"", &record("a")).unwrap();
    assert_eq!(Envelope::parse(&envelope).unwrap().header().key_id, key_id);
    let key = check(&envelope, &dek, &scope("acme"), KeyOptions::default()).unwrap();
    assert_eq!(key.data_key(), &dek);
    assert_eq!(format!("{key:?}"), format!("UnwrappedKey({key_id})"));
    assert_eq!(key.head().payload_offset(), envelope.len() - 16);
}

#[test]
fn the_codec_is_the_one_in_the_header_and_authenticated() {
    let (key, dek) = generate(KeyOptions::default());
    let mut envelope = key.seal(&wraps(1), Codec::JSON, b"{}", &record("a")).unwrap();
    assert_eq!(
        open(&envelope, ONE_SHOT, &dek),
        Err(OpenError::WrongCodec { found: 2, expected: 0 })
    );
    envelope[6] = 0;
    assert_eq!(open(&envelope, ONE_SHOT, &dek), Err(OpenError::Authentication));
}

#[test]
fn any_flipped_byte_anywhere_is_refused() {
    for options in all_options() {
        let one_shot = seal(options, &wraps(2), b"nineteen characters");
        let stream = seal_stream(options, &wraps(2), b"nineteen characters");
        for ((envelope, dek), kind) in [(one_shot, ONE_SHOT), (stream, CHUNKED)] {
            for at in 0..envelope.len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut forged = envelope.clone();
                    forged[at] ^= flip;
                    let refused =
                        open_with(&forged, kind, &dek, &scope("acme"), &record("a"), both(options));
                    let error = refused.expect_err("a changed envelope was opened");
                    // Behind the key id, in front of the length: nothing but the MAC.
                    if (44..68).contains(&at) || (70..74).contains(&at) {
                        assert_eq!(error, OpenError::Authentication, "byte {at}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_cut_and_every_extension_is_refused() {
    let one_shot = seal(KeyOptions::default(), &wraps(2), b"payload");
    let stream = seal_stream(KeyOptions::default(), &wraps(2), b"payload");
    for ((envelope, dek), kind) in [(one_shot, ONE_SHOT), (stream, CHUNKED)] {
        for cut in 0..envelope.len() {
            open(&envelope[..cut], kind, &dek).expect_err("a cut envelope was opened");
        }
        let longer = [&envelope[..], &[0]].concat();
        assert_eq!(open(&longer, kind, &dek), Err(OpenError::Authentication));
    }
}

#[test]
fn another_dek_scope_or_record_context_is_refused() {
    let options = KeyOptions::default();
    let one_shot = seal(options, &wraps(2), b"payload");
    let stream = seal_stream(options, &wraps(2), b"payload");
    for ((envelope, dek), kind) in [(one_shot, ONE_SHOT), (stream, CHUNKED)] {
        let key_id = Envelope::parse(&envelope).unwrap().header().key_id;
        let (_, other) = generate(options);
        assert_eq!(open(&envelope, kind, &other), Err(OpenError::WrongKey(key_id)));
        let open = |scope: &ScopeContext, record: &RecordContext| {
            open_with(&envelope, kind, &dek, scope, record, options)
        };
        assert_eq!(open(&scope("evil"), &record("a")), Err(OpenError::WrongKey(key_id)));
        let none = RecordContext::empty();
        for other in [&record("b"), &none] {
            assert_eq!(open(&scope("acme"), other), Err(OpenError::Authentication));
        }
        assert!(open(&scope("acme"), &record("a")).is_ok(), "the control");
    }
}

#[test]
fn parts_of_two_envelopes_do_not_make_a_third() {
    let options = KeyOptions::default();
    for (kind, seal) in [
        (ONE_SHOT, seal as fn(KeyOptions, &Wraps, &[u8]) -> (Vec<u8>, DataKey)),
        (CHUNKED, seal_stream),
    ] {
        let (ours, our_dek) = seal(options, &wraps(2), b"payload");
        let (theirs, their_dek) = seal(options, &wraps_of(2, 0xc0), b"payload");
        let payload = Head::parse(&ours).unwrap().payload_offset();
        assert_eq!(ours.len(), theirs.len());
        for (begin, end) in [
            (0, 68),
            (44, 68),
            (68, payload),
            (68, payload - 32),
            (payload - 32, payload),
            (payload, ours.len()),
            (68, ours.len()),
        ] {
            let mut forged = ours.clone();
            forged[begin..end].copy_from_slice(&theirs[begin..end]);
            assert_ne!(forged, ours);
            for dek in [&our_dek, &their_dek] {
                open(&forged, kind, dek).expect_err("a patchwork was opened");
            }
        }
    }
}

#[test]
fn one_kind_is_not_taken_for_another() {
    let options = KeyOptions::default();
    let (one_shot, dek) = seal(options, &wraps(1), &[0; 100]);
    assert_eq!(open(&one_shot, CHUNKED, &dek), Err(OpenError::WrongKind(ONE_SHOT)));
    let key = check(&one_shot, &dek, &scope("acme"), options).unwrap();
    assert_eq!(
        key.chunk_opener(&[0; 32], &record("a")).map(|_| ()),
        Err(OpenError::WrongKind(ONE_SHOT))
    );
    let (stream, dek) = seal_stream(options, &wraps(1), &[0; 100]);
    assert_eq!(open(&stream, ONE_SHOT, &dek), Err(OpenError::WrongKind(CHUNKED)));
    let key = check(&stream, &dek, &scope("acme"), options).unwrap();
    assert_eq!(key.open(&[0; 32], &record("a")), Err(OpenError::WrongKind(CHUNKED)));
    assert_eq!(
        key.chunk_opener(&[0; 31], &record("a")).map(|_| ()),
        Err(HeaderError::PayloadTooShort { len: 31, min: 32 }.into())
    );
}

#[test]
fn a_payload_of_another_length_is_refused() {
    let (envelope, dek) = seal(KeyOptions::default(), &wraps(1), b"payload");
    let key = check(&envelope, &dek, &scope("acme"), KeyOptions::default()).unwrap();
    assert_eq!(
        key.open(&[0; 15], &record("a")),
        Err(HeaderError::PayloadTooShort { len: 15, min: 16 }.into())
    );
}

#[test]
fn a_referenced_head_is_refused() {
    let (dek, options) = (DataKey::generate().unwrap(), KeyOptions::default());
    let key = crate::EnvelopeKey::derive(&dek, crate::DekVersion::FIRST, &scope("acme"), options);
    let envelope = key.unwrap().seal(b"payload", &record("a")).unwrap();
    assert_eq!(
        check(&envelope, &dek, &scope("acme"), options).map(|_| ()),
        Err(OpenError::WrongKind(Kind::ReferencedOneShot))
    );
}

#[test]
fn a_suite_is_opened_only_where_it_is_accepted() {
    let (gcm, siv) = (Suite::Xaes256Gcm, Suite::Xaes256GcmSiv);
    for (suite, other) in [(gcm, siv), (siv, gcm)] {
        let (envelope, dek) = seal(KeyOptions::default().with_suite(suite), &wraps(1), b"payload");
        let refusing = KeyOptions::default().with_suite(other);
        let refused = check(&envelope, &dek, &scope("acme"), refusing).map(|_| ());
        assert_eq!(refused, Err(OpenError::SuiteNotAllowed(suite)));
        // What would seal in it opens it, too.
        let sealing = KeyOptions { suite, accepted: Suites::only(other), ..refusing };
        assert!(check(&envelope, &dek, &scope("acme"), sealing).is_ok());
        let head = Head::parse(&envelope).unwrap();
        assert_eq!(
            head.accept(ONE_SHOT, Codec::RAW, Suites::only(other)),
            Err(OpenError::SuiteNotAllowed(suite))
        );
        // The byte alone does not turn one into the other.
        let mut relabelled = envelope;
        relabelled[5] = other as u8;
        assert_eq!(open(&relabelled, ONE_SHOT, &dek), Err(OpenError::Authentication));
    }
}

/// Replaces the bytes in front of the payload by those of `wraps`.
fn rewrapped(envelope: &[u8], dek: &DataKey, wraps: &Wraps) -> Result<Vec<u8>, SealError> {
    let key = check(envelope, dek, &scope("acme"), KeyOptions::default()).unwrap();
    let head = key.rewrap(wraps)?;
    assert_eq!(Head::len_of(&head), Ok(head.len()));
    Ok([&head[..], &envelope[key.head().payload_offset()..]].concat())
}

#[test]
fn a_rewrap_changes_bytes_in_front_of_the_payload_only() {
    let one_shot = seal(KeyOptions::default(), &wraps(2), b"payload");
    let stream = seal_stream(KeyOptions::default(), &wraps(2), b"payload");
    for ((envelope, dek), kind) in [(one_shot, ONE_SHOT), (stream, CHUNKED)] {
        let mut before = envelope.clone();
        // Adds six wraps, removes seven of the eight, and so on.
        for (generation, n) in (1..).zip([8, 1, 2, 2, 5]) {
            let present = Head::parse(&before).unwrap().wraps().unwrap().clone();
            let next = present.replaced_by(wraps(n).entries().to_vec()).unwrap();
            let after = rewrapped(&before, &dek, &next).unwrap();
            let (old, new) = (Envelope::parse(&before).unwrap(), Envelope::parse(&after).unwrap());
            assert_eq!(after[..68], before[..68], "the header");
            assert_eq!(new.payload(), old.payload());
            assert_eq!(new.head().wraps(), Some(&next));
            assert_eq!(new.head().wraps().unwrap().generation(), generation);
            assert_eq!(open(&after, kind, &dek).unwrap(), b"payload");
            assert_eq!(open(&before, kind, &dek).unwrap(), b"payload", "it stays what it was");
            before = after;
        }
    }
}

#[test]
fn a_rewrap_takes_the_next_generation_and_no_other() {
    let (envelope, dek) = seal(KeyOptions::default(), &wraps(2), b"payload");
    let (first, entries) = (wraps(2), wraps(3).entries().to_vec());
    let second = first.replaced_by(entries.clone()).unwrap();
    let third = second.replaced_by(entries.clone()).unwrap();
    for (wraps, generation) in [(&first, 0), (&third, 2)] {
        assert_eq!(
            rewrapped(&envelope, &dek, wraps),
            Err(SealError::Wraps(WrapsError::Generation(generation)))
        );
    }
    let envelope = rewrapped(&envelope, &dek, &second).unwrap();
    assert!(rewrapped(&envelope, &dek, &third).is_ok());
    assert_eq!(
        rewrapped(&envelope, &dek, &second),
        Err(SealError::Wraps(WrapsError::Generation(1)))
    );
}

#[test]
fn the_last_generation_is_rewrapped_no_more() {
    let (key, dek) = generate(KeyOptions::default());
    let envelope = key.seal(&wraps(1), Codec::RAW, b"payload", &record("a")).unwrap();
    // 2^32 - 1 rewraps at once: generation and MAC of one who holds the DEK.
    let head = Head::parse(&envelope).unwrap();
    let mut section = wraps(1).to_bytes();
    section[2..6].copy_from_slice(&[0xff; 4]);
    let mac_key = kdf::wraps_key(&dek, &head.header().key_id).unwrap();
    let mac = wraps::mac_of(&mac_key, head.header_bytes(), &section).unwrap().finalize();
    let payload = &envelope[head.payload_offset()..];
    let last = [&envelope[..68], &section, &mac.into_bytes(), payload].concat();
    assert_eq!(open(&last, ONE_SHOT, &dek).unwrap(), b"payload");
    let present = Head::parse(&last).unwrap().wraps().unwrap().clone();
    assert_eq!(present.generation(), u32::MAX);
    let entries = || wraps(1).entries().to_vec();
    assert_eq!(present.replaced_by(entries()), Err(WrapsError::GenerationEnded));
    // Nor does it begin again.
    let again = wraps(1);
    assert_eq!(rewrapped(&last, &dek, &again), Err(SealError::Wraps(WrapsError::Generation(0))));
}

#[test]
fn wraps_of_the_past_put_back_are_genuine_and_show_their_generation() {
    let (envelope, dek) = seal(KeyOptions::default(), &wraps(2), b"payload");
    let next = wraps(2).replaced_by(wraps(1).entries().to_vec()).unwrap();
    let after = rewrapped(&envelope, &dek, &next).unwrap();
    let offset = |bytes: &[u8]| Head::parse(bytes).unwrap().payload_offset();
    let back = [&envelope[..offset(&envelope)], &after[offset(&after)..]].concat();
    assert_eq!(open(&back, ONE_SHOT, &dek).unwrap(), b"payload");
    assert_eq!(Head::parse(&back).unwrap().wraps().unwrap().generation(), 0);
}

#[test]
fn entries_of_a_newer_service_are_authenticated_and_do_not_hinder() {
    // As a newer sealer would write it: an entry of the reserved backend 99.
    let (envelope, dek) = seal(KeyOptions::default(), &wraps(2), b"payload");
    let head = Head::parse(&envelope).unwrap();
    let mut section = wraps(2).to_bytes();
    let backend = section.len() - 20 - 2 - 2 - 2 - 2 - 1;
    assert_eq!(section[backend..backend + 3], [1, 0, 2], "an entry begins here");
    section[backend] = 99;
    let mac_key = kdf::wraps_key(&dek, &head.header().key_id).unwrap();
    let mac = wraps::mac_of(&mac_key, head.header_bytes(), &section).unwrap().finalize();
    let payload = &envelope[head.payload_offset()..];
    let newer = [&envelope[..68], &section, &mac.into_bytes(), payload].concat();
    assert_eq!(open(&newer, ONE_SHOT, &dek).unwrap(), b"payload");
    let mut forged = newer;
    forged[68 + backend] = 98;
    assert_eq!(open(&forged, ONE_SHOT, &dek), Err(OpenError::Authentication));
}

#[test]
fn ranges_of_a_self_contained_stream_are_read_too() {
    let plaintext: Vec<_> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
    let (envelope, dek) = seal_stream(KeyOptions::default(), &wraps(3), &plaintext);
    let parsed = Envelope::parse(&envelope).unwrap();
    let key = check(&envelope, &dek, &scope("acme"), KeyOptions::default()).unwrap();
    let opener = key.chunk_opener(parsed.payload(), &record("a")).unwrap();
    let source = crate::SeekSource(io::Cursor::new(&envelope));
    let mut range = opener.into_range(parsed.layout().unwrap(), source);
    assert_eq!(range.read_range(4000..8200).unwrap(), plaintext[4000..8200]);
    assert_eq!(range.len().unwrap(), 10_000);
}

#[test]
fn chunk_sizes_and_lengths_have_bounds() {
    let stream = StreamOptions::default().with_chunk_log2(23);
    let (key, _) = generate(KeyOptions::default());
    let refused = key.chunk_sealer(&wraps(1), &record("a"), stream).map(|_| ());
    assert_eq!(refused, Err(SealError::ChunkSize(23)));
}
