//! Which columns are sealed, which one names the row, and how the database calls them.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use csv::ReaderBuilder;

/// SQLite's limit is 2,000, and one holds the row number.
const COLUMNS_MAX: usize = 1_999;
/// Each is there twice, old and new, where resealed cells are swapped in.
const SEALED_MAX: usize = COLUMNS_MAX / 2;

/// Name of the column with the row number.
pub(crate) const ROW_NUMBER: &str = "row_number";

/// The roles of the columns of a file.
#[derive(Debug)]
pub(crate) struct Columns {
    /// The names in the header.
    pub(crate) names: Vec<String>,
    /// The column that names the row, in the record context too.
    pub(crate) key: usize,
    /// The columns to seal, in the order of the file.
    pub(crate) sealed: Vec<usize>,
    /// The names in the database, quoted.
    pub(crate) sql: Vec<String>,
    /// Whether the names in the database are `c1`, `c2`, … instead of the header's.
    pub(crate) positional: bool,
}

impl Columns {
    /// Chooses from `header`: the columns in `wanted` (lists as in a line of CSV), or
    /// all but the key; the key column `key`, or the first one.
    pub(crate) fn choose(
        header: &[String],
        wanted: Option<&str>,
        key: Option<&str>,
    ) -> Result<Self> {
        ensure!(
            header.len() <= COLUMNS_MAX,
            "the file has {} columns; a table in SQLite holds {COLUMNS_MAX}",
            header.len()
        );
        let key = match key {
            Some(name) => position(header, name, "--key-column")?,
            None => 0,
        };
        let sealed = match wanted {
            Some(list) => {
                let mut sealed = Vec::new();
                for name in split(list)?.iter() {
                    sealed.push(position(header, name, "--columns")?);
                }
                sealed.sort_unstable();
                sealed.dedup();
                sealed
            }
            None => (0..header.len()).filter(|&column| column != key).collect(),
        };
        let key_name = &header[key];
        ensure!(
            !sealed.contains(&key),
            "column {key_name:?} cannot be sealed and name the row at once: leave it out of \
             --columns, or name another one with --key-column"
        );
        ensure!(
            !sealed.is_empty(),
            "there is no column to seal besides the key {key_name:?}; are the columns separated by commas?"
        );
        ensure!(
            sealed.len() <= SEALED_MAX,
            "{} columns are too many to seal; choose up to {SEALED_MAX} with --columns",
            sealed.len()
        );
        let positional = !fits_sqlite(header);
        let sql = header
            .iter()
            .enumerate()
            .map(|(at, name)| if positional { format!("c{}", at + 1) } else { quote(name) })
            .collect();
        Ok(Self { names: header.to_vec(), key, sealed, sql, positional })
    }

    /// Whether `column` is sealed.
    pub(crate) fn is_sealed(&self, column: usize) -> bool {
        self.sealed.binary_search(&column).is_ok()
    }

    /// `email, phone, note`, for people.
    pub(crate) fn list(&self, columns: impl IntoIterator<Item = usize>) -> String {
        let names: Vec<_> = columns.into_iter().map(|column| self.names[column].as_str()).collect();
        let shown = names.iter().take(8).map(|name| name.escape_debug().to_string());
        let mut list = shown.collect::<Vec<_>>().join(", ");
        if names.len() > 8 {
            list.push_str(&format!(" and {} more", names.len() - 8));
        }
        list
    }
}

/// Splits the list the way the file itself is split, so that any name can be given.
fn split(list: &str) -> Result<csv::StringRecord> {
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(list.as_bytes());
    let names = reader.records().next().context("--columns names no column")?;
    names.context("--columns is a list like the first line of the file")
}

fn position(header: &[String], name: &str, option: &str) -> Result<usize> {
    if let Some(at) = header.iter().position(|column| column == name) {
        return Ok(at);
    }
    let available: Vec<_> = header.iter().map(|column| format!("{column:?}")).collect();
    bail!("{option}: there is no column {name:?}; there are {}", available.join(", "))
}

/// SQLite takes any text as a name, but does not tell upper from lower case.
fn fits_sqlite(header: &[String]) -> bool {
    let mut seen = HashSet::from([ROW_NUMBER.to_owned()]);
    header.iter().all(|name| {
        !name.is_empty() && !name.contains('\0') && seen.insert(name.to_ascii_lowercase())
    })
}

/// A name as an SQL identifier, whatever is in it.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
