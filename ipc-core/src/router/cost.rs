//! What a message costs on a lane: one line, or two with a knee between them.
//!
//! Promise: a cost that exists is not negative, not NaN, and finite for every length there is. Refusal: it does not
//! say where the numbers come from, nor that they are true.

use core::fmt;

/// The largest fixed cost that is taken, in ns: a thousand seconds.
pub const MAX_FIXED_NS: f64 = 1e12;
/// The largest cost of a byte that is taken, in ns: a millisecond.
pub const MAX_PER_BYTE_NS: f64 = 1e6;

/// A number that cannot be a cost.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}; 0 to {max} are allowed")]
pub struct CostError {
    /// Which number it is: `fixed_ns` or `per_byte_ns`.
    pub field: &'static str,
    /// What was given.
    pub value: f64,
    /// The largest value allowed; the smallest is zero.
    pub max: f64,
}

/// An affine cost: `a + b·s` ns for a message of `s` bytes.
///
/// # Examples
///
/// ```
/// use ipc_core::router::Cost;
///
/// let cost = Cost::new(1500.0, 0.25)?;
/// assert_eq!(cost.at(2000), 2000.0);
///
/// let error = Cost::new(f64::NAN, 0.25).unwrap_err();
/// assert_eq!(error.to_string(), "fixed_ns is NaN; 0 to 1000000000000 are allowed");
/// # Ok::<(), ipc_core::router::CostError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    fixed_ns: f64,
    per_byte_ns: f64,
}

impl Cost {
    /// A cost of `fixed_ns` ns for each message, and `per_byte_ns` ns for each byte in it.
    ///
    /// # Errors
    ///
    /// [`CostError`] for a number that is not between 0 and [`MAX_FIXED_NS`] or [`MAX_PER_BYTE_NS`]; NaN is not.
    pub const fn new(fixed_ns: f64, per_byte_ns: f64) -> Result<Self, CostError> {
        // A range does not contain NaN.
        if !(fixed_ns >= 0.0 && fixed_ns <= MAX_FIXED_NS) {
            return Err(CostError { field: "fixed_ns", value: fixed_ns, max: MAX_FIXED_NS });
        }
        if !(per_byte_ns >= 0.0 && per_byte_ns <= MAX_PER_BYTE_NS) {
            return Err(CostError { field: "per_byte_ns", value: per_byte_ns, max: MAX_PER_BYTE_NS });
        }
        Ok(Self { fixed_ns, per_byte_ns })
    }

    /// The cost of an empty message, in ns.
    #[must_use]
    pub const fn fixed_ns(&self) -> f64 {
        self.fixed_ns
    }

    /// The cost of one byte more, in ns.
    #[must_use]
    pub const fn per_byte_ns(&self) -> f64 {
        self.per_byte_ns
    }

    /// The cost of a message of `len` bytes, in ns.
    #[inline]
    #[must_use]
    pub const fn at(&self, len: u64) -> f64 {
        self.fixed_ns + self.per_byte_ns * len as f64
    }

    /// The whole cost of a message whose payload costs `self` and of which the receiver learns by a notification of `bytes`
    /// bytes through `queue`: `a_s + b_s·s + a_q + b_q·d`.
    ///
    /// # Errors
    ///
    /// [`CostError`] if both fixed costs together are above [`MAX_FIXED_NS`].
    pub const fn with_notification(&self, queue: Self, bytes: u64) -> Result<Self, CostError> {
        Self::new(self.fixed_ns + queue.at(bytes), self.per_byte_ns)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ns + {:.4} ns/B", self.fixed_ns, self.per_byte_ns)
    }
}

/// What a lane costs: one line, or two when it bends, as a copy does where it outgrows a cache.
///
/// # Examples
///
/// ```
/// use ipc_core::router::{Cost, Model};
///
/// // 0.05 ns a byte within a cache of 1 MiB, 0.1 ns for each byte beyond; no jump between them.
/// let below = Cost::new(400.0, 0.05)?;
/// let model = Model::bent(below, 1 << 20, Cost::new(below.at(1 << 20), 0.1)?);
/// assert_eq!(model.at(1000), 450.0);
/// assert_eq!(model.at((1 << 20) + 1000), below.at(1 << 20) + 100.0);
/// # Ok::<(), ipc_core::router::CostError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    below: Cost,
    /// The last length that `below` speaks of, in bytes; `u64::MAX` while there is one line.
    knee: u64,
    /// Of the bytes beyond the knee.
    above: Cost,
}

impl Model {
    /// The same line for every length.
    #[must_use]
    pub const fn line(cost: Cost) -> Self {
        Self { below: cost, knee: u64::MAX, above: cost }
    }

