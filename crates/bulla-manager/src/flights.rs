//! Single flight: many callers, one fetch.
//!
//! A fetch runs in a task of its own, so that a caller who goes away cancels nothing,
//! and its outcome, error included, goes to everybody who waited.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Flights<K, T>(Arc<Mutex<HashMap<K, Waiter<T>>>>);

/// Waits for the outcome of a fetch.
#[derive(Debug)]
pub(crate) struct Waiter<T>(watch::Receiver<Option<T>>);

/// The duty to fetch. Dropped without an outcome, it tells the waiters that there
/// will be none.
pub(crate) struct Landing<K: Eq + Hash, T> {
    key: K,
    outcome: watch::Sender<Option<T>>,
    flights: Arc<Mutex<HashMap<K, Waiter<T>>>>,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Waiter<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Flights<K, T> {
    /// Joins the fetches of all `keys`: waiters in their order, and a landing for each
    /// key that nobody was fetching.
    pub(crate) fn join(&self, keys: &[K]) -> (Vec<Waiter<T>>, Vec<Landing<K, T>>) {
        let mut flights = lock(&self.0);
        let mut landings = Vec::new();
        let waiters = keys.iter().map(|key| {
            let entry = flights.entry(key.clone()).or_insert_with(|| {
                let (outcome, waiter) = watch::channel(None);
                let flights = Arc::clone(&self.0);
                landings.push(Landing { key: key.clone(), outcome, flights });
                Waiter(waiter)
            });
            entry.clone()
        });
        let waiters = waiters.collect();
        (waiters, landings)
    }

    /// Whether `key` is being fetched.
    pub(crate) fn contains(&self, key: &K) -> bool {
        lock(&self.0).contains_key(key)
    }
}

impl<T: Clone> Waiter<T> {
    /// The outcome; `None` if the fetch died without one.
    pub(crate) async fn outcome(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
    }
}

impl<K: Eq + Hash, T> Landing<K, T> {
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    /// Ends the fetch.
    pub(crate) fn land(self, outcome: T) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        lock(&self.flights).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_landing_serves_every_waiter() {
        let flights = Flights::<&str, u32>::default();
        let (first, mut landings) = flights.join(&["a", "b", "a"]);
        assert_eq!(first.len(), 3);
        assert_eq!(landings.len(), 2);
        let (second, none) = flights.join(&["a"]);
        assert!(none.is_empty());
        landings.remove(0).land(7);
        for waiter in [first[0].clone(), first[2].clone(), second[0].clone()] {
            assert_eq!(waiter.outcome().await, Some(7));
        }
        drop(landings);
        assert_eq!(first[1].clone().outcome().await, None, "a dead fetch is no hang");
        assert!(!flights.contains(&"a") && !flights.contains(&"b"));
    }
}
