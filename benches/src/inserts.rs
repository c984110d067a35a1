//! The `inserts` command: what sealing adds to a batched INSERT, on SQLite in a file.
//!
//! A thousand rows with three sealed columns in one transaction, sealed together or cell by
//! cell. What it is compared with stores as many bytes, made beforehand; and, as other
//! figures, the plaintexts as they are, and what the raw cipher makes of them: no library
//! can add less than that. All take turns, each with a table of its own in the same file,
//! and every transaction begins with an empty write-ahead log.

use std::time::Instant;

use anyhow::Context;
use bulla_core::{EnvelopeKey, Envelopes, KeyOptions, RecordContext};
use bulla_manager::Scope;
use clap::Args;
use rusqlite::{Connection, params};
use tokio::runtime::Runtime;

use crate::cases::{Raw, aad_len, runtime, settings, warm_scope};
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

/// How the cells of a table come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Random bytes, as many as the envelopes have: what the others are compared with.
    AsLong,
    /// Sealed together, in front of the transaction.
    Together,
    /// Sealed cell by cell, within the transaction.
    CellByCell,
    /// As `AsLong`, and as many bytes encrypted by the raw cipher, within the transaction.
    Raw,
    /// The plaintexts.
    Plain,
}

impl Kind {
    const ALL: [Self; 5] = [Self::AsLong, Self::Together, Self::CellByCell, Self::Raw, Self::Plain];

    fn table(self) -> &'static str {
        match self {
            Self::AsLong => "as_long",
            Self::Together => "together",
            Self::CellByCell => "cell_by_cell",
            Self::Raw => "raw",
            Self::Plain => "plain",
        }
    }

    /// Whose work it is, and what it is called in the output.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::AsLong => ("sqlite", "insert (as long)"),
            Self::Together => ("bulla-manager", "insert (sealed together)"),
            Self::CellByCell => ("bulla-manager", "insert (sealed cell by cell)"),
            Self::Raw => ("raw AES-256-GCM", "insert (encrypted)"),
            Self::Plain => ("sqlite", "insert (plaintexts)"),
        }
    }
}

impl Inserts {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let output = Output::start("inserts", self.json)?;
        let options = KeyOptions::default();
        let runtime = runtime()?;
        let scope = runtime.block_on(warm_scope(options))?;
        let mut cells = Cells::new(runtime, scope)?;
        for synchronous in ["FULL", "OFF"] {
            let times = self.measure(&mut cells, synchronous)?.map(median);
            let settings = format!(
                "SQLite {} in a file, WAL, synchronous={synchronous}; {}",
                rusqlite::version(),
                settings(&options)
            );
            for (kind, ns) in Kind::ALL.into_iter().zip(times).skip(1) {
                let (subject, op) = kind.name();
                let record = Record {
                    subject: subject.to_owned(),
                    op: op.to_owned(),
                    size: Some(COLUMNS.iter().map(|(_, bytes)| *bytes as u64).sum()),
                    ns: Some(round(ns, 0)),
                    raw_ns: Some(round(times[0], 0)),
                    ratio: Some(round(ns / times[0], 4)),
                    ..Record::default()
                };
                output.print(record.at("rows", ROWS).under(&settings))?;
            }
        }
        Ok(())
    }

    /// Nanoseconds of each transaction of each kind.
    fn measure(
        &self,
        cells: &mut Cells,
        synchronous: &str,
    ) -> anyhow::Result<[Vec<f64>; Kind::ALL.len()]> {
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
        let mut times = [const { Vec::new() }; Kind::ALL.len()];
        let mut random = fastrand::Rng::with_seed(6);
        let mut turns = [0, 1, 2, 3, 4];
        for first_id in (0..).step_by(ROWS).take(self.rounds) {
            // What comes before must not be the same for one of them each time.
            random.shuffle(&mut turns);
            for turn in turns {
                let start = Instant::now();
                cells.insert(&mut database, Kind::ALL[turn], first_id)?;
                times[turn].push(start.elapsed().as_nanos() as f64);
                database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            }
        }
        cells.check(&database)?;
        Ok(times)
    }
}

/// The cells of all rows, and what seals them.
struct Cells {
    runtime: Runtime,
    scope: Scope,
    /// One for each column.
    raw: [Raw; 3],
    plaintexts: [Vec<Vec<u8>>; 3],
    as_long: [Vec<Vec<u8>>; 3],
}

