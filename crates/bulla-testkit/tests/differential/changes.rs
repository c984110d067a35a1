//! What can be wrong with an envelope or an opener.

use bulla_testkit::reference::{Entry, derive, header, wraps};
use bulla_testkit::vectors::{Operation, Vector};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// One bit of the envelope; of the first 180 bytes if `front`.
    Flip { at: Index, bit: u8, front: bool },
    /// A byte of the header that says something, to a value that means something.
    Header(usize, u8),
    /// The envelope ends sooner.
    Cut(Index),
    /// The last bytes are missing.
    CutEnd(usize),
    /// The envelope goes on.
    Extend(Vec<u8>),
    /// Two parts, each as long as a chunk, change places.
    SwapChunks(usize, usize),
    /// A part as long as a chunk is missing.
    DropChunk(usize),
    /// The wraps section is another one, under a MAC that is right.
    Section { generation: u32, keep: Index, twice: bool, swap: bool, slack: usize },
    /// One byte of the section, under a MAC that is right.
    SectionByte(Index, u8),
    /// The opener's record or scope context has another pair.
    Pair { scope: bool, key: Vec<u8>, value: Vec<u8> },
    /// The opener's context lacks a pair.
    NoPair { scope: bool },
    /// What the store or a KEK returns is something else.
    Dek { len: usize, zero: bool },
    /// There are no DEKs, or KEKs.
    NoKeys,
    /// A KEK is not the opener's, does not unwrap, or its service cannot be used.
    Kek(Index, u8),
    /// The KEKs unwrap under any context.
    Unbound,
    /// What is asked for.
    Ask { kinds: Vec<u8>, suites: Option<Vec<u8>>, codec: Option<u8> },
    /// The new wraps of a rewrap.
    Wraps { unwrapped: bool, twice: bool, none: bool },
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let bytes = || vec(any::<u8>(), 1..40);
    let kinds = vec(select(&header::KINDS[..]), 1..4);
    let suites = prop::option::of(vec(1..=3_u8, 1..3))
        .prop_map(|suites| suites.filter(|suites| suites.iter().any(|suite| *suite != 3)));
    let codec = prop::option::of(select(&[0, 1, 2, 128, 255][..]));
    let change = prop_oneof![
        4 => (any::<Index>(), 0..8_u8, any::<bool>())
            .prop_map(|(at, bit, front)| Change::Flip { at, bit, front }),
        3 => (select(&[0, 3, 4, 5, 6, 7, 8, 11, 68, 69, 74][..]), select(
            &[0, 1, 2, 3, 11, 12, 13, 0x11, 0x12, 22, 23, 45, 127, 128, 255, b'B'][..],
        )).prop_map(|(at, byte)| Change::Header(at, byte)),
        2 => any::<Index>().prop_map(Change::Cut),
        1 => (0..40_usize).prop_map(Change::CutEnd),
        1 => bytes().prop_map(Change::Extend),
        1 => (0..3_usize, 0..3_usize).prop_map(|(a, b)| Change::SwapChunks(a, b)),
        1 => (0..3_usize).prop_map(Change::DropChunk),
        2 => (
            select(&[0, 1, u32::MAX - 1, u32::MAX][..]), any::<Index>(), any::<bool>(),
            any::<bool>(), select(&[0, 0, 0, 1, 9][..]),
        ).prop_map(|(generation, keep, twice, swap, slack)| {
            Change::Section { generation, keep, twice, swap, slack }
        }),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::SectionByte(at, byte)),
        1 => (any::<bool>(), bytes(), bytes())
            .prop_map(|(scope, key, value)| Change::Pair { scope, key, value }),
        1 => (any::<bool>(), select(&["", "bulla-x", "bull", "a"][..])).prop_map(|(scope, key)| {
            Change::Pair { scope, key: key.into(), value: vec![] }
        }),
        1 => any::<bool>().prop_map(|scope| Change::NoPair { scope }),
        1 => (select(&[0, 31, 32, 33][..]), any::<bool>())
            .prop_map(|(len, zero)| Change::Dek { len, zero }),
        1 => Just(Change::NoKeys),
        2 => (any::<Index>(), 0..4_u8).prop_map(|(at, how)| Change::Kek(at, how)),
        1 => Just(Change::Unbound),
        4 => (kinds, suites, codec)
            .prop_map(|(kinds, suites, codec)| Change::Ask { kinds, suites, codec }),
        1 => (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(unwrapped, twice, none)| {
            Change::Wraps { unwrapped, twice, none }
        }),
    ];
    vec(change, 0..4)
}

/// Applies the changes in order. `dek` makes MACs right.
pub(crate) fn apply(changes: &[Change], vector: &mut Vector, dek: &[u8; 32]) {
    let mut envelope = vector.envelope.dense().unwrap().into_owned();
    for change in changes {
        change.apply_to_envelope(&mut envelope, dek);
        change.apply_to_opener(vector);
    }
    vector.envelope = envelope.into();
    let is_possible = |kind: &u8| match vector.operation {
        Operation::Open | Operation::Parse => true,
        Operation::Rewrap => kind & 0x10 != 0,
        _ => kind & 0x0f == 2,
    };
    // An operation is a function, which opens some kinds only.
    if !vector.kinds.iter().any(is_possible) {
        vector.kinds.push(0x12);
    }
}

