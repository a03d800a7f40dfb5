//! `ipc bench lanes`: what each lane costs, and whether the right one is taken.
//!
//! Promise: two pinned processes, fresh for every round; all subjects of a comparison in turns; medians with their spread, ratios
//! taken round by round; the state of the machine among them. Refusal: no verdict, ratio and target stand side by side; and no calibration, the costs are those
//! of `ipc calibrate`, or the ones compiled in.

mod cases;
mod chart;
mod crossover;
mod group;
mod report;
mod text;
mod trip;

use super::Wait;
use super::columns::Steps;
use super::floor::{ping_pong, stamped_ring};
use super::process::{Duo, Fallible};
use crate::failure::Failure;
use group::Group;
use ipc_core::calibration::VARIABLE;
use ipc_core::{Mode, WaitStrategy};
use report::Report;
use serde::Serialize;
use std::path::PathBuf;

/// Measure the lanes beside bare code and Unix sockets.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Case::ALL)]
    only: Vec<Case>,
    /// Bytes of the messages, where a case has several sizes [default: all sizes of the case].
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=64 << 20))]
    size: Option<u32>,
    /// How the two sides wait.
    #[arg(long, value_enum, default_value_t = Wait::Spin)]
    wait: Wait,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Work of a round, in percent of the default; less is faster and noisier.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    effort: u32,
    /// Draw the round trip of every lane, and of a socket, against the size into this file. Measures the case `auto`.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Case {
    /// The round trip of a loan of 1 MiB against a message of 64 bytes.
    Loan,
    /// A stream that is written and read in place, against bare memory.
    InPlace,
    /// A round trip that is copied in and out, against Unix sockets and bare memory.
    Copied,
    /// The choice of mode `auto`, against each lane.
    Auto,
    /// The choice of mode `hybrid`, against each lane.
    Hybrid,
    /// Mode `kernel`, against its socket.
    Kernel,
}

impl Case {
    const ALL: [Self; 6] = [Self::Loan, Self::InPlace, Self::Copied, Self::Auto, Self::Hybrid, Self::Kernel];
}

/// What all cases have in common.
struct Plan<'a> {
    duo: &'a Duo,
    strategy: WaitStrategy,
    /// Work of a round, 1 by default.
    effort: f64,
}

impl Plan<'_> {
    fn is_polling(&self) -> bool {
        self.strategy == WaitStrategy::Busy
    }
}

/// Measures, prints and draws.
///
/// # Errors
/// The machine has fewer than two processors, a side failed, or the chart could not be written.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty()) {
        // SAFETY: this process has no other thread. The forks would measure in the middle of what is timed here.
        unsafe { std::env::set_var(VARIABLE, "off") };
    }
    let told = |error: Box<dyn std::error::Error>| Failure::runtime(error.to_string());
    let report = measure(args).map_err(told)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::runtime(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    match &args.svg {
        Some(path) => chart::lanes(&report).write(path),
        None => Ok(()),
    }
}

fn measure(args: &Args) -> Fallible<Report> {
    let duo = Duo::new()?;
    let plan = Plan { duo: &duo, strategy: args.wait.strategy(), effort: f64::from(args.effort) / 100.0 };
    let mut report = Report::new(&duo, args);
    let makers = makers(args);
    let mut steps = Steps::new(makers.len() as u64);
    for make in makers {
        for mut group in make(&plan, &mut report)? {
            report.add_state(ping_pong::stamped_line_round_trip(&duo, STATE_TRIPS)?, {
                stamped_ring::stream(&duo, STATE_LINES, stamped_ring::CAPACITY)?
            });
            let (figures, ratios) = group.measure(&duo, usize::from(args.rounds), plan.effort, || ())?;
            report.figures.extend(figures);
            report.ratios.extend(ratios);
        }
        steps.advance();
    }
    report.finish()?;
    Ok(report)
}

/// Work of the two floors that tell the state of the machine.
const STATE_TRIPS: u64 = 20_000;
const STATE_LINES: u64 = 200_000;

/// Makes the groups of one step: late, since some are chosen by a first pass that should not lie far from the rounds.
type Maker = Box<dyn Fn(&Plan<'_>, &mut Report) -> Fallible<Vec<Group>>>;

fn makers(args: &Args) -> Vec<Maker> {
    let mut makers: Vec<Maker> = Vec::new();
    let sizes = |all: &[usize]| args.size.map_or_else(|| all.to_vec(), |only| vec![only as usize]);
    let mut only = args.only.clone();
    only.extend(args.svg.as_ref().map(|_| Case::Auto));
    only.sort_unstable();
    only.dedup();
    for case in only {
        match case {
            Case::Loan => makers.push(Box::new(|plan, _| Ok(vec![cases::loan(plan)]))),
            Case::InPlace => {
                for size in sizes(&cases::IN_PLACE) {
                    makers.push(Box::new(move |plan, _| Ok(vec![cases::in_place(plan, size)])));
                }
            }
            Case::Copied => {
                for size in sizes(&cases::COPIED) {
                    makers.push(Box::new(move |plan, _| Ok(vec![cases::copied(plan, size)?])));
                }
            }
            Case::Auto | Case::Hybrid => {
                let mode = if case == Case::Auto { Mode::Auto } else { Mode::Hybrid };
                for size in sizes(if case == Case::Auto { &cases::ROUTED } else { &cases::HYBRID }) {
                    makers.push(Box::new(move |plan, report| {
                        let router = report.router(plan, case, mode)?;
                        Ok(vec![cases::routed(plan, case, mode, router, size)])
                    }));
                }
            }
            Case::Kernel => {
                for size in sizes(&cases::KERNEL) {
                    makers.push(Box::new(move |plan, _| Ok(cases::kernel(plan, size).into())));
                }
            }
        }
    }
    makers
}