impl Cells {
    fn new(runtime: Runtime, scope: Scope) -> anyhow::Result<Self> {
        let raw = |(column, bytes)| Raw::new(bytes, aad_len(&context(column, ROWS as i64)?));
        let [email, phone, note] = COLUMNS.map(raw);
        Ok(Self {
            runtime,
            scope,
            raw: [email?, phone?, note?],
            plaintexts: COLUMNS.map(|(_, bytes)| random_rows(bytes)),
            as_long: COLUMNS.map(|(_, bytes)| random_rows(bytes + EnvelopeKey::OVERHEAD)),
        })
    }

    /// One transaction. A row's contexts are made for the row, as an application would.
    fn insert(
        &mut self,
        database: &mut Connection,
        kind: Kind,
        first_id: i64,
    ) -> anyhow::Result<()> {
        let envelopes = match kind {
            Kind::Together => self.seal_together(first_id)?,
            _ => Envelopes::default(),
        };
        let mut envelopes = envelopes.iter();
        let mut next = || envelopes.next().context("an envelope is missing");
        let transaction = database.transaction()?;
        {
            let table = kind.table();
            let mut statement = transaction.prepare_cached(&format!(
                "INSERT INTO {table} (id, email, phone, note) VALUES (?1, ?2, ?3, ?4)"
            ))?;
            let cells = match kind {
                Kind::AsLong | Kind::Raw => &self.as_long,
                _ => &self.plaintexts,
            };
            for (id, [email, phone, note]) in rows(first_id, cells) {
                match kind {
                    Kind::Together => {
                        statement.execute(params![id, next()?, next()?, next()?])?;
                    }
                    Kind::CellByCell => {
                        let seal = |(column, _): (&str, usize), plaintext: &[u8]| {
                            anyhow::Ok(self.scope.try_seal(plaintext, &context(column, id)?)?)
                        };
                        let [email, phone, note] = [
                            seal(COLUMNS[0], email)?,
                            seal(COLUMNS[1], phone)?,
                            seal(COLUMNS[2], note)?,
                        ];
                        statement.execute(params![id, email, phone, note])?;
                    }
                    Kind::AsLong | Kind::Raw | Kind::Plain => {
                        if kind == Kind::Raw {
                            self.raw.iter_mut().try_for_each(|raw| raw.seal(1))?;
                        }
                        statement.execute(params![id, email, phone, note])?;
                    }
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn seal_together(&self, first_id: i64) -> anyhow::Result<Envelopes> {
        let mut contexts = Vec::with_capacity(COLUMNS.len() * ROWS);
        for id in (first_id..).take(ROWS) {
            for (column, _) in COLUMNS {
                contexts.push(context(column, id)?);
            }
        }
        let plaintexts = rows(first_id, &self.plaintexts).flat_map(|(_, row)| row);
        let items: Vec<_> = plaintexts.zip(&contexts).collect();
        Ok(self.runtime.block_on(self.scope.seal_many(&items))?)
    }

    /// What was stored last is what was meant to be.
    fn check(&self, database: &Connection) -> anyhow::Result<()> {
        for kind in [Kind::Together, Kind::CellByCell] {
            let table = kind.table();
            let newest = format!("SELECT id, note FROM {table} ORDER BY id DESC LIMIT 1");
            let (id, note): (i64, Vec<u8>) =
                database.query_row(&newest, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let opened = self.scope.try_open(&note, &context("note", id)?)?;
            let expected = self.plaintexts[2].last();
            anyhow::ensure!(Some(&opened.plaintext) == expected, "another note was stored");
        }
        Ok(())
    }
}

fn rows(
    first_id: i64,
    [emails, phones, notes]: &[Vec<Vec<u8>>; 3],
) -> impl Iterator<Item = (i64, [&[u8]; 3])> {
    let cells = emails.iter().zip(phones).zip(notes);
    (first_id..).zip(cells.map(|((email, phone), note)| [&email[..], phone, note]))
}

fn context(column: &str, row: i64) -> anyhow::Result<RecordContext> {
    let row = row.to_string();
    Ok(RecordContext::new([("table", "customers"), ("column", column), ("row", &row)])?)
}

/// A cell of so many bytes for each row.
fn random_rows(bytes: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(5);
    (0..ROWS).map(|_| std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()).collect()
}
