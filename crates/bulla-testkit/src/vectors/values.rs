//! Intermediate values of vectors (section 4 of their README).

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::HEXLOWER;

use super::{Expect, Implementation, Operation, Refusal, Vector};
use crate::reference::{context, derive, header, wraps};

/// One intermediate value.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A length or a count.
    Number(u64),
    /// A key, a nonce, an encoding.
    Bytes(Vec<u8>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Bytes(bytes) => f.write_str(&abbreviated(bytes)),
        }
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

/// Up to 48 bytes in hexadecimal.
pub(super) fn abbreviated(bytes: &[u8]) -> String {
    let shown = HEXLOWER.encode(&bytes[..bytes.len().min(48)]);
    if bytes.len() > 48 { shown + "..." } else { shown }
}

/// The values that are numbers.
pub(super) const NUMBER_VALUES: [&str; 4] = ["payload-offset", "wraps-len", "generation", "chunks"];
/// The values that are bytes.
pub(super) const BYTE_VALUES: [&str; 19] = [
    "ctx-scope",
    "ctx-record",
    "kms-context",
    "key-id",
    "wraps-key",
    "mac",
    "seal-key",
    "l",
    "k1",
    "m1",
    "m2",
    "kx",
    "nx",
    "aad",
    "stream-key",
    "chunk-key",
    "base-nonce",
    "commitment",
    "last-nonce",
];

/// The names of the values that an envelope of this kind has.
fn names(kind: u8) -> Vec<&'static str> {
    let mut names = vec!["ctx-scope", "ctx-record", "kms-context", "key-id", "payload-offset"];
    if kind == header::SELF_CONTAINED_ONE_SHOT || kind == header::SELF_CONTAINED_CHUNKED {
        names.extend(["wraps-len", "generation", "wraps-key", "mac"]);
    }
    if kind == header::REFERENCED_ONE_SHOT || kind == header::SELF_CONTAINED_ONE_SHOT {
        names.extend(["seal-key", "l", "k1", "m1", "m2", "kx", "nx", "aad"]);
    } else {
        names.extend(["stream-key", "chunk-key", "base-nonce", "commitment"]);
        names.extend(["chunks", "last-nonce"]);
    }
    names
}

/// Whether a vector has intermediate values.
pub(super) fn has_values(vector: &Vector) -> bool {
    let reads = !matches!(vector.operation, Operation::Parse | Operation::Rewrap);
    reads && vector.expect == Expect::Success
}

/// The DEK that the envelope of `vector` names, out of those that the vector holds: the one
/// from which its key id is derived.
pub(super) fn dek_of(vector: &Vector) -> Option<[u8; 32]> {
    let header = header::Header::parse(vector.envelope.prefix()).ok()?;
    let ctx_scope = context::ctx_scope(&vector.scope).ok()?;
    let stored = vector.deks.iter().map(|stored| &stored.dek);
    stored
        .chain(vector.unwraps.iter().map(|unwraps| &unwraps.dek))
        .filter_map(|dek| <[u8; 32]>::try_from(&dek[..]).ok())
        .find(|dek| derive::key_id(dek, header.version, &ctx_scope) == header.key_id)
}

/// Compares the values of `vector` with those of `implementation`: returns how many, and adds
/// what disagrees to `mismatches`.
pub(super) fn compare(
    vector: &Vector,
    implementation: &dyn Implementation,
    mismatches: &mut Vec<String>,
) -> usize {
    let values = match dek_of(vector) {
        Some(dek) => implementation.values(vector, &dek),
        None => Err(Refusal::Unexpected("no DEK of the vector has the key id".into())),
    };
    let computed: BTreeMap<_, _> = match values {
        Ok(values) => values.into_iter().collect(),
        Err(refusal) => {
            mismatches.push(format!("no intermediate values: {refusal}"));
            return 0;
        }
    };
    for (name, value) in &computed {
        if vector.values.get(*name) != Some(value) {
            let stated = vector.values.get(*name);
            mismatches.push(format!("{name} is {value:?}, the vector states {stated:?}"));
        }
    }
    let kind = vector.envelope.byte(4).unwrap_or(0);
    let mut stated: Vec<&str> = vector.values.keys().map(|name| &**name).collect();
    let mut expected = names(kind);
    stated.sort_unstable();
    expected.sort_unstable();
    if stated != expected {
        mismatches.push(format!("the vector states {stated:?}, its kind has {expected:?}"));
    }
    if kind & 0x10 != 0 {
        let entries = wraps::parse(vector.envelope.prefix()).map(|wraps| wraps.entries);
        if entries.as_ref() != Ok(&vector.entries) {
            mismatches.push(format!("the entries are {entries:?}"));
        }
    }
    computed.len()
}