impl Change {
    fn apply_to_envelope(&self, envelope: &mut Vec<u8>, dek: &[u8; 32]) {
        let block = match envelope.get(7) {
            Some(log2 @ 12..=13) => (1 << log2) + 16,
            _ => 4112,
        };
        let chunks_at = match wraps::parse(envelope) {
            Ok(wraps) if envelope[4] & 0x10 != 0 => 102 + usize::from(wraps.wraps_len),
            _ => 100,
        };
        match self {
            Self::Flip { at, bit, front } if !envelope.is_empty() => {
                let len = if *front { envelope.len().min(180) } else { envelope.len() };
                envelope[at.index(len)] ^= 1 << bit;
            }
            Self::Header(at, byte) if *at < envelope.len() => envelope[*at] = *byte,
            Self::Cut(at) => envelope.truncate(at.index(envelope.len() + 1)),
            Self::CutEnd(by) => envelope.truncate(envelope.len().saturating_sub(*by)),
            Self::Extend(bytes) => envelope.extend(bytes),
            Self::SwapChunks(a, b) => {
                let at = |number: usize| chunks_at + number * block;
                if a < b && at(b + 1) <= envelope.len() {
                    let (first, second) = envelope.split_at_mut(at(*b));
                    first[at(*a)..at(a + 1)].swap_with_slice(&mut second[..block]);
                }
            }
            Self::DropChunk(number) => {
                let at = chunks_at + number * block;
                if at + block <= envelope.len() {
                    envelope.drain(at..at + block);
                }
            }
            Self::Section { generation, keep, twice, swap, slack } => {
                let Ok(parsed) = wraps::parse(envelope) else { return };
                let mut entries: Vec<Entry> = parsed.entries;
                entries.truncate(keep.index(entries.len() + 1));
                if *twice && let Some(last) = entries.last().cloned() {
                    entries.push(last);
                }
                if *swap {
                    entries.reverse();
                }
                let mut section = wraps::encode(*generation, &entries).unwrap();
                section.extend(vec![0; *slack]);
                let len = (section.len() - 2 + 32) as u16;
                section[..2].copy_from_slice(&len.to_be_bytes());
                let payload = envelope.split_off(70 + usize::from(parsed.wraps_len));
                envelope.truncate(68);
                envelope.extend(section);
                sign(envelope, dek);
                envelope.extend(payload);
            }
            Self::SectionByte(at, byte) => {
                let Ok(parsed) = wraps::parse(envelope) else { return };
                let payload = envelope.split_off(70 + usize::from(parsed.wraps_len));
                envelope.truncate(envelope.len() - 32);
                let at = 70 + at.index(envelope.len() - 70);
                envelope[at] = *byte;
                sign(envelope, dek);
                envelope.extend(payload);
            }
            _ => {}
        }
    }

    fn apply_to_opener(&self, vector: &mut Vector) {
        match self {
            Self::Pair { scope, key, value } => {
                let context = if *scope { &mut vector.scope } else { &mut vector.record };
                context.push((key.clone(), value.clone()));
            }
            Self::NoPair { scope } => {
                let context = if *scope { &mut vector.scope } else { &mut vector.record };
                context.pop();
            }
            Self::Dek { len, zero } => {
                let stored = vector.deks.iter_mut().map(|stored| &mut stored.dek);
                for dek in stored.chain(vector.unwraps.iter_mut().map(|unwraps| &mut unwraps.dek)) {
                    dek.resize(*len, 0);
                    if !zero && let Some(first) = dek.first_mut() {
                        *first ^= 1;
                    }
                }
            }
            Self::NoKeys => {
                vector.deks.clear();
                vector.keks.clear();
            }
            Self::Kek(at, how) if !vector.keks.is_empty() => {
                let kek = vector.keks[at.index(vector.keks.len())].clone();
                match how {
                    0 => vector.keks.retain(|other| *other != kek),
                    1 => vector.unavailable.push(kek),
                    2 => vector.unwraps.retain(|other| other.kek_id != kek.1),
                    _ => vector.keks.reverse(),
                }
            }
            Self::Unbound => vector.unwraps.iter_mut().for_each(|unwraps| unwraps.context = None),
            Self::Ask { kinds, suites, codec } => {
                (vector.kinds, vector.suites) = (kinds.clone(), suites.clone());
                vector.codec = *codec;
            }
            Self::Wraps { unwrapped, twice, none } => {
                if *none {
                    vector.wraps.clear();
                }
                if *twice && let Some(first) = vector.wraps.first().cloned() {
                    vector.wraps.push(first);
                }
                if !unwrapped && let Some(last) = vector.wraps.last_mut() {
                    last.blob.push(0);
                }
            }
            _ => {}
        }
    }
}

/// Appends the MAC that `dek` gives.
fn sign(envelope: &mut Vec<u8>, dek: &[u8; 32]) {
    let mut key_id = [0; 32];
    key_id.copy_from_slice(&envelope[12..44]);
    let mac = wraps::mac(&derive::wraps_key(dek, &key_id), envelope);
    envelope.extend(mac);
}
