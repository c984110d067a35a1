//! Every error of AWS KMS, in the shape of its API reference, told by the fake; and what
//! must not be told on.

use std::error::Error;

use aws_sdk_kms::config::{BehaviorVersion, Config, Region};
use aws_sdk_kms::{Client, config};
use bulla_aws::AwsKek;
use bulla_backend::{
    GenerateRequest, KeyAdmin, KeyInspector, KeyWrapper, KmsError, KmsErrorKind, UnwrapRequest,
    WrapRequest, WrappedKey,
};
use bulla_core::DataKey;
use data_encoding::BASE64;

use KmsErrorKind::*;

use crate::fake::Fake;
use crate::support::{client, context};

async fn start() -> (Fake, AwsKek, WrappedKey) {
    let fake = Fake::start().await;
    let kek = AwsKek::from_client(client(&fake.endpoint()), &fake.new_key()).await.unwrap();
    let generated = kek.generate_data_key(GenerateRequest::new(&context())).await.unwrap();
    (fake, kek, generated.wrapped)
}

async fn unwrap_error(kek: &AwsKek, wrapped: &WrappedKey) -> KmsError {
    kek.unwrap_key(UnwrapRequest::new(wrapped, &context())).await.unwrap_err()
}

/// Everything that an error shows to those who print it and what is beneath it.
fn shown(error: &KmsError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut beneath = error.source();
    while let Some(error) = beneath {
        text += &format!("{error} {error:?}");
        beneath = error.source();
    }
    text
}

#[tokio::test]
async fn each_exception_is_of_one_class() {
    let (fake, kek, wrapped) = start().await;
    let expected = [
        (Denied, 400, "AccessDeniedException"),
        (Disabled, 400, "DisabledException"),
        (Disabled, 400, "KMSInvalidStateException"),
        (Tampered, 400, "InvalidCiphertextException"),
        (Tampered, 400, "IncorrectKeyException"),
        (NotFound, 400, "NotFoundException"),
        (Misconfigured, 400, "InvalidKeyUsageException"),
        (Misconfigured, 400, "InvalidArnException"),
        (Misconfigured, 400, "InvalidGrantTokenException"),
        (Misconfigured, 400, "ValidationException"),
        (Unauthenticated, 400, "UnrecognizedClientException"),
        (Unauthenticated, 403, "InvalidClientTokenId"),
        (Unauthenticated, 400, "ExpiredTokenException"),
        (Unauthenticated, 400, "InvalidSignatureException"),
        (Unauthenticated, 400, "MissingAuthenticationTokenException"),
        (Unauthenticated, 400, "IncompleteSignatureException"),
        (Unauthenticated, 403, "RequestTimeTooSkewed"),
        (Throttled, 400, "ThrottlingException"),
        (Throttled, 400, "LimitExceededException"),
        (Throttled, 400, "RequestLimitExceeded"),
        (Unavailable, 500, "KMSInternalException"),
        (Unavailable, 500, "DependencyTimeoutException"),
        (Unavailable, 500, "KeyUnavailableException"),
        (Unavailable, 503, "ServiceUnavailable"),
        (Unsupported, 400, "UnsupportedOperationException"),
        (Unsupported, 400, "UnknownOperationException"),
        (Unsupported, 501, "InternalFailure"),
        (Unavailable, 502, "SomethingNew"),
        (Misconfigured, 400, "SomethingNew"),
    ];
    for (kind, status, name) in expected {
        fake.refuse_all(Some((status, name, "as the fake says")));
        let error = unwrap_error(&kek, &wrapped).await;
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name} is not named: {error}");
    }
}

/// The quota of a rate passes; that of rotations on demand does not.
#[tokio::test]
async fn quotas_of_administration_are_not_worth_a_retry() {
    let (fake, kek, _) = start().await;
    fake.refuse_all(Some((400, "LimitExceededException", "")));
    assert_eq!(kek.rotate().await.unwrap_err().kind(), Misconfigured);
    fake.refuse_all(Some((400, "ConflictException", "")));
    assert_eq!(kek.rotate().await.unwrap_err().kind(), Unavailable);
}

