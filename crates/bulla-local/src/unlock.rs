//! What unlocks a key file: a passphrase or a raw key, and where they come from.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use bulla_core::DataKey;
use data_encoding::HEXLOWER_PERMISSIVE;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::disk;

/// The secret that unlocks a key file; wiped on drop, never shown.
///
/// Either a passphrase, which Argon2id (RFC 9106) stretches once per
/// [`open`](crate::LocalKek::open), or 32 random bytes that are used as they are:
///
/// ```
/// use bulla_local::Unlock;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let typed = Unlock::passphrase("correct horse battery staple".into());
/// // In services, from the environment or from a mounted secret.
/// let missing = Unlock::from_env("THIS_VARIABLE_IS_NOT_SET");
/// assert!(missing.is_err());
/// # drop(typed);
/// # Ok(())
/// # }
/// ```
pub struct Unlock(pub(crate) Secret);

pub(crate) enum Secret {
    Passphrase { text: SecretString, cost: Argon2Cost },
    Raw(DataKey),
}

impl Unlock {
    /// A passphrase, of at least one byte. A new file gets
    /// [`Argon2Cost::RECOMMENDED`].
    ///
    /// The file is only as strong as this text against those who have a copy of it:
    /// let a generator choose it.
    pub fn passphrase(text: SecretString) -> Self {
        Self(Secret::Passphrase { text, cost: Argon2Cost::RECOMMENDED })
    }

    /// The same with another cost for files that it creates. Existing files say
    /// themselves what they cost. Without meaning for a raw key.
    pub fn with_argon2(mut self, new: Argon2Cost) -> Self {
        if let Secret::Passphrase { cost, .. } = &mut self.0 {
            *cost = new;
        }
        self
    }

    /// 32 uniformly random bytes, used without any stretching.
    pub fn raw_key(key: DataKey) -> Self {
        Self(Secret::Raw(key))
    }

    /// The raw key in the environment variable `name`: 64 hexadecimal digits, or 44
    /// characters of base64. (`openssl rand -hex 32` makes one.)
    ///
    /// The environment keeps its copy, and child processes inherit it.
    ///
    /// # Errors
    /// [`UnlockError`] when the variable is missing or holds something else.
    pub fn from_env(name: &str) -> Result<Self, UnlockError> {
        let text = variable(name)?;
        let key = raw_key(text.expose_secret().as_bytes());
        key.map(Self::raw_key).ok_or_else(|| UnlockError::NotAKey { place: place(name) })
    }

    /// The passphrase in the environment variable `name`, taken to the byte.
    ///
    /// # Errors
    /// [`UnlockError`] when the variable is missing, empty or not UTF-8.
    pub fn passphrase_from_env(name: &str) -> Result<Self, UnlockError> {
        let text = variable(name)?;
        match text.expose_secret() {
            "" => Err(UnlockError::Empty { place: place(name) }),
            _ => Ok(Self::passphrase(text)),
        }
    }

    /// Makes the file `path` with a fresh raw key of 32 bytes, readable on Unix for its
    /// owner alone, and takes that. Blocks for one small write.
    ///
    /// # Errors
    /// [`UnlockError`] when there is a file already, or it cannot be written.
    pub fn new_key_file(path: impl AsRef<Path>) -> Result<Self, UnlockError> {
        let path = path.as_ref();
        let failed = |source| UnlockError::Unwritable { path: path.into(), source };
        let key = DataKey::generate().map_err(|error| failed(io::Error::other(error)))?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        file.write_all(key.expose_secret()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Self::raw_key(key))
    }

    /// The raw key in the file `path`: 32 bytes, or the text that
    /// [`from_env`](Self::from_env) takes with white space around it. Blocks for one
    /// small read.
    ///
    /// # Errors
    /// [`UnlockError`] when the file cannot be read, holds something else, or, on
    /// Unix, may be read or written by everybody. (A group may read it, as secrets
    /// that are mounted for a group need.)
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, UnlockError> {
        let path = path.as_ref();
        let failed = |source| UnlockError::Unreadable { path: path.into(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if let Some(mode) = disk::mode(&metadata).filter(|mode| mode & 0o006 != 0) {
            return Err(UnlockError::TooOpen { path: path.into(), mode: mode & 0o777 });
        }
        let bytes = disk::read_bounded(path, RAW_KEY_FILE_BYTES_MAX).map_err(failed)?;
        let bytes = Zeroizing::new(bytes);
        raw_key(&bytes)
            .map(Self::raw_key)
            .ok_or_else(|| UnlockError::NotAKey { place: path.display().to_string() })
    }
}

/// Says which of the two it is.
impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Secret::Passphrase { .. } => "Unlock(passphrase, [redacted])",
            Secret::Raw(_) => "Unlock(raw key, [redacted])",
        })
    }
}

/// Cost of Argon2id, version 1.3.
///
/// Cheaper ones than [`RECOMMENDED`](Self::RECOMMENDED) are for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Argon2Cost {
    /// 64 MiB, 3 passes, 4 lanes: the second recommended option of RFC 9106,
    /// section 4, for machines that cannot spare 2 GiB. A fraction of a second.
    pub const RECOMMENDED: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };

    /// Most memory that a key file may ask for, in KiB: 1 GiB.
    pub const MEMORY_KIB_MAX: u32 = 1 << 20;
    /// Most passes that a key file may ask for.
    pub const PASSES_MAX: u32 = 32;
    /// Most lanes that a key file may ask for.
    pub const LANES_MAX: u32 = 16;

    /// `memory_kib` from 8 KiB per lane (RFC 9106, section 3.1) to 1 GiB, `passes`
    /// from 1 to 32, `lanes` from 1 to 16.
    ///
    /// The upper bounds hold for files that are read too, before memory is taken.
    ///
    /// # Errors
    /// [`UnlockError::CostOutOfBounds`] otherwise.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, UnlockError> {
        let in_bounds = (1..=Self::LANES_MAX).contains(&lanes)
            && (1..=Self::PASSES_MAX).contains(&passes)
            && (8 * lanes..=Self::MEMORY_KIB_MAX).contains(&memory_kib);
        if in_bounds {
            Ok(Self { memory_kib, passes, lanes })
        } else {
            Err(UnlockError::CostOutOfBounds)
        }
    }
}

