//! `ipc bench floors`: large messages through bare shared memory and through a Unix socket, without the library.
//!
//! Promise: every form of a group is measured once in every round, in turns, so that a pace that changes between rounds
//! falls on all alike; speeds are compared round by round; the state of the machine is measured among them, as the round
//! trip of one line. Refusal: no verdict, and no choice of a form: all of them are printed.

pub(super) mod ways;

use super::floor::ping_pong;
use super::process::{Duo, Fallible};
use super::stats::Summary;
use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use std::fmt::Write as _;

/// Measure large messages through bare shared memory and Unix sockets, without the library.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Bytes of the messages that are copied there and back, powers of two; those of 65536 and 1048576 are also written and
    /// read in place.
    #[arg(long, value_delimiter = ',', default_values_t = SIZES, value_parser = a_size)]
    sizes: Vec<usize>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Work of a round, in percent of the default; less is faster and noisier.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    effort: u32,
    /// Print one JSON object per form, in an array.
    #[arg(long)]
    json: bool,
}

/// Reads a size that every form can pass.
fn a_size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(size) if size.is_power_of_two() && (SMALLEST..=LARGEST).contains(&size) => Ok(size),
        _ => Err(format!("a size is a power of two from {SMALLEST} to {LARGEST}")),
    }
}

/// Sizes of the copied round trip, bytes.
const SIZES: [usize; 10] = [8, 64, 512, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// The smallest size: a message holds its number.
const SMALLEST: usize = 8;

/// The largest size, so that a form's shared memory stays below 1 GiB.
const LARGEST: usize = 32 << 20;

/// Sizes of the message that is written and read in place, bytes.
const IN_PLACE_SIZES: [usize; 2] = [64 << 10, 1 << 20];

/// A measurement, nanoseconds.
type Measure = Box<dyn Fn(&Duo) -> Fallible<f64>>;

/// One way to do what its group measures.
struct Candidate {
    name: String,
    /// One of those whose best is what all are compared with.
    peer: bool,
    measure: Measure,
}

/// Ways to do one thing, measured in turns.
struct Group {
    case: &'static str,
    /// Bytes of the message.
    size: usize,
    candidates: Vec<Candidate>,
}

/// One line of the result. Serialises to one flat JSON object.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Line {
    /// What is done.
    case: String,
    /// Bytes of the message.
    size: u64,
    /// How it is done.
    form: String,
    /// The unit of the figures: nanoseconds a round trip, or a message where nothing is answered.
    unit: &'static str,
    /// The median of the rounds.
    median: f64,
    /// The fastest round.
    min: f64,
    /// The slowest round.
    max: f64,
    /// What the speed is relative to: the form with the lowest median among the peers of the group.
    peer: String,
    /// How many times as fast as the peer, the median of the rounds.
    speed: f64,
    /// The same, lowest round.
    speed_min: f64,
    /// The same, highest round.
    speed_max: f64,
    /// Nanoseconds of the round trip of one line meanwhile, the median of the rounds.
    line_round_trip: f64,
    /// Rounds of each form.
    rounds: usize,
}

impl Args {
    /// How many times something that takes about `nanoseconds` is done in a round, four times at least.
    fn repetitions(&self, nanoseconds: f64) -> u64 {
        const ROUND: f64 = 20e6;
        ((ROUND * f64::from(self.effort) / 100.0 / nanoseconds) as u64).max(4)
    }

    /// What is measured, in the order of the table.
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.sizes.iter().map(|size| ways::copied(self, *size)).collect();
        for size in self.sizes.iter().copied().filter(|size| IN_PLACE_SIZES.contains(size)) {
            groups.extend([true, false].map(|stream| ways::in_place(self, size, stream)));
        }
        groups
    }
}

