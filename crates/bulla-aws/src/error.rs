//! What a failed request means, and what of it may be told.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use bulla_backend::{KekId, KmsError, KmsErrorKind, KmsOperation, note_request_id};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use KmsErrorKind::{
    Denied, Disabled, Misconfigured, NotFound, Tampered, Throttled, Unauthenticated, Unavailable,
    Unsupported,
};

/// Most of what is quoted of an answer, in characters: its message, and its code.
const QUOTE_CHARS_MAX: usize = 600;
const CODE_CHARS_MAX: usize = 80;

const CLOCK: &str = "the signature is too old or not valid yet: set the clock of this machine";

/// What is being asked about which KEK.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) operation: KmsOperation,
    pub(crate) kek: &'a KekId,
}

impl Call<'_> {
    /// Sends one request, notes the id of its answer, and says what a failure means.
    ///
    /// The SDK logs nothing meanwhile: at level TRACE it would show requests and answers with
    /// the data keys in them, and session tokens in their heads. What happened is for the
    /// layers to tell (`Audited`, `TracingSink`).
    pub(crate) async fn ask<T, E>(
        self,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, KmsError>
    where
        T: RequestId,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let result = request.with_subscriber(Dispatch::none()).await;
        let id = match &result {
            Ok(answer) => answer.request_id(),
            Err(error) => error.request_id(),
        };
        if let Some(id) = id {
            note_request_id(id);
        }
        result.map_err(|error| self.failed(error))
    }

    /// An error of this call with a sentence that says what to do.
    pub(crate) fn error(self, kind: KmsErrorKind, message: impl Into<String>) -> KmsError {
        KmsError::new(kind, self.operation, self.kek.clone()).with_message(message)
    }

    /// Keeps nothing of the SDK's error but what is known to be harmless: its `Debug` shows
    /// the body of the answer, and that may hold a data key.
    fn failed<E>(self, error: SdkError<E, HttpResponse>) -> KmsError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        if let Some(credentials) = cause::<CredentialsError>(&error) {
            let kind = match credentials {
                CredentialsError::ProviderTimedOut(_) => Unavailable,
                CredentialsError::InvalidConfiguration(_) => Misconfigured,
                _ => Unauthenticated,
            };
            return self.error(kind, format!("no AWS credentials: {}", texts(credentials)));
        }
        match error {
            SdkError::ServiceError(failure) => {
                let (status, error) = (failure.raw().status().as_u16(), failure.err());
                self.refused(status, error.code(), error.message().unwrap_or_default())
            }
            SdkError::ResponseError(failure) => {
                let status = failure.raw().status().as_u16();
                let message = format!("the answer (HTTP {status}) broke off, or is not of AWS KMS");
                self.error(Unavailable, message)
            }
            SdkError::TimeoutError(_) => {
                self.error(Unavailable, "a time-out of the AWS client passed")
            }
            SdkError::DispatchFailure(failure) => {
                let wrong = failure.is_user();
                let kind = if wrong { Misconfigured } else { Unavailable };
                let error =
                    self.error(kind, "the request did not reach AWS KMS, or no answer came");
                match SdkError::<E, HttpResponse>::DispatchFailure(failure).into_source() {
                    Ok(source) => error.with_source(source),
                    Err(_) => error,
                }
            }
            // No region, no endpoint, a URL that is none.
            error => self.error(Misconfigured, format!("no request was made: {}", texts(&error))),
        }
    }

    /// An answer that is an error of AWS KMS, or of something in its place.
    fn refused(self, status: u16, code: Option<&str>, message: &str) -> KmsError {
        let Some(code) = code else {
            let kind = if status == 429 { Throttled } else { Unavailable };
            let message = "not an answer of AWS KMS; look for a proxy, and at the endpoint";
            return self.error(kind, format!("HTTP {status}: {message}"));
        };
        let (kind, advice) = self.classify(status, code, message);
        let mut text: String = code.chars().take(CODE_CHARS_MAX).collect();
        text.push_str(": ");
        text.push_str(advice);
        // Not quoted: signature errors, which can repeat headers with the session token, and
        // complaints about a request, which can repeat context values.
        let administers = self.operation == KmsOperation::Administer;
        if !message.is_empty()
            && match kind {
                Unauthenticated | Tampered => false,
                Misconfigured => administers,
                _ => true,
            }
        {
            text.push_str(" (AWS: ");
            text.extend(message.chars().take(QUOTE_CHARS_MAX));
            text.push(')');
        }
        self.error(kind, text)
    }

    fn classify(self, status: u16, code: &str, message: &str) -> (KmsErrorKind, &'static str) {
        let administers = self.operation == KmsOperation::Administer;
        match code {
            _ if status == 501 => (Unsupported, "this server does not have the operation"),
            "AccessDenied" | "AccessDeniedException" => {
                (Denied, "no key policy, IAM policy or grant allows this, or one forbids it")
            }
            "DisabledException" => (Disabled, "enable the key"),
            // All that fails in a key store outside of AWS, time-outs too.
            "KMSInvalidStateException" if is_about_key_store(message) => {
                (Unavailable, "the custom or external key store failed or is disconnected")
            }
            "KMSInvalidStateException" => {
                (Disabled, "the key is disabled, pending deletion, or lacks its imported material")
            }
            "InvalidCiphertextException" => {
                (Tampered, "the wrap was changed, or belongs to another context")
            }
            "IncorrectKeyException" => (Tampered, "another key made the wrap"),
            "NotFoundException" => (NotFound, "there is no such key in this account and region"),
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException" => {
                (Unauthenticated, "AWS does not know these credentials")
            }
            "ExpiredToken" | "ExpiredTokenException" => {
                (Unauthenticated, "the session is over: log in again")
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch" if is_about_time(message) => {
                (Unauthenticated, CLOCK)
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch" => {
                (Unauthenticated, "the secret access key is wrong")
            }
            "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => {
                (Unauthenticated, CLOCK)
            }
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException" => (
                Throttled,
                "the account's quota of requests in this region, which all of its keys share",
            ),
            // Of the data path it is a rate; of administration, a number that waiting does not
            // raise, as that of rotations on demand.
            "LimitExceededException" if administers => {
                (Misconfigured, "a quota of AWS KMS is used up")
            }
            "LimitExceededException" => (Throttled, "a quota of AWS KMS is used up"),
            "ConflictException" => {
                (Unavailable, "a rotation of the key is under way; try again when it is over")
            }
            "UnsupportedOperationException" | "UnknownOperationException" => (
                Unsupported,
                "keys of this kind do not do that; if it is a replica, ask its primary key",
            ),
            "AlreadyExistsException" => (Misconfigured, "the alias is in use"),
            "InvalidKeyUsageException" => (
                Misconfigured,
                "the key must be symmetric and for encryption: SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT",
            ),
            "KMSInternalException"
            | "DependencyTimeoutException"
            | "KeyUnavailableException"
            | "RequestTimeout"
            | "RequestTimeoutException" => (Unavailable, "try again"),
            _ if status >= 500 => (Unavailable, "try again"),
            _ => (Misconfigured, "AWS KMS does not accept the request"),
        }
    }
}

/// Whether a complaint about the state of a key is one about a custom key store, in AWS
/// CloudHSM or outside of AWS.
fn is_about_key_store(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["key store", "xks", "cloudhsm"].iter().any(|part| message.contains(part))
}

/// "Signature expired: … is now earlier than …", "Signature not yet current: …".
fn is_about_time(message: &str) -> bool {
    message.starts_with("Signature expired") || message.starts_with("Signature not yet current")
}

/// An error and those beneath it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| error.source())
}

/// The first error of this type in the chain.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// What the errors of a chain say, without what they hold.
fn texts(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
