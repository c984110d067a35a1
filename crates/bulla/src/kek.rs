//! KEKs by their URLs: one line of configuration names the KMS, the key and the login.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use bulla::{Manager, MemoryKeyStore, Profile, SystemClock, kek::KekUrl};
//!
//! let url: KekUrl = std::env::var("ORDERS_KEK")?.parse()?; // aws-kms:///alias/orders
//! let opened = url.open(Profile::Production).await?;
//! let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
//! let manager = Manager::builder(Profile::Production, opened.kek, store).start().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything that a URL can say can be said by the typed options of the backends too,
//! which can say more: `bulla::aws::AwsOptions`, `bulla::vault::VaultOptions`,
//! `bulla::local::Unlock`.

mod url;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{AuditSink, Kek, KeyAdmin, KmsClock, KmsError, RotationSchedule};
use bulla_manager::Profile;
use bulla_manager::layers::{Audited, LayerOptions, LayeredAdmin, dependable};

pub use url::{AwsUrl, KekUrl, KekUrlError, LocalUnlock, LocalUrl, SecretId, VaultLogin, VaultUrl};

/// A KEK that was opened by its URL, by role.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenedKek {
    /// For a manager: with time-outs, retries, a circuit breaker and limits around it.
    pub kek: Arc<dyn Kek>,
    /// For operators. What it may do is for the credentials to say. Without time-outs;
    /// recorded if the layers audit.
    pub admin: Arc<dyn KeyAdmin>,
    /// Rotation by the KMS itself, where it has that.
    pub schedule: Option<Arc<dyn RotationSchedule>>,
    /// The KMS's clock, where it tells the time.
    pub clock: Option<Arc<dyn KmsClock>>,
}

/// Why a KEK did not open. Each names the cause, and none repeats a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenKekError {
    /// The URL is wrong, or has no place in this profile.
    #[error(transparent)]
    Url(#[from] KekUrlError),
    /// The KMS, or the key file, said no.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// What unlocks the key file is not there.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Unlock(#[from] bulla_local::UnlockError),
    /// A file that the URL names cannot be read.
    #[error("{parameter}: cannot read {path}: {source}")]
    File {
        /// The parameter that names it.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The KMS did not answer in the time of `LayerOptions::deadline`.
    #[error("the KMS did not answer within {0:?}: look at the address, the network and the KMS")]
    NoAnswer(Duration),
    /// An environment variable is missing.
    #[error(
        "the environment variable {0} is not set; set it, or name a login in the URL: \
         auth=kubernetes, approle, jwt or cert, or token_file"
    )]
    Variable(&'static str),
    /// The key file holds a KEK of another name.
    #[error("the KEK in this file is named `{found}`, not `{wanted}`")]
    OtherName {
        /// The name in the URL.
        wanted: String,
        /// The name in the file.
        found: String,
    },
    /// The backend is not in this build.
    #[error("this build has no backend for `{scheme}:`; enable the feature `{feature}` of `bulla`")]
    NotCompiledIn {
        /// The scheme.
        scheme: &'static str,
        /// The feature that compiles it in.
        feature: &'static str,
    },
}

impl KekUrl {
    /// Opens the KEK and checks that it is there and of a kind that will do, for which the
    /// KMS must answer. Puts the default layers around it.
    ///
    /// Call it inside a tokio runtime. Reads small files. Dropping the future leaves
    /// nothing behind.
    ///
    /// # Errors
    /// [`OpenKekError`].
    pub async fn open(&self, profile: Profile) -> Result<OpenedKek, OpenKekError> {
        self.open_with(profile, LayerOptions::default()).await
    }

    /// [`open`](Self::open) with layers of one's own choice.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        &self,
        profile: Profile,
        layers: LayerOptions,
    ) -> Result<OpenedKek, OpenKekError> {
        self.check(profile)?;
        let connect = async {
            match self {
                Self::Aws(url) => aws(url).await,
                Self::Vault(url) => vault(url).await,
                Self::Local(url) => local(url).await,
            }
        };
        let connected = tokio::time::timeout(layers.deadline, connect).await;
        let mut opened = connected.map_err(|_| OpenKekError::NoAnswer(layers.deadline))??;
        if let Some(sink) = &layers.audit {
            opened.audit_administration(sink);
        }
        opened.kek = dependable(opened.kek, layers);
        Ok(opened)
    }
}

impl OpenedKek {
    /// Operators' calls are recorded like all others. They have no time-out: a rotation may
    /// take its time, and must not be thought to have failed.
    fn audit_administration(&mut self, sink: &Arc<dyn AuditSink>) {
        let audited = || Audited::new(Arc::clone(sink));
        let id = self.kek.kek().clone();
        let admin = Arc::clone(&self.admin);
        self.admin = Arc::new(LayeredAdmin::new(audited(), id.clone(), admin));
        if let Some(schedule) = self.schedule.take() {
            self.schedule = Some(Arc::new(LayeredAdmin::new(audited(), id, schedule)));
        }
    }
}

#[cfg(feature = "aws")]
async fn aws(url: &AwsUrl) -> Result<OpenedKek, OpenKekError> {
    let mut options = bulla_aws::AwsOptions::new(&url.key);
    options.region.clone_from(&url.region);
    options.endpoint.clone_from(&url.endpoint);
    options.profile.clone_from(&url.profile);
    let kek = Arc::new(bulla_aws::AwsKek::connect(options).await?);
    Ok(OpenedKek {
        kek: kek.clone(),
        admin: kek.clone(),
        schedule: Some(kek.clone()),
        clock: Some(kek),
    })
}

