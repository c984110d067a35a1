//! The IAM policies in `policies/`, enforced by moto: what each role may do, and that it
//! may do nothing else.
//!
//! moto looks at actions, credentials and signatures. It takes every resource of KMS for
//! `*` and knows no condition keys of KMS, so the ARN is replaced here, and the conditions
//! are compared with what must be in them. And it refuses in XML, which is not how KMS
//! speaks: through Bulla its refusals are answers (HTTP 403) of something that is not KMS.
//! What Bulla makes of those of KMS is tested in `errors`.

use std::process::Command;
use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, GrantOperation, KeySpec, KeyUsageType, Tag};
use bulla_aws::AwsKek;
use bulla_backend::{
    GenerateRequest, KeyAdmin, KeyInspector, KeyWrapper, KmsError, RewrapRequest, RotationSchedule,
    UnwrapRequest, WrapRequest,
};
use bulla_testkit::servers::{OwnServer, Server, find, free_port, wait_for_port};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{address, client, client_as, context, new_key};

const SERVICE: &str = include_str!("../../policies/service.json");
const OPENER: &str = include_str!("../../policies/opener.json");
const OPERATOR: &str = include_str!("../../policies/operator.json");

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A moto of this test's own, which checks credentials from [`enforce`](Self::enforce) on.
struct Moto {
    _server: OwnServer,
    endpoint: String,
}

impl Moto {
    fn start() -> Option<Self> {
        let program = find(Server::MotoProgram)?;
        let port = free_port().unwrap();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", "1000");
        let server = OwnServer::start(command).unwrap();
        // It takes ten seconds and more to start where tests leave it little time.
        wait_for_port(port).or_else(|_| wait_for_port(port)).unwrap();
        Some(Self { _server: server, endpoint: format!("http://127.0.0.1:{port}") })
    }

