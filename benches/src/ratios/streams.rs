//! Streams in chunks of 64 KiB, and parts of them.
//!
//! The reference goes over the same bytes in calls of 64 KiB, without associated data,
//! as the chunks of a stream have none. Where a stream is opened through a reader, the
//! reference copies them to a buffer first, as every reader does; `open_next` opens them
//! from where they lie.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::ops::Range;

use bulla_core::{Codec, EnvelopeKey, KeyOptions, StreamOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::cases::{Raw, RawMany, core_key, record, warm_scope};
use crate::measure::{Measured, measure, round};
use crate::record::Record;

const CHUNK: usize = 1 << 16;
const STREAM: usize = 64 << 20;
const CHUNKS: u64 = (STREAM / CHUNK) as u64;

pub(super) fn all(options: KeyOptions, runtime: &Runtime) -> anyhow::Result<Vec<Record>> {
    let mut records = core(options)?;
    records.extend(manager(options, runtime)?);
    records.extend(ranges(options)?);
    Ok(records)
}

fn core(options: KeyOptions) -> anyhow::Result<Vec<Record>> {
    let (key, context) = (core_key(options)?, record()?);
    let mut raw = RawMany::new(CHUNKS as usize, CHUNK, 0)?;
    let plaintext = vec![7; STREAM];
    let seal = measure(
        |calls| {
            for _ in 0..calls {
                let mut writer = key.seal_writer(io::sink(), &context, StreamOptions::default())?;
                writer.write_all(black_box(&plaintext))?;
                writer.finish()?;
            }
            Ok(())
        },
        |calls| raw.seal(calls * CHUNKS),
    )?;
    let mut writer = key.seal_writer(Vec::new(), &context, StreamOptions::default())?;
    writer.write_all(&plaintext)?;
    let envelope = writer.finish()?;
    drop(plaintext);
    let mut out = vec![0; CHUNK];
    let open_next = measure(
        |calls| {
            for _ in 0..calls {
                let (head, chunks) =
                    black_box(&envelope[..]).split_at(EnvelopeKey::STREAM_HEAD_LEN);
                let mut opener = key.chunk_opener(head, &context, Codec::RAW)?;
                let mut opened = 0;
                for block in chunks.chunks(opener.block_len()) {
                    opened += black_box(opener.open_next(block, &mut out)?);
                }
                let complete = opener.is_ended() && opened == STREAM;
                anyhow::ensure!(complete, "the stream is shorter than it was");
            }
            Ok(())
        },
        |calls| raw.open(calls * CHUNKS),
    )?;
    let open = measure(
        |calls| {
            for _ in 0..calls {
                let mut reader = key.open_reader(black_box(&envelope[..]), &context, Codec::RAW)?;
                let mut opened = 0;
                loop {
                    match reader.read(&mut out)? {
                        0 => break,
                        read => opened += black_box(read),
                    }
                }
                anyhow::ensure!(opened == STREAM, "the stream is shorter than it was");
            }
            Ok(())
        },
        |calls| raw.read_and_open(calls * CHUNKS),
    )?;
    let sealed_len = envelope.len();
    Ok(vec![
        stream("bulla-core", "seal_writer", &seal).giving(sealed_len),
        stream("bulla-core", "open_next", &open_next).giving(STREAM),
        stream("bulla-core", "open_reader", &open).giving(STREAM),
    ])
}

fn manager(options: KeyOptions, runtime: &Runtime) -> anyhow::Result<Vec<Record>> {
    let (scope, context) = (runtime.block_on(warm_scope(options))?, record()?);
    let mut raw = RawMany::new(CHUNKS as usize, CHUNK, 0)?;
    let plaintext = vec![7; STREAM];
    let seal_to = async |envelope: &mut (dyn tokio::io::AsyncWrite + Unpin)| {
        let options = StreamOptions::default();
        let mut stream = scope.seal_stream(envelope, &context, options).await?;
        stream.write_all(black_box(&plaintext)).await?;
        stream.shutdown().await?;
        anyhow::Ok(())
    };
    let seal = measure(
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    seal_to(&mut tokio::io::sink()).await?;
                }
                Ok(())
            })
        },
        |calls| raw.seal(calls * CHUNKS),
    )?;
    let mut envelope = Vec::new();
    runtime.block_on(seal_to(&mut envelope))?;
    let mut out = vec![0; CHUNK];
    let open = measure(
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let envelope = black_box(&envelope[..]);
                    let mut stream = scope.open_stream(envelope, &context, Codec::RAW).await?;
                    let mut opened = 0;
                    loop {
                        match stream.read(&mut out).await? {
                            0 => break,
                            read => opened += black_box(read),
                        }
                    }
                    anyhow::ensure!(opened == STREAM, "the stream is shorter than it was");
                }
                Ok(())
            })
        },
        |calls| raw.read_and_open(calls * CHUNKS),
    )?;
    let sealed_len = envelope.len();
    Ok(vec![
        stream("bulla-manager", "seal_stream", &seal).giving(sealed_len),
        stream("bulla-manager", "open_stream", &open).giving(STREAM),
    ])
}

