//! A measurement within this process, for those who never ran `ipc calibrate`.
//!
//! Promise: it ends when its time is over, whatever it waits for then, and says nothing rather than something that its own points
//! contradict. Refusal: two threads of one process that share two cores with everybody else are no fair pair of processes: these costs are
//! good enough to choose a lane, and no figures to quote.

use super::{Calibration, Queue};
use crate::connect::shared_geometry;
use crate::connection::Connection;
use crate::layout::{DEFAULT_CAPACITY, Geometry};
use crate::link::{Link, Parts, Role};
use crate::os::admission::Peer;
use crate::os::fork::GuardedFd;
use crate::os::segment::{Segment, SegmentOptions};
use crate::os::{membarrier, processor, socket, thread};
use crate::router::fit::{Point, fit};
use crate::router::{Lane, Override};
use crate::terms::{Credit, Mode};
use crate::wait::WaitStrategy;
use rustix::fd::AsFd;
use std::boxed::Box;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

/// The time that a process spends at most to measure what its lanes cost, all in all, if nobody did before. It ends at that time, and a
/// call to the system that was begun before then may end a little later.
pub const QUICK_BUDGET: Duration = Duration::from_millis(40);

/// Fewer times through all points than this are no measurement.
const FEWEST_PASSES: usize = 3;
/// More do not make it better.
const MOST_PASSES: usize = 8;
/// A line whose points are off by more than this in the median is not believed, as a fraction.
const MOST_RESIDUAL: f64 = 0.3;
/// Polling for so long before sleeping: longer than any message here takes, shorter than another process would miss the processor.
const POLL: Duration = Duration::from_millis(1);

/// Lengths of messages, in bytes. The last ones of the ring and of its packets are near their limits.
const SHORT: [u64; 4] = [64, 2 << 10, 16 << 10, 60_000];
const MIXED: [u64; 5] = [64, 2 << 10, 16 << 10, 64 << 10, 512 << 10];
const LONG: [u64; 3] = [4 << 10, 64 << 10, 256 << 10];
/// The longest of them.
const LONGEST: usize = 512 << 10;

/// One point of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    queue: Queue,
    lane: Lane,
    len: u64,
}

impl Spot {
    fn all() -> Vec<Self> {
        let lane_of = |queue: Queue| queue.lanes().iter().map(move |lane| (queue, *lane));
        Queue::ALL
            .into_iter()
            .flat_map(lane_of)
            .flat_map(|(queue, lane)| {
                let lens: &[u64] = match (queue, lane) {
                    (Queue::Shared, Lane::Inline | Lane::Kernel) => &SHORT,
                    (_, Lane::File) => &LONG,
                    _ => &MIXED,
                };
                lens.iter().map(move |len| Self { queue, lane, len: *len })
            })
            .collect()
    }

    /// How often it is measured in one go: short messages oftener, against the grain of the clock.
    fn trips(&self) -> u32 {
        match self.len {
            _ if self.lane == Lane::File => 1,
            0..4096 => 8,
            4096..100_000 => 3,
            _ => 1,
        }
    }
}

/// Measures between two threads; nothing if that fails, or does not end in time.
pub(super) fn measure() -> Option<Calibration> {
    let start = Instant::now();
    if processor::allowed() < 2 {
        return None;
    }
    let mut benches = [Bench::new(Mode::Auto, start).ok()?, Bench::new(Mode::Hybrid, start).ok()?];
    let trial = |spot: Spot| benches[spot.queue as usize].trial(spot).ok();
    best_of(trial, || start.elapsed())
}

/// Goes through all spots until the time is over, keeps the best of each, and fits lines. A trial gives what one message took;
/// nothing if it had to give up.
fn best_of(
    mut trial: impl FnMut(Spot) -> Option<Duration>,
    mut clock: impl FnMut() -> Duration,
) -> Option<Calibration> {
    let spots = Spot::all();
    let mut best = vec![Duration::MAX; spots.len()];
    'measuring: for pass in 0..MOST_PASSES {
        for (spot, best) in spots.iter().zip(&mut best) {
            let taken = if clock() < QUICK_BUDGET { trial(*spot) } else { None };
            match taken {
                // Other processes make a message slow, nothing makes it fast.
                Some(taken) => *best = taken.min(*best),
                None if pass < FEWEST_PASSES => return None,
                None => break 'measuring,
            }
        }
    }
    let mut calibration = Calibration::defaults();
    for queue in Queue::ALL {
        for &lane in queue.lanes() {
            let points: Vec<Point> = spots
                .iter()
                .zip(&best)
                .filter(|(spot, _)| (spot.queue, spot.lane) == (queue, lane))
                .map(|(spot, best)| Point { bytes: spot.len, ns: best.as_nanos() as f64 })
                .collect();
            let fit = fit(&points).ok().filter(|fit| fit.residual_median <= MOST_RESIDUAL)?;
            calibration = calibration.with(queue, lane, fit.model);
        }
    }
    Some(calibration)
}

