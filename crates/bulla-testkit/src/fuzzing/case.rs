//! What the bytes of the fuzzer choose: an envelope to seal, and who asks to open it.

use arbitrary::{Result, Unstructured};

use super::mutate::Grid;
use crate::reference::header::{
    self, KINDS, REFERENCED_CHUNKED, REFERENCED_ONE_SHOT, SELF_CONTAINED_CHUNKED,
    SELF_CONTAINED_ONE_SHOT,
};
use crate::reference::{Class, Entry, Inputs, Keys, Opener, Pairs, Recipient, seal};

/// Whether a kind is a stream.
pub(super) fn is_chunked(kind: u8) -> bool {
    [REFERENCED_CHUNKED, SELF_CONTAINED_CHUNKED].contains(&kind)
}

/// An envelope before it is sealed.
pub(super) struct Case {
    pub(super) kind: u8,
    pub(super) chunk_log2: u8,
    pub(super) version: u32,
    pub(super) inputs: Inputs,
    pub(super) entries: Vec<Entry>,
    pub(super) plaintext: Vec<u8>,
}

impl Case {
    /// One of `kinds`.
    pub(super) fn take(u: &mut Unstructured<'_>, kinds: &[u8]) -> Result<Self> {
        let kind = *u.choose(kinds)?;
        let self_contained = [SELF_CONTAINED_ONE_SHOT, SELF_CONTAINED_CHUNKED].contains(&kind);
        let chunk_log2 = if is_chunked(kind) { u.int_in_range(12..=13)? } else { 0 };
        let inputs = Inputs {
            suite: u.int_in_range(1..=2)?,
            codec: codec(u)?,
            dek: bytes(u)?,
            scope: pairs(u)?,
            record: pairs(u)?,
            nonce: bytes(u)?,
        };
        let version = match self_contained {
            true => 0,
            false => *u.choose(&[1, 2, 255, 256, u32::MAX])?,
        };
        let entries = if self_contained { entries(u, 1)? } else { Vec::new() };
        let plaintext = plaintext(u, is_chunked(kind).then_some(1 << chunk_log2))?;
        Ok(Self { kind, chunk_log2, version, inputs, entries, plaintext })
    }

    /// The envelope, by the reference.
    pub(super) fn seal(&self) -> std::result::Result<Vec<u8>, Class> {
        let Self { kind, chunk_log2, version, inputs, entries, plaintext } = self;
        match *kind {
            REFERENCED_ONE_SHOT => seal::referenced_one_shot(inputs, *version, plaintext),
            REFERENCED_CHUNKED => {
                seal::referenced_chunked(inputs, *version, *chunk_log2, plaintext)
            }
            SELF_CONTAINED_ONE_SHOT => seal::self_contained_one_shot(inputs, entries, plaintext),
            _ => seal::self_contained_chunked(inputs, entries, *chunk_log2, plaintext),
        }
    }

    /// Where the chunks of the sealed envelope are.
    pub(super) fn grid(&self, sealed: &[u8]) -> Grid {
        let payload_offset = header::parse(sealed).unwrap().payload_offset;
        let commitment_len = if is_chunked(self.kind) { 32 } else { 0 };
        Grid { start: payload_offset + commitment_len, block_len: (1 << self.chunk_log2) + 16 }
    }

    /// Who asks for just this envelope.
    pub(super) fn ask(&self) -> Ask {
        let Inputs { suite, codec, scope, record, .. } = &self.inputs;
        let (scope, record) = (scope.clone(), record.clone());
        Ask { kind: self.kind, suites: vec![*suite], codec: *codec, scope, record }
    }

    /// KEKs that unwrap every entry.
    pub(super) fn keks(&self) -> Keks {
        let names = self.entries.iter().map(|entry| (entry.backend, entry.kek_id.clone()));
        let dek = self.inputs.dek.to_vec();
        let table = self.entries.iter().map(|entry| (entry.blob.clone(), dek.clone()));
        Keks { names: names.collect(), table: table.collect() }
    }
}

/// What is asked of an opener, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) kind: u8,
    pub(super) suites: Vec<u8>,
    pub(super) codec: u8,
    pub(super) scope: Pairs,
    pub(super) record: Pairs,
}

impl Ask {
    /// The reference, asked, with the DEK of `case`.
    pub(super) fn opener<'a>(&'a self, case: &Case, keks: &'a Keks) -> Opener<'a> {
        let recipients = keks
            .names
            .iter()
            .map(|(backend, kek_id)| {
                let unwrap = |entry: &Entry, _: &[u8]| keks.unwrap(&entry.blob);
                Recipient::new(*backend, kek_id, Box::new(unwrap))
            })
            .collect();
        Opener {
            scope: self.scope.clone(),
            record: self.record.clone(),
            kinds: std::slice::from_ref(&self.kind),
            suites: &self.suites,
            codec: self.codec,
            keys: Keys { deks: vec![(case.version, case.inputs.dek)], recipients },
        }
    }

