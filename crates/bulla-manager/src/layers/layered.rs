//! From one method to all methods of the contract.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    Capabilities, GenerateRequest, GeneratedKey, Kek, KekId, KekState, KekVersion, KeyAdmin,
    KeyInspector, KeyWrapper, KmsError, KmsOperation, RewrapRequest, RotationSchedule,
    UnwrapRequest, UnwrappedKey, WrapRequest, WrappedKey,
};

use super::call::{Answer, Attempt, Call};

/// Something that is done around each call of the KMS contract, whatever the call is.
///
/// # Contract
/// - The answer is that of an attempt, unchanged, or an error.
/// - Dropping the future gives the call up and leaves nothing behind.
/// - A call that [is not sent](Call::is_sent) is let through.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use bulla_backend::{KeyInspector, KmsError};
/// use bulla_manager::layers::{Answer, Attempt, Call, Layer, Layered};
/// use bulla_testkit::TestKms;
///
/// #[derive(Debug, Default)]
/// struct Count(AtomicU64);
///
/// impl Layer for Count {
///     async fn around<'a, T: Answer>(
///         &'a self,
///         _call: Call<'a>,
///         attempt: impl Attempt<'a, T>,
///     ) -> Result<T, KmsError> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         attempt().await
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let kek = Layered::new(Count::default(), Arc::new(TestKms::new("example")));
/// kek.describe().await.unwrap();
/// assert_eq!(kek.layer().0.load(Ordering::Relaxed), 1);
/// # });
/// ```
pub trait Layer: fmt::Debug + Send + Sync + 'static {
    /// Answers `call`, by making it with `attempt` once, several times or not at all.
    fn around<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> impl Future<Output = Result<T, KmsError>> + Send;
}

/// A KEK with a layer around it: again a [`Kek`].
#[derive(Debug)]
pub struct Layered<L> {
    layer: L,
    inner: Arc<dyn Kek>,
}

impl<L: Layer> Layered<L> {
    /// Puts `layer` around `inner`.
    pub fn new(layer: L, inner: Arc<dyn Kek>) -> Self {
        Self { layer, inner }
    }

    /// The layer.
    pub fn layer(&self) -> &L {
        &self.layer
    }

    fn call(&self, operation: KmsOperation) -> Call<'_> {
        Call::new(operation, self.inner.kek())
    }
}

#[async_trait]
impl<L: Layer> KeyWrapper for Layered<L> {
    fn kek(&self) -> &KekId {
        self.inner.kek()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        let call = self.call(KmsOperation::GenerateDataKey).with_context(request.context);
        let attempt = || self.inner.generate_data_key(GenerateRequest::new(request.context));
        self.layer.around(call, attempt).await
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let call = self.call(KmsOperation::WrapKey).with_context(request.context);
        let attempt = || self.inner.wrap_key(WrapRequest::new(request.data_key, request.context));
        self.layer.around(call, attempt).await
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        let (wrapped, context) = (request.wrapped, request.context);
        let call = self.call(KmsOperation::UnwrapKey).with_context(context).with_wrapped(wrapped);
        let attempt = || self.inner.unwrap_key(UnwrapRequest::new(wrapped, context));
        self.layer.around(call, attempt).await
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let (wrapped, context) = (request.wrapped, request.context);
        let call = self.call(KmsOperation::RewrapKey).with_context(context).with_wrapped(wrapped);
        let attempt = || self.inner.rewrap_key(RewrapRequest::new(wrapped, context));
        self.layer.around(call, attempt).await
    }
}

#[async_trait]
impl<L: Layer> KeyInspector for Layered<L> {
    async fn describe(&self) -> Result<KekState, KmsError> {
        self.layer.around(self.call(KmsOperation::Describe), || self.inner.describe()).await
    }
}

/// The administration of a KEK with a layer around it; of what `A` can do, which is
/// [`KeyAdmin`], [`RotationSchedule`] or both.
#[derive(Debug)]
pub struct LayeredAdmin<L, A: ?Sized = dyn KeyAdmin> {
    layer: L,
    kek: KekId,
    inner: Arc<A>,
}

impl<L: Layer, A: ?Sized> LayeredAdmin<L, A> {
    /// Puts `layer` around `inner`, which administers `kek`.
    pub fn new(layer: L, kek: KekId, inner: Arc<A>) -> Self {
        Self { layer, kek, inner }
    }

    fn call(&self, operation: KmsOperation) -> Call<'_> {
        Call::new(operation, &self.kek)
    }
}

#[async_trait]
impl<L: Layer, A: KeyAdmin + ?Sized> KeyAdmin for LayeredAdmin<L, A> {
    async fn rotate(&self) -> Result<KekVersion, KmsError> {
        self.layer.around(self.call(KmsOperation::Rotate), || self.inner.rotate()).await
    }

    async fn disable(&self) -> Result<(), KmsError> {
        self.layer.around(self.call(KmsOperation::Disable), || self.inner.disable()).await
    }

    async fn enable(&self) -> Result<(), KmsError> {
        self.layer.around(self.call(KmsOperation::Enable), || self.inner.enable()).await
    }

    async fn disable_version(&self, label: &str) -> Result<(), KmsError> {
        let call = self.call(KmsOperation::DisableVersion).with_kek_version(label);
        self.layer.around(call, || self.inner.disable_version(label)).await
    }

    async fn enable_version(&self, label: &str) -> Result<(), KmsError> {
        let call = self.call(KmsOperation::EnableVersion).with_kek_version(label);
        self.layer.around(call, || self.inner.enable_version(label)).await
    }

    async fn destroy_version(&self, label: &str) -> Result<(), KmsError> {
        let call = self.call(KmsOperation::DestroyVersion).with_kek_version(label);
        self.layer.around(call, || self.inner.destroy_version(label)).await
    }
}

#[async_trait]
impl<L: Layer, A: RotationSchedule + ?Sized> RotationSchedule for LayeredAdmin<L, A> {
    async fn rotation_period(&self) -> Result<Option<Duration>, KmsError> {
        self.layer
            .around(self.call(KmsOperation::ReadSchedule), || self.inner.rotation_period())
            .await
    }

    async fn set_rotation_period(&self, period: Option<Duration>) -> Result<(), KmsError> {
        self.layer
            .around(self.call(KmsOperation::SetSchedule), || self.inner.set_rotation_period(period))
            .await
    }
}
