//! Where the KEK is, and how to get there.

use std::fmt;

use bulla_backend::KekId;
use secrecy::{ExposeSecret, SecretSlice};
use url::{Host, Url};
use vaultrs::api::EndpointMiddleware;
use vaultrs::client::{VaultClient, VaultClientSettings};

use crate::VaultAuth;
use crate::failure::Failure;

/// Mount of the transit engine unless told otherwise.
const MOUNT: &str = "transit";

/// What [`VaultKek::connect`](crate::VaultKek::connect) needs to know.
///
/// ```
/// use bulla_vault::{VaultAuth, VaultOptions};
///
/// let auth = VaultAuth::kubernetes("orders-service");
/// let options = VaultOptions::new("https://vault.internal:8200", "orders", auth)
///     .with_mount("team-a/transit")
///     .with_namespace("payments");
/// assert!(!format!("{options:?}").contains("token"));
/// ```
#[derive(Clone)]
pub struct VaultOptions {
    address: String,
    pub(crate) mount: String,
    pub(crate) key: String,
    pub(crate) auth: VaultAuth,
    pub(crate) namespace: Option<String>,
    pub(crate) auth_namespace: Option<String>,
    name: Option<String>,
    ca_pem: Option<Vec<u8>>,
    identity_pem: Option<SecretSlice<u8>>,
    plain_http: bool,
}

impl VaultOptions {
    /// The key `key` of the engine mounted at `transit`, in the Vault at `address`: a
    /// scheme, a host and a port, such as `https://vault.internal:8200`.
    pub fn new(address: impl Into<String>, key: impl Into<String>, auth: VaultAuth) -> Self {
        Self {
            address: address.into(),
            mount: MOUNT.into(),
            key: key.into(),
            auth,
            namespace: None,
            auth_namespace: None,
            name: None,
            ca_pem: None,
            identity_pem: None,
            plain_http: false,
        }
    }

    /// The mount of the transit engine, without slashes around it.
    #[must_use]
    pub fn with_mount(mut self, mount: impl Into<String>) -> Self {
        self.mount = mount.into();
        self
    }

    /// The namespace of the engine, and of the login too.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The namespace of the login, where it is not that of the engine. An empty one is the
    /// root namespace.
    #[must_use]
    pub fn with_auth_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.auth_namespace = Some(namespace.into());
        self
    }

    /// Stands in KEK ids in the place of host and port, so that Vault can move. Choose it
    /// before the first seal: the id is written into every wrap.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Certificates, in PEM, of the authorities that may vouch for Vault; no others may.
    /// Without this, those that the operating system trusts.
    #[must_use]
    pub fn with_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// A client certificate and its private key, in PEM, one after the other. Read once:
    /// connect again after it was renewed.
    #[must_use]
    pub fn with_identity_pem(mut self, pem: impl Into<SecretSlice<u8>>) -> Self {
        self.identity_pem = Some(pem.into());
        self
    }

    /// Allows `http` to a host that is not this machine. Tokens and data keys can then be
    /// read by whoever sees the traffic: for meshes that encrypt it, and for nothing else.
    #[must_use]
    pub fn with_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Which KEK this is. Errors tell of it, so it has no credentials even if the address
    /// has some.
    pub(crate) fn place(&self) -> Place {
        let url = Url::parse(&self.address).ok();
        let host =
            url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
        let host = host.map_or_else(|| "?".to_owned(), |(host, port)| format!("{host}:{port}"));
        Place {
            host: self.name.clone().unwrap_or(host),
            namespace: self.namespace.clone().map(|name| name.trim_matches('/').to_owned()),
        }
    }

    /// Checks what can be checked without Vault, and makes a client.
    pub(crate) fn client(&self) -> Result<VaultClient, Failure> {
        let address = self.checked_address()?;
        if self.name.as_ref().is_some_and(|name| !is_name(name)) {
            return Err(Failure::misconfigured(
                "a name in KEK ids has letters, digits, dots, hyphens and underscores",
            ));
        }
        for namespace in [&self.namespace, &self.auth_namespace].into_iter().flatten() {
            if !namespace.trim_matches('/').split('/').all(|part| is_name(part) || part.is_empty())
            {
                return Err(Failure::misconfigured("this is no namespace"));
            }
        }
        // Not by `VaultClient::new`: it reads certificates from files only, adds them to those
        // of the system, and follows redirects, to which it would send the token.
        let mut builder = reqwest::Client::builder()
            .tls_backend_rustls()
            .redirect(reqwest::redirect::Policy::none());
        if address.scheme() == "http" {
            // Nobody in between is to read it, whatever the environment says; and the
            // certificates of the system need not be read.
            builder = builder.no_proxy().tls_certs_only([]);
        } else if let Some(pem) = &self.ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem);
            let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
            let message = "the CA is no certificate in PEM";
            builder = builder
                .tls_certs_only(certificates.ok_or_else(|| Failure::misconfigured(message))?);
        }
        if let Some(pem) = &self.identity_pem {
            let identity = reqwest::Identity::from_pem(pem.expose_secret()).map_err(|_| {
                Failure::misconfigured("the identity is no certificate with its key in PEM")
            })?;
            builder = builder.identity(identity);
        }
        let http = builder
            .build()
            .map_err(|_| Failure::misconfigured("certificates and keys do not fit together"))?;
        Ok(VaultClient {
            http: rustify::clients::reqwest::Client::new(address.as_str(), http),
            middle: EndpointMiddleware {
                token: String::new(),
                version: "v1".into(),
                wrap: None,
                namespace: self.namespace.clone(),
            },
            settings: VaultClientSettings {
                address,
                ca_certs: Vec::new(),
                identity: None,
                timeout: None,
                token: String::new(),
                verify: true,
                version: 1,
                wrapping: false,
                namespace: self.namespace.clone(),
                proxy: None,
            },
        })
    }

    pub(crate) fn checked_address(&self) -> Result<Url, Failure> {
        // The address itself stays out of the message: somebody may have put a token in it.
        let wrong = || {
            Failure::misconfigured(
                "an address has a scheme, a host and a port and nothing else, as in \
                 https://vault.internal:8200",
            )
        };
        let url = Url::parse(&self.address).map_err(|_| wrong())?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        let local = match url.host() {
            Some(Host::Domain(domain)) => domain == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(wrong()),
        };
        match url.scheme() {
            "https" | "http" if !bare => Err(wrong()),
            "https" => Ok(url),
            "http" if local || self.plain_http => Ok(url),
            "http" => Err(Failure::misconfigured(
                "over http, tokens and data keys could be read on the way: use https",
            )),
            _ => Err(wrong()),
        }
    }
}

