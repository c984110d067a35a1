//! Envelopes of every kind, and openers that have what it takes.

use bulla_testkit::reference::{Entry, Inputs, Pairs, context, derive, header};
use bulla_testkit::vectors::{Operation, Sealing, StoredDek, Unwraps, Vector};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

fn texts() -> impl Strategy<Value = Vec<u8>> {
    "[a-zé]{0,12}".prop_map(String::into_bytes)
}

fn pairs(max: usize) -> impl Strategy<Value = Pairs> {
    btree_map("[a-z]{1,8}".prop_map(String::into_bytes), texts(), 0..max)
        .prop_map(|map| map.into_iter().filter(|(key, _)| !key.starts_with(b"bulla")).collect())
}

/// Entries by distinct KEKs, not sorted.
pub(crate) fn entries(max: usize) -> impl Strategy<Value = Vec<Entry>> {
    let backends = prop_oneof![6 => 1_u8..7, 2 => 128_u8.., 1 => 7_u8..128];
    let names = (backends, vec(any::<u8>(), 1..4), vec(any::<u8>(), 0..3));
    let blobs = vec(any::<u8>(), 1..40);
    btree_set(names, 1..max).prop_flat_map(move |names| {
        (Just(names), vec(blobs.clone(), max)).prop_map(|(names, blobs)| {
            let entry = |((backend, kek_id, kek_version), blob): (_, Vec<u8>)| Entry {
                backend,
                kek_id,
                kek_version,
                blob,
            };
            names.into_iter().zip(blobs).map(entry).rev().collect()
        })
    })
}

/// Lengths around the boundaries of chunks, and short ones.
fn plaintexts(chunk_log2: u8) -> impl Strategy<Value = Vec<u8>> {
    let chunk = match chunk_log2 {
        0 => 300,
        12..=13 => 1_usize << chunk_log2,
        _ => 1000,
    };
    let around = (0..4_usize, 0..40_usize);
    let lengths = around.prop_map(move |(chunks, more)| (chunks * chunk + more).saturating_sub(20));
    (prop_oneof![0..40_usize, lengths], any::<u8>()).prop_map(|(len, first)| {
        (0..len).map(|at| first.wrapping_add((at * 7 + at / 256) as u8)).collect()
    })
}

/// Whatever can be sealed, and some reserved backends, with which it cannot.
pub(crate) fn sealings() -> impl Strategy<Value = Sealing> {
    let chunk_log2 = prop_oneof![4 => 12..=13_u8, 1 => 12..=22_u8];
    (select(&header::KINDS[..]), chunk_log2)
        .prop_flat_map(|(kind, log2)| {
            let chunk_log2 = if kind & 0x0f == 2 { log2 } else { 0 };
            let version = if kind & 0x10 == 0 { 1..=u32::MAX } else { 0..=0 };
            let inputs = (
                1..=2_u8,
                select(&[0, 0, 0, 1, 2, 128, 255][..]),
                any::<[u8; 32]>(),
                pairs(4),
                pairs(6),
                any::<[u8; 24]>(),
            );
            (Just((kind, chunk_log2)), version, inputs, entries(4), plaintexts(chunk_log2))
        })
        .prop_map(|((kind, chunk_log2), version, inputs, entries, plaintext)| {
            let (suite, codec, dek, scope, record, nonce) = inputs;
            let inputs = Inputs { suite, codec, dek, scope, record, nonce };
            Sealing { kind, chunk_log2, version, inputs, entries, plaintext }
        })
}

/// As [`sealings`], without reserved backends.
pub(crate) fn good_sealings() -> impl Strategy<Value = Sealing> {
    sealings().prop_map(|mut sealing| {
        for entry in &mut sealing.entries {
            if (7..128).contains(&entry.backend) {
                entry.backend |= 0x80;
            }
        }
        let mut names = std::collections::BTreeSet::new();
        sealing.entries.retain(|entry| {
            names.insert((entry.backend, entry.kek_id.clone(), entry.kek_version.clone()))
        });
        sealing
    })
}

/// An opener that accepts what `sealing` makes, and nothing else, has its DEK and all KEKs.
pub(crate) fn opener(sealing: &Sealing, envelope: Vec<u8>, operation: Operation) -> Vector {
    let Sealing { kind, version, inputs, entries, .. } = sealing;
    let ctx_scope = context::ctx_scope(&inputs.scope).unwrap();
    // With a self-contained envelope, the DEK of a lineage that is asked to open it as well.
    let version = (*version).max(1);
    let mut vector = Vector {
        operation,
        kinds: vec![*kind],
        suites: Some(vec![inputs.suite]),
        codec: Some(inputs.codec),
        scope: inputs.scope.clone(),
        record: inputs.record.clone(),
        deks: vec![StoredDek {
            version,
            key_id: derive::key_id(&inputs.dek, version, &ctx_scope).to_vec(),
            dek: inputs.dek.to_vec(),
        }],
        envelope: envelope.into(),
        ..Vector::default()
    };
    if operation == Operation::Rewrap {
        vector.codec = None;
    }
    add_keks(&mut vector, &inputs.dek, entries);
    vector
}

/// Puts the KEKs of `entries` on the list, and what they unwrap to.
pub(crate) fn add_keks(vector: &mut Vector, dek: &[u8], entries: &[Entry]) {
    let context = context::ctx_kms(&vector.scope, 0).unwrap();
    for Entry { backend, kek_id, blob, .. } in entries {
        if !vector.keks.contains(&(*backend, kek_id.clone())) {
            vector.keks.push((*backend, kek_id.clone()));
        }
        vector.unwraps.push(Unwraps {
            backend: *backend,
            kek_id: kek_id.clone(),
            blob: blob.clone(),
            dek: dek.to_vec(),
            context: Some(context.clone()),
        });
    }
}

/// Operations on a kind of envelope, of so many bytes of plaintext.
pub(crate) fn operations(kind: u8, len: u64) -> BoxedStrategy<Operation> {
    let ranges = (0..=len + 2, 0..=len + 2).prop_map(|(a, b)| Operation::Range(a.min(b), a.max(b)));
    let ends = (0..=len, any::<u64>()).prop_map(|(a, b)| Operation::Range(a.min(b), a.max(b)));
    match kind {
        0x01 => prop_oneof![6 => Just(Operation::Open), 1 => Just(Operation::Parse)].boxed(),
        0x11 => prop_oneof![Just(Operation::Open), Just(Operation::Rewrap)].boxed(),
        _ => prop_oneof![
            4 => Just(Operation::Open),
            4 => ranges,
            1 => ends,
            1 => Just(Operation::Length),
            1 => (0..=len).prop_map(Operation::Tail),
            2 => Just(if kind == 0x12 { Operation::Rewrap } else { Operation::Open }),
        ]
        .boxed(),
    }
}

/// One to nine new wraps.
pub(crate) fn new_wraps() -> impl Strategy<Value = Vec<Entry>> {
    prop_oneof![4 => entries(4), 1 => entries(10)]
}

/// Takes `wraps` as the new ones, by KEKs that unwrap them.
pub(crate) fn add_new(vector: &mut Vector, dek: &[u8], wraps: Vec<Entry>) {
    if vector.operation == Operation::Rewrap {
        let keks = vector.keks.clone();
        add_keks(vector, dek, &wraps);
        // The opener's own list is that of the KEKs that it opens with.
        vector.keks = keks;
        vector.wraps = wraps;
    }
}
