//! A key file that is open: how it is made, found and read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulla_backend::{KekId, KmsError, KmsErrorKind, KmsOperation};
use bulla_core::DekVersion;
use jiff::Timestamp;

use crate::disk::{self, Writer};
use crate::failure::Failure;
use crate::file::{self, FileId, KeyFile, KeyStatus, Mac, Version, VersionStatus};
use crate::keys::{self, UnlockKey};
use crate::unlock::Unlock;

/// The KEK in one key file. Cheap to clone.
///
/// Its [`KekId`] is `local:<name>#<id>`, where the id is the first 16 hexadecimal
/// digits of the file's random one: two files of the same name are two KEKs, and a
/// copy of a file is the same KEK wherever it lies.
///
/// ```
/// use bulla_backend::{GenerateRequest, KeyAdmin, KeyWrapper, UnwrapRequest};
/// use bulla_core::{DataKey, DekVersion, ScopeContext};
/// use bulla_local::{LocalKek, Unlock};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("dev.key");
/// let unlock = Unlock::raw_key(DataKey::generate()?); // or Unlock::from_env("…")
/// let kek = LocalKek::create(&path, "dev", unlock).await?;
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "people")])?;
/// let context = scope.kms_context(DekVersion::FIRST);
/// let generated = kek.generate_data_key(GenerateRequest::new(&context)).await?;
/// kek.rotate().await?;
///
/// let request = UnwrapRequest::new(&generated.wrapped, &context);
/// let unwrapped = kek.unwrap_key(request).await?;
/// assert!(unwrapped.data_key == generated.data_key);
/// assert_eq!(unwrapped.kek_version.label(), Some("1"));
/// # Ok(())
/// # }
/// ```
///
/// # Runtime
/// All calls read the file on Tokio's blocking threads and panic outside a Tokio
/// runtime. A call reads and authenticates the whole file, some 300 bytes per version:
/// retire a key long before its 10,000 versions are used up. Dropping a future gives up waiting for its result; a write
/// that has begun is finished, so that nothing is left half-done.
///
/// # Errors
/// As the contract says, and: `NotFound` without a file, `Unauthenticated` for a
/// wrong passphrase or key, `Denied` or `Unavailable` when the file cannot be read
/// or written, `Misconfigured` when it is malformed, edited, older than one that this
/// object has seen, or another one.
#[derive(Clone)]
pub struct LocalKek(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) kek: KekId,
    path: PathBuf,
    name: String,
    id: FileId,
    pub(crate) key: UnlockKey,
    /// Highest generation read or written.
    generation: AtomicU64,
}

impl LocalKek {
    /// Makes a new key file with one version, and opens it. Its directory must exist.
    ///
    /// `name` has 1 to 64 letters, digits, dots, underscores and hyphens. On Unix the
    /// file is readable for its owner only.
    ///
    /// # Errors
    /// [`KmsError`]: `Misconfigured` when there is a file already or the name will
    /// not do, and as above.
    pub async fn create(
        path: impl AsRef<Path>,
        name: &str,
        unlock: Unlock,
    ) -> Result<Self, KmsError> {
        let name = name.to_owned();
        at_path(path.as_ref(), KmsOperation::Administer, move |path| {
            let writer = Writer::lock(&path)?;
            if writer.exists()? {
                return Err(Failure::misconfigured(
                    "there is a file already, which is not overwritten: it may be the only copy of \
                     a key",
                ));
            }
            Inner::create(path, &writer, name, unlock)
        })
        .await
    }

    /// Opens an existing key file.
    ///
    /// # Errors
    /// [`KmsError`], as above.
    pub async fn open(path: impl AsRef<Path>, unlock: Unlock) -> Result<Self, KmsError> {
        at_path(path.as_ref(), KmsOperation::Describe, move |path| {
            let text = disk::read(&path)?;
            Inner::open(path, &text, unlock)
        })
        .await
    }

