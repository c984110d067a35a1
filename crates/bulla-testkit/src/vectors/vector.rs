//! One vector: what an opener is given, and what it must report.

use std::collections::BTreeMap;

use super::{Blob, Value};
use crate::reference::{Class, Entry, Pairs};

/// One opening of one envelope. Fields are named after the keys of the file, which the README
/// of the vectors explains; the default is an opening of nothing that must succeed.
#[derive(Debug, Clone, Default)]
pub struct Vector {
    /// Name of the file without `.vec`.
    pub name: String,
    /// What the vector shows.
    pub comment: String,
    /// What is done.
    pub operation: Operation,
    /// What must come of it.
    pub expect: Expect,
    /// A second result that the specification allows.
    pub also_conforming: Option<Expect>,
    /// Which failure a `kms error` is.
    pub kms_failure: Option<KmsFailure>,
    /// The kinds asked for.
    pub kinds: Vec<u8>,
    /// The accepted suites; `None`: the opener is told nothing.
    pub suites: Option<Vec<u8>>,
    /// The codec asked for; `None`: whatever the header holds.
    pub codec: Option<u8>,
    /// The scope context, in any order and possibly not allowed.
    pub scope: Pairs,
    /// The record context, likewise.
    pub record: Pairs,
    /// What the key store returns, within the scope.
    pub deks: Vec<StoredDek>,
    /// The opener's own KEKs: backend and KEK id.
    pub keks: Vec<(u8, Vec<u8>)>,
    /// What the KEKs unwrap. They refuse everything else.
    pub unwraps: Vec<Unwraps>,
    /// The KEKs whose service cannot be used.
    pub unavailable: Vec<(u8, Vec<u8>)>,
    /// Blobs that no KEK may have been asked to unwrap.
    pub must_not_unwrap: Vec<Vec<u8>>,
    /// The new wraps of a rewrap.
    pub wraps: Vec<Entry>,
    /// The plaintext, or the part of it that is read.
    pub plaintext: Option<Vec<u8>>,
    /// The length of the plaintext.
    pub length: Option<u64>,
    /// The rewrapped envelope up to its payload.
    pub rewrapped_head: Option<Vec<u8>>,
    /// SHA-256 of the whole rewrapped envelope.
    pub rewrapped_sha256: Option<Vec<u8>>,
    /// Intermediate values, by name.
    pub values: BTreeMap<String, Value>,
    /// The entries of the envelope.
    pub entries: Vec<Entry>,
    /// The typed value that the plaintext decodes to, as JSON.
    pub value_json: Option<String>,
    /// Why the plaintext is no typed value.
    pub value_invalid: Option<String>,
    /// The envelope.
    pub envelope: Blob,
}

/// What is done with an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operation {
    /// The whole payload is opened.
    #[default]
    Open,
    /// Plaintext bytes a..b of a chunked envelope are read, a ≤ b.
    Range(u64, u64),
    /// The length of the plaintext of a chunked envelope is asked for.
    Length,
    /// The last bytes of a chunked envelope are read.
    Tail(u64),
    /// The header alone is parsed.
    Parse,
    /// The wraps are replaced.
    Rewrap,
}

/// What must come of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// It succeeds.
    #[default]
    Success,
    /// It is refused, by this class; by any if it is [`Class::Refused`].
    Refusal(Class),
}

/// How a KEK fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KmsFailure {
    /// It refuses the blob.
    Refused,
    /// Its service cannot be used.
    Unavailable,
}

/// What the key store returns for a version and a key id, be it right or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDek {
    /// Version of the DEK.
    pub version: u32,
    /// Key id it is stored under.
    pub key_id: Vec<u8>,
    /// The DEK, of any length.
    pub dek: Vec<u8>,
}

/// What a KEK makes of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwraps {
    /// Backend of the KEK.
    pub backend: u8,
    /// Id of the KEK.
    pub kek_id: Vec<u8>,
    /// The blob that it is asked to unwrap.
    pub blob: Vec<u8>,
    /// What it returns, of any length.
    pub dek: Vec<u8>,
    /// CTX(KMS) under which alone it does; `None` for any.
    pub context: Option<Vec<u8>>,
}

impl Vector {
    /// The kind whose function is called, among those of the vector that `is_possible`: that
    /// of the envelope where it was asked for, else any.
    pub fn kind_asked(&self, is_possible: impl Fn(u8) -> bool) -> Option<u8> {
        let asked = || self.kinds.iter().copied().filter(|kind| is_possible(*kind));
        let found = self.envelope.byte(4);
        asked().find(|kind| found == Some(*kind)).or_else(|| asked().next())
    }

    /// The codec asked for; that of the header if the vector asks for any.
    pub fn codec_asked(&self) -> u8 {
        self.codec.or_else(|| self.envelope.byte(6)).unwrap_or(0)
    }
}
