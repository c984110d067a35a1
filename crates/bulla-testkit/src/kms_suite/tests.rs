//! The suite itself: it lists every case, and each way to break the contract makes
//! the case that is about it panic.

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{
    Capabilities, GenerateRequest, GeneratedKey, Kek, KekId, KekState, KekVersion, KeyAdmin,
    KeyInspector, KeyWrapper, KmsError, KmsErrorKind, RewrapRequest, UnwrapRequest, UnwrappedKey,
    WrapRequest, WrappedKey,
};
use bulla_core::{DataKey, KmsContext};

use super::{Condition, KmsFixture};
use crate::TestKms;

/// A case that the macro forgets would never run.
#[test]
fn the_macro_lists_every_case() {
    let sources = [
        include_str!("blobs.rs"),
        include_str!("data_path.rs"),
        include_str!("life_cycle.rs"),
        include_str!("robustness.rs"),
    ];
    let mut cases: Vec<_> = sources
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
        .collect();
    cases.sort_unstable();
    let this = include_str!("../kms_suite.rs");
    let listed = this.split_once("$($before)*\n").unwrap().1.split_once('}').unwrap().0;
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), cases);
}

/// One mistake that authors of backends make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// The context never reaches the KMS, on either side: round trips pass.
    DropsContext,
    /// The KEK id of a wrap is not looked at.
    IgnoresKekId,
    /// The version is guessed to be the first.
    GuessesVersion,
    /// Rewrap makes a new key.
    RewrapsAnotherKey,
    /// Rewrap leaves the wrap as it is.
    RewrapsNothing,
    /// Every failure is an outage.
    CallsEverythingUnavailable,
    /// `describe` answers from a cache.
    DescribesFromMemory,
    /// `Debug` prints key bytes.
    ShowsKeys,
}

/// A correct KMS behind a flawed client.
struct Flawed {
    inner: Arc<TestKms>,
    flaw: Flaw,
    cached: KekState,
    last_key: std::sync::Mutex<[u8; 32]>,
}

impl Flawed {
    async fn new(name: &str, flaw: Flaw) -> Self {
        let inner = Arc::new(TestKms::new(name));
        let cached = inner.describe().await.unwrap();
        Self { inner, flaw, cached, last_key: Default::default() }
    }

    fn context(&self, context: &KmsContext) -> KmsContext {
        match self.flaw {
            Flaw::DropsContext => super::context(),
            _ => context.clone(),
        }
    }

    fn wrap_of(&self, wrapped: &WrappedKey) -> WrappedKey {
        let mut wrapped = wrapped.clone();
        if self.flaw == Flaw::IgnoresKekId {
            wrapped.kek = self.inner.kek().clone();
        }
        wrapped
    }

    fn version(&self, version: KekVersion) -> KekVersion {
        match self.flaw {
            Flaw::GuessesVersion => KekVersion::Parsed("1".into()),
            _ => version,
        }
    }

    fn error(&self, error: KmsError) -> KmsError {
        match self.flaw {
            Flaw::CallsEverythingUnavailable => {
                let kek = self.inner.kek().clone();
                KmsError::new(KmsErrorKind::Unavailable, error.operation(), kek)
            }
            _ => error,
        }
    }
}

impl std::fmt::Debug for Flawed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.flaw {
            Flaw::ShowsKeys => write!(f, "Flawed({:?})", self.last_key.lock().unwrap()),
            _ => f.write_str("Flawed"),
        }
    }
}

#[async_trait]
impl KeyWrapper for Flawed {
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
        let context = self.context(request.context);
        let generated = self.inner.generate_data_key(GenerateRequest::new(&context)).await;
        let mut generated = generated.map_err(|error| self.error(error))?;
        *self.last_key.lock().unwrap() = *generated.data_key.expose_secret();
        generated.wrapped.kek_version = self.version(generated.wrapped.kek_version);
        Ok(generated)
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let context = self.context(request.context);
        let wrapped = self.inner.wrap_key(WrapRequest::new(request.data_key, &context)).await;
        wrapped.map_err(|error| self.error(error))
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        let (context, wrapped) = (self.context(request.context), self.wrap_of(request.wrapped));
        let unwrapped = self.inner.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await;
        unwrapped.map_err(|error| self.error(error))
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let (context, wrapped) = (self.context(request.context), self.wrap_of(request.wrapped));
        match self.flaw {
            Flaw::RewrapsNothing => Ok(wrapped),
            Flaw::RewrapsAnotherKey => {
                let other = DataKey::init_with(|bytes| bytes.fill(1));
                self.inner.wrap_key(WrapRequest::new(&other, &context)).await
            }
            _ => {
                let wrapped = self.inner.rewrap_key(RewrapRequest::new(&wrapped, &context)).await;
                wrapped.map_err(|error| self.error(error))
            }
        }
    }
}

#[async_trait]
impl KeyInspector for Flawed {
    async fn describe(&self) -> Result<KekState, KmsError> {
        match self.flaw {
            Flaw::DescribesFromMemory => Ok(self.cached.clone()),
            _ => self.inner.describe().await,
        }
    }
}

struct Fixture(Arc<Flawed>, Arc<Flawed>);

#[async_trait]
impl KmsFixture for Fixture {
    fn kek(&self) -> Arc<dyn Kek> {
        self.0.clone()
    }

    fn other_kek(&self) -> Arc<dyn Kek> {
        self.1.clone()
    }

    fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
        Some(self.0.inner.clone())
    }

    async fn set_condition(&self, _condition: Condition) -> bool {
        false
    }

    async fn schedule_destruction(&self) -> bool {
        false
    }
}

/// Whether a case panics for a flaw.
macro_rules! panics {
    ($case:ident, $flaw:ident) => {{
        let fixture = Fixture(
            Flawed::new("a", Flaw::$flaw).await.into(),
            Flawed::new("b", Flaw::$flaw).await.into(),
        );
        let case = tokio::spawn(async move { super::$case(&fixture).await });
        assert!(
            case.await.is_err_and(|error| error.is_panic()),
            concat!(stringify!($case), " does not notice ", stringify!($flaw))
        );
    }};
}

#[tokio::test]
async fn every_flaw_is_found_by_the_case_about_it() {
    panics!(contexts_must_match, DropsContext);
    panics!(blobs_that_name_another_kek_are_refused, IgnoresKekId);
    panics!(rotation_keeps_old_wraps, GuessesVersion);
    panics!(rewrap_moves_to_the_current_version, RewrapsAnotherKey);
    panics!(rewrap_moves_to_the_current_version, RewrapsNothing);
    panics!(changed_blobs_are_refused, CallsEverythingUnavailable);
    panics!(a_disabled_key_does_nothing, CallsEverythingUnavailable);
    panics!(rotation_keeps_old_wraps, DescribesFromMemory);
    panics!(a_disabled_key_does_nothing, DescribesFromMemory);
    panics!(debug_and_errors_show_no_key, ShowsKeys);
}
