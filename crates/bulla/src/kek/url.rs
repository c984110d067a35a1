//! What the URL of a KEK says, before anything is opened.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use bulla_manager::Profile;
use iri_string::types::UriStr;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use secrecy::SecretString;

/// Longest URL that is looked at, in bytes.
const URL_BYTES_MAX: usize = 4096;

/// What RFC 3986 has no place for is read as if it were percent-encoded, as browsers read
/// it: a path with a space in it, say. So is whatever is not ASCII.
const OUT_OF_PLACE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// Brackets have one place: around the IPv6 address of a host, in front of the parameters.
const OUT_OF_PLACE_IN_PARAMETERS: &AsciiSet = &OUT_OF_PLACE.add(b'[').add(b']');

/// The URL of a KEK, taken apart. Parsing opens nothing and needs no network.
///
/// | URL | KEK |
/// |---|---|
/// | `aws-kms:///alias/orders?region=eu-west-1` | AWS KMS, by alias |
/// | `aws-kms:///1234abcd-12ab-34cd-56ef-1234567890ab` | by key id, region from the environment |
/// | `aws-kms:///arn:aws:kms:eu-west-1:111122223333:key/mrk-1234` | by ARN |
/// | `vault://vault.internal:8200/transit/orders` | Vault or OpenBao over TLS, mount `transit`, key `orders` |
/// | `local:///var/lib/orders/kek.json#orders` | a file of `bulla-local`, whose KEK is named `orders` |
///
/// Parameters come behind a `?`, as `name=value`, joined by `&`:
///
/// | scheme | parameter | meaning |
/// |---|---|---|
/// | `aws-kms` | `region` | region of the key; default: that of the ARN, or of the environment |
/// | | `endpoint` | URL of another endpoint, for VPCs and tests |
/// | | `profile` | profile of the AWS configuration files |
/// | `vault` | `name` | stands in KEK ids in the place of host and port, so that Vault can move; choose it before the first seal |
/// | | `namespace` | namespace of the mount |
/// | | `auth_namespace` | namespace of the login, if it is another one |
/// | | `auth` | `token` (default), `approle`, `kubernetes`, `jwt` or `cert` |
/// | | `auth_mount` | where that method is mounted; default: its name |
/// | | `role` | role of `kubernetes`, `jwt` and `cert` |
/// | | `role_id`, `secret_id_file` | the two halves of `approle` |
/// | | `token_file` | file with a token; default: the variable `VAULT_TOKEN` |
/// | | `jwt_file` | file with a JWT; default for `kubernetes`: the pod's service account |
/// | | `ca_file` | certificate authorities, PEM; default: those of the system |
/// | | `cert_file`, `key_file` | client certificate and key, PEM |
/// | | `tls` | `off` speaks plain HTTP: to this machine, or in profile development |
/// | | `token`, `secret_id` | the secret itself; profile development only |
/// | `local` | `key_file` | file with the unlock key |
/// | | `key_env`, `passphrase_env` | environment variable with the unlock key or a passphrase |
///
/// A `vault` URL without a port means 8200. Of the environment, `VAULT_TOKEN` alone is read for
/// it; for `aws-kms`, all that the AWS SDK reads.
///
/// ```
/// use bulla::kek::KekUrl;
///
/// let url: KekUrl = "vault://vault.internal:8200/transit/orders?auth=kubernetes&role=orders-service".parse()?;
/// assert!(url.check(bulla::Profile::Production).is_ok());
/// let wrong = "aws-kms:///alias/orders?regoin=eu-west-1".parse::<KekUrl>().unwrap_err();
/// assert!(wrong.to_string().contains("`regoin`"));
/// # Ok::<(), bulla::kek::KekUrlError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum KekUrl {
    /// A key of AWS KMS.
    Aws(AwsUrl),
    /// A key of the transit engine of Vault or OpenBao.
    Vault(VaultUrl),
    /// A key file.
    Local(LocalUrl),
}

