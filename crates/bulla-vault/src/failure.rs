//! Failures before it is known which call they belong to, and what Vault's answers mean.

use std::error::Error;
use std::io;

use bulla_backend::{KekId, KmsError, KmsErrorKind, KmsOperation};
use http::StatusCode;

/// Characters of Vault's own words that a message may hold.
const QUOTED_CHARS_MAX: usize = 200;

/// A [`KmsError`] without operation and KEK. It can be cloned, as callers that waited for
/// one login share its failure; so the error beneath is kept as text.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    kind: KmsErrorKind,
    message: String,
    origin: Origin,
}

/// Where a failure comes from, as far as somebody here decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This crate, or the way to Vault.
    Here,
    /// An answer of Vault.
    Answer,
    /// The answer 403.
    Forbidden,
    /// The answer that another write came first.
    Conflict,
}

impl Failure {
    pub(crate) fn new(kind: KmsErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), origin: Origin::Here }
    }

    pub(crate) fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(KmsErrorKind::Misconfigured, message)
    }

    pub(crate) fn tampered(message: impl Into<String>) -> Self {
        Self::new(KmsErrorKind::Tampered, message)
    }

    /// An answer that transit does not give.
    pub(crate) fn strange(what: &str) -> Self {
        Self::misconfigured(format!("the answer {what}; is there a Vault at this address?"))
    }

    pub(crate) fn kind(&self) -> KmsErrorKind {
        self.kind
    }

    /// Whether Vault answered 403: a policy forbids it, or the token is not valid. Vault
    /// does not say which.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.origin == Origin::Forbidden
    }

    /// Whether Vault itself said no, and not the way there.
    pub(crate) fn is_answer(&self) -> bool {
        self.origin != Origin::Here
    }

    /// Whether a write lost against another one at the same time, and did nothing.
    pub(crate) fn is_conflict(&self) -> bool {
        self.origin == Origin::Conflict
    }

    /// The error of one call.
    pub(crate) fn at(self, operation: KmsOperation, kek: &KekId) -> KmsError {
        KmsError::new(self.kind, operation, kek.clone()).with_message(self.message)
    }

    /// What an answer with this status and these sentences means.
    ///
    /// The sentences come first: one and the same refusal arrives as 400 from one endpoint
    /// and as 500 from another.
    pub(crate) fn answered(status: StatusCode, errors: &[impl AsRef<str>]) -> Self {
        let said: Vec<_> = errors.iter().map(|error| error.as_ref().trim()).collect();
        let said = said.join("; ");
        let failure = Self::said(&said).unwrap_or_else(|| Self::of_status(status, &said));
        let origin = match failure.origin {
            Origin::Here if status == StatusCode::FORBIDDEN => Origin::Forbidden,
            Origin::Here => Origin::Answer,
            other => other,
        };
        Self { origin, ..failure }
    }

    /// What an answer with this status means that is not of Vault, but of something on the
    /// way there. A proxy that knows no route says nothing about keys and permissions.
    pub(crate) fn not_of_vault(status: StatusCode) -> Self {
        match status.as_u16() {
            300..=399 | 429 | 500.. => Self::of_status(status, ""),
            _ => Self::new(
                KmsErrorKind::Unavailable,
                format!("{status}, and not by Vault: look at what is on the way there"),
            ),
        }
    }

    fn of_status(status: StatusCode, said: &str) -> Self {
        match status.as_u16() {
            401 => Self::new(KmsErrorKind::Unauthenticated, "the login was not accepted"),
            403 => Self::new(
                KmsErrorKind::Denied,
                "no policy of the token allows this; crates/bulla-vault/policies has what it takes",
            ),
            404 => Self::new(KmsErrorKind::NotFound, "Vault has no such key"),
            429 => Self::new(KmsErrorKind::Throttled, "a rate-limit quota is used up"),
            503 => Self::new(KmsErrorKind::Unavailable, "Vault is sealed, or a standby"),
            300..=399 => Self::misconfigured(
                "Vault redirects to another address, which gets no tokens; use the address of the \
                 active node or of the load balancer",
            ),
            412 | 500.. => Self::new(KmsErrorKind::Unavailable, quoted(status, said)),
            _ => Self::misconfigured(quoted(status, said)),
        }
    }

    /// The same for one item of a batch, which has no status of its own.
    pub(crate) fn answered_in_batch(error: &str) -> Self {
        Self::said(error)
            .unwrap_or_else(|| Self::misconfigured(quoted(StatusCode::BAD_REQUEST, error)))
    }

    /// What the sentences alone say.
    fn said(said: &str) -> Option<Self> {
        let has = |part: &str| said.contains(part);
        Some(if has("soft-deleted") {
            Self::new(KmsErrorKind::Disabled, "the key is soft-deleted; enable it to use it")
        } else if has("disallowed by policy (too old)") {
            let message = "this version is below the key's min_decryption_version";
            Self::new(KmsErrorKind::Disabled, message)
        } else if has("version is too new") {
            let message = "the key has no such version yet; was Vault restored from a backup?";
            Self::new(KmsErrorKind::NotFound, message)
        } else if has("key not found") || has("no existing key named") {
            Self::new(KmsErrorKind::NotFound, "Vault has no such key")
        } else if has("message authentication failed") || has("invalid ciphertext") {
            Self::tampered("Vault did not recognise the wrap under this context")
        } else if has("transaction commit failed") {
            let message = "another write to the key came first; do it again";
            Self { origin: Origin::Conflict, ..Self::new(KmsErrorKind::Unavailable, message) }
        } else if has("no handler for route") {
            Self::misconfigured("there is no transit engine at this mount and namespace")
        } else {
            return None;
        })
    }

    /// A request that nobody waits for any longer.
    pub(crate) fn no_answer() -> Self {
        Self::new(KmsErrorKind::Unavailable, "no answer from Vault in time")
    }

    /// A request that got no answer, or half of one.
    pub(crate) fn sending(error: &rustify::errors::ClientError) -> Self {
        use rustify::errors::ClientError as E;
        match error {
            E::RequestError { source, .. } | E::ResponseError { source } => {
                Self::unreached(source.as_ref())
            }
            _ => Self::misconfigured("the request cannot be built: check address, mount and key"),
        }
    }

    fn unreached(error: &(dyn Error + 'static)) -> Self {
        let why = chain(error).last().map(ToString::to_string).unwrap_or_default();
        match chain(error).find_map(tls_error) {
            Some(rustls::Error::AlertReceived(alert)) if is_about_us(*alert) => Self::new(
                KmsErrorKind::Unauthenticated,
                format!("Vault does not accept the client certificate: {why}"),
            ),
            // These do not heal by themselves; all else is the network.
            Some(
                rustls::Error::InvalidCertificate(_)
                | rustls::Error::AlertReceived(_)
                | rustls::Error::PeerIncompatible(_)
                | rustls::Error::InvalidMessage(_),
            ) => Self::misconfigured(format!("the TLS handshake failed: {why}")),
            _ => Self::new(KmsErrorKind::Unavailable, format!("no answer from Vault: {why}")),
        }
    }
}