/// Where keys are, as KEK ids name it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) namespace: Option<String>,
}

impl Place {
    /// `vault://host:port/mount/key?namespace=name`.
    pub(crate) fn kek(&self, mount: &str, key: &str) -> KekId {
        let host = &self.host;
        KekId::new(match self.namespace.as_deref() {
            None | Some("") => format!("vault://{host}/{mount}/{key}"),
            Some(namespace) => format!("vault://{host}/{mount}/{key}?namespace={namespace}"),
        })
    }
}

/// Longest KEK id, in bytes.
const KEK_ID_BYTES_MAX: usize = 512;

/// Whether stores take this KEK id.
pub(crate) fn check_id(kek: &KekId) -> Result<(), Failure> {
    match kek.as_str().len() {
        0..=KEK_ID_BYTES_MAX => Ok(()),
        len => Err(Failure::misconfigured(format!(
            "the KEK id would have {len} bytes, and the limit is {KEK_ID_BYTES_MAX}"
        ))),
    }
}

/// Whether requests and KEK ids can name this mount and this key without ambiguity.
pub(crate) fn check_names(mount: &str, key: &str) -> Result<(), Failure> {
    if mount.split('/').all(is_name) && is_name(key) {
        return Ok(());
    }
    Err(Failure::misconfigured(
        "mounts and keys have letters, digits, dots, hyphens and underscores; mounts have single \
         slashes too, but not around them",
    ))
}

fn is_name(name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=128).contains(&name.len()) && name.chars().all(part) && !name.trim_matches('.').is_empty()
}

/// No credentials.
impl fmt::Debug for VaultOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kek = self.place().kek(&self.mount, &self.key);
        f.debug_struct("VaultOptions").field("kek", &kek).field("auth", &self.auth).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(address: &str) -> VaultOptions {
        VaultOptions::new(address, "orders", VaultAuth::token("s.hush"))
    }

    fn kek(options: &VaultOptions) -> String {
        options.place().kek(&options.mount, &options.key).to_string()
    }

    #[test]
    fn ids_name_host_mount_key_and_namespace() {
        let plain = options("https://vault.internal:8200");
        assert_eq!(kek(&plain), "vault://vault.internal:8200/transit/orders");
        assert_eq!(
            kek(&options("https://vault.internal")),
            "vault://vault.internal:443/transit/orders"
        );
        let spaced = plain.clone().with_namespace("a/b/").with_mount("x/y");
        assert_eq!(kek(&spaced), "vault://vault.internal:8200/x/y/orders?namespace=a/b");
        assert_eq!(kek(&plain.with_name("prod")), "vault://prod/transit/orders");
        assert_eq!(KekId::new(kek(&spaced)).backend_number(), 3);
    }

    #[test]
    fn addresses_that_say_too_much_or_too_little_are_refused_and_not_repeated() {
        for address in [
            "https://root:s.hush@vault.internal:8200",
            "https://vault.internal:8200/v1?token=s.hush",
            "https://vault.internal:8200/v1",
            "ftp://vault.internal",
            "vault.internal:8200",
            "http://vault.internal:8200",
            "http://10.0.0.1:8200",
            "",
        ] {
            let options = options(address);
            let failure = options.client().map(|_| ()).expect_err(address);
            assert_eq!(failure.kind(), bulla_backend::KmsErrorKind::Misconfigured);
            let shown = format!("{failure:?} {options:?} {}", kek(&options));
            assert!(!shown.contains("s.hush"), "{shown}");
        }
        for address in ["http://127.0.0.1:8200", "http://[::1]:8200/", "http://localhost"] {
            assert!(options(address).client().is_ok(), "{address}");
        }
        assert!(options("http://vault.internal:8200").with_plain_http().client().is_ok());
    }

    #[test]
    fn names_cannot_leave_their_place() {
        for (mount, key) in [
            ("transit", "../sys"),
            ("transit", ".."),
            ("transit", ""),
            ("transit", "a/b"),
            ("transit", "a?b"),
            ("/transit", "a"),
            ("a//b", "a"),
            ("a/../b", "a"),
            ("", "a"),
        ] {
            assert!(check_names(mount, key).is_err(), "{mount} {key}");
        }
        assert!(check_names("team-a/transit", "orders.v2_x").is_ok());
    }

    #[test]
    fn certificates_must_be_some() {
        let address = "https://vault.internal:8200";
        assert!(options(address).with_ca_pem("no certificate").client().is_err());
        assert!(options(address).with_identity_pem(b"no key".to_vec()).client().is_err());
    }
}
