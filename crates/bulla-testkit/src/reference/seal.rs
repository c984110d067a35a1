//! What a sealer writes, with the nonce or salt that the caller chose.

use super::context::{self, Pairs};
use super::header::{self, Header, Parsed};
use super::wraps::Entry;
use super::{Class, Opener, chunks, derive, one_shot, wraps};

/// What all four kinds are sealed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Section 2.3: 1 or 2.
    pub suite: u8,
    /// Section 2.4.
    pub codec: u8,
    /// The DEK; of a self-contained envelope, its single-use one.
    pub dek: [u8; 32],
    /// The scope context.
    pub scope: Pairs,
    /// The record context.
    pub record: Pairs,
    /// The nonce of a one-shot envelope, the salt of a chunked one.
    pub nonce: [u8; 24],
}

/// Kind `01`, sections 2.2 and 5: header, ciphertext, tag.
pub fn referenced_one_shot(
    inputs: &Inputs,
    version: u32,
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    seal(inputs, header::REFERENCED_ONE_SHOT, 0, version, None, plaintext)
}

/// Kind `02`, sections 2.2 and 7.1: header, commitment, chunks.
pub fn referenced_chunked(
    inputs: &Inputs,
    version: u32,
    chunk_log2: u8,
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    seal(inputs, header::REFERENCED_CHUNKED, chunk_log2, version, None, plaintext)
}

/// Kind `11`, sections 5 and 6: header, wraps section, ciphertext, tag. The blobs of `entries`
/// are the caller's; their order is not.
pub fn self_contained_one_shot(
    inputs: &Inputs,
    entries: &[Entry],
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    seal(inputs, header::SELF_CONTAINED_ONE_SHOT, 0, 0, Some(entries), plaintext)
}

/// Kind `12`, sections 6 and 7.1: header, wraps section, commitment, chunks. The blobs of
/// `entries` are the caller's; their order is not.
pub fn self_contained_chunked(
    inputs: &Inputs,
    entries: &[Entry],
    chunk_log2: u8,
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    seal(inputs, header::SELF_CONTAINED_CHUNKED, chunk_log2, 0, Some(entries), plaintext)
}

/// Section 6.6: the same envelope with other wraps, the next generation and a new MAC.
///
/// `opener` stands for step 1 and is refused what it would be refused on opening; its record
/// context plays no part. The caller wraps the DEK, and compares what the blobs unwrap to, as
/// step 2 demands.
pub fn rewrap(opener: &Opener<'_>, envelope: &[u8], entries: &[Entry]) -> Result<Vec<u8>, Class> {
    // 1
    let self_contained = [header::SELF_CONTAINED_ONE_SHOT, header::SELF_CONTAINED_CHUNKED];
    let kinds: Vec<u8> =
        opener.kinds.iter().copied().filter(|k| self_contained.contains(k)).collect();
    let unlocked = opener.unlock(envelope, &kinds)?;
    let (Parsed { header, payload_offset, .. }, wraps) = (&unlocked.parsed, &unlocked.parsed.wraps);
    // 3
    let Some(generation) = wraps.as_ref().and_then(|wraps| wraps.generation.checked_add(1)) else {
        return Err(Class::Refused);
    };
    // 4
    let wraps_key = derive::wraps_key(&unlocked.dek, &header.key_id);
    let mut rewrapped = envelope[0..68].to_vec();
    append_wraps(&mut rewrapped, &wraps_key, generation, entries)?;
    // 5
    rewrapped.extend(&envelope[*payload_offset..]);
    checked(rewrapped)
}

/// An envelope of any kind.
fn seal(
    inputs: &Inputs,
    kind: u8,
    chunk_log2: u8,
    version: u32,
    entries: Option<&[Entry]>,
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    let Inputs { suite, codec, dek, scope, record, nonce } = inputs;
    let ctx_scope = context::ctx_scope(scope)?;
    let ctx_record = context::ctx_record(record)?;
    let key_id = derive::key_id(dek, version, &ctx_scope);
    let header =
        Header { kind, suite: *suite, codec: *codec, chunk_log2, version, key_id, nonce: *nonce };
    // Before anything depends on the fields, in particular on 2^chunk_log2.
    Header::parse(&header.encode()).map_err(|_| Class::Refused)?;
    if !header.is_chunked() && plaintext.len() > header::ONE_SHOT_PLAINTEXT_MAX {
        return Err(Class::Refused);
    }

    let mut envelope = header.encode().to_vec();
    if let Some(entries) = entries {
        append_wraps(&mut envelope, &derive::wraps_key(dek, &key_id), 0, entries)?;
    }
    if header.is_chunked() {
        let stream_key = derive::stream_key(dek, *suite, &key_id);
        let keys = derive::chunks(&stream_key, &header.encode(), &ctx_record);
        envelope.extend(chunks::seal(*suite, chunk_log2, &keys, plaintext)?);
    } else {
        let seal_key = derive::seal_key(dek, *suite, &key_id);
        envelope.extend(one_shot::seal(&seal_key, &header.encode(), &ctx_record, plaintext)?);
    }
    checked(envelope)
}

/// Sections 6.1 and 6.3: the wraps section, sorted, after the 68 bytes of the header.
fn append_wraps(
    envelope: &mut Vec<u8>,
    wraps_key: &[u8; 32],
    generation: u32,
    entries: &[Entry],
) -> Result<(), Class> {
    for entry in entries {
        // An opener passes over a reserved backend, a sealer does not write one.
        if (7..=127).contains(&entry.backend) {
            return Err(Class::Refused);
        }
    }
    let mut sorted = entries.to_vec();
    sorted.sort_by(|a, b| a.triple().cmp(&b.triple()));
    envelope.extend(wraps::encode(generation, &sorted)?);
    let mac = wraps::mac(wraps_key, envelope);
    envelope.extend(mac);
    Ok(())
}

/// What no opener would parse is not written: the limits of section 10, and two wraps that
/// agree in what they are sorted by.
fn checked(envelope: Vec<u8>) -> Result<Vec<u8>, Class> {
    match header::parse(&envelope) {
        Ok(_) => Ok(envelope),
        Err(_) => Err(Class::Refused),
    }
}
