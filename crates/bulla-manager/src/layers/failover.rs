//! Several replicas of one KEK.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    Capabilities, GenerateRequest, GeneratedKey, Kek, KekId, KekState, KeyInspector, KeyWrapper,
    KmsError, KmsErrorKind, KmsOperation, RewrapRequest, UnwrapRequest, UnwrappedKey, WrapRequest,
    WrappedKey,
};
use tokio::time::Instant;

/// How long a replica that failed comes last.
const AVOIDED_FOR: Duration = Duration::from_secs(30);

/// Replicas of one KEK, with the same key material and the same names of versions: AWS
/// multi-region keys, or clusters of Vault that replicate. What one wraps, each unwraps.
///
/// A call goes to the first replica. If that fails for a reason that may pass
/// ([`is_retryable`](KmsErrorKind::is_retryable)), the next is asked, and the first comes
/// last for 30 seconds; then one call tries it again. No other failure is an occasion to
/// ask elsewhere: `Denied`, `Disabled` and `Tampered` are answers. So a key that is to be
/// revoked must be disabled in every replica.
///
/// To the outside there is one KEK, the first: its id is in every wrap, whoever made it.
/// Errors name the replica that they came from.
///
/// A replica that hangs is left only if its calls end: put the time-outs, or all that
/// [`dependable`](super::dependable) does, around each replica, not around this.
///
/// Keys that are *different* keys are no replicas; see
/// [`also_wrap_with`](crate::ManagerBuilder::also_wrap_with) for these.
#[derive(Debug)]
pub struct Failover {
    replicas: Vec<Arc<dyn Kek>>,
    /// Until when each replica comes last.
    avoided_until: Mutex<Vec<Option<Instant>>>,
}

impl Failover {
    /// `first` gives the KEK its id, and is asked first; then `others`, in their order.
    pub fn new(first: Arc<dyn Kek>, others: impl IntoIterator<Item = Arc<dyn Kek>>) -> Self {
        let replicas: Vec<_> = [first].into_iter().chain(others).collect();
        let avoided_until = Mutex::new(vec![None; replicas.len()]);
        Self { replicas, avoided_until }
    }

    fn avoided_until(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.avoided_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The replicas in the order in which to ask them. One that was avoided for long
    /// enough is asked by one call, and avoided by others until that has succeeded.
    fn order(&self) -> Vec<usize> {
        let now = Instant::now();
        let mut avoided_until = self.avoided_until();
        let (mut asked, mut avoided) = (Vec::new(), Vec::new());
        for (at, until) in avoided_until.iter_mut().enumerate() {
            match until {
                Some(until) if now < *until => avoided.push(at),
                // Only if this call will get there.
                Some(until) if asked.is_empty() => {
                    *until = now + AVOIDED_FOR;
                    asked.push(at);
                }
                Some(_) => avoided.push(at),
                None => asked.push(at),
            }
        }
        asked.append(&mut avoided);
        asked
    }

    /// Asks one replica after the other.
    async fn ask<'a, T, F: Future<Output = Result<T, KmsError>>>(
        &'a self,
        operation: KmsOperation,
        ask: impl Fn(&'a dyn Kek) -> F,
    ) -> Result<T, KmsError> {
        let mut failed = None;
        for at in self.order() {
            let replica = &*self.replicas[at];
            let outcome = ask(replica).await;
            match outcome {
                Err(error) if error.kind().is_retryable() => {
                    let until = Instant::now() + AVOIDED_FOR;
                    if self.avoided_until()[at].replace(until).is_none() {
                        tracing::warn!(replica = %replica.kek(), %error, "a replica of a KEK fails");
                    }
                    failed = Some(error);
                }
                outcome => {
                    self.avoided_until()[at] = None;
                    return outcome;
                }
            }
        }
        // There is a first replica, which failed.
        Err(failed.unwrap_or_else(|| self.error(KmsErrorKind::Unavailable, operation)))
    }

    fn error(&self, kind: KmsErrorKind, operation: KmsOperation) -> KmsError {
        KmsError::new(kind, operation, self.kek().clone())
    }

    /// A wrap of another KEK is refused, as by any backend.
    fn pin(&self, wrapped: &WrappedKey, operation: KmsOperation) -> Result<(), KmsError> {
        if wrapped.kek == *self.kek() {
            return Ok(());
        }
        let error = self.error(KmsErrorKind::Tampered, operation);
        Err(error.with_message("the wrap names another KEK"))
    }

    /// A wrap by one of the replicas, under the name of all.
    fn ours(&self, mut wrapped: WrappedKey) -> WrappedKey {
        wrapped.kek = self.kek().clone();
        wrapped
    }
}

/// The wrap as `replica` knows it.
fn renamed(wrapped: &WrappedKey, replica: &dyn Kek) -> WrappedKey {
    WrappedKey::new(replica.kek().clone(), wrapped.kek_version.clone(), wrapped.blob.clone())
}

#[async_trait]
impl KeyWrapper for Failover {
    fn kek(&self) -> &KekId {
        self.replicas[0].kek()
    }

    /// What every replica can.
    fn capabilities(&self) -> Capabilities {
        let all = |can: fn(Capabilities) -> bool| {
            self.replicas.iter().all(|replica| can(replica.capabilities()))
        };
        Capabilities::NONE
            .with_authenticated_wrap(all(|can| can.authenticated_wrap))
            .with_remote(all(|can| can.remote))
            .with_names_version(all(|can| can.names_version))
    }

    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        let generated = self
            .ask(KmsOperation::GenerateDataKey, |replica| {
                replica.generate_data_key(GenerateRequest::new(request.context))
            })
            .await?;
        Ok(GeneratedKey::new(generated.data_key, self.ours(generated.wrapped)))
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let wrapped = self
            .ask(KmsOperation::WrapKey, |replica| {
                replica.wrap_key(WrapRequest::new(request.data_key, request.context))
            })
            .await?;
        Ok(self.ours(wrapped))
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        let operation = KmsOperation::UnwrapKey;
        self.pin(request.wrapped, operation)?;
        self.ask(operation, |replica| async move {
            let wrapped = renamed(request.wrapped, replica);
            replica.unwrap_key(UnwrapRequest::new(&wrapped, request.context)).await
        })
        .await
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let operation = KmsOperation::RewrapKey;
        self.pin(request.wrapped, operation)?;
        let wrapped = self
            .ask(operation, |replica| async move {
                let wrapped = renamed(request.wrapped, replica);
                replica.rewrap_key(RewrapRequest::new(&wrapped, request.context)).await
            })
            .await?;
        Ok(self.ours(wrapped))
    }
}

#[async_trait]
impl KeyInspector for Failover {
    async fn describe(&self) -> Result<KekState, KmsError> {
        let mut state = self.ask(KmsOperation::Describe, |replica| replica.describe()).await?;
        state.kek = self.kek().clone();
        Ok(state)
    }
}
