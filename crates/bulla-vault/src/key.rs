//! What Vault says about a key, and whether it will do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bulla_backend::{KekId, KekState, KekStatus, KekVersion, KekVersionState};
use serde::Deserialize;

use crate::failure::Failure;

/// Versions that are told about at most, the latest of them.
const VERSIONS_MAX: u64 = 10_000;

/// How a wrap is bound to its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Each context has a key of its own, derived by Vault (`derived=true`).
    Derived,
    /// The context is associated data of the AEAD.
    AssociatedData,
}

/// The answer to a read of a key, as far as it matters here.
///
/// Not that of vaultrs, which knows neither the latest version nor newer types of keys.
#[derive(Debug, Deserialize)]
pub(crate) struct Key {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    convergent_encryption: bool,
    pub(crate) latest_version: u64,
    pub(crate) min_decryption_version: u64,
    #[serde(default)]
    pub(crate) min_encryption_version: u64,
    #[serde(default)]
    min_available_version: u64,
    /// Seconds.
    #[serde(default)]
    pub(crate) auto_rotate_period: u64,
    /// OpenBao can take a key out of use; Vault has not this field.
    pub(crate) soft_deleted: Option<bool>,
    /// When versions were made, in seconds since 1970; those that can be read only.
    #[serde(default)]
    keys: BTreeMap<String, serde_json::Value>,
}

impl Key {
    /// How wraps of this key are bound, and the length of its nonces in bytes.
    pub(crate) fn suits(&self) -> Result<(Binding, usize), Failure> {
        let nonce_bytes = match &*self.kind {
            "aes256-gcm96" | "chacha20-poly1305" => 12,
            "xchacha20-poly1305" => 24,
            other => {
                return Err(Failure::misconfigured(format!(
                    "a key of type {other} does not bind a context with 256 bits: create one of \
                     type aes256-gcm96, chacha20-poly1305 or xchacha20-poly1305"
                )));
            }
        };
        if self.convergent_encryption {
            return Err(Failure::misconfigured(
                "a key with convergent encryption repeats nonces: create one without",
            ));
        }
        let binding = if self.derived { Binding::Derived } else { Binding::AssociatedData };
        Ok((binding, nonce_bytes))
    }

    /// The oldest version that has not been destroyed.
    pub(crate) fn oldest_available(&self) -> u64 {
        self.min_available_version.max(1)
    }

    /// The state of one version that the key has or had.
    pub(crate) fn status_of(&self, version: u64) -> KekStatus {
        if version < self.oldest_available() {
            KekStatus::Destroyed
        } else if version < self.min_decryption_version {
            KekStatus::Disabled
        } else {
            KekStatus::Enabled
        }
    }

    /// The state of the key. Destroyed versions are left out: there may be any number.
    pub(crate) fn state(&self, kek: KekId) -> KekState {
        let status = match self.soft_deleted {
            Some(true) => KekStatus::Disabled,
            _ => KekStatus::Enabled,
        };
        let oldest = self.latest_version.saturating_sub(VERSIONS_MAX - 1);
        let oldest = oldest.max(self.oldest_available());
        let versions = (oldest..=self.latest_version).map(|version| {
            let label = version.to_string();
            let made = self.keys.get(&label).and_then(serde_json::Value::as_u64);
            let made =
                made.and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)));
            let state = KekVersionState::new(label, self.status_of(version));
            made.into_iter().fold(state, KekVersionState::with_created_at)
        });
        let current = KekVersion::Reported(Arc::from(self.latest_version.to_string()));
        KekState::new(kek, status, current).with_versions(versions.collect())
    }
}
