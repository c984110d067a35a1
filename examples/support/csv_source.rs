//! The CSV file, row by row, with errors that name line and column.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use csv::{Reader, ReaderBuilder, StringRecord};

use super::framing::{Flaw, Framing};

/// A CSV file whose first record names the columns.
#[derive(Debug)]
pub(crate) struct CsvSource {
    path: PathBuf,
    reader: Reader<Framing<File>>,
    header: Vec<String>,
    record: StringRecord,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CsvRow<'a> {
    /// The line in which it begins.
    pub(crate) line: u64,
    /// As many fields as the header has.
    pub(crate) fields: &'a StringRecord,
    source: &'a CsvSource,
}

impl CsvRow<'_> {
    /// `people.csv, line 3, column "note"`, for error messages.
    pub(crate) fn place(&self, column: usize) -> String {
        self.source.place(self.line, column)
    }
}

impl CsvSource {
    /// Opens the file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let unreadable = || format!("cannot read {}", path.display());
        let metadata = path.metadata().with_context(unreadable)?;
        ensure!(
            metadata.is_file(),
            "{} is not a regular file; it is read twice, to seal and to verify",
            path.display()
        );
        let framing = Framing::new(File::open(path).with_context(unreadable)?);
        // `flexible`, as `next_row` says better what is wrong with the number of fields.
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(framing.with_context(unreadable)?);
        let mut source =
            Self { path: path.into(), reader, header: Vec::new(), record: StringRecord::new() };
        ensure!(
            source.read()?,
            "{} is empty; its first line has to name the columns",
            path.display()
        );
        source.header = source.record.iter().map(str::to_owned).collect();
        source.check_header()?;
        Ok(source)
    }

    /// The names of the columns.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// The next row; `None` at the end of the file.
    pub(crate) fn next_row(&mut self) -> Result<Option<CsvRow<'_>>> {
        if !self.read()? {
            return Ok(None);
        }
        let (found, expected) = (self.record.len(), self.header.len());
        let line = self.line();
        if found < expected {
            let place = self.place(line, found);
            bail!("{place}: the row ends before this column, with {found} of {expected} fields");
        }
        if found > expected {
            let place = self.place(line, expected - 1);
            bail!("{place}: the row goes on after this column, with {found} of {expected} fields");
        }
        Ok(Some(CsvRow { line, fields: &self.record, source: self }))
    }

    /// The line of data row `number`, counted from 1, for error messages: reads the
    /// file again rather than remember every line.
    pub(crate) fn line_of_row(&self, number: i64) -> Result<u64> {
        let mut again = Self::open(&self.path)?;
        for _ in 1..number {
            again.next_row()?;
        }
        let row = again.next_row()?.context("the file has changed meanwhile")?;
        Ok(row.line)
    }

    /// Opens the same file at its first row.
    pub(crate) fn reopen(&self) -> Result<Self> {
        Self::open(&self.path)
    }

    /// `people.csv, line 3, column "note"`.
    pub(crate) fn place(&self, line: u64, column: usize) -> String {
        let path = self.path.display();
        match self.header.get(column) {
            Some(name) => format!("{path}, line {line}, column {name:?}"),
            None => format!("{path}, line {line}, column {}", column + 1),
        }
    }

    /// Length of the file and how much of it is read, in bytes.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let framing = self.reader.get_ref();
        (self.path.metadata().map_or(0, |metadata| metadata.len()), framing.bytes_read())
    }

    fn line(&self) -> u64 {
        self.reader.get_ref().record_line()
    }

    fn read(&mut self) -> Result<bool> {
        let read = self.reader.read_record(&mut self.record);
        read.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: csv::Error) -> anyhow::Error {
        match error.into_kind() {
            csv::ErrorKind::Utf8 { err, .. } => {
                let place = self.place(self.line(), err.field());
                anyhow!("{place}: this is not UTF-8 from byte {} of the field", err.valid_up_to())
            }
            csv::ErrorKind::Io(error) => self.explain_io(error),
            other => anyhow!("{}, line {}: {other:?}", self.path.display(), self.line()),
        }
    }

    fn explain_io(&self, error: io::Error) -> anyhow::Error {
        match error.downcast::<Flaw>() {
            Ok(flaw) => anyhow!("{}: {}", self.place(flaw.line, flaw.field), flaw.kind),
            Err(error) => {
                anyhow::Error::new(error).context(format!("cannot read {}", self.path.display()))
            }
        }
    }

    fn check_header(&self) -> Result<()> {
        let mut sorted: Vec<_> = self.header.iter().enumerate().collect();
        sorted.sort_by_key(|&(at, name)| (name, at));
        for pair in sorted.windows(2) {
            let [(first, name), (second, other)] = pair else { continue };
            ensure!(
                name != other,
                "{}: columns {} and {} have the same name",
                self.place(self.line(), *second),
                first + 1,
                second + 1
            );
        }
        Ok(())
    }
}
