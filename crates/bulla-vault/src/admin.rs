//! What operators do to a key, in terms of transit.

use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    KekStatus, KekVersion, KeyAdmin, KmsError, KmsErrorKind, KmsOperation, RotationSchedule,
};
use rustify::endpoint::Endpoint;
use rustify::enums::RequestMethod;
use serde::Serialize;
use vaultrs::api::transit::requests::{
    DeleteKeyRequest, RotateKeyRequest, TrimKeyRequest, UpdateKeyConfigurationRequest,
};

use crate::blob::version_number;
use crate::failure::Failure;
use crate::kek::{self, Inner};
use crate::key::Key;
use crate::wire::{Call, Reply};
use crate::{VaultKek, VaultOptions};

/// Shortest period that transit rotates by itself.
const ROTATION_PERIOD_MIN: Duration = Duration::from_secs(60 * 60);

/// How often a write is made that loses against others, and the wait before the second time.
const WRITES_MAX: u32 = 6;
const WRITE_PAUSE: Duration = Duration::from_millis(10);

/// What [`VaultKek::create`] makes: by default AES-256-GCM, with keys derived by context,
/// rotated by hand. It can never be exported or backed up in plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateOptions {
    kind: VaultKeyType,
    derived: bool,
    rotation_period: Option<Duration>,
}

/// Types of transit keys that wrap data keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum VaultKeyType {
    /// AES-256 in GCM, with nonces of 96 bits: `aes256-gcm96`.
    #[default]
    Aes256Gcm96,
    /// ChaCha20-Poly1305: `chacha20-poly1305`.
    ChaCha20Poly1305,
    /// The same with nonces of 192 bits, in OpenBao only: `xchacha20-poly1305`.
    XChaCha20Poly1305,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { kind: VaultKeyType::default(), derived: true, rotation_period: None }
    }
}

impl CreateOptions {
    /// Another type.
    #[must_use]
    pub fn with_type(mut self, kind: VaultKeyType) -> Self {
        self.kind = kind;
        self
    }

    /// Whether each context has a key of its own, or is associated data. Only the former can
    /// be rewrapped without the data key's leaving Vault, and nonces last longer.
    #[must_use]
    pub fn with_derived(mut self, derived: bool) -> Self {
        self.derived = derived;
        self
    }

    /// Rotation by Vault, at least an hour apart.
    #[must_use]
    pub fn with_rotation_period(mut self, period: Duration) -> Self {
        self.rotation_period = Some(period);
        self
    }
}

impl VaultKek {
    /// Makes a new key, and connects to it.
    ///
    /// # Errors
    /// `Misconfigured` when there is a key of this name already, and as
    /// [`connect`](Self::connect).
    pub async fn create(options: VaultOptions, create: CreateOptions) -> Result<Self, KmsError> {
        let place = options.place();
        let kek = place.kek(&options.mount, &options.key);
        let created = async {
            let session = kek::start(&options).await?;
            let (mount, key) = (&*options.mount, &*options.key);
            // Vault itself would leave the old key as it is, and say nothing.
            match kek::read(&session, mount, key).await {
                Err(failure) if failure.kind() == KmsErrorKind::NotFound => {}
                Err(failure) => return Err(failure),
                Ok(_) => return Err(Failure::misconfigured("there is a key of this name already")),
            }
            let body = New {
                kind: create.kind.as_str(),
                derived: create.derived,
                exportable: false,
                allow_plaintext_backup: false,
                auto_rotate_period: seconds(create.rotation_period)?,
            };
            let path = format!("{mount}/keys/{key}");
            session.call(|| Call::post(&path, &body)).await?;
            Self::of(session, place, options.mount, options.key).await
        };
        created.await.map_err(|failure| failure.at(KmsOperation::Administer, &kek))
    }

    /// Deletes the key with all versions, at once and for good: **nothing that it has wrapped
    /// can be unwrapped again.**
    ///
    /// # Errors
    /// As the contract says.
    pub async fn delete(&self) -> Result<(), KmsError> {
        self.administer(async |kek| {
            // The first of these fails without a key.
            kek.read().await?;
            kek.configure(|config| config.deletion_allowed = Some(true)).await?;
            let (mount, name) = (&kek.mount, &kek.key);
            let call = || DeleteKeyRequest { mount: mount.clone(), name: name.clone() };
            kek.write(call).await.map(drop)
        })
        .await
    }

