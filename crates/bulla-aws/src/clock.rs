//! The clock of AWS KMS, as its answers tell it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_kms::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use aws_sdk_kms::primitives::{DateTime, DateTimeFormat};
use bulla_backend::{KmsClock, KmsError, KmsErrorKind, KmsOperation};

use crate::AwsKek;

#[async_trait]
impl KmsClock for AwsKek {
    /// From the `Date` of an answer to `DescribeKey`, also of one that refuses: AWS refuses
    /// requests of machines whose clocks are off by more than five minutes.
    async fn now(&self) -> Result<SystemTime, KmsError> {
        let call = self.call(KmsOperation::Describe);
        let date = Date::default();
        let request = self.0.client.describe_key().key_id(self.arn());
        let answer = call.ask(request.customize().interceptor(date.clone()).send()).await;
        let told = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (told.and_then(|date| SystemTime::try_from(date).ok()), answer) {
            (Some(date), _) => Ok(date),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => {
                Err(call.error(KmsErrorKind::Unavailable, "the answer does not tell the time"))
            }
        }
    }
}

/// Keeps the `Date` of an answer, which the SDK does not hand out.
#[derive(Debug, Clone, Default)]
struct Date(Arc<Mutex<Option<DateTime>>>);

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
