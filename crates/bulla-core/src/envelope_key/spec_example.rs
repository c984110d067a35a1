//! The worked example of the specification, read from the document itself: code and
//! document cannot drift apart.

use data_encoding::HEXLOWER_PERMISSIVE as HEX;

use super::tests::seal_with_nonce;
use super::*;

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

fn example_key(library: Library) -> EnvelopeKey {
    let dek = DataKey::init_with(|bytes| bytes.copy_from_slice(&value(INPUTS, "DEK")));
    let scope = ScopeContext::new([("purpose", "customers"), ("tenant", "acme")]).unwrap();
    let options = KeyOptions::default().with_library(library);
    EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, options).unwrap()
}

fn example_record() -> RecordContext {
    RecordContext::new([("table", "customers"), ("column", "email"), ("row", "42")]).unwrap()
}

#[test]
fn contexts_and_key_id_are_the_printed_ones() {
    let scope = ScopeContext::new([("purpose", "customers"), ("tenant", "acme")]).unwrap();
    assert_eq!(scope.as_bytes(), value(INPUTS, "CTX(scope)"));
    assert_eq!(example_record().as_bytes(), value(INPUTS, "CTX(record)"));
    assert_eq!(scope.kms_context(DekVersion::FIRST).as_bytes(), value(INPUTS, "CTX(KMS)"));
    assert_eq!(example_key(Library::default()).key_id().as_bytes()[..], value(INPUTS, "key id"));
}

#[test]
fn the_derived_key_is_the_printed_one() {
    let seal_key: [u8; 32] = value(EXAMPLE, "seal key").try_into().unwrap();
    let nonce: [u8; 24] = value(INPUTS, "nonce").try_into().unwrap();
    let derived = XaesKey::new(&seal_key).derive(&split_nonce(&nonce).0);
    assert_eq!(derived[..], value(EXAMPLE, "Kx"));
    let prefix = example_key(Library::default()).prefix;
    with_aad(&prefix, &example_record(), |aad| assert_eq!(aad, value(EXAMPLE, "AAD")));
}

#[test]
fn every_library_seals_and_opens_the_printed_envelope() {
    for library in Library::ALL {
        let key = example_key(*library);
        let nonce = value(INPUTS, "nonce").try_into().unwrap();
        let printed = value(EXAMPLE, "envelope");
        assert_eq!(seal_with_nonce(&key, nonce, b"ada@example.org"), printed, "{library:?}");
        assert_eq!(key.open(&printed, &example_record()).unwrap(), b"ada@example.org");
    }
}

/// The envelopes of kinds and suites that are specified and not implemented yet are
/// read and refused as such.
#[test]
fn the_other_printed_envelopes_parse_and_are_refused() {
    let key = example_key(Library::default());
    for (heading, kind, suite) in [
        ("### B.2 ", Kind::ReferencedOneShot, Suite::Xaes256GcmSiv),
        ("### B.3 ", Kind::ReferencedChunked, Suite::Xaes256Gcm),
        ("### B.4 ", Kind::SelfContainedOneShot, Suite::Xaes256Gcm),
    ] {
        let envelope = value(heading, "envelope");
        let header = Header::parse(&envelope).unwrap();
        assert_eq!((header.kind, header.suite), (kind, suite));
        let refused = key.open(&envelope, &example_record()).unwrap_err();
        let expected = match kind {
            Kind::ReferencedOneShot => OpenError::SuiteNotAllowed(suite),
            _ => OpenError::WrongKind,
        };
        assert_eq!(refused, expected);
    }
}