/// A connection with a thread at its other end that sends every message back.
struct Bench {
    near: Option<Connection>,
    echo: Option<JoinHandle<()>>,
    /// The lane of answers, by its place in [`Lane::ALL`]. Written before a trial begins, read for each answer.
    lane: Arc<AtomicUsize>,
    message: Vec<u8>,
    answer: Vec<u8>,
    start: Instant,
}

impl Bench {
    fn new(mode: Mode, start: Instant) -> Result<Self, Failed> {
        let (mut near, far) = pair(mode)?;
        near.set_wait_strategy(WaitStrategy::Adaptive(POLL));
        let lane = Arc::new(AtomicUsize::new(0));
        let their_lane = lane.clone();
        let echo = thread::spawn_deaf("ipc-calibration", move || {
            // It ends when the near end goes, or time is over; both ends look at the clock.
            let _ = echo(far, &their_lane, start);
        })?;
        let (message, answer) = (vec![1; LONGEST], vec![0; LONGEST]);
        Ok(Self { near: Some(near), echo: Some(echo), lane, message, answer, start })
    }

    /// What one message takes in one direction.
    fn trial(&mut self, spot: Spot) -> Result<Duration, Failed> {
        let near = self.near.as_mut().ok_or("the connection is closed")?;
        let (message, answer) = (&self.message[..spot.len as usize], &mut self.answer);
        near.sender().set_route(Override::Lane(spot.lane))?;
        // Relaxed: the message that is sent next is acquired by whoever reads this.
        self.lane.store(spot.lane.index(), Ordering::Relaxed);
        let trips = spot.trips();
        let start = Instant::now();
        for _ in 0..trips {
            near.send_timeout(message, left(self.start))?;
            near.receiver().recv_into_timeout(answer, left(self.start))?;
        }
        Ok(start.elapsed() / (2 * trips))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The thread hears of it, and ends.
        drop(self.near.take());
        if let Some(echo) = self.echo.take() {
            // A panic over there is a measurement that failed.
            let _ = echo.join();
        }
    }
}

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

fn left(start: Instant) -> Duration {
    QUICK_BUDGET.saturating_sub(start.elapsed())
}

fn echo(mut far: Connection, lane: &AtomicUsize, start: Instant) -> Result<(), Failed> {
    far.set_wait_strategy(WaitStrategy::Adaptive(POLL));
    let mut buffer = vec![0; LONGEST];
    loop {
        let len = far.receiver().recv_into_timeout(&mut buffer, left(start))?;
        let lane = Lane::ALL.get(lane.load(Ordering::Relaxed)).copied().unwrap_or(Lane::Kernel);
        far.sender().set_route(Override::Lane(lane))?;
        far.send_timeout(&buffer[..len], left(start))?;
    }
}