    /// Opens the key file, or makes it if there is none. Several processes that start
    /// at once end up with one key.
    ///
    /// Meant for development: in a deployment a missing file should be an error, as a
    /// new key opens nothing that the old one sealed.
    ///
    /// # Errors
    /// [`KmsError`]: `Misconfigured` when the file holds a key of another name, and as
    /// above.
    pub async fn open_or_create(
        path: impl AsRef<Path>,
        name: &str,
        unlock: Unlock,
    ) -> Result<Self, KmsError> {
        let name = name.to_owned();
        at_path(path.as_ref(), KmsOperation::Administer, move |path| {
            let text = match disk::read(&path) {
                Err(failure) if failure.kind() == KmsErrorKind::NotFound => {
                    let writer = Writer::lock(&path)?;
                    if !writer.exists()? {
                        return Inner::create(path, &writer, name, unlock);
                    }
                    disk::read(&path)?
                }
                text => text?,
            };
            let kek = Inner::open(path, &text, unlock)?;
            if kek.0.name == name {
                Ok(kek)
            } else {
                let found = &kek.0.name;
                Err(Failure::misconfigured(format!("the key in it is `{found}`, not `{name}`")))
            }
        })
        .await
    }

    /// Protects the key file with `new` in place of `old`; wrapped keys stay valid.
    /// Objects that are open fail as `Unauthenticated` from now on: open them again.
    ///
    /// Copies of the file made before still yield to `old`. After a leak of both,
    /// this is no remedy: new DEKs under a new KEK are.
    ///
    /// # Errors
    /// [`KmsError`], as above; the file is then unchanged.
    pub async fn change_unlock(
        path: impl AsRef<Path>,
        old: Unlock,
        new: Unlock,
    ) -> Result<Self, KmsError> {
        at_path(path.as_ref(), KmsOperation::Administer, move |path| {
            let (new_key, method) = UnlockKey::of_new_file(new)?;
            let writer = Writer::lock(&path)?;
            let mut file = KeyFile::parse(&disk::read(&path)?)?;
            let old_key = UnlockKey::of_file(old, &file.unlock)?;
            old_key.verify(&file)?;
            for at in 0..file.versions.len() {
                let version = &file.versions[at];
                if !version.is_destroyed() {
                    let material = old_key.open_material(&file, version)?;
                    let sealed = new_key.seal_material(&material, file.id, version.version)?;
                    file.versions[at].material = Some(sealed);
                }
            }
            file.unlock = method;
            file.generation += 1;
            new_key.authenticate(&mut file)?;
            writer.replace(&file.to_text()?)?;
            Ok(Inner::of(path, &file, new_key))
        })
        .await
    }

    /// The key file, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The name that the key was created with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The highest generation of the file that this object has seen; every write adds
    /// one. Kept elsewhere, it reveals that a file was rolled back.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Runs `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        operation: KmsOperation,
        work: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, KmsError> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await.map_err(|failure| self.error(operation, failure))
    }

    pub(crate) fn error(&self, operation: KmsOperation, failure: Failure) -> KmsError {
        failure.in_file(&self.0.path).at(operation, &self.0.kek)
    }
}

impl Inner {
    fn create(
        path: PathBuf,
        writer: &Writer,
        name: String,
        unlock: Unlock,
    ) -> Result<LocalKek, Failure> {
        if !file::is_name(&name) {
            return Err(Failure::misconfigured(
                "the name of a key has 1 to 64 letters, digits, dots, underscores and hyphens",
            ));
        }
        let (key, method) = UnlockKey::of_new_file(unlock)?;
        let id = FileId(keys::random()?);
        let mut file = KeyFile {
            format: file::FORMAT.into(),
            name,
            id,
            unlock: method,
            generation: 1,
            status: KeyStatus::Enabled,
            versions: vec![new_version(&key, id, DekVersion::FIRST)?],
            mac: Mac::default(),
        };
        key.authenticate(&mut file)?;
        writer.create(&file.to_text()?)?;
        Ok(Self::of(path, &file, key))
    }

