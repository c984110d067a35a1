//! For envelopes of every kind and suite: they open, in whole and in part, and not with a
//! bit, a byte or a context changed.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::reference::{Class, header, seal};

/// What an envelope is made of.
#[derive(Debug, Clone)]
struct Case {
    kind: u8,
    inputs: Inputs,
    version: u32,
    plaintext: Vec<u8>,
}

impl Case {
    fn seal(&self) -> Vec<u8> {
        let Self { kind, inputs, version, plaintext } = self;
        match *kind {
            header::REFERENCED_ONE_SHOT => seal::referenced_one_shot(inputs, *version, plaintext),
            header::REFERENCED_CHUNKED => seal::referenced_chunked(inputs, *version, 12, plaintext),
            header::SELF_CONTAINED_ONE_SHOT => {
                seal::self_contained_one_shot(inputs, &entries(), plaintext)
            }
            _ => seal::self_contained_chunked(inputs, &entries(), 12, plaintext),
        }
        .unwrap()
    }

    /// Accepts what the case is and nothing else; holds its DEK and KEKs for both entries.
    fn opener(&self) -> Opener<'_> {
        let Inputs { dek, scope, record, suite, codec, .. } = &self.inputs;
        Opener {
            scope: scope.clone(),
            record: record.clone(),
            kinds: std::slice::from_ref(&self.kind),
            suites: std::slice::from_ref(suite),
            codec: *codec,
            keys: Keys {
                deks: vec![(self.version, *dek)],
                recipients: entries().iter().map(|entry| recipient(entry, dek)).collect(),
            },
        }
    }

    fn is_chunked(&self) -> bool {
        [header::REFERENCED_CHUNKED, header::SELF_CONTAINED_CHUNKED].contains(&self.kind)
    }
}

/// Plaintexts around the boundaries of chunks, and short ones.
fn plaintexts() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![0..40_usize, 4090..4100_usize, 8190..8200_usize, Just(12_288)];
    (lengths, any::<u8>()).prop_map(|(len, first)| {
        (0..len).map(|i| first.wrapping_add((i * 7 + i / 256) as u8)).collect()
    })
}

fn scopes() -> impl Strategy<Value = Pairs> {
    btree_map("[a-z]{1,8}".prop_map(String::into_bytes), "[a-zé]{0,8}", 0..4)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key, value.into_bytes())).collect())
}

fn records() -> impl Strategy<Value = Pairs> {
    btree_map(vec(any::<u8>(), 1..8), vec(any::<u8>(), 0..40), 0..5)
        .prop_map(|map| map.into_iter().collect())
}

prop_compose! {
    fn cases()(
        kind in select(&header::KINDS[..]),
        suite in 1..=2_u8,
        codec in select(&[0, 1, 2, 128, 255][..]),
        dek in any::<[u8; 32]>(),
        version in 1..=u32::MAX,
        scope in scopes(),
        record in records(),
        nonce in any::<[u8; 24]>(),
        plaintext in plaintexts(),
    ) -> Case {
        let inputs = Inputs { suite, codec, dek, scope, record, nonce };
        Case { kind, inputs, version, plaintext }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn what_is_sealed_opens(case in cases()) {
        let envelope = case.seal();
        prop_assert_eq!(case.opener().open(&envelope), Ok(case.plaintext.clone()));
        // Section 2.7.
        let tags = if case.is_chunked() { 32 + 16 * (case.plaintext.len() / 4096 + 1) } else { 16 };
        let wraps = if case.kind >= 0x11 { 2 + 0x6b } else { 0 };
        prop_assert_eq!(envelope.len(), 68 + wraps + tags + case.plaintext.len());
    }

    #[test]
    fn every_order_of_pairs_is_the_same_context(case in cases()) {
        let mut opener = case.opener();
        opener.scope.reverse();
        opener.record.reverse();
        prop_assert!(opener.open(&case.seal()).is_ok());
    }

    #[test]
    fn a_flipped_bit_is_refused(case in cases(), at in any::<Index>(), bit in 0..8) {
        let mut envelope = case.seal();
        let at = at.index(envelope.len());
        envelope[at] ^= 1_u8 << bit;
        prop_assert!(case.opener().open(&envelope).is_err(), "byte {}", at);
    }

    #[test]
    fn a_cut_or_lengthened_envelope_is_refused(
        case in cases(),
        cut in any::<Index>(),
        more in 1..5000_usize,
    ) {
        let mut envelope = case.seal();
        let cut = cut.index(envelope.len());
        prop_assert!(case.opener().open(&envelope[..cut]).is_err(), "cut at {}", cut);
        envelope.resize(envelope.len() + more, 0);
        prop_assert!(case.opener().open(&envelope).is_err(), "{} more", more);
    }

    #[test]
    fn another_context_is_refused_by_its_class(case in cases()) {
        let envelope = case.seal();
        let mut opener = case.opener();
        opener.record.push((vec![0; 9], vec![]));
        prop_assert_eq!(opener.open(&envelope), Err(Class::Authentication));
        opener.scope.push((vec![b'0'; 9], vec![]));
        prop_assert_eq!(opener.open(&envelope), Err(Class::UnknownKey));
    }

    #[test]
    fn a_range_is_the_slice_of_the_plaintext(
        case in cases(),
        a in any::<Index>(),
        b in any::<Index>(),
    ) {
        prop_assume!(case.is_chunked());
        let len = case.plaintext.len();
        let (a, b) = (a.index(len + 2), b.index(len + 2));
        let (a, b) = (a.min(b), a.max(b));
        let expected = case.plaintext.get(a..b).map(<[u8]>::to_vec).ok_or(Class::OutOfRange);
        prop_assert_eq!(case.opener().open_range(&case.seal(), a as u64, b as u64), expected);
    }

    #[test]
    fn a_rewrapped_envelope_opens(case in cases()) {
        prop_assume!(case.kind >= 0x11);
        let rewrapped = seal::rewrap(&case.opener(), &case.seal(), &entries()[1..]).unwrap();
        prop_assert_eq!(case.opener().open(&rewrapped), Ok(case.plaintext.clone()));
    }
}

/// Not a sample: every bit of a short envelope of each kind, in each suite.
#[test]
fn every_single_bit_of_a_short_envelope_counts() {
    for kind in header::KINDS {
        for suite in [1, 2] {
            let inputs = Inputs { suite, ..inputs() };
            let case = Case { kind, inputs, version: 1, plaintext: b"hello".to_vec() };
            let envelope = case.seal();
            let opener = Opener { suites: &[1, 2], kinds: &header::KINDS, ..case.opener() };
            assert!(opener.open(&envelope).is_ok());
            for bit in 0..envelope.len() * 8 {
                let mut changed = envelope.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(opener.open(&changed).is_err(), "kind {kind:02x}, bit {bit}");
            }
        }
    }
}
