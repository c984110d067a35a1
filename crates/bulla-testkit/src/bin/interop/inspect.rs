//! `interop inspect`.

use std::io::{self, Write};

use bulla_core::{Envelope, Head, HeaderError, Kind, StreamLayout, Wrap};
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::args::Inspect;
use super::failure::Failure;
use super::{fill, stdout};

/// The JSON document, bytes in hexadecimal.
#[derive(Debug, Serialize)]
struct Document {
    format: u8,
    kind: String,
    kind_name: String,
    suite: u8,
    suite_name: String,
    codec: u8,
    chunk_log2: u8,
    dek_version: u32,
    key_id: String,
    nonce: String,
    wraps: Option<Section>,
    payload_offset: u64,
    payload_len: u64,
    envelope_len: u64,
    /// Chunked kinds only.
    chunks: Option<u64>,
    plaintext_len: u64,
}

#[derive(Debug, Serialize)]
struct Section {
    wraps_len: u64,
    generation: u32,
    entries: Vec<Entry>,
    mac: String,
}

#[derive(Debug, Serialize)]
struct Entry {
    backend: u8,
    kek_id: String,
    kek_version: String,
    blob: String,
}

/// Envelopes up to this length are shown as text, in bytes.
const TEXT_MAX: u64 = 1 << 31;

pub(crate) fn run(args: &Inspect) -> Result<(), Failure> {
    let mut stdin = io::stdin().lock();
    // As much as tells how much there is, then the rest of the head.
    let mut bytes = vec![0; Head::LEN_MIN];
    let len = fill(&mut stdin, &mut bytes)?;
    bytes.truncate(len);
    let head_len = Head::len_of(&bytes)?;
    if head_len > bytes.len() {
        let mut rest = vec![0; head_len - bytes.len()];
        let len = fill(&mut stdin, &mut rest)?;
        bytes.extend_from_slice(&rest[..len]);
    }
    let head = Head::parse(&bytes)?;
    // The payload counts by its length.
    let rest = io::copy(&mut stdin, &mut io::sink()).map_err(Failure::input)?;
    let envelope_len = bytes.len() as u64 + rest;
    let layout = layout(&head, envelope_len)?;

    let mut stdout = stdout();
    let written = if args.text {
        if envelope_len > TEXT_MAX {
            return Err(Failure::Usage("--text shows envelopes up to 2 GiB".into()));
        }
        // `Envelope` takes a slice; it looks at no byte behind the head.
        bytes.resize(envelope_len as usize, 0);
        writeln!(stdout, "{}", Envelope::parse(&bytes)?)
    } else {
        let document = document(&head, &bytes, envelope_len, layout);
        let json = serde_json::to_string_pretty(&document).map_err(io::Error::from);
        json.and_then(|json| writeln!(stdout, "{json}"))
    };
    written.and_then(|()| stdout.flush()).map_err(Failure::output)
}

/// Step 9 of section 2.5.
fn layout(head: &Head, envelope_len: u64) -> Result<Option<StreamLayout>, HeaderError> {
    let offset = head.payload_offset() as u64;
    let len = envelope_len.saturating_sub(offset);
    match head.header().chunk_log2 {
        Some(log2) => StreamLayout::new(offset, log2, envelope_len).map(Some),
        None if len < 16 => Err(HeaderError::PayloadTooShort { len: len as usize, min: 16 }),
        None if len > (1 << 30) + 16 => Err(HeaderError::PayloadTooLong),
        None => Ok(None),
    }
}

fn document(
    head: &Head,
    bytes: &[u8],
    envelope_len: u64,
    layout: Option<StreamLayout>,
) -> Document {
    let header = head.header();
    let payload_offset = head.payload_offset();
    let payload_len = envelope_len - payload_offset as u64;
    let kind: Kind = header.kind;
    Document {
        format: 1,
        kind: format!("{:02x}", kind as u8),
        kind_name: kind.to_string(),
        suite: header.suite as u8,
        suite_name: header.suite.to_string(),
        codec: header.codec.as_byte(),
        chunk_log2: header.chunk_log2.unwrap_or(0),
        dek_version: header.dek_version.map_or(0, |version| version.get()),
        key_id: header.key_id.to_string(),
        nonce: HEXLOWER.encode(&header.nonce),
        wraps: head.wraps().map(|wraps| Section {
            wraps_len: payload_offset as u64 - 70,
            generation: wraps.generation(),
            entries: wraps.entries().iter().map(entry).collect(),
            mac: HEXLOWER.encode(bytes.get(payload_offset - 32..payload_offset).unwrap_or(&[])),
        }),
        payload_offset: payload_offset as u64,
        payload_len,
        envelope_len,
        chunks: layout.map(|layout| layout.chunks()),
        plaintext_len: layout.map_or_else(
            || payload_len.saturating_sub(16),
            |layout| layout.claimed_plaintext_len(),
        ),
    }
}

fn entry(wrap: &Wrap) -> Entry {
    Entry {
        backend: wrap.backend,
        kek_id: HEXLOWER.encode(&wrap.kek_id),
        kek_version: HEXLOWER.encode(&wrap.kek_version),
        blob: HEXLOWER.encode(&wrap.blob),
    }
}
