//! What `ipc bench tokio` found, for machines and for people.
//!
//! Promise: every ratio stands beside the medians of both sides and its target. Refusal: nothing is fitted.

use super::super::columns::columns;
use super::super::process::Fallible;
use super::super::stats::{Case, Pairs, Subject, Summary};
use super::Form;
use crate::plot::Unit;
use serde::Serialize;
use std::fmt::Write as _;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) rounds: usize,
    /// Processors of the asking or receiving side, and of the other one.
    pub(super) processors: (usize, usize),
    pub(super) rows: Vec<Row>,
}

/// What a ratio is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Of {
    /// Times: a target is the most it should be.
    Time,
    /// Messages per time: a target is the least it should be.
    Rate,
}

/// Ours beside a Unix stream, which stands where other reports have the floor.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) case: Case,
    /// How the stream is used.
    pub(super) beside: &'static str,
    pub(super) of: Of,
    pub(super) target: Option<f64>,
    /// The share of round trips of ours in which both sides slept until their messages came, 0 to 1: of the side that slept less, the
    /// median of all rounds. For round trips of tasks that sleep.
    pub(super) asleep: Option<f64>,
}

impl Row {
    /// # Errors
    /// As [`Case::new`].
    pub(super) fn new(subject: &Subject<'_>, pairs: &Pairs, of: Of, form: Form, target: Option<f64>) -> Fallible<Self> {
        let beside = match form {
            Form::Bare => "UnixStream",
            Form::Buffered => "UnixStream, buffered",
        };
        Ok(Self { case: Case::new(subject, pairs)?, beside, of, target, asleep: None })
    }

    /// # Errors
    /// No round, or one that is no finite number.
    pub(super) fn with_asleep(self, shares: &[f64]) -> Fallible<Self> {
        Ok(Self { asleep: Some(Summary::of(shares)?.median), ..self })
    }

    fn cells(&self) -> Vec<String> {
        let show = |value| match self.of {
            Of::Time => Unit::Nanoseconds.show(value),
            Of::Rate => Unit::PerSecond.show(value * 1e6),
        };
        let sign = match self.of {
            Of::Time => "≤",
            Of::Rate => "≥",
        };
        let case = &self.case;
        vec![
            case.case.clone(),
            case.wait.clone(),
            self.beside.into(),
            show(case.ours),
            format!("{}..{}", show(case.min), show(case.max)),
            show(case.floor),
            format!("{}..{}", show(case.floor_min), show(case.floor_max)),
            format!("{:.2}", case.paired_ratio),
            format!("{:.2}..{:.2}", case.paired_ratio_min, case.paired_ratio_max),
            self.target.map_or("-".into(), |target| format!("{sign} {target}")),
        ]
    }
}

impl Report {
    /// The report for people.
    pub(super) fn text(&self) -> String {
        let titles = ["case", "wait", "beside", "ours", "spread", "beside", "spread", "ratio", "spread", "target"];
        let mut rows = vec![titles.map(String::from).to_vec()];
        rows.extend(self.rows.iter().map(Row::cells));
        let mut text = columns(&rows, 3);
        let (size, (one, other)) = (super::SIZE, self.processors);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "messages of {size} bytes; a runtime of one thread in each process; medians of {} rounds in turns on processors {one} and {other}",
            self.rounds
        );
        for row in &self.rows {
            if let Some(asleep) = row.asleep {
                let _ = writeln!(
                    text,
                    "both sides of ours slept in {:.1} % of the round trips of tasks that sleep",
                    asleep * 100.0
                );
            }
        }
        text
    }
}
