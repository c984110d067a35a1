//! The envelope format, written down a second time: plain, slow and meant to be read
//! beside the specification, `docs/spec/envelope-v1.md`.
//!
//! It exists to be compared with: a fuzzer runs it against the real implementation, and a
//! runner of test vectors asks it for every intermediate value. For that it shares no code
//! with `bulla-core`. Each function names the section it follows and uses the names found
//! there; slices go in, a `Vec` comes out, nothing is kept.
//!
//! **Test code, never for real keys.** Callers choose the nonces, keys are plain arrays
//! that nobody wipes, MAC and commitment are compared byte by byte in varying time, and no
//! limit on the use of a key is counted.
//!
//! | module | section |
//! |---|---|
//! | [`header`] | 2, structure |
//! | [`context`] | 3, contexts |
//! | [`derive`](mod@derive) | 4, key derivation |
//! | [`aead`], [`one_shot`] | 5, one-shot payload |
//! | [`wraps`] | 6, self-contained envelope |
//! | [`chunks`] | 7, chunked payload |
//! | [`open`], [`Class`] | 8, opening |
//! | [`seal`] | what a sealer writes: 2.1, 5.3, 6.1, 6.6, 7.1 |
//! | [`trace`] | all intermediate values, as appendix B lists them |
//!
//! An opener lists what it accepts, and says by class what it refuses:
//!
//! ```
//! use bulla_testkit::reference::{Class, Inputs, Keys, Opener, seal};
//!
//! let dek = [7; 32];
//! let scope = vec![(b"tenant".to_vec(), b"acme".to_vec())];
//! let nonce = [9; 24];
//! let inputs = Inputs { suite: 1, codec: 0, dek, scope: scope.clone(), record: vec![], nonce };
//! let envelope = seal::referenced_one_shot(&inputs, 1, b"ada@example.org")?;
//!
//! let keys = Keys { deks: vec![(1, dek)], recipients: vec![] };
//! let opener = Opener { scope, record: vec![], kinds: &[0x01], suites: &[1], codec: 0, keys };
//! assert_eq!(opener.open(&envelope)?, b"ada@example.org");
//! assert_eq!(opener.open(&envelope[..67]), Err(Class::Malformed));
//! # Ok::<(), Class>(())
//! ```

pub mod aead;
pub mod chunks;
pub mod context;
pub mod derive;
pub mod header;
pub mod one_shot;
pub mod open;
pub mod seal;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod wraps;

pub use context::Pairs;
pub use header::{Header, Parsed};
pub use open::{Keys, Opener, Recipient};
pub use seal::Inputs;
pub use trace::Trace;
pub use wraps::Entry;

use std::fmt;

/// Why something was refused: the classes of section 8.2, and two more that it mentions
/// without giving them a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The caller's contexts are not allowed.
    Context,
    /// Not an envelope of this format, or its fields and lengths contradict the
    /// specification.
    Malformed,
    /// A version, kind, suite or codec that the specification does not define.
    Unsupported,
    /// Well-formed, but not of the kind, suite or codec asked for.
    NotAccepted,
    /// No DEK in the caller's scope has this version and key id.
    UnknownKey,
    /// MAC, commitment or AEAD failed, or a stream is truncated.
    Authentication,
    /// A range read ends past the end of the plaintext.
    OutOfRange,
    /// Every entry tried failed to unwrap (section 6.4). Section 8.2 leaves the wording to
    /// the key-management service; here there is one.
    KmsFailure,
    /// What a sealer or a rewrap must not write. The classes of section 8.2 are an
    /// opener's and have none for it.
    Refused,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Context => "context error",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::NotAccepted => "not accepted",
            Self::UnknownKey => "unknown key",
            Self::Authentication => "authentication error",
            Self::OutOfRange => "out of range",
            Self::KmsFailure => "failure of a key-management service",
            Self::Refused => "refused to write",
        })
    }
}

impl std::error::Error for Class {}
