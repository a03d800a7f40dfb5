//! Where the queue and the arena of mode `hybrid` cost the same: measured, by lines through the costs of the same run, and by the router in
//! use with its formula, whose costs may be of another time.
//!
//! Promise: both lanes were measured in turns, and are compared round by round. Refusal: what is called measured has no line fitted through
//! it.

use super::Case;
use super::group::{Figure, Ratio};
use crate::crossing::crossing;
use ipc_core::Lane;
use ipc_core::router::fit::{Point, fit};
use ipc_core::router::{Band, Cost, Costs, Crossover, Router, crossover};
use serde::Serialize;

/// Bytes of the notification of a message in the arena.
const NOTIFICATION: u64 = 16;

/// The size up to which the queue is the cheaper one, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Crossing {
    /// `None` if one lane was cheaper at all sizes.
    pub(super) measured: Option<f64>,
    /// T by the costs that this run measured, fitted as a calibration fits them; `None` if they do not cross or are too few.
    pub(super) fitted: Option<u64>,
    /// T of the router in use: the longest message that it sends through the kernel; `None` if it never changes lanes there.
    pub(super) router: Option<u64>,
    /// `(a_s + b_q·d) / (b_q − b_s)` of the costs for short messages in the router in use; `None` if they do not cross.
    pub(super) formula: Option<u64>,
    /// Powers of two from the measured size up to the fitted one; below 0 if that is the smaller.
    pub(super) fitted_powers_of_two: Option<f64>,
    /// The same, up to the router's.
    pub(super) router_powers_of_two: Option<f64>,
}

/// The crossing in what was measured of [`Case::Hybrid`], and in its router.
pub(super) fn of(figures: &[Figure], ratios: &[Ratio], router: &Router) -> Crossing {
    let [kernel, arena] = [Lane::Kernel, Lane::Arena].map(|lane| lane.to_string());
    let hybrid = ratios.iter().filter(|ratio| ratio.case == Case::Hybrid);
    let both = hybrid.filter(|ratio| ratio.ours == kernel && ratio.peer == arena);
    let leads: Vec<(u64, f64)> = both.map(|ratio| (ratio.size, ratio.ratio.median.ln())).collect();
    let measured = crossing(&leads);
    let (fitted, router_at) = (fitted(figures), first_change(router.bands()));
    let apart = |at: Option<u64>| measured.zip(at).map(|(measured, at)| (at as f64 / measured).log2());
    Crossing {
        measured,
        fitted,
        router: router_at,
        formula: formula(router),
        fitted_powers_of_two: apart(fitted),
        router_powers_of_two: apart(router_at),
    }
}

/// The longest message that goes through the kernel, if longer ones do not.
fn first_change(mut bands: impl Iterator<Item = Band>) -> Option<u64> {
    let first = bands.next().filter(|band| band.lane == Lane::Kernel && band.upto < u64::MAX);
    first.map(|band| band.upto)
}

/// T by the medians of this run. They are of round trips: all costs are twice those of a message, and T is the same.
fn fitted(figures: &[Figure]) -> Option<u64> {
    let costs = [Lane::Kernel, Lane::Arena].into_iter().try_fold(Costs::new(), |costs, lane| {
        let name = lane.to_string();
        let own = figures.iter().filter(|figure| figure.case == Case::Hybrid && figure.subject == name);
        let points: Vec<Point> = own.map(|figure| Point { bytes: figure.size, ns: figure.ns.median }).collect();
        Some(costs.with(lane, fit(&points).ok()?.model, u64::MAX))
    })?;
    first_change(costs.bands())
}

/// The formula wants what the payload costs alone: the whole cost without the notification, `a_q + b_q·d`.
fn formula(router: &Router) -> Option<u64> {
    let queue = router.costs().model(Lane::Kernel)?.below();
    let whole = router.costs().model(Lane::Arena)?.below();
    let alone = Cost::new(whole.fixed_ns() - queue.at(NOTIFICATION), whole.per_byte_ns()).ok()?;
    match crossover(queue, alone, NOTIFICATION) {
        Crossover::FirstUpTo(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::stats::Summary;
    use super::super::group::Quantity;
    use super::*;
    use ipc_core::router::Model;

    /// The kernel's lane at `size` takes so many times what the arena's does.
    fn ratio(size: u64, times: f64) -> Ratio {
        let ratio = Summary::of(&[times]).unwrap();
        let (ours_ns, peer_ns) = (1000.0 * times, 1000.0);
        let (ours, peer, of) = (Lane::Kernel.to_string(), Lane::Arena.to_string(), Quantity::Time);
        Ratio { case: Case::Hybrid, size, ours, ours_ns, peer, peer_ns, of, ratio, target: None }
    }

    fn figure(lane: Lane, size: u64, ns: f64) -> Figure {
        Figure { case: Case::Hybrid, size, subject: lane.to_string(), ns: Summary::of(&[ns]).unwrap() }
    }

    fn router(kernel: Cost, arena: Cost) -> Router {
        let costs = Costs::new().with(Lane::Kernel, Model::line(kernel), u64::MAX).with(
            Lane::Arena,
            Model::line(arena),
            1 << 30,
        );
        Router::new(costs).unwrap()
    }

    #[test]
    fn lanes_that_meet_halfway_meet_at_the_geometric_mean() {
        let router_beside = Ratio { ours: "hybrid".into(), ..ratio(64, 1.0) };
        let ratios = [ratio(1024, 0.5), router_beside, ratio(4096, 2.0)];
        let sizes = [64, 256, 1024, 4096, 16384, 65536];
        let line =
            |lane: Lane, fixed: f64, slope: f64| sizes.map(|size| figure(lane, size, fixed + slope * size as f64));
        let figures = [line(Lane::Kernel, 1000.0, 0.5), line(Lane::Arena, 1500.0, 0.25)].concat();
        let queue = Cost::new(1500.0, 0.25).unwrap();
        // 400 ns + 0.05 ns/B alone, told through the queue: they meet at (400 + 0.25·16) / 0.2 = 2020.
        let arena = Cost::new(400.0, 0.05).unwrap().with_notification(queue, NOTIFICATION).unwrap();
        let crossing = of(&figures, &ratios, &router(queue, arena));
        assert!((crossing.measured.unwrap() - 2048.0).abs() < 1e-6, "{crossing:?}");
        assert_eq!((crossing.router, crossing.formula), (Some(2020), Some(2020)));
        assert!((crossing.router_powers_of_two.unwrap() - (2020.0_f64 / 2048.0).log2()).abs() < 1e-6);
        // What this run measured is 1000 + 0.5 s and 1500 + 0.25 s.
        assert!((1999..=2001).contains(&crossing.fitted.unwrap()), "{crossing:?}");
        let apart = (crossing.fitted.unwrap() as f64 / 2048.0).log2();
        assert!((crossing.fitted_powers_of_two.unwrap() - apart).abs() < 1e-6);
    }

    #[test]
    fn lanes_that_do_not_meet_have_no_crossing() {
        let crossing =
            of(&[], &[ratio(1024, 0.5)], &router(Cost::new(1.0, 0.1).unwrap(), Cost::new(10.0, 0.1).unwrap()));
        assert_eq!((crossing.measured, crossing.fitted, crossing.router_powers_of_two), (None, None, None));
        assert_eq!(crossing.formula, None);
    }
}