#[tokio::test]
async fn a_wrong_clock_is_named() {
    let (fake, kek, wrapped) = start().await;
    for (name, message) in [
        ("InvalidSignatureException", "Signature expired: 20260905T070605Z is now earlier than …"),
        ("InvalidSignatureException", "Signature not yet current: 20260905T070605Z is …"),
        ("RequestTimeTooSkewed", ""),
        ("RequestExpired", ""),
    ] {
        fake.refuse_all(Some((400, name, message)));
        let error = unwrap_error(&kek, &wrapped).await;
        assert_eq!(error.kind(), Unauthenticated);
        assert!(error.to_string().contains("clock"), "{error}");
    }
    fake.refuse_all(Some((400, "InvalidSignatureException", "The request signature we …")));
    assert!(!unwrap_error(&kek, &wrapped).await.to_string().contains("clock"));
}

/// Who is denied is worth knowing. What a signature was made of is not for logs: AWS
/// repeats the headers, the session token among them.
#[tokio::test]
async fn aws_is_quoted_where_that_is_harmless() {
    let (fake, kek, wrapped) = start().await;
    let words = "User: arn:aws:iam::111122223333:user/u is not authorized";
    fake.refuse_all(Some((400, "AccessDeniedException", words)));
    assert!(unwrap_error(&kek, &wrapped).await.to_string().contains(words));
    for name in ["InvalidSignatureException", "ValidationException", "InvalidCiphertextException"] {
        let words = "x-amz-security-token:SECRET tenant=t-9f2c";
        fake.refuse_all(Some((400, name, words)));
        let shown = shown(&unwrap_error(&kek, &wrapped).await);
        assert!(!shown.contains("SECRET") && !shown.contains("t-9f2c"), "{shown}");
    }
    fake.refuse_all(Some((400, "AccessDeniedException", &"x".repeat(1 << 20))));
    assert!(unwrap_error(&kek, &wrapped).await.to_string().len() < 2000);
}

