//! The worked examples of the specification, read from the document itself: code and
//! document cannot drift apart.

use std::io::{Read, Write};

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use sha2::{Digest, Sha256};

use super::*;
use crate::one_shot::{split_nonce, with_aad};
use crate::{Envelope, SingleUseKey, StreamOptions, UnwrappedKey, Wrap, Wraps};

/// Value of `name` in the example that starts with `heading`: what follows the name,
/// and the continuation lines.
fn value(heading: &str, name: &str) -> Vec<u8> {
    let spec = include_str!("../../../../docs/spec/envelope-v1.md");
    let (_, section) = spec.split_once(heading).unwrap();
    let mut lines = section.lines().skip_while(|line| !line.starts_with(&format!("    {name}  ")));
    let first = lines.next().unwrap().trim_start().strip_prefix(name).unwrap().trim();
    let rest = lines.take_while(|line| line.starts_with("        "));
    let digits: String = std::iter::once(first).chain(rest.map(str::trim)).collect();
    HEX.decode(digits.as_bytes()).unwrap()
}

const INPUTS: &str = "## Appendix B.";
const EXAMPLE: &str = "### B.1 ";
const SELF_CONTAINED: &str = "### B.4 ";
const REWRAPPED: &str = "A rewrap that drops the second entry";

fn dek(heading: &str) -> DataKey {
    DataKey::init_with(|bytes| bytes.copy_from_slice(&value(heading, "DEK")))
}

fn example_scope() -> ScopeContext {
    ScopeContext::new([("purpose", "customers"), ("tenant", "acme")]).unwrap()
}

fn example_key(options: KeyOptions) -> EnvelopeKey {
    EnvelopeKey::derive(&dek(INPUTS), DekVersion::FIRST, &example_scope(), options).unwrap()
}

fn example_record() -> RecordContext {
    RecordContext::new([("table", "customers"), ("column", "email"), ("row", "42")]).unwrap()
}

fn bytes<const N: usize>(heading: &str, name: &str) -> [u8; N] {
    value(heading, name).try_into().unwrap()
}

/// Every library, in `suite`.
fn options(suite: Suite) -> impl Iterator<Item = KeyOptions> {
    Library::ALL.iter().map(move |l| KeyOptions::default().with_library(*l).with_suite(suite))
}

#[test]
fn contexts_and_key_id_are_the_printed_ones() {
    let (scope, key) = (example_scope(), example_key(KeyOptions::default()));
    assert_eq!(scope.as_bytes(), value(INPUTS, "CTX(scope)"));
    assert_eq!(example_record().as_bytes(), value(INPUTS, "CTX(record)"));
    assert_eq!(scope.kms_context(DekVersion::FIRST).as_bytes(), value(INPUTS, "CTX(KMS)"));
    assert_eq!(key.key_id().as_bytes()[..], value(INPUTS, "key id"));
}

#[test]
fn derived_keys_and_aad_are_the_printed_ones() {
    let nonce = bytes(INPUTS, "nonce");
    for (heading, suite) in [(EXAMPLE, Suite::Xaes256Gcm), ("### B.2 ", Suite::Xaes256GcmSiv)] {
        let derived =
            XaesKey::new(&bytes(heading, "seal key")).derive(&split_nonce(&nonce).0, |key| *key);
        assert_eq!(derived[..], value(heading, "Kx"));
        let prefix = example_key(KeyOptions::default().with_suite(suite)).sealing.prefix;
        with_aad(&prefix, &example_record(), |aad| assert_eq!(aad, value(heading, "AAD")));
    }
}

#[test]
fn every_library_seals_and_opens_the_printed_one_shot_envelopes() {
    for (heading, suite) in [(EXAMPLE, Suite::Xaes256Gcm), ("### B.2 ", Suite::Xaes256GcmSiv)] {
        for options in options(suite) {
            let (key, context) = (example_key(options), example_record());
            let (nonce, printed) = (bytes(INPUTS, "nonce"), value(heading, "envelope"));
            let sealed = key.seal_with_nonce(nonce, Codec::RAW, b"ada@example.org", &context);
            assert_eq!(sealed.unwrap(), printed, "{options:?}");
            assert_eq!(key.open(&printed, &context).unwrap(), b"ada@example.org");
        }
    }
}

#[test]
fn every_library_seals_and_opens_the_printed_streams() {
    let suite_2 = "The same in suite 2";
    for (heading, suite) in [("### B.3 ", Suite::Xaes256Gcm), (suite_2, Suite::Xaes256GcmSiv)] {
        for options in options(suite) {
            let (key, context) = (example_key(options), example_record());
            let stream = StreamOptions::default().with_chunk_log2(12);
            let sealer = key.chunk_sealer_with(
                bulla_sys::generation(),
                bytes("### B.3 ", "salt"),
                &context,
                stream,
            );
            let mut writer = sealer.unwrap().into_writer(Vec::new());
            writer.write_all(b"hello").unwrap();
            let printed = value(heading, "envelope");
            assert_eq!(writer.finish().unwrap(), printed, "{options:?}");
            let mut opened = Vec::new();
            let mut reader = key.open_reader(&printed[..], &context, Codec::RAW).unwrap();
            reader.read_to_end(&mut opened).unwrap();
            assert_eq!(opened, b"hello");
        }
    }
}

#[test]
fn every_library_seals_the_printed_self_contained_envelope() {
    let wraps = Wraps::new([
        Wrap::new(
            3,
            *b"transit/orders",
            *b"7",
            std::array::from_fn::<u8, 16, _>(|i| 0xb0 + i as u8),
        ),
        Wrap::new(1, *b"example-kek", *b"", std::array::from_fn::<u8, 16, _>(|i| 0xa0 + i as u8)),
    ]);
    let wraps = wraps.unwrap();
    for options in options(Suite::Xaes256Gcm) {
        let key = SingleUseKey::of(
            bulla_sys::generation(),
            dek(SELF_CONTAINED),
            &example_scope(),
            options,
        )
        .unwrap();
        assert_eq!(key.key_id().as_bytes()[..], value(SELF_CONTAINED, "key id"));
        let sealed = key.seal_with(
            bytes(INPUTS, "nonce"),
            &wraps,
            Codec::RAW,
            b"ada@example.org",
            &example_record(),
        );
        let sealed = sealed.unwrap();
        assert_eq!(sealed, value(SELF_CONTAINED, "envelope"), "{options:?}");

        let parsed = Envelope::parse(&sealed).unwrap();
        let key = UnwrappedKey::check(
            dek(SELF_CONTAINED),
            parsed.head(),
            Codec::RAW,
            &example_scope(),
            options,
        );
        let first = parsed.head().wraps().unwrap().entries()[..1].to_vec();
        let wraps = parsed.head().wraps().unwrap().replaced_by(first).unwrap();
        let head = key.unwrap().rewrap(&wraps).unwrap();
        assert_eq!(head[68..70], value(REWRAPPED, "wraps_len"));
        let rewrapped = [&head[..], parsed.payload()].concat();
        assert_eq!(Sha256::digest(&rewrapped)[..], value(REWRAPPED, "SHA-256"), "{options:?}");
    }
    let context = example_scope().single_use_kms_context();
    assert_eq!(context.as_bytes(), value(SELF_CONTAINED, "CTX(KMS)"));
}
