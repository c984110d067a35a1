//! A limit to how long a call may take.

use std::time::Duration;

use bulla_backend::{KmsError, KmsErrorKind};

use super::{Answer, Attempt, Call, Layer};

/// Gives a call up after some time. That fails as
/// [`Unavailable`](KmsErrorKind::Unavailable); what the KMS did is not known.
///
/// Inside of [`Retry`](super::Retry) it limits one attempt, outside of it all attempts
/// and the pauses between them.
#[derive(Debug, Clone, Copy)]
pub struct Timeout(Duration);

impl Timeout {
    /// Waits for `limit` at most.
    pub fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

impl Layer for Timeout {
    async fn around<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        match tokio::time::timeout(self.0, attempt()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(call.error(KmsErrorKind::Unavailable, format!("no answer within {:?}", self.0)))
            }
        }
    }
}