    async fn administer<T>(
        &self,
        work: impl AsyncFnOnce(&Inner) -> Result<T, Failure>,
    ) -> Result<T, KmsError> {
        work(&self.0).await.map_err(|failure| self.0.error(KmsOperation::Administer, failure))
    }
}

#[derive(Serialize)]
struct New {
    #[serde(rename = "type")]
    kind: &'static str,
    derived: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
    auto_rotate_period: String,
}

impl VaultKeyType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm96 => "aes256-gcm96",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
        }
    }
}

/// Transit numbers versions from 1 and has two watermarks: below one, versions do not decrypt;
/// below the other, they are destroyed. So versions are disabled from the oldest up, enabled
/// from the newest down, and destroyed from the oldest up; any other order is `Misconfigured`.
///
/// Vault has no compare-and-swap for watermarks: of two operators at once, the later wins.
#[async_trait]
impl KeyAdmin for VaultKek {
    async fn rotate(&self) -> Result<KekVersion, KmsError> {
        self.administer(async |kek| {
            let (mount, name) = (&kek.mount, &kek.key);
            let call = || RotateKeyRequest { mount: mount.clone(), name: name.clone() };
            let key: Key = match kek.write(call).await?.data() {
                Ok(key) => key,
                // Older Vaults do not answer with the key.
                Err(_) => kek.read().await?,
            };
            Ok(KekVersion::Reported(key.latest_version.to_string().into()))
        })
        .await
    }

    /// By OpenBao's soft deletion, which has no deadline; Vault has nothing of the kind
    /// (`Unsupported`).
    async fn disable(&self) -> Result<(), KmsError> {
        self.administer(async |kek| kek.soft_delete(true).await).await
    }

    /// Takes back a soft deletion.
    async fn enable(&self) -> Result<(), KmsError> {
        self.administer(async |kek| kek.soft_delete(false).await).await
    }

    /// By raising `min_decryption_version`. The oldest enabled version only.
    async fn disable_version(&self, label: &str) -> Result<(), KmsError> {
        self.administer(async |kek| {
            let (key, version) = kek.version(label).await?;
            key.protect_current(version, "disabled")?;
            match key.status_of(version) {
                KekStatus::Destroyed => return Err(destroyed(version)),
                KekStatus::Disabled => return Ok(()),
                _ => {}
            }
            if version != key.min_decryption_version.max(1) {
                return Err(Failure::misconfigured(format!(
                    "transit disables versions from the oldest up: disable version {} first",
                    key.min_decryption_version.max(1)
                )));
            }
            kek.configure(|config| {
                config.min_decryption_version = Some(version + 1);
                // What is set must not be below; 0 is the latest.
                if (1..=version).contains(&key.min_encryption_version) {
                    config.min_encryption_version = Some(version + 1);
                }
            })
            .await
        })
        .await
    }

    /// By lowering `min_decryption_version`. The newest disabled version only.
    async fn enable_version(&self, label: &str) -> Result<(), KmsError> {
        self.administer(async |kek| {
            let (key, version) = kek.version(label).await?;
            match key.status_of(version) {
                KekStatus::Destroyed => return Err(destroyed(version)),
                KekStatus::Disabled => {}
                _ => return Ok(()),
            }
            if version + 1 != key.min_decryption_version {
                return Err(Failure::misconfigured(format!(
                    "transit enables versions from the newest down: enable version {} first",
                    key.min_decryption_version - 1
                )));
            }
            kek.configure(|config| config.min_decryption_version = Some(version)).await
        })
        .await
    }

    /// By trimming, at once. The oldest version that is left only.
    async fn destroy_version(&self, label: &str) -> Result<(), KmsError> {
        self.administer(async |kek| {
            let (key, version) = kek.version(label).await?;
            key.protect_current(version, "destroyed")?;
            match key.status_of(version) {
                KekStatus::Destroyed => return Ok(()),
                KekStatus::Disabled => {}
                _ => {
                    return Err(Failure::misconfigured(format!(
                        "version {version} is enabled; disable it, see what fails, then destroy it"
                    )));
                }
            }
            if version != key.oldest_available() {
                return Err(Failure::misconfigured(format!(
                    "transit destroys versions from the oldest up: destroy version {} first",
                    key.oldest_available()
                )));
            }
            // Transit does not trim while this is unset.
            if key.min_encryption_version <= version {
                let lowest = key.min_decryption_version;
                kek.configure(|config| config.min_encryption_version = Some(lowest)).await?;
            }
            let call = || TrimKeyRequest {
                mount: kek.mount.clone(),
                name: kek.key.clone(),
                min_available_version: version + 1,
            };
            kek.write(call).await.map(drop)
        })
        .await
    }
}

