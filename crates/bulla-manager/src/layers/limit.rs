//! A limit to how many calls are under way.

use std::sync::atomic::{AtomicUsize, Ordering};

use bulla_backend::{KmsError, KmsErrorKind};
use tokio::sync::Semaphore;

use super::{Answer, Attempt, Call, Layer};

/// Lets so many calls through at once and so many wait, first come, first served. What
/// comes on top fails at once as [`Throttled`](KmsErrorKind::Throttled), and so does not
/// pile up in memory while a KMS is slow.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    at_once: usize,
    permits: Semaphore,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl ConcurrencyLimit {
    /// Lets `at_once` calls through, one at least, and `waiting_max` wait.
    pub fn new(at_once: usize, waiting_max: usize) -> Self {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        let permits = Semaphore::new(at_once);
        Self { at_once, permits, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// A place among those who wait, unless all are taken.
    fn queue(&self) -> Option<Place<'_>> {
        let place = Place(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < self.waiting_max).then_some(place)
    }
}

/// A place in the queue, left when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Layer for ConcurrencyLimit {
    async fn around<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        if !call.is_sent() {
            return attempt().await;
        }
        let _permit = match self.permits.try_acquire() {
            Ok(permit) => Ok(permit),
            Err(_) => {
                let Some(_place) = self.queue() else {
                    let (at_once, waiting) = (self.at_once, self.waiting_max);
                    return Err(call.error(
                        KmsErrorKind::Throttled,
                        format!(
                            "the limit of this process: {at_once} calls are under way and {waiting} wait"
                        ),
                    ));
                };
                self.permits.acquire().await
            }
        };
        attempt().await
    }
}