/// There is no usable secret where one was looked for. None is shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// The environment variable is not set.
    #[error(
        "the environment variable {name} is not set; it has to hold the secret of the key file"
    )]
    Missing {
        /// Name of the variable.
        name: String,
    },
    /// The secret is an empty text.
    #[error("{place} is empty")]
    Empty {
        /// Variable or path.
        place: String,
    },
    /// Not text where text is needed.
    #[error("{place} is not UTF-8")]
    NotText {
        /// Variable or path.
        place: String,
    },
    /// Not the form of a raw key.
    #[error(
        "{place} holds no raw key: 64 hexadecimal digits or 44 characters of base64 are expected, \
         in a file also 32 bytes; `openssl rand -hex 32` makes one"
    )]
    NotAKey {
        /// Variable or path.
        place: String,
    },
    /// The file with the raw key cannot be read.
    #[error("cannot read the raw key in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file for a new raw key could not be made.
    #[error("{} could not be made; an existing file is not overwritten", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody on the machine may read or write the file with the raw key.
    #[error(
        "{} is open to every user of this machine (mode {mode:o}); run `chmod 600` on it, or mount \
         the secret with a stricter mode",
        path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Argon2id parameters that are senseless or too expensive.
    #[error(
        "Argon2id takes 8 KiB per lane to 1 GiB of memory, 1 to 32 passes and 1 to 16 lanes here"
    )]
    CostOutOfBounds,
}

/// More than any form of a raw key takes.
const RAW_KEY_FILE_BYTES_MAX: u64 = 1024;

fn place(name: &str) -> String {
    format!("the environment variable {name}")
}

fn variable(name: &str) -> Result<SecretString, UnlockError> {
    match std::env::var(name) {
        Ok(text) => Ok(text.into()),
        Err(std::env::VarError::NotPresent) => Err(UnlockError::Missing { name: name.into() }),
        Err(std::env::VarError::NotUnicode(text)) => {
            drop(Zeroizing::new(text.into_encoded_bytes()));
            Err(UnlockError::NotText { place: place(name) })
        }
    }
}

/// Decodes straight into the box of the key.
fn raw_key(bytes: &[u8]) -> Option<DataKey> {
    if let Ok(key) = <&[u8; DataKey::LEN]>::try_from(bytes) {
        return Some(DataKey::init_with(|out| out.copy_from_slice(key)));
    }
    let text = bytes.trim_ascii();
    DataKey::try_init_with(|out| match text.len() {
        64 => HEXLOWER_PERMISSIVE.decode_mut(text, out).map(drop).map_err(drop),
        44 => Base64::decode(text, out).map(drop).map_err(drop),
        _ => Err(()),
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_raw_key_is_read() {
        let bytes: [u8; 32] = std::array::from_fn(|i| 200 + i as u8);
        let expected = DataKey::init_with(|out| *out = bytes);
        let hex = data_encoding::HEXLOWER.encode(&bytes);
        let forms = [
            bytes.to_vec(),
            hex.clone().into_bytes(),
            hex.to_uppercase().into_bytes(),
            format!("  {hex}\r\n").into_bytes(),
            Base64::encode_string(&bytes).into_bytes(),
        ];
        for form in forms {
            assert_eq!(
                raw_key(&form),
                Some(DataKey::init_with(|out| *out = *expected.expose_secret()))
            );
        }
    }

    #[test]
    fn what_is_not_a_raw_key_is_refused() {
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"*".repeat(44)] {
            assert_eq!(raw_key(text.as_bytes()), None, "{text:?}");
        }
        // Base64 of 33 bytes is 44 characters too.
        assert_eq!(raw_key(&[b'A'; 44]), None);
    }

    #[test]
    fn debug_shows_nothing() {
        let passphrase = Unlock::passphrase("open sesame".into());
        assert_eq!(format!("{passphrase:?}"), "Unlock(passphrase, [redacted])");
        let raw = Unlock::raw_key(DataKey::init_with(|out| out.fill(65)));
        assert_eq!(format!("{raw:?}"), "Unlock(raw key, [redacted])");
    }

    #[test]
    fn costs_are_bounded_on_both_sides() {
        for (memory, passes, lanes) in
            [(31, 1, 4), (1 << 21, 1, 1), (8, 0, 1), (8, 33, 1), (8, 1, 0), (1 << 20, 1, 17)]
        {
            assert!(Argon2Cost::new(memory, passes, lanes).is_err(), "{memory} {passes} {lanes}");
        }
        assert!(Argon2Cost::new(8, 1, 1).is_ok());
        assert!(Argon2Cost::new(1 << 20, 32, 16).is_ok());
        let Argon2Cost { memory_kib, passes, lanes } = Argon2Cost::RECOMMENDED;
        assert_eq!(Argon2Cost::new(memory_kib, passes, lanes).unwrap(), Argon2Cost::RECOMMENDED);
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = Unlock::from_env("BULLA_LOCAL_NOT_SET").unwrap_err();
        assert!(error.to_string().contains("BULLA_LOCAL_NOT_SET"), "{error}");
        assert!(matches!(error, UnlockError::Missing { .. }));
    }
}
