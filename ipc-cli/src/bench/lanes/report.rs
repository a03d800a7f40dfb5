//! What `ipc bench lanes` found.
//!
//! Promise: every ratio stands beside the medians of both sides; routers are shown as the measured connections had them.
//! Refusal: nothing is fitted.

use super::super::process::{Duo, Fallible};
use super::super::stats::Summary;
use super::crossover::{self, Crossing};
use super::group::{Figure, Ratio};
use super::{Args, Case, Plan, trip};
use ipc_core::calibration::in_use;
use ipc_core::router::Router;
use ipc_core::{Lane, Mode};
use serde::Serialize;

/// All of it.
#[derive(Serialize)]
pub(super) struct Report {
    /// How both sides waited.
    pub(super) wait: &'static str,
    pub(super) rounds: usize,
    /// Processors of the asking or receiving side, and of the other one.
    pub(super) processors: (usize, usize),
    pub(super) state: State,
    pub(super) figures: Vec<Figure>,
    pub(super) ratios: Vec<Ratio>,
    /// Where the costs of the routers come from: `full` is `ipc calibrate`.
    pub(super) costs: String,
    pub(super) routers: Vec<Choice>,
    /// Where the two lanes of mode `hybrid` cost the same, if that was measured.
    pub(super) crossover: Option<Crossing>,
    #[serde(skip)]
    known: Vec<(Case, Router)>,
    #[serde(skip)]
    states: [Vec<f64>; 2],
}

/// What tells whether the two processors are near each other, under one cache: bare code, measured before each group.
#[derive(Serialize)]
pub(super) struct State {
    /// Nanoseconds of one line there and back.
    pub(super) line_round_trip_ns: Option<Summary>,
    /// Nanoseconds of a line in a stream.
    pub(super) streamed_line_ns: Option<Summary>,
}

/// What a router knows.
#[derive(Serialize)]
pub(super) struct Choice {
    pub(super) case: Case,
    /// The lanes that it chooses, in words.
    pub(super) bands: String,
    pub(super) lanes: Vec<Known>,
}

/// What a router knows of one lane.
#[derive(Serialize)]
pub(super) struct Known {
    pub(super) lane: String,
    /// In words.
    pub(super) cost: String,
    /// The largest message, bytes.
    pub(super) limit: u64,
}

impl Report {
    pub(super) fn new(duo: &Duo, args: &Args) -> Self {
        Self {
            wait: args.wait.name(),
            rounds: args.rounds.into(),
            processors: duo.cpus(),
            state: State { line_round_trip_ns: None, streamed_line_ns: None },
            figures: Vec::new(),
            ratios: Vec::new(),
            costs: in_use().calibration().origin().to_string(),
            routers: Vec::new(),
            crossover: None,
            known: Vec::new(),
            states: [Vec::new(), Vec::new()],
        }
    }

    /// The router of a connection of this mode, looked up when the case comes first.
    ///
    /// # Errors
    /// As [`trip::router`].
    pub(super) fn router(&mut self, plan: &Plan<'_>, case: Case, mode: Mode) -> Fallible<&Router> {
        let index = match self.known.iter().position(|(known, _)| *known == case) {
            Some(index) => index,
            None => {
                let router = trip::router(plan.duo, plan.setting(mode))?;
                self.routers.push(Choice::of(case, &router));
                self.known.push((case, router));
                self.known.len() - 1
            }
        };
        Ok(&self.known[index].1)
    }

    pub(super) fn add_state(&mut self, line_round_trip_ns: f64, streamed_line_ns: f64) {
        self.states[0].push(line_round_trip_ns);
        self.states[1].push(streamed_line_ns);
    }

    /// Sums up what belongs to no case alone.
    ///
    /// # Errors
    /// A measurement that is no finite number.
    pub(super) fn finish(&mut self) -> Fallible<()> {
        if !self.states[0].is_empty() {
            self.state.line_round_trip_ns = Some(Summary::of(&self.states[0])?);
            self.state.streamed_line_ns = Some(Summary::of(&self.states[1])?);
        }
        if let Some((_, router)) = self.known.iter().find(|(case, _)| *case == Case::Hybrid) {
            self.crossover = Some(crossover::of(&self.figures, &self.ratios, router));
        }
        Ok(())
    }
}

impl Choice {
    fn of(case: Case, router: &Router) -> Self {
        let costs = router.costs();
        let known = |lane| {
            let (model, limit) = (costs.model(lane)?, costs.limit(lane)?);
            Some(Known { lane: lane.to_string(), cost: model.to_string(), limit })
        };
        Self { case, bands: router.to_string(), lanes: Lane::ALL.into_iter().filter_map(known).collect() }
    }
}
