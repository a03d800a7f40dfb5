//! What is measured: which sizes on which lanes, and how many messages make a point.
//!
//! Promise: lanes of the same size follow one another, so that a change of the machine's pace meets them all. Refusal: no clock is read
//! here; how long it takes is a guess from the costs that are compiled in.

use super::Limits;
use ipc_core::Lane;
use ipc_core::calibration::{Calibration, Queue};

/// The shortest and the longest message, in bytes.
const SIZES: (u64, u64) = (8, 16 << 20);
/// The longest message of a quick run, in bytes.
const QUICK_LONGEST: u64 = 2 << 20;
/// Waking a side that sleeps, roughly, in ns.
const WAKE_NS: f64 = 50e3;
/// Time between two looks at the clock, roughly, in ns: far more than a look takes.
const LOOK_NS: f64 = 5e3;
/// The most round trips between two looks.
const MOST_A_LOOK: u32 = 64;
/// The fewest looks of a point.
const FEWEST: u32 = 4;
/// The most looks of a point.
const MOST: u32 = 1000;
/// Powers of two, halved, on either side of a crossing that is measured again.
const HALF_STEPS: i32 = 6;

/// How long the whole measurement takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// About half a minute with nine rounds.
    Full,
    /// A few seconds with nine rounds.
    Quick,
}

/// One point: messages of one size on one lane, there and back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Task {
    pub(super) lane: Lane,
    /// Bytes in a message.
    pub(super) size: u64,
    /// Round trips that are timed together.
    pub(super) trips: u32,
    /// How often that is done in a round, if there is time.
    pub(super) looks: u32,
    /// No look begins later in a round, once there are enough, in ns.
    pub(super) limit_ns: f64,
}

impl Task {
    /// The fewest looks of a round.
    pub(super) const ENOUGH: u32 = FEWEST;
}

/// Which points one condition has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// From one size to the next.
    factor: u64,
    /// The longest message, in bytes.
    longest: u64,
    /// Time for a point in one round, roughly, in ns.
    point_ns: f64,
    /// What a message costs beside its lane, roughly, in ns.
    wake_ns: f64,
}

impl Plan {
    /// The condition that counts has every power of two, the others every second one.
    pub(super) fn new(effort: Effort, counts: bool, polling: bool) -> Self {
        let factor = if counts && effort == Effort::Full { 2 } else { 4 };
        let point_ns = if effort == Effort::Full { 3e6 } else { 0.3e6 };
        let longest = if effort == Effort::Full { SIZES.1 } else { QUICK_LONGEST };
        Self { factor, longest, point_ns, wake_ns: if polling { 0.0 } else { WAKE_NS } }
    }

    /// The points of all lanes, by size.
    pub(super) fn tasks(&self, queue: Queue, limits: &Limits) -> Vec<Task> {
        let limit = |lane: Lane| limits.get(lane as usize).copied().flatten();
        let mut tasks = Vec::new();
        for &lane in queue.lanes() {
            let Some(limit) = limit(lane) else { continue };
            let mut sizes: Vec<u64> = std::iter::successors(Some(SIZES.0), |size| Some(size * self.factor))
                .take_while(|size| *size <= self.longest.min(limit))
                .collect();
            // A lane that ends on the way is measured to its end.
            if limit < self.longest && sizes.last().is_some_and(|last| last + last / 4 < limit) {
                sizes.push(limit);
            }
            tasks.extend(sizes.into_iter().map(|size| self.task(queue, lane, size)));
        }
        tasks.sort_by_key(|task| task.size);
        tasks
    }

    fn task(&self, queue: Queue, lane: Lane, size: u64) -> Task {
        let cost = Calibration::defaults().model(queue, lane).map_or(0.0, |model| model.at(size));
        let trip_ns = (2.0 * (cost + self.wake_ns)).max(1.0);
        // Conversions of floats to integers saturate.
        let trips = ((LOOK_NS / trip_ns) as u32).clamp(1, MOST_A_LOOK);
        let looks = ((self.point_ns / trip_ns / f64::from(trips)) as u32).clamp(FEWEST, MOST);
        Task { lane, size, trips, looks, limit_ns: 3.0 * self.point_ns }
    }
}

/// Points on either side of a crossing between the two lanes of Hybrid: eight times more and less, by half powers of two.
pub(super) fn around(bytes: f64, effort: Effort) -> Vec<Task> {
    let plan = Plan::new(effort, true, true);
    let sizes = (-HALF_STEPS..=HALF_STEPS).map(|half| (bytes * 2_f64.powf(f64::from(half) / 2.0)) as u64);
    let mut sizes: Vec<u64> = sizes.map(|size| size.clamp(SIZES.0, SIZES.1)).collect();
    sizes.dedup();
    let lanes = |size| [Lane::Kernel, Lane::Arena].map(|lane| plan.task(Queue::Socket, lane, size));
    sizes.into_iter().flat_map(lanes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = [Some(65_536), Some(65_528), Some(1 << 28), Some(1 << 40)];

    #[test]
    fn every_lane_is_measured_from_8_bytes_to_its_end_or_16_mib() {
        let tasks = Plan::new(Effort::Full, true, true).tasks(Queue::Shared, &LIMITS);
        let sizes =
            |lane| -> Vec<u64> { tasks.iter().filter(|task| task.lane == lane).map(|task| task.size).collect() };
        assert_eq!(sizes(Lane::Arena), (3..=24).map(|bit| 1 << bit).collect::<Vec<_>>());
        assert_eq!(sizes(Lane::File), sizes(Lane::Arena));
        assert_eq!(sizes(Lane::Kernel), (3..=16).map(|bit| 1 << bit).collect::<Vec<_>>());
        assert_eq!(sizes(Lane::Inline).last(), Some(&65_528));
        assert!(tasks.is_sorted_by_key(|task| task.size));
    }

    #[test]
    fn two_lines_can_be_told_apart_even_in_a_quick_run() {
        let tasks = Plan::new(Effort::Quick, true, true).tasks(Queue::Shared, &LIMITS);
        for lane in Lane::ALL {
            assert!(tasks.iter().filter(|task| task.lane == lane).count() >= 8, "{lane}");
        }
    }

    #[test]
    fn long_messages_are_sent_less_often_and_never_only_once() {
        let tasks = Plan::new(Effort::Full, true, false).tasks(Queue::Socket, &LIMITS);
        let task = |size| tasks.iter().find(|task| task.size == size && task.lane == Lane::File).unwrap();
        assert_eq!((task(8 << 20).trips, task(8 << 20).looks), (1, FEWEST));
        assert!(task(8).looks >= FEWEST);
        let tasks = Plan::new(Effort::Full, true, true).tasks(Queue::Shared, &LIMITS);
        let cheapest = tasks.iter().find(|task| task.size == 8 && task.lane == Lane::Inline).unwrap();
        assert!(cheapest.trips > 1 && cheapest.looks > 10 * FEWEST, "{cheapest:?}");
    }

    #[test]
    fn a_crossing_is_measured_three_powers_of_two_around() {
        let tasks = around(10_000.0, Effort::Full);
        assert_eq!((tasks[0].size, tasks.last().unwrap().size), (1250, 80_000));
        assert!(tasks.chunks(2).all(|both| both[0].size == both[1].size && both[0].lane != both[1].lane));
        // Nothing is shorter than what is measured at all.
        assert_eq!(around(8.0, Effort::Full)[0].size, 8);
    }
}
