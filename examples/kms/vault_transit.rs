//! A KEK in the transit engine of Vault or OpenBao: seal, rotate the KEK, open.
//!
//! ```text
//! bao server -dev -dev-root-token-id=root &
//! export VAULT_ADDR=http://127.0.0.1:8200 VAULT_TOKEN=root
//! bao secrets enable transit
//! cargo run -p bulla-examples-kms --example vault_transit
//! ```
//!
//! The token makes and rotates a key of its own, `bulla-example`. A service needs less:
//! `crates/bulla-vault/policies/service.hcl`.

use std::env;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use bulla::backend::{KeyAdmin, KeyInspector, KmsErrorKind};
use bulla::layers::{LayerOptions, dependable};
use bulla::vault::{CreateOptions, VaultAuth, VaultKek, VaultOptions};
use bulla::{Manager, MemoryKeyStore, Profile, RecordContext, SystemClock};

#[tokio::main]
async fn main() -> Result<()> {
    let mut out = io::stdout().lock();
    let kek = key().await?;
    let current = kek.describe().await?.current;
    writeln!(out, "KEK      {:?}, at version {current}", kek)?;

    // Time-outs, retries and a circuit breaker around it, and a key store. This one ends with
    // the process: a service keeps its wraps in a database (the feature `sqlite`).
    let layered = dependable(Arc::new(kek.clone()), LayerOptions::default());
    let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
    let manager = Manager::builder(Profile::Development, layered, store).start().await?;
    let scope = manager.scope("t-9f2c", "people")?;

    let context = RecordContext::new([("table", "people"), ("column", "email"), ("row", "42")])?;
    let envelope = scope.seal(b"ada@example.org", &context).await?;
    writeln!(out, "sealed   {} bytes", envelope.len())?;

    let new = kek.rotate().await?;
    writeln!(out, "rotated  the KEK to version {new}; what is sealed stays as it is")?;
    let opened = scope.open(&envelope, &context).await?;
    writeln!(out, "opened   {:?}", String::from_utf8_lossy(&opened.plaintext))?;

    let elsewhere = RecordContext::new([("table", "people"), ("column", "email"), ("row", "43")])?;
    let refused = scope.open(&envelope, &elsewhere).await;
    writeln!(out, "refused  in another row: {}", refused.is_err())?;
    Ok(())
}

/// The key of this example, made if there is none.
async fn key() -> Result<VaultKek> {
    let address = env::var("VAULT_ADDR").context("VAULT_ADDR: where is Vault?")?;
    let token = env::var("VAULT_TOKEN").context("VAULT_TOKEN: a token that may make a key")?;
    let options = VaultOptions::new(address, "bulla-example", VaultAuth::token(token));
    match VaultKek::connect(options.clone()).await {
        Err(error) if error.kind() == KmsErrorKind::NotFound => {
            Ok(VaultKek::create(options, CreateOptions::default()).await?)
        }
        connected => Ok(connected?),
    }
}
