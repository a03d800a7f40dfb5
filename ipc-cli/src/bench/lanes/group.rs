//! Subjects that are compared with each other: measured in turns, compared round by round.
//!
//! Promise: every subject is measured once a round, every second round in the opposite order; the number of messages of a
//! round follows from what the round before took. Refusal: which subject should be faster is not known here.

use super::super::process::{Duo, Fallible};
use super::super::stats::Summary;
use super::Case;
use serde::Serialize;

/// How long a subject is timed in a round at an effort of 100, nanoseconds.
const ROUND_NS: f64 = 20e6;

/// Messages of a round, at least.
const LEAST: u64 = 2;

/// Measures so many messages: nanoseconds of each.
pub(super) type Measure = Box<dyn Fn(&Duo, u64) -> Fallible<f64>>;

/// One thing to measure.
pub(super) struct Subject {
    pub(super) name: String,
    /// Bytes of a message.
    pub(super) size: usize,
    /// Nanoseconds of a message as far as they are known. Before the first round: a guess.
    pub(super) estimate_ns: f64,
    pub(super) measure: Measure,
}

impl Subject {
    /// Measures one round.
    ///
    /// # Errors
    /// That of the measurement, with the subject named.
    pub(super) fn take(&mut self, duo: &Duo, effort: f64) -> Fallible<f64> {
        let count = ((ROUND_NS * effort / self.estimate_ns) as u64).max(LEAST);
        let took =
            (self.measure)(duo, count).map_err(|error| format!("{}, {} bytes: {error}", self.name, self.size))?;
        self.estimate_ns = took.max(1.0);
        Ok(took)
    }
}

/// What a ratio is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Quantity {
    /// Ours over the peer's: a target is the most it should be.
    Time,
    /// Ours over the peer's: a target is the least it should be.
    Throughput,
}

/// A subject and those of which the fastest is what it is compared with.
pub(super) struct Comparison {
    /// Index of the subject.
    pub(super) ours: usize,
    /// Indices of those that it is compared with.
    pub(super) peers: Vec<usize>,
    pub(super) of: Quantity,
    pub(super) target: Option<f64>,
}

/// Subjects that take turns.
pub(super) struct Group {
    pub(super) case: Case,
    pub(super) subjects: Vec<Subject>,
    pub(super) comparisons: Vec<Comparison>,
}

/// What one subject took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) case: Case,
    /// Bytes of a message.
    pub(super) size: u64,
    pub(super) subject: String,
    /// Nanoseconds of a round trip, or of a message where nothing is answered.
    pub(super) ns: Summary,
}

/// How one subject compares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) case: Case,
    /// Bytes of a message of ours.
    pub(super) size: u64,
    pub(super) ours: String,
    /// The median of ours, nanoseconds.
    pub(super) ours_ns: f64,
    /// The one with the lowest median among those it is compared with.
    pub(super) peer: String,
    /// The median of the peer, nanoseconds.
    pub(super) peer_ns: f64,
    pub(super) of: Quantity,
    /// Ours over the peer's, taken round by round.
    pub(super) ratio: Summary,
    /// What the ratio should be: at most, of times; at least, of throughputs.
    pub(super) target: Option<f64>,
}

impl Group {
    /// Takes all rounds.
    ///
    /// # Errors
    /// The first measurement that failed.
    pub(super) fn measure(
        &mut self,
        duo: &Duo,
        rounds: usize,
        effort: f64,
        mut done: impl FnMut(),
    ) -> Fallible<(Vec<Figure>, Vec<Ratio>)> {
        let mut samples = vec![Vec::with_capacity(rounds); self.subjects.len()];
        for round in 0..rounds {
            let count = self.subjects.len();
            for turn in 0..count {
                let index = if round.is_multiple_of(2) { turn } else { count - 1 - turn };
                samples[index].push(self.subjects[index].take(duo, effort)?);
                done();
            }
        }
        self.sum_up(&samples)
    }