#[cfg(not(feature = "aws"))]
async fn aws(_: &AwsUrl) -> Result<OpenedKek, OpenKekError> {
    Err(OpenKekError::NotCompiledIn { scheme: "aws-kms", feature: "aws" })
}

#[cfg(feature = "vault")]
async fn vault(url: &VaultUrl) -> Result<OpenedKek, OpenKekError> {
    let mut auth = vault_auth(&url.login)?;
    if let Some(mount) = &url.auth_mount {
        auth = auth.at_mount(mount);
    }
    let mut options =
        bulla_vault::VaultOptions::new(&url.address, &url.key, auth).with_mount(&url.mount);
    if let Some(namespace) = &url.namespace {
        options = options.with_namespace(namespace);
    }
    if let Some(namespace) = &url.auth_namespace {
        options = options.with_auth_namespace(namespace);
    }
    if let Some(name) = &url.name {
        options = options.with_name(name);
    }
    if let Some(path) = &url.ca_file {
        options = options.with_ca_pem(read("ca_file", path)?);
    }
    if let Some((cert, key)) = &url.identity {
        let mut pem = zeroize::Zeroizing::new(read("cert_file", cert)?);
        let key = zeroize::Zeroizing::new(read("key_file", key)?);
        // Reserved at once: a buffer that grows leaves a copy of the key behind.
        pem.reserve_exact(1 + key.len());
        pem.push(b'\n');
        pem.extend_from_slice(&key);
        options = options.with_identity_pem(std::mem::take(&mut *pem));
    }
    if url.address.starts_with("http:") {
        options = options.with_plain_http();
    }
    let kek = Arc::new(bulla_vault::VaultKek::connect(options).await?);
    Ok(OpenedKek {
        kek: kek.clone(),
        admin: kek.clone(),
        schedule: Some(kek.clone()),
        clock: Some(kek),
    })
}

#[cfg(feature = "vault")]
fn vault_auth(login: &VaultLogin) -> Result<bulla_vault::VaultAuth, OpenKekError> {
    use bulla_vault::{VaultAuth, VaultSecret};

    /// Where Vault's own tools look for a token.
    const TOKEN_VARIABLE: &str = "VAULT_TOKEN";

    Ok(match login {
        VaultLogin::TokenFromEnv => match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => VaultAuth::token(token),
            _ => return Err(OpenKekError::Variable(TOKEN_VARIABLE)),
        },
        VaultLogin::TokenFile(path) => VaultAuth::token_file(path),
        VaultLogin::Token(token) => VaultAuth::token(token.clone()),
        VaultLogin::AppRole { role_id, secret_id } => {
            let secret = match secret_id {
                SecretId::File(path) => VaultSecret::File(path.clone()),
                SecretId::Inline(secret) => VaultSecret::Value(secret.clone()),
            };
            VaultAuth::app_role(role_id, secret)
        }
        VaultLogin::Kubernetes { role, jwt_file } => {
            let mut auth = VaultAuth::kubernetes(role);
            if let (Some(path), VaultAuth::Kubernetes { jwt_path, .. }) = (jwt_file, &mut auth) {
                jwt_path.clone_from(path);
            }
            auth
        }
        VaultLogin::Jwt { role, jwt_file } => VaultAuth::jwt(role, jwt_file.clone()),
        VaultLogin::Cert { role } => {
            VaultAuth::Cert { mount: "cert".to_owned(), role: role.clone() }
        }
    })
}

#[cfg(feature = "vault")]
fn read(parameter: &'static str, path: &std::path::Path) -> Result<Vec<u8>, OpenKekError> {
    std::fs::read(path).map_err(|source| OpenKekError::File {
        parameter,
        path: path.to_owned(),
        source,
    })
}

#[cfg(not(feature = "vault"))]
async fn vault(_: &VaultUrl) -> Result<OpenedKek, OpenKekError> {
    Err(OpenKekError::NotCompiledIn { scheme: "vault", feature: "vault" })
}

#[cfg(feature = "local")]
async fn local(url: &LocalUrl) -> Result<OpenedKek, OpenKekError> {
    use bulla_local::{LocalKek, Unlock};

    let unlock = match &url.unlock {
        LocalUnlock::KeyFile(path) => Unlock::from_file(path)?,
        LocalUnlock::KeyEnv(variable) => Unlock::from_env(variable)?,
        LocalUnlock::PassphraseEnv(variable) => Unlock::passphrase_from_env(variable)?,
    };
    let kek = LocalKek::open(&url.path, unlock).await?;
    match &url.name {
        Some(wanted) if wanted != kek.name() => {
            let (wanted, found) = (wanted.clone(), kek.name().to_owned());
            return Err(OpenKekError::OtherName { wanted, found });
        }
        _ => {}
    }
    let kek = Arc::new(kek);
    Ok(OpenedKek { kek: kek.clone(), admin: kek, schedule: None, clock: None })
}

#[cfg(not(feature = "local"))]
async fn local(_: &LocalUrl) -> Result<OpenedKek, OpenKekError> {
    Err(OpenKekError::NotCompiledIn { scheme: "local", feature: "local" })
}