/// Whether an alert says that our certificate is missing, wrong or out of date.
fn is_about_us(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as A;
    matches!(
        alert,
        A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::CertificateRequired
    )
}

/// An error and what is beneath it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The TLS error in `error`. Within an `io::Error` it is not a source of its own.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| tls_error(inner?))
}

/// What Vault said, for messages: one line, and not all of a page.
fn quoted(status: StatusCode, said: &str) -> String {
    let said: String =
        said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
    format!("Vault answered {}: {said}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statuses and sentences, those of HashiCorp Vault included that OpenBao does not use.
    #[test]
    fn answers_are_told_apart() {
        use KmsErrorKind as K;
        for (status, said, kind) in [
            (307, "", K::Misconfigured),
            (400, "cipher: message authentication failed", K::Tampered),
            (400, "invalid ciphertext: no prefix", K::Tampered),
            (400, "invalid ciphertext: version is too new", K::NotFound),
            (400, "ciphertext or signature version is disallowed by policy (too old)", K::Disabled),
            (400, "encryption key not found", K::NotFound),
            (400, "no existing key named k could be found", K::NotFound),
            (400, "missing 'context' for key derivation", K::Misconfigured),
            (401, "", K::Unauthenticated),
            (403, "permission denied", K::Denied),
            (404, "", K::NotFound),
            (404, "no handler for route \"transit/keys/k\"", K::Misconfigured),
            (405, "unsupported operation", K::Misconfigured),
            (412, "required index state not present", K::Unavailable),
            (429, "request path \"transit/\": rate limit quota exceeded", K::Throttled),
            (500, "1 error occurred:\n\t* refusing to use soft-deleted key\n\n", K::Disabled),
            (500, "internal error", K::Unavailable),
            (502, "", K::Unavailable),
            (503, "Vault is sealed", K::Unavailable),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = Failure::answered(status, &[said]);
            assert_eq!(failure.kind(), kind, "{status} {said}");
            assert!(failure.is_answer());
            assert_eq!(failure.is_forbidden(), status == 403, "{status}");
        }
    }

    #[test]
    fn quotes_are_one_short_line() {
        let said = "a\nb\u{7}".repeat(1000);
        let Failure { message, .. } = Failure::answered(StatusCode::BAD_REQUEST, &[said]);
        assert!(message.chars().count() < 250 && !message.contains(char::is_control), "{message}");
    }
}
