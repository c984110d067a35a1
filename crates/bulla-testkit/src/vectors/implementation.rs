//! What is run: an implementation of the format, by its results.

use std::fmt;

use super::{Keks, Value, Vector};
use crate::reference::{Class, Entry, Inputs};

/// An implementation of the format.
pub trait Implementation {
    /// How reports call it.
    fn name(&self) -> String;

    /// Performs the operation of `vector`, with `keks` made of the same vector.
    ///
    /// # Errors
    /// [`Refusal`].
    fn run(&self, vector: &Vector, keks: &Keks<'_>) -> Result<Output, Refusal>;

    /// Seals with a nonce and, in a self-contained envelope, a DEK of the caller's.
    ///
    /// # Errors
    /// [`Refusal`].
    fn seal(&self, sealing: &Sealing) -> Result<Vec<u8>, Refusal>;

    /// Those intermediate values of `vector` that this implementation lets one see, `dek`
    /// being the DEK that its envelope names.
    ///
    /// # Errors
    /// [`Refusal`] if the envelope or the contexts are not in order.
    fn values(
        &self,
        vector: &Vector,
        dek: &[u8; 32],
    ) -> Result<Vec<(&'static str, Value)>, Refusal>;

    /// Whether it reads typed values; then they are decoded by the codecs of `bulla-core`.
    fn reads_values(&self) -> bool {
        false
    }
}

/// What an operation results in.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// The plaintext, or the part of it that was asked for.
    Plaintext(Vec<u8>),
    /// The length of the plaintext, in bytes.
    Length(u64),
    /// The header parses.
    Parsed,
    /// The envelope with other wraps.
    Rewrapped {
        /// Up to the payload.
        head: Vec<u8>,
        /// All of it.
        envelope: Vec<u8>,
    },
}

/// Bytes by their number and the first few: a failed comparison has to be readable.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, bytes) = match self {
            Self::Plaintext(bytes) => ("plaintext", bytes),
            Self::Rewrapped { head, .. } => ("rewrapped head", head),
            Self::Length(len) => return write!(f, "length {len}"),
            Self::Parsed => return f.write_str("parsed"),
        };
        write!(f, "{what} of {} bytes, {}", bytes.len(), super::values::abbreviated(bytes))
    }
}

/// Why an operation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// By a class of the specification, and the text that goes with it.
    Class(Class, String),
    /// By an error of no class, or the implementation contradicted itself.
    Unexpected(String),
}

impl Refusal {
    /// The class, if it has one.
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Class(class, _) => Some(*class),
            Self::Unexpected(_) => None,
        }
    }
}

impl From<Class> for Refusal {
    fn from(class: Class) -> Self {
        Self::Class(class, class.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class, text) => write!(f, "{class} ({text})"),
            Self::Unexpected(text) => write!(f, "unexpected: {text}"),
        }
    }
}

/// What an envelope is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    /// Byte 4 of the header.
    pub kind: u8,
    /// Byte 7 of the header: 0 in one-shot kinds.
    pub chunk_log2: u8,
    /// The DEK version: 0 in self-contained kinds.
    pub version: u32,
    /// What all kinds have in common.
    pub inputs: Inputs,
    /// The wraps of a self-contained kind.
    pub entries: Vec<Entry>,
    /// The plaintext.
    pub plaintext: Vec<u8>,
}
