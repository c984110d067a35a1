//! A KEK that is connected: how it is found, checked and asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use base64ct::{Base64, Encoding};
use bulla_backend::{KekId, KekState, KeyInspector, KmsError, KmsErrorKind, KmsOperation};
use bulla_core::DataKey;
use rustify::enums::RequestMethod;
use serde::Serialize;
use vaultrs::client::VaultClient;

use crate::auth::Session;
use crate::failure::Failure;
use crate::key::{Binding, Key};
use crate::options::{self, Place};
use crate::wire::{Call, Headers, Reply, Wire};
use crate::{VaultAuth, VaultOptions};

/// One key of a transit engine. Cheap to clone.
///
/// Its [`KekId`] is `vault://<host>:<port>/<mount>/<key>`, with `?namespace=<namespace>` where
/// there is one. The id is in every wrap: a Vault that gets another host name becomes another
/// KEK, unless [`VaultOptions::with_name`] stands in its place.
///
/// ```no_run
/// use bulla_backend::{GenerateRequest, KeyWrapper, UnwrapRequest};
/// use bulla_core::{DekVersion, ScopeContext};
/// use bulla_vault::{VaultAuth, VaultKek, VaultOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let auth = VaultAuth::kubernetes("orders-service");
/// let options = VaultOptions::new("https://vault.internal:8200", "orders", auth);
/// let kek = VaultKek::connect(options).await?;
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "people")])?;
/// let context = scope.kms_context(DekVersion::FIRST);
/// let generated = kek.generate_data_key(GenerateRequest::new(&context)).await?;
/// let request = UnwrapRequest::new(&generated.wrapped, &context);
/// let unwrapped = kek.unwrap_key(request).await?;
/// assert!(unwrapped.data_key == generated.data_key);
/// # Ok(())
/// # }
/// ```
///
/// # Runtime
/// Connecting panics outside a Tokio runtime. It starts a task on the current one, which renews the token until the
/// last clone is dropped. Without it (the runtime may have ended) calls log in themselves
/// when their token is refused.
///
/// # Errors
/// As the contract says. A 403 is `Denied` if Vault still knows the token; if not, one caller
/// logs in for all, and a login that fails is `Unauthenticated`.
#[derive(Clone)]
pub struct VaultKek(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    session: Arc<Session>,
    place: Place,
    pub(crate) kek: KekId,
    pub(crate) mount: String,
    pub(crate) key: String,
    pub(crate) binding: Binding,
    pub(crate) nonce_bytes: usize,
    /// Whether Vault was seen to refuse another context.
    proven: AtomicBool,
}

impl VaultKek {
    /// Logs in, reads the key, and sees to it that Vault binds wraps to their context.
    ///
    /// # Errors
    /// `Misconfigured` where the options, the type of the key or what Vault does with the
    /// context will not do, `NotFound` without such a key, `Unauthenticated` when the login
    /// fails, and as above.
    pub async fn connect(options: VaultOptions) -> Result<Self, KmsError> {
        let place = options.place();
        let kek = place.kek(&options.mount, &options.key);
        let connected = async {
            let session = start(&options).await?;
            Self::of(session, place, options.mount, options.key).await
        };
        connected.await.map_err(|failure| failure.at(KmsOperation::Describe, &kek))
    }

    /// The same by a client of vaultrs, with its token, namespace, certificates and time-outs.
    ///
    /// Its token is renewed; when it has ended, calls fail. A client as `VaultClient::new`
    /// makes it follows redirects, and takes the token along.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_client(
        client: VaultClient,
        mount: impl Into<String>,
        key: impl Into<String>,
    ) -> Result<Self, KmsError> {
        let (mount, key) = (mount.into(), key.into());
        let auth = VaultAuth::token(client.settings.token.clone());
        let mut options = VaultOptions::new(client.settings.address.as_str(), &*key, auth);
        if let Some(namespace) = &client.settings.namespace {
            options = options.with_namespace(namespace);
        }
        let place = options.place();
        let kek = place.kek(&mount, &key);
        let connected = async {
            // Ids have no path: two Vaults behind one host would have keys of one name.
            let options = options.with_plain_http();
            options.checked_address()?;
            let headers = Headers::new(options.namespace.as_deref())?;
            let wire = Wire::new(client);
            let session = Session::start(wire, options.auth, headers.clone(), headers).await?;
            Self::of(session, place, mount, key).await
        };
        connected.await.map_err(|failure| failure.at(KmsOperation::Describe, &kek))
    }

    /// Another key of the same Vault, with the same login.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn another(&self, mount: &str, key: &str) -> Result<Self, KmsError> {
        let (session, place) = (Arc::clone(&self.0.session), self.0.place.clone());
        let kek = place.kek(mount, key);
        let found = Self::of(session, place, mount.into(), key.into()).await;
        found.map_err(|failure| failure.at(KmsOperation::Describe, &kek))
    }

    /// How often this login was made, the first time included: a number to watch, as a token
    /// that is renewed needs no second one.
    pub fn logins(&self) -> u64 {
        self.0.session.logins()
    }

    pub(crate) async fn of(
        session: Arc<Session>,
        place: Place,
        mount: String,
        key: String,
    ) -> Result<Self, Failure> {
        let found = read(&session, &mount, &key).await?;
        let (binding, nonce_bytes) = found.suits()?;
        let kek = place.kek(&mount, &key);
        options::check_id(&kek)?;
        let proven = AtomicBool::new(false);
        let inner = Inner { session, place, kek, mount, key, binding, nonce_bytes, proven };
        match inner.prove().await {
            Ok(()) => {}
            // Operators, and services that only unwrap, need not be able to wrap.
            Err(failure)
                if matches!(failure.kind(), KmsErrorKind::Denied | KmsErrorKind::Disabled) => {}
            Err(failure) => return Err(failure),
        }
        Ok(Self(Arc::new(inner)))
    }
}

