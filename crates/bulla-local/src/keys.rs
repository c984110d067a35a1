//! The unlock key: derives it, seals versions of the KEK under it, authenticates
//! the file with it.

use argon2::{Algorithm, Argon2, Block, Params, Version as Argon2Version};
use bulla_backend::KmsErrorKind;
use bulla_core::{
    ContextError, DataKey, DekVersion, EnvelopeKey, Header, KeyError, KeyOptions, RecordContext,
    ScopeContext,
};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac as _};
use secrecy::ExposeSecret;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::file::{Bytes, FileId, KeyFile, Method, Salt, Sealed, Version, VersionStatus};
use crate::unlock::{Argon2Cost, Secret, Unlock};

/// HKDF label of the MAC key. The labels of the envelope format start with
/// `bulla.v1/`.
const MAC_LABEL: &[u8] = b"bulla-local.v1/mac\0";

/// Purposes in the scope contexts of the two kinds of envelope made here.
const FILE_PURPOSE: &str = "bulla-local-key-file";
const KEK_PURPOSE: &str = "bulla-local-kek";

/// What opens one key file. The only secret that outlives a call.
#[derive(Debug)]
pub(crate) struct UnlockKey(DataKey);

impl UnlockKey {
    /// The key for a file that says how it is unlocked. Takes a fraction of a
    /// second and up to 1 GiB for passphrases.
    pub(crate) fn of_file(unlock: Unlock, method: &Method) -> Result<Self, Failure> {
        match (unlock.0, method) {
            (Secret::Raw(key), Method::Raw {}) => Ok(Self(key)),
            (
                Secret::Passphrase { text, .. },
                Method::Passphrase { m_cost_kib, t_cost, p_cost, salt },
            ) => {
                let cost = Argon2Cost::new(*m_cost_kib, *t_cost, *p_cost)
                    .map_err(|error| Failure::misconfigured("key file").because(error))?;
                stretch(text.expose_secret(), cost, salt).map(Self)
            }
            (Secret::Raw(_), Method::Passphrase { .. }) => Err(unauthenticated(
                "the key file is unlocked by a passphrase, and a raw key was given",
            )),
            (Secret::Passphrase { .. }, Method::Raw {}) => Err(unauthenticated(
                "the key file is unlocked by a raw key, and a passphrase was given",
            )),
        }
    }

    /// The key for a new file, and what the file has to say about it.
    pub(crate) fn of_new_file(unlock: Unlock) -> Result<(Self, Method), Failure> {
        match unlock.0 {
            Secret::Raw(key) => Ok((Self(key), Method::Raw {})),
            Secret::Passphrase { text, cost } => {
                let salt: Salt = Bytes(random()?);
                let key = stretch(text.expose_secret(), cost, &salt)?;
                let Argon2Cost { memory_kib, passes, lanes } = cost;
                let method = Method::Passphrase {
                    m_cost_kib: memory_kib,
                    t_cost: passes,
                    p_cost: lanes,
                    salt,
                };
                Ok((Self(key), method))
            }
        }
    }

    /// Refuses a file that somebody without the key has written or changed.
    pub(crate) fn verify(&self, file: &KeyFile) -> Result<(), Failure> {
        if self.with_mac(file, |mac| mac.verify_slice(&file.mac.0).is_ok())? {
            return Ok(());
        }
        // Public key ids tell a wrong secret from an edited file.
        let ours = self.envelope_key(file.id)?.key_id();
        let sealed_by_us = |version: &Version| {
            let header = version.material.as_ref().map(|sealed| Header::parse(&sealed.0));
            matches!(header, Some(Ok(header)) if header.key_id == ours)
        };
        Err(if file.versions.iter().any(sealed_by_us) {
            Failure::misconfigured(
                "the key file was changed by something other than bulla; restore it from a backup",
            )
        } else {
            unauthenticated("the passphrase or raw key is not the one that this key file needs")
        })
    }

    /// Authenticates the file as it now is.
    pub(crate) fn authenticate(&self, file: &mut KeyFile) -> Result<(), Failure> {
        file.mac = Bytes(self.with_mac(file, |mac| mac.finalize().into_bytes().into())?);
        Ok(())
    }

    /// A new version of the KEK, sealed.
    pub(crate) fn generate_material(
        &self,
        id: FileId,
        version: DekVersion,
    ) -> Result<Sealed, Failure> {
        self.seal_material(&DataKey::generate().map_err(library)?, id, version)
    }

    /// Seals `material` as `version` of the file `id`.
    pub(crate) fn seal_material(
        &self,
        material: &DataKey,
        id: FileId,
        version: DekVersion,
    ) -> Result<Sealed, Failure> {
        let mut sealed = Sealed::default();
        self.envelope_key(id)?
            .seal_into(material.expose_secret(), &material_context(id, version)?, &mut sealed.0)
            .map_err(|error| Failure::new(KmsErrorKind::Unavailable, "seal").because(error))?;
        Ok(sealed)
    }

