//! Looks at a KEK with the credentials at hand, before a service goes live with them.
//!
//! ```text
//! cargo run -p bulla-examples-kms --example doctor -- aws-kms:///alias/orders service
//! cargo run -p bulla-examples-kms --example doctor -- \
//!     'vault://vault.internal:8200/transit/orders?auth=kubernetes&role=orders-service' service
//! ```
//!
//! The role is `service`, `opener` or `operator`. Ends with 1 if something is bad. It tries
//! what the role should not be allowed, so expect refusals in the log of the KMS.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulla::Profile;
use bulla::doctor::{Examination, Role, Verdict};
use bulla::kek::KekUrl;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: doctor URL [service|opener|operator]";
    let url: KekUrl = arguments.next().context(usage)?.parse()?;
    let role = match arguments.next().as_deref() {
        None | Some("service") => Role::Service,
        Some("opener") => Role::Opener,
        Some("operator") => Role::Operator,
        Some(_) => bail!(usage),
    };
    let opened = url.open(Profile::Development).await?;
    let mut examination = Examination::new(role);
    if let Some(clock) = opened.clock.as_deref() {
        examination = examination.clock(clock);
    }
    let report = examination.run(&*opened.kek).await;
    write!(io::stdout(), "{report}")?;
    Ok(if report.verdict() == Verdict::Bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
