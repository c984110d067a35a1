//! One event for each call.

use std::sync::Arc;

use bulla_backend::{AuditSink, KmsCall, KmsError, KmsOutcome, collect_request_ids};
use tokio::time::Instant;

use super::{Answer, Attempt, Call, Layer};

/// Tells an [`AuditSink`] of each call, with its latency, its outcome and the ids under
/// which the KMS logged it.
///
/// A call that is dropped before its answer is there, or whose backend panics, is told as
/// [`GivenUp`](KmsOutcome::GivenUp). Put it innermost, and each attempt of a
/// [`Retry`](super::Retry) is an event of its own, as it is in the trail of the KMS.
#[derive(Debug, Clone)]
pub struct Audited(Arc<dyn AuditSink>);

impl Audited {
    /// Tells `sink`.
    pub fn new(sink: Arc<dyn AuditSink>) -> Self {
        Self(sink)
    }
}

impl Layer for Audited {
    async fn around<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        let mut event = Event {
            sink: &*self.0,
            kek_version: call.kek_version.map(Into::into),
            call,
            began: Instant::now(),
            request_ids: Vec::new(),
            outcome: KmsOutcome::GivenUp,
        };
        let outcome = collect_request_ids(&mut event.request_ids, attempt()).await;
        event.outcome = match &outcome {
            Ok(answer) => {
                // The answer knows better than the question.
                event.kek_version =
                    answer.kek_version().map(Into::into).or(event.kek_version.take());
                KmsOutcome::Succeeded
            }
            Err(error) => KmsOutcome::Failed(error.kind()),
        };
        drop(event);
        outcome
    }
}

/// A call under way, recorded when it is dropped: there is no way to end a call without.
struct Event<'a> {
    sink: &'a dyn AuditSink,
    call: Call<'a>,
    kek_version: Option<Box<str>>,
    began: Instant,
    request_ids: Vec<Box<str>>,
    outcome: KmsOutcome,
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        let Call { operation, kek, context, .. } = self.call;
        let mut event = KmsCall::new(operation, kek, self.outcome, self.began.elapsed());
        event.kek_version = self.kek_version.as_deref();
        event.context = context;
        event.request_ids = &self.request_ids;
        self.sink.record(&event);
    }
}
