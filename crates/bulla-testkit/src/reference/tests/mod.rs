//! The reference against the specification, against test vectors of others, and against
//! itself.

use super::{Entry, Inputs, Keys, Opener, Pairs, Recipient};

mod aeads;
mod examples;
mod openers;
mod parsing;
mod properties;
mod refusals;
mod sealers;
mod spec;

/// Pairs of text.
fn pairs(text: &[(&str, &str)]) -> Pairs {
    text.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// `N` counting bytes, with which appendix B replaces random ones.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}

/// The inputs at the head of appendix B, which its plaintext belongs to.
fn inputs() -> Inputs {
    Inputs {
        suite: 1,
        codec: 0,
        dek: counting(0x00),
        scope: pairs(&[("purpose", "customers"), ("tenant", "acme")]),
        record: pairs(&[("column", "email"), ("row", "42"), ("table", "customers")]),
        nonce: counting(0x40),
    }
}

/// Those of B.3: the nonce is a salt.
fn stream_inputs() -> Inputs {
    Inputs { nonce: counting(0x60), ..inputs() }
}

/// Those of B.4: the DEK is another one.
fn self_contained_inputs() -> Inputs {
    Inputs { dek: counting(0x20), ..inputs() }
}

const PLAINTEXT: &[u8] = b"ada@example.org";

/// The wraps of B.4.
fn entries() -> Vec<Entry> {
    vec![
        Entry {
            backend: 1,
            kek_id: b"example-kek".to_vec(),
            kek_version: vec![],
            blob: counting::<16>(0xa0).to_vec(),
        },
        Entry {
            backend: 3,
            kek_id: b"transit/orders".to_vec(),
            kek_version: b"7".to_vec(),
            blob: counting::<16>(0xb0).to_vec(),
        },
    ]
}

/// A KEK that unwraps one entry to a DEK.
fn recipient(entry: &Entry, dek: &[u8]) -> Recipient<'static> {
    Recipient::table(entry.backend, &entry.kek_id, vec![(entry.blob.clone(), dek.to_vec())])
}

/// The opener of B.6: all four kinds, suite 1, codec 0, the DEK of the example or a KEK for
/// the first entry.
fn opener() -> Opener<'static> {
    let Inputs { scope, record, dek, .. } = inputs();
    let kek = recipient(&entries()[0], &self_contained_inputs().dek);
    let keys = Keys { deks: vec![(1, dek)], recipients: vec![kek] };
    Opener { scope, record, kinds: &super::header::KINDS, suites: &[1], codec: 0, keys }
}