/// Measures and prints.
///
/// # Errors
/// The machine has fewer than two processors, or a side failed.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let lines = measure(args).map_err(|error| Failure::runtime(error.to_string()))?;
    if args.json {
        let text = serde_json::to_string_pretty(&lines).map_err(|error| Failure::runtime(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", table(&lines));
    }
    Ok(())
}

/// Measures every group.
fn measure(args: &Args) -> Fallible<Vec<Line>> {
    let duo = Duo::new()?;
    let groups = args.groups();
    // Without a ticking thread, as processes are forked for each round. Hidden unless on a terminal.
    let bar = ProgressBar::with_draw_target(Some(groups.len() as u64), ProgressDrawTarget::stderr());
    bar.tick();
    let mut lines = Vec::new();
    for group in groups {
        lines.extend(group.measure(&duo, usize::from(args.rounds))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(lines)
}

/// A power of two as people write it.
fn bytes(count: usize) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{}K", count >> 10),
        _ => format!("{}M", count >> 20),
    }
}

impl Group {
    /// Takes all rounds, every second one in the opposite order.
    fn measure(&self, duo: &Duo, rounds: usize) -> Fallible<Vec<Line>> {
        let mut line_trips = Vec::with_capacity(rounds);
        let mut samples = vec![Vec::with_capacity(rounds); self.candidates.len()];
        for round in 0..rounds {
            line_trips.push(ping_pong::stamped_line_round_trip(duo, 20_000)?);
            let mut turn = |index: usize| -> Fallible<()> {
                samples[index].push((self.candidates[index].measure)(duo)?);
                Ok(())
            };
            if round.is_multiple_of(2) {
                (0..self.candidates.len()).try_for_each(&mut turn)?;
            } else {
                (0..self.candidates.len()).rev().try_for_each(&mut turn)?;
            }
        }
        self.lines(&line_trips, &samples)
    }

    fn lines(&self, line_trips: &[f64], samples: &[Vec<f64>]) -> Fallible<Vec<Line>> {
        let summaries: Vec<Summary> = samples.iter().map(|rounds| Summary::of(rounds)).collect::<Fallible<_>>()?;
        let line_round_trip = Summary::of(line_trips)?.median;
        let peer = (0..summaries.len())
            .filter(|index| self.candidates[*index].peer)
            .min_by(|a, b| summaries[*a].median.total_cmp(&summaries[*b].median))
            .ok_or("a group has no peer to compare with")?;
        let line = |index: usize| -> Fallible<Line> {
            let ratios: Vec<f64> = samples[peer].iter().zip(&samples[index]).map(|(peer, own)| peer / own).collect();
            let (summary, speed) = (summaries[index], Summary::of(&ratios)?);
            Ok(Line {
                case: self.case.into(),
                size: self.size as u64,
                form: self.candidates[index].name.clone(),
                unit: "ns",
                median: summary.median,
                min: summary.min,
                max: summary.max,
                peer: self.candidates[peer].name.clone(),
                speed: speed.median,
                speed_min: speed.min,
                speed_max: speed.max,
                line_round_trip,
                rounds: summary.rounds,
            })
        };
        (0..summaries.len()).map(line).collect()
    }
}

/// The lines, a heading above each group.
fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut before = None;
    for line in lines {
        let group = (&line.case, line.size);
        // Writing to a String cannot fail.
        if before != Some(group) {
            let _ = writeln!(
                text,
                "{}, {}: ns, spread, times as fast as {} (one line there and back: {:.0} ns)",
                line.case,
                bytes(line.size as usize),
                line.peer,
                line.line_round_trip
            );
            before = Some(group);
        }
        let _ = writeln!(
            text,
            "  {:<62}{:>10.0}  {:>20}  {:>6.2}  {:.2}..{:.2}",
            line.form,
            line.median,
            format!("{:.0}..{:.0}", line.min, line.max),
            line.speed,
            line.speed_min,
            line.speed_max
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group of two peers and one other, whose measurements are never taken.
    fn group() -> Group {
        let candidate = |name: &str, peer| Candidate { name: name.into(), peer, measure: Box::new(|_| Ok(1.0)) };
        let candidates = vec![candidate("slow", true), candidate("fast", true), candidate("bare", false)];
        Group { case: "copied round trip", size: 4096, candidates }
    }

    #[test]
    fn speeds_are_relative_to_the_fastest_peer_round_by_round() {
        let samples = [vec![50.0, 60.0, 70.0], vec![20.0, 40.0, 20.0], vec![10.0, 10.0, 4.0]];
        let lines = group().lines(&[90.0, 100.0, 500.0], &samples).unwrap();
        assert!(lines.iter().all(|line| line.peer == "fast" && line.line_round_trip == 100.0 && line.rounds == 3));
        assert_eq!((lines[2].median, lines[2].min, lines[2].max), (10.0, 4.0, 10.0));
        // The rounds have 2, 4 and 5; the medians would give 2.
        assert_eq!((lines[2].speed, lines[2].speed_min, lines[2].speed_max), (4.0, 2.0, 5.0));
        assert_eq!(lines[1].speed, 1.0);
    }

    #[test]
    fn every_form_is_measured_once_a_round_and_every_second_round_backwards() {
        let Ok(duo) = Duo::new() else { return };
        let log = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
        let mut group = group();
        for candidate in &mut group.candidates {
            let (log, letter) = (log.clone(), candidate.name.chars().next().unwrap());
            candidate.measure = Box::new(move |_| {
                log.borrow_mut().push(letter);
                Ok(1.0)
            });
        }
        group.measure(&duo, 3).unwrap();
        assert_eq!(*log.borrow(), "sfbbfssfb");
    }

    #[test]
    fn a_line_serialises_to_one_flat_object() {
        let lines = group().lines(&[90.0], &[vec![3.0], vec![2.0], vec![1.0]]).unwrap();
        let json = serde_json::to_value(&lines[2]).unwrap();
        assert_eq!((&json["form"], &json["peer"]), (&"bare".into(), &"fast".into()));
        assert_eq!((json["speed"].as_f64(), json["size"].as_u64()), (Some(2.0), Some(4096)));
        assert!(json.as_object().unwrap().values().all(|value| !value.is_object()));
    }

    #[test]
    fn a_size_is_a_power_of_two_within_limits() {
        assert_eq!((a_size("8"), a_size("4096")), (Ok(8), Ok(4096)));
        for text in ["0", "4", "100", "67108864", "-8", "4K"] {
            assert!(a_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_heading_stands_above_each_group_once() {
        let lines = group().lines(&[90.0], &[vec![3.0], vec![2.0], vec![1.0]]).unwrap();
        let text = table(&lines);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with("copied round trip, 4K: ") && text.contains("as fast as fast"), "{text}");
    }
}