    /// Opens the material of a version that still has some.
    pub(crate) fn open_material(
        &self,
        file: &KeyFile,
        version: &Version,
    ) -> Result<DataKey, Failure> {
        let sealed = version.material.as_ref().ok_or_else(|| gone(version.version))?;
        let context = material_context(file.id, version.version)?;
        let key = self.envelope_key(file.id)?;
        DataKey::try_init_with(|out| key.open_into(&sealed.0, &context, out).map(drop)).map_err(
            |error| {
                Failure::misconfigured(
                    "a version in the key file cannot be opened; restore it from a backup",
                )
                .because(error)
            },
        )
    }

    /// The key that wraps as `version`, if that may be used.
    pub(crate) fn wrapping_key(
        &self,
        file: &KeyFile,
        version: &Version,
    ) -> Result<EnvelopeKey, Failure> {
        match version.status {
            VersionStatus::Enabled => {}
            VersionStatus::Disabled => {
                let message = format!("version {} is disabled", version.version);
                return Err(Failure::new(KmsErrorKind::Disabled, message));
            }
            VersionStatus::Destroyed => return Err(gone(version.version)),
        }
        let material = self.open_material(file, version)?;
        let scope = scope(KEK_PURPOSE, file.id)?;
        EnvelopeKey::derive(&material, version.version, &scope, KeyOptions::default())
            .map_err(library)
    }

    /// The key that seals material. There is one version of it per file; a new
    /// passphrase makes another key altogether.
    fn envelope_key(&self, id: FileId) -> Result<EnvelopeKey, Failure> {
        let scope = scope(FILE_PURPOSE, id)?;
        EnvelopeKey::derive(&self.0, DekVersion::FIRST, &scope, KeyOptions::default())
            .map_err(library)
    }

    /// What `f` makes of the MAC over `file`. The states of HMAC, as good as its key, are
    /// wiped from the stack.
    fn with_mac<T>(&self, file: &KeyFile, f: impl FnOnce(Hmac<Sha256>) -> T) -> Result<T, Failure> {
        let bytes = file.authenticated_bytes()?;
        bulla_sys::apart(|| Ok(f(self.hmac()?.chain_update(bytes))))
    }

    fn hmac(&self) -> Result<Hmac<Sha256>, Failure> {
        let key = DataKey::try_init_with(|out| {
            // No Extract: the unlock key is 32 uniform bytes (RFC 5869, section 3.3).
            let hkdf = Hkdf::<Sha256>::from_prk(self.0.expose_secret()).map_err(|_| no_mac())?;
            hkdf.expand(MAC_LABEL, out).map_err(|_| no_mac())
        })?;
        Hmac::new_from_slice(key.expose_secret()).map_err(|_| no_mac())
    }
}

/// Bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| library(KeyError::Random))?;
    Ok(bytes)
}

/// Argon2id, in memory that is wiped: from its last blocks alone the key follows.
fn stretch(passphrase: &str, cost: Argon2Cost, salt: &Salt) -> Result<DataKey, Failure> {
    if passphrase.is_empty() {
        return Err(unauthenticated("the passphrase is empty"));
    }
    let out_of_memory = || {
        let message = format!("Argon2id needs {} MiB of memory", cost.memory_kib.div_ceil(1024));
        Failure::new(KmsErrorKind::Unavailable, message)
    };
    let unusable = |error| Failure::misconfigured("Argon2id refused").because(error);
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(DataKey::LEN))
        .map_err(unusable)?;
    let mut blocks = Zeroizing::new(Vec::new());
    blocks.try_reserve_exact(params.block_count()).map_err(|_| out_of_memory())?;
    blocks.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Argon2Version::V0x13, params);
    DataKey::try_init_with(|out| {
        argon2.hash_password_into_with_memory(
            passphrase.as_bytes(),
            &salt.0,
            out,
            blocks.as_mut_slice(),
        )
    })
    .map_err(unusable)
}

fn scope(purpose: &str, id: FileId) -> Result<ScopeContext, Failure> {
    ScopeContext::new([("purpose", purpose), ("file", &id.to_string())]).map_err(context)
}

fn material_context(id: FileId, version: DekVersion) -> Result<RecordContext, Failure> {
    RecordContext::new([("file", id.to_string()), ("version", version.to_string())])
        .map_err(context)
}

fn gone(version: DekVersion) -> Failure {
    Failure::new(KmsErrorKind::NotFound, format!("version {version} was destroyed"))
}

fn unauthenticated(message: &str) -> Failure {
    Failure::new(KmsErrorKind::Unauthenticated, message)
}

fn library(error: KeyError) -> Failure {
    Failure::new(KmsErrorKind::Unavailable, "a key could not be made").because(error)
}

fn context(error: ContextError) -> Failure {
    Failure::misconfigured("context").because(error)
}

fn no_mac() -> Failure {
    Failure::new(KmsErrorKind::Unavailable, "the MAC key could not be derived")
}
