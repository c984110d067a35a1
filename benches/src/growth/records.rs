//! Longer contexts, longer records, longer streams.

use std::hint::black_box;
use std::io::{self, Write};

use bulla_core::{EnvelopeKey, KeyOptions, RecordContext, StreamOptions};

use crate::cases::{Raw, RawMany, aad_len, core_key, record};
use crate::measure::measure;
use crate::output::Output;

/// Bytes of plaintext under contexts of any length.
const BYTES: usize = 64;

/// Contexts from nothing to the 4 KiB that a context has at most.
pub(super) fn contexts(output: &Output) -> anyhow::Result<()> {
    let key = core_key(KeyOptions::default())?;
    for x in [0, 64, 128, 256, 512, 1024, 2048, 4096] {
        let context = context_of(x)?;
        let plaintext = vec![7; BYTES];
        let mut out = vec![0; BYTES];
        let mut envelope = vec![0; BYTES + EnvelopeKey::OVERHEAD];
        let mut raw = Raw::new(BYTES, aad_len(&context))?;
        let seal = measure(
            |calls| {
                for _ in 0..calls {
                    let (plaintext, context) = black_box((&plaintext, &context));
                    black_box(key.seal_into(plaintext, context, &mut envelope)?);
                }
                Ok(())
            },
            |calls| raw.seal(calls),
        )?;
        let open = measure(
            |calls| {
                for _ in 0..calls {
                    let (envelope, context) = black_box((&envelope, &context));
                    black_box(key.open_into(envelope, context, &mut out)?);
                }
                Ok(())
            },
            |calls| raw.open(calls),
        )?;
        for (op, measured) in [("seal_into", seal), ("open_into", open)] {
            let record = measured.record("bulla-core", op, BYTES);
            output.print(record.at("bytes of context", context.as_bytes().len()))?;
        }
    }
    Ok(())
}

/// A context whose encoding is of `len` bytes: a value is of 1,024 bytes at most.
fn context_of(len: usize) -> anyhow::Result<RecordContext> {
    // A count of two bytes; for each pair two lengths of two bytes and a key of two.
    const PAIR: usize = 6;
    let mut left = len.saturating_sub(2);
    let mut pairs = Vec::new();
    while left > PAIR {
        let value = (left - PAIR).min(1024);
        pairs.push((format!("k{}", pairs.len()), "v".repeat(value)));
        left -= PAIR + value;
    }
    Ok(RecordContext::new(pairs)?)
}

/// Records up to `most` bytes.
pub(super) fn sizes(most: usize, output: &Output) -> anyhow::Result<()> {
    let (key, context) = (core_key(KeyOptions::default())?, record()?);
    let mut size = 64;
    while size <= most {
        let mut plaintext = vec![7; size];
        let mut envelope = vec![0; size + EnvelopeKey::OVERHEAD];
        let mut raw = Raw::new(size, aad_len(&context))?;
        let seal = measure(
            |calls| {
                for _ in 0..calls {
                    black_box(key.seal_into(black_box(&plaintext), &context, &mut envelope)?);
                }
                Ok(())
            },
            |calls| raw.seal(calls),
        )?;
        let open = measure(
            |calls| {
                for _ in 0..calls {
                    black_box(key.open_into(black_box(&envelope), &context, &mut plaintext)?);
                }
                Ok(())
            },
            |calls| raw.open(calls),
        )?;
        for (op, measured) in [("seal_into", seal), ("open_into", open)] {
            output.print(measured.record("bulla-core", op, size).at("bytes", size))?;
        }
        size *= 4;
    }
    Ok(())
}

/// Streams up to `most` bytes, longer than one record may be. What goes in is the same
/// MiB again and again, for either.
pub(super) fn streams(most: u64, output: &Output) -> anyhow::Result<()> {
    const PIECE: usize = 1 << 20;
    const CHUNK: usize = 1 << 16;
    let (key, context) = (core_key(KeyOptions::default())?, record()?);
    let piece = vec![7; PIECE];
    let mut len = PIECE as u64;
    while len <= most {
        let pieces = len / PIECE as u64;
        let mut raw = RawMany::new(PIECE / CHUNK, CHUNK, 0)?;
        let measured = measure(
            |calls| {
                for _ in 0..calls {
                    let options = StreamOptions::default();
                    let mut writer = key.seal_writer(io::sink(), &context, options)?;
                    for _ in 0..pieces {
                        writer.write_all(black_box(&piece))?;
                    }
                    writer.finish()?;
                }
                Ok(())
            },
            |calls| raw.seal(calls * pieces * (PIECE / CHUNK) as u64),
        )?;
        let record = measured.record("bulla-core", "seal_writer", len as usize);
        let record = record.counting("peak_bytes", measured.peak_bytes as f64);
        output.print(record.at("bytes", len as usize))?;
        len *= 4;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_as_long_as_it_was_asked_to_be() {
        assert_eq!(context_of(0).unwrap(), RecordContext::empty());
        for len in [64, 1024, 1040, 4096] {
            assert_eq!(context_of(len).unwrap().as_bytes().len(), len);
        }
    }
}
