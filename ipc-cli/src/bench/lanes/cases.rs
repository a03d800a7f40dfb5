//! What is compared with what: the cases of `ipc bench lanes`, as groups of subjects.
//!
//! Promise: both sides of a comparison do the same with the bytes. Refusal: nothing is timed here but the first pass that
//! finds the fastest few of many bare forms.

use super::super::floor::in_place::{self, Reader, Rotation, Source};
use super::super::floor::socket::{self, Form};
use super::super::floor::{copy_through, copy_through::Shape};
use super::super::floors::ways::{forms, shapes};
use super::super::ours;
use super::super::process::{Duo, Fallible};
use super::group::{Comparison, Group, Measure, Quantity, Subject};
use super::trip::{self, Setting, Way};
use super::{Case, Plan};
use ipc_core::router::{Override, Router};
use ipc_core::{Credit, Lane, Mode};
use std::time::Duration;

/// Sizes of the copied round trip, bytes.
pub(super) const COPIED: [usize; 7] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// Sizes for which lanes are compared, bytes.
pub(super) const ROUTED: [usize; 12] =
    [8, 32, 128, 512, 2 << 10, 8 << 10, 32 << 10, 128 << 10, 512 << 10, 2 << 20, 8 << 20, 16 << 20];

/// The same, closer where the lanes of mode `hybrid` may cross.
pub(super) const HYBRID: [usize; 17] = [
    8,
    32,
    128,
    256,
    512,
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    512 << 10,
    2 << 20,
    8 << 20,
    16 << 20,
];

/// Sizes of the message that is written and read in place, bytes.
pub(super) const IN_PLACE: [usize; 2] = [64 << 10, 1 << 20];

/// Sizes of messages through the kernel, bytes.
pub(super) const KERNEL: [usize; 4] = [64, 4 << 10, 32 << 10, 256 << 10];

/// Blocks of the floor that take turns, as many of them ahead of the reader.
const BLOCKS: [u64; 3] = [2, 4, 8];

/// Messages ahead of the reader, where ours are limited: as many as the floor's, and some more.
const AHEAD: [u64; 2] = [8, 32];

/// From this size on the copied round trip should take at most [`LARGE_TARGET`] of the socket's.
const LARGE: usize = 64 << 10;
const LARGE_TARGET: f64 = 0.7;

/// Bare forms that are measured in every round: the fastest of a first pass.
const FINALISTS: usize = 3;

/// Rounds of the first pass, and the part of a round's work that each does.
const FIRST_PASS: usize = 2;
const FIRST_PASS_EFFORT: f64 = 0.2;

/// Bytes of the packets of a socket where one form stands for all.
const PACKET: usize = 128 << 10;

/// A guess, until the first round tells: the fixed cost of `ns`, and 10 GB/s.
fn subject(name: impl Into<String>, size: usize, ns: f64, measure: Measure) -> Subject {
    Subject { name: name.into(), size, estimate_ns: ns + size as f64 / 10.0, measure }
}

/// The round trip of a loan, whose size should not matter, beside that of a message of 64 bytes.
pub(super) fn loan(plan: &Plan<'_>) -> Group {
    const MESSAGE: usize = 64;
    const LARGE_LOAN: usize = 1 << 20;
    let way = Way { setting: plan.setting(Mode::Auto), route: Override::Auto };
    let strategy = way.setting.strategy;
    let message =
        Box::new(move |duo: &Duo, trips: u64| ours::round_trip(duo, MESSAGE, strategy, Duration::ZERO, trips.max(32)));
    // The size says nothing about what a loan costs.
    let loan = |name: &str, size| Subject {
        name: name.into(),
        size,
        estimate_ns: 500.0,
        measure: Box::new(move |duo, trips| trip::lent(duo, way, size, trips)),
    };
    let subjects =
        vec![subject("message", MESSAGE, 200.0, message), loan("small loan", MESSAGE), loan("large loan", LARGE_LOAN)];
    let compare = |ours, peer, target| Comparison { ours, peers: vec![peer], of: Quantity::Time, target };
    let comparisons = vec![compare(2, 0, Some(1.3)), compare(1, 0, None), compare(2, 1, None)];
    Group { case: Case::Loan, subjects, comparisons }
}

