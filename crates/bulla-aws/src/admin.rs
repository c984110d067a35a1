//! What operators do to a key.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bulla_backend::{KekVersion, KeyAdmin, KmsError, KmsErrorKind, KmsOperation, RotationSchedule};

use crate::AwsKek;
use crate::kek::{check_alias, reported};

/// Rotation on demand goes on behind the call that asks for it. Its end is looked for so
/// many times, after waits that begin with `FIRST_WAIT` and double: 13 seconds in all.
const LOOKS: u32 = 7;
const FIRST_WAIT: Duration = Duration::from_millis(100);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What `EnableKeyRotation` sets when it is given no period.
const ROTATION_DAYS_DEFAULT: i32 = 365;

/// Versions cannot be disabled, enabled or destroyed one by one: `Unsupported`. Nor can a
/// disabled key be rotated.
#[async_trait]
impl KeyAdmin for AwsKek {
    /// Rotates on demand, and waits up to 13 seconds for the new version. AWS KMS takes
    /// longer at times: then the version is `Unknown`, and `describe` will tell. A dropped
    /// call may have rotated. At most 25 times for each key (`Misconfigured`).
    async fn rotate(&self) -> Result<KekVersion, KmsError> {
        let call = self.call(KmsOperation::Administer);
        let before = self.metadata(call).await?.current_key_material_id;
        let request = self.0.client.rotate_key_on_demand().key_id(self.arn());
        call.ask(request.send()).await?;
        if before.is_none() {
            return Ok(KekVersion::Unknown);
        }
        for look in 0..=LOOKS {
            // It has rotated, whatever becomes of this question.
            let current = self.metadata(call).await.ok();
            let current = current.and_then(|metadata| metadata.current_key_material_id);
            if current.is_some() && current != before {
                return Ok(reported(current));
            }
            if look < LOOKS {
                tokio::time::sleep(FIRST_WAIT * 2_u32.pow(look)).await;
            }
        }
        Ok(KekVersion::Unknown)
    }

    /// Takes effect within seconds, at times minutes, across AWS KMS.
    async fn disable(&self) -> Result<(), KmsError> {
        let request = self.0.client.disable_key().key_id(self.arn());
        self.call(KmsOperation::Administer).ask(request.send()).await.map(drop)
    }

    /// Takes effect as [`disable`](KeyAdmin::disable) does.
    async fn enable(&self) -> Result<(), KmsError> {
        let request = self.0.client.enable_key().key_id(self.arn());
        self.call(KmsOperation::Administer).ask(request.send()).await.map(drop)
    }

    async fn disable_version(&self, _label: &str) -> Result<(), KmsError> {
        Err(self.whole_keys_only())
    }

    async fn enable_version(&self, _label: &str) -> Result<(), KmsError> {
        Err(self.whole_keys_only())
    }

    async fn destroy_version(&self, _label: &str) -> Result<(), KmsError> {
        Err(self.whole_keys_only())
    }
}

/// Whole days, 90 to 2560.
#[async_trait]
impl RotationSchedule for AwsKek {
    async fn rotation_period(&self) -> Result<Option<Duration>, KmsError> {
        let request = self.0.client.get_key_rotation_status().key_id(self.arn());
        let call = self.call(KmsOperation::Administer);
        let answer = call.ask(request.send()).await?;
        let days = answer.rotation_period_in_days.unwrap_or(ROTATION_DAYS_DEFAULT);
        Ok(answer.key_rotation_enabled.then(|| DAY * days.unsigned_abs()))
    }

    async fn set_rotation_period(&self, period: Option<Duration>) -> Result<(), KmsError> {
        match period {
            Some(period) => self.enable_rotation(period).await,
            None => {
                let request = self.0.client.disable_key_rotation().key_id(self.arn());
                self.call(KmsOperation::Administer).ask(request.send()).await.map(drop)
            }
        }
    }
}

