//! What operators do to a key: each call is one locked, atomic write of the file.

use async_trait::async_trait;
use bulla_backend::{KekVersion, KeyAdmin, KmsError, KmsErrorKind, KmsOperation};
use bulla_core::DekVersion;

use crate::LocalKek;
use crate::failure::Failure;
use crate::file::{KeyFile, KeyStatus, VERSIONS_MAX, Version, VersionStatus};
use crate::kek::{Changed, new_version};
use crate::keys::UnlockKey;
use crate::wrap::label;

/// Labels are the numbers 1 to n.
#[async_trait]
impl KeyAdmin for LocalKek {
    /// Refused while the key is disabled (`Disabled`), and at the 10,000th version
    /// (`Misconfigured`).
    async fn rotate(&self) -> Result<KekVersion, KmsError> {
        self.update(|key, file| {
            if file.status == KeyStatus::Disabled {
                let message = "the whole key is disabled; enable it to rotate";
                return Err(Failure::new(KmsErrorKind::Disabled, message));
            }
            let version = match file.current()?.version.next() {
                Some(next) if file.versions.len() < VERSIONS_MAX => next,
                _ => {
                    return Err(Failure::misconfigured(format!(
                        "a key file holds {VERSIONS_MAX} versions; create a new key and rewrap to it"
                    )));
                }
            };
            file.versions.push(new_version(key, file.id, version)?);
            Ok((Changed::Yes, KekVersion::Reported(label(version))))
        })
        .await
    }

    async fn disable(&self) -> Result<(), KmsError> {
        self.set_status(KeyStatus::Disabled).await
    }

    async fn enable(&self) -> Result<(), KmsError> {
        self.set_status(KeyStatus::Enabled).await
    }

    async fn disable_version(&self, label: &str) -> Result<(), KmsError> {
        let label = label.to_owned();
        self.update(move |_, file| {
            let version = older_version(file, &label, "disabled")?;
            set_version_status(version, VersionStatus::Disabled)
        })
        .await
    }

    async fn enable_version(&self, label: &str) -> Result<(), KmsError> {
        let label = label.to_owned();
        self.update(move |_, file| {
            set_version_status(find_version(file, &label)?, VersionStatus::Enabled)
        })
        .await
    }

    /// At once. The material is removed from the file; copies of the file, in backups
    /// and snapshots, may still hold it, sealed.
    async fn destroy_version(&self, label: &str) -> Result<(), KmsError> {
        let label = label.to_owned();
        self.update(move |_, file| {
            let version = older_version(file, &label, "destroyed")?;
            match version.status {
                VersionStatus::Destroyed => return Ok((Changed::No, ())),
                VersionStatus::Disabled => {}
                VersionStatus::Enabled => {
                    return Err(Failure::misconfigured(format!(
                        "version {label} is enabled; disable it, see what fails, then destroy it"
                    )));
                }
            }
            version.status = VersionStatus::Destroyed;
            version.material = None;
            Ok((Changed::Yes, ()))
        })
        .await
    }
}

impl LocalKek {
    async fn update<T: Send + 'static>(
        &self,
        change: impl FnOnce(&UnlockKey, &mut KeyFile) -> Result<(Changed, T), Failure> + Send + 'static,
    ) -> Result<T, KmsError> {
        self.blocking(KmsOperation::Administer, |kek| kek.update(change)).await
    }

    async fn set_status(&self, status: KeyStatus) -> Result<(), KmsError> {
        self.update(move |_, file| {
            let changed = if file.status == status { Changed::No } else { Changed::Yes };
            file.status = status;
            Ok((changed, ()))
        })
        .await
    }
}

fn set_version_status(
    version: &mut Version,
    status: VersionStatus,
) -> Result<(Changed, ()), Failure> {
    if version.is_destroyed() {
        let message = format!("version {} was destroyed and cannot come back", version.version);
        return Err(Failure::new(KmsErrorKind::NotFound, message));
    }
    let changed = if version.status == status { Changed::No } else { Changed::Yes };
    version.status = status;
    Ok((changed, ()))
}

/// A version that is not the current one.
fn older_version<'a>(
    file: &'a mut KeyFile,
    label: &str,
    what: &str,
) -> Result<&'a mut Version, Failure> {
    let current = file.current()?.version;
    let version = find_version(file, label)?;
    if version.version == current {
        return Err(Failure::misconfigured(format!(
            "version {label} is the current one and cannot be {what} on its own; rotate first"
        )));
    }
    Ok(version)
}

/// The version of a label; one spelling each, so `01` is nothing.
fn find_version<'a>(file: &'a mut KeyFile, label: &str) -> Result<&'a mut Version, Failure> {
    let number = label.parse().ok().and_then(DekVersion::new);
    number
        .filter(|number| number.to_string() == label)
        .and_then(|number| file.version_mut(number))
        .ok_or_else(|| {
            Failure::new(KmsErrorKind::NotFound, "the key file has no version of this label")
        })
}