    /// Whether this asks for what was sealed as `case`; contexts have no order.
    pub(super) fn is_for(&self, case: &Case) -> bool {
        let sorted = |pairs: &Pairs| {
            let mut pairs = pairs.clone();
            pairs.sort();
            pairs
        };
        let Inputs { suite, codec, scope, record, .. } = &case.inputs;
        self.kind == case.kind
            && self.suites.contains(suite)
            && self.codec == *codec
            && sorted(&self.scope) == sorted(scope)
            && sorted(&self.record) == sorted(record)
    }
}

/// The KEKs of an opener: their names, and what they make of blobs. They refuse others.
#[derive(Debug, Clone)]
pub(super) struct Keks {
    pub(super) names: Vec<(u8, Vec<u8>)>,
    pub(super) table: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Keks {
    /// The DEK in `blob`.
    pub(super) fn unwrap(&self, blob: &[u8]) -> Option<Vec<u8>> {
        self.table.iter().find(|(of, _)| of == blob).map(|(_, dek)| dek.clone())
    }

    /// Loses names, and blobs are refused or become something else than their DEK. Returns
    /// whether anything was spoiled.
    pub(super) fn spoil(&mut self, u: &mut Unstructured<'_>) -> Result<bool> {
        let mut spoiled = false;
        for at in (0..self.table.len()).rev() {
            let how = u.int_in_range(0..=15_u8)?;
            spoiled |= how > 11;
            match how {
                12 => drop(self.table.remove(at)),
                13 => self.table[at].1.push(0),
                14 => self.table[at].1[0] ^= 1,
                15 => drop(self.names.remove(at.min(self.names.len() - 1))),
                _ => {}
            }
        }
        Ok(spoiled)
    }
}

/// Bytes that follow from one of the fuzzer's: enough for keys and nonces.
fn bytes<const N: usize>(u: &mut Unstructured<'_>) -> Result<[u8; N]> {
    let seed: u8 = u.arbitrary()?;
    Ok(std::array::from_fn(|at| seed.wrapping_mul(31).wrapping_add(at as u8)))
}

/// A codec that may be sealed.
pub(super) fn codec(u: &mut Unstructured<'_>) -> Result<u8> {
    Ok(*u.choose(&[0, 0, 0, 1, 2, 128, 255])?)
}

/// A context that is allowed more often than not.
fn pairs(u: &mut Unstructured<'_>) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    for _ in 0..u.int_in_range(0..=3)? {
        pairs.push((text(u, 4)?, text(u, 12)?));
    }
    Ok(pairs)
}

/// Up to `max` bytes, most of them letters.
pub(super) fn text(u: &mut Unstructured<'_>, max: usize) -> Result<Vec<u8>> {
    let len = u.int_in_range(0..=max)?;
    let letter = |byte: &u8| if *byte < 0xf0 { b'a' + byte % 26 } else { *byte };
    Ok(u.bytes(len.min(u.len()))?.iter().map(letter).collect())
}

/// `min` to 8 wraps, not always ones that may be written.
pub(super) fn entries(u: &mut Unstructured<'_>, min: usize) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for at in 0..u.int_in_range(min..=8)? {
        let backend = *u.choose(&[1, 1, 2, 3, 6, 128, 200, 255, 7, 0])?;
        let (mut kek_id, kek_version) = (text(u, 6)?, text(u, 3)?);
        let mut blob = text(u, 10)?;
        // Rare long ones, up to and over the limits.
        if u.int_in_range(0..=15_u8)? == 15 {
            kek_id.resize(u.int_in_range(500..=520)?, b'k');
        }
        if u.int_in_range(0..=15_u8)? == 15 {
            blob.resize(u.int_in_range(1015..=1030)?, b'b');
        }
        blob.push(at as u8);
        entries.push(Entry { backend, kek_id, kek_version, blob });
    }
    Ok(entries)
}

/// A plaintext of any small length, and of those at which chunks of `chunk_len` end.
fn plaintext(u: &mut Unstructured<'_>, chunk_len: Option<usize>) -> Result<Vec<u8>> {
    let near: usize = u.int_in_range(0..=40)?;
    let len = match chunk_len {
        Some(chunk_len) => (u.int_in_range(0..=3)? * chunk_len + near).saturating_sub(20),
        None => near * usize::from(u.int_in_range(1..=9_u8)?),
    };
    let seed: u8 = u.arbitrary()?;
    Ok((0..len).map(|at| seed.wrapping_add((at % 251) as u8)).collect())
}

/// The kinds that are streams.
pub(super) const STREAMS: [u8; 2] = [REFERENCED_CHUNKED, SELF_CONTAINED_CHUNKED];
/// All kinds.
pub(super) const ALL: [u8; 4] = KINDS;
