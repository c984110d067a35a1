//! A server of the test's own, with its data on disk: sealed, frozen, killed and started
//! again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::Command;
use std::time::Duration;

use bulla_backend::{
    GenerateRequest, KeyAdmin, KeyInspector, KeyWrapper, KmsErrorKind, UnwrapRequest,
};
use bulla_testkit::servers::{self, OwnServer, Server};
use bulla_vault::{CreateOptions, VaultAuth, VaultKek, VaultOptions};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{Bao, context};

struct Durable {
    server: OwnServer,
    bao: Bao,
    unseal_key: String,
    _directory: tempfile::TempDir,
}

impl Durable {
    /// Initialised and unsealed.
    async fn start() -> Option<Self> {
        let program = servers::find(Server::BaoProgram)?;
        let directory = tempfile::tempdir().unwrap();
        let (port, cluster) = (servers::free_port().unwrap(), servers::free_port().unwrap());
        let config = format!(
            "storage \"raft\" {{\n path = \"{0}\"\n node_id = \"one\"\n}}\n\
             listener \"tcp\" {{\n address = \"127.0.0.1:{port}\"\n \
             cluster_address = \"127.0.0.1:{cluster}\"\n tls_disable = true\n}}\n\
             api_addr = \"http://127.0.0.1:{port}\"\n\
             cluster_addr = \"https://127.0.0.1:{cluster}\"\n",
            directory.path().display()
        );
        let path = directory.path().join("config.hcl");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(program);
        command.arg("server").arg(format!("-config={}", path.display()));
        let server = OwnServer::start(command).unwrap();
        servers::wait_for_port(port).unwrap();

        let mut bao = Bao::at(&format!("http://127.0.0.1:{port}"));
        let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let init = bao.post("sys/init", init).await;
        bao.root = init["root_token"].as_str().unwrap().to_owned();
        let unseal_key = init["keys"][0].as_str().unwrap().to_owned();
        let durable = Self { server, bao, unseal_key, _directory: directory };
        durable.unseal().await;
        Some(durable)
    }

    /// Unseals, and waits until the only node of the cluster leads it.
    async fn unseal(&self) {
        self.bao.post("sys/unseal", json!({ "key": self.unseal_key })).await;
        for _ in 0..500 {
            let (status, _) = self.bao.ask_as("", Method::GET, "sys/health", &Value::Null).await;
            if status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("nobody leads the cluster");
    }

    /// A KEK by AppRole.
    async fn kek(&self) -> VaultKek {
        let mount = self.bao.engine().await;
        self.bao.allow(&mount, &mount).await;
        self.bao.post(&format!("sys/auth/{mount}"), json!({ "type": "approle" })).await;
        let role = json!({ "token_policies": [mount], "token_ttl": "1h" });
        let (role_id, secret_id) = self.bao.app_role(&mount, role).await;
        let auth = VaultAuth::app_role(role_id, SecretString::from(secret_id)).at_mount(&mount);
        let options = VaultOptions::new(&self.bao.address, "k", auth).with_mount(mount);
        VaultKek::create(options, CreateOptions::default()).await.unwrap()
    }
}

async fn unavailable(kek: &VaultKek) {
    let context = context("t-1");
    let error = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Unavailable, "{error}");
    let error = kek.describe().await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_killed_and_frozen_servers_come_back() {
    let Some(mut durable) = Durable::start().await else { return };
    let kek = durable.kek().await;
    let context = context("t-1");
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    kek.rotate().await.unwrap();
    let unwraps = async || {
        let request = UnwrapRequest::new(&generated.wrapped, &context);
        let unwrapped = kek.unwrap_key(request).await.unwrap();
        assert!(unwrapped.data_key == generated.data_key);
        assert_eq!(kek.describe().await.unwrap().current.label(), Some("2"));
    };

    durable.bao.ask(Method::PUT, "sys/seal", Value::Null).await;
    unavailable(&kek).await;
    durable.unseal().await;
    unwraps().await;

    durable.server.kill().unwrap();
    unavailable(&kek).await;
    durable.server.restart().unwrap();
    servers::wait_for_port(durable.bao.addr().port()).unwrap();
    // It is sealed.
    unavailable(&kek).await;
    durable.unseal().await;
    unwraps().await;

    durable.server.freeze().unwrap();
    let hangs =
        async || tokio::time::timeout(Duration::from_millis(300), kek.describe()).await.is_err();
    // The signal takes a moment to stop every thread.
    assert!(hangs().await || hangs().await);
    durable.server.thaw().unwrap();
    unwraps().await;
    assert_eq!(kek.logins(), 1, "an outage is no reason to log in again");
}