/// A session for these options.
pub(crate) async fn start(options: &VaultOptions) -> Result<Arc<Session>, Failure> {
    options::check_names(&options.mount, &options.key)?;
    let wire = Wire::new(options.client()?);
    let engine = Headers::new(options.namespace.as_deref())?;
    let login = match options.auth_namespace.as_deref() {
        None => engine.clone(),
        Some("") => Headers::default(),
        namespace => Headers::new(namespace)?,
    };
    Session::start(wire, options.auth.clone(), engine, login).await
}

pub(crate) async fn read(session: &Session, mount: &str, key: &str) -> Result<Key, Failure> {
    options::check_names(mount, key)?;
    let path = format!("{mount}/keys/{key}");
    session.call(|| Call::bare(RequestMethod::GET, &path)).await?.data()
}

impl Inner {
    /// Asks the engine to do something with the key: `<mount>/<verb>/<key>`.
    pub(crate) async fn ask<B: Serialize + Sync>(
        &self,
        verb: &str,
        body: &B,
    ) -> Result<Reply, Failure> {
        let path = format!("{}/{verb}/{}", self.mount, self.key);
        self.session.call(|| Call::post(&path, body)).await
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The key as it is now.
    pub(crate) async fn read(&self) -> Result<Key, Failure> {
        read(&self.session, &self.mount, &self.key).await
    }

    pub(crate) fn error(&self, operation: KmsOperation, failure: Failure) -> KmsError {
        failure.at(operation, &self.kek)
    }

    /// Sees, once, that what Vault wraps under one context does not unwrap under another.
    ///
    /// A parameter that an endpoint does not know, it ignores, and so does a key of the wrong
    /// kind: everything would work, and nothing be bound. What a server does tells more than
    /// what it says it is.
    pub(crate) async fn prove(&self) -> Result<(), Failure> {
        if self.proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (right, wrong) = (Base64::encode_string(b"probe 1"), Base64::encode_string(b"probe 2"));
        let (data_key, blob) = self.generate(&right).await?;
        let unwrapped = self.decrypt(&blob, &right).await?;
        match self.decrypt(&blob, &wrong).await {
            Err(failure) if failure.kind() == KmsErrorKind::Tampered && unwrapped == data_key => {
                self.proven.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(failure) if failure.kind() != KmsErrorKind::Tampered => Err(failure),
            _ => Err(Failure::misconfigured(
                "this Vault does not bind wraps of the key to their context: use a key with \
                 derived=true, or a newer Vault",
            )),
        }
    }

    /// A new data key and its wrap, under a context in base64.
    pub(crate) async fn generate(&self, context: &str) -> Result<(DataKey, String), Failure> {
        match self.binding {
            Binding::Derived => self.generate_there(context).await,
            // There are Vaults whose endpoint `datakey` does not know associated data.
            Binding::AssociatedData => {
                let data_key = DataKey::generate().map_err(|_| {
                    let message = "the system gives no random bytes";
                    Failure::new(KmsErrorKind::Unavailable, message)
                })?;
                let blob = self.encrypt(&data_key, context).await?;
                Ok((data_key, blob))
            }
        }
    }
}

#[async_trait]
impl KeyInspector for VaultKek {
    /// Versions below `min_decryption_version` are `Disabled`; those that were trimmed are not
    /// in the list. A key that OpenBao has soft-deleted is `Disabled`; one that was deleted
    /// is `NotFound`.
    async fn describe(&self) -> Result<KekState, KmsError> {
        let key = self.0.read().await;
        let key = key.map_err(|failure| self.0.error(KmsOperation::Describe, failure))?;
        Ok(key.state(self.0.kek.clone()))
    }
}

/// The name and how contexts are bound; nothing of the login.
impl fmt::Debug for VaultKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultKek({}, {:?})", self.0.kek, self.0.binding)
    }
}
