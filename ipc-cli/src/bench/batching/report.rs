//! What `ipc bench batching` found: measured costs and waits beside their models.
//!
//! **Cost.** A batch of n messages pays once for what one message alone pays each time, so a message costs `sync/n + per_message`.
//! Source: the textbook account of batching (amortised synchronisation). `sync` and `per_message` are fitted to the medians of all n, by
//! least squares of the relative errors.
//!
//! **Wait.** The doorbell is put off for τ at most. Messages that arrive evenly over τ wait `τ/2` on average. Source: the mean of
//! a uniform distribution. A window begins with a message, though, which waits the whole τ; so at a pace of one message each g, those at
//! 0, g, 2g, … share the ring at τ, or at the N-th message if that comes first. [`paced`] gives their mean; it tends to τ/2 for g ≪ τ,
//! and is τ for g > τ.
//!
//! Promise: each model value can be recomputed from what stands beside it. Refusal: nothing is fitted to waits.

use super::super::process::Fallible;
use super::super::stats::Summary;
use super::wait::{Delivery, Putting};
use super::{COMPARED, Paced, Stream, WORDS};
use serde::Serialize;
use std::time::Duration;

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Lane {
    /// In packets of a socket.
    Kernel,
    /// In a shared ring.
    Ring,
}

impl Lane {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Ring => "ring",
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) processors: Processors,
    /// Bytes of a message.
    pub(super) message_bytes: usize,
    pub(super) rounds: usize,
    /// For each lane.
    pub(super) costs: Vec<Costs>,
    pub(super) gain: Gain,
    /// For each pace and each way of putting off.
    pub(super) waits: Vec<Wait>,
}

/// Which processor did what.
#[derive(Debug, Serialize)]
pub(super) struct Processors {
    pub(super) receiver: usize,
    pub(super) sender: usize,
}

/// What messages cost on one lane.
#[derive(Debug, Serialize)]
pub(super) struct Costs {
    pub(super) lane: Lane,
    /// What a batch costs beside its messages, nanoseconds. 0 if no batch size is cheaper than another.
    pub(super) sync_ns: f64,
    /// What each message costs in the largest batch there could be, nanoseconds.
    pub(super) per_message_ns: f64,
    /// In the order of their sizes.
    pub(super) batches: Vec<Batch>,
}

/// Batches of one size.
#[derive(Debug, Serialize)]
pub(super) struct Batch {
    /// Messages published together (n).
    pub(super) messages: u64,
    /// Nanoseconds a message.
    pub(super) ns: Summary,
    /// `sync_ns / messages + per_message_ns`.
    pub(super) model_ns: f64,
}

/// The ring in batches against the kernel one by one.
#[derive(Debug, Serialize)]
pub(super) struct Gain {
    /// Nanoseconds a message through the kernel, one by one.
    pub(super) kernel_ns: f64,
    /// Messages in a batch of the ring.
    pub(super) batch: u64,
    /// Nanoseconds a message of the ring in such batches.
    pub(super) ring_ns: f64,
    /// One divided by the other, round by round.
    pub(super) ratio: Summary,
}

/// One way of putting the doorbell off, at one pace.
#[derive(Debug, Serialize)]
pub(super) struct Wait {
    /// From one message to the next, nanoseconds (g).
    pub(super) gap_ns: f64,
    /// Messages after which the doorbell is rung at once (N).
    pub(super) limit: u64,
    /// How long it is put off at most, nanoseconds (τ).
    pub(super) delay_ns: f64,
    /// From the send to the return of the receive, nanoseconds.
    pub(super) latency_ns: Summary,
    /// The same with the doorbell rung at once.
    pub(super) plain_latency_ns: Summary,
    /// The difference of the two, round by round.
    pub(super) added_ns: Summary,
    /// The same difference of the median latencies of each round.
    pub(super) added_median_ns: Summary,
    /// τ/2.
    pub(super) uniform_model_ns: f64,
    /// What a pace without faults gives.
    pub(super) paced_model_ns: f64,
    /// Messages for each time that the receiver slept.
    pub(super) messages_per_sleep: Summary,
    pub(super) plain_messages_per_sleep: Summary,
    /// What a send took, nanoseconds.
    pub(super) send_ns: Summary,
    pub(super) plain_send_ns: Summary,
}

/// The model of costs.
pub(super) fn cost(sync_ns: f64, per_message_ns: f64, messages: f64) -> f64 {
    sync_ns / messages + per_message_ns
}

/// The mean wait of messages that come each `gap`, in the unit of the arguments: those of one window, which the first of them opens and
/// which ends after `delay` or with message number `limit`.
pub(super) fn paced(gap: f64, limit: u64, delay: f64) -> f64 {
    let in_time = (delay / gap).floor() + 1.0;
    let (messages, window) = match limit as f64 {
        limit if limit <= in_time => (limit, (limit - 1.0) * gap),
        _ => (in_time, delay),
    };
    window - (messages - 1.0) * gap / 2.0
}

