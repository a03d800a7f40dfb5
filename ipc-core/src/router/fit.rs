//! From measured points to the cost of a lane.
//!
//! Promise: short messages count as much as long ones, a fifth of wild measurements does not move the answer, and the
//! answer says how far it is from the points. Refusal: it measures nothing, and it knows lines with one knee at most;
//! what bends more often is met as well as two lines can.
//!
//! # Method
//!
//! Lengths span six orders of magnitude and costs four, so absolute errors would leave short messages to chance. For the
//! points `(s_i, y_i)`, one a length (the median of its measurements), the line minimises
//!
//! ```text
//! Σ w_i · |y_i − (a + b·s_i)|        a ≥ 0, b ≥ 0,  w_i = 1 / expected cost at s_i
//! ```
//!
//! that is the sum of relative errors: weighted least absolute deviations, in which a wild point pulls no harder than any
//! other. For a given `b`, the best `a` is a weighted median, and what is left is convex in `b`, so a golden-section search
//! finds it. The expected cost is the measured one at first, and then, in two more searches, that of the line: a point that is ten
//! times too low counts ten times to begin with.
//!
//! Two lines are the best pair of such fits over all places for a knee. They are used where they say clearly more than one, see
//! [`fit`].

use super::cost::{Cost, CostError, MAX_FIXED_NS, Model};
use super::crossover::{Crossover, between};
use std::fmt;

/// The fewest different lengths that are fitted: a line has two numbers, and one point has to judge it.
pub const MIN_SIZES: usize = 3;
/// The fewest different lengths on either side of a knee: one of them may be wild.
const MIN_SIDE: usize = 4;
/// One line that is off by less than this in the mean needs no knee.
const GOOD: f64 = 0.02;
/// The same for the mean of the lengths that fit best, which two lines can choose.
const GOOD_MOST: f64 = 0.05;
/// One line that is off by more than this in the median does not fit.
const BAD_MEDIAN: f64 = 0.10;

/// One measurement: what a message of so many bytes cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Length of the message, in bytes.
    pub bytes: u64,
    /// Its cost, in ns.
    pub ns: f64,
}

/// Points that no cost can be fitted to.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// There are too few different lengths.
    #[error("{points} points of {sizes} different lengths were given; at least {needed} lengths are needed")]
    TooFewSizes {
        /// Points given.
        points: usize,
        /// Different lengths among them.
        sizes: usize,
        /// The fewest allowed: [`MIN_SIZES`].
        needed: usize,
    },
    /// A measured cost is not a number above zero, or out of range.
    #[error("point {index} says that {bytes} bytes cost {ns} ns; above 0 and up to {max} are allowed")]
    Point {
        /// Place among the points given, from 0.
        index: usize,
        /// Length of the message, in bytes.
        bytes: u64,
        /// The cost, in ns.
        ns: f64,
        /// The largest cost allowed, in ns.
        max: f64,
    },
    /// The best line is no cost.
    #[error("the points lie on a line that is no cost: {0}")]
    Cost(#[from] CostError),
}

/// A fitted cost, and how well it fits.
///
/// An error is the difference between the model and the median measurement of a length, as a share of the larger of both. So
/// it is between 0 and 1: a length measured ten times too slow is off by 0.9.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The cost.
    pub model: Model,
    /// The median error, over lengths.
    pub residual_median: f64,
    /// The largest error.
    pub residual_max: f64,
    /// How many lines the model has: 1, or 2 if one did not fit.
    pub segments: usize,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, max) = (100.0 * self.residual_median, 100.0 * self.residual_max);
        write!(f, "{} (off by {median:.1} % in the median, {max:.1} % at most)", self.model)
    }
}

