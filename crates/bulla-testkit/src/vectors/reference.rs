//! The plain implementation, on vectors.

use std::borrow::Cow;

use super::{Blob, Implementation, Keks, Operation, Output, Refusal, Sealing, Value, Vector};
use crate::reference::chunks::{self, Layout};
use crate::reference::open::Unlocked;
use crate::reference::{
    Class, Header, Keys, Opener, Parsed, Recipient, Trace, aead, context, derive, header, seal,
    wraps,
};

/// [`crate::reference`].
#[derive(Debug, Clone, Copy)]
pub struct Reference;

impl Implementation for Reference {
    fn name(&self) -> String {
        "reference".into()
    }

    fn run(&self, vector: &Vector, keks: &Keks<'_>) -> Result<Output, Refusal> {
        if vector.operation == Operation::Parse {
            parse(&vector.envelope)?;
            return Ok(Output::Parsed);
        }
        let suites = vector.suites.as_deref().unwrap_or(&[1]);
        let opener = Opener {
            scope: vector.scope.clone(),
            record: vector.record.clone(),
            kinds: &vector.kinds,
            suites,
            codec: vector.codec_asked(),
            keys: keys(vector, keks),
        };
        let blob = &vector.envelope;
        Ok(match (vector.operation, blob.dense()) {
            (Operation::Open, Some(envelope)) => Output::Plaintext(opener.open(&envelope)?),
            (Operation::Rewrap, Some(envelope)) => rewrap(opener, vector, keks, &envelope)?,
            (Operation::Range(a, b), _) => Output::Plaintext(open_range(&opener, blob, a, b)?),
            (Operation::Length, _) => Output::Length(length(&opener, blob)?),
            (Operation::Tail(len), _) => {
                let end = length(&opener, blob)?;
                let too_long = || Refusal::Unexpected("a tail longer than the plaintext".into());
                let start = end.checked_sub(len).ok_or_else(too_long)?;
                Output::Plaintext(open_range(&opener, blob, start, end)?)
            }
            _ => return Err(Refusal::Unexpected("an envelope that does not fit memory".into())),
        })
    }

    fn seal(&self, sealing: &Sealing) -> Result<Vec<u8>, Refusal> {
        let Sealing { kind, chunk_log2, version, inputs, entries, plaintext } = sealing;
        Ok(match *kind {
            header::REFERENCED_ONE_SHOT => seal::referenced_one_shot(inputs, *version, plaintext),
            header::REFERENCED_CHUNKED => {
                seal::referenced_chunked(inputs, *version, *chunk_log2, plaintext)
            }
            header::SELF_CONTAINED_ONE_SHOT => {
                seal::self_contained_one_shot(inputs, entries, plaintext)
            }
            _ => seal::self_contained_chunked(inputs, entries, *chunk_log2, plaintext),
        }?)
    }

    fn values(
        &self,
        vector: &Vector,
        dek: &[u8; 32],
    ) -> Result<Vec<(&'static str, Value)>, Refusal> {
        // No value but the number of chunks depends on what lies behind a hole.
        let whole = vector.envelope.dense();
        let envelope = whole.unwrap_or(Cow::Borrowed(vector.envelope.prefix()));
        let parsed = header::parse(&envelope)?;
        let trace = Trace::new(dek, &vector.scope, &vector.record, &envelope)?;
        let mut values = vec![
            ("ctx-scope", Value::Bytes(trace.ctx_scope)),
            ("ctx-record", Value::Bytes(trace.ctx_record)),
            ("kms-context", Value::Bytes(trace.ctx_kms)),
            ("key-id", Value::from(&trace.key_id[..])),
            ("payload-offset", Value::Number(parsed.payload_offset as u64)),
        ];
        let mut add = |name, bytes: &[u8]| values.push((name, Value::from(bytes)));
        if let Some(one_shot) = &trace.one_shot {
            add("seal-key", &one_shot.seal_key);
            add("l", &one_shot.xaes.l);
            add("k1", &one_shot.xaes.k1);
            add("m1", &one_shot.xaes.m1);
            add("m2", &one_shot.xaes.m2);
            add("kx", &one_shot.xaes.kx);
            add("nx", &one_shot.xaes.nx);
            add("aad", &one_shot.aad);
        }
        if let Some(wraps) = &trace.wraps {
            add("wraps-key", &wraps.wraps_key);
            add("mac", &wraps.mac);
        }
        if let Some(chunked) = &trace.chunked {
            let m = layout(&vector.envelope, &parsed).m;
            add("stream-key", &chunked.stream_key);
            add("chunk-key", &chunked.keys.chunk_key);
            add("base-nonce", &chunked.keys.base_nonce);
            add("commitment", &chunked.keys.commitment);
            add("last-nonce", &chunks::nonce(&chunked.keys.base_nonce, m as u32));
            values.push(("chunks", Value::Number(m + 1)));
        }
        if let Some(wraps) = &parsed.wraps {
            values.push(("wraps-len", Value::Number(wraps.wraps_len.into())));
            values.push(("generation", Value::Number(wraps.generation.into())));
        }
        Ok(values)
    }
}

