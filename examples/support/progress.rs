//! Progress bars, for phases that take their time and people who watch.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long a phase may take without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr that appears after a second, and never if stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    since: Instant,
}

impl Progress {
    /// A phase of `total` steps of whatever kind.
    pub(crate) fn new(phase: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("  {msg:10} {wide_bar} {percent}% {eta}") {
            bar.set_style(style);
        }
        bar.set_message(phase);
        Self { bar, since: Instant::now() }
    }

    /// So many steps are done.
    pub(crate) fn set(&self, done: u64) {
        if self.bar.is_hidden() && self.since.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