/// An answer that breaks off, or is somebody else's, is an outage, and its bytes stay out
/// of the error: they may be those of a data key.
#[tokio::test]
async fn answers_that_are_none_are_outages_and_are_not_shown() {
    let (fake, kek, wrapped) = start().await;
    let key = BASE64.encode(&[0x5a; 32]);
    let plaintext = format!(r#"{{"KeyId":"k","Plaintext":"{key}","#);
    for (status, body) in [
        (200, plaintext.as_str()),
        (200, "<html>Please log in</html>"),
        (200, ""),
        (403, "<html>Forbidden by proxy</html>"),
        (404, "{}"),
        (407, ""),
        (502, "Bad Gateway"),
    ] {
        fake.answer_all(status, body);
        let error = unwrap_error(&kek, &wrapped).await;
        assert!(matches!(error.kind(), Unavailable | Tampered), "{status} {body}: {error}");
        assert!(!shown(&error).contains(&key), "{error:?}");
        let generate = kek.generate_data_key(GenerateRequest::new(&context())).await;
        assert_eq!(generate.unwrap_err().kind(), Unavailable, "{status} {body}");
        assert_eq!(kek.describe().await.unwrap_err().kind(), Unavailable, "{status} {body}");
    }
}

/// Keys of other lengths are no data keys, and wraps of other lengths no wraps.
#[tokio::test]
async fn answers_of_wrong_lengths_are_refused() {
    let (fake, kek, wrapped) = start().await;
    for len in [0, 16, 31, 33, 64] {
        let key = BASE64.encode(&vec![1; len]);
        fake.answer_all(200, &format!(r#"{{"KeyId":"k","Plaintext":"{key}"}}"#));
        assert_eq!(unwrap_error(&kek, &wrapped).await.kind(), Tampered, "{len}");
    }
    let data_key = DataKey::generate().unwrap();
    for len in [0, 1025] {
        let blob = BASE64.encode(&vec![1; len]);
        fake.answer_all(200, &format!(r#"{{"KeyId":"k","CiphertextBlob":"{blob}"}}"#));
        let result = kek.wrap_key(WrapRequest::new(&data_key, &context())).await;
        assert_eq!(result.unwrap_err().kind(), Unavailable, "{len}");
    }
}

/// A wrap that cannot be one of AWS KMS costs no request.
#[tokio::test]
async fn impossible_wraps_are_refused_here() {
    let (fake, kek, wrapped) = start().await;
    fake.take_log();
    for len in [0, 1025, 6145] {
        let mut wrapped = wrapped.clone();
        wrapped.blob = vec![1; len];
        assert_eq!(unwrap_error(&kek, &wrapped).await.kind(), Tampered);
    }
    assert!(fake.take_log().is_empty());
}

#[tokio::test]
async fn keys_that_will_not_do_are_refused_at_once() {
    let fake = Fake::start().await;
    let connect = async || AwsKek::from_client(client(&fake.endpoint()), "alias/a").await;
    let describe = |more: &str| {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/1";
        let key = format!(r#"{{"KeyMetadata":{{"KeyId":"1","Arn":"{arn}",{more}}}}}"#);
        fake.answer_all(200, &key);
    };
    for wrong in [
        r#""KeyUsage":"SIGN_VERIFY","KeySpec":"ECC_NIST_P256""#,
        r#""KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"RSA_4096""#,
        r#""KeyUsage":"GENERATE_VERIFY_MAC","KeySpec":"HMAC_256""#,
        r#""KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT","KeyManager":"AWS""#,
    ] {
        describe(wrong);
        assert_eq!(connect().await.unwrap_err().kind(), Misconfigured, "{wrong}");
    }
    describe(r#""KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT","Enabled":true"#);
    connect().await.unwrap();
    fake.answer_all(200, "{}");
    assert_eq!(connect().await.unwrap_err().kind(), Unavailable);
}

#[tokio::test]
async fn states_of_a_key_are_told() {
    use bulla_backend::KekStatus::{Disabled, Enabled, PendingDestruction};
    let (fake, kek, _) = start().await;
    for (state, status) in [
        ("Enabled", Enabled),
        ("Updating", Enabled),
        ("Disabled", Disabled),
        ("PendingImport", Disabled),
        ("Unavailable", Disabled),
        ("Creating", Disabled),
        ("PendingDeletion", PendingDestruction),
        ("PendingReplicaDeletion", PendingDestruction),
        ("SomethingNew", Disabled),
    ] {
        let key = format!(r#"{{"KeyMetadata":{{"KeyId":"1","KeyState":"{state}"}}}}"#);
        fake.answer_all(200, &key);
        assert_eq!(kek.describe().await.unwrap().status, status, "{state}");
    }
}

/// What goes wrong before a request is sent.
#[tokio::test]
async fn clients_that_cannot_ask_say_why() {
    let builder = || Config::builder().behavior_version(BehaviorVersion::latest());
    let connect = async |config: config::Builder| {
        AwsKek::from_client(Client::from_conf(config.build()), "alias/a").await.unwrap_err()
    };
    let no_region = connect(builder()).await;
    assert_eq!(no_region.kind(), Misconfigured, "{no_region}");

    let fake = Fake::start().await;
    let placed = || builder().region(Region::new("eu-west-1")).endpoint_url(fake.endpoint());
    let failing = |error| aws_credentials(error);
    let expired = connect(placed().credentials_provider(failing("not loaded"))).await;
    assert_eq!(expired.kind(), Unauthenticated, "{expired}");
    assert!(expired.to_string().contains("no AWS credentials"), "{expired}");
    let late = connect(placed().credentials_provider(failing("timed out"))).await;
    assert_eq!(late.kind(), Unavailable, "{late}");
    let wrong = connect(placed().credentials_provider(failing("invalid"))).await;
    assert_eq!(wrong.kind(), Misconfigured, "{wrong}");
    assert!(fake.take_log().is_empty());
}

/// A provider of credentials that fails.
fn aws_credentials(how: &'static str) -> impl config::ProvideCredentials {
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future::ProvideCredentials;

    #[derive(Debug)]
    struct Failing(&'static str);

    impl config::ProvideCredentials for Failing {
        fn provide_credentials<'a>(&'a self) -> ProvideCredentials<'a>
        where
            Self: 'a,
        {
            ProvideCredentials::ready(Err(match self.0 {
                "timed out" => CredentialsError::provider_timed_out(Default::default()),
                "invalid" => CredentialsError::invalid_configuration("no such profile"),
                _ => CredentialsError::not_loaded("nothing in the chain"),
            }))
        }
    }
    Failing(how)
}
