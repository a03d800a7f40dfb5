//! `ipc bench floors`: large messages through bare shared memory and through a Unix socket, without the library.
//!
//! Promise: every form of a group is measured once in every round, in turns, so that a pace that changes between rounds
//! falls on all alike; speeds are compared round by round; the state of the machine is measured among them, as the round
//! trip of one line. Refusal: no verdict, and no choice of a form: all of them are printed.

use super::Args;
use super::floor::copy_through::{self, Shape};
use super::floor::in_place::{self, Rotation, Source};
use super::floor::socket::{self, Form};
use super::floor::{Copier, ping_pong};
use super::process::{Duo, Fallible};
use super::stats::Summary;
use serde::Serialize;
use std::fmt::Write as _;

/// Sizes of the copied round trip, bytes.
const SIZES: [usize; 10] = [8, 64, 512, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// Sizes of the message that is written and read in place, bytes.
const IN_PLACE_SIZES: [usize; 2] = [64 << 10, 1 << 20];

/// Blocks in rotation.
const BLOCKS: [usize; 4] = [1, 2, 4, 8];

/// The smallest message that is copied through a buffer; smaller ones are the ring's.
const SMALLEST_COPY: usize = 4 << 10;

/// The largest message for which copiers are mixed; above it, copies by the line lose to those by the page.
const LARGEST_MIXED: usize = 64 << 10;

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
pub(super) struct Line {
    /// What is done.
    pub(super) case: String,
    /// Bytes of the message.
    pub(super) size: u64,
    /// How it is done.
    pub(super) form: String,
    /// The unit of the figures: nanoseconds a round trip, or a message where nothing is answered.
    pub(super) unit: &'static str,
    /// The median of the rounds.
    pub(super) median: f64,
    /// The fastest round.
    pub(super) min: f64,
    /// The slowest round.
    pub(super) max: f64,
    /// What the speed is relative to: the form with the lowest median among the peers of the group.
    pub(super) peer: String,
    /// How many times as fast as the peer, the median of the rounds.
    pub(super) speed: f64,
    /// The same, lowest round.
    pub(super) speed_min: f64,
    /// The same, highest round.
    pub(super) speed_max: f64,
    /// Nanoseconds of the round trip of one line meanwhile, the median of the rounds.
    pub(super) line_round_trip: f64,
    /// Rounds of each form.
    pub(super) rounds: usize,
}

/// Measures every group.
///
/// # Errors
/// The first measurement that failed.
pub(super) fn measure(duo: &Duo, args: &Args) -> Fallible<Vec<Line>> {
    let mut lines = Vec::new();
    for group in groups(args) {
        lines.extend(group.measure(duo, usize::from(args.rounds))?);
    }
    Ok(lines)
}

fn groups(args: &Args) -> Vec<Group> {
    let wanted = |size: &usize| args.size.is_none_or(|only| only == *size);
    let mut groups: Vec<Group> = SIZES.into_iter().filter(wanted).map(|size| copied(args, size)).collect();
    for size in IN_PLACE_SIZES.into_iter().filter(wanted) {
        groups.extend([true, false].map(|stream| in_place(args, size, stream)));
    }
    groups
}

/// Copied in and copied out, there and back: sockets, and bare shared memory from [`SMALLEST_COPY`] up.
fn copied(args: &Args, size: usize) -> Group {
    let trips = args.repetitions(4000.0 + size as f64 / 10.0, 4);
    let mut candidates: Vec<Candidate> = forms(size)
        .into_iter()
        .map(|form| Candidate {
            name: form.to_string(),
            peer: true,
            measure: Box::new(move |duo| socket::round_trip(duo, form, size, trips)),
        })
        .collect();
    let trips = args.repetitions(300.0 + size as f64 / 20.0, 4);
    let shapes = if size >= SMALLEST_COPY { shapes(size) } else { Vec::new() };
    candidates.extend(shapes.into_iter().map(|(name, shape)| Candidate {
        name: format!("{name}: {shape}"),
        peer: false,
        measure: Box::new(move |duo| copy_through::round_trip(duo, shape, size, trips)),
    }));
    Group { case: "copied round trip", size, candidates }
}

/// The ways to use a socket, without those whose pieces would hold more than the message.
fn forms(size: usize) -> Vec<Form> {
    let form = |packets, piece, raised| [false, true].map(|polling| Form { packets, piece, raised, polling });
    let mut forms = Vec::new();
    for raised in [false, true] {
        forms.extend(form(false, usize::MAX, raised));
        forms.extend(form(false, 32 << 10, raised));
        // A packet must fit the buffer, which holds about 208 KiB by default.
        let largest: &[usize] = if raised { &[256 << 10, 512 << 10, 1 << 20] } else { &[128 << 10] };
        forms.extend(largest.iter().flat_map(|piece| form(true, *piece, raised)));
    }
    let smallest_packet = |form: &Form| form.piece == if form.raised { 256 << 10 } else { 128 << 10 };
    forms.retain(|form| form.piece == usize::MAX || form.piece <= size || (form.packets && smallest_packet(form)));
    forms
}

/// The ways to copy a message of `size` bytes through shared memory.
fn shapes(size: usize) -> Vec<(&'static str, Shape)> {
    let same = |copier| (copier, copier);
    let plain = same(Copier::Library);
    let mut copiers: Vec<(Copier, Copier)> = Copier::available().into_iter().map(same).collect();
    if size > LARGEST_MIXED {
        copiers.retain(|(copier, _)| *copier != Copier::Wide);
    } else if copiers.len() == 3 {
        copiers.push((Copier::Microcode, Copier::Wide));
    }
    let shape = |window, chunk, common, (copy_in, copy_out)| Shape { window, chunk, common, copy_in, copy_out };
    let mut shapes = Vec::new();
    for common in [true, false] {
        shapes.extend(copiers.iter().map(|pair| ("whole", shape(size, size, common, *pair))));
        shapes.extend(BLOCKS[1..].iter().map(|blocks| ("whole, rotating", shape(size * blocks, size, common, plain))));
    }
    let chunks: &[usize] = match size {
        0..=0x4000 => &[1 << 10, 2 << 10, 4 << 10, 8 << 10],
        0x4001..=0x1_0000 => &[4 << 10, 8 << 10, 16 << 10, 32 << 10],
        _ => &[8 << 10, 16 << 10, 32 << 10, 64 << 10],
    };
    for chunk in chunks.iter().copied().filter(|chunk| *chunk < size) {
        for pair in copiers.iter().copied() {
            shapes.extend([true, false].map(|common| ("cut-through", shape(size, chunk, common, pair))));
            let windows = [64, 128, 256, 512, 1024].map(|kib| kib << 10).into_iter();
            let windows = windows.filter(|window| *window < size && *window >= 4 * chunk);
            shapes.extend(windows.map(|window| ("window", shape(window, chunk, false, pair))));
        }
        shapes.push(("cut-through, rotating", shape(size * 4, chunk, false, plain)));
    }
    shapes
}

/// Written in place and read in place: in turns, or as a stream.
fn in_place(args: &Args, size: usize, stream: bool) -> Group {
    let messages = args.repetitions(300.0 + size as f64 / 40.0, 4);
    let mut candidates = Vec::new();
    for (source, verb) in [(Source::Made, "made"), (Source::Copied, "copied in")] {
        for blocks in BLOCKS.into_iter().filter(|blocks| !stream || *blocks > 1) {
            let blocks = blocks as u64;
            let rotation = Rotation { blocks, ahead: if stream { blocks } else { 1 } };
            candidates.push(Candidate {
                name: format!("{verb}, {blocks} blocks"),
                peer: source == Source::Made,
                measure: Box::new(move |duo| in_place::write_and_read(duo, source, rotation, size, messages)),
            });
        }
    }
    Group { case: if stream { "in place, stream" } else { "in place, in turns" }, size, candidates }
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
pub(super) fn table(lines: &[Line]) -> String {
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
    fn a_heading_stands_above_each_group_once() {
        let lines = group().lines(&[90.0], &[vec![3.0], vec![2.0], vec![1.0]]).unwrap();
        let text = table(&lines);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with("copied round trip, 4K: ") && text.contains("as fast as fast"), "{text}");
    }

    #[test]
    fn every_listed_way_fits_its_message() {
        let Ok(duo) = Duo::new() else { return };
        for size in SIZES.into_iter().filter(|size| (SMALLEST_COPY..=256 << 10).contains(size)) {
            for (name, shape) in shapes(size) {
                let time = copy_through::round_trip(&duo, shape, size, 2);
                assert!(time.is_ok(), "{name}: {shape}: {time:?}");
            }
            for form in forms(size) {
                let time = socket::round_trip(&duo, form, size, 2);
                assert!(time.is_ok(), "{form}: {time:?}");
            }
        }
    }
}
