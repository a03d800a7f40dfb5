//! What commands that measure show while and after they measure: a bar of steps, and aligned columns.
//!
//! Promise: no thread is started, because measurements fork. Refusal: nothing is shown while standard error is no terminal, or
//! before a measurement has taken over two seconds.

use indicatif::{ProgressBar, ProgressDrawTarget};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Measurements that are over sooner are not worth a bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// A bar of steps that appears when the wait gets long, and goes when it is dropped.
pub(crate) struct Steps {
    total: u64,
    done: u64,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Steps {
    /// So many steps, of which none is done.
    pub(crate) fn new(total: u64) -> Self {
        Self { total, done: 0, start: Instant::now(), bar: None }
    }

    /// Notes that one more step is done.
    pub(crate) fn advance(&mut self) {
        self.done += 1;
        if self.bar.is_none() && self.start.elapsed() >= PATIENCE {
            self.bar = Some(
                ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr())
                    .with_elapsed(self.start.elapsed()),
            );
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Rows as aligned lines: the first `text` columns lean left, the others, which hold figures, right.
pub(crate) fn columns(rows: &[Vec<String>], text: usize) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = match index < text {
                true => write!(line, "{cell:<width$}  "),
                false => write!(line, "{cell:>width$}  "),
            };
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_leans_left_and_figures_lean_right() {
        let rows = [["case", "ns"], ["a", "1000"], ["longer", "µ5"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(columns(&rows, 1), "case      ns\na       1000\nlonger    µ5\n");
    }
}
