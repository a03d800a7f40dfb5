//! Where the queue and the arena of mode `hybrid` cost the same: measured, by the router in use, and by its formula.
//!
//! Promise: the measured size lies between two that were measured, one cheaper on either lane. Refusal: no line is fitted through
//! the points.

use super::Case;
use super::group::Figure;
use ipc_core::Lane;
use ipc_core::router::{Cost, Crossover, Router, crossover};
use serde::Serialize;

/// Bytes of the notification of a message in the arena.
const NOTIFICATION: u64 = 16;

/// The size up to which the queue is the cheaper one, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Crossing {
    /// Between measured sizes; `None` if one lane was cheaper at all of them.
    pub(super) measured: Option<f64>,
    /// T of the router in use: the longest message that it sends through the kernel; `None` if it never changes lanes there.
    pub(super) router: Option<u64>,
    /// `(a_s + b_q·d) / (b_q − b_s)` of the costs for short messages in the router in use; `None` if they do not cross.
    pub(super) formula: Option<u64>,
    /// Powers of two from the measured size up to the router's; below 0 if the router's is the smaller.
    pub(super) powers_of_two: Option<f64>,
}

/// The crossing in the figures of [`Case::Hybrid`], and in its router.
pub(super) fn of(figures: &[Figure], router: &Router) -> Crossing {
    let medians = |lane: Lane| {
        let name = lane.to_string();
        let own = figures.iter().filter(move |figure| figure.case == Case::Hybrid && figure.subject == name);
        own.map(|figure| (figure.size, figure.ns.median))
    };
    let kernel: Vec<(u64, f64)> = medians(Lane::Kernel).collect();
    // Above 0 the kernel is the dearer one.
    let leads: Vec<(u64, f64)> = kernel
        .into_iter()
        .filter_map(|(size, ns)| Some((size, (ns / medians(Lane::Arena).find(|other| other.0 == size)?.1).ln())))
        .collect();
    let measured = meeting(&leads);
    let first = router.bands().next().filter(|band| band.lane == Lane::Kernel && band.upto < u64::MAX);
    let at = first.map(|band| band.upto);
    let powers_of_two = measured.zip(at).map(|(measured, at)| (at as f64 / measured).log2());
    Crossing { measured, router: at, formula: formula(router), powers_of_two }
}

/// The last size at which the lead, which is linear in the logarithm of the size, goes from below to above 0.
fn meeting(leads: &[(u64, f64)]) -> Option<f64> {
    let crossing = leads.windows(2).rev().find(|pair| pair[0].1 <= 0.0 && pair[1].1 > 0.0)?;
    let [(from, below), (to, above)] = [crossing[0], crossing[1]];
    let part = -below / (above - below);
    Some(((from as f64).ln() * (1.0 - part) + (to as f64).ln() * part).exp())
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
    use super::*;
    use ipc_core::router::{Costs, Model};

    fn figure(subject: &str, size: u64, ns: f64) -> Figure {
        let ns = Summary::of(&[ns]).unwrap();
        Figure { case: Case::Hybrid, size, subject: subject.into(), ns }
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
        let figures = [
            figure("kernel", 1024, 1000.0),
            figure("arena", 1024, 2000.0),
            figure("kernel", 4096, 4000.0),
            figure("arena", 4096, 2000.0),
        ];
        let queue = Cost::new(1500.0, 0.25).unwrap();
        // 400 ns + 0.05 ns/B alone, told through the queue: they meet at (400 + 0.25·16) / 0.2 = 2020.
        let arena = Cost::new(400.0, 0.05).unwrap().with_notification(queue, NOTIFICATION).unwrap();
        let crossing = of(&figures, &router(queue, arena));
        assert!((crossing.measured.unwrap() - 2048.0).abs() < 1e-6, "{crossing:?}");
        assert_eq!((crossing.router, crossing.formula), (Some(2020), Some(2020)));
        assert!((crossing.powers_of_two.unwrap() - (2020.0_f64 / 2048.0).log2()).abs() < 1e-6);
    }

    #[test]
    fn lanes_that_do_not_meet_have_no_crossing() {
        let figures = [figure("kernel", 1024, 1.0), figure("arena", 1024, 2.0)];
        let crossing = of(&figures, &router(Cost::new(1.0, 0.1).unwrap(), Cost::new(10.0, 0.1).unwrap()));
        assert_eq!((crossing.measured, crossing.powers_of_two), (None, None));
        assert_eq!(crossing.formula, None);
    }

    #[test]
    fn of_several_meetings_the_last_counts() {
        let leads = [(8, -1.0), (16, 1.0), (32, -1.0), (128, 1.0)];
        assert!((meeting(&leads).unwrap() - 64.0).abs() < 1e-6);
    }
}
