//! `bulla-bench`: what Bulla costs, measured against the raw cipher in the same run.

#![allow(clippy::print_stdout, reason = "the figures are what this program is for")]

mod calls;
mod cases;
mod cold;
mod environment;
mod growth;
mod inserts;
mod instructions;
mod measure;
mod output;
mod ratios;
mod record;
mod report;
mod scaling;

use clap::{Parser, Subcommand};

/// Measures Bulla against raw AES-256-GCM.
///
/// Absolute times differ from machine to machine and from minute to minute; ratios
/// taken in one run hold. Build with --release. With --json, each command prints one
/// object per line: first the run, then its figures.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seal and open, as ratios to aws-lc-rs with a reused key, the same length of
    /// associated data and a ready buffer.
    ///
    /// One record at each size; records of other writers; batches; streams and ranges.
    Ratios(ratios::Ratios),
    /// What further threads gain on one scope, beside what they gain for the raw cipher.
    Scaling(scaling::Scaling),
    /// KMS calls, store reads and memory of a million warm operations.
    Calls(calls::Calls),
    /// Cost as scopes, versions, contexts and records grow.
    Growth(growth::Growth),
    /// The first use of a key, with a KMS and a store some milliseconds away.
    Cold(cold::Cold),
    /// What sealing adds to a batched INSERT on SQLite.
    Inserts(inserts::Inserts),
    /// Instructions of the warm paths, counted by callgrind: needs `valgrind`.
    Instructions(instructions::Instructions),
    /// The figures of runs, as a page with charts.
    Report(report::Report),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Ratios(ratios) => ratios.run(),
        Command::Scaling(scaling) => scaling.run(),
        Command::Calls(calls) => calls.run(),
        Command::Growth(growth) => growth.run(),
        Command::Cold(cold) => cold.run(),
        Command::Inserts(inserts) => inserts.run(),
        Command::Instructions(instructions) => instructions.run(),
        Command::Report(report) => report.run(),
    }
}
