//! The command line.

use std::path::{Path, PathBuf};

use clap::Parser;

/// Seals columns of a CSV file into SQLite and takes them through a key rotation.
///
/// Without arguments it does so with a bundled file of invented people, in a
/// temporary directory. With a file of your own it works in constant memory, however
/// long the file is.
#[derive(Debug, Parser)]
#[command(name = "quickstart", after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// CSV file with a header line [default: the bundled people.csv]
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Columns to seal [default: all but the key column]
    ///
    /// Separated by commas, and quoted as in the file itself: `--columns 'name,"a,b"'`
    /// are the columns `name` and `a,b`. Of the bundled file, email, phone, iban and
    /// note are sealed.
    #[arg(long, value_name = "LIST")]
    columns: Option<String>,

    /// Column that names the row [default: the first one]
    ///
    /// Its values must differ, must not change while the row lives, and stay readable:
    /// they are bound to each sealed cell, so that it opens in its own row only.
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,

    /// Where to keep the database [default: in a temporary directory]
    ///
    /// Makes PATH for the records, PATH.keys/ for the wrapped keys and, unless the
    /// environment variable BULLA_PASSPHRASE holds a passphrase, PATH.unlock with a
    /// random key that unlocks them. Overwrites nothing.
    #[arg(long, value_name = "PATH")]
    pub(crate) db: Option<PathBuf>,

    /// Print one JSON object instead of the story
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  The story, with the bundled file:
    cargo run --release --example quickstart

  A file of your own, all columns but the first sealed:
    cargo run --release --example quickstart -- --csv customers.csv

  Some columns, kept in a database to look into with sqlite3:
    cargo run --release --example quickstart -- --csv customers.csv \\
        --columns email,phone --key-column customer_id --db customers.db

  The figures alone:
    cargo run --release --example quickstart -- --json";

const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/people.csv");
const BUNDLED_COLUMNS: &str = "email,phone,iban,note";

impl Args {
    /// The file to read.
    pub(crate) fn csv(&self) -> &Path {
        self.csv.as_deref().unwrap_or(Path::new(BUNDLED))
    }

    /// The columns to seal, if they are not all but the key.
    pub(crate) fn columns(&self) -> Option<&str> {
        let bundled = self.csv.is_none().then_some(BUNDLED_COLUMNS);
        self.columns.as_deref().or(bundled)
    }

    /// The column that names the row, if it is not the first one.
    pub(crate) fn key_column(&self) -> Option<&str> {
        self.key_column.as_deref()
    }

    /// What was chosen for the user, if anything.
    pub(crate) fn chosen(&self) -> Option<&'static str> {
        match (self.csv.is_some(), &self.columns, &self.key_column) {
            (true, None, None) => Some("all columns but the first, which names the row"),
            (true, None, Some(_)) => Some("all columns but the key column"),
            (true, Some(_), None) => Some("the first column names the row"),
            _ => None,
        }
    }
}
