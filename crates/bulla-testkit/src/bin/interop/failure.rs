//! How the program ends when it does not succeed.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use bulla_core::{ContextError, HeaderError, KeyError, OpenError, SealError};

/// Why nothing came of a command, or not all of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// By a class of the specification, in its words, and the text that goes with it.
    Refused(String, String),
    /// The command line is wrong.
    Usage(String),
    /// Standard input, a file or standard output.
    Io(&'static str, io::Error),
}

impl Failure {
    /// A failed read.
    pub(crate) fn input(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<OpenError>()) {
            Some(inner) => inner.clone().into(),
            None => Self::Io("input", error),
        }
    }

    /// A failed write.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<SealError>()) {
            Some(inner) => inner.clone().into(),
            None => Self::Io("output", error),
        }
    }

    /// The same, after `len` bytes of a stream's plaintext have been written.
    pub(crate) fn after(self, len: u64) -> Self {
        match self {
            Self::Refused(class, text) if len > 0 => {
                Self::Refused(class, format!("{text}; {len} bytes of it were written before"))
            }
            other => other,
        }
    }

    /// Says it in one line, and with which code to exit.
    pub(crate) fn report(&self) -> ExitCode {
        super::say(&self.to_string());
        ExitCode::from(match self {
            Self::Refused(..) => 1,
            Self::Usage(_) => 2,
            Self::Io(..) => 3,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(class, text) => write!(f, "{class}: {text}"),
            Self::Usage(text) => f.write_str(text),
            Self::Io(what, error) => write!(f, "{what} failed: {error}"),
        }
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self::Refused("context error".into(), error.to_string())
    }
}

impl From<HeaderError> for Failure {
    fn from(error: HeaderError) -> Self {
        OpenError::from(error).into()
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Refused(error.class().to_string(), error.to_string())
    }
}

/// The specification has no classes for sealing.
impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::Refused("not sealed".into(), error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Refused("local error".into(), error.to_string())
    }
}

/// Help and usage errors, as `clap` words them.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let written = match error.use_stderr() {
        true => io::stderr().lock().write_all(without_keys(&text).as_bytes()),
        false => io::stdout().lock().write_all(text.as_bytes()),
    };
    match written {
        Ok(()) if !error.use_stderr() => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// `text` without what may be a DEK in the wrong place: runs of 16 hexadecimal digits and more.
fn without_keys(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let digits = rest[start..].find(|c: char| !c.is_ascii_hexdigit());
        let end = digits.map_or(rest.len(), |len| start + len);
        clean += &rest[..start];
        clean += if end - start < 16 { &rest[start..end] } else { "[hexadecimal]" };
        rest = &rest[end..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_out_of_usage_errors() {
        assert_eq!(without_keys("unexpected argument 'abc'"), "unexpected argument 'abc'");
        let key = "00112233445566778899aabbccddeeff";
        assert_eq!(without_keys(&format!("a '{key}' b")), "a '[hexadecimal]' b");
        assert_eq!(without_keys(key), "[hexadecimal]");
    }
}
