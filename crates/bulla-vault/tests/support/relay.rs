//! A TCP relay in front of a server: counts what passes, and replaces bytes by others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the relay looks for in requests, and what it writes instead (as long).
pub(crate) type Rule = (&'static str, &'static str);

pub(crate) struct Relay {
    pub(crate) address: String,
    seen: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) async fn start(upstream: SocketAddr, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, rule, Arc::clone(&counter)));
            }
        });
        Self { address, seen }
    }

    /// Requests that had it.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

/// Requests are small and arrive in one or two pieces: what is looked for is in one of them.
async fn carry(client: TcpStream, upstream: SocketAddr, (from, to): Rule, seen: Arc<AtomicUsize>) {
    let server = TcpStream::connect(upstream).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 256 << 10];
    while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
        let mut bytes = buffer[..len].to_vec();
        while let Some(at) = bytes.windows(from.len()).position(|part| part == from.as_bytes()) {
            seen.fetch_add(1, Ordering::SeqCst);
            if from == to {
                break;
            }
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
        if to_server.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
