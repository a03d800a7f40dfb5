//! `ipc bench`: the library against the raw floor of the machine, both in one run, in turns.
//!
//! Promise: two pinned processes, fresh for every round; medians with their spread; ratios taken round by
//! round, because a shared machine changes its pace between rounds. Refusal: no verdict; the table in docs/PERFORMANCE.md has
//! the targets.

mod batching;
mod c;
pub(crate) mod columns;
mod floor;
mod floors;
mod lanes;
mod ours;
pub(crate) mod process;
mod remap;
#[cfg(feature = "tokio")]
mod runtime;
mod stats;

use crate::failure::{EXIT_CODES, Failure};
use clap::ValueEnum;
use floor::{copy, handover, index_ring, ping_pong, stamped_ring};
use indicatif::{ProgressBar, ProgressDrawTarget};
use ipc_core::WaitStrategy;
use process::{Duo, Fallible};
use stats::{Case, Pairs, Subject};
use std::time::Duration;

/// Measure latency or throughput between two pinned processes, beside the raw floor.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to measure.
    #[arg(value_enum, default_value_t = Kind::All)]
    kind: Kind,
    /// Bytes in a message. Without it: the cases of docs/PERFORMANCE.md.
    #[arg(long)]
    size: Option<usize>,
    /// Messages published together.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=4096), requires = "size")]
    batch: Option<u64>,
    /// How the two sides wait.
    #[arg(long, value_enum)]
    wait: Option<Wait>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Work of a round, in percent of the default; less is faster and noisier.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    effort: u32,
    /// Print one JSON object per case, in an array.
    #[arg(long)]
    json: bool,
}

/// Measurements with options of their own: one file or folder each, with an `Args` and a `run`.
#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Measures large messages through bare shared memory and Unix sockets, without the library
    #[command(after_help = EXIT_CODES)]
    Floors(floors::Args),
    /// Measures the lanes of large and small messages beside bare code and Unix sockets
    #[command(after_help = EXIT_CODES)]
    Lanes(lanes::Args),
    /// Measures what remaps and page faults cost beside a stream of messages
    #[command(after_help = EXIT_CODES)]
    Remap(remap::Args),
    /// Measures what batches and late doorbells save, and how long messages wait for it
    #[command(after_help = EXIT_CODES)]
    Batching(batching::Args),
    /// Measures C programs beside Rust programs
    #[command(after_help = EXIT_CODES)]
    C(c::Args),
    /// Measures connections in a tokio runtime beside Unix streams of the same runtime
    #[cfg(feature = "tokio")]
    #[command(after_help = EXIT_CODES)]
    Tokio(runtime::Args),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Round trips.
    Latency,
    /// One-way streams.
    Throughput,
    /// Both.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Poll: the lowest latency, a core fully used.
    Spin,
    /// Blocking calls, which poll for a bounded time and then sleep.
    Block,
}

/// One line of the result, before it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// A round trip, both sides polling, against bare code with this many lines each way.
    SpinningRoundTrip { size: usize, lines: usize },
    /// A round trip, both sides asleep, against eventfd.
    SleepingRoundTrip { size: usize },
    /// A round trip with the default wait whose answers take `think`, against the same with polling.
    ThinkingRoundTrip { size: usize, think: Duration },
    /// A stream.
    Stream { size: usize, batch: u64, wait: Wait },
}

/// Time after which an answer comes in the case of replies within 20 µs.
const THINK: Duration = Duration::from_micros(15);

impl Args {
    /// The cases to measure, in the order of the table.
    fn plans(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        let size = self.size.unwrap_or(64);
        if self.kind != Kind::Throughput {
            if self.wait != Some(Wait::Block) {
                // A message of 64 bytes and its header do not fit one line: both floors are worth knowing.
                plans.extend([1, 2].map(|lines| Plan::SpinningRoundTrip { size, lines }));
            }
            if self.wait != Some(Wait::Spin) {
                plans.push(Plan::SleepingRoundTrip { size });
                plans.push(Plan::ThinkingRoundTrip { size, think: THINK });
            }
        }
        if self.kind != Kind::Latency {
            let wait = self.wait.unwrap_or(Wait::Block);
            match self.size {
                Some(size) => plans.push(Plan::Stream { size, batch: self.batch.unwrap_or(1), wait }),
                None => plans.extend([(64, 1), (64, 32), (8, 32), (16 << 10, 1)].map(|(size, batch)| Plan::Stream {
                    size,
                    batch,
                    wait,
                })),
            }
        }
        plans
    }

    /// How many times something that takes about `nanoseconds` is done in a round.
    fn repetitions(&self, nanoseconds: f64) -> u64 {
        const ROUND: f64 = 40e6;
        (ROUND * f64::from(self.effort) / 100.0 / nanoseconds).max(32.0) as u64
    }
}

