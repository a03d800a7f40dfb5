//! `ipc bench remap`: what it costs to change the address space of a process while messages pass.
//!
//! Promise: throughput under remaps beside the model `(1 − r·c) / t`, with r, c and t all measured in the same rounds; a
//! control that takes the same processor time without remapping; the cost of the first touch of memory beside the
//! second. Refusal: no verdict, and no remap of memory that a connection uses.

mod chart;
mod faults;
mod interrupt;
mod rate;
mod report;
mod stream;
mod text;
mod thread;

use super::columns::Steps;
use super::process::{Duo, Fallible};
use crate::failure::Failure;
use interrupt::Interruption;
use rate::Rate;
use report::Report;
use std::path::PathBuf;
use std::time::Duration;
use stream::{End, Sample, Setup};
use thread::{Kind, Work};

/// How long a stream is timed in a round at an effort of 100.
const RUN: Duration = Duration::from_millis(200);
/// Shorter runs see too few remaps to say anything.
const SHORTEST_RUN: Duration = Duration::from_millis(5);

/// Measure what remaps and page faults cost beside a stream of messages.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Remaps a second, as numbers, with k for thousands, or `max` for as fast as possible.
    #[arg(long, value_delimiter = ',', default_value = "0,100,1k,10k,50k,max")]
    rates: Vec<Rate>,
    /// What is remapped.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "unrelated,segment,protect")]
    kinds: Vec<Kind>,
    /// Bytes of each remap. The connection's segment may be smaller, and is then mapped whole.
    #[arg(long, default_value_t = 64 << 10, value_parser = clap::value_parser!(u32).range(4096..=64 << 20))]
    bytes: u32,
    /// Which of the two processes remaps.
    #[arg(long, value_enum, default_value_t = End::Receiver)]
    side: End,
    /// Where the remapping thread runs [default: a third processor if there is one, else the other side's].
    #[arg(long, value_enum)]
    thread_on: Option<Place>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Work of a round, in percent of the default; less is faster and noisier.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    effort: u32,
    /// Draw throughput against remaps into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Which processor the remapping thread runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    /// One of its own.
    Apart,
    /// The one of the process that does not remap.
    Other,
    /// The one of the process that remaps. No other processor then has to forget anything.
    Same,
}

/// One stream with remaps and the stream of the same round that controls it.
struct Trial {
    kind: Kind,
    rate: Rate,
    /// What the rounds gave, in their order.
    rounds: Vec<Turn>,
}

/// What one round gave for one trial.
struct Turn {
    remapping: Sample,
    /// The thread took as much time at the same times, and remapped nothing.
    control: Sample,
}

/// Measures, prints and draws.
///
/// # Errors
/// The machine has too few processors, a side failed, or the chart could not be written.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let told = |error: Box<dyn std::error::Error>| Failure::runtime(error.to_string());
    let report = measure(args).map_err(told)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::runtime(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    match &args.svg {
        Some(path) => chart::throughput(&report).write(path),
        None => Ok(()),
    }
}

fn measure(args: &Args) -> Fallible<Report> {
    let duo = Duo::new()?;
    let (cpu, shared_with) = place(&duo, args)?;
    let run = (RUN * args.effort / 100).max(SHORTEST_RUN);
    let setup = Setup { duo: &duo, side: args.side, cpu, bytes: args.bytes as usize, run };

    let mut trials = Vec::new();
    for &kind in &args.kinds {
        trials.extend(args.rates.iter().map(|&rate| Trial { kind, rate, rounds: Vec::new() }));
    }
    let rounds = usize::from(args.rounds);
    let mut interruptions: Vec<(Kind, Vec<Interruption>)> = args.kinds.iter().map(|&kind| (kind, Vec::new())).collect();
    let mut steps = Steps::new((rounds * (trials.len() + interruptions.len() + 1) + faults::CASES) as u64);

    let mut undisturbed = Vec::with_capacity(rounds);
    for round in 0..rounds {
        undisturbed.push(stream::measure(&setup, Rate::NONE, Work::Burn { nanoseconds: 0.0 })?);
        steps.advance();
        // Every second round in the opposite order, so that what disturbs the machine for long falls on no rate alone.
        let order: Vec<usize> =
            if round.is_multiple_of(2) { (0..trials.len()).collect() } else { (0..trials.len()).rev().collect() };
        for index in order {
            let trial = &mut trials[index];
            let remapping = stream::measure(&setup, trial.rate, Work::Remap(trial.kind))?;
            let nanoseconds = remapping.each.map_or(0.0, |each| each.remap_ns);
            let control = stream::measure(&setup, trial.rate, Work::Burn { nanoseconds })?;
            trial.rounds.push(Turn { remapping, control });
            steps.advance();
        }
        for (kind, found) in &mut interruptions {
            found.extend(interrupt::measure(&setup, *kind)?);
            steps.advance();
        }
    }
    let faults = faults::measure(rounds, args.effort, || steps.advance())?;
    Report::new(&setup, shared_with, &undisturbed, &trials, &interruptions, faults)
}

/// The processor for the remapping thread, and which side it shares it with.
fn place(duo: &Duo, args: &Args) -> Fallible<(usize, Option<End>)> {
    let cpu_of = |end| match end {
        End::Receiver => duo.cpus().0,
        End::Sender => duo.cpus().1,
    };
    let spare = duo.spare_cpu()?;
    let place = args.thread_on.unwrap_or(if spare.is_some() { Place::Apart } else { Place::Other });
    match place {
        Place::Apart => Ok((spare.ok_or("a processor apart needs three, and this process is allowed only two")?, None)),
        Place::Other => Ok((cpu_of(args.side.other()), Some(args.side.other()))),
        Place::Same => Ok((cpu_of(args.side), Some(args.side))),
    }
}