/// Fits the cost of a lane to measured points, in any order, any number of them for a length.
///
/// It is one line, unless that has a mean error of more than 2 % and two lines
///
/// * halve it,
/// * or halve the mean error of the three quarters that fit best (the rest may be wild), which is more than 5 %,
/// * or improve the mean error by a fifth, and one line is off by more than 10 % in the median,
///
/// where the mean is taken over as many lengths as there are beyond the numbers that the model has: two for a line; seven for
/// two lines and a knee, which counts as three because it is the best of all places. Two lines need eight different lengths.
///
/// Time grows with the square of the number of different lengths: a millisecond for thirty, 0.1 s for two hundred.
///
/// # Errors
///
/// [`FitError::TooFewSizes`] below [`MIN_SIZES`] different lengths, [`FitError::Point`] for a cost that is not a number
/// above zero, [`FitError::Cost`] if the line is out of the range of [`Cost`].
///
/// # Examples
///
/// ```
/// use ipc_core::router::fit::{Point, fit};
///
/// let mut points: Vec<Point> = (3..=24).map(|bit| 1 << bit).map(|bytes| Point { bytes, ns: 400.0 + 0.05 * bytes as f64 }).collect();
/// points[10].ns *= 8.0; // this one was interrupted
///
/// let fit = fit(&points)?;
/// assert_eq!(fit.to_string(), "400.0 ns + 0.0500 ns/B (off by 0.0 % in the median, 87.5 % at most)");
/// # Ok::<(), ipc_core::router::fit::FitError>(())
/// ```
pub fn fit(points: &[Point]) -> Result<Fit, FitError> {
    let sizes = medians(points)?;
    if sizes.len() < MIN_SIZES {
        return Err(FitError::TooFewSizes { points: points.len(), sizes: sizes.len(), needed: MIN_SIZES });
    }
    let one = Candidate::new(Model::line(line(&sizes, 0)?), 1, &sizes);
    let best = match one.is_good() {
        true => one,
        false => match two_lines(&sizes)? {
            Some(two) if two.says_more_than(&one) => two,
            _ => one,
        },
    };
    Ok(best.into_fit())
}

/// One point for each length, in order of length: the median of what was measured.
fn medians(points: &[Point]) -> Result<Vec<Point>, FitError> {
    for (index, &Point { bytes, ns }) in points.iter().enumerate() {
        // A range does not contain NaN.
        if !(ns > 0.0 && ns <= MAX_FIXED_NS) {
            return Err(FitError::Point { index, bytes, ns, max: MAX_FIXED_NS });
        }
    }
    let mut sorted = points.to_vec();
    sorted.sort_by(|one, other| one.bytes.cmp(&other.bytes).then(one.ns.total_cmp(&other.ns)));
    let same_size = sorted.chunk_by(|one, other| one.bytes == other.bytes);
    Ok(same_size.map(|same| Point { bytes: same[0].bytes, ns: median(same, |point| point.ns) }).collect())
}

/// The median of sorted values, of which there is at least one.
fn median<T>(sorted: &[T], value: impl Fn(&T) -> f64) -> f64 {
    let middle = sorted.len() / 2;
    let upper = value(&sorted[middle]);
    if sorted.len() % 2 == 1 { upper } else { (value(&sorted[middle - 1]) + upper) / 2.0 }
}

/// A model and its errors.
struct Candidate {
    model: Model,
    segments: usize,
    /// In ascending order.
    errors: Vec<f64>,
}

impl Candidate {
    fn new(model: Model, segments: usize, sizes: &[Point]) -> Self {
        let error = |point: &Point| {
            let expected = model.at(point.bytes);
            (expected - point.ns).abs() / expected.max(point.ns)
        };
        let mut errors: Vec<f64> = sizes.iter().map(error).collect();
        errors.sort_by(f64::total_cmp);
        Self { model, segments, errors }
    }

    /// The mean of the `count` smallest errors, corrected for those that are small only because the model has numbers to
    /// make them so.
    fn mean_of(&self, count: usize) -> f64 {
        let numbers = if self.segments == 1 { 2 } else { 7 };
        self.errors[..count].iter().sum::<f64>() / count.saturating_sub(numbers).max(1) as f64
    }

    fn mean(&self) -> f64 {
        self.mean_of(self.errors.len())
    }

    fn mean_of_most(&self) -> f64 {
        self.mean_of((self.errors.len() * 3).div_ceil(4))
    }

    fn median(&self) -> f64 {
        median(&self.errors, |error| *error)
    }

    fn is_good(&self) -> bool {
        self.mean() <= GOOD
    }

    fn says_more_than(&self, one: &Self) -> bool {
        let halved = |two: f64, one: f64, good: f64| one > good && two <= one / 2.0;
        halved(self.mean(), one.mean(), GOOD)
            || halved(self.mean_of_most(), one.mean_of_most(), GOOD_MOST)
            || one.median() > BAD_MEDIAN && self.mean() <= 0.8 * one.mean()
    }

    fn into_fit(self) -> Fit {
        Fit {
            model: self.model,
            residual_median: self.median(),
            residual_max: self.errors.last().copied().unwrap_or(0.0),
            segments: self.segments,
        }
    }
}