    fn sum_up(&self, samples: &[Vec<f64>]) -> Fallible<(Vec<Figure>, Vec<Ratio>)> {
        let mut figures = Vec::new();
        for (subject, samples) in self.subjects.iter().zip(samples) {
            let (subject, size) = (subject.name.clone(), subject.size as u64);
            figures.push(Figure { case: self.case, size, subject, ns: Summary::of(samples)? });
        }
        let mut ratios = Vec::new();
        for comparison in &self.comparisons {
            let ours = comparison.ours;
            let by_median = |a: &usize, b: &usize| figures[*a].ns.median.total_cmp(&figures[*b].ns.median);
            let Some(peer) = comparison.peers.iter().copied().min_by(by_median) else { continue };
            let pairs = samples[ours].iter().zip(&samples[peer]);
            let each: Vec<f64> = match comparison.of {
                Quantity::Time => pairs.map(|(ours, peer)| ours / peer).collect(),
                Quantity::Throughput => pairs.map(|(ours, peer)| peer / ours).collect(),
            };
            ratios.push(Ratio {
                case: self.case,
                size: figures[ours].size,
                ours: figures[ours].subject.clone(),
                ours_ns: figures[ours].ns.median,
                peer: figures[peer].subject.clone(),
                peer_ns: figures[peer].ns.median,
                of: comparison.of,
                ratio: Summary::of(&each)?,
                target: comparison.target,
            });
        }
        Ok((figures, ratios))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn group(of: Quantity) -> Group {
        let subject =
            |name: &str| Subject { name: name.into(), size: 64, estimate_ns: 1e6, measure: Box::new(|_, _| Ok(1.0)) };
        let comparisons = vec![Comparison { ours: 0, peers: vec![1, 2], of, target: Some(1.05) }];
        let subjects = ["ours", "slow", "fast"].map(subject).into();
        Group { case: Case::Auto, subjects, comparisons }
    }

    #[test]
    fn a_ratio_is_to_the_fastest_peer_round_by_round() {
        let samples = [vec![10.0, 20.0, 80.0], vec![50.0, 60.0, 70.0], vec![20.0, 40.0, 20.0]];
        let ratio = group(Quantity::Time).sum_up(&samples).unwrap().1.remove(0);
        assert_eq!((ratio.peer.as_str(), ratio.ours_ns, ratio.peer_ns), ("fast", 20.0, 20.0));
        // The rounds have 0.5, 0.5 and 4; the medians would give 1.
        assert_eq!((ratio.ratio.median, ratio.ratio.min, ratio.ratio.max), (0.5, 0.5, 4.0));
        let ratio = group(Quantity::Throughput).sum_up(&samples).unwrap().1.remove(0);
        assert_eq!((ratio.ratio.median, ratio.ratio.min, ratio.ratio.max), (2.0, 0.25, 2.0));
    }

    #[test]
    fn subjects_take_turns_and_a_round_is_as_long_as_the_last_one_says() {
        let Ok(duo) = Duo::new() else { return };
        let log = Rc::new(RefCell::new(String::new()));
        let mut group = group(Quantity::Time);
        for subject in &mut group.subjects {
            let (log, letter) = (log.clone(), subject.name.chars().next().unwrap());
            subject.measure = Box::new(move |_, count| {
                log.borrow_mut().push_str(&format!("{letter}{count} "));
                Ok(2e6)
            });
        }
        let mut steps = 0;
        let (figures, _) = group.measure(&duo, 2, 1.0, || steps += 1).unwrap();
        assert_eq!(*log.borrow(), "o20 s20 f20 f10 s10 o10 ");
        assert_eq!((steps, figures.len()), (6, 3));
    }

    #[test]
    fn a_failure_names_its_subject() {
        let Ok(duo) = Duo::new() else { return };
        let mut group = group(Quantity::Time);
        group.subjects[1].measure = Box::new(|_, _| Err("no room".into()));
        let error = group.measure(&duo, 1, 1.0, || ()).unwrap_err();
        assert_eq!(error.to_string(), "slow, 64 bytes: no room");
    }
}
