//! One login, by each method.

use std::time::Duration;

use bulla_backend::KmsErrorKind;
use rustify::enums::RequestMethod;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{VaultAuth, read_secret};
use crate::failure::Failure;
use crate::options;
use crate::wire::{Call, Headers, Wire};

/// A token that a login gave.
pub(super) struct Grant {
    /// Names the token, in the namespace of the login.
    pub(super) headers: Headers,
    pub(super) lease: Lease,
}

/// For how long a token is valid, and whether Vault will prolong that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lease {
    /// `None`: it does not end.
    pub(super) ttl: Option<Duration>,
    pub(super) renewable: bool,
}

impl Lease {
    fn new(ttl_seconds: u64, renewable: bool) -> Self {
        let ttl = (ttl_seconds > 0).then(|| Duration::from_secs(ttl_seconds));
        Self { ttl, renewable }
    }
}

/// The part of an answer about a token that was granted or renewed.
#[derive(Deserialize)]
struct Granted<'a> {
    client_token: &'a str,
    lease_duration: u64,
    renewable: bool,
}

/// What a login sends, by any method.
#[derive(Serialize, Default)]
struct Credentials<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    /// The role, as the method `cert` calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl VaultAuth {
    /// Gets a token. `headers` names the namespace.
    pub(super) async fn log_in(&self, wire: &Wire, headers: &Headers) -> Result<Grant, Failure> {
        match self {
            Self::Token(token) => {
                let token = Zeroizing::new(token.expose_secret().to_owned());
                existing(wire, headers, token).await
            }
            Self::TokenFile(path) => existing(wire, headers, read_secret(path).await?).await,
            Self::AppRole { mount, role_id, secret_id } => {
                let secret_id = secret_id.read().await?;
                let (role_id, secret_id) = (Some(&**role_id), Some(secret_id.as_str()));
                let credentials = Credentials { role_id, secret_id, ..Default::default() };
                granted(wire, headers, mount, credentials).await
            }
            Self::Kubernetes { mount, role, jwt_path } => {
                let jwt = read_secret(jwt_path).await?;
                let (role, jwt) = (Some(&**role), Some(jwt.as_str()));
                granted(wire, headers, mount, Credentials { role, jwt, ..Default::default() }).await
            }
            Self::Jwt { mount, role, jwt } => {
                let jwt = jwt.read().await?;
                let (role, jwt) = (Some(&**role), Some(jwt.as_str()));
                granted(wire, headers, mount, Credentials { role, jwt, ..Default::default() }).await
            }
            Self::Cert { mount, role } => {
                let credentials = Credentials { name: role.as_deref(), ..Default::default() };
                granted(wire, headers, mount, credentials).await
            }
        }
    }
}

/// A token that somebody else was granted.
async fn existing(
    wire: &Wire,
    headers: &Headers,
    mut token: Zeroizing<String>,
) -> Result<Grant, Failure> {
    let token = Zeroizing::new(std::mem::take(&mut *token).into_bytes());
    let headers = headers.with_token(token)?;
    let lease = lookup(wire, &headers).await?;
    Ok(Grant { headers, lease })
}

/// Looks a token up by itself. Its being invalid is
/// [`Unauthenticated`](KmsErrorKind::Unauthenticated).
///
/// The policy `default` allows this to every token; ours do so too. A token that may not do
/// it cannot be told from one that is not valid.
pub(super) async fn lookup(wire: &Wire, headers: &Headers) -> Result<Lease, Failure> {
    #[derive(Deserialize)]
    struct Token {
        ttl: u64,
        #[serde(default)]
        renewable: bool,
        expire_time: Option<serde::de::IgnoredAny>,
    }
    let call = Call::bare(RequestMethod::GET, "auth/token/lookup-self");
    let answer = wire.exchange(call, headers).await;
    let answer = answer.map_err(|failure| match failure.is_forbidden() {
        true => Failure::new(
            KmsErrorKind::Unauthenticated,
            "the token has expired, was revoked or is none: supply another one",
        ),
        false => failure,
    })?;
    let token: Token = answer.data()?;
    let lease = Lease::new(token.ttl, token.renewable);
    // Of a token in its last second, not of one that lasts for ever.
    let last = token.expire_time.map(|_| Duration::ZERO);
    Ok(Lease { ttl: lease.ttl.or(last), ..lease })
}

/// Prolongs a token's life as far as Vault allows.
pub(super) async fn renew(wire: &Wire, headers: &Headers) -> Result<Lease, Failure> {
    // The path that vaultrs has for this begins with a tab.
    let call = Call::bare(RequestMethod::POST, "auth/token/renew-self");
    let answer = wire.exchange(call, headers).await?;
    let granted: Granted<'_> = answer.auth()?;
    Ok(Lease::new(granted.lease_duration, granted.renewable))
}

async fn granted(
    wire: &Wire,
    headers: &Headers,
    mount: &str,
    credentials: Credentials<'_>,
) -> Result<Grant, Failure> {
    options::check_names(mount, "login")?;
    let path = format!("auth/{mount}/login");
    let answer = wire.exchange(Call::post(&path, &credentials), headers).await;
    let answer = answer.map_err(|failure| match failure.kind() {
        // Each method has its own status and words for a credential that it does not take.
        KmsErrorKind::Denied | KmsErrorKind::Misconfigured | KmsErrorKind::NotFound
            if failure.is_answer() =>
        {
            let message =
                "Vault does not take this login: check method, mount, role and credential";
            Failure::new(KmsErrorKind::Unauthenticated, message)
        }
        _ => failure,
    })?;
    let granted: Granted<'_> = answer.auth()?;
    let token = Zeroizing::new(granted.client_token.as_bytes().to_vec());
    Ok(Grant {
        headers: headers.with_token(token)?,
        lease: Lease::new(granted.lease_duration, granted.renewable),
    })
}
