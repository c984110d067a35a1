//! The `ratios` command.

use std::hint::black_box;

use bulla_core::{EnvelopeKey, KeyOptions, Library, NonceMode};
use clap::{Args, ValueEnum};
use tokio::runtime::{Builder, Runtime};

use crate::cases::{Raw, core_key, record, warm_scope};
use crate::measure::{Measured, measure};

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
    /// Plaintext sizes in bytes.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1024,4096,65536,1048576")]
    sizes: Vec<usize>,
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
        let runtime = Builder::new_current_thread().enable_all().build()?;
        if !self.json {
            println!(
                "{:<10} {:>9} {:>12} {:>12} {:>7} {:>7}",
                "op", "bytes", "ns", "raw ns", "ratio", "allocs"
            );
        }
        for &size in &self.sizes {
            for measured in
                core(size, options)?.into_iter().chain(manager(size, options, &runtime)?)
            {
                self.print(&measured)?;
            }
        }
        Ok(())
    }

    fn print(&self, m: &Measured) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(m)?);
        } else {
            println!(
                "{:<10} {:>9} {:>12.1} {:>12.1} {:>7.3} {:>7.2}",
                m.op, m.size, m.ns, m.raw_ns, m.ratio, m.allocs
            );
        }
        Ok(())
    }
}

fn core(size: usize, options: KeyOptions) -> anyhow::Result<[Measured; 2]> {
    let (key, context) = (core_key(options)?, record()?);
    let mut raw = Raw::new(size, &context)?;
    let mut plaintext = vec![7; size];
    let mut envelope = vec![0; size + EnvelopeKey::OVERHEAD];
    let seal_into = measure(
        "seal_into",
        size,
        |calls| {
            for _ in 0..calls {
                black_box(key.seal_into(&plaintext, &context, &mut envelope).is_ok());
            }
        },
        |calls| raw.seal(calls),
    );
    let mut raw = Raw::new(size, &context)?;
    let open_into = measure(
        "open_into",
        size,
        |calls| {
            for _ in 0..calls {
                black_box(key.open_into(&envelope, &context, &mut plaintext).is_ok());
            }
        },
        |calls| raw.open(calls),
    );
    anyhow::ensure!(plaintext == vec![7; size], "what was opened is not what was sealed");
    Ok([seal_into, open_into])
}

fn manager(size: usize, options: KeyOptions, runtime: &Runtime) -> anyhow::Result<[Measured; 2]> {
    let (scope, context) = (runtime.block_on(warm_scope(options))?, record()?);
    let mut raw = Raw::new(size, &context)?;
    let plaintext = vec![7; size];
    let seal = measure(
        "seal",
        size,
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    black_box(scope.seal(&plaintext, &context).await.is_ok());
                }
            });
        },
        |calls| raw.seal(calls),
    );
    let envelope = runtime.block_on(scope.seal(&plaintext, &context))?;
    let mut raw = Raw::new(size, &context)?;
    let open = measure(
        "open",
        size,
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    black_box(scope.open(&envelope, &context).await.is_ok());
                }
            });
        },
        |calls| raw.open(calls),
    );
    let opened = runtime.block_on(scope.open(&envelope, &context))?;
    anyhow::ensure!(opened.plaintext == plaintext, "what was opened is not what was sealed");
    Ok([seal, open])
}
