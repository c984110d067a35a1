//! OpenBao from its operators' side, for tests: set up with plain HTTP requests, so that what
//! is tested is not tested by itself.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod cluster;
pub(crate) mod fixture;
pub(crate) mod jwt;
pub(crate) mod relay;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use bulla_core::{DekVersion, KmsContext, ScopeContext};
use bulla_testkit::servers::{self, Server};
use reqwest::Method;
use serde_json::{Value, json};

/// A server that runs, unsealed, with the root token `root`.
pub(crate) struct Bao {
    pub(crate) address: String,
    pub(crate) namespace: Option<String>,
    pub(crate) root: String,
    http: reqwest::Client,
}

impl Bao {
    /// The one that all tests share; `None` where there is none.
    pub(crate) fn find() -> Option<Self> {
        servers::find(Server::OpenBao).map(|address| Self::at(&address))
    }

    pub(crate) fn at(address: &str) -> Self {
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        Self::by(address, http)
    }

    pub(crate) fn by(address: &str, http: reqwest::Client) -> Self {
        let address = address.trim_end_matches('/').to_owned();
        Self { address, namespace: None, root: "root".into(), http }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.address.split_once("://").unwrap().1.parse().unwrap()
    }

    /// Sends a request as `token`; status and answer.
    pub(crate) async fn ask_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> (u16, Value) {
        let url = format!("{}/v1/{path}", self.address);
        let mut request = self.http.request(method, url).header("X-Vault-Token", token);
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&text).unwrap_or(Value::Null))
    }

    /// Sends a request as root, which must succeed.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask_as(&self.root, method.clone(), path, &body).await;
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, body).await
    }

    /// A transit engine of its own; its mount.
    pub(crate) async fn engine(&self) -> String {
        static ENGINES: AtomicU32 = AtomicU32::new(0);
        let number = ENGINES.fetch_add(1, Ordering::Relaxed);
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let mount = format!("t{nanos}-{}-{number}", std::process::id());
        self.post(&format!("sys/mounts/{mount}"), json!({ "type": "transit" })).await;
        mount
    }

    /// Lets the policy `name` do everything at `mount`.
    pub(crate) async fn allow(&self, name: &str, mount: &str) {
        let all = r#"["create", "read", "update", "delete", "list"]"#;
        self.policy(name, &format!("path \"{mount}/*\" {{ capabilities = {all} }}")).await;
    }

    /// Lets it do nothing.
    pub(crate) async fn forbid(&self, name: &str) {
        self.policy(name, "# nothing").await;
    }

    pub(crate) async fn policy(&self, name: &str, rules: &str) {
        self.post(&format!("sys/policies/acl/{name}"), json!({ "policy": rules })).await;
    }

    /// A new token with `properties`.
    pub(crate) async fn token(&self, properties: Value) -> String {
        let answer = self.post("auth/token/create-orphan", properties).await;
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn token_into(&self, path: &Path, policy: &str) {
        let token = self.token(json!({ "policies": [policy], "ttl": "1h" })).await;
        std::fs::write(path, token + "\n").unwrap();
    }

    /// A role of the method AppRole mounted at `mount`; its id and a secret id.
    pub(crate) async fn app_role(&self, mount: &str, properties: Value) -> (String, String) {
        let role = format!("auth/{mount}/role/service");
        self.post(&role, properties).await;
        let id = self.ask(Method::GET, &format!("{role}/role-id"), Value::Null).await;
        let secret = self.post(&format!("{role}/secret-id"), json!({})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&id["data"]["role_id"]), text(&secret["data"]["secret_id"]))
    }

    /// Revokes every token that a login method has granted.
    pub(crate) async fn revoke_logins(&self, mount: &str) {
        self.post(&format!("sys/leases/revoke-prefix/auth/{mount}/login"), json!({})).await;
    }

    pub(crate) async fn revoke(&self, token: &str) {
        self.post("auth/token/revoke", json!({ "token": token })).await;
    }

    pub(crate) async fn revoke_in(&self, path: &Path) {
        self.revoke(std::fs::read_to_string(path).unwrap().trim()).await;
    }

    /// Lets a mount answer one request an hour, and uses that one up.
    pub(crate) async fn throttle(&self, mount: &str) {
        let quota = json!({ "path": mount, "rate": 0.0003, "interval": "1h" });
        self.post(&format!("sys/quotas/rate-limit/{mount}"), quota).await;
        for _ in 0..100 {
            let path = format!("{mount}/keys/none");
            if self.ask_as(&self.root, Method::GET, &path, &Value::Null).await.0 == 429 {
                return;
            }
        }
        unreachable!("no quota stopped these requests");
    }

    pub(crate) async fn unthrottle(&self, mount: &str) {
        self.ask(Method::DELETE, &format!("sys/quotas/rate-limit/{mount}"), Value::Null).await;
    }
}

/// The context of version 1 of a tenant's lineage.
pub(crate) fn context(tenant: &str) -> KmsContext {
    ScopeContext::new([("tenant", tenant)]).unwrap().kms_context(DekVersion::FIRST)
}
