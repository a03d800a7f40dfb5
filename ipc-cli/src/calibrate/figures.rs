//! What comes out of the measurement: lines through the points, and where they cross.
//!
//! Promise: every crossing is printed with the numbers it follows from. Refusal: fitting is [`ipc_core::router::fit`]'s, choosing is
//! the router's.

use super::Limits;
use super::plan::Task;
use crate::bench::process::Fallible;
use crate::crossing::crossing;
use ipc_core::Lane;
use ipc_core::calibration::{InUse, Machine, Queue};
use ipc_core::router::fit::{Point, fit};
use ipc_core::router::{Band, Costs, Model, Router};
use serde::Serialize;
use std::path::PathBuf;

/// Bytes of the notice that goes through the queue for a message in the arena: a descriptor.
pub(super) const NOTICE_BYTES: u64 = 16;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: MachineFigures,
    /// Where the two processes ran that had a processor each.
    pub(super) processors: (usize, usize),
    pub(super) rounds: usize,
    /// How often another program took the processor from the measurement that counts.
    pub(super) interruptions: Interruptions,
    /// The first one counts: two processes that poll, on a processor each.
    pub(super) conditions: Vec<Condition>,
    /// Of the first condition; nothing if one lane is always better.
    pub(super) hybrid: Option<Hybrid>,
    pub(super) check: Option<Check>,
    /// The file that was written.
    pub(super) stored: Option<PathBuf>,
}

/// What the costs belong to.
#[derive(Debug, Serialize)]
pub(super) struct MachineFigures {
    boot: String,
    pub(super) kernel: String,
    pub(super) cpu: String,
    pub(super) cpus: u32,
}

impl MachineFigures {
    pub(super) fn of(machine: &Machine) -> Self {
        let Machine { boot, kernel, cpus, cpu, .. } = machine.clone();
        Self { boot, kernel, cpu, cpus }
    }
}

/// How often the system gave the processor of the asking process to another one while that would have gone on.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Interruptions {
    pub(super) count: u64,
    pub(super) seconds: f64,
}

impl Interruptions {
    /// A machine that is left alone has a few a second.
    const FEW_A_SECOND: f64 = 20.0;

    /// Those of this process so far.
    pub(super) fn so_far() -> u64 {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the call writes the structure, or fails and leaves it zeroed, which is one, too.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        u64::try_from(usage.ru_nivcsw).unwrap_or(0)
    }

    /// Whether other programs took enough time to spoil the figures.
    pub(super) fn are_many(&self) -> bool {
        self.count as f64 > Self::FEW_A_SECOND * self.seconds.max(0.1)
    }
}

/// How the two processes ran and waited.
#[derive(Debug, Serialize)]
pub(super) struct Condition {
    pub(super) pinned: bool,
    /// `poll` or `sleep`.
    pub(super) wait: &'static str,
    pub(super) queues: Vec<Lanes>,
}

/// The lanes of a connection.
#[derive(Debug, Serialize)]
pub(super) struct Lanes {
    #[serde(skip)]
    pub(super) of: Queue,
    queue: String,
    pub(super) lanes: Vec<LaneFigures>,
    /// Every pair of lanes.
    pub(super) pairs: Vec<Pair>,
    /// What a router makes of it.
    pub(super) router: String,
}

/// One lane.
#[derive(Debug, Serialize)]
pub(super) struct LaneFigures {
    #[serde(skip)]
    pub(super) of: Lane,
    #[serde(skip)]
    pub(super) fitted: Model,
    lane: String,
    /// The longest message it takes, in bytes.
    limit: u64,
    /// One, or two with a knee between them where one does not fit.
    pub(super) lines: Vec<Line>,
    /// The median error and the largest, as fractions of the larger of line and point.
    pub(super) residual_median: f64,
    pub(super) residual_max: f64,
    pub(super) points: Vec<PointFigures>,
}

/// A line of costs: `fixed_ns + per_byte_ns·s` for messages of `from` to `upto` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) from: u64,
    pub(super) upto: Option<u64>,
    /// At zero bytes, also of a line that begins later: it can be negative.
    pub(super) fixed_ns: f64,
    pub(super) per_byte_ns: f64,
}

/// What one message of one size took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct PointFigures {
    pub(super) bytes: u64,
    /// Lower quartile of the rounds.
    pub(super) ns: f64,
    pub(super) min_ns: f64,
    pub(super) max_ns: f64,
}

/// Which of two lanes is the cheaper one.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    pub(super) lanes: [String; 2],
    pub(super) bands: Vec<BandFigures>,
    pub(super) crossings: Vec<Crossing>,
}

#[derive(Debug, Serialize)]
pub(super) struct BandFigures {
    pub(super) lane: String,
    from: u64,
    /// The longest message that both lanes take, at most.
    pub(super) upto: u64,
}

