//! How far a transfer has come, for people who watch.
//!
//! Promise: nothing is shown unless standard error is a terminal and the transfer has taken over two seconds.
//! Refusal: no numbers are kept for anybody but the bar.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Transfers that are over sooner are not worth a bar.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two redraws while no byte moves, so that the rate falls.
const TICK: Duration = Duration::from_millis(250);

/// A bar of bytes that appears when the wait gets long.
pub(crate) struct Progress {
    wanted: bool,
    /// Bytes that will come, if that is known.
    total: Option<u64>,
    done: u64,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A transfer that starts now.
    pub(crate) fn new(quiet: bool, total: Option<u64>) -> Self {
        let wanted = !quiet && std::io::stderr().is_terminal();
        Self { wanted, total, done: 0, start: Instant::now(), bar: None }
    }

    /// Notes that `bytes` more were transferred.
    pub(crate) fn advance(&mut self, bytes: u64) {
        if !self.wanted {
            return;
        }
        self.done += bytes;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if self.start.elapsed() >= PATIENCE => self.bar = Some(self.make_bar()),
            None => {}
        }
    }

    fn make_bar(&self) -> ProgressBar {
        let template = match self.total {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left",
            None => "{spinner} {bytes} in {elapsed}  {bytes_per_sec}",
        };
        let bar = ProgressBar::with_draw_target(self.total, ProgressDrawTarget::stderr())
            .with_elapsed(self.start.elapsed())
            .with_position(self.done);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        bar
    }
}

impl Drop for Progress {
    /// Leaves the last state on the screen; a sentence about a failure comes below it.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}
