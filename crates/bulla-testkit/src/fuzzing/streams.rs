//! Target `streams`: streams in pieces.

use std::cell::Cell;
use std::io::{self, Read};

use arbitrary::{Result, Unstructured};
use bulla_core::{Library, OpenReader};

use super::case::{Case, STREAMS};
use super::{mutate, real};
use crate::reference::Class;

/// Seals a stream in pieces, changes it, and reads it in pieces from a reader that gives
/// few bytes at a time, is interrupted and fails: what comes out is what the reference makes
/// of the whole, or the start of it and the same refusal, for good.
pub fn streams(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let case = Case::take(u, &STREAMS)?;
    let library = *u.choose(Library::ALL)?;
    let sealed = case.seal();
    assert_eq!(real::seal(library, &case, u.int_in_range(1..=9000)?), sealed);
    let Ok(sealed) = sealed else { return Ok(()) };
    let (ask, keks, mut envelope) = (case.ask(), case.keks(), sealed.clone());
    mutate::envelope(u, &mut envelope, case.grid(&sealed))?;
    let script = steps(u)?;
    let sizes = steps(u)?;

    let reference = ask.opener(&case, &keks).open(&envelope);
    assert_eq!(reference.is_ok(), envelope == sealed);
    // An error in the head leaves nothing to go on with.
    let may_fail = Cell::new(false);
    let source = Flaky { bytes: &envelope, at: 0, script: &script, step: 0, may_fail: &may_fail };
    let (opened, result) = match real::reader(library, &ask, &case, &keks, source) {
        Ok(reader) => {
            may_fail.set(true);
            read(reader, &sizes)
        }
        Err(error) => (Vec::new(), Err(real::io_class(&error).unwrap())),
    };
    real::agree(&ask, &envelope, &result.map(|()| opened.clone()), &reference);
    assert!(case.plaintext.starts_with(&opened), "what is not authentic was released");
    Ok(())
}

/// How much to read, or how not to.
#[derive(Clone, Copy)]
enum Step {
    Interrupted,
    Fails,
    Reads(usize),
}

/// What is repeated until the end; it makes progress.
fn steps(u: &mut Unstructured<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for _ in 0..u.int_in_range(0..=6)? {
        steps.push(match u.int_in_range(0..=7_u8)? {
            0 => Step::Interrupted,
            1 => Step::Fails,
            2 => Step::Reads(u.int_in_range(0..=3)?),
            3 => Step::Reads(u.int_in_range(4000..=4200)?),
            _ => Step::Reads(u.int_in_range(1..=10_000)?),
        });
    }
    steps.push(Step::Reads(u.int_in_range(64..=9000)?));
    Ok(steps)
}

/// Reads to the end, over all failures of the source.
fn read(
    mut reader: OpenReader<Flaky<'_>>,
    sizes: &[Step],
) -> (Vec<u8>, std::result::Result<(), Class>) {
    let mut opened = Vec::new();
    let mut buffer = vec![0; 10_000];
    for size in sizes.iter().cycle() {
        let Step::Reads(size) = *size else { continue };
        match reader.read(&mut buffer[..size]) {
            Ok(0) if size > 0 => break,
            Ok(len) => opened.extend_from_slice(&buffer[..len]),
            Err(error) => match real::io_class(&error) {
                None => assert_eq!(error.to_string(), FAILED),
                Some(class) => {
                    for size in [1, 0, 10_000] {
                        let again = reader.read(&mut buffer[..size]);
                        let again = again.map_err(|error| real::io_class(&error));
                        let refused = size > 0 || again != Ok(0);
                        assert!(!refused || again == Err(Some(class)), "{again:?}");
                    }
                    return (opened, Err(class));
                }
            },
        }
    }
    assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    (opened, Ok(()))
}

const FAILED: &str = "the source fails";

/// Reads as its script says.
struct Flaky<'a> {
    bytes: &'a [u8],
    at: usize,
    script: &'a [Step],
    step: usize,
    may_fail: &'a Cell<bool>,
}

impl Read for Flaky<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let step = self.script[self.step % self.script.len()];
        self.step += 1;
        let rest = &self.bytes[self.at..];
        let len = match step {
            Step::Interrupted => return Err(io::ErrorKind::Interrupted.into()),
            Step::Fails if self.may_fail.get() => return Err(io::Error::other(FAILED)),
            Step::Fails => 1,
            // Nothing would mean the end.
            Step::Reads(len) => len.max(1),
        };
        let len = len.min(rest.len()).min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}