/// A stream that is written and read in place, beside bare blocks.
pub(super) fn in_place(plan: &Plan<'_>, size: usize) -> Group {
    let mut group = Group { case: Case::InPlace, subjects: Vec::new(), comparisons: Vec::new() };
    for (source, verb) in [(Source::Made, "made"), (Source::Copied, "copied in")] {
        // Ours believe each other, and could write to all blocks. What it costs that they cannot is told by a floor of that kind.
        let floors = [(Reader::Writes, "", Some(0.95)), (Reader::ReadsOnly, " for a reader", None)];
        let floors = floors.map(|(reader, suffix, target)| {
            let first = group.subjects.len();
            for blocks in BLOCKS {
                let rotation = Rotation { blocks, ahead: blocks, reader };
                let bare = move |duo: &Duo, messages| in_place::write_and_read(duo, source, rotation, size, messages);
                let name = format!("bare {verb}{suffix}, {blocks} blocks");
                group.subjects.push(subject(name, size, 300.0, Box::new(bare)));
            }
            ((first..group.subjects.len()).collect::<Vec<usize>>(), target)
        });
        let free = plan.setting(Mode::Auto);
        let mut settings = vec![(free, format!("loan {verb}"))];
        settings.extend(AHEAD.map(|ahead| {
            let mut limited = free;
            limited.credit.messages = ahead;
            (limited, format!("loan {verb}, {ahead} ahead"))
        }));
        for (setting, name) in settings {
            let ours = move |duo: &Duo, messages| trip::in_place(duo, setting, source, size, messages);
            let ours_at = group.subjects.len();
            group.comparisons.extend(floors.iter().map(|(peers, target)| Comparison {
                ours: ours_at,
                peers: peers.clone(),
                of: Quantity::Throughput,
                target: *target,
            }));
            group.subjects.push(subject(name, size, 300.0, Box::new(ours)));
        }
    }
    group
}

/// Copied in and copied out, there and back, beside the fastest sockets and the fastest bare memory.
///
/// # Errors
/// A measurement of the first pass failed.
pub(super) fn copied(plan: &Plan<'_>, size: usize) -> Fallible<Group> {
    let socket = |form: Form| -> Subject {
        let bare = move |duo: &Duo, trips| socket::round_trip(duo, form, size, trips);
        subject(format!("socket: {form}"), size, 4000.0, Box::new(bare))
    };
    let memory = |(name, shape): (&str, Shape)| -> Subject {
        let bare = move |duo: &Duo, trips| copy_through::round_trip(duo, shape, size, trips);
        subject(format!("{name}: {shape}"), size, 300.0, Box::new(bare))
    };
    // A side that polls is no peer for one that may have to be woken.
    let forms = forms(size).into_iter().filter(|form| plan.is_polling() || !form.polling);
    let sockets = fastest(plan, forms.map(socket).collect())?;
    let shapes = if size.is_power_of_two() && size >= COPIED[0] { shapes(size) } else { Vec::new() };
    // Blocks in rotation bring nothing here, and touch much memory.
    let shapes = shapes.into_iter().filter(|(_, shape)| shape.window <= size);
    let memories = fastest(plan, shapes.map(memory).collect())?;
    let way = Way { setting: plan.setting(Mode::Auto), route: Override::Auto };
    let ours = move |duo: &Duo, trips| trip::copied(duo, way, size, trips);
    let mut subjects = vec![subject("send, recv_into", size, 500.0, Box::new(ours))];
    let first_memory = 1 + sockets.len();
    subjects.extend(sockets);
    subjects.extend(memories);
    let target = Some(if size >= LARGE { LARGE_TARGET } else { 1.0 });
    let all = subjects.len();
    let compare = |peers, target| Comparison { ours: 0, peers, of: Quantity::Time, target };
    let comparisons = vec![compare((1..first_memory).collect(), target), compare((first_memory..all).collect(), None)];
    Ok(Group { case: Case::Copied, subjects, comparisons })
}

