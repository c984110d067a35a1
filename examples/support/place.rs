//! Where the database and its keys lie, and what unlocks them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bulla::backend::DataKey;
use bulla::local::{Unlock, UnlockError};
use tempfile::TempDir;

/// The variable with the passphrase of a database that is kept.
const PASSPHRASE: &str = "BULLA_PASSPHRASE";

/// The files of one run, all of them new. Dropping it removes them, unless
/// [`keep`](Self::keep) was called: a run that fails leaves the place empty for the next.
#[derive(Debug)]
pub(crate) struct Place {
    /// The database with the records.
    pub(crate) records: PathBuf,
    /// The directory with the KEK and the wrapped DEKs.
    pub(crate) keys: PathBuf,
    /// What unlocks the KEK, in words.
    pub(crate) unlocked_by: String,
    unlock_file: PathBuf,
    temporary: Option<TempDir>,
    keep: bool,
}

impl Place {
    /// A place under `path` that is kept, or a temporary one; and what unlocks its keys.
    pub(crate) fn choose(path: Option<&Path>) -> Result<(Self, Unlock)> {
        match path {
            Some(path) => Self::kept(path),
            None => Self::temporary(),
        }
    }

    /// A directory that goes with this value, and a passphrase that nobody knows.
    fn temporary() -> Result<(Self, Unlock)> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut place = Self::at(&directory.path().join("records.db"));
        place.temporary = Some(directory);
        place.unlocked_by = "a random passphrase of this run".into();
        let random = DataKey::generate()?;
        let passphrase: String =
            random.expose_secret().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((place, Unlock::passphrase(passphrase.into())))
    }

    /// A database under `path` and its keys beside it, none of which may exist.
    fn kept(path: &Path) -> Result<(Self, Unlock)> {
        let mut place = Self::at(path);
        for taken in [&place.records, &place.keys, &place.unlock_file] {
            if taken.symlink_metadata().is_ok() {
                bail!(
                    "{} exists already and is left as it is: give another path to --db, or move \
                     it away first",
                    taken.display()
                );
            }
        }
        // What is there from here on is of this run.
        place.keep = false;
        let unlock = match Unlock::passphrase_from_env(PASSPHRASE) {
            Ok(unlock) => {
                place.unlocked_by = format!("the passphrase in {PASSPHRASE}");
                unlock
            }
            Err(UnlockError::Missing { .. }) => {
                place.unlocked_by = format!(
                    "{}, a raw key made for it; whoever has both reads the records",
                    place.unlock_file.display()
                );
                Unlock::new_key_file(&place.unlock_file)?
            }
            Err(error) => return Err(error.into()),
        };
        Ok((place, unlock))
    }

    fn at(records: &Path) -> Self {
        Self {
            records: records.into(),
            keys: with_suffix(records, ".keys"),
            unlocked_by: String::new(),
            unlock_file: with_suffix(records, ".unlock"),
            temporary: None,
            keep: true,
        }
    }

    /// What becomes of the files when the run ends, in words.
    pub(crate) fn lifetime(&self) -> &'static str {
        if self.temporary.is_some() { "removed at the end" } else { "kept" }
    }

    /// From now on the files are worth keeping, unless they are temporary.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Nothing but the records was sealed under these keys.
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(with_suffix(&self.records, suffix));
        }
        let _ = fs::remove_dir_all(&self.keys);
        let _ = fs::remove_file(&self.unlock_file);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