impl Wait {
    fn strategy(self) -> WaitStrategy {
        match self {
            Self::Spin => WaitStrategy::Busy,
            Self::Block => WaitStrategy::default(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Block => "block",
        }
    }
}

/// Measures and prints.
///
/// # Errors
/// The machine has fewer than two processors, or a side failed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Some(Command::Floors(args)) => floors::run(args),
        Some(Command::Lanes(args)) => lanes::run(args),
        Some(Command::Remap(args)) => remap::run(args),
        Some(Command::Batching(args)) => batching::run(args),
        Some(Command::C(args)) => c::run(args),
        #[cfg(feature = "tokio")]
        Some(Command::Tokio(args)) => runtime::run(args),
        None => run_comparison(args),
    }
}

fn run_comparison(args: &Args) -> Result<(), Failure> {
    let told = |error: Box<dyn std::error::Error>| Failure::runtime(error.to_string());
    let duo = Duo::new().map_err(told)?;
    let cpus = duo.cpus();
    let cases = measure(&duo, args).map_err(told)?;
    if args.json {
        let text = serde_json::to_string_pretty(&cases).map_err(|error| Failure::runtime(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", stats::table(&cases));
        println!(
            "ratio: ours / floor, medians of {} rounds taken in turns on processors {} and {}",
            args.rounds, cpus.0, cpus.1
        );
    }
    Ok(())
}

fn measure(duo: &Duo, args: &Args) -> Fallible<Vec<Case>> {
    let plans = args.plans();
    // Without a ticking thread: processes are forked for each round, and only a single thread may do that. Hidden unless on a
    // terminal.
    let bar = ProgressBar::with_draw_target(Some(plans.len() as u64), ProgressDrawTarget::stderr());
    bar.tick();
    let mut cases = Vec::with_capacity(plans.len());
    for plan in plans {
        cases.push(plan.measure(duo, args)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(cases)
}

impl Plan {
    fn measure(self, duo: &Duo, args: &Args) -> Fallible<Case> {
        let rounds = usize::from(args.rounds);
        let (subject, pairs) = match self {
            Self::SpinningRoundTrip { size, lines } => {
                let trips = args.repetitions(150.0);
                let ours = || ours::round_trip(duo, size, WaitStrategy::Busy, Duration::ZERO, trips);
                if lines == 1 {
                    let floor = || ping_pong::stamped_line_round_trip(duo, trips);
                    (subject("round trip / one line", size, 1, "spin", "ns"), Pairs::take(rounds, floor, ours)?)
                } else {
                    let floor = || ping_pong::two_line_round_trip(duo, trips);
                    (subject("round trip / two lines", size, 1, "spin", "ns"), Pairs::take(rounds, floor, ours)?)
                }
            }
            Self::SleepingRoundTrip { size } => {
                let trips = args.repetitions(60_000.0);
                let floor = || handover::eventfd_round_trip(duo, trips);
                let ours = || ours::round_trip(duo, size, WaitStrategy::Sleep, Duration::ZERO, trips);
                (subject("round trip, both asleep", size, 1, "block", "ns"), Pairs::take(rounds, floor, ours)?)
            }
            Self::ThinkingRoundTrip { size, think } => {
                let trips = args.repetitions(think.as_nanos() as f64);
                let floor = || ours::round_trip(duo, size, WaitStrategy::Busy, think, trips);
                let ours = || ours::round_trip(duo, size, WaitStrategy::default(), think, trips);
                (subject("round trip, answer in 15 µs", size, 1, "block", "ns"), Pairs::take(rounds, floor, ours)?)
            }
            Self::Stream { size, batch, wait } => stream(duo, args, size, batch, wait)?,
        };
        Case::new(&subject, &pairs)
    }
}

/// A stream against the floor for its size: whole buffers from 4 KiB up, a ring of indices for words, and otherwise the
/// ring of stamped lines, as many lines as the payload fills.
fn stream(duo: &Duo, args: &Args, size: usize, batch: u64, wait: Wait) -> Fallible<(Subject<'static>, Pairs)> {
    let rounds = usize::from(args.rounds);
    if size >= 4096 {
        let messages = args.repetitions(size as f64 / 14.0);
        let floor = || copy::fill_and_read(duo, size, messages);
        let ours = || Ok(size as f64 / ours::stream(duo, size, batch, wait.strategy(), messages)?);
        return Ok((subject("stream", size, batch, wait.name(), "GB/s"), Pairs::take(rounds, floor, ours)?));
    }
    let lines = size.div_ceil(64).max(1) as u64;
    let messages = args.repetitions(6.0 * lines as f64);
    let ours = || ours::stream(duo, size, batch, wait.strategy(), messages);
    let subject = subject("stream", size, batch, wait.name(), "ns");
    let pairs = if size == 8 && batch > 1 {
        Pairs::take(rounds, || index_ring::stream_batched(duo, messages, batch), ours)?
    } else {
        let floor = || Ok(lines as f64 * stamped_ring::stream(duo, messages * lines, stamped_ring::CAPACITY)?);
        Pairs::take(rounds, floor, ours)?
    };
    Ok((subject, pairs))
}

fn subject(case: &'static str, size: usize, batch: u64, wait: &'static str, unit: &'static str) -> Subject<'static> {
    Subject { case, size: size as u64, batch, wait, unit }
}
