//! Reading a vector file (section 1 of the README of the vectors).

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

use super::values::{BYTE_VALUES, NUMBER_VALUES};
use super::{Blob, Expect, KmsFailure, Operation, StoredDek, Unwraps, Value, Vector};
use crate::reference::{Class, Entry};

/// A file is no vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorError {
    /// Name of the vector.
    pub name: String,
    /// What is wrong with it.
    pub message: String,
}

impl VectorError {
    pub(super) fn of(name: &str, message: impl fmt::Display) -> Self {
        Self { name: name.to_owned(), message: message.to_string() }
    }
}

impl fmt::Display for VectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for VectorError {}

/// Keys that a vector cannot do without. `codec` and `accept-suites` have words of their own
/// for "not told".
const REQUIRED: [&str; 6] =
    ["comment", "spec", "expect", "operation", "accept-kinds", "accept-suites"];
/// Keys that may be repeated.
const REPEATED: [&str; 10] = [
    "scope",
    "record",
    "dek",
    "kek",
    "unwraps",
    "unavailable",
    "hole",
    "must-not-unwrap",
    "wrap",
    "entry",
];

impl Vector {
    /// Reads the file of the vector called `name`.
    ///
    /// # Errors
    /// [`VectorError`] for a file that does not have the form of a vector, or has a key that
    /// is not known or repeated where it must not be.
    pub fn parse(name: &str, file: &[u8]) -> Result<Self, VectorError> {
        let error = |message: String| VectorError { name: name.to_owned(), message };
        let end = file.windows(2).position(|two| two == b"\n\n");
        let (header, blob) = match end {
            Some(end) => (&file[..end], &file[end + 2..]),
            None => return Err(error("no empty line after the header".into())),
        };
        let header = str::from_utf8(header).map_err(|_| error("a header not in UTF-8".into()))?;
        let mut lines = header.split('\n');
        if lines.next() != Some("bulla-vector: 1") {
            return Err(error("the first line is not `bulla-vector: 1`".into()));
        }
        let mut vector = Self { name: name.to_owned(), ..Self::default() };
        let (mut seen, mut holes) = (Vec::new(), Vec::new());
        for line in lines {
            let (key, value) =
                line.split_once(':').ok_or_else(|| error(format!("no colon: {line:?}")))?;
            if seen.contains(&key) && !REPEATED.contains(&key) {
                return Err(error(format!("`{key}` is given twice")));
            }
            seen.push(key);
            let value = value.trim_matches(' ');
            match key {
                "hole" => holes.push(words(value, |w| Some((number(w)?, number(w)?)))),
                _ => Some(()).filter(|()| vector.set(key, value) == Some(())).map_or_else(
                    || Err(error(format!("not understood: {key}: {value:.80}"))),
                    Ok,
                )?,
            }
        }
        if let Some(missing) = REQUIRED.iter().chain(&["codec"]).find(|key| !seen.contains(key)) {
            return Err(error(format!("`{missing}` is missing")));
        }
        let holes: Option<Vec<_>> = holes.into_iter().collect();
        let blob = holes.and_then(|holes| Blob::with_holes(blob.to_vec(), &holes));
        vector.envelope = blob.ok_or_else(|| error("holes that do not fit".into()))?;
        Ok(vector)
    }

    /// Takes over one line; `None` if the key is not known or the value not well-formed.
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "comment" => self.comment = value.to_owned(),
            "spec" => {}
            "operation" => self.operation = operation(value)?,
            "expect" => self.expect = expect(value)?,
            "also-conforming" => self.also_conforming = Some(expect(value)?),
            "kms-failure" => {
                self.kms_failure = Some(match value {
                    "refused" => KmsFailure::Refused,
                    "unavailable" => KmsFailure::Unavailable,
                    _ => return None,
                });
            }
            "accept-kinds" => self.kinds = value.split(' ').map(one_byte).collect::<Option<_>>()?,
            "accept-suites" if value == "default" => {}
            "accept-suites" => {
                self.suites = Some(value.split(' ').map(decimal).collect::<Option<_>>()?);
            }
            "codec" if value == "any" => {}
            "codec" => self.codec = Some(decimal(value)?),
            "scope" => self.scope.push(pair(value)?),
            "record" => self.record.push(pair(value)?),
            "dek" => self.deks.push(words(value, |w| {
                Some(StoredDek { version: number(w)?, key_id: bytes(w)?, dek: bytes(w)? })
            })?),
            "kek" => self.keks.push(words(value, |w| Some((number(w)?, bytes(w)?)))?),
            "unavailable" => {
                self.unavailable.push(words(value, |w| Some((number(w)?, bytes(w)?)))?)
            }
            "unwraps" => self.unwraps.push(words(value, unwraps)?),
            "must-not-unwrap" => self.must_not_unwrap.push(hex(value)?),
            "wrap" => self.wraps.push(words(value, entry)?),
            "entry" => self.entries.push(words(value, entry)?),
            "plaintext" => self.plaintext = Some(words(value, plaintext)?),
            "length" => self.length = Some(decimal(value)?),
            "rewrapped-head" => self.rewrapped_head = Some(hex(value)?),
            "rewrapped-sha256" => self.rewrapped_sha256 = Some(hex(value)?),
            "value-json" => self.value_json = Some(value.to_owned()),
            "value-invalid" => self.value_invalid = Some(value.to_owned()),
            _ if NUMBER_VALUES.contains(&key) => {
                self.values.insert(key.to_owned(), Value::Number(decimal(value)?));
            }
            _ if BYTE_VALUES.contains(&key) => {
                self.values.insert(key.to_owned(), Value::Bytes(hex(value)?));
            }
            _ => return None,
        }
        Some(())
    }
}

