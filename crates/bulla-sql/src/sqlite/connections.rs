//! The threads that hold the connections, and the line in front of them.
//!
//! SQLite blocks, so a connection lives on a thread of its own, and a call sends its
//! whole transaction there as one closure. What waits in line is that closure, not the
//! caller: one that is dropped, or that nobody polls for a while, holds nobody up. No
//! async runtime has a part in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bulla_backend::{StoreError, StoreErrorKind};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::error::unavailable;

/// What a call does with a connection, or with the reason why there is none.
type Job = Box<dyn FnOnce(Result<&mut Connection, StoreError>) + Send>;

/// A few connections, all of a kind. Dropping it lets the calls that are under way
/// finish, and closes the connections some time later.
pub(super) struct Connections {
    /// `None` once they are closed.
    jobs: Mutex<Option<Sender<Job>>>,
    /// Fails when the last thread has closed its connection.
    ended: watch::Receiver<()>,
    /// How long a call waits in line.
    wait_max: Duration,
    /// The process that has the threads. A child of it does not.
    process: u32,
}

/// Calls in line at most: behind a disk that hangs, memory stays bounded.
const LINE_MAX: usize = 16_384;

impl Connections {
    /// A thread for each of `opened`: with that connection, or with one that `connect`
    /// opens at the first call, or after one was lost.
    pub(super) fn start(
        opened: impl IntoIterator<Item = Option<Connection>>,
        wait_max: Duration,
        connect: impl Fn() -> Result<Connection, StoreError> + Clone + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (sender, jobs) = bounded(LINE_MAX);
        let (alive, ended) = watch::channel(());
        for connection in opened {
            let (jobs, alive, connect) = (jobs.clone(), alive.clone(), connect.clone());
            spawn(move || {
                work(&jobs, connection, connect);
                drop(alive);
            })?;
        }
        let process = std::process::id();
        Ok(Self { jobs: Mutex::new(Some(sender)), ended, wait_max, process })
    }

    /// Does `work` on the first connection that is free.
    ///
    /// Dropping the future before that leaves it undone; dropping it later lets it
    /// finish.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.process != std::process::id() {
            return Err(unavailable("the process was forked; open the store again in the child"));
        }
        let (reply, answer) = oneshot::channel();
        let (queued, wait_max) = (Instant::now(), self.wait_max);
        let job: Job = Box::new(move |connection| {
            if reply.is_closed() {
                return;
            }
            let result = match queued.elapsed() > wait_max {
                true => Err(unavailable("other calls keep every connection busy")),
                false => connection.and_then(work),
            };
            // Whoever asked may have gone away meanwhile.
            let _ = reply.send(result);
        });
        let sent = self.sender().as_ref().map(|jobs| jobs.try_send(job));
        match sent {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => {
                return Err(unavailable("too many calls wait for a connection"));
            }
            _ => return Err(unavailable("the store has been closed")),
        }
        answer.await.unwrap_or_else(|_| Err(unavailable("the connection was lost")))
    }

    /// Waits for the calls that are under way, then closes. Later calls fail.
    pub(super) async fn close(&self) {
        drop(self.sender().take());
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn sender(&self) -> MutexGuard<'_, Option<Sender<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does one job after the other, until there can be no more.
fn work(
    jobs: &Receiver<Job>,
    mut connection: Option<Connection>,
    connect: impl Fn() -> Result<Connection, StoreError>,
) {
    for job in jobs {
        let open = connection.take().map_or_else(&connect, Ok);
        let used = AssertUnwindSafe(|| match open {
            Ok(mut open) => {
                job(Ok(&mut open));
                Some(open)
            }
            Err(error) => {
                job(Err(error));
                None
            }
        });
        // One that panicked, or that could not even roll back, is replaced.
        connection = catch_unwind(used).ok().flatten().filter(Connection::is_autocommit);
    }
}

/// [`Connections::run`] without a connection: on a thread that ends with `work`.
pub(super) async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (reply, answer) = oneshot::channel();
    spawn(move || {
        let _ = reply.send(work());
    })?;
    answer.await.unwrap_or_else(|_| Err(unavailable("the thread was lost")))
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    thread::Builder::new().name("bulla-sqlite".into()).spawn(work).map(drop).map_err(|error| {
        StoreError::new(StoreErrorKind::Unavailable, "the system gives no thread")
            .with_source(error)
    })
}
