use bulla_backend::{
    Capabilities, GeneratedKey, Kek, KekId, KeyInspector, KeyWrapper, RewrapRequest, UnwrapRequest,
    UnwrappedKey, WrapRequest,
};
use bulla_manager::layers::{Failover, Timeout};

use super::*;

/// One of several replicas of a KEK: its own name and its own way of failing, the same
/// key material.
#[derive(Debug)]
pub(super) struct Replica {
    material: Arc<TestKms>,
    /// Fails, hangs and counts; its keys are not used.
    way: TestKms,
    /// By which the material knows itself.
    inner: KekId,
}

impl Replica {
    pub(super) fn new(name: &str, material: &Arc<TestKms>) -> Arc<Self> {
        let inner = KeyWrapper::kek(&**material).clone();
        Arc::new(Self { material: Arc::clone(material), way: TestKms::new(name), inner })
    }

    /// As any backend, it knows its own wraps by its own name alone.
    fn pinned(
        &self,
        wrapped: &WrappedKey,
        operation: KmsOperation,
    ) -> Result<WrappedKey, KmsError> {
        if wrapped.kek != *self.way.kek() {
            return Err(KmsError::new(KmsErrorKind::Tampered, operation, self.way.kek().clone()));
        }
        Ok(self.renamed(wrapped.clone(), &self.inner))
    }

    fn renamed(&self, mut wrapped: WrappedKey, name: &KekId) -> WrappedKey {
        wrapped.kek = name.clone();
        wrapped
    }
}

#[async_trait::async_trait]
impl KeyWrapper for Replica {
    fn kek(&self) -> &KekId {
        self.way.kek()
    }

    fn capabilities(&self) -> Capabilities {
        self.way.capabilities()
    }

    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        self.way.generate_data_key(GenerateRequest::new(request.context)).await?;
        let generated = self.material.generate_data_key(request).await?;
        let wrapped = self.renamed(generated.wrapped, self.way.kek());
        Ok(GeneratedKey::new(generated.data_key, wrapped))
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        self.way.wrap_key(WrapRequest::new(request.data_key, request.context)).await?;
        Ok(self.renamed(self.material.wrap_key(request).await?, self.way.kek()))
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        let wrapped = self.pinned(request.wrapped, KmsOperation::UnwrapKey)?;
        self.way.describe().await?;
        self.material.unwrap_key(UnwrapRequest::new(&wrapped, request.context)).await
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let wrapped = self.pinned(request.wrapped, KmsOperation::RewrapKey)?;
        self.way.describe().await?;
        let wrapped =
            self.material.rewrap_key(RewrapRequest::new(&wrapped, request.context)).await?;
        Ok(self.renamed(wrapped, self.way.kek()))
    }
}

#[async_trait::async_trait]
impl KeyInspector for Replica {
    async fn describe(&self) -> Result<KekState, KmsError> {
        self.way.describe().await?;
        let mut state = self.material.describe().await?;
        state.kek = self.way.kek().clone();
        Ok(state)
    }
}

fn three() -> ([Arc<Replica>; 3], Failover) {
    let material = Arc::new(TestKms::new("material"));
    let replicas = ["a", "b", "c"].map(|name| Replica::new(name, &material));
    let [a, b, c] = replicas.clone();
    (replicas, Failover::new(a, [b as Arc<dyn Kek>, c]))
}

fn asked(replicas: &[Arc<Replica>; 3]) -> [u64; 3] {
    replicas.each_ref().map(|replica| describes(&replica.way))
}

