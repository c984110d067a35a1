//! The default chain of credentials and regions. It reads the environment, so each case
//! runs in a process of its own: this test program once more, for the one test that does
//! what the environment says.

use std::process::Command;

use bulla_aws::{AwsKek, AwsOptions, CreateOptions};
use bulla_backend::{KeyWrapper, KmsErrorKind};

use crate::fake::Fake;

/// What the child is to do; set for it alone.
const KEY: &str = "BULLA_TEST_CONNECT_KEY";

/// Connects to the key that the environment names, and prints what came of it.
#[tokio::test]
async fn child() {
    let Ok(key) = std::env::var(KEY) else { return };
    let options = AwsOptions::new(key);
    let result = match std::env::var("BULLA_TEST_CONNECT_CREATE") {
        Ok(_) => AwsKek::create(options, CreateOptions::new()).await,
        Err(_) => AwsKek::connect(options).await,
    };
    let outcome = match result {
        Ok(kek) => format!("connected to {}", kek.kek()),
        Err(error) => format!("failed as {}: {error}", error.kind().as_str()),
    };
    std::fs::write(std::env::var("BULLA_TEST_CONNECT_OUTCOME").unwrap(), outcome).unwrap();
}

/// Runs the child with these variables and no other of AWS.
fn run(key: &str, variables: &[(&str, &str)]) -> String {
    let outcome = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "connect::child"]).env_clear();
    child.envs([(KEY, key), ("AWS_EC2_METADATA_DISABLED", "true")]);
    child.env("BULLA_TEST_CONNECT_OUTCOME", outcome.path());
    child.env("HOME", "/nonexistent").envs(variables.iter().copied());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read_to_string(outcome.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environment_and_profile_say_where_and_who() {
    let fake = Fake::start().await;
    let (endpoint, key) = (fake.endpoint(), fake.new_key());
    let connected = format!("connected to aws-kms:{key}");
    let who = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let place = ("AWS_ENDPOINT_URL", endpoint.as_str());

    // The region is that of the ARN.
    assert_eq!(run(&key, &[who[0], who[1], place]), connected);
    // Without an ARN, somebody has to say it.
    let failed = run("alias/a", &[who[0], who[1], place]);
    assert!(failed.starts_with("failed as misconfigured") && failed.contains("region"), "{failed}");
    let failed = run(&key, &[place]);
    assert!(failed.starts_with("failed as unauthenticated"), "{failed}");

    let directory = tempfile::tempdir().unwrap();
    let files = [
        ("config", format!("[profile p]\nregion = eu-west-1\nendpoint_url = {endpoint}\n")),
        ("credentials", "[p]\naws_access_key_id = a\naws_secret_access_key = s\n".to_owned()),
    ];
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for (name, text) in files {
        std::fs::write(path(name), text).unwrap();
    }
    let profile = [
        ("AWS_CONFIG_FILE", &*path("config")),
        ("AWS_SHARED_CREDENTIALS_FILE", &*path("credentials")),
        ("AWS_PROFILE", "p"),
    ];
    assert_eq!(run(&key, &profile), connected);
    let failed = run("alias/none", &profile);
    assert!(failed.starts_with("failed as not-found"), "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creating_takes_the_same_way() {
    let fake = Fake::start().await;
    let endpoint = fake.endpoint();
    let variables = [
        ("BULLA_TEST_CONNECT_CREATE", "1"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_KMS", &endpoint),
    ];
    // The fake makes no keys: that it was asked to is what counts.
    let failed = run("alias/a", &variables);
    assert!(failed.starts_with("failed as unsupported"), "{failed}");
    assert_eq!(fake.take_log(), ["DescribeKey", "CreateKey"]);
}

#[tokio::test]
async fn options_that_cannot_be_are_refused() {
    let key = "arn:aws:kms:eu-west-1:111122223333:key/1";
    for options in [
        AwsOptions::new(key).with_region("us-east-1"),
        AwsOptions::new(key).with_endpoint("http://kms.eu-west-1.amazonaws.com"),
    ] {
        let error = AwsKek::connect(options).await.unwrap_err();
        assert_eq!(error.kind(), KmsErrorKind::Misconfigured, "{error}");
    }
}
