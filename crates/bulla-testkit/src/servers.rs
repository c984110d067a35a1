//! The real servers that tests run against, and how tests find them.
//!
//! `scripts/kms-servers` installs and starts them, and says in environment variables where
//! they are; `scripts/test` does both. A test that finds no server says so in one line
//! and ends; in CI, where the variable `CI` is set, it fails.

use std::env;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A server, or a program that tests start themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Server {
    /// OpenBao in development mode, unsealed, root token `root`.
    OpenBao,
    /// The same with TLS and a certificate authority of its own.
    OpenBaoTls,
    /// The certificate authority of [`OpenBaoTls`](Self::OpenBaoTls), a PEM file.
    OpenBaoCa,
    /// LocalStack: AWS KMS with its key states.
    LocalStack,
    /// moto: AWS KMS with IAM.
    Moto,
    /// The program `bao`.
    BaoProgram,
    /// The program `moto_server`.
    MotoProgram,
}

impl Server {
    /// The environment variable with its address or path.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::OpenBao => "BULLA_TEST_OPENBAO",
            Self::OpenBaoTls => "BULLA_TEST_OPENBAO_TLS",
            Self::OpenBaoCa => "BULLA_TEST_OPENBAO_CA",
            Self::LocalStack => "BULLA_TEST_LOCALSTACK",
            Self::Moto => "BULLA_TEST_MOTO",
            Self::BaoProgram => "BULLA_TEST_BAO",
            Self::MotoProgram => "BULLA_TEST_MOTO_SERVER",
        }
    }
}

/// Where `server` is: a URL such as `http://127.0.0.1:18200`, or the path of a program or
/// file. Says so once, on standard error, if there is none.
///
/// # Panics
/// If there is none and the variable `CI` is set.
#[allow(clippy::panic, reason = "a server that CI lacks must fail the test")]
pub fn find(server: Server) -> Option<String> {
    static MISSED: Mutex<Vec<Server>> = Mutex::new(Vec::new());
    let variable = server.variable();
    match env::var(variable) {
        Ok(found) if !found.is_empty() => return Some(found),
        _ if env::var_os("CI").is_some() => {
            panic!("{variable} is not set, and CI must run this test: see scripts/kms-servers")
        }
        _ => {}
    }
    let mut missed = MISSED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !missed.contains(&server) {
        missed.push(server);
        // Past the test harness, which would keep it from whoever should know.
        let _ = writeln!(
            io::stderr(),
            "NOT RUN: tests that need {server:?} ({variable} is not set; scripts/test starts it)"
        );
    }
    None
}

/// A server that a test has started for itself, to stop, kill and start again. Killed when
/// it is dropped.
#[derive(Debug)]
pub struct OwnServer {
    command: Command,
    child: Child,
}

impl OwnServer {
    /// Starts `command`, without standard input and output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        Ok(Self { command, child })
    }

    /// Kills it as `kill -9` does, without a chance to say goodbye, and waits for its end.
    ///
    /// # Errors
    /// When it could not be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again, by the same command.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> io::Result<()> {
        let _ = self.kill();
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// Freezes it: connections are accepted by the system, and nobody answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// OpenBao in development mode, of a test's own: root token `root`, everything in memory.
/// Returns it with its URL once it answers; `None` where there is no `bao`.
///
/// # Errors
/// When it does not start within ten seconds.
pub fn own_openbao() -> io::Result<Option<(OwnServer, String)>> {
    let Some(program) = find(Server::BaoProgram) else { return Ok(None) };
    let port = free_port()?;
    let mut command = Command::new(program);
    command.args(["server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token"]);
    command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
    let server = OwnServer::start(command)?;
    wait_for_port(port)?;
    Ok(Some((server, format!("http://127.0.0.1:{port}"))))
}

/// OpenBao as in production, of a test's own: its storage in `directory` survives a kill,
/// and it unseals itself. Not initialised: that is a `PUT` of `sys/init`, which returns the
/// root token. `None` where there is no `bao`.
///
/// # Errors
/// When it does not start within ten seconds.
pub fn own_openbao_on_disk(directory: &Path) -> io::Result<Option<(OwnServer, String)>> {
    let Some(program) = find(Server::BaoProgram) else { return Ok(None) };
    let (port, cluster_port) = (free_port()?, free_port()?);
    let storage = directory.join("storage");
    std::fs::create_dir_all(&storage)?;
    let config = format!(
        r#"
storage "raft" {{
  path = "{}"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
# Protects nothing: the server of a test has no secrets.
seal "static" {{
  current_key_id = "one"
  current_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster_port}"
"#,
        storage.display()
    );
    let file = directory.join("server.hcl");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("server").arg("-config").arg(file);
    let server = OwnServer::start(command)?;
    wait_for_port(port)?;
    Ok(Some((server, format!("http://127.0.0.1:{port}"))))
}

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until something listens on `port` of 127.0.0.1.
///
/// # Errors
/// When nothing does after ten seconds.
pub fn wait_for_port(port: u16) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