fn stream(subject: &str, op: &str, measured: &Measured) -> Record {
    measured
        .record(subject, op, STREAM)
        .counting("peak_bytes", measured.peak_bytes as f64)
        .counting("raw_throughput_share", round(measured.raw_ns / measured.ns, 4))
}

/// Plaintext of the stream of which parts are read.
const LONG_STREAM: u64 = 1 << 30;
const PART: u64 = 4096;

/// Reads 4 KiB from the midst of 1 GiB: within a chunk, and across the border of two.
/// The reference opens one chunk.
fn ranges(options: KeyOptions) -> anyhow::Result<Vec<Record>> {
    let (key, context) = (core_key(options)?, record()?);
    let within = LONG_STREAM / 2 + 1234..LONG_STREAM / 2 + 1234 + PART;
    let across = LONG_STREAM / 2 - PART / 2..LONG_STREAM / 2 + PART / 2;
    // What is kept of the envelope: its head, and the chunks around the middle.
    let middle = EnvelopeKey::STREAM_HEAD_LEN as u64 + LONG_STREAM / CHUNK as u64 / 2 * SEALED;
    let kept = [0..EnvelopeKey::STREAM_HEAD_LEN as u64, middle - SEALED..middle + SEALED];
    let mut writer = key.seal_writer(Excerpts::of(kept), &context, StreamOptions::default())?;
    let plaintext = vec![7; 1 << 20];
    for _ in 0..LONG_STREAM / plaintext.len() as u64 {
        writer.write_all(&plaintext)?;
    }
    let excerpts = writer.finish()?;
    let mut raw = Raw::new(CHUNK, 0)?;
    let mut records = Vec::new();
    for (op, range) in [("read_range (within)", within), ("read_range (across)", across)] {
        let (mut fetches, mut fetched) = (0, 0);
        let fetch = |offset: u64, buffer: &mut [u8]| {
            fetches += 1;
            fetched += buffer.len();
            excerpts.fetch(offset, buffer)
        };
        key.open_range_with(fetch, excerpts.len, &context, Codec::RAW)?
            .read_range(range.clone())?;
        let fetch = |offset: u64, buffer: &mut [u8]| excerpts.fetch(offset, buffer);
        let mut reader = key.open_range_with(fetch, excerpts.len, &context, Codec::RAW)?;
        let measured = measure(
            |calls| {
                for _ in 0..calls {
                    black_box(reader.read_range(black_box(range.clone()))?);
                }
                Ok(())
            },
            |calls| raw.open(calls),
        )?;
        let record = measured.record("bulla-core", op, PART as usize).giving(PART as usize);
        records.push(
            record
                .at("bytes of stream", LONG_STREAM as usize)
                // The first fetch is that of the head.
                .counting("chunks_fetched", f64::from(fetches - 1))
                .counting("bytes_fetched", fetched as f64),
        );
    }
    Ok(records)
}

/// Length of a full chunk, sealed.
const SEALED: u64 = CHUNK as u64 + 16;

/// A sink that remembers some places of what goes into it.
struct Excerpts {
    len: u64,
    kept: Vec<(Range<u64>, Vec<u8>)>,
}

impl Excerpts {
    fn of(places: impl IntoIterator<Item = Range<u64>>) -> Self {
        Self { len: 0, kept: places.into_iter().map(|place| (place, Vec::new())).collect() }
    }

    fn fetch(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (place, bytes) in &self.kept {
            let from = offset.checked_sub(place.start).map(|from| from as usize);
            if let Some(excerpt) = from.and_then(|from| bytes.get(from..from + buffer.len())) {
                buffer.copy_from_slice(excerpt);
                return Ok(());
            }
        }
        Err(io::Error::other("a part of the envelope that need not be read"))
    }
}

impl Write for Excerpts {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let at = self.len..self.len + written.len() as u64;
        for (place, bytes) in &mut self.kept {
            let (from, to) = (place.start.max(at.start), place.end.min(at.end));
            if from < to {
                bytes.extend(&written[(from - at.start) as usize..(to - at.start) as usize]);
            }
        }
        self.len = at.end;
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
