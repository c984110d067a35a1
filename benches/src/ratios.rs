//! The `ratios` command.

mod batches;
mod foreign;
mod records;
mod streams;

use bulla_core::{KeyOptions, Library, NonceMode};
use clap::{Args, ValueEnum};

use crate::cases::{runtime, settings};
use crate::output::Output;
use crate::record::Record;

#[derive(Debug, Args)]
pub(crate) struct Ratios {
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// Where nonces come from. The default is the library's.
    #[arg(long, value_enum, default_value_t = Nonces::Auto)]
    nonces: Nonces,
    /// The AEAD library under test; the reference is aws-lc-rs all the same.
    #[arg(long, value_enum, default_value_t = AeadLibrary::AwsLcRs)]
    library: AeadLibrary,
    /// Plaintext sizes in bytes of single records.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1024,4096,65536,1048576")]
    sizes: Vec<usize>,
    /// What to measure. The default is all of it.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Nonces {
    /// What the library chooses by itself.
    Auto,
    /// Twelve bytes from the operating system for every record.
    Fresh,
    /// A counter per epoch.
    Epoch,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AeadLibrary {
    AwsLcRs,
    RustCrypto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// One record, warm.
    Records,
    /// Records that other processes have sealed.
    Foreign,
    /// A thousand records at a time.
    Batches,
    /// Streams, and parts of them.
    Streams,
}

impl Ratios {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let nonces = match self.nonces {
            Nonces::Auto => NonceMode::Auto,
            Nonces::Fresh => NonceMode::Fresh,
            Nonces::Epoch => NonceMode::Epoch,
        };
        let library = match self.library {
            AeadLibrary::AwsLcRs => Library::AwsLcRs,
            AeadLibrary::RustCrypto => Library::RustCrypto,
        };
        let options = KeyOptions::default().with_nonces(nonces).with_library(library);
        let settings = settings(&options);
        let runtime = runtime()?;
        let output = Output::start("ratios", self.json)?;
        let print = |record: Record| output.print(record.under(&settings));
        let wanted = |group| self.only.is_empty() || self.only.contains(&group);
        if wanted(Group::Records) {
            for &size in &self.sizes {
                records::core(size, options)?.into_iter().try_for_each(print)?;
                records::manager(size, options, &runtime)?.into_iter().try_for_each(print)?;
            }
        }
        if wanted(Group::Foreign) {
            // Above that, the key of the other writer is a trifle.
            for &size in self.sizes.iter().filter(|size| **size <= 1 << 16) {
                foreign::each_by_another(size, options, &runtime)?
                    .into_iter()
                    .try_for_each(print)?;
            }
            foreign::scans(options)?.into_iter().try_for_each(print)?;
        }
        if wanted(Group::Batches) {
            batches::all(options, &runtime)?.into_iter().try_for_each(print)?;
        }
        if wanted(Group::Streams) {
            streams::all(options, &runtime)?.into_iter().try_for_each(print)?;
        }
        Ok(())
    }
}
