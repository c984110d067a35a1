//! The key file on disk: bounded reads, exclusive writers, atomic replacement.
//!
//! Readers take no lock: a rename gives them the old file or the new one, whole.
//! Writers lock a sibling, `<file>.lock`, which stays behind; the key file itself
//! cannot be locked, as every write replaces it. The kernel drops the lock of a
//! process that dies.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bulla_backend::KmsErrorKind;
use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::file::FILE_BYTES_MAX;

/// The right to write one key file, until it is dropped.
pub(crate) struct Writer {
    target: PathBuf,
    _lock: File,
}

impl Writer {
    /// Waits until nobody else writes the key file at `path`.
    ///
    /// Symbolic links are followed, so that writers who name one file in two ways
    /// exclude each other, and a link stays a link.
    pub(crate) fn lock(path: &Path) -> Result<Self, Failure> {
        let target = resolve(path).map_err(|error| Failure::io("find the key file", error))?;
        let doing = "lock the key file (a file with `.lock` at its end, beside it)";
        let lock = open_lock(&target).map_err(|error| Failure::io(doing, error))?;
        lock.lock().map_err(|error| Failure::io(doing, error))?;
        Ok(Self { target, _lock: lock })
    }

    /// Whether there is anything at the path.
    pub(crate) fn exists(&self) -> Result<bool, Failure> {
        self.target.try_exists().map_err(|error| Failure::io("look for the key file", error))
    }

    /// Puts `text` in the place of the key file. Durable when it returns; a crash
    /// before leaves the old file.
    pub(crate) fn replace(&self, text: &[u8]) -> Result<(), Failure> {
        let failed = |error| Failure::io("write the key file", error);
        let new = self.write_beside(text).map_err(failed)?;
        new.persist(&self.target).map_err(|error| failed(error.error))?;
        self.sync_directory()
    }

    /// The same for a file that must not be there yet, not even if somebody made it
    /// without asking for the lock.
    pub(crate) fn create(&self, text: &[u8]) -> Result<(), Failure> {
        let failed = |error| Failure::io("create the key file", error);
        let new = self.write_beside(text).map_err(failed)?;
        new.persist_noclobber(&self.target).map_err(|error| failed(error.error))?;
        self.sync_directory()
    }

    /// Makes an earlier rename durable, of a process that may have died since.
    pub(crate) fn sync_directory(&self) -> Result<(), Failure> {
        // Elsewhere directories cannot be opened; renames are journaled there.
        if cfg!(unix) {
            File::open(directory(&self.target))
                .and_then(|directory| directory.sync_all())
                .map_err(|error| Failure::io("sync the directory of the key file", error))?;
        }
        Ok(())
    }

    /// A synced file with `text` in the same directory, for its owner only or
    /// whoever has access already. Its name is always the same, so that what a killed writer leaves behind is replaced by
    /// the next one and old key material does not pile up.
    fn write_beside(&self, text: &[u8]) -> io::Result<NamedTempFile> {
        let name = with_suffix(&self.target, ".new");
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = tempfile::Builder::new()
            .prefix(name.file_name().unwrap_or(OsStr::new("key.new")))
            .rand_bytes(0)
            .tempfile_in(directory(&self.target))?;
        match std::fs::metadata(&self.target) {
            Ok(old) => keep_access(new.as_file(), &old)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        new.write_all(text)?;
        new.as_file().sync_all()?;
        Ok(new)
    }
}

/// The whole file, if it is regular and at most `max` bytes long.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("over {max} bytes"));
    if metadata.len() > max {
        return Err(too_long());
    }
    // One allocation of the final size, so that no copy of a secret is left behind.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(too_long()) } else { Ok(bytes) }
}

/// The bytes of the key file at `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_bounded(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => {
            Failure::misconfigured("this is not a key file").because(error)
        }
        io::ErrorKind::NotFound => Failure::new(
            KmsErrorKind::NotFound,
            "there is no key file here; create one, or correct the path",
        )
        .because(error),
        _ => Failure::io("read the key file", error),
    })
}

/// Permission bits and file type, where the system has them.
pub(crate) fn mode(metadata: &Metadata) -> Option<u32> {
    #[cfg(unix)]
    {
        Some(std::os::unix::fs::MetadataExt::mode(metadata))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        None
    }
}

/// Opens or makes the lock of a key file, for whoever may write that.
fn open_lock(target: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let lock = options.open(with_suffix(target, ".lock"))?;
    if let Ok(key_file) = std::fs::metadata(target) {
        // Fails if the lock is somebody else's, who has seen to this already.
        let _ = keep_access(&lock, &key_file);
    }
    Ok(lock)
}

/// Gives `file` the owner and permissions of the one that it stands for: a key
/// rotated by root must not become unreadable for the service.
fn keep_access(file: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let ours = file.metadata()?;
        if (ours.uid(), ours.gid()) != (old.uid(), old.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.set_permissions(old.permissions())
}

/// The path without links; its last part may be missing.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(error)?;
            Ok(directory(path).canonicalize()?.join(name))
        }
        resolved => resolved,
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