    /// A user with this policy and no other; access key id and secret.
    async fn user(&self, name: &str, policy: &str) -> (String, String) {
        self.iam(&format!("Action=CreateUser&UserName={name}")).await;
        let policy = policy.replace("arn:aws:kms:REGION:ACCOUNT:key/KEY-ID", "*");
        let policy: String = policy.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let put = format!("Action=PutUserPolicy&UserName={name}&PolicyName=only&PolicyDocument=");
        self.iam(&(put + &policy)).await;
        let answer = self.iam(&format!("Action=CreateAccessKey&UserName={name}")).await;
        let part = |tag: &str| {
            let (_, rest) = answer.split_once(&format!("<{tag}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        (part("AccessKeyId"), part("SecretAccessKey"))
    }

    async fn iam(&self, form: &str) -> String {
        let scope = "Credential=setup/20260101/us-east-1/iam/aws4_request";
        let header = format!("Authorization: AWS4-HMAC-SHA256 {scope}, Signature=none");
        let header = header + "\r\nContent-Type: application/x-www-form-urlencoded";
        self.post("/", &header, &format!("{form}&Version=2010-05-08")).await
    }

    async fn enforce(&self) {
        self.post("/moto-api/reset-auth", "Content-Type: text/plain", "0").await;
    }

    async fn post(&self, path: &str, header: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(address(&self.endpoint)).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    async fn kek(&self, who: &(String, String), key: &str) -> AwsKek {
        AwsKek::from_client(self.client(who), key).await.unwrap()
    }

    fn client(&self, (id, secret): &(String, String)) -> Client {
        client_as(&self.endpoint, "us-east-1", (id, secret))
    }
}

/// The code of a refusal by moto's IAM. Errors of its KMS, about what was asked, are none.
fn refusal<T, E>(result: Result<T, SdkError<E, HttpResponse>>) -> Option<String> {
    let error = result.err()?;
    let body = std::str::from_utf8(error.raw_response().unwrap().body().bytes().unwrap()).unwrap();
    let (_, code) = body.split_once("<Code>")?;
    Some(code.split_once('<').unwrap().0.to_owned())
}

/// Which of all that AWS KMS can do with a key somebody may do: whatever is not denied.
/// Destroys nothing that the next caller of this needs.
async fn allowed(client: &Client, key: &str, signing_key: &str, blob: &Blob) -> Vec<&'static str> {
    let mut allowed = Vec::new();
    macro_rules! ask {
        ($($name:ident, $request:expr;)+) => {$(
            match refusal($request.send().await).as_deref() {
                None => allowed.push(stringify!($name)),
                refusal => assert_eq!(refusal, Some("AccessDenied")),
            }
        )+};
    }
    let tag = Tag::builder().tag_key("k").tag_value("v").build().unwrap();
    ask! {
        CancelKeyDeletion, client.cancel_key_deletion().key_id(key);
        CreateAlias, client.create_alias().alias_name("alias/a").target_key_id(key);
        CreateGrant, client.create_grant().key_id(key).grantee_principal("arn:aws:iam::123456789012:user/u").operations(GrantOperation::Decrypt);
        CreateKey, client.create_key();
        Decrypt, client.decrypt().key_id(key).ciphertext_blob(blob.clone());
        DeleteAlias, client.delete_alias().alias_name("alias/none");
        DescribeKey, client.describe_key().key_id(key);
        DisableKey, client.disable_key().key_id(key);
        DisableKeyRotation, client.disable_key_rotation().key_id(key);
        EnableKey, client.enable_key().key_id(key);
        EnableKeyRotation, client.enable_key_rotation().key_id(key);
        Encrypt, client.encrypt().key_id(key).plaintext(blob.clone());
        GenerateDataKey, client.generate_data_key().key_id(key).key_spec(DataKeySpec::Aes256);
        GenerateDataKeyWithoutPlaintext, client.generate_data_key_without_plaintext().key_id(key).key_spec(DataKeySpec::Aes256);
        GenerateRandom, client.generate_random().number_of_bytes(8);
        GetKeyPolicy, client.get_key_policy().key_id(key);
        GetKeyRotationStatus, client.get_key_rotation_status().key_id(key);
        ListAliases, client.list_aliases();
        ListGrants, client.list_grants().key_id(key);
        ListKeyRotations, client.list_key_rotations().key_id(key);
        ListKeys, client.list_keys();
        ListResourceTags, client.list_resource_tags().key_id(key);
        PutKeyPolicy, client.put_key_policy().key_id(key).policy("{}");
        ReEncrypt, client.re_encrypt().source_key_id(key).destination_key_id(key).ciphertext_blob(blob.clone());
        ReplicateKey, client.replicate_key().key_id(key).replica_region("us-west-2");
        RotateKeyOnDemand, client.rotate_key_on_demand().key_id(key);
        ScheduleKeyDeletion, client.schedule_key_deletion().key_id(key);
        Sign, client.sign().key_id(signing_key).message(blob.clone()).signing_algorithm("RSASSA_PSS_SHA_256".into());
        TagResource, client.tag_resource().key_id(key).tags(tag);
        UntagResource, client.untag_resource().key_id(key).tag_keys("k");
        UpdateAlias, client.update_alias().alias_name("alias/none").target_key_id(key);
        UpdateKeyDescription, client.update_key_description().key_id(key).description("d");
    }
    allowed
}

#[tokio::test]
async fn each_role_may_do_what_it_needs_and_nothing_else() {
    let Some(moto) = Moto::start() else { return };
    let setup = client(&moto.endpoint);
    let key = new_key(&setup).await;
    let signing_key = setup.create_key().key_spec(KeySpec::Rsa2048);
    let signing_key = signing_key.key_usage(KeyUsageType::SignVerify).send().await.unwrap();
    let signing_key = signing_key.key_metadata.unwrap().arn.unwrap();
    let blob = setup.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await.unwrap();
    let blob = blob.ciphertext_blob.unwrap();
    let service = moto.user("service", SERVICE).await;
    let opener = moto.user("opener", OPENER).await;
    let operator = moto.user("operator", OPERATOR).await;
    moto.enforce().await;

    let roles: [(_, &[&str]); 3] = [
        (&service, &["Decrypt", "DescribeKey", "GenerateDataKey", "ReEncrypt"]),
        (&opener, &["Decrypt", "DescribeKey"]),
        (
            &operator,
            &[
                "DescribeKey",
                "DisableKey",
                "DisableKeyRotation",
                "EnableKey",
                "EnableKeyRotation",
                "GetKeyRotationStatus",
                "ListKeyRotations",
                "ReEncrypt",
                "RotateKeyOnDemand",
            ],
        ),
    ];
    for (who, may) in roles {
        assert_eq!(allowed(&moto.client(who), &key, &signing_key, &blob).await, may);
    }

    // moto does look at who asks.
    for (who, code) in [
        (("AKIANOBODYKNOWSTHISID", &*service.1), "InvalidClientTokenId"),
        ((&*service.0, "wrong"), "SignatureDoesNotMatch"),
    ] {
        let client = client_as(&moto.endpoint, "us-east-1", who);
        assert_eq!(refusal(client.describe_key().key_id(&key).send().await).unwrap(), code);
    }
}

#[tokio::test]
async fn each_role_does_its_work_through_bulla() {
    let Some(moto) = Moto::start() else { return };
    let setup = client(&moto.endpoint);
    let key = new_key(&setup).await;
    let service = moto.user("service", SERVICE).await;
    let opener = moto.user("opener", OPENER).await;
    let operator = moto.user("operator", OPERATOR).await;
    moto.enforce().await;
    let context = context();
    let denied = |error: Option<KmsError>| {
        let error = error.unwrap();
        assert!(error.to_string().contains("HTTP 403"), "{error}");
    };

    let kek = moto.kek(&service, &key).await;
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    let wrapped = &generated.wrapped;
    kek.unwrap_key(UnwrapRequest::new(wrapped, &context)).await.unwrap();
    kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await.unwrap();
    kek.describe().await.unwrap();
    let wrap = kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await;
    denied(wrap.err());
    denied(kek.rotate().await.err());
    denied(kek.disable().await.err());
    denied(kek.schedule_deletion(7).await.err());

    let kek = moto.kek(&opener, &key).await;
    kek.unwrap_key(UnwrapRequest::new(wrapped, &context)).await.unwrap();
    kek.describe().await.unwrap();
    let generate = kek.generate_data_key(GenerateRequest::new(&context)).await;
    denied(generate.err());
    let rewrap = kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await;
    denied(rewrap.err());

    let kek = moto.kek(&operator, &key).await;
    kek.rotate().await.unwrap();
    kek.set_rotation_period(Some(DAY * 90)).await.unwrap();
    assert!(kek.rotation_period().await.unwrap().is_some());
    kek.set_rotation_period(None).await.unwrap();
    assert_eq!(kek.rotation_period().await.unwrap(), None);
    // Not disabled and enabled: moto fails (HTTP 500) where the key is named by its ARN.
    kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await.unwrap();
    let unwrap = kek.unwrap_key(UnwrapRequest::new(wrapped, &context)).await;
    denied(unwrap.err());
    let generate = kek.generate_data_key(GenerateRequest::new(&context)).await;
    denied(generate.err());
    denied(kek.schedule_deletion(7).await.err());
}

/// What moto cannot enforce: cryptographic calls carry Bulla's context, rewraps do not lead
/// to another key, and nothing is about all keys.
#[test]
fn every_statement_is_bound_to_one_key_and_to_bullas_context() {
    for policy in [SERVICE, OPENER, OPERATOR] {
        let policy: Value = serde_json::from_str(policy).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow");
            assert_eq!(statement["Resource"], "arn:aws:kms:REGION:ACCOUNT:key/KEY-ID");
            let actions = statement["Action"].to_string();
            let (format, same_key) = (
                &statement["Condition"]["StringEquals"]["kms:EncryptionContext:bulla-format"],
                &statement["Condition"]["Bool"]["kms:ReEncryptOnSameKey"],
            );
            let uses = ["GenerateDataKey", "Decrypt", "ReEncrypt", "Encrypt"];
            if uses.iter().any(|action| actions.contains(&format!("kms:{action}"))) {
                assert_eq!(*format, json!("1"), "{statement}");
            }
            if actions.contains("ReEncrypt") {
                assert_eq!(*same_key, json!("true"), "{statement}");
            }
        }
    }
}
