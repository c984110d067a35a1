//! Sealing with the nonces and DEKs of a vector.

use std::io::Write;

use bulla_core::{
    ChunkSealer, Codec, EnvelopeKey, KeyOptions, Kind, Library, RecordContext, ScopeContext,
    StreamOptions, Suite, Wrap, Wraps, hazmat,
};

use super::{data_key, unexpected, version};
use crate::reference::Class;
use crate::vectors::{Refusal, Sealing};

pub(super) fn seal(sealing: &Sealing, library: Library) -> Result<Vec<u8>, Refusal> {
    let Sealing { inputs, plaintext, chunk_log2, .. } = sealing;
    let scope = ScopeContext::new(inputs.scope.iter().cloned())?;
    let record = RecordContext::new(inputs.record.iter().cloned())?;
    let refused = || Refusal::from(Class::Refused);
    let kind = Kind::from_byte(sealing.kind).ok_or_else(refused)?;
    let suite = Suite::from_byte(inputs.suite).ok_or_else(refused)?;
    let codec = Codec::from_byte(inputs.codec).ok_or_else(refused)?;
    let options = KeyOptions::default().with_library(library).with_suite(suite);
    let stream = StreamOptions::default().with_chunk_log2(*chunk_log2).with_codec(codec);
    let dek = data_key(&inputs.dek).ok_or_else(|| unexpected("no DEK"))?;
    let nonce = inputs.nonce;

    if !kind.is_self_contained() {
        let key = EnvelopeKey::derive(&dek, version(sealing.version)?, &scope, options)?;
        if !kind.is_chunked() {
            return Ok(hazmat::seal(&key, nonce, codec, plaintext, &record)?);
        }
        return write(hazmat::chunk_sealer(&key, nonce, &record, stream)?, plaintext);
    }
    let wraps = sealing.entries.iter().map(|entry| {
        Wrap::new(entry.backend, &entry.kek_id[..], &entry.kek_version[..], &entry.blob[..])
    });
    let wraps = Wraps::new(wraps).map_err(bulla_core::SealError::from)?;
    let key = hazmat::single_use_key(dek, &scope, options)?;
    if !kind.is_chunked() {
        return Ok(hazmat::seal_self_contained(key, nonce, &wraps, codec, plaintext, &record)?);
    }
    write(hazmat::self_contained_chunk_sealer(key, nonce, &wraps, &record, stream)?, plaintext)
}

/// The envelope, written at once and in pieces that fit no chunk.
fn write(sealer: ChunkSealer, plaintext: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut writer = sealer.into_writer(Vec::new());
    let (first, rest) = plaintext.split_at(plaintext.len() / 3);
    for piece in first.chunks(1021) {
        writer.write_all(piece)?;
    }
    writer.write_all(rest)?;
    Ok(writer.finish()?)
}