/// By `auto_rotate_period`: at least an hour.
#[async_trait]
impl RotationSchedule for VaultKek {
    async fn rotation_period(&self) -> Result<Option<Duration>, KmsError> {
        self.administer(async |kek| {
            let seconds = kek.read().await?.auto_rotate_period;
            Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
        })
        .await
    }

    async fn set_rotation_period(&self, period: Option<Duration>) -> Result<(), KmsError> {
        self.administer(async |kek| {
            let period = seconds(period)?;
            kek.configure(|config| config.auto_rotate_period = Some(period.clone())).await
        })
        .await
    }
}

impl Inner {
    /// Sends a request that changes the key. OpenBao refuses one of two that meet; as it has
    /// done nothing then, the request is made again. All other failures are the caller's.
    async fn write<E: Endpoint>(&self, call: impl Fn() -> E + Sync) -> Result<Reply, Failure> {
        for attempt in 1..WRITES_MAX {
            match self.session().call(&call).await {
                Err(failure) if failure.is_conflict() => {
                    tokio::time::sleep(WRITE_PAUSE * attempt * attempt).await;
                }
                answer => return answer,
            }
        }
        self.session().call(call).await
    }

    async fn configure(
        &self,
        change: impl Fn(&mut UpdateKeyConfigurationRequest) + Sync,
    ) -> Result<(), Failure> {
        let call = || {
            let (mount, name) = (self.mount.clone(), self.key.clone());
            let mut request = UpdateKeyConfigurationRequest { mount, name, ..Default::default() };
            change(&mut request);
            request
        };
        self.write(call).await.map(drop)
    }

    async fn soft_delete(&self, delete: bool) -> Result<(), Failure> {
        // Asked first: OpenBao accepts the soft deletion of a key that does not exist.
        match self.read().await?.soft_deleted {
            None => {
                let message = "Vault cannot take a whole key out of use, OpenBao can: take the \
                               permission to use it from the policies instead";
                Err(Failure::new(KmsErrorKind::Unsupported, message))
            }
            Some(deleted) if deleted == delete => Ok(()),
            Some(_) => self.soft(delete).await.map(drop),
        }
    }

    async fn soft(&self, delete: bool) -> Result<Reply, Failure> {
        let (method, verb) = match delete {
            true => (RequestMethod::DELETE, "soft-delete"),
            false => (RequestMethod::POST, "soft-delete-restore"),
        };
        let path = format!("{}/keys/{}/{verb}", self.mount, self.key);
        self.write(|| Call::bare(method.clone(), &path)).await
    }

    /// The key, and the number of one of its versions.
    async fn version(&self, label: &str) -> Result<(Key, u64), Failure> {
        let key = self.read().await?;
        match version_number(label).filter(|version| *version <= key.latest_version) {
            Some(version) => Ok((key, version)),
            None => Err(Failure::new(
                KmsErrorKind::NotFound,
                format!("versions are 1 to {}", key.latest_version),
            )),
        }
    }
}

impl Key {
    fn protect_current(&self, version: u64, what: &str) -> Result<(), Failure> {
        if version < self.latest_version {
            return Ok(());
        }
        Err(Failure::misconfigured(format!(
            "version {version} is the current one and cannot be {what} on its own; rotate first"
        )))
    }
}

fn destroyed(version: u64) -> Failure {
    let message = format!("version {version} was destroyed and cannot come back");
    Failure::new(KmsErrorKind::NotFound, message)
}

/// A period as transit takes it; 0 is none.
fn seconds(period: Option<Duration>) -> Result<String, Failure> {
    match period {
        None => Ok("0".into()),
        Some(period) if period >= ROTATION_PERIOD_MIN && period.subsec_nanos() == 0 => {
            Ok(format!("{}s", period.as_secs()))
        }
        Some(_) => Err(Failure::misconfigured(
            "transit rotates by itself every hour or less often, in whole seconds",
        )),
    }
}
