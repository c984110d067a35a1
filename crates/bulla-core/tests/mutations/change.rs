//! What is done to an envelope, or to what its opener holds.

use std::ops::Range;

use bulla_core::{
    DataKey, DekVersion, Envelope, Header, Kind, RecordContext, ScopeContext, Suite, Wrap,
};

use crate::rng::Rng;
use crate::sample::{Forged, Sample};
use crate::section::Section;

macro_rules! changes {
    ($($name:ident),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Change {
            $($name),+
        }

        impl Change {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

changes! {
    BitFlip, HeaderBitFlip, NonceBitFlip, ByteSet, SeveralBytes, Truncate, Extend, Insert, Remove,
    MoveWithin,
    // Parts of another envelope.
    Splice, TakeRange, TakeHeader, TakeNonce, TakeHead, TakePayload, TakeAll,
    // Fields.
    SetKind, SetSuite, SetCodec, SetChunkSize, SetVersion,
    // Chunks.
    SwapChunks, DuplicateChunk, RemoveChunk, TakeChunk,
    // Wraps; with the MAC as it was, with that of others, and of a holder of the DEK.
    SwapWraps, SwapBlobs, DuplicateWrap, RemoveWrap, AddWrap, SetGeneration,
    TakeSection, TakeWraps, TakeRewrappedWraps, TakeRewrappedMac, HeaderUnderTrueMac,
    // What the opener holds.
    RecordContext, Scope, Dek, Version,
}

impl Change {
    /// Whether it can be made to envelopes of `kind`.
    pub(crate) fn applies_to(self, kind: Kind) -> bool {
        match self {
            Self::SwapChunks | Self::DuplicateChunk | Self::RemoveChunk | Self::TakeChunk => {
                kind.is_chunked()
            }
            Self::SwapWraps
            | Self::SwapBlobs
            | Self::DuplicateWrap
            | Self::RemoveWrap
            | Self::AddWrap
            | Self::SetGeneration
            | Self::TakeSection
            | Self::TakeWraps
            | Self::TakeRewrappedWraps
            | Self::TakeRewrappedMac
            | Self::HeaderUnderTrueMac => kind.is_self_contained(),
            // The version of those is always 0, and another DEK is what Dek does.
            Self::Version => !kind.is_self_contained(),
            _ => true,
        }
    }

    /// `None` where the change does not apply, or changes nothing.
    pub(crate) fn make(self, sample: &Sample, other: &Sample, rng: &mut Rng) -> Option<Forged> {
        if !self.applies_to(sample.kind()) {
            return None;
        }
        let mut forged = sample.as_it_is();
        match self {
            Self::RecordContext => forged.record = other_record(&sample.record, rng)?,
            Self::Scope => forged.scope = other_scope(&sample.scope, rng),
            Self::Dek => {
                let (at, bit) = (rng.below(32), 1 << rng.below(8));
                let mut bytes = *sample.dek.expose_secret();
                bytes[at] ^= bit;
                forged.dek = Some(DataKey::init_with(|dek| *dek = bytes));
            }
            Self::Version => forged.version = DekVersion::new(2).unwrap(),
            Self::SwapChunks | Self::DuplicateChunk | Self::RemoveChunk | Self::TakeChunk => {
                self.make_in_chunks(&mut forged.envelope, other, rng)?;
            }
            _ if self.applies_to(Kind::ReferencedOneShot) => {
                self.make_in_bytes(&mut forged.envelope, other, rng)?;
            }
            _ => forged.envelope = self.make_in_wraps(sample, other, rng)?,
        }
        if rng.one_in(8) {
            let at = rng.below(forged.envelope.len().max(1));
            *forged.envelope.get_mut(at)? ^= 1 << rng.below(8);
        }
        // The other envelope is authentic, in its own place.
        let in_its_place = |of: &Sample| {
            forged.envelope == of.envelope && forged.record == of.record && forged.scope == of.scope
        };
        let held = forged.dek.is_none() && forged.version == DekVersion::FIRST;
        // But for its DEK, which is another one if it is self-contained.
        let theirs =
            in_its_place(other) && *other.dek.expose_secret() == *sample.dek.expose_secret();
        (!held || !in_its_place(sample) && !theirs).then_some(forged)
    }

    fn make_in_bytes(self, bytes: &mut Vec<u8>, other: &Sample, rng: &mut Rng) -> Option<()> {
        let (len, theirs) = (bytes.len(), &other.envelope);
        let at = rng.below(len);
        let (begin, end) = {
            let end = rng.below(len + 1);
            (at.min(end), at.max(end))
        };
        let some = 1 + rng.below(24);
        match self {
            Self::BitFlip => bytes[at] ^= 1 << rng.below(8),
            Self::HeaderBitFlip => bytes[at % Header::LEN] ^= 1 << rng.below(8),
            Self::NonceBitFlip => bytes[44 + at % 24] ^= 1 << rng.below(8),
            Self::ByteSet => bytes[at] = rng.next() as u8,
            Self::SeveralBytes => (0..1 + rng.below(5)).for_each(|_| {
                let at = rng.below(len);
                bytes[at] = rng.next() as u8;
            }),
            Self::Truncate if rng.one_in(2) => bytes.truncate(len.saturating_sub(some)),
            Self::Truncate => bytes.truncate(at),
            Self::Extend => bytes.extend(rng.bytes(some)),
            Self::Insert => drop(bytes.splice(at..at, rng.bytes(some))),
            Self::Remove => drop(bytes.drain(at..len.min(at + some))),
            Self::MoveWithin => bytes[begin..end].rotate_left(some.min(end - begin)),
            Self::Splice => {
                let from = rng.below(theirs.len() + 1);
                *bytes = [&bytes[..at], &theirs[from..]].concat();
            }
            Self::TakeRange => take(bytes, theirs, begin..end)?,
            Self::TakeHeader => take(bytes, theirs, 0..Header::LEN)?,
            Self::TakeNonce => take(bytes, theirs, 44..Header::LEN)?,
            Self::TakeHead => {
                let (ours, from) = (payload_of(bytes), payload_of(theirs));
                bytes.splice(..ours, theirs[..from].iter().copied());
            }
            Self::TakePayload => {
                bytes.truncate(payload_of(bytes));
                bytes.extend_from_slice(&theirs[payload_of(theirs)..]);
            }
            Self::TakeAll => bytes.clone_from(theirs),
            Self::SetKind => {
                // Together with what has to fit it, so that the header is well-formed.
                let kind = rng.pick(Kind::ALL);
                bytes[4] = kind as u8;
                bytes[7] = if kind.is_chunked() { 12 } else { 0 };
                bytes[11] = u8::from(!kind.is_self_contained());
            }
            Self::SetSuite => bytes[5] = rng.pick(Suite::ALL) as u8,
            Self::SetCodec => bytes[6] = rng.pick(&[0, 1, 2, 128, 129, 255]),
            Self::SetChunkSize => bytes[7] = 12 + rng.below(11) as u8,
            Self::SetVersion => bytes[8 + rng.below(4)] = rng.pick(&[0, 1, 2, 255]),
            _ => return None,
        }
        Some(())
    }

    fn make_in_chunks(self, bytes: &mut Vec<u8>, other: &Sample, rng: &mut Rng) -> Option<()> {
        let layout = Envelope::parse(bytes).unwrap().layout()?;
        let chunk = |index: usize| {
            let block = layout.block(index as u64);
            block.start as usize..block.end as usize
        };
        let chunks = layout.chunks() as usize;
        let (a, b) = match self {
            Self::SwapChunks if chunks < 2 => return None,
            // Two full ones where there are, which no length gives away.
            Self::SwapChunks => {
                let full = (chunks - 1).max(2);
                let a = rng.below(full);
                (a, (a + 1 + rng.below(full - 1)) % full)
            }
            _ => (rng.below(chunks), rng.below(chunks)),
        };
        let (first, second) = (chunk(a.min(b)), chunk(a.max(b)));
        match self {
            Self::SwapChunks => {
                let between = bytes[first.end.min(second.start)..second.start].to_vec();
                let swapped = [&bytes[second.clone()], &between, &bytes[first.clone()]].concat();
                bytes.splice(first.start..second.end, swapped);
            }
            Self::DuplicateChunk => {
                let copy = bytes[first].to_vec();
                bytes.splice(second.start..second.start, copy);
            }
            Self::RemoveChunk => drop(bytes.drain(first)),
            _ => take(bytes, &other.envelope, first)?,
        }
        Some(())
    }

    fn make_in_wraps(self, sample: &Sample, other: &Sample, rng: &mut Rng) -> Option<Vec<u8>> {
        let mut section = Section::of(&sample.envelope)?;
        let theirs = Section::of(&other.envelope)?;
        let entries = &mut section.entries;
        let (a, b) = (rng.below(entries.len()), rng.below(entries.len()));
        match self {
            Self::SwapWraps => entries.swap(a, b),
            Self::SwapBlobs => {
                let (one, two) = (entries[a].blob.clone(), entries[b].blob.clone());
                (entries[a].blob, entries[b].blob) = (two, one);
            }
            Self::DuplicateWrap => entries.insert(b, entries[a].clone()),
            Self::RemoveWrap => drop(entries.remove(a)),
            // Last in the order, so that the section is well-formed.
            Self::AddWrap => {
                entries.push(Wrap::new(255, rng.bytes(4), rng.bytes(1), rng.bytes(16)));
            }
            Self::SetGeneration => section.generation = rng.pick(&[1, 2, 255, u32::MAX]),
            Self::TakeSection => {
                (section.entries, section.mac) = (theirs.entries, theirs.mac);
            }
            Self::TakeWraps => section.entries = theirs.entries,
            Self::TakeRewrappedWraps => {
                let rewrapped = Section::of(&sample.rewrapped(rng)?)?;
                section.entries = rewrapped.entries;
                if rng.one_in(2) {
                    section.generation = rewrapped.generation;
                }
            }
            Self::TakeRewrappedMac => {
                let rewrapped = Section::of(&sample.rewrapped(rng)?)?;
                section.mac = rewrapped.mac;
                if rng.one_in(2) {
                    section.generation = rewrapped.generation;
                }
            }
            // Codec, chunk_log2 or nonce, which the key id does not cover.
            _ => {
                let in_nonce = 44 + rng.below(24);
                let at = rng.pick(&[6, 7, in_nonce]);
                section.header[at] ^= 1 << rng.below(8);
                return Some(section.write_with_mac_by(&sample.dek));
            }
        }
        Some(section.write())
    }
}

/// Copies `range` from `theirs`, where both reach that far.
fn take(ours: &mut [u8], theirs: &[u8], range: Range<usize>) -> Option<()> {
    ours.get_mut(range.clone())?.copy_from_slice(theirs.get(range)?);
    Some(())
}

fn payload_of(envelope: &[u8]) -> usize {
    Envelope::parse(envelope).unwrap().head().payload_offset()
}

fn other_record(record: &RecordContext, rng: &mut Rng) -> Option<RecordContext> {
    let mut pairs: Vec<_> = record.pairs().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    let at = rng.below(pairs.len().max(1));
    match rng.below(5) {
        _ if pairs.is_empty() => pairs.push((b"k".to_vec(), rng.bytes(2))),
        0 => drop(pairs.remove(at)),
        1 => pairs.push((b"k9".to_vec(), Vec::new())),
        2 => pairs[at].1[0] ^= 1 << rng.below(8),
        // From value to key: the same bytes, divided otherwise.
        3 => {
            let byte = pairs[at].1.remove(0);
            pairs[at].0.push(byte);
        }
        _ => pairs.clear(),
    }
    RecordContext::new(pairs).ok()
}

fn other_scope(scope: &ScopeContext, rng: &mut Rng) -> ScopeContext {
    let mut pairs: Vec<_> = scope.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    match rng.below(4) {
        0 => pairs.clear(),
        1 => pairs.push(("purpose".to_owned(), String::new())),
        2 => pairs[0].1.push('0'),
        _ => pairs[0].0.push('0'),
    }
    ScopeContext::new(pairs).unwrap()
}