/// A key of AWS KMS.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwsUrl {
    /// Key id, ARN or `alias/…`.
    pub key: String,
    /// The region, if it is named.
    pub region: Option<String>,
    /// Another endpoint than that of the region.
    pub endpoint: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
}

/// A key of the transit engine of Vault or OpenBao.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VaultUrl {
    /// The server: `https://host:port`, or `http` with `tls=off`.
    pub address: String,
    /// What stands in KEK ids in the place of host and port.
    pub name: Option<String>,
    /// Where the transit engine is mounted.
    pub mount: String,
    /// Name of the key.
    pub key: String,
    /// Namespace of the mount.
    pub namespace: Option<String>,
    /// Namespace of the login, if it is another one.
    pub auth_namespace: Option<String>,
    /// How to log in.
    pub login: VaultLogin,
    /// Where the method of login is mounted, if not under its own name.
    pub auth_mount: Option<String>,
    /// Certificate authorities to trust, PEM.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How to log in to Vault.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum VaultLogin {
    /// With the token in the variable `VAULT_TOKEN`.
    TokenFromEnv,
    /// With the token in a file.
    TokenFile(PathBuf),
    /// With a token that stands in the URL.
    Token(SecretString),
    /// With an AppRole.
    AppRole {
        /// Its public half.
        role_id: String,
        /// Its secret half.
        secret_id: SecretId,
    },
    /// With the service account of a Kubernetes pod.
    Kubernetes {
        /// The role.
        role: String,
        /// The token's file; `None` for where Kubernetes mounts it.
        jwt_file: Option<PathBuf>,
    },
    /// With a JWT in a file.
    Jwt {
        /// The role.
        role: String,
        /// The JWT's file.
        jwt_file: PathBuf,
    },
    /// With the client certificate.
    Cert {
        /// The role, or any that the certificate matches.
        role: Option<String>,
    },
}

/// The secret half of an AppRole.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SecretId {
    /// In a file.
    File(PathBuf),
    /// In the URL.
    Inline(SecretString),
}

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalUrl {
    /// The file.
    pub path: PathBuf,
    /// The name that its KEK must have, if one is demanded.
    pub name: Option<String>,
    /// What unlocks it.
    pub unlock: LocalUnlock,
}

/// Where the secret lies that unlocks a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalUnlock {
    /// A raw key in a file.
    KeyFile(PathBuf),
    /// A raw key in an environment variable.
    KeyEnv(String),
    /// A passphrase in an environment variable.
    PassphraseEnv(String),
}

