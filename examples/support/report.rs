//! What the run tells: a story for people, or one JSON object for programs.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use serde::Serialize;

use super::args::Args;
use super::columns::Columns;
use super::sealing::Sealed;

/// The story on stdout, or nothing.
#[derive(Debug)]
pub(crate) struct Story {
    tell: bool,
    chapters: u32,
}

impl Story {
    /// Tells it, or keeps silent.
    pub(crate) fn new(tell: bool) -> Self {
        Self { tell, chapters: 0 }
    }

    /// What is going to happen.
    pub(crate) fn introduce(&mut self, args: &Args, columns: &Columns) -> io::Result<()> {
        let clear = (0..columns.names.len()).filter(|&column| !columns.is_sealed(column));
        self.write(format_args!("Bulla quickstart: {}\n", args.csv().display()))?;
        self.say(format_args!("sealed    {}", columns.list(columns.sealed.iter().copied())))?;
        self.say(format_args!("in clear  {}", columns.list(clear)))?;
        self.say(format_args!("row key   {}", columns.list([columns.key])))?;
        if let Some(chosen) = args.chosen() {
            self.say(format_args!("          ({chosen}; --help tells how to choose)"))?;
        }
        if columns.positional {
            self.say("          (SQLite cannot tell the names apart: its columns are c1, c2, …)")?;
        }
        Ok(())
    }

    /// Begins the next chapter.
    pub(crate) fn chapter(&mut self, title: &str) -> io::Result<()> {
        self.chapters += 1;
        let number = self.chapters;
        self.write(format_args!("\n{number}. {title}\n"))
    }

    /// One line of it.
    pub(crate) fn say(&mut self, line: impl fmt::Display) -> io::Result<()> {
        self.write(format_args!("   {line}\n"))
    }

    fn write(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        if !self.tell {
            return Ok(());
        }
        match io::stdout().lock().write_fmt(text) {
            // Whoever listened has heard enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.tell = false,
            written => written?,
        }
        Ok(())
    }
}

/// The figures of a run. `--json` prints them under these names.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) rows: u64,
    pub(crate) sealed_cells: u64,
    pub(crate) plaintext_bytes: u64,
    /// Of all cells together; the story tells it.
    #[serde(skip)]
    pub(crate) envelope_bytes: u64,
    /// Of one cell, as measured; 0 if there are none.
    pub(crate) envelope_overhead_bytes: u64,
    pub(crate) kms_calls: u64,
    pub(crate) dek_versions: u32,
    pub(crate) kek_versions: usize,
    pub(crate) stale_before: u64,
    pub(crate) stale_after: u64,
    pub(crate) rewrapped_deks: u64,
    pub(crate) resealed_cells: u64,
    pub(crate) mismatches: u64,
    pub(crate) seal_ns_median: Option<u64>,
    pub(crate) open_ns_median: Option<u64>,
}

impl Figures {
    /// Takes over what sealing has come to.
    pub(crate) fn add_sealed(&mut self, sealed: &Sealed) {
        self.rows = sealed.rows;
        self.sealed_cells = sealed.cells;
        self.plaintext_bytes = sealed.plaintext_bytes;
        self.envelope_bytes = sealed.envelope_bytes;
        let overhead = sealed.envelope_bytes - sealed.plaintext_bytes;
        self.envelope_overhead_bytes = overhead.checked_div(sealed.cells).unwrap_or(0);
        self.seal_ns_median = sealed.latency.median();
    }

    /// The JSON object, on one line.
    pub(crate) fn print_json(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, self)?;
        writeln!(out)
    }
}

/// Latencies in constant memory, to three digits.
#[derive(Debug)]
pub(crate) struct Latency {
    nanoseconds: Histogram<u64>,
    total: Duration,
}

impl Latency {
    /// None yet; up to a minute each.
    pub(crate) fn new() -> Result<Self, CreationError> {
        let nanoseconds = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self { nanoseconds, total: Duration::ZERO })
    }

    /// Adds one.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.total += latency;
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.saturating_record(nanoseconds);
    }

    /// The median in nanoseconds, if there are any.
    pub(crate) fn median(&self) -> Option<u64> {
        (!self.nanoseconds.is_empty()).then(|| self.nanoseconds.value_at_quantile(0.5))
    }
}

/// `median 640 ns, 99 % within 1.2 µs, 3.0 ms in all`, or `n/a`.
impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(median) = self.median() else { return f.write_str("n/a") };
        write!(
            f,
            "median {}, 99 % within {}, {} in all",
            duration(Duration::from_nanos(median)),
            duration(Duration::from_nanos(self.nanoseconds.value_at_quantile(0.99))),
            duration(self.total)
        )
    }
}

/// `12.3 ms`
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_nanos() {
        nanoseconds @ ..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", seconds * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1.2 MiB`
pub(crate) fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            return format!("{amount:.*} {unit}", usize::from(unit != "bytes"));
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} TiB")
}

/// The beginning of an envelope in hexadecimal, by fours: `42554c01 01010000 …`
pub(crate) fn hex(envelope: &[u8]) -> String {
    let groups = envelope.chunks(4).take(5);
    let hex = |group: &[u8]| group.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{} … ({} bytes)", groups.map(hex).collect::<Vec<_>>().join(" "), envelope.len())
}

/// The beginning of a plaintext, harmless to a terminal.
pub(crate) fn excerpt(plaintext: &[u8]) -> String {
    let text = String::from_utf8_lossy(plaintext);
    let start: String = text.chars().take(40).collect();
    let more = if start.len() < text.len() { " …" } else { "" };
    format!("{start:?}{more}")
}
