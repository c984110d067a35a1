//! The clock of Vault, as its health check tells it.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bulla_backend::{KmsClock, KmsError, KmsOperation};
use rustify::enums::RequestMethod;
use serde::Deserialize;

use crate::VaultKek;
use crate::failure::Failure;
use crate::wire::{Call, Headers};

/// Answered without a token.
const HEALTH: &str = "sys/health";
/// A standby's clock will do, and its answer is a success then.
const STANDBY_TOO: &str = "standbyok=true&perfstandbyok=true";

#[derive(Deserialize)]
struct Health {
    /// Seconds since 1970.
    server_time_utc: u64,
}

#[async_trait]
impl KmsClock for VaultKek {
    async fn now(&self) -> Result<SystemTime, KmsError> {
        let told = async {
            let call = Call::bare(RequestMethod::GET, HEALTH).with_query(STANDBY_TOO);
            let reply = self.0.session().wire().exchange(call, &Headers::default()).await?;
            let Health { server_time_utc } = reply.whole()?;
            let told = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(server_time_utc));
            told.ok_or_else(|| Failure::strange("tells no time"))
        };
        told.await.map_err(|failure| self.0.error(KmsOperation::Describe, failure))
    }
}
