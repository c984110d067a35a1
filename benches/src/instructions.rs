//! The `instructions` command: what the warm paths cost in instructions, counted by
//! callgrind, and what has changed since the table that is checked in.
//!
//! Times differ from minute to minute; a count is the same each time, so a change of twenty
//! instructions shows. The program runs itself under `valgrind` and needs nothing else.
//! (`gungraun`, the library for this, needs a runner of its very version installed beside
//! it, and judges totals. Here the cipher's share has to be taken off first.)
//!
//! What the counts are not: valgrind has no AVX-512, so AWS-LC takes its AVX2 path, and
//! the cipher's own counts are not those of a newer processor. The table is about `ours`,
//! which is everything around the cipher: an operation less the raw one. Clocks stand
//! still: reading the time is one call of the system's library, and not counted.

mod callgrind;
mod table;
mod workload;

use std::path::PathBuf;

use clap::Args;

use self::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Instructions {
    /// Compare with this table: fail where one of our counts has grown by more than
    /// 40 instructions and 5 percent, with 200 on top for large allocations. A table of
    /// another processor, compiler, C library or valgrind is shown beside the counts, and
    /// judges nothing.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Write the table.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// What runs under valgrind.
    #[arg(long, hide = true)]
    inside: bool,
}

impl Instructions {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.inside {
            return workload::run();
        }
        let before = self.compare.as_deref().map(Table::read).transpose()?;
        let table = callgrind::count()?;
        table.print(before.as_ref());
        if let Some(path) = &self.write {
            table.write(path)?;
        }
        if let Some(before) = &before {
            println!("{}", table.judge(before)?);
        }
        Ok(())
    }
}