    /// `below` up to a length of `knee` bytes, `above` for longer messages.
    ///
    /// `above` counts from the knee: a message of `s` bytes costs `a + b·(s − knee)`, so its fixed part is what this line
    /// says of a message of `knee` bytes. (Counted from zero, the fixed part of a line that is steeper than the one below
    /// would be negative.) The model has no jump if that is what `below` says, too. It need not be so.
    #[must_use]
    pub const fn bent(below: Cost, knee: u64, above: Cost) -> Self {
        Self { below, knee, above }
    }

    /// The line for messages up to the knee.
    #[must_use]
    pub const fn below(&self) -> Cost {
        self.below
    }

    /// The last length of the first line, in bytes, and the line beyond, which counts from there; nothing while there is
    /// one line.
    #[must_use]
    pub const fn above(&self) -> Option<(u64, Cost)> {
        if self.knee == u64::MAX { None } else { Some((self.knee, self.above)) }
    }

    /// The cost of a message of `len` bytes, in ns.
    #[inline]
    #[must_use]
    pub const fn at(&self, len: u64) -> f64 {
        if len <= self.knee { self.below.at(len) } else { self.above.at(len - self.knee) }
    }

    /// What one byte more costs a message of `len` bytes, in ns.
    #[inline]
    #[must_use]
    pub const fn per_byte_at(&self, len: u64) -> f64 {
        if len <= self.knee { self.below.per_byte_ns } else { self.above.per_byte_ns }
    }

    /// The shortest and the longest length on the line that `len` is on.
    pub(super) const fn piece(&self, len: u64) -> (u64, u64) {
        if len <= self.knee { (0, self.knee) } else { (self.knee + 1, u64::MAX) }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.below)?;
        if let Some((knee, above)) = self.above() {
            write!(f, " up to {knee} B, then {above} beyond")?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tests::cases;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_that_is_no_cost_is_refused_by_name_value_and_range() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE, f64::MAX] {
            let fixed = Cost::new(bad, 1.0).expect_err("refused");
            assert_eq!((fixed.field, fixed.max), ("fixed_ns", MAX_FIXED_NS));
            assert_eq!(fixed.value.to_bits(), bad.to_bits());
            let per_byte = Cost::new(1.0, bad).expect_err("refused");
            assert_eq!((per_byte.field, per_byte.max), ("per_byte_ns", MAX_PER_BYTE_NS));
            assert_eq!(per_byte.value.to_bits(), bad.to_bits());
        }
        assert_eq!(Cost::new(0.0, -2.5).unwrap_err().to_string(), "per_byte_ns is -2.5; 0 to 1000000 are allowed");
    }

    #[test]
    fn the_ends_of_the_range_are_costs() {
        let zero = Cost::new(0.0, 0.0).expect("in range");
        assert_eq!(zero.at(u64::MAX), 0.0);
        let most = Cost::new(MAX_FIXED_NS, MAX_PER_BYTE_NS).expect("in range");
        assert!(most.at(u64::MAX).is_finite());
        let error = most.with_notification(most, 1).expect_err("twice the most");
        assert_eq!(error.field, "fixed_ns");
    }

    #[test]
    fn a_line_beyond_the_knee_counts_from_the_knee() {
        let (below, above) = (Cost::new(100.0, 1.0).unwrap(), Cost::new(5000.0, 2.0).unwrap());
        let model = Model::bent(below, 1000, above);
        assert_eq!((model.at(0), model.at(1000)), (100.0, 1100.0));
        assert_eq!((model.at(1001), model.at(2000)), (5002.0, 7000.0));
        assert_eq!((model.per_byte_at(1000), model.per_byte_at(1001)), (1.0, 2.0));
        assert_eq!(model.to_string(), "100.0 ns + 1.0000 ns/B up to 1000 B, then 5000.0 ns + 2.0000 ns/B beyond");
        assert_eq!(Model::line(below).to_string(), "100.0 ns + 1.0000 ns/B");
        assert_eq!((model.above(), Model::line(below).above()), (Some((1000, above)), None));
    }

    proptest! {
        #![proptest_config(cases(512))]

        #[test]
        fn a_cost_is_finite_and_not_negative_at_every_length(
            fixed in any::<f64>(), per_byte in any::<f64>(), knee in any::<u64>(), len in any::<u64>(),
        ) {
            if let Ok(cost) = Cost::new(fixed, per_byte) {
                prop_assert!(cost.at(len).is_finite() && cost.at(len) >= 0.0);
                prop_assert!(Model::bent(cost, knee, cost).at(len).is_finite());
            }
        }
    }
}