/// Where two lines meet: `bytes = (second.fixed_ns − first.fixed_ns) / (first.per_byte_ns − second.per_byte_ns)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Crossing {
    pub(super) bytes: f64,
    pub(super) first: Line,
    pub(super) second: Line,
}

/// The textbook's threshold between a queue and shared memory with a notice through that queue.
///
/// `threshold = (shared.fixed_ns + notice_ns − queue.fixed_ns) / (queue.per_byte_ns − shared.per_byte_ns)`, where `notice_ns` is what
/// `notice_bytes` bytes cost in the queue. If one line fits the queue, that is `(a_s + b_q·d) / (b_q − b_s)`.
#[derive(Debug, Serialize)]
pub(super) struct Hybrid {
    pub(super) notice_bytes: u64,
    pub(super) notice_ns: f64,
    pub(super) queue: Line,
    /// What shared memory costs beside the notice: the measured whole less `notice_ns`.
    pub(super) shared: Line,
    pub(super) threshold_bytes: f64,
}

/// The threshold measured: both lanes fixed, at sizes around it.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) threshold_bytes: f64,
    /// Nothing if one lane was cheaper at every size.
    pub(super) measured_bytes: Option<f64>,
    pub(super) is_within_power_of_two: bool,
    pub(super) sizes: Vec<Compared>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Compared {
    pub(super) bytes: u64,
    pub(super) kernel_ns: f64,
    pub(super) arena_ns: f64,
    pub(super) kernel_to_arena: f64,
}

/// What processes of this user have now.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    pub(super) path: Option<PathBuf>,
    /// `defaults`, `quick` or `full`.
    pub(super) origin: String,
    pub(super) note: Option<String>,
    pub(super) variable: Option<String>,
    pub(super) may_measure: bool,
    pub(super) lanes: Vec<StoredLane>,
}

#[derive(Debug, Serialize)]
pub(super) struct StoredLane {
    pub(super) queue: String,
    pub(super) lane: String,
    pub(super) lines: Vec<Line>,
}

impl Stored {
    pub(super) fn new(used: &InUse, path: Option<PathBuf>, variable: Option<String>) -> Self {
        let lane = |(queue, lane): (Queue, Lane)| {
            let model = used.calibration().model(queue, lane)?;
            Some(StoredLane { queue: queue.to_string(), lane: lane.to_string(), lines: lines(&model) })
        };
        let all = Queue::ALL.into_iter().flat_map(|queue| queue.lanes().iter().map(move |lane| (queue, *lane)));
        Self {
            path,
            origin: used.calibration().origin().to_string(),
            note: used.note().map(Into::into),
            variable,
            may_measure: used.may_measure(),
            lanes: all.filter_map(lane).collect(),
        }
    }
}

impl Condition {
    pub(super) fn new(pinned: bool, polling: bool, queues: Vec<Lanes>) -> Self {
        Self { pinned, wait: if polling { "poll" } else { "sleep" }, queues }
    }

    pub(super) fn queue(&self, queue: Queue) -> Option<&Lanes> {
        self.queues.iter().find(|lanes| lanes.of == queue)
    }

    /// Where messages change from the socket to the arena.
    pub(super) fn hybrid(&self) -> Option<Hybrid> {
        let socket = self.queue(Queue::Socket)?;
        Hybrid::new(&socket.lane(Lane::Kernel)?.fitted, &socket.lane(Lane::Arena)?.fitted)
    }
}

impl Lanes {
    /// Lines through what each task took, in ns, in each round.
    ///
    /// # Errors
    /// The points lie on no line.
    pub(super) fn fit(queue: Queue, limits: &Limits, tasks: &[Task], samples: &[Vec<f64>]) -> Fallible<Self> {
        let mut lanes = Vec::new();
        let mut costs = Costs::new();
        for &lane in queue.lanes() {
            let Some(limit) = limits.get(lane as usize).copied().flatten() else { continue };
            let measured = tasks.iter().zip(samples).filter(|(task, _)| task.lane == lane);
            let points: Vec<PointFigures> = measured.map(|(task, samples)| point(task.size, samples)).collect();
            let typical: Vec<Point> = points.iter().map(|point| Point { bytes: point.bytes, ns: point.ns }).collect();
            let fit = fit(&typical).map_err(|error| format!("the {lane} lane of the {queue} queue: {error}"))?;
            costs = costs.with(lane, fit.model, limit);
            lanes.push(LaneFigures {
                of: lane,
                fitted: fit.model,
                lane: lane.to_string(),
                limit,
                lines: lines(&fit.model),
                residual_median: fit.residual_median,
                residual_max: fit.residual_max,
                points,
            });
        }
        let router = Router::new(costs).map_err(|error| error.to_string())?.to_string();
        let all = lanes.iter().enumerate();
        let pairs = all.flat_map(|(at, one)| lanes[at + 1..].iter().map(move |other| Pair::new(one, other))).collect();
        Ok(Self { of: queue, queue: queue.to_string(), lanes, pairs, router })
    }

