//! Seals and opens Bulla envelopes under a DEK given on the command line, so that other
//! implementations of `docs/spec/envelope-v1.md` can be tested against this one.
//!
//! **Never with a real key**: the DEK, and for sealing the nonce, come from whoever calls, and
//! every process of the machine can read a command line.
//!
//! ```text
//! interop seal --dek HEX --scope tenant=acme --context row=42 < plaintext > envelope
//! interop open --dek HEX --scope tenant=acme --context row=42 < envelope > plaintext
//! interop inspect < envelope
//! ```
//!
//! | exit code | meaning | standard error |
//! |---|---|---|
//! | 0 | done | with `--stats`, one line |
//! | 1 | refused | one line: `interop: CLASS: TEXT`, with the class of section 8.2 |
//! | 2 | the command line is wrong | what is wrong with it |
//! | 3 | input or output failed | one line |
//!
//! A stream is sealed and opened in constant memory, and its chunks are written as they are
//! opened. Those of a stream that turns out to be cut off or changed *have been written* when
//! that is found: exit code and the line on standard error say so, and how much it was.
#![forbid(unsafe_code)]

mod args;
mod failure;
mod hex;
mod inspect;
mod open;
mod seal;

use std::io::{self, BufWriter, Read, StdoutLock, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::Failure;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return failure::usage(&error),
    };
    let done = match &args.command {
        Command::Seal(args) => seal::run(args),
        Command::Open(args) => open::run(args),
        Command::Inspect(args) => inspect::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What is read or written at once, in bytes.
const BUFFER_LEN: usize = 1 << 20;

/// Standard output, in large pieces.
fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(BUFFER_LEN, io::stdout().lock())
}

/// Reads until `buf` is full or there is no more, and returns how much there was.
fn fill(mut reader: impl Read, buf: &mut [u8]) -> Result<usize, Failure> {
    let mut len = 0;
    while len < buf.len() {
        match reader.read(&mut buf[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::input(error)),
        }
    }
    Ok(len)
}

/// Writes the last line of what goes to standard error, if anything.
fn say(line: &str) {
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "interop: {line}");
}