#[tokio::test(start_paused = true)]
async fn what_one_wraps_another_unwraps_under_one_name() {
    let (replicas, kek) = three();
    let context = context();
    assert_eq!(kek.kek().as_str(), "test:a");
    let first = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    replicas[0].way.fail_all(Some(KmsErrorKind::Unavailable));
    let second = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    replicas[1].way.fail_all(Some(KmsErrorKind::Throttled));
    for generated in [&first, &second] {
        assert_eq!(generated.wrapped.kek.as_str(), "test:a");
        let wrapped = &generated.wrapped;
        let unwrapped = kek.unwrap_key(UnwrapRequest::new(wrapped, &context)).await.unwrap();
        assert!(unwrapped.data_key == generated.data_key);
        let wrapped = kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await.unwrap();
        assert_eq!(wrapped.kek.as_str(), "test:a");
    }
    assert_eq!(kek.describe().await.unwrap().kek.as_str(), "test:a");
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_sends_it_elsewhere() {
    for failure in ALL_KINDS {
        let (replicas, kek) = three();
        replicas[0].way.fail_all(Some(failure));
        let outcome = kek.describe().await;
        if failure.is_retryable() {
            assert!(outcome.is_ok());
            assert_eq!(asked(&replicas), [1, 1, 0]);
        } else {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), error.kek().as_str()), (failure, "test:a"));
            assert_eq!(asked(&replicas), [1, 0, 0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_failed_comes_last_for_a_while() {
    let (replicas, kek) = three();
    replicas[0].way.fail_all(Some(KmsErrorKind::Unavailable));
    for _ in 0..10 {
        assert!(kek.describe().await.is_ok());
    }
    assert_eq!(asked(&replicas), [1, 10, 0]);
    tokio::time::advance(secs(30)).await;
    assert!(kek.describe().await.is_ok());
    assert!(kek.describe().await.is_ok());
    assert_eq!(asked(&replicas), [2, 12, 0], "it was tried once, and still fails");
    tokio::time::advance(secs(30)).await;
    replicas[0].way.fail_all(None);
    assert!(kek.describe().await.is_ok());
    assert!(kek.describe().await.is_ok());
    assert_eq!(asked(&replicas), [4, 12, 0], "it is back");
}

#[tokio::test(start_paused = true)]
async fn one_call_finds_out_whether_it_is_back() {
    let (replicas, kek) = three();
    replicas[0].way.fail_all(Some(KmsErrorKind::Unavailable));
    assert!(kek.describe().await.is_ok());
    tokio::time::advance(secs(30)).await;
    replicas[0].way.fail_all(None);
    replicas[0].way.hold();
    let mut calls = callers(&Arc::new(kek), 1000).await;
    assert_eq!(asked(&replicas), [2, 1000, 0]);
    assert_eq!(ended(&mut calls).await, [None; 999]);
    replicas[0].way.release();
    assert!(calls.pop().unwrap().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn all_are_asked_before_it_fails_and_in_vain_avoided() {
    let (replicas, kek) = three();
    for replica in &replicas {
        replica.way.fail_all(Some(KmsErrorKind::Unavailable));
    }
    for round in 1..=3 {
        assert_eq!(kind(kek.describe().await), Some(KmsErrorKind::Unavailable));
        assert_eq!(asked(&replicas), [round; 3]);
    }
    replicas[2].way.fail_all(None);
    assert!(kek.describe().await.is_ok());
    assert!(kek.describe().await.is_ok());
    assert_eq!(asked(&replicas), [4, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_hang_are_left_in_time() {
    let material = Arc::new(TestKms::new("material"));
    let (a, b) = (Replica::new("a", &material), Replica::new("b", &material));
    let limited = |kek| Arc::new(Layered::new(Timeout::new(secs(1)), kek)) as Arc<dyn Kek>;
    let kek = Failover::new(limited(a.clone()), [limited(b)]);
    a.way.hold();
    let began = tokio::time::Instant::now();
    assert!(kek.describe().await.is_ok());
    assert!(kek.describe().await.is_ok());
    assert_eq!(began.elapsed(), secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_wrap_of_another_kek_is_refused_even_of_a_replica() {
    let (replicas, kek) = three();
    let context = context();
    let theirs =
        replicas[1].generate_data_key(GenerateRequest::new(&context)).await.unwrap().wrapped;
    let error = kek.unwrap_key(UnwrapRequest::new(&theirs, &context)).await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Tampered);
    let error = kek.rewrap_key(RewrapRequest::new(&theirs, &context)).await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Tampered);
    assert_eq!(asked(&replicas), [0; 3]);
}

#[test]
fn it_promises_what_all_promise() {
    let all =
        Capabilities::NONE.with_authenticated_wrap(true).with_remote(true).with_names_version(true);
    let weaker =
        [all.with_authenticated_wrap(false), all.with_remote(false), all.with_names_version(false)];
    let kek = |can| Arc::new(TestKms::new("x").with_capabilities(can)) as Arc<dyn Kek>;
    assert_eq!(Failover::new(kek(all), [kek(all)]).capabilities(), all);
    for weaker in weaker {
        assert_eq!(Failover::new(kek(all), [kek(weaker)]).capabilities(), weaker);
        assert_eq!(Failover::new(kek(weaker), [kek(all)]).capabilities(), weaker);
    }
}
