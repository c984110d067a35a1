//! Running the program.

use std::io::Write;
use std::process::{Command, Stdio};

pub(crate) const DEK: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub(crate) const NONCE: &str = "404142434445464748494a4b4c4d4e4f5051525354555657";

/// Appendix B: DEK and contexts.
pub(crate) const KEYS: [&str; 12] = [
    "--dek",
    DEK,
    "--scope",
    "purpose=customers",
    "--scope",
    "tenant=acme",
    "--context",
    "table=customers",
    "--context",
    "row=42",
    "--context",
    "column=email",
];

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output, of a run that succeeded in silence.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Vec<u8> {
        assert_eq!((self.code, &*self.stderr), (0, ""));
        self.stdout
    }

    /// The one line of a refusal.
    #[track_caller]
    pub(crate) fn refused(&self) -> &str {
        assert_eq!(self.code, 1, "{}", self.stderr);
        self.line()
    }

    /// The one line on standard error, without its end.
    #[track_caller]
    pub(crate) fn line(&self) -> &str {
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        self.stderr.strip_prefix("interop: ").and_then(|line| line.strip_suffix('\n')).unwrap()
    }
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interop"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with `args` and `stdin`. What no run may do is to show the DEK.
#[track_caller]
pub(crate) fn interop(args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = command(args).spawn().unwrap();
    let mut to_child = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It may well end before it has read all.
        scope.spawn(move || drop(to_child.write_all(stdin)));
        child.wait_with_output().unwrap()
    });
    let ran = Ran {
        code: output.status.code().unwrap(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    let shown = format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr).to_lowercase();
    // But for the example in the help.
    let shown = shown.replace(&format!("  dek={DEK}\n"), "");
    assert!(!shown.contains(&DEK[8..40]), "the DEK is shown: {shown}");
    ran
}