    pub(super) fn lane(&self, lane: Lane) -> Option<&LaneFigures> {
        self.lanes.iter().find(|figures| figures.of == lane)
    }
}

impl Pair {
    fn new(first: &LaneFigures, second: &LaneFigures) -> Self {
        let limit = first.limit.min(second.limit);
        let costs = Costs::new().with(first.of, first.fitted, limit).with(second.of, second.fitted, limit);
        let band = |band: Band| BandFigures { lane: band.lane.to_string(), from: band.from, upto: band.upto };
        let crossings = crossings(&first.fitted, &second.fitted);
        Self {
            lanes: [first.lane.clone(), second.lane.clone()],
            bands: costs.bands().map(band).collect(),
            crossings: crossings.into_iter().filter(|crossing| crossing.bytes <= limit as f64).collect(),
        }
    }
}

impl Hybrid {
    fn new(queue: &Model, arena: &Model) -> Option<Self> {
        let notice_ns = queue.at(NOTICE_BYTES);
        // The last one: beyond it, shared memory stays cheaper.
        let to_arena = |crossing: &Crossing| crossing.first.per_byte_ns > crossing.second.per_byte_ns;
        let crossing = crossings(queue, arena).into_iter().rfind(to_arena)?;
        let shared = Line { fixed_ns: crossing.second.fixed_ns - notice_ns, ..crossing.second };
        let queue = crossing.first;
        let lead = shared.fixed_ns + notice_ns - queue.fixed_ns;
        let threshold_bytes = lead / (queue.per_byte_ns - shared.per_byte_ns);
        Some(Self { notice_bytes: NOTICE_BYTES, notice_ns, queue, shared, threshold_bytes })
    }
}

impl Check {
    /// `tasks` are pairs of the kernel's lane and the arena's, of rising size.
    pub(super) fn new(threshold_bytes: f64, tasks: &[Task], samples: &[Vec<f64>]) -> Self {
        let sizes: Vec<Compared> = tasks
            .chunks_exact(2)
            .zip(samples.chunks_exact(2))
            .filter_map(|(tasks, samples)| {
                let ([kernel, _], [kernels, arenas]) = (tasks, samples) else { return None };
                let (kernel_ns, arena_ns) = (typical(kernels), typical(arenas));
                Some(Compared { bytes: kernel.size, kernel_ns, arena_ns, kernel_to_arena: kernel_ns / arena_ns })
            })
            .collect();
        let leads: Vec<(u64, f64)> = sizes.iter().map(|size| (size.bytes, size.kernel_to_arena.ln())).collect();
        let measured_bytes = crossing(&leads);
        let is_within = |measured: f64| (measured / threshold_bytes).log2().abs() <= 1.0;
        Self { threshold_bytes, measured_bytes, is_within_power_of_two: measured_bytes.is_some_and(is_within), sizes }
    }
}

/// The lines of a model, counted from zero bytes.
pub(super) fn lines(model: &Model) -> Vec<Line> {
    let below = model.below();
    let first = Line {
        from: 0,
        upto: model.above().map(|above| above.0),
        fixed_ns: below.fixed_ns(),
        per_byte_ns: below.per_byte_ns(),
    };
    let second = model.above().map(|(knee, above)| Line {
        from: knee + 1,
        upto: None,
        fixed_ns: above.fixed_ns() - above.per_byte_ns() * knee as f64,
        per_byte_ns: above.per_byte_ns(),
    });
    std::iter::once(first).chain(second).collect()
}

/// Where lines of the two models meet, each within its own lengths.
fn crossings(first: &Model, second: &Model) -> Vec<Crossing> {
    let within =
        |line: &Line, bytes: f64| bytes >= line.from as f64 && line.upto.is_none_or(|upto| bytes < upto as f64 + 1.0);
    let mut found = Vec::new();
    for first in lines(first) {
        for second in lines(second) {
            let bytes = (second.fixed_ns - first.fixed_ns) / (first.per_byte_ns - second.per_byte_ns);
            if bytes.is_finite() && within(&first, bytes) && within(&second, bytes) {
                found.push(Crossing { bytes, first, second });
            }
        }
    }
    found.sort_by(|one, other| one.bytes.total_cmp(&other.bytes));
    found
}

fn point(bytes: u64, samples: &[f64]) -> PointFigures {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    PointFigures { bytes, ns: typical(samples), min_ns: least, max_ns: samples.iter().copied().fold(0.0, f64::max) }
}

