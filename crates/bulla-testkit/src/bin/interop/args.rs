//! The command line.

use std::ops::Range;
use std::path::PathBuf;

use bulla_core::{Codec, Library, Suite};
use clap::{Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples (the keys of the specification, appendix B):

  DEK=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

  # One record, there and back.
  echo ada@example.org |
    interop seal --dek $DEK --scope tenant=acme --context row=42 > record
  interop open --dek $DEK --scope tenant=acme --context row=42 < record

  # A stream of any length, in suite 2, by the other library.
  interop seal --dek $DEK --scope tenant=acme --kind chunked --suite 2 < disk.img > sealed
  interop open --dek $DEK --scope tenant=acme --kind chunked --suite 2 \\
    --library rust-crypto < sealed > disk.img

  # Plaintext bytes 1000000 to 1000099 of a stream, and how many chunks that took.
  interop open --dek $DEK --scope tenant=acme --kind chunked --suite 2 \\
    --in sealed --range 1000000..1000100 --stats

  # What an envelope says about itself, without a key.
  interop inspect < record

Exit codes: 0 done, 1 refused, 2 wrong command line, 3 input or output failed. A refusal is
one line on standard error, with its class: malformed, unsupported, not accepted, unknown key,
authentication error, out of range, context error.";

/// Seals and opens Bulla envelopes under a DEK given on the command line, to test other
/// implementations of the format. NEVER USE IT WITH A REAL KEY.
#[derive(Debug, Parser)]
#[command(name = "interop", after_long_help = EXAMPLES, after_help = "`--help` has examples.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Plaintext from standard input, envelope to standard output.
    #[command(after_long_help = EXAMPLES)]
    Seal(Seal),
    /// Envelope from standard input or a file, plaintext to standard output.
    ///
    /// The chunks of a stream are written as they are opened: if it turns out to be cut off or
    /// changed, some plaintext has been written. Only exit code 0 says that it is complete.
    #[command(after_long_help = EXAMPLES)]
    Open(Open),
    /// Header, wraps and lengths of the envelope on standard input, as JSON.
    ///
    /// Bytes are in hexadecimal. Nothing of it is authenticated. The payload is counted and
    /// not looked at.
    Inspect(Inspect),
}

/// What both sealing and opening need.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    /// The DEK, 64 hexadecimal digits.
    #[arg(long, value_name = "HEX")]
    pub(crate) dek: String,
    /// The version of the DEK, 1 and up.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) version: u32,
    /// A pair of the scope context, as text; the value begins after the first `=`. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) scope: Vec<String>,
    /// A pair of the scope context, both in hexadecimal. Repeatable.
    #[arg(long, value_name = "HEX=HEX")]
    pub(crate) scope_hex: Vec<String>,
    /// A pair of the record context, as text. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) context: Vec<String>,
    /// A pair of the record context, both in hexadecimal. Repeatable.
    #[arg(long, value_name = "HEX=HEX")]
    pub(crate) context_hex: Vec<String>,
    /// One payload, at most 2^30 bytes and all of it in memory, or a stream of chunks.
    #[arg(long, value_enum, default_value_t = Form::OneShot)]
    pub(crate) kind: Form,
    /// How the plaintext is encoded: 0 raw, 1 bincode, 2 JSON, 128 to 255 private. The bytes
    /// themselves are neither made nor read by it.
    #[arg(long, value_name = "N", default_value = "0", value_parser = codec)]
    pub(crate) codec: Codec,
    /// The AEAD library. It makes no difference to the bytes.
    #[arg(long, value_name = "NAME", default_value = library_name(Library::default()), value_parser = library)]
    pub(crate) library: Library,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// The suite to seal in: 1 or 2.
    #[arg(long, value_name = "N", default_value = "1", value_parser = suite)]
    pub(crate) suite: Suite,
    /// Binary logarithm of the chunk size, 12 to 22. [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(12..=22))]
    pub(crate) chunk_log2: Option<u8>,
    /// Nonce or salt, 48 hexadecimal digits; without it, fresh from the operating system. Used
    /// twice with one DEK, it gives away both plaintexts.
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Open {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// A suite to accept: 1 or 2. Repeatable.
    #[arg(long, value_name = "N", default_value = "1", value_parser = suite)]
    pub(crate) suite: Vec<Suite>,
    /// The file that holds the envelope, instead of standard input.
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Plaintext bytes A up to and excluding B of a stream; the range is held in memory.
    #[arg(long, value_name = "A..B", value_parser = range, requires = "file")]
    pub(crate) range: Option<Range<u64>>,
    /// How many chunks were fetched for the range, in one line on standard error.
    #[arg(long, requires = "range")]
    pub(crate) stats: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// For people, in some lines, of envelopes up to 2 GiB.
    #[arg(long)]
    pub(crate) text: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    OneShot,
    Chunked,
}

fn suite(text: &str) -> Result<Suite, &'static str> {
    text.parse().ok().and_then(Suite::from_byte).ok_or("1 and 2 are the suites of format 1")
}

fn codec(text: &str) -> Result<Codec, &'static str> {
    let known = text.parse().ok().and_then(Codec::from_byte);
    known.ok_or("codecs are 0, 1, 2 and 128 to 255; the others are reserved")
}

fn range(text: &str) -> Result<Range<u64>, &'static str> {
    let (a, b) = text.split_once("..").ok_or("a range is A..B, without B")?;
    match (a.parse(), b.parse()) {
        (Ok(a), Ok(b)) if a <= b => Ok(a..b),
        (Ok(_), Ok(_)) => Err("the range ends before it begins"),
        _ => Err("a range is A..B, two numbers of bytes"),
    }
}

fn library(name: &str) -> Result<Library, &'static str> {
    let named = Library::ALL.iter().find(|library| library_name(**library) == name);
    named.copied().ok_or("the libraries are aws-lc-rs and rust-crypto")
}

fn library_name(library: Library) -> &'static str {
    match format!("{library:?}").as_str() {
        "AwsLcRs" => "aws-lc-rs",
        _ => "rust-crypto",
    }
}