/// The best two lines, if there are enough lengths for two.
fn two_lines(sizes: &[Point]) -> Result<Option<Candidate>, FitError> {
    let mut best: Option<(f64, Candidate)> = None;
    for count in MIN_SIDE..=sizes.len().saturating_sub(MIN_SIDE) {
        let (left, right) = sizes.split_at(count);
        let (last, next) = (left[count - 1].bytes, right[0].bytes);
        let below = line(left, 0)?;
        let above = line(right, last)?;
        // Where the lines meet between both sides, the knee is there. Otherwise the cost jumps somewhere between them, and the
        // line below is known to hold up to its last point.
        let meeting = match between(Cost::new(below.at(last), below.per_byte_ns())?, above) {
            Crossover::FirstUpTo(bytes) | Crossover::SecondUpTo(bytes) if bytes < next - last => bytes,
            _ => 0,
        };
        let above = Cost::new(above.at(meeting), above.per_byte_ns())?;
        let candidate = Candidate::new(Model::bent(below, last + meeting, above), 2, sizes);
        let total = candidate.errors.iter().sum();
        if best.as_ref().is_none_or(|(least, _)| total < *least) {
            best = Some((total, candidate));
        }
    }
    Ok(best.map(|(_, candidate)| candidate))
}

/// The line that minimises the sum of relative errors, for lengths counted from `origin`, which is below them all.
fn line(sizes: &[Point], origin: u64) -> Result<Cost, CostError> {
    /// The line hardly moves after the second time.
    const ROUNDS: usize = 3;
    let mut search = Search::new(sizes, origin);
    for _ in 0..ROUNDS - 1 {
        let (fixed, per_byte) = search.best();
        search.weigh(|bytes| fixed + per_byte * bytes);
    }
    let (fixed, per_byte) = search.best();
    Cost::new(fixed, per_byte)
}

/// One point as the search for a line sees it.
#[derive(Clone, Copy)]
struct Weighed {
    bytes: f64,
    ns: f64,
    weight: f64,
    /// What is left of `ns` without the bytes, while the search tries a cost of a byte.
    rest: f64,
}

struct Search {
    /// Sorted by `rest`, as it was at the last trial.
    points: Vec<Weighed>,
}

impl Search {
    fn new(sizes: &[Point], origin: u64) -> Self {
        let weighed = |point: &Point| Weighed {
            bytes: (point.bytes - origin) as f64,
            ns: point.ns,
            weight: 1.0 / point.ns,
            rest: point.ns,
        };
        Self { points: sizes.iter().map(weighed).collect() }
    }

    fn weigh(&mut self, expected: impl Fn(f64) -> f64) {
        for point in &mut self.points {
            let expected = expected(point.bytes);
            // A line through zero expects nothing of an empty message; the point keeps its weight.
            if expected > 0.0 {
                point.weight = 1.0 / expected;
            }
        }
    }

    /// The fixed cost and the cost of a byte with the smallest sum of errors, by golden-section search.
    fn best(&mut self) -> (f64, f64) {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        /// The golden section to this power is below the precision of `f64`.
        const STEPS: usize = 80;
        // From the steepest line through zero and a point on, all are above every point.
        let steepest = self.points.iter().filter(|point| point.bytes > 0.0).map(|point| point.ns / point.bytes);
        let (mut low, mut high) = (0.0, steepest.fold(0.0, f64::max));
        let (mut left, mut right) = (high * (1.0 - GOLDEN), high * GOLDEN);
        let (mut at_left, mut at_right) = (self.at(left).0, self.at(right).0);
        for _ in 0..STEPS {
            if at_left <= at_right {
                (high, right, at_right) = (right, left, at_left);
                left = high - GOLDEN * (high - low);
                at_left = self.at(left).0;
            } else {
                (low, left, at_left) = (left, right, at_right);
                right = low + GOLDEN * (high - low);
                at_right = self.at(right).0;
            }
        }
        // The search comes close to zero, but only `low` is zero, and a lane where bytes cost nothing should say so.
        let per_byte = if self.at(low).0 <= self.at(high).0 { low } else { high };
        (self.at(per_byte).1, per_byte)
    }

    /// The smallest sum of errors with this cost of a byte, and the fixed cost that has it: the weighted median of what is
    /// left, or zero if that is negative.
    fn at(&mut self, per_byte: f64) -> (f64, f64) {
        for point in &mut self.points {
            point.rest = point.ns - per_byte * point.bytes;
        }
        self.points.sort_unstable_by(|one, other| one.rest.total_cmp(&other.rest));
        let half = self.points.iter().map(|point| point.weight).sum::<f64>() / 2.0;
        let mut passed = 0.0;
        let middle = self.points.iter().find(|point| {
            passed += point.weight;
            passed >= half
        });
        let fixed = middle.map_or(0.0, |point| point.rest.max(0.0));
        (self.points.iter().map(|point| point.weight * (point.rest - fixed).abs()).sum(), fixed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