type Words<'a> = std::str::Split<'a, char>;

/// Reads the words of a value with `read`, which must take all of them.
fn words<T>(value: &str, read: impl FnOnce(&mut Words<'_>) -> Option<T>) -> Option<T> {
    let mut words = value.split(' ');
    let read = read(&mut words)?;
    words.next().is_none().then_some(read)
}

fn number<T: FromStr>(words: &mut Words<'_>) -> Option<T> {
    decimal(words.next()?)
}

fn bytes(words: &mut Words<'_>) -> Option<Vec<u8>> {
    hex(words.next()?)
}

fn decimal<T: FromStr>(word: &str) -> Option<T> {
    word.bytes().all(|digit| digit.is_ascii_digit()).then(|| word.parse().ok())?
}

/// At least one byte in lower-case digits, or `-`.
fn hex(word: &str) -> Option<Vec<u8>> {
    match word {
        "-" => Some(Vec::new()),
        "" => None,
        word => HEXLOWER.decode(word.as_bytes()).ok(),
    }
}

fn one_byte(word: &str) -> Option<u8> {
    match hex(word)?[..] {
        [byte] => Some(byte),
        _ => None,
    }
}

/// Of contexts, where no bytes at all stand for none.
fn pair(value: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (key, value) = value.split_once('=')?;
    let side = |side: &str| HEXLOWER.decode(side.as_bytes()).ok();
    Some((side(key)?, side(value)?))
}

fn entry(w: &mut Words<'_>) -> Option<Entry> {
    Some(Entry { backend: number(w)?, kek_id: bytes(w)?, kek_version: bytes(w)?, blob: bytes(w)? })
}

fn unwraps(w: &mut Words<'_>) -> Option<Unwraps> {
    let (backend, kek_id, blob, dek) = (number(w)?, bytes(w)?, bytes(w)?, bytes(w)?);
    let context = match w.next()? {
        "any" => None,
        context => Some(hex(context)?),
    };
    Some(Unwraps { backend, kek_id, blob, dek, context })
}

/// Plaintexts of vectors are this long at most, in bytes.
const PLAINTEXT_MAX: usize = 1 << 28;

fn plaintext(w: &mut Words<'_>) -> Option<Vec<u8>> {
    match w.next()? {
        "hex" => bytes(w),
        "zeros" => Some(vec![0; number(w).filter(|len| *len <= PLAINTEXT_MAX)?]),
        "counting" => {
            let (first, len): (u64, usize) = (number(w)?, number(w)?);
            let counting = |at: usize| ((first % 251 + at as u64) % 251) as u8;
            (len <= PLAINTEXT_MAX).then(|| (0..len).map(counting).collect())
        }
        _ => None,
    }
}

fn operation(value: &str) -> Option<Operation> {
    words(value, |w| match w.next()? {
        "open" => Some(Operation::Open),
        "range" => {
            let (a, b) = (number(w)?, number(w)?);
            (a <= b).then_some(Operation::Range(a, b))
        }
        "length" => Some(Operation::Length),
        "tail" => Some(Operation::Tail(number(w)?)),
        "parse" => Some(Operation::Parse),
        "rewrap" => Some(Operation::Rewrap),
        _ => None,
    })
}

fn expect(value: &str) -> Option<Expect> {
    Some(Expect::Refusal(match value {
        "success" => return Some(Expect::Success),
        "context error" => Class::Context,
        "malformed" => Class::Malformed,
        "unsupported" => Class::Unsupported,
        "not accepted" => Class::NotAccepted,
        "unknown key" => Class::UnknownKey,
        "authentication error" => Class::Authentication,
        "out of range" => Class::OutOfRange,
        "kms error" => Class::KmsFailure,
        "refused" => Class::Refused,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests;