/// The lower quartile: other programs make a round slow, nothing makes it fast.
fn typical(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 4).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_core::router::{Cost, Crossover, crossover};

    fn task(lane: Lane, size: u64) -> Task {
        Task { lane, size, trips: 1, looks: 4, limit_ns: 1e6 }
    }

    fn cost(a: f64, b: f64) -> Cost {
        Cost::new(a, b).unwrap()
    }

    #[test]
    fn the_threshold_of_two_lines_is_the_textbooks() {
        let (queue, shared) = (cost(1500.0, 0.25), cost(400.0, 0.05));
        let arena = shared.with_notification(queue, NOTICE_BYTES).unwrap();
        let hybrid = Hybrid::new(&Model::line(queue), &Model::line(arena)).unwrap();
        assert!((hybrid.threshold_bytes - 2020.0).abs() < 1e-6, "{hybrid:?}");
        assert!((hybrid.shared.fixed_ns - 400.0).abs() < 1e-9, "{hybrid:?}");
        assert_eq!(crossover(queue, shared, NOTICE_BYTES), Crossover::FirstUpTo(2020));
    }

    #[test]
    fn the_threshold_lies_on_the_lines_that_are_valid_there() {
        let below = cost(1000.0, 0.1);
        let queue = Model::bent(below, 10_000, cost(below.at(10_000), 0.5));
        let arena = Model::line(cost(3000.0, 0.05));
        // 2000 + 0.5·(s − 10000) = 3000 + 0.05·s
        let hybrid = Hybrid::new(&queue, &arena).unwrap();
        assert!((hybrid.threshold_bytes - 6000.0 / 0.45).abs() < 1e-6, "{hybrid:?}");
        assert_eq!(hybrid.queue.fixed_ns, -3000.0);
        let at = hybrid.threshold_bytes as u64;
        assert!((queue.at(at) - arena.at(at)).abs() < 1.0);
    }

    #[test]
    fn lanes_that_never_meet_have_no_threshold() {
        assert!(Hybrid::new(&Model::line(cost(1.0, 0.1)), &Model::line(cost(2.0, 0.2))).is_none());
        assert!(Hybrid::new(&Model::line(cost(2.0, 0.2)), &Model::line(cost(1.0, 0.1))).is_none());
    }

    #[test]
    fn a_machine_that_does_other_things_is_told_from_one_that_does_not() {
        assert!(!Interruptions { count: 30, seconds: 5.0 }.are_many());
        assert!(Interruptions { count: 3000, seconds: 5.0 }.are_many());
    }

    #[test]
    fn a_crossing_off_by_more_than_a_power_of_two_is_said_to_be_off() {
        let tasks: Vec<Task> = [1000, 2000, 4000, 8000]
            .into_iter()
            .flat_map(|size| [Lane::Kernel, Lane::Arena].map(|lane| task(lane, size)))
            .collect();
        let samples: Vec<Vec<f64>> =
            [500.0, 1000.0, 800.0, 1000.0, 1250.0, 1000.0, 2000.0, 1000.0].into_iter().map(|ns| vec![ns; 3]).collect();
        for (threshold, is_within) in [(1500.0, true), (2828.0, true), (5600.0, true), (1400.0, false), (5700.0, false)]
        {
            let check = Check::new(threshold, &tasks, &samples);
            assert_eq!(check.is_within_power_of_two, is_within, "{check:?}");
        }
    }

    #[test]
    fn a_lane_is_fitted_from_its_better_rounds_and_keeps_its_spread() {
        let limits = [None, None, Some(1 << 20), Some(1 << 20)];
        let sizes = [8_u64, 1 << 10, 1 << 15, 1 << 20];
        let of = |lane, a: f64, b: f64| {
            sizes.map(|size| {
                (task(lane, size), {
                    let ns = a + b * size as f64;
                    vec![9e9, ns, 2.0 * ns, a.min(ns) - 1.0, ns]
                })
            })
        };
        let (tasks, samples): (Vec<Task>, Vec<Vec<f64>>) =
            of(Lane::Arena, 400.0, 0.05).into_iter().chain(of(Lane::File, 9000.0, 0.01)).unzip();
        let lanes = Lanes::fit(Queue::Socket, &limits, &tasks, &samples).unwrap();
        let arena = lanes.lane(Lane::Arena).unwrap();
        assert!((arena.lines[0].per_byte_ns - 0.05).abs() < 1e-9 && arena.residual_max < 1e-6, "{arena:?}");
        assert_eq!((arena.points[3].min_ns, arena.points[3].max_ns), (399.0, 9e9));
        // (9000 − 400) / (0.05 − 0.01)
        let [pair] = lanes.pairs.as_slice() else { panic!("{:?}", lanes.pairs) };
        assert!((pair.crossings[0].bytes - 215_000.0).abs() < 1.0, "{pair:?}");
        assert!((214_999..=215_000).contains(&pair.bands[0].upto), "{pair:?}");
    }
}
