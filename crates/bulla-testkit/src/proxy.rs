//! A TCP proxy that makes a healthy server look broken.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::kms_suite::Condition;

/// Bytes of an answer that get through before it is broken off: not even the status line
/// of an HTTP answer.
const BROKEN_OFF_AFTER: usize = 6;
/// Time for the clients' own tasks to see that their connections have ended.
const NOTICE: Duration = Duration::from_millis(30);

/// Stands between a client and a server on this machine, and refuses, holds back, delays
/// or breaks off connections on command. Ends when it is dropped.
///
/// It knows nothing of what it carries; the conditions that a KMS itself brings about
/// ([`Throttled`](Condition::Throttled) and the like) are none of its business.
#[derive(Debug)]
pub struct FaultyProxy {
    addr: SocketAddr,
    orders: mpsc::Sender<Order>,
}

type Order = (Condition, oneshot::Sender<io::Result<()>>);

impl FaultyProxy {
    /// A healthy proxy for `upstream`, on a free port of 127.0.0.1. Needs a tokio runtime
    /// with I/O and time.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (orders, received) = mpsc::channel(1);
        tokio::spawn(run(addr, upstream, listener, received));
        Ok(Self { addr, orders })
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Brings about a condition: every open connection ends, and new ones fare as it says.
    /// Returns whether it could; a proxy cannot make a KMS throttle or deny.
    pub async fn set(&self, condition: Condition) -> bool {
        let (done, answer) = oneshot::channel();
        if self.orders.send((condition, done)).await.is_err() {
            return false;
        }
        let obeyed = matches!(answer.await, Ok(Ok(())));
        tokio::time::sleep(NOTICE).await;
        obeyed
    }
}

async fn run(
    addr: SocketAddr,
    upstream: SocketAddr,
    listener: TcpListener,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut listener = Some(listener);
    let mut condition = Condition::Healthy;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((next, done)) = order else { return };
                connections.shutdown().await;
                let outcome = obey(next, addr, &mut listener).await;
                if outcome.is_ok() {
                    condition = next;
                }
                let _ = done.send(outcome);
            }
            accepted = accept(&listener) => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(carry(client, upstream, condition));
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Listens or does not, as `condition` wants.
async fn obey(
    condition: Condition,
    addr: SocketAddr,
    listener: &mut Option<TcpListener>,
) -> io::Result<()> {
    match condition {
        Condition::Unreachable => *listener = None,
        Condition::Healthy | Condition::Hanging | Condition::Resetting | Condition::Slow(_) => {
            if listener.is_none() {
                *listener = Some(TcpListener::bind(addr).await?);
            }
        }
        _ => return Err(io::ErrorKind::Unsupported.into()),
    }
    Ok(())
}

async fn accept(listener: &Option<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Carries one connection until it ends. Its failures are what the client is to see.
async fn carry(mut client: TcpStream, upstream: SocketAddr, condition: Condition) {
    if condition == Condition::Hanging {
        return std::future::pending().await;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let _ = match condition {
        Condition::Resetting => break_off(client, server).await,
        Condition::Slow(delay) => delay_answers(client, server, delay).await,
        _ => tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop),
    };
}

/// Lets a request through and the first bytes of its answer; then resets the connection.
async fn break_off(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            read = client.read(&mut buffer) => match read? {
                0 => return Ok(()),
                len => server.write_all(&buffer[..len]).await?,
            },
            readable = server.readable() => {
                readable?;
                break;
            }
        }
    }
    let len = server.read(&mut buffer).await?.min(BROKEN_OFF_AFTER);
    client.write_all(&buffer[..len]).await?;
    client.set_zero_linger()
}

/// Waits before the first bytes of each answer.
async fn delay_answers(
    mut client: TcpStream,
    mut server: TcpStream,
    delay: Duration,
) -> io::Result<()> {
    let (mut request, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut asked = false;
    loop {
        tokio::select! {
            read = client.read(&mut request) => match read? {
                0 => return Ok(()),
                len => {
                    asked = true;
                    server.write_all(&request[..len]).await?;
                }
            },
            read = server.read(&mut answer) => match read? {
                0 => return Ok(()),
                len => {
                    if std::mem::take(&mut asked) {
                        tokio::time::sleep(delay).await;
                    }
                    client.write_all(&answer[..len]).await?;
                }
            },
        }
    }
}
