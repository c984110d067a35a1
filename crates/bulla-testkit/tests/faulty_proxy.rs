//! Each condition of the proxy is what it says, and ends when it is told to.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bulla_testkit::FaultyProxy;
use bulla_testkit::kms_suite::Condition;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const MESSAGE: &[u8; 16] = b"sixteen of bytes";

/// Says back whatever it hears.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = client.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    addr
}

async fn ask(client: &mut TcpStream) -> io::Result<[u8; 16]> {
    let mut answer = [0; 16];
    client.write_all(MESSAGE).await?;
    client.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn ask_anew(proxy: &FaultyProxy) -> io::Result<[u8; 16]> {
    ask(&mut TcpStream::connect(proxy.addr()).await?).await
}

#[tokio::test]
async fn conditions_come_and_go() {
    let proxy = FaultyProxy::start(echo().await).await.unwrap();
    let brief = Duration::from_millis(200);
    assert_eq!(&ask_anew(&proxy).await.unwrap(), MESSAGE);

    assert!(proxy.set(Condition::Unreachable).await);
    assert_eq!(ask_anew(&proxy).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

    assert!(proxy.set(Condition::Hanging).await);
    assert!(timeout(brief, ask_anew(&proxy)).await.is_err());

    assert!(proxy.set(Condition::Resetting).await);
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(MESSAGE).await.unwrap();
    let mut answer = Vec::new();
    let broken = client.read_to_end(&mut answer).await;
    assert!(answer.len() < MESSAGE.len(), "{broken:?}: the whole answer got through");

    assert!(proxy.set(Condition::Slow(brief)).await);
    let begun = Instant::now();
    assert_eq!(&ask_anew(&proxy).await.unwrap(), MESSAGE);
    assert!(begun.elapsed() >= brief);

    assert!(!proxy.set(Condition::Throttled).await, "a proxy cannot throttle");
    assert!(proxy.set(Condition::Healthy).await);
    assert_eq!(&ask_anew(&proxy).await.unwrap(), MESSAGE);
}

#[tokio::test]
async fn a_new_condition_ends_open_connections() {
    let proxy = FaultyProxy::start(echo().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(&ask(&mut client).await.unwrap(), MESSAGE);
    assert!(proxy.set(Condition::Hanging).await);
    assert!(ask(&mut client).await.is_err(), "an old connection still works");
}
