//! `ipc calibrate`: measures what each lane costs between two processes, fits lines, and keeps them for every process of this user.
//!
//! Promise: the costs that are kept are those that are printed, from rounds that took turns; where the printed crossing
//! of Hybrid lies is measured again, with the lanes fixed. Refusal: no verdict on a machine that does other things meanwhile: it is said, and the
//! figures are kept all the same.

mod chart;
mod figures;
mod pair;
mod plan;
mod text;

use crate::bench::columns::Steps;
use crate::bench::process::{Duo, Fallible};
use crate::failure::Failure;
use figures::{Check, Condition, Interruptions, Lanes, MachineFigures, Report, Stored};
use ipc_core::calibration::{Calibration, Machine, Origin, Queue, VARIABLE, in_use};
use ipc_core::{Lane, WaitStrategy};
use plan::{Effort, Plan};
use std::path::PathBuf;
use std::time::Instant;

/// Measure what each way of a message costs, and keep it for this boot.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write a chart of points, lines and crossings to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Rounds of the measurement that counts; the others have a third of them.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(3..=999))]
    rounds: u16,
    /// Measure fewer sizes for a shorter time, and only what counts: polling, on a processor each.
    #[arg(long)]
    quick: bool,
    /// Keep nothing: processes go on with the costs they have.
    #[arg(long)]
    no_store: bool,
    /// Measure nothing; print the costs that processes of this user have now, and why.
    #[arg(long, conflicts_with_all = ["svg", "rounds", "quick", "no_store"])]
    show: bool,
}

/// Measures, prints and keeps.
///
/// # Errors
/// The machine has fewer than two processors, a side failed, the points lie on no line, or a file cannot be written.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.show {
        return show(args.json);
    }
    let told = |error: Box<dyn std::error::Error>| Failure::runtime(error.to_string());
    let mut report = measure(args).map_err(told)?;
    if let Some(path) = &args.svg {
        chart::of(&report).write(path)?;
    }
    let mut failed = None;
    if !args.no_store {
        match report.calibration().store() {
            Ok(path) => report.stored = Some(path),
            // What was measured is told all the same.
            Err(error) => failed = Some(Failure::runtime(error.to_string())),
        }
    }
    match args.json {
        true => print_json(&report)?,
        false => print!("{}", text::report(&report)),
    }
    failed.map_or(Ok(()), Err)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::runtime(error.to_string()))?;
    println!("{text}");
    Ok(())
}

fn show(json: bool) -> Result<(), Failure> {
    let used = in_use();
    let stored = Stored::new(used, Calibration::path().ok(), std::env::var(VARIABLE).ok());
    match json {
        true => print_json(&stored),
        false => {
            print!("{}", text::stored(&stored));
            Ok(())
        }
    }
}

fn measure(args: &Args) -> Fallible<Report> {
    let duo = Duo::new()?;
    let effort = if args.quick { Effort::Quick } else { Effort::Full };
    let rounds = usize::from(args.rounds);
    let conditions: &[(bool, bool)] = match effort {
        Effort::Quick => &[(true, true)],
        Effort::Full => &[(true, true), (true, false), (false, true), (false, false)],
    };
    let fewer = rounds.div_ceil(3);
    let total = rounds + (conditions.len() - 1) * fewer;
    let mut steps = Steps::new((Queue::ALL.len() * total + rounds) as u64);

    let mut measured = Vec::new();
    let mut interruptions = Interruptions { count: 0, seconds: 0.0 };
    for &(pinned, polling) in conditions {
        let counts = pinned && polling;
        let (start, before) = (Instant::now(), Interruptions::so_far());
        let plan = Plan::new(effort, counts, polling);
        let place = if pinned { &duo } else { &duo.free() };
        let wait = if polling { WaitStrategy::Busy } else { WaitStrategy::Sleep };
        let mut queues = Vec::new();
        for queue in Queue::ALL {
            let limits = pair::limits(place, queue)?;
            let tasks = plan.tasks(queue, &limits);
            let rounds = if counts { rounds } else { fewer };
            let samples = pair::rounds(place, queue, wait, &tasks, rounds, || steps.advance())?;
            queues.push(Lanes::fit(queue, &limits, &tasks, &samples)?);
        }
        measured.push(Condition::new(pinned, polling, queues));
        if counts {
            let count = Interruptions::so_far().saturating_sub(before);
            interruptions = Interruptions { count, seconds: start.elapsed().as_secs_f64() };
        }
    }

    let hybrid = measured.first().and_then(|first| first.hybrid());
    let check = match &hybrid {
        Some(hybrid) => {
            let tasks = plan::around(hybrid.threshold_bytes, effort);
            let samples = pair::rounds(&duo, Queue::Socket, WaitStrategy::Busy, &tasks, rounds, || steps.advance())?;
            Some(Check::new(hybrid.threshold_bytes, &tasks, &samples))
        }
        None => None,
    };
    drop(steps);
    Ok(Report {
        machine: MachineFigures::of(&Machine::this()),
        processors: duo.cpus(),
        rounds,
        interruptions,
        conditions: measured,
        hybrid,
        check,
        stored: None,
    })
}

impl Report {
    /// What is kept: the lines of two processes that poll, on a processor each.
    fn calibration(&self) -> Calibration {
        let lanes = self.conditions.iter().take(1).flat_map(|counts| &counts.queues);
        lanes.fold(Calibration::defaults().with_origin(Origin::Full), |calibration, queue| {
            let with = |calibration: Calibration, lane: &figures::LaneFigures| {
                calibration.with(queue.of, lane.of, lane.fitted)
            };
            queue.lanes.iter().fold(calibration, with)
        })
    }
}

/// Lanes with the longest message that each takes, in bytes; nothing for those that a connection does not have.
type Limits = [Option<u64>; Lane::ALL.len()];
