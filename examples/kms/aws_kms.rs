//! A KEK in AWS KMS: seal records, rotate the KEK on demand, open, and see the wrap renewed
//! while the records stay as they are.
//!
//! ```text
//! export AWS_REGION=eu-west-1            # and credentials, as for every AWS tool
//! cargo run -p bulla-examples-kms --example aws_kms
//! ```
//!
//! Against LocalStack, which needs no account:
//!
//! ```text
//! export AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_REGION=us-east-1
//! export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
//! cargo run -p bulla-examples-kms --example aws_kms
//! ```
//!
//! In AWS it makes a key, `alias/bulla-example`, which costs about a dollar a month until
//! it is deleted, and which can be rotated on demand 25 times in its life. A service needs
//! less permission than this: `crates/bulla-aws/policies/service.json`.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Result;
use bulla::aws::{AwsKek, AwsOptions, CreateOptions};
use bulla::backend::{KeyAdmin, KeyInspector, KeyWrapper, KmsErrorKind};
use bulla::layers::{LayerOptions, dependable};
use bulla::{Manager, MemoryKeyStore, Profile, RecordContext, SystemClock};

#[tokio::main]
async fn main() -> Result<()> {
    let mut out = io::stdout().lock();
    let kek = key().await?;
    writeln!(out, "KEK      {}", kek.kek())?;
    writeln!(out, "         at key material {}", kek.describe().await?.current)?;

    // Time-outs, retries and a circuit breaker around it, and a key store. This one ends with
    // the process: a service keeps its wraps in a database (the feature `sqlite`).
    let layered = dependable(Arc::new(kek.clone()), LayerOptions::default());
    let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
    let manager = Manager::builder(Profile::Development, layered, store).start().await?;
    let scope = manager.scope("t-9f2c", "people")?;

    let people = ["ada@example.org", "grace@example.org", "barbara@example.org"];
    let mut sealed = Vec::new();
    for (row, email) in people.iter().enumerate() {
        sealed.push(scope.seal(email.as_bytes(), &context(row)?).await?);
    }
    let calls = manager.stats().kms_calls;
    writeln!(out, "sealed   {} records with {calls} calls of AWS KMS", sealed.len())?;

    let new = kek.rotate().await?;
    writeln!(out, "rotated  the KEK to key material {new}")?;
    // A service would learn of it within a minute.
    manager.sync().await?;
    let mut stale = 0;
    for (row, (email, envelope)) in people.iter().zip(&sealed).enumerate() {
        let opened = scope.open(envelope, &context(row)?).await?;
        anyhow::ensure!(opened.plaintext == email.as_bytes(), "row {row} opens to something else");
        stale += usize::from(opened.freshness.stale_kek);
    }
    writeln!(out, "opened   all {}; the wrap of {stale} is behind the KEK", sealed.len())?;

    manager.rewraps_settled().await;
    writeln!(out, "rewraps  {}; no record was touched", manager.stats().rewraps)?;
    if !kek.capabilities().names_version {
        writeln!(out, "         (AWS KMS says by which key material a data key was wrapped; this")?;
        writeln!(out, "         server does not, so that nothing is known to be behind)")?;
    }
    Ok(())
}

/// What binds an e-mail address to its row.
fn context(row: usize) -> Result<RecordContext> {
    let row = row.to_string();
    Ok(RecordContext::new([("table", "people"), ("column", "email"), ("row", &row)])?)
}

/// The key of this example, made if there is none.
async fn key() -> Result<AwsKek> {
    let options = AwsOptions::new("alias/bulla-example");
    match AwsKek::connect(options.clone()).await {
        Err(error) if error.kind() == KmsErrorKind::NotFound => {
            let create = CreateOptions::new().with_description("Bulla's example");
            Ok(AwsKek::create(options, create).await?)
        }
        connected => Ok(connected?),
    }
}