/// The fastest few, by the faster of two short rounds.
fn fastest(plan: &Plan<'_>, mut subjects: Vec<Subject>) -> Fallible<Vec<Subject>> {
    let mut times = vec![f64::INFINITY; subjects.len()];
    for _ in 0..FIRST_PASS {
        for (subject, time) in subjects.iter_mut().zip(&mut times) {
            *time = time.min(subject.take(plan.duo, plan.effort * FIRST_PASS_EFFORT)?);
        }
    }
    let mut ranked: Vec<(f64, Subject)> = times.into_iter().zip(subjects).collect();
    ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    ranked.truncate(FINALISTS);
    Ok(ranked.into_iter().map(|(_, subject)| subject).collect())
}

/// The router's choice beside each lane that it can choose. For the chart of all lanes, a socket stands beside those of [`Case::Auto`].
pub(super) fn routed(plan: &Plan<'_>, case: Case, mode: Mode, router: &Router, size: usize) -> Group {
    let setting = plan.setting(mode);
    let subject_of = |name: String, route: Override, ns: f64| {
        let way = Way { setting, route };
        subject(name, size, ns, Box::new(move |duo, trips| trip::copied(duo, way, size, trips)))
    };
    let mut subjects = vec![subject_of(mode.to_string(), Override::Auto, 1000.0)];
    for lane in Lane::ALL {
        if router.costs().limit(lane).is_some_and(|limit| size as u64 <= limit) {
            let guess = if lane == Lane::File { 50_000.0 } else { 1000.0 };
            subjects.push(subject_of(lane.to_string(), Override::Lane(lane), guess));
        }
    }
    let comparison =
        Comparison { ours: 0, peers: (1..subjects.len()).collect(), of: Quantity::Time, target: Some(1.05) };
    let mut comparisons = vec![comparison];
    // Where these two cost the same is what the router should know.
    let index = |lane: Lane| subjects.iter().position(|subject| subject.name == lane.to_string());
    if let (Case::Hybrid, Some(kernel), Some(arena)) = (case, index(Lane::Kernel), index(Lane::Arena)) {
        comparisons.push(Comparison { ours: kernel, peers: vec![arena], of: Quantity::Time, target: None });
    }
    if case == Case::Auto {
        let form = packets(plan);
        let bare = move |duo: &Duo, trips| socket::round_trip(duo, form, size, trips);
        subjects.push(subject(SOCKET, size, 4000.0, Box::new(bare)));
    }
    Group { case, subjects, comparisons }
}

/// The name of the socket beside the lanes.
pub(super) const SOCKET: &str = "unix socket";

/// The socket as a program uses it that takes packets, with the system's buffers.
fn packets(plan: &Plan<'_>) -> Form {
    Form { packets: true, piece: PACKET, raised: false, polling: plan.is_polling() }
}

/// What a connection without shared memory costs above its socket.
pub(super) fn kernel(plan: &Plan<'_>, size: usize) -> [Group; 2] {
    let way = Way { setting: plan.setting(Mode::Kernel), route: Override::Auto };
    let form = packets(plan);
    let group = |case, names: [&str; 2], measures: [Measure; 2]| {
        let subjects = names.into_iter().zip(measures).map(|(name, measure)| subject(name, size, 4000.0, measure));
        let comparisons = vec![Comparison { ours: 0, peers: vec![1], of: Quantity::Time, target: None }];
        Group { case, subjects: subjects.collect(), comparisons }
    };
    [
        group(
            Case::Kernel,
            ["kernel, round trip", "socket, round trip"],
            [
                Box::new(move |duo, trips| trip::copied(duo, way, size, trips)),
                Box::new(move |duo, trips| socket::round_trip(duo, form, size, trips)),
            ],
        ),
        group(
            Case::Kernel,
            ["kernel, stream", "socket, stream"],
            [
                Box::new(move |duo, messages| trip::stream(duo, way, size, messages)),
                Box::new(move |duo, messages| socket::stream(duo, form, size, messages)),
            ],
        ),
    ]
}

impl Plan<'_> {
    /// What both sides ask for.
    pub(super) fn setting(&self, mode: Mode) -> Setting {
        Setting { strategy: self.strategy, mode, credit: Credit::default() }
    }
}
