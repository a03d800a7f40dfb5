//! The results of the demonstration, for people and as JSON.
//!
//! Promise: made only when every check passed. Refusal: nothing is computed here but rates.

use crate::failure::Failure;
use hdrhistogram::Histogram;
use indicatif::{BinaryBytes, DecimalBytes, HumanCount};
use serde::Serialize;
use std::fmt;
use std::io::Write;

/// One stream of messages.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: &'static str,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) sender_slept: u64,
    pub(super) receiver_slept: u64,
}

impl Stream {
    fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds / 1e9
    }
}

/// The ping-pong.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RoundTrips {
    round_trips: u64,
    seconds: f64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
    slept: u64,
}

impl RoundTrips {
    pub(super) fn new(histogram: &Histogram<u64>, seconds: f64, slept: u64) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            round_trips: histogram.len(),
            seconds,
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: histogram.max(),
            slept,
        }
    }
}

/// All results.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) processes: [u32; 2],
    /// Bytes of shared memory.
    pub(super) segment: u64,
    /// Bytes in the largest message.
    pub(super) max_message: u64,
    pub(super) streams: Vec<Stream>,
    pub(super) round_trips: RoundTrips,
}

/// [`Stream`] as JSON.
#[derive(Serialize)]
struct StreamJson {
    name: &'static str,
    messages: u64,
    bytes: u64,
    seconds: f64,
    messages_per_second: f64,
    gigabytes_per_second: f64,
    sender_slept: u64,
    receiver_slept: u64,
}

/// [`Report`] as JSON.
#[derive(Serialize)]
struct ReportJson {
    verified: bool,
    processes: [u32; 2],
    shared_memory_bytes: u64,
    max_message_bytes: u64,
    one_way: Vec<StreamJson>,
    there_and_back: RoundTrips,
}

impl Report {
    /// Prints to standard output.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let mut text = if json { self.to_json()? } else { self.to_string() };
        text.push('\n');
        std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| Failure::writing("standard output", error))
    }

    fn to_json(&self) -> Result<String, Failure> {
        let one_way = self.streams.iter().map(|stream| StreamJson {
            name: stream.name,
            messages: stream.messages,
            bytes: stream.bytes,
            seconds: stream.seconds,
            messages_per_second: stream.messages_per_second(),
            gigabytes_per_second: stream.gigabytes_per_second(),
            sender_slept: stream.sender_slept,
            receiver_slept: stream.receiver_slept,
        });
        let json = ReportJson {
            verified: true,
            processes: self.processes,
            shared_memory_bytes: self.segment,
            max_message_bytes: self.max_message,
            one_way: one_way.collect(),
            there_and_back: self.round_trips.clone(),
        };
        serde_json::to_string_pretty(&json).map_err(|error| Failure::runtime(format!("writing JSON failed: {error}")))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [server, client] = self.processes;
        let segment = BinaryBytes(self.segment);
        writeln!(out, "Processes {server} and {client} talked through {segment} of shared memory.\n")?;

        writeln!(out, "One way                    messages       bytes   messages/s        GB/s   sleeps")?;
        for stream in &self.streams {
            let sleeps = stream.sender_slept + stream.receiver_slept;
            writeln!(
                out,
                "  {:<21} {:>11} {:>11} {:>12} {:>11.3} {:>8}",
                stream.name,
                HumanCount(stream.messages).to_string(),
                DecimalBytes(stream.bytes).to_string(),
                HumanCount(stream.messages_per_second() as u64).to_string(),
                stream.gigabytes_per_second(),
                HumanCount(sleeps).to_string(),
            )?;
        }

        let trips = &self.round_trips;
        writeln!(out, "\nThere and back        round trips         p50      p90      p99    p99.9       max   sleeps")?;
        writeln!(
            out,
            "  {:<21} {:>9} {:>11} {:>8} {:>8} {:>8} {:>9} {:>8}\n",
            "64 B",
            HumanCount(trips.round_trips).to_string(),
            Nanos(trips.p50_ns).to_string(),
            Nanos(trips.p90_ns).to_string(),
            Nanos(trips.p99_ns).to_string(),
            Nanos(trips.p999_ns).to_string(),
            Nanos(trips.max_ns).to_string(),
            HumanCount(trips.slept).to_string(),
        )?;

        let checked = HumanCount(self.streams.iter().map(|stream| stream.messages).sum::<u64>() + trips.round_trips);
        let largest = HumanCount(self.max_message);
        write!(
            out,
            "All {checked} messages of 0 to {largest} bytes arrived once, in order and unchanged.\n\
             Rates include making each message and comparing each of its bytes."
        )
    }
}

/// A time in nanoseconds, shown in the unit that suits it.
struct Nanos(u64);

impl fmt::Display for Nanos {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns @ 0..1_000 => write!(out, "{ns} ns"),
            ns @ 1_000..100_000 => write!(out, "{:.1} µs", ns as f64 / 1e3),
            ns @ 100_000..1_000_000 => write!(out, "{} µs", ns / 1000),
            ns => write!(out, "{:.1} ms", ns as f64 / 1e6),
        }
    }
}
