//! The `growth` command: what becomes dearer as there is more of something.

mod keys;
mod records;

use clap::Args;

use crate::cases::runtime;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Growth {
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// As far as the issue of scale goes: a million scopes, records of 1 GiB, streams of
    /// 4 GiB. Takes minutes and up to 8 GB of memory.
    #[arg(long)]
    full: bool,
}

impl Growth {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let output = Output::start("growth", self.json)?;
        let runtime = runtime()?;
        records::contexts(&output)?;
        records::sizes(if self.full { 1 << 30 } else { 64 << 20 }, &output)?;
        records::streams(if self.full { 4 << 30 } else { 256 << 20 }, &output)?;
        keys::versions(10_000, &runtime, &output)?;
        keys::scopes(if self.full { 1_000_000 } else { 100_000 }, &runtime, &output)
    }
}
