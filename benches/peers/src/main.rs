//! `bulla-peers`: Bulla beside other libraries that encrypt records, in one run.
//!
//! Every subject seals the same payloads to bytes and opens them from bytes, warm, through its
//! public API and as its documentation advises. How each is set up is said in its module and
//! printed with its figures. Batches of each are taken in turn with batches of raw
//! AES-256-GCM, so that what disturbs the machine disturbs both: ratios hold where times do
//! not.
//!
//! Allocations are those of Rust's global allocator. What C code asks of `malloc` is not among
//! them: AWS-LC does so once for each key object.

#![allow(clippy::print_stdout, reason = "the figures are what this program is for")]

mod host;
mod measure;
mod peers;
// The schema of every measurement of Bulla: `bulla-bench report` reads these lines, too.
#[allow(dead_code, reason = "bulla-bench uses what is not used here")]
#[path = "../../src/record.rs"]
mod record;

use anyhow::Context as _;
use clap::Parser;

use crate::host::Versions;
use crate::measure::measure;
use crate::peers::{Ops, Peer, Raw};
use crate::record::{Line, Record};

/// Measures Bulla and its peers against raw AES-256-GCM. Build with --release.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// Plaintext sizes in bytes.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1024,4096,65536,1048576")]
    sizes: Vec<usize>,
    /// Measure only subjects whose name has this in it.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let versions = Versions::of_this_build()?;
    if arguments.json {
        println!("{}", serde_json::to_string(&Line::Run { run: host::run(&versions)? })?);
    } else {
        println!(
            "{:<36} {:<14} {:>8} {:>12} {:>12} {:>9} {:>8} {:>11} {:>9}",
            "subject", "op", "bytes", "ns", "raw ns", "ratio", "allocs", "alloc bytes", "out"
        );
    }
    let mut found = false;
    for peer in &mut peers::all()? {
        let name = peer.name(&versions)?;
        if arguments.only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        found = true;
        for &size in &arguments.sizes {
            let records = compare(&name, peer.as_mut(), size)
                .with_context(|| format!("{name}, {size} bytes"))?;
            for record in records {
                print(record, arguments.json)?;
            }
        }
    }
    anyhow::ensure!(found, "there is no such subject");
    Ok(())
}

/// The figures of one subject at one size.
fn compare(name: &str, peer: &mut dyn Peer, size: usize) -> anyhow::Result<Vec<Record>> {
    let plaintext = vec![7; size];
    let mut raw = Raw::new()?;
    let (envelope, raw_envelope) = (peer.seal(&plaintext)?, raw.seal(&plaintext)?);
    anyhow::ensure!(peer.open(&envelope)? == plaintext, "what was opened is not what was sealed");

    let settings = peer.settings();
    let record = |op, output_bytes: Option<usize>, figures| Record {
        subject: name.to_owned(),
        op: String::from(op),
        size: Some(size as u64),
        output_bytes: output_bytes.map(|bytes| bytes as u64),
        settings: Some(settings.to_owned()),
        ..figures
    };
    let Ops { seal, open } = peer.ops();
    let figures = measure(
        |calls| peer.seal_times(&plaintext, calls),
        |calls| raw.seal_times(&plaintext, calls),
    )?;
    let Some(open) = open else {
        // What is sealed has no bytes yet.
        return Ok(vec![record(seal, None, figures)]);
    };
    let sealed = record(seal, Some(envelope.len()), figures);
    let figures = measure(
        |calls| peer.open_times(&envelope, calls),
        |calls| raw.open_times(&raw_envelope, calls),
    )?;
    Ok(vec![sealed, record(open, Some(size), figures)])
}

fn print(record: Record, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(&Line::Record(Box::new(record)))?);
        return Ok(());
    }
    let figure = |value: Option<f64>, decimals| {
        value.map_or_else(String::new, |value| format!("{value:.decimals$}"))
    };
    println!(
        "{:<36} {:<14} {:>8} {:>12} {:>12} {:>9} {:>8} {:>11} {:>9}",
        record.subject,
        record.op,
        record.size.unwrap_or_default(),
        figure(record.ns, 1),
        figure(record.raw_ns, 1),
        figure(record.ratio, 3),
        figure(record.allocs, 2),
        figure(record.alloc_bytes, 0),
        figure(record.output_bytes.map(|bytes| bytes as f64), 0),
    );
    Ok(())
}