/// `sync` and `per_message` of the nearest model: the sum of the squares of its relative errors is least. Neither is negative. `None`
/// without two sizes.
fn fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    // With x = 1/n: minimise Σ ((s·x + p) / c − 1)².
    let sum = |term: fn(f64, f64) -> f64| points.iter().map(|&(n, c)| term(1.0 / n, c)).sum::<f64>();
    let (xx, x, one) = (sum(|x, c| x * x / (c * c)), sum(|x, c| x / (c * c)), sum(|_, c| 1.0 / (c * c)));
    let (xc, c) = (sum(|x, c| x / c), sum(|_, c| 1.0 / c));
    let determinant = xx * one - x * x;
    if points.len() < 2 || determinant <= f64::EPSILON * xx * one {
        return None;
    }
    let (sync, per_message) = ((xc * one - x * c) / determinant, (xx * c - x * xc) / determinant);
    Some(match (sync < 0.0, per_message < 0.0) {
        (true, _) => (0.0, c / one),
        (_, true) => (xc / xx, 0.0),
        _ => (sync, per_message),
    })
}

impl Report {
    /// Sums up the rounds.
    ///
    /// # Errors
    /// A figure is no finite number, or what the gain compares is missing.
    pub(super) fn new((receiver, sender): (usize, usize), streams: &[Stream], paced: &[Paced]) -> Fallible<Self> {
        let costs = [Lane::Kernel, Lane::Ring].map(|lane| Costs::new(lane, streams));
        Ok(Self {
            processors: Processors { receiver, sender },
            message_bytes: WORDS * size_of::<u64>(),
            rounds: streams.first().map_or(0, |stream| stream.rounds.len()),
            costs: costs.into_iter().collect::<Fallible<_>>()?,
            gain: Gain::new(streams)?,
            waits: waits(paced)?,
        })
    }
}

impl Costs {
    fn new(lane: Lane, streams: &[Stream]) -> Fallible<Self> {
        let streams = || streams.iter().filter(|stream| stream.lane == lane);
        let medians = streams().map(|stream| Ok((stream.batch as f64, Summary::of(&stream.rounds)?.median)));
        let points = medians.collect::<Fallible<Vec<_>>>()?;
        let (sync_ns, per_message_ns) = fit(&points).ok_or("costs need batches of two sizes")?;
        let batch = |stream: &Stream| {
            let model_ns = cost(sync_ns, per_message_ns, stream.batch as f64);
            Ok(Batch { messages: stream.batch, ns: Summary::of(&stream.rounds)?, model_ns })
        };
        Ok(Self { lane, sync_ns, per_message_ns, batches: streams().map(batch).collect::<Fallible<_>>()? })
    }
}

impl Gain {
    fn new(streams: &[Stream]) -> Fallible<Self> {
        let find = |lane, batch| streams.iter().find(|stream| (stream.lane, stream.batch) == (lane, batch));
        let (Some(kernel), Some(ring)) = (find(Lane::Kernel, 1), find(Lane::Ring, COMPARED)) else {
            return Err("there is nothing to compare".into());
        };
        let ratios: Vec<f64> = kernel.rounds.iter().zip(&ring.rounds).map(|(kernel, ring)| kernel / ring).collect();
        Ok(Self {
            kernel_ns: Summary::of(&kernel.rounds)?.median,
            batch: COMPARED,
            ring_ns: Summary::of(&ring.rounds)?.median,
            ratio: Summary::of(&ratios)?,
        })
    }
}

/// Each way of putting off beside the case of its pace in which nothing is put off.
fn waits(paced: &[Paced]) -> Fallible<Vec<Wait>> {
    let mut waits = Vec::new();
    for case in paced {
        let Some(putting) = case.putting else { continue };
        let plain = paced.iter().find(|plain| plain.gap == case.gap && plain.putting.is_none());
        let plain = plain.ok_or("there is nothing to compare with")?;
        waits.push(Wait::new(case.gap, putting, &case.rounds, &plain.rounds)?);
    }
    Ok(waits)
}

