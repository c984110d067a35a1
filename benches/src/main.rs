//! `bulla-bench`: what Bulla costs, measured against the raw cipher in the same run.

#![allow(clippy::print_stdout, reason = "the figures are what this program is for")]

mod cases;
mod measure;
mod ratios;

use clap::{Parser, Subcommand};

/// Measures Bulla against raw AES-256-GCM.
///
/// Absolute times differ from machine to machine and from minute to minute; ratios
/// taken in one run hold. Build with --release.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seal and open at each size, as ratios to aws-lc-rs with a reused key, the same
    /// length of associated data and a ready buffer.
    ///
    /// `seal_into` and `open_into` are bulla-core on the caller's buffers; `seal` and
    /// `open` are the DEK manager, warm, into a new Vec.
    Ratios(ratios::Ratios),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Ratios(ratios) => ratios.run(),
    }
}