/// Why a text is not the URL of a KEK. Secrets that stand in the URL are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KekUrlError {
    /// Not a URL at all.
    #[error("this is not a URL: {0}; a KEK is named like aws-kms:///alias/orders?region=eu-west-1")]
    NotAUrl(String),
    /// Longer than 4096 bytes.
    #[error("the URL of a KEK has at most {URL_BYTES_MAX} bytes")]
    TooLong,
    /// A scheme that names no backend.
    #[error("`{0}:` names no backend; there are aws-kms, vault and local")]
    UnknownScheme(String),
    /// User name or password in front of the host.
    #[error("a KEK's URL has no user name or password in it; see the parameter `auth`")]
    UserInfo,
    /// The part that names the key is missing or malformed.
    #[error("{scheme}: {reason}")]
    BadKey {
        /// The scheme.
        scheme: &'static str,
        /// What is wrong, with an example.
        reason: &'static str,
    },
    /// A parameter that the scheme does not have.
    #[error("{scheme}: there is no parameter `{name}`; there are {known}")]
    UnknownParameter {
        /// The scheme.
        scheme: &'static str,
        /// The parameter.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A parameter without a value.
    #[error("{scheme}: the parameter `{name}` has no value")]
    NoValue {
        /// The scheme.
        scheme: &'static str,
        /// The parameter.
        name: String,
    },
    /// A parameter that stands there twice.
    #[error("{scheme}: the parameter `{name}` stands there twice")]
    DoubleParameter {
        /// The scheme.
        scheme: &'static str,
        /// The parameter.
        name: String,
    },
    /// Parameters that do not fit together.
    #[error("{scheme}: {reason}")]
    BadParameters {
        /// The scheme.
        scheme: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A parameter that another login has.
    #[error("vault: `{name}` does not belong to this login; without `auth` it is auth=token")]
    NotOfThisLogin {
        /// The parameter.
        name: String,
    },
    /// What profile production refuses.
    #[error("profile production refuses this URL: {0}")]
    Production(&'static str),
}

impl KekUrl {
    /// Refuses what has no place in `profile`: in production, secrets in the URL, and plain
    /// HTTP to another machine. (What the variables of the AWS SDK say is not looked at.)
    ///
    /// # Errors
    /// [`KekUrlError::Production`].
    pub fn check(&self, profile: Profile) -> Result<(), KekUrlError> {
        if profile == Profile::Development {
            return Ok(());
        }
        let refused = match self {
            Self::Vault(vault) => {
                let secret = matches!(
                    vault.login,
                    VaultLogin::Token(_)
                        | VaultLogin::AppRole { secret_id: SecretId::Inline(_), .. }
                );
                if secret {
                    Some(
                        "it holds a secret; use a file (token_file, secret_id_file) or a login \
                          without one (auth=kubernetes, jwt, cert)",
                    )
                } else if !is_private(&vault.address) {
                    Some("tls=off sends keys in the clear")
                } else {
                    None
                }
            }
            Self::Aws(aws) => {
                let endpoint = aws.endpoint.as_deref();
                let plain = endpoint.is_some_and(|endpoint| !is_private(endpoint));
                plain.then_some("its endpoint is not https: keys would travel in the clear")
            }
            // Whether a local KEK may serve is for the manager to say.
            Self::Local(_) => None,
        };
        refused.map_or(Ok(()), |reason| Err(KekUrlError::Production(reason)))
    }
}

/// Whether nobody sees what is sent there: by TLS, or because it stays on this machine.
fn is_private(address: &str) -> bool {
    let Ok(url) = UriStr::new(address) else { return false };
    let host = url.authority_components().map_or("", |authority| authority.host());
    let loopback = |ip: IpAddr| ip.is_loopback();
    let local = host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse().is_ok_and(loopback);
    match url.scheme_str().to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => local,
        _ => false,
    }
}

impl FromStr for KekUrl {
    type Err = KekUrlError;

    fn from_str(text: &str) -> Result<Self, KekUrlError> {
        if text.len() > URL_BYTES_MAX {
            return Err(KekUrlError::TooLong);
        }
        let text = text.trim();
        let (front, parameters) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        let mut text = utf8_percent_encode(front, OUT_OF_PLACE).to_string();
        text.extend(utf8_percent_encode(parameters, OUT_OF_PLACE_IN_PARAMETERS));
        let url = UriStr::new(&text).map_err(|error| KekUrlError::NotAUrl(error.to_string()))?;
        if url.authority_components().is_some_and(|authority| authority.userinfo().is_some()) {
            return Err(KekUrlError::UserInfo);
        }
        match url.scheme_str().to_ascii_lowercase().as_str() {
            "aws-kms" => aws(url),
            "vault" => vault(url),
            "local" => local(url),
            other => Err(KekUrlError::UnknownScheme(other.to_owned())),
        }
    }
}

/// Whether something stands between the second slash and the third.
fn has_authority(url: &UriStr) -> bool {
    url.authority_str().is_some_and(|authority| !authority.is_empty())
}

/// The path, where it names a key: with nothing in it that a server might read differently.
fn key_path(url: &UriStr) -> Option<&str> {
    let path = url.path_str().trim_start_matches('/');
    let whole = !path.is_empty() && !path.ends_with('/') && url.fragment().is_none();
    let plain = !path.contains('%') && !path.split('/').any(|part| matches!(part, "." | ".."));
    (whole && plain).then_some(path)
}

fn aws(url: &UriStr) -> Result<KekUrl, KekUrlError> {
    let scheme = "aws-kms";
    let bad = |reason| KekUrlError::BadKey { scheme, reason };
    if has_authority(url) {
        return Err(bad("the key stands behind three slashes, as in aws-kms:///alias/orders"));
    }
    let key = key_path(url)
        .ok_or(bad("name a key, as in aws-kms:///alias/orders: an alias, a key id or an ARN"))?;
    let mut parameters = Parameters::of(scheme, url, &["region", "endpoint", "profile"])?;
    Ok(KekUrl::Aws(AwsUrl {
        key: key.to_owned(),
        region: parameters.take("region"),
        endpoint: parameters.take("endpoint"),
        profile: parameters.take("profile"),
    }))
}

const VAULT_PARAMETERS: &[&str] = &[
    "name",
    "namespace",
    "auth_namespace",
    "auth",
    "auth_mount",
    "role",
    "role_id",
    "secret_id_file",
    "token_file",
    "jwt_file",
    "ca_file",
    "cert_file",
    "key_file",
    "tls",
    "token",
    "secret_id",
];

fn vault(url: &UriStr) -> Result<KekUrl, KekUrlError> {
    let scheme = "vault";
    let shape = "name server, mount and key, as in vault://vault.internal:8200/transit/orders";
    let bad = || KekUrlError::BadKey { scheme, reason: shape };
    let authority = url.authority_components().ok_or_else(bad)?;
    let host = authority.host();
    let (mount, key) = key_path(url).and_then(|path| path.rsplit_once('/')).ok_or_else(bad)?;
    if host.is_empty() || host.contains('%') || mount.is_empty() {
        return Err(bad());
    }
    let port: u16 = match authority.port() {
        None | Some("") => 8200,
        Some(port) => port.parse().map_err(|_| bad())?,
    };
    let mut parameters = Parameters::of(scheme, url, VAULT_PARAMETERS)?;
    let http = match parameters.take("tls").as_deref() {
        None => "https",
        Some("off") => "http",
        Some(_) => return Err(parameters.bad("`tls` is `off`, or not there")),
    };
    let identity = match (parameters.take_path("cert_file"), parameters.take_path("key_file")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(parameters.bad("`cert_file` and `key_file` go together")),
    };
    let login = login(&mut parameters, identity.is_some())?;
    let vault = VaultUrl {
        address: format!("{http}://{host}:{port}"),
        mount: mount.to_owned(),
        key: key.to_owned(),
        name: parameters.take("name"),
        namespace: parameters.take("namespace"),
        auth_namespace: parameters.take("auth_namespace"),
        login,
        auth_mount: parameters.take("auth_mount"),
        ca_file: parameters.take_path("ca_file"),
        identity,
    };
    parameters.nothing_left()?;
    Ok(KekUrl::Vault(vault))
}

fn login(parameters: &mut Parameters, has_identity: bool) -> Result<VaultLogin, KekUrlError> {
    let auth = parameters.take("auth");
    let secret = |text: String| SecretString::from(text);
    Ok(match auth.as_deref().unwrap_or("token") {
        "token" => match (parameters.take("token"), parameters.take_path("token_file")) {
            (None, None) => VaultLogin::TokenFromEnv,
            (None, Some(path)) => VaultLogin::TokenFile(path),
            (Some(token), None) => VaultLogin::Token(secret(token)),
            _ => return Err(parameters.bad("`token` and `token_file` exclude each other")),
        },
        "approle" => {
            let role_id = parameters.need("role_id", "auth=approle needs `role_id`")?;
            let inline = parameters.take("secret_id");
            let secret_id = match (inline, parameters.take_path("secret_id_file")) {
                (None, Some(path)) => SecretId::File(path),
                (Some(text), None) => SecretId::Inline(secret(text)),
                _ => return Err(parameters.bad("auth=approle needs `secret_id_file`")),
            };
            VaultLogin::AppRole { role_id, secret_id }
        }
        "kubernetes" => VaultLogin::Kubernetes {
            role: parameters.need("role", "auth=kubernetes needs `role`")?,
            jwt_file: parameters.take_path("jwt_file"),
        },
        "jwt" => VaultLogin::Jwt {
            role: parameters.need("role", "auth=jwt needs `role`")?,
            jwt_file: parameters.need("jwt_file", "auth=jwt needs `jwt_file`")?.into(),
        },
        "cert" if has_identity => VaultLogin::Cert { role: parameters.take("role") },
        "cert" => return Err(parameters.bad("auth=cert needs `cert_file` and `key_file`")),
        _ => return Err(parameters.bad("`auth` is token, approle, kubernetes, jwt or cert")),
    })
}

fn local(url: &UriStr) -> Result<KekUrl, KekUrlError> {
    let scheme = "local";
    let shape = "name a file, as in local:///var/lib/orders/kek.json#orders";
    let bad = || KekUrlError::BadKey { scheme, reason: shape };
    let path = percent_decode_str(url.path_str()).decode_utf8().map_err(|_| bad())?;
    // On Windows a drive comes first: `local:///C:/keys/kek.json`.
    let drive = if cfg!(windows) { path.trim_start_matches('/') } else { &path };
    let path = PathBuf::from(drive);
    if has_authority(url) || !path.is_absolute() || path.file_name().is_none() {
        return Err(bad());
    }
    let known = ["key_file", "key_env", "passphrase_env"];
    let mut parameters = Parameters::of(scheme, url, &known)?;
    let unlock = match known.map(|name| parameters.take(name)) {
        [Some(path), None, None] => LocalUnlock::KeyFile(path.into()),
        [None, Some(variable), None] => LocalUnlock::KeyEnv(variable),
        [None, None, Some(variable)] => LocalUnlock::PassphraseEnv(variable),
        _ => {
            return Err(
                parameters.bad("say what unlocks it: one of key_file, key_env, passphrase_env")
            );
        }
    };
    Ok(KekUrl::Local(LocalUrl { path, name: url.fragment_str().map(str::to_owned), unlock }))
}

/// The parameters of a URL, each of which must be used.
struct Parameters {
    scheme: &'static str,
    left: BTreeMap<String, String>,
}

impl Parameters {
    fn of(scheme: &'static str, url: &UriStr, known: &[&str]) -> Result<Self, KekUrlError> {
        let mut left = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(url.query_str().unwrap_or_default().as_bytes())
        {
            let name = name.into_owned();
            if !known.contains(&&*name) {
                let known = known.join(", ");
                // A part of a secret with an `&` in it looks like a parameter.
                let plain =
                    name.len() <= 20 && name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
                let name = if plain { name } else { "(not shown)".to_owned() };
                return Err(KekUrlError::UnknownParameter { scheme, name, known });
            }
            if value.is_empty() {
                return Err(KekUrlError::NoValue { scheme, name });
            }
            if left.insert(name.clone(), value.into_owned()).is_some() {
                return Err(KekUrlError::DoubleParameter { scheme, name });
            }
        }
        Ok(Self { scheme, left })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.left.remove(name)
    }

    fn take_path(&mut self, name: &str) -> Option<PathBuf> {
        self.take(name).map(PathBuf::from)
    }

    fn need(&mut self, name: &str, reason: &'static str) -> Result<String, KekUrlError> {
        self.take(name).ok_or(self.bad(reason))
    }

    fn nothing_left(&self) -> Result<(), KekUrlError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(KekUrlError::NotOfThisLogin { name: name.clone() }),
        }
    }

    fn bad(&self, reason: &'static str) -> KekUrlError {
        KekUrlError::BadParameters { scheme: self.scheme, reason }
    }
}

#[cfg(test)]
mod tests;
