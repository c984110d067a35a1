//! Failures before it is known which call they belong to.

use std::error::Error;
use std::io;
use std::path::Path;

use bulla_backend::{KekId, KmsError, KmsErrorKind, KmsOperation};

/// A [`KmsError`] without operation and KEK: what files and keys report.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: KmsErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(kind: KmsErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(KmsErrorKind::Misconfigured, message)
    }

    /// The same with the error beneath.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A failed system call; `doing` says on what, as in "read the key file".
    pub(crate) fn io(doing: &str, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => KmsErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                KmsErrorKind::Denied
            }
            _ => KmsErrorKind::Unavailable,
        };
        Self::new(kind, format!("cannot {doing}")).because(error)
    }

    pub(crate) fn kind(&self) -> KmsErrorKind {
        self.kind
    }

    /// The same with the path in front of the message.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }

    /// The error of one call.
    pub(crate) fn at(self, operation: KmsOperation, kek: &KekId) -> KmsError {
        let error = KmsError::new(self.kind, operation, kek.clone()).with_message(self.message);
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}
