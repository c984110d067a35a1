//! Who we are to Vault: logins, tokens and how they stay valid.

mod login;
mod renewal;
mod session;

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::failure::Failure;

pub(crate) use session::Session;

/// Where Kubernetes puts the token of a pod's service account.
const KUBERNETES_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How to get a token from Vault.
///
/// All but [`Token`](Self::Token) log in again when their token expires, is revoked or cannot
/// be renewed any longer.
#[derive(Clone)]
#[non_exhaustive]
pub enum VaultAuth {
    /// This token. It is renewed while Vault allows that, and when it has ended, calls fail.
    Token(SecretString),
    /// The token in a file, read anew when it is not valid any more: for Vault Agent and its
    /// like.
    TokenFile(PathBuf),
    /// A role id and a secret id.
    AppRole {
        /// Mount of the method, `approle` unless told otherwise.
        mount: String,
        /// The role id. Not secret.
        role_id: String,
        /// The secret id. A file is read at each login.
        secret_id: VaultSecret,
    },
    /// The token of a Kubernetes service account.
    Kubernetes {
        /// Mount of the method, `kubernetes` unless told otherwise.
        mount: String,
        /// The role.
        role: String,
        /// The file with the token, read at each login.
        jwt_path: PathBuf,
    },
    /// A signed JWT.
    Jwt {
        /// Mount of the method, `jwt` unless told otherwise.
        mount: String,
        /// The role.
        role: String,
        /// The JWT. A file is read at each login.
        jwt: VaultSecret,
    },
    /// The client certificate of the connection
    /// ([`with_identity_pem`](crate::VaultOptions::with_identity_pem)).
    Cert {
        /// Mount of the method, `cert` unless told otherwise.
        mount: String,
        /// The role, or any that takes this certificate.
        role: Option<String>,
    },
}

impl VaultAuth {
    /// This token.
    pub fn token(token: impl Into<SecretString>) -> Self {
        Self::Token(token.into())
    }

    /// The token in this file.
    pub fn token_file(path: impl Into<PathBuf>) -> Self {
        Self::TokenFile(path.into())
    }

    /// AppRole, at the usual mount.
    pub fn app_role(role_id: impl Into<String>, secret_id: impl Into<VaultSecret>) -> Self {
        let (role_id, secret_id) = (role_id.into(), secret_id.into());
        Self::AppRole { mount: "approle".into(), role_id, secret_id }
    }

    /// The service account of this pod, at the usual mount.
    pub fn kubernetes(role: impl Into<String>) -> Self {
        let (mount, jwt_path) = ("kubernetes".into(), KUBERNETES_TOKEN.into());
        Self::Kubernetes { mount, role: role.into(), jwt_path }
    }

    /// A JWT, at the usual mount.
    pub fn jwt(role: impl Into<String>, jwt: impl Into<VaultSecret>) -> Self {
        Self::Jwt { mount: "jwt".into(), role: role.into(), jwt: jwt.into() }
    }

    /// The client certificate of the connection, at the usual mount, under any role.
    pub fn cert() -> Self {
        Self::Cert { mount: "cert".into(), role: None }
    }

    /// The same at another mount; tokens have none.
    #[must_use]
    pub fn at_mount(mut self, at: impl Into<String>) -> Self {
        match &mut self {
            Self::AppRole { mount, .. }
            | Self::Kubernetes { mount, .. }
            | Self::Jwt { mount, .. }
            | Self::Cert { mount, .. } => *mount = at.into(),
            Self::Token(_) | Self::TokenFile(_) => {}
        }
        self
    }

    /// Whether a login sends credentials, which Vault can refuse.
    fn has_credentials(&self) -> bool {
        !matches!(self, Self::Token(_) | Self::TokenFile(_))
    }

    /// Whether another login can give another token.
    fn logs_in(&self) -> bool {
        !matches!(self, Self::Token(_))
    }
}

/// The method, its mount and its role; nothing secret.
impl fmt::Debug for VaultAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
            Self::AppRole { mount, .. } => write!(f, "AppRole({mount})"),
            Self::Kubernetes { mount, role, .. } => write!(f, "Kubernetes({mount}, role {role})"),
            Self::Jwt { mount, role, .. } => write!(f, "Jwt({mount}, role {role})"),
            Self::Cert { mount, role } => write!(f, "Cert({mount}, role {role:?})"),
        }
    }
}

/// A secret that is at hand, or in a file that somebody keeps up to date.
#[derive(Clone)]
#[non_exhaustive]
pub enum VaultSecret {
    /// The secret itself.
    Value(SecretString),
    /// A file that holds it, white space around it aside.
    File(PathBuf),
}

impl VaultSecret {
    async fn read(&self) -> Result<Zeroizing<String>, Failure> {
        match self {
            Self::Value(secret) => Ok(Zeroizing::new(secret.expose_secret().to_owned())),
            Self::File(path) => read_secret(path).await,
        }
    }
}

impl From<SecretString> for VaultSecret {
    fn from(secret: SecretString) -> Self {
        Self::Value(secret)
    }
}

impl From<&Path> for VaultSecret {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl From<PathBuf> for VaultSecret {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// Where it is, never what it is.
impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("VaultSecret([redacted])"),
            Self::File(path) => write!(f, "VaultSecret({})", path.display()),
        }
    }
}

/// The text of a file, without the white space around it.
async fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |why: &dyn fmt::Display| {
        let message = format!("cannot read the credential in {}: {why}", path.display());
        Failure::new(bulla_backend::KmsErrorKind::Unauthenticated, message)
    };
    let bytes = tokio::fs::read(path).await.map_err(|error| unreadable(&error))?;
    let bytes = Zeroizing::new(bytes);
    let text = str::from_utf8(&bytes).map_err(|_| unreadable(&"it is no text"))?.trim();
    if text.is_empty() {
        return Err(unreadable(&"the file is empty"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}