/// The DEKs and KEKs of a vector.
fn keys<'k>(vector: &'k Vector, keks: &'k Keks<'_>) -> Keys<'k> {
    let deks = vector.deks.iter().filter_map(|stored| {
        // What is not 32 bytes long is no DEK (section 8.1, step 4).
        Some((stored.version, stored.dek[..].try_into().ok()?))
    });
    let recipients = vector.keks.iter().map(|(backend, kek_id)| {
        Recipient::new(
            *backend,
            kek_id,
            Box::new(|entry, ctx| keks.unwrap(entry.backend, &entry.kek_id, &entry.blob, ctx).ok()),
        )
    });
    Keys { deks: deks.collect(), recipients: recipients.collect() }
}

/// Section 6.6, of which step 2 is the caller's: to compare what the new blobs unwrap to.
fn rewrap(
    mut opener: Opener<'_>,
    vector: &Vector,
    keks: &Keks<'_>,
    envelope: &[u8],
) -> Result<Output, Refusal> {
    // No record context is needed.
    opener.record.clear();
    let kinds = opener.kinds.iter().copied().filter(|kind| kind & 0x10 != 0);
    let unlocked = opener.unlock(envelope, &kinds.collect::<Vec<_>>())?;
    let context = context::ctx_kms(&vector.scope, 0)?;
    for entry in &vector.wraps {
        let unwrapped = keks.unwrap(entry.backend, &entry.kek_id, &entry.blob, &context);
        if unwrapped.as_deref() != Ok(&unlocked.dek[..]) {
            return Err(Class::Refused.into());
        }
    }
    let envelope = seal::rewrap(&opener, envelope, &vector.wraps)?;
    let head = envelope[..header::parse(&envelope)?.payload_offset].to_vec();
    Ok(Output::Rewrapped { head, envelope })
}

/// Section 2.5, of an envelope that may be too long to be put together.
fn parse(blob: &Blob) -> Result<Parsed, Class> {
    if let Some(envelope) = blob.dense() {
        return header::parse(&envelope);
    }
    let header = Header::parse(blob.prefix())?;
    let wraps = match header.is_self_contained() {
        true => Some(wraps::parse(blob.prefix())?),
        false => None,
    };
    let payload_offset = wraps.as_ref().map_or(68, |wraps| 70 + usize::from(wraps.wraps_len));
    let parsed = Parsed { header, wraps, payload_offset };
    match header.is_chunked() && layout(blob, &parsed).is_within_limits() {
        true => Ok(parsed),
        false => Err(Class::Malformed),
    }
}

/// Section 7.3: how the chunks of an envelope divide that has room for a commitment.
fn layout(blob: &Blob, parsed: &Parsed) -> Layout {
    let chunks_offset = parsed.payload_offset as u64 + 32;
    Layout::new(parsed.header.chunk_log2, blob.len().saturating_sub(chunks_offset))
}

/// Section 7.3: the length, once chunk m has proved to be the last one.
fn length(opener: &Opener<'_>, blob: &Blob) -> Result<u64, Refusal> {
    match open_range(opener, blob, u64::MAX, u64::MAX) {
        Err(Refusal::Class(Class::OutOfRange, _)) => {
            Ok(layout(blob, &parse(blob)?).plaintext_len())
        }
        Err(refusal) => Err(refusal),
        Ok(_) => Err(Refusal::Unexpected("a range beyond every end was read".into())),
    }
}

/// A range, of an envelope that may be too long to be put together.
fn open_range(opener: &Opener<'_>, blob: &Blob, a: u64, b: u64) -> Result<Vec<u8>, Refusal> {
    if let Some(envelope) = blob.dense() {
        return Ok(opener.open_range(&envelope, a, b)?);
    }
    parse(blob)?;
    let kinds = opener.kinds.iter().copied().filter(|kind| kind & 0x0f == 2);
    let kinds: Vec<_> = kinds.collect();
    let Unlocked { parsed, dek, ctx_record } = opener.unlock(blob.prefix(), &kinds)?;
    let header = &parsed.header;
    let stream_key = derive::stream_key(&dek, header.suite, &header.key_id);
    let keys = derive::chunks(&stream_key, &header.encode(), &ctx_record);
    let chunks_offset = parsed.payload_offset + 32;
    if blob.prefix().get(parsed.payload_offset..chunks_offset) != Some(&keys.commitment) {
        return Err(Class::Authentication.into());
    }
    let layout = layout(blob, &parsed);
    let numbers = if b > layout.plaintext_len() {
        layout.m..=layout.m
    } else {
        let last = if a == b { b } else { b - 1 };
        (a / layout.c).min(layout.m)..=(last / layout.c).min(layout.m)
    };
    let begin = numbers.start() * layout.c;
    let mut plaintext = Vec::new();
    for i in numbers {
        let len = if i < layout.m { layout.c + 16 } else { layout.r };
        let mut block = vec![0; len as usize];
        if block.len() < 16 || !blob.read_at(chunks_offset as u64 + i * (layout.c + 16), &mut block)
        {
            return Err(Class::Authentication.into());
        }
        let nonce = chunks::nonce(&keys.base_nonce, i as u32);
        plaintext.extend(aead::open(header.suite, &keys.chunk_key, &nonce, &[], &block)?);
    }
    if b > layout.plaintext_len() {
        return Err(Class::OutOfRange.into());
    }
    Ok(plaintext[(a - begin) as usize..(b - begin) as usize].to_vec())
}