impl AwsKek {
    /// Has the key destroyed in `days` days, 7 to 30, and stops its use now. What only it
    /// can unwrap is then lost for good. Returns when that is; `None` for a multi-region
    /// key whose replicas must be gone first.
    ///
    /// # Errors
    /// [`KmsError`]: `Misconfigured` for other waiting times, `Disabled` if it is scheduled
    /// already.
    pub async fn schedule_deletion(&self, days: u8) -> Result<Option<SystemTime>, KmsError> {
        let call = self.call(KmsOperation::Administer);
        if !(7..=30).contains(&days) {
            let message = "AWS KMS destroys keys after 7 to 30 days";
            return Err(call.error(KmsErrorKind::Misconfigured, message));
        }
        let request = self.0.client.schedule_key_deletion().key_id(self.arn());
        let request = request.pending_window_in_days(days.into());
        let date = call.ask(request.send()).await?.deletion_date;
        Ok(date.and_then(|date| SystemTime::try_from(date).ok()))
    }

    /// Keeps a key that was to be destroyed. It is disabled then:
    /// [`enable`](KeyAdmin::enable) it.
    ///
    /// # Errors
    /// [`KmsError`]: `Disabled` if it was not to be destroyed.
    pub async fn cancel_deletion(&self) -> Result<(), KmsError> {
        let request = self.0.client.cancel_key_deletion().key_id(self.arn());
        self.call(KmsOperation::Administer).ask(request.send()).await.map(drop)
    }

    /// Points an alias at this key, made if there is none. Whoever has connected by the
    /// alias before stays with the key that it named.
    ///
    /// # Errors
    /// [`KmsError`]: `Misconfigured` if it is not `alias/…`.
    pub async fn set_alias(&self, alias: &str) -> Result<(), KmsError> {
        let call = self.call(KmsOperation::Administer);
        check_alias(alias).map_err(|message| call.error(KmsErrorKind::Misconfigured, message))?;
        let client = &self.0.client;
        let moved = client.update_alias().alias_name(alias).target_key_id(self.key_id());
        match call.ask(moved.send()).await {
            Err(error) if error.kind() == KmsErrorKind::NotFound => {
                let made = client.create_alias().alias_name(alias).target_key_id(self.key_id());
                call.ask(made.send()).await.map(drop)
            }
            moved => moved.map(drop),
        }
    }

    /// Makes a replica of a multi-region key in another region and returns its ARN. It can
    /// be used after some seconds; connect to it there. It has no alias and the default key
    /// policy: both are its own.
    ///
    /// # Errors
    /// [`KmsError`]: `Unsupported` if this is not a multi-region primary key,
    /// `Misconfigured` if the region has a replica.
    pub async fn replicate(&self, region: &str) -> Result<String, KmsError> {
        let call = self.call(KmsOperation::Administer);
        let request = self.0.client.replicate_key().key_id(self.arn()).replica_region(region);
        let answer = call.ask(request.send()).await?;
        answer.replica_key_metadata.and_then(|replica| replica.arn).ok_or_else(|| {
            call.error(KmsErrorKind::Unavailable, "the answer does not name the replica")
        })
    }

    pub(crate) async fn enable_rotation(&self, period: Duration) -> Result<(), KmsError> {
        let call = self.call(KmsOperation::Administer);
        let days = rotation_days(period)
            .map_err(|message| call.error(KmsErrorKind::Misconfigured, message))?;
        let request = self.0.client.enable_key_rotation().key_id(self.arn());
        let request = request.rotation_period_in_days(days);
        call.ask(request.send()).await.map(drop)
    }

    fn whole_keys_only(&self) -> KmsError {
        let message = "AWS KMS disables and destroys whole keys; to be rid of a version, create a \
                       key, move the data keys there and disable the old one";
        self.call(KmsOperation::Administer).error(KmsErrorKind::Unsupported, message)
    }
}

/// # Errors
/// What to correct.
pub(crate) fn rotation_days(period: Duration) -> Result<i32, &'static str> {
    let days = period.as_secs() / DAY.as_secs();
    match i32::try_from(days) {
        Ok(number @ 90..=2560) if DAY * number.unsigned_abs() == period => Ok(number),
        _ => Err("AWS KMS rotates once in 90 to 2560 whole days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_whole_days_in_the_range() {
        assert_eq!(rotation_days(DAY * 90), Ok(90));
        assert_eq!(rotation_days(DAY * 2560), Ok(2560));
        for wrong in
            [Duration::ZERO, DAY * 89, DAY * 2561, DAY * 90 + Duration::from_secs(1), Duration::MAX]
        {
            assert!(rotation_days(wrong).is_err(), "{wrong:?}");
        }
    }
}