impl Wait {
    fn new(gap: Duration, putting: Putting, rounds: &[Delivery], plain: &[Delivery]) -> Fallible<Self> {
        let of = |rounds: &[Delivery], value: fn(&Delivery) -> f64| {
            Summary::of(&rounds.iter().map(value).collect::<Vec<_>>())
        };
        let added = |value: fn(&Delivery) -> f64| {
            let differences = rounds.iter().zip(plain).map(|(put_off, plain)| value(put_off) - value(plain));
            Summary::of(&differences.collect::<Vec<_>>())
        };
        let (gap_ns, delay_ns) = (gap.as_nanos() as f64, putting.delay.as_nanos() as f64);
        Ok(Self {
            gap_ns,
            limit: putting.limit,
            delay_ns,
            latency_ns: of(rounds, |delivery| delivery.latency_ns)?,
            plain_latency_ns: of(plain, |delivery| delivery.latency_ns)?,
            added_ns: added(|delivery| delivery.latency_ns)?,
            added_median_ns: added(|delivery| delivery.median_latency_ns)?,
            uniform_model_ns: delay_ns / 2.0,
            paced_model_ns: paced(gap_ns, putting.limit, delay_ns),
            messages_per_sleep: of(rounds, |delivery| delivery.messages_per_sleep)?,
            plain_messages_per_sleep: of(plain, |delivery| delivery.messages_per_sleep)?,
            send_ns: of(rounds, |delivery| delivery.send_ns)?,
            plain_send_ns: of(plain, |delivery| delivery.send_ns)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * other.abs().max(1.0)
    }

    #[test]
    fn costs_that_follow_the_model_give_its_parameters_back() {
        let points: Vec<_> = [1.0, 3.0, 20.0, 128.0].map(|n| (n, cost(900.0, 35.0, n))).to_vec();
        let (sync, per_message) = fit(&points).unwrap();
        assert!(close(sync, 900.0) && close(per_message, 35.0), "{sync} {per_message}");
    }

    #[test]
    fn a_fit_weighs_all_batches_by_their_relative_errors_and_has_no_negative_part() {
        // Off by 10 % at the dear end and at the cheap end: neither rules the other.
        let (sync, per_message) = fit(&[(1.0, 1100.0), (1000.0, 11.0)]).unwrap();
        assert!(close(cost(sync, per_message, 1.0), 1100.0) && close(cost(sync, per_message, 1000.0), 11.0));
        assert_eq!(fit(&[(1.0, 5.0), (10.0, 6.0)]).unwrap().0, 0.0);
        let (sync, per_message) = fit(&[(1.0, 100.0), (10.0, 1.0)]).unwrap();
        assert!(sync > 0.0 && per_message == 0.0, "{sync} {per_message}");
        assert_eq!(fit(&[(4.0, 5.0)]), None);
        assert_eq!(fit(&[(4.0, 5.0), (4.0, 6.0)]), None);
    }

    #[test]
    fn messages_in_close_order_wait_half_the_delay_and_lone_ones_all_of_it() {
        assert!((paced(1.0, u64::MAX, 10_000.0) - 5_000.0).abs() <= 1.0);
        assert_eq!(paced(1000.0, u64::MAX, 300.0), 300.0);
        // At 0, 100 and 200: they wait 250, 150 and 50.
        assert_eq!(paced(100.0, u64::MAX, 250.0), 150.0);
    }

    #[test]
    fn a_window_that_fills_ends_with_its_last_message() {
        // At 0, 10 and 20: they wait 20, 10 and 0.
        assert_eq!(paced(10.0, 3, 1000.0), 10.0);
        assert_eq!(paced(10.0, 3, 25.0), 10.0);
        // Two come within 19.
        assert_eq!(paced(10.0, 3, 19.0), 14.0);
    }

    fn delivery(latency_ns: f64) -> Delivery {
        Delivery { latency_ns, median_latency_ns: latency_ns / 2.0, messages_per_sleep: 2.0, send_ns: 300.0 }
    }

    fn stream(lane: Lane, batch: u64, rounds: &[f64]) -> Stream {
        Stream { lane, batch, rounds: rounds.to_vec() }
    }

    #[test]
    fn what_is_compared_is_taken_from_the_same_round() {
        let streams = [
            stream(Lane::Kernel, 1, &[900.0, 1800.0, 950.0]),
            stream(Lane::Kernel, COMPARED, &[80.0, 90.0, 80.0]),
            stream(Lane::Ring, 1, &[20.0, 40.0, 20.0]),
            stream(Lane::Ring, COMPARED, &[9.0, 18.0, 10.0]),
        ];
        let gap = Duration::from_micros(10);
        let putting = Putting { limit: 1000, delay: Duration::from_micros(100) };
        let paced = [
            Paced { gap, putting: None, rounds: [10_000.0, 50_000.0, 11_000.0].map(delivery).to_vec() },
            Paced { gap, putting: Some(putting), rounds: [65_000.0, 105_000.0, 61_000.0].map(delivery).to_vec() },
        ];
        let report = Report::new((0, 1), &streams, &paced).unwrap();
        assert_eq!((report.gain.ratio.min, report.gain.ratio.median, report.gain.ratio.max), (95.0, 100.0, 100.0));
        assert_eq!((report.gain.kernel_ns, report.gain.ring_ns), (950.0, 10.0));
        let [wait] = &report.waits[..] else { panic!("{:?}", report.waits) };
        assert_eq!((wait.added_ns.median, wait.uniform_model_ns, wait.paced_model_ns), (55_000.0, 50_000.0, 50_000.0));
        assert_eq!(wait.added_median_ns.median, 27_500.0);
        assert!(report.costs.iter().all(|costs| {
            costs
                .batches
                .iter()
                .all(|batch| close(batch.model_ns, cost(costs.sync_ns, costs.per_message_ns, batch.messages as f64)))
        }));
    }
}