    fn open(path: PathBuf, text: &[u8], unlock: Unlock) -> Result<LocalKek, Failure> {
        let file = KeyFile::parse(text)?;
        let key = UnlockKey::of_file(unlock, &file.unlock)?;
        key.verify(&file)?;
        Ok(Self::of(path, &file, key))
    }

    fn of(path: PathBuf, file: &KeyFile, key: UnlockKey) -> LocalKek {
        LocalKek(Arc::new(Self {
            kek: KekId::new(format!("local:{}#{}", file.name, file.id.short())),
            path,
            name: file.name.clone(),
            id: file.id,
            key,
            generation: AtomicU64::new(file.generation),
        }))
    }

    /// The file as it is now, authenticated.
    pub(crate) fn load(&self) -> Result<KeyFile, Failure> {
        // Taken before the file is read: a writer may be faster than this reader, and
        // what it writes afterwards must not make the file look old.
        let seen = self.generation.load(Ordering::Acquire);
        let file = KeyFile::parse(&disk::read(&self.path)?)?;
        if file.id != self.id {
            let message = format!("another key file took its place (id {})", file.id);
            return Err(Failure::misconfigured(message));
        }
        self.key.verify(&file)?;
        if file.generation < seen {
            return Err(Failure::misconfigured(format!(
                "the key file went back from generation {seen} to {}; if a backup was restored on \
                 purpose, open it again",
                file.generation
            )));
        }
        self.generation.fetch_max(file.generation, Ordering::AcqRel);
        Ok(file)
    }

    /// Changes the file while nobody else does: reads it, lets `change` edit it, and
    /// writes it if `change` says that it did.
    pub(crate) fn update<T>(
        &self,
        change: impl FnOnce(&UnlockKey, &mut KeyFile) -> Result<(Changed, T), Failure>,
    ) -> Result<T, Failure> {
        let writer = Writer::lock(&self.path)?;
        let mut file = self.load()?;
        let (changed, answer) = change(&self.key, &mut file)?;
        if changed == Changed::No {
            writer.sync_directory()?;
            return Ok(answer);
        }
        file.generation += 1;
        self.key.authenticate(&mut file)?;
        writer.replace(&file.to_text()?)?;
        self.generation.fetch_max(file.generation, Ordering::AcqRel);
        Ok(answer)
    }
}

/// Whether there is something to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    Yes,
    No,
}

/// A fresh version, enabled, dated to the second.
pub(crate) fn new_version(
    key: &UnlockKey,
    id: FileId,
    version: DekVersion,
) -> Result<Version, Failure> {
    let created_at = Timestamp::from_second(Timestamp::now().as_second())
        .map_err(|error| Failure::misconfigured("the clock is out of range").because(error))?;
    let material = Some(key.generate_material(id, version)?);
    Ok(Version { version, status: VersionStatus::Enabled, created_at, material })
}

/// Runs `work` on the absolute form of `path`, before there is a KEK to name in errors.
async fn at_path(
    path: &Path,
    operation: KmsOperation,
    work: impl FnOnce(PathBuf) -> Result<LocalKek, Failure> + Send + 'static,
) -> Result<LocalKek, KmsError> {
    let kek = KekId::new(format!("local:{}", path.display()));
    let path = path.to_owned();
    blocking(move || {
        let path = std::path::absolute(path)
            .map_err(|error| Failure::misconfigured("this is not a path").because(error))?;
        work(path.clone()).map_err(|failure| failure.in_file(&path))
    })
    .await
    .map_err(|failure| failure.at(operation, &kek))
}

/// Runs `work` on a thread that may block. Once begun it runs to its end, whether or
/// not the caller still waits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let message = "the runtime is shutting down, or the call panicked";
        Err(Failure::new(KmsErrorKind::Unavailable, message).because(error))
    })
}

/// Name and place; never the unlock key.
impl fmt::Debug for LocalKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKek({} in {})", self.0.kek, self.0.path.display())
    }
}