/// Both ends of a connection, made without a listener.
pub(crate) fn pair(mode: Mode) -> Result<(Connection, Connection), Failed> {
    let geometry = Geometry { to_server_capacity: DEFAULT_CAPACITY, to_client_capacity: DEFAULT_CAPACITY };
    let (options, shared) = (SegmentOptions::default(), shared_geometry(mode, geometry));
    let (mut server_segment, mut client_segment) = (None, None);
    if mode.has_arena() {
        let made = Segment::create("ipc:calibration", shared, options)?;
        let file = made.as_fd().try_clone_to_owned()?;
        client_segment = Some(Segment::attach(file, made.size(), shared, options)?);
        server_segment = Some(made);
    }
    let membarrier = membarrier::register();
    let sockets = || -> Result<_, Failed> {
        let (one, other) = socket::pair()?;
        Ok((GuardedFd::new(one)?, GuardedFd::new(other)?))
    };
    let (messages, space, files) = (sockets()?, sockets()?, sockets()?);
    let end = |role, segment, messages, space, files| -> Result<Connection, Failed> {
        let link = Link::new(Parts {
            role,
            segment,
            peer: Peer::of(&messages)?,
            messages,
            space,
            files,
            membarrier,
            mode,
            geometry,
            own_credit: Credit::default(),
            peer_credit: Credit::default(),
            label: "ipc:calibration".into(),
            coalescing: None,
            alarm: None,
            lease: None,
        })?;
        // SAFETY: the link is new, and the other one has the other halves.
        Ok(unsafe { Connection::new(link, WaitStrategy::default()) })
    };
    Ok((
        end(Role::Server, server_segment, messages.0, space.0, files.0)?,
        end(Role::Client, client_segment, messages.1, space.1, files.1)?,
    ))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::line;
    use super::*;
    use crate::router::Crossover;
    use crate::router::between;
    use std::cell::Cell;

    /// One line a lane.
    fn truth() -> Calibration {
        let mut truth = Calibration::defaults();
        for queue in Queue::ALL {
            for (&lane, (a, b)) in
                queue.lanes().iter().zip([(1600.0, 0.25), (100.0, 0.12), (400.0, 0.06), (30_000.0, 0.3)])
            {
                truth = truth.with(queue, lane, line(a, b));
            }
        }
        truth
    }

    /// A machine where a trial takes `step` of the budget, and a message what the truth says.
    fn measured(step: Duration) -> (Option<Calibration>, usize) {
        let (now, trials) = (Cell::new(Duration::ZERO), Cell::new(0));
        let trial = |spot: Spot| {
            now.set(now.get() + step);
            trials.set(trials.get() + 1);
            let ns = truth().model(spot.queue, spot.lane)?.at(spot.len);
            Some(Duration::from_nanos(ns as u64))
        };
        (best_of(trial, || now.get()), trials.get())
    }

    #[test]
    fn no_trial_begins_when_the_time_is_over() {
        let (_, trials) = measured(Duration::from_millis(1));
        assert_eq!(trials, 40);
        let (calibration, trials) = measured(QUICK_BUDGET);
        assert_eq!((calibration, trials), (None, 1));
    }

    #[test]
    fn a_machine_too_slow_for_three_passes_keeps_the_defaults() {
        let spots = Spot::all().len() as u32;
        let (calibration, _) = measured(QUICK_BUDGET / (FEWEST_PASSES as u32 * spots - 2));
        assert_eq!(calibration, None);
        let (calibration, _) = measured(QUICK_BUDGET / (FEWEST_PASSES as u32 * spots));
        assert!(calibration.is_some());
    }

    #[test]
    fn a_fast_machine_stops_after_eight_passes() {
        let (calibration, trials) = measured(Duration::from_nanos(1));
        assert!(calibration.is_some());
        assert_eq!(trials, MOST_PASSES * Spot::all().len());
    }

    #[test]
    fn lines_come_back_and_interrupted_trials_do_not_move_them() {
        let number = Cell::new(0);
        let trial = |spot: Spot| {
            number.set(number.get() + 1);
            let ns = truth().model(spot.queue, spot.lane)?.at(spot.len);
            // Two of three passes meet somebody else on the processor.
            let slow = if (number.get() + spot.len).is_multiple_of(3) { 1.0 } else { 50.0 };
            Some(Duration::from_nanos((ns * slow) as u64))
        };
        let found = best_of(trial, || Duration::ZERO).expect("lines that fit");
        for queue in Queue::ALL {
            for &lane in queue.lanes() {
                let (found, true_one) = (found.model(queue, lane), truth().model(queue, lane));
                let (found, true_one) = (found.expect("a lane").below(), true_one.expect("a lane").below());
                assert!(
                    (found.fixed_ns() - true_one.fixed_ns()).abs() <= 0.03 * true_one.fixed_ns(),
                    "{found} {true_one}"
                );
            }
        }
    }

    #[test]
    fn points_that_lie_on_no_line_are_not_believed() {
        let trial = |spot: Spot| {
            Some(Duration::from_nanos(if spot.len == 2 << 10 || spot.len >= 60_000 { 90_000 } else { 100 }))
        };
        assert_eq!(best_of(trial, || Duration::ZERO), None);
    }

    /// The figures depend on what else the machine does, so a failure is an answer, too: but everything has ended by then.
    #[test]
    fn the_real_measurement_finds_lines_that_differ_or_nothing() {
        if let Some(found) = measure() {
            let line = |lane| found.model(Queue::Shared, lane).expect("a lane").below();
            assert_ne!(between(line(Lane::Inline), line(Lane::File)), Crossover::SecondAlways);
        }
    }

    #[test]
    fn a_pair_without_a_listener_carries_messages_on_every_lane() {
        for mode in [Mode::Auto, Mode::Hybrid] {
            let (mut near, mut far) = pair(mode).expect("a pair");
            for &lane in Queue::of(mode).lanes() {
                near.sender().set_route(Override::Lane(lane)).expect("a lane");
                near.send(b"there").expect("sent");
                assert_eq!(far.recv().expect("received").to_vec(), b"there");
                far.send(b"and back").expect("sent");
                assert_eq!(near.recv().expect("received").to_vec(), b"and back");
            }
        }
    }
}
