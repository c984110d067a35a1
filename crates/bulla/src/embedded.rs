//! Everything in one directory: no KMS, no server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulla_backend::{KmsError, StoreError};
use bulla_local::{LocalKek, Unlock};
use bulla_manager::{Error, Manager, Profile, blocking};
use bulla_sql::SqliteKeyStore;

/// A manager with the embedded KEK and a key store in SQLite, and both of them for
/// whoever administers them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Embedded {
    /// Gives out scopes.
    pub manager: Manager,
    /// Rotates, disables and destroys versions of the KEK.
    pub kek: Arc<LocalKek>,
    /// Holds the wrapped DEKs.
    pub store: Arc<SqliteKeyStore>,
}

impl Embedded {
    /// Closes the manager, then the store: wipes every cached key and leaves a single
    /// database file. Dropping it wipes too; the other processes on the same store then
    /// learn of its end within a minute.
    ///
    /// # Errors
    /// [`Error::Store`] if the store could not be told that this process ended.
    pub async fn close(&self) -> Result<(), Error> {
        let closed = self.manager.close().await;
        self.store.close().await;
        closed
    }
}

/// Why the embedded set-up did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The directory could not be made.
    #[error("the key directory {path} could not be made")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file could not be opened or made.
    #[error(transparent)]
    Kek(#[from] KmsError),
    /// The key store could not be opened or made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manager did not start.
    #[error(transparent)]
    Manager(#[from] Error),
}

/// Opens, or makes, a KEK (`kek.json`) and a key store (`keys.db`) in `directory`, and
/// starts a manager on them in [`Profile::Development`].
///
/// For development, tests and single machines. **Losing the directory or the unlock
/// secret is losing the data.** For production, give a KMS to [`Manager::builder`]; to
/// run there with a local KEK all the same, open the parts yourself and say
/// [`allow_local_kek`](bulla_manager::ManagerBuilder::allow_local_kek).
///
/// Call it inside a tokio runtime. Dropping the future leaves usable files or none.
///
/// # Errors
/// [`EmbeddedError`], which names the part that failed.
pub async fn open_embedded(
    directory: impl AsRef<Path>,
    unlock: Unlock,
) -> Result<Embedded, EmbeddedError> {
    let (kek, store) = open_parts(directory.as_ref(), unlock).await?;
    let manager =
        Manager::builder(Profile::Development, kek.clone(), store.clone()).start().await?;
    Ok(Embedded { manager, kek, store })
}

/// [`open_embedded`] for code without async. Everything runs on a thread of its own.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let directory = dir.path().join("keys");
/// use bulla::{RecordContext, local::Unlock};
///
/// let unlock = Unlock::passphrase("correct horse battery staple".into());
/// let manager = bulla::open_embedded_blocking(&directory, unlock)?;
/// let people = manager.scope("t-9f2c", "people")?;
/// let record = RecordContext::new([("table", "people"), ("column", "email"), ("row", "42")])?;
/// let sealed = people.seal(b"ada@example.org", &record)?;
/// assert_eq!(people.open(&sealed, &record)?.plaintext, b"ada@example.org");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`open_embedded`].
pub fn open_embedded_blocking(
    directory: impl AsRef<Path>,
    unlock: Unlock,
) -> Result<blocking::Manager, EmbeddedError> {
    let directory = directory.as_ref().to_owned();
    blocking::Manager::start_with(async move {
        let (kek, store) = open_parts(&directory, unlock).await?;
        Ok(Manager::builder(Profile::Development, kek, store))
    })
}

async fn open_parts(
    directory: &Path,
    unlock: Unlock,
) -> Result<(Arc<LocalKek>, Arc<SqliteKeyStore>), EmbeddedError> {
    make_private(directory)
        .map_err(|source| EmbeddedError::Directory { path: directory.to_owned(), source })?;
    let kek = LocalKek::open_or_create(directory.join("kek.json"), "embedded", unlock).await?;
    let store = SqliteKeyStore::open(directory.join("keys.db")).await?;
    Ok((Arc::new(kek), Arc::new(store)))
}

/// Makes the directory and what leads there; on Unix for the owner alone.
fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
