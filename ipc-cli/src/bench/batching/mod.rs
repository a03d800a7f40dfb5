//! `ipc bench batching`: what it saves to publish or to wake once for several messages, and how long messages wait for it.
//!
//! Promise: two pinned processes; all cases of a round in turns, so that each is compared with what was measured beside it; each
//! measured value beside the model it is explained by, with every parameter of the model in the report. Refusal: no verdict, and
//! no model is adjusted to the waits.

mod chart;
mod report;
mod text;
mod wait;

use super::columns::Steps;
use super::ours;
use super::process::{Duo, Fallible};
use crate::failure::Failure;
use ipc_core::{Mode, WaitStrategy};
use report::{Lane, Report};
use std::path::PathBuf;
use std::time::Duration;
use wait::{Arrivals, Delivery, Putting};

/// Words in a message: 64 bytes.
const WORDS: usize = 8;
/// How long a stream runs in a round at an effort of 100.
const STREAM: Duration = Duration::from_millis(40);
/// How long messages are sent at a pace in a round at an effort of 100.
const PACED: Duration = Duration::from_millis(150);
/// The batch of the ring that is compared with messages one by one through the kernel.
const COMPARED: u64 = 20;

/// Measure what batches and late doorbells save, and how long messages wait for it.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Messages published together. 1 and 20 are always among them.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,20,32,64,128", value_parser = clap::value_parser!(u64).range(1..=1024))]
    batches: Vec<u64>,
    /// Microseconds from one message of a paced sender to the next.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    gaps: Vec<u64>,
    /// Microseconds that the doorbell of a paced sender is put off at most (τ).
    #[arg(long, value_delimiter = ',', default_value = "250,2500", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    delays: Vec<u64>,
    /// Messages after which it is rung before that (N).
    #[arg(long, value_delimiter = ',', default_value = "20,1000", value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    limits: Vec<u64>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Work of a round, in percent of the default; less is faster and noisier.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    effort: u32,
    /// Draw the cost of a message against the size of its batch into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Draw the added wait against the delay into this file.
    #[arg(long, value_name = "FILE")]
    wait_svg: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What all rounds gave for streams in batches of one size on one lane: nanoseconds a message.
struct Stream {
    lane: Lane,
    batch: u64,
    rounds: Vec<f64>,
}

/// What all rounds gave for a paced sender that puts its doorbell off in one way, or not at all.
struct Paced {
    gap: Duration,
    putting: Option<Putting>,
    rounds: Vec<Delivery>,
}

/// Measures, prints and draws.
///
/// # Errors
/// The machine has fewer than two processors, a side failed, or a chart could not be written.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let told = |error: Box<dyn std::error::Error>| Failure::runtime(error.to_string());
    let report = measure(args).map_err(told)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::runtime(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    if let Some(path) = &args.svg {
        chart::costs(&report).write(path)?;
    }
    if let Some(path) = &args.wait_svg {
        chart::waits(&report).write(path)?;
    }
    Ok(())
}

impl Args {
    fn streams(&self) -> Vec<Stream> {
        let mut batches = [&self.batches[..], &[1, COMPARED]].concat();
        batches.sort_unstable();
        batches.dedup();
        let of = |lane| batches.iter().map(move |&batch| Stream { lane, batch, rounds: Vec::new() });
        of(Lane::Kernel).chain(of(Lane::Ring)).collect()
    }

    /// For each gap: without putting off first, then each way of putting off.
    fn paced(&self) -> Vec<Paced> {
        let mut paced = Vec::new();
        for gap in sorted(&self.gaps).map(Duration::from_micros) {
            let case = |putting| Paced { gap, putting, rounds: Vec::new() };
            paced.push(case(None));
            for limit in sorted(&self.limits) {
                let delays = sorted(&self.delays).map(Duration::from_micros);
                paced.extend(delays.map(|delay| case(Some(Putting { limit, delay }))));
            }
        }
        paced
    }

    fn time(&self, full: Duration) -> Duration {
        full * self.effort / 100
    }
}

fn sorted(values: &[u64]) -> impl Iterator<Item = u64> + use<> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values.into_iter()
}

fn measure(args: &Args) -> Fallible<Report> {
    let duo = Duo::new()?;
    let (mut streams, mut paced) = (args.streams(), args.paced());
    let mut steps = Steps::new(u64::from(args.rounds) * (streams.len() + paced.len()) as u64);
    for round in 0..usize::from(args.rounds) {
        // Every second round in the opposite order, so that what disturbs the machine for long falls on no case alone.
        for index in order(streams.len(), round) {
            let Stream { lane, batch, rounds } = &mut streams[index];
            rounds.push(stream(&duo, *lane, *batch, args.time(STREAM))?);
            steps.advance();
        }
        for index in order(paced.len(), round) {
            let Paced { gap, putting, rounds } = &mut paced[index];
            let arrivals = Arrivals::for_about(args.time(PACED), *gap);
            rounds.push(wait::measure(&duo, arrivals, *putting)?);
            steps.advance();
        }
    }
    Report::new(duo.cpus(), &streams, &paced)
}

fn order(len: usize, round: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..len).collect() } else { (0..len).rev().collect() }
}

/// Nanoseconds a message of a stream that takes about `time`.
fn stream(duo: &Duo, lane: Lane, batch: u64, time: Duration) -> Fallible<f64> {
    // What a message takes, very roughly: only the length of the run depends on it.
    let (mode, guess) = match lane {
        Lane::Kernel => (Mode::Kernel, 1000.0 / batch as f64 + 100.0),
        Lane::Ring => (Mode::Shared, 15.0),
    };
    let messages = (time.as_nanos() as f64 / guess).max(64.0) as u64;
    ours::stream_words::<WORDS>(duo, mode, batch, WaitStrategy::default(), messages)
}
