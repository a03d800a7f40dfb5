//! `ipc bench tokio`: connections in a tokio runtime beside Unix streams of the same runtime.
//!
//! Promise: two pinned processes, fresh for every measurement, each with a runtime of one thread; ours and the stream in turns; medians
//! with their spread, ratios taken round by round. Refusal: no verdict, ratio and target stand side by side.

mod ours;
mod report;
mod socket;

use super::columns::Steps;
use super::process::{Duo, Fallible};
use super::stats::{Pairs, Subject, Summary};
use crate::failure::Failure;
use report::{Of, Report, Row};
use std::future::Future;
use std::time::{Duration, Instant};

/// Bytes of a message.
const SIZE: usize = 64;
/// How long a subject is timed in a round at an effort of 100.
const ROUND: Duration = Duration::from_millis(150);
/// Time from an answer to the next question where both sides are to sleep: far more than a task takes to go to sleep. The asking
/// side computes for so long, so that its processor does not rest.
const PAUSE: Duration = Duration::from_micros(50);
/// Repetitions of a round, at least.
const LEAST: u64 = 32;

/// Measure connections in a tokio runtime beside Unix streams.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Work of a round, in percent of the default; less is faster and noisier.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    effort: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// How a task waits for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// It awaits it: with nothing else to do, the runtime sleeps. A question comes when the answering side surely does.
    Asleep,
    /// It looks, and lets the runtime run other tasks, over and over.
    Polling,
}

/// How a Unix stream is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One call for each message on either side.
    Bare,
    /// Through the runtime's buffers, which gather many messages for one call.
    Buffered,
}

/// A message with this number.
type Message = [u8; SIZE];

fn message(number: u64) -> Message {
    let mut message = [1; SIZE];
    message[..8].copy_from_slice(&number.to_ne_bytes());
    message
}

/// The number of a message.
fn number(message: &Message) -> u64 {
    message.first_chunk().map_or(u64::MAX, |bytes| u64::from_ne_bytes(*bytes))
}

/// Checks that a message is the one with this number, whole.
fn check(message: &Message, number: u64) -> Fallible<()> {
    if *message == self::message(number) {
        return Ok(());
    }
    Err(format!("a message is not the one with number {number}").into())
}

/// Asks so many questions, the first with number `first`, and says how many nanoseconds each took until its answer was there: in the
/// median where there are pauses in between, else on average.
///
/// # Errors
/// That of a question; or none was asked.
async fn trips(
    wait: Wait,
    first: u64,
    count: u64,
    mut exchange: impl AsyncFnMut(u64) -> Fallible<()>,
) -> Fallible<f64> {
    let numbers = first..first + count;
    let start = Instant::now();
    if wait == Wait::Polling {
        for number in numbers {
            exchange(number).await?;
        }
        return Ok(start.elapsed().as_nanos() as f64 / count as f64);
    }
    let mut taken = Vec::with_capacity(count as usize);
    for number in numbers {
        let pause = Instant::now();
        while pause.elapsed() < PAUSE {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        exchange(number).await?;
        taken.push(start.elapsed().as_nanos() as f64);
    }
    Ok(Summary::of(&taken)?.median)
}

/// Measures and prints.
///
/// # Errors
/// The machine has fewer than two processors, or a side failed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let report = measure(args).map_err(|error| Failure::runtime(error.to_string()))?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::runtime(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

impl Args {
    /// How many times something that takes about so many nanoseconds is done in a round.
    fn repetitions(&self, nanoseconds: f64) -> u64 {
        let round = ROUND.as_nanos() as f64 * f64::from(self.effort) / 100.0;
        ((round / nanoseconds) as u64).max(LEAST)
    }
}

fn measure(args: &Args) -> Fallible<Report> {
    let duo = Duo::new()?;
    let rows = [
        round_trip as fn(&Duo, &Args) -> Fallible<Row>,
        |duo, args| polled(duo, args),
        |duo, args| stream(duo, args, Form::Bare, Some(10.0)),
        |duo, args| stream(duo, args, Form::Buffered, None),
    ];
    let mut steps = Steps::new(rows.len() as u64);
    let mut measured = Vec::with_capacity(rows.len());
    for row in rows {
        measured.push(row(&duo, args)?);
        steps.advance();
    }
    Ok(Report { rounds: args.rounds.into(), processors: duo.cpus(), rows: measured })
}

/// A round trip between tasks that have nothing else to do.
fn round_trip(duo: &Duo, args: &Args) -> Fallible<Row> {
    let trips = args.repetitions(100_000.0);
    let mut asleep = Vec::new();
    let stream = || socket::round_trip(duo, Wait::Asleep, trips);
    let ours = || {
        let trip = ours::round_trip(duo, Wait::Asleep, trips)?;
        asleep.push(trip.asleep);
        Ok(trip.ns)
    };
    let pairs = Pairs::take(args.rounds.into(), stream, ours)?;
    let row = Row::new(&subject("round trip", "asleep", "ns"), &pairs, Of::Time, Form::Bare, Some(1.25))?;
    row.with_asleep(&asleep)
}

/// A round trip between tasks that look again and again.
fn polled(duo: &Duo, args: &Args) -> Fallible<Row> {
    let trips = args.repetitions(8000.0);
    let stream = || socket::round_trip(duo, Wait::Polling, trips);
    let ours = || Ok(ours::round_trip(duo, Wait::Polling, trips)?.ns);
    let pairs = Pairs::take(args.rounds.into(), stream, ours)?;
    Row::new(&subject("round trip", "polling", "ns"), &pairs, Of::Time, Form::Bare, None)
}

/// A stream of messages, each with an await of its own on both sides.
fn stream(duo: &Duo, args: &Args, form: Form, target: Option<f64>) -> Fallible<Row> {
    let guess = match form {
        Form::Bare => 1500.0,
        Form::Buffered => 100.0,
    };
    let stream = || Ok(1000.0 / socket::stream(duo, form, args.repetitions(guess))?);
    let ours = || Ok(1000.0 / ours::stream(duo, args.repetitions(50.0))?);
    let pairs = Pairs::take(args.rounds.into(), stream, ours)?;
    Row::new(&subject("stream", "asleep", "M/s"), &pairs, Of::Rate, form, target)
}

fn subject(case: &'static str, wait: &'static str, unit: &'static str) -> Subject<'static> {
    Subject { case, size: SIZE as u64, batch: 1, wait, unit }
}

/// Runs a future in a runtime of the calling thread alone: no thread is started, because measurements fork.
fn in_runtime<T>(work: impl Future<Output = Fallible<T>>) -> Fallible<T> {
    ::tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(work)
}
