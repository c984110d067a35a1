//! The `inserts` command: what sealing adds to a batched INSERT, on SQLite in a file.
//!
//! A thousand rows with three sealed columns in one transaction. What it is compared with
//! stores as many bytes, made beforehand; and, as another figure, the plaintexts as they
//! are. All take turns, each with a table of its own in the same file, and every
//! transaction begins with an empty write-ahead log.

use std::hint::black_box;
use std::time::Instant;

use bulla_core::{EnvelopeKey, KeyOptions, RecordContext};
use bulla_manager::Scope;
use clap::Args;
use rusqlite::{Connection, params};

use crate::cases::{runtime, settings, warm_scope};
use crate::measure::{median, round};
use crate::output::Output;
use crate::record::Record;

#[derive(Debug, Args)]
pub(crate) struct Inserts {
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds, of one transaction of each kind.
    #[arg(long, default_value_t = 61)]
    rounds: usize,
}

/// Rows of a transaction.
const ROWS: usize = 1000;

/// The sealed columns, and the bytes of plaintext in each.
const COLUMNS: [(&str, usize); 3] = [("email", 24), ("phone", 16), ("note", 200)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Sealed within the transaction.
    Sealed,
    /// Random bytes, as many as the envelopes have.
    AsLong,
    /// The plaintexts.
    Plain,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Sealed, Self::AsLong, Self::Plain];

    fn table(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::AsLong => "as_long",
            Self::Plain => "plain",
        }
    }
}

impl Inserts {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let output = Output::start("inserts", self.json)?;
        let options = KeyOptions::default();
        let scope = runtime()?.block_on(warm_scope(options))?;
        for synchronous in ["FULL", "OFF"] {
            let [sealed, as_long, plain, sealing] = self.measure(&scope, synchronous)?.map(median);
            let settings = format!(
                "SQLite {} in a file, WAL, synchronous={synchronous}; {}",
                rusqlite::version(),
                settings(&options)
            );
            for (op, other) in [("insert (as long)", as_long), ("insert (plaintext)", plain)] {
                let record = Record {
                    subject: "bulla-manager".to_owned(),
                    op: op.to_owned(),
                    size: Some(COLUMNS.iter().map(|(_, bytes)| *bytes as u64).sum()),
                    ns: Some(round(sealed, 0)),
                    raw_ns: Some(round(other, 0)),
                    ratio: Some(round(sealed / other, 4)),
                    ..Record::default()
                };
                let record = record.counting("sealing_ns", round(sealing, 0));
                output.print(record.at("rows", ROWS).under(&settings))?;
            }
        }
        Ok(())
    }

    /// Nanoseconds of each transaction of each kind, and of sealing without a database.
    fn measure(&self, scope: &Scope, synchronous: &str) -> anyhow::Result<[Vec<f64>; 4]> {
        let folder = tempfile::tempdir()?;
        let mut database = Connection::open(folder.path().join("bench.db"))?;
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "wal_autocheckpoint", 0)?;
        database.pragma_update(None, "synchronous", synchronous)?;
        for kind in Kind::ALL {
            let table = kind.table();
            database.execute_batch(&format!(
                "CREATE TABLE {table} (id INTEGER PRIMARY KEY, email BLOB, phone BLOB, note BLOB)"
            ))?;
        }
        let plaintexts = COLUMNS.map(|(_, bytes)| random_rows(bytes));
        let as_long = COLUMNS.map(|(_, bytes)| random_rows(bytes + EnvelopeKey::OVERHEAD));
        let mut times = [const { Vec::new() }; 4];
        for first_id in (0..).step_by(ROWS).take(self.rounds) {
            for (turn, kind) in Kind::ALL.into_iter().enumerate() {
                let cells = if kind == Kind::AsLong { &as_long } else { &plaintexts };
                let start = Instant::now();
                insert(&mut database, scope, kind, first_id, cells)?;
                times[turn].push(start.elapsed().as_nanos() as f64);
                database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            }
            let start = Instant::now();
            for (id, row) in rows(first_id, &plaintexts) {
                black_box(seal(scope, id, row)?);
            }
            times[3].push(start.elapsed().as_nanos() as f64);
        }
        check(&database, scope, &plaintexts)?;
        Ok(times)
    }
}

/// One transaction. A row's context is made for the row, as an application would.
fn insert(
    database: &mut Connection,
    scope: &Scope,
    kind: Kind,
    first_id: i64,
    cells: &[Vec<Vec<u8>>; 3],
) -> anyhow::Result<()> {
    let transaction = database.transaction()?;
    {
        let table = kind.table();
        let mut statement = transaction.prepare_cached(&format!(
            "INSERT INTO {table} (id, email, phone, note) VALUES (?1, ?2, ?3, ?4)"
        ))?;
        for (id, row) in rows(first_id, cells) {
            if kind == Kind::Sealed {
                let [email, phone, note] = seal(scope, id, row)?;
                statement.execute(params![id, email, phone, note])?;
            } else {
                let [email, phone, note] = row;
                statement.execute(params![id, email, phone, note])?;
            }
        }
    }
    Ok(transaction.commit()?)
}

fn rows(
    first_id: i64,
    [emails, phones, notes]: &[Vec<Vec<u8>>; 3],
) -> impl Iterator<Item = (i64, [&[u8]; 3])> {
    let cells = emails.iter().zip(phones).zip(notes);
    (first_id..).zip(cells.map(|((email, phone), note)| [&email[..], phone, note]))
}

fn seal(scope: &Scope, id: i64, [email, phone, note]: [&[u8]; 3]) -> anyhow::Result<[Vec<u8>; 3]> {
    let seal = |(column, _): (&str, usize), plaintext: &[u8]| {
        anyhow::Ok(scope.try_seal(plaintext, &context(column, id)?)?)
    };
    Ok([seal(COLUMNS[0], email)?, seal(COLUMNS[1], phone)?, seal(COLUMNS[2], note)?])
}

fn context(column: &str, row: i64) -> anyhow::Result<RecordContext> {
    let row = row.to_string();
    Ok(RecordContext::new([("table", "customers"), ("column", column), ("row", &row)])?)
}

/// What was stored last is what was meant to be.
fn check(
    database: &Connection,
    scope: &Scope,
    plaintexts: &[Vec<Vec<u8>>; 3],
) -> anyhow::Result<()> {
    let newest = "SELECT id, note FROM sealed ORDER BY id DESC LIMIT 1";
    let (id, note): (i64, Vec<u8>) =
        database.query_row(newest, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let opened = scope.try_open(&note, &context("note", id)?)?;
    anyhow::ensure!(Some(&opened.plaintext) == plaintexts[2].last(), "another note was stored");
    Ok(())
}

/// A cell of so many bytes for each row.
fn random_rows(bytes: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(5);
    (0..ROWS).map(|_| std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()).collect()
}
