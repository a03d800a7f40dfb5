//! Where two costs are equal, and which is the smaller on either side.
//!
//! Promise: for every two costs there is an answer, also where their lines never meet; at a tie the lane for the
//! shorter messages has it. Refusal: lengths are whole bytes, and a crossing is right to the rounding of `f64`, that is to a
//! millionth of a millionth of itself.

use super::cost::Cost;

/// Which of two lanes is the cheaper, by length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossover {
    /// The first, or both cost the same, at every length.
    FirstAlways,
    /// The second, at every length.
    SecondAlways,
    /// The first up to so many bytes; the second for longer messages.
    FirstUpTo(u64),
    /// The second up to so many bytes; the first for longer messages.
    SecondUpTo(u64),
}

impl Crossover {
    /// Says whether the first lane is the one for `len` bytes.
    #[must_use]
    pub const fn is_first(self, len: u64) -> bool {
        match self {
            Self::FirstAlways => true,
            Self::SecondAlways => false,
            Self::FirstUpTo(bytes) => len <= bytes,
            Self::SecondUpTo(bytes) => len > bytes,
        }
    }
}

/// Up to which length a message should go through the queue whole, rather than through shared memory with a notification
/// of `notify_bytes` bytes through the queue.
///
/// A message of `s` bytes costs `a_q + b_q·s` ns through the queue. By shared memory it costs `a_s + b_s·s`, plus the
/// notification, which is a message of `d` bytes through the queue. Setting both equal,
///
/// ```text
/// a_q + b_q·s  =  a_s + b_s·s + a_q + b_q·d
/// (b_q − b_s)·s  =  a_s + b_q·d
/// T  =  (a_s + b_q·d) / (b_q − b_s)
/// ```
///
/// Here the queue is "first": the answer is [`Crossover::FirstUpTo`] with `T` rounded down, or [`Crossover::FirstAlways`]
/// where a byte costs as much or more in shared memory (`b_q ≤ b_s`), or where `T` is beyond every length. No other answer is
/// possible: costs are not negative, so neither is `T`.
///
/// `shared` is what the payload costs alone. With lanes whose whole costs are known use [`between`].
///
/// # Examples
///
/// ```
/// use ipc_core::router::{Cost, Crossover, crossover};
///
/// let queue = Cost::new(1500.0, 0.25)?;
/// assert_eq!(crossover(queue, Cost::new(400.0, 0.05)?, 16), Crossover::FirstUpTo(2020));
/// assert_eq!(crossover(queue, Cost::new(400.0, 0.25)?, 16), Crossover::FirstAlways);
/// # Ok::<(), ipc_core::router::CostError>(())
/// ```
#[must_use]
pub fn crossover(queue: Cost, shared: Cost, notify_bytes: u64) -> Crossover {
    let lead = shared.fixed_ns() + queue.per_byte_ns() * notify_bytes as f64;
    solve(lead, shared.per_byte_ns() - queue.per_byte_ns())
}

/// Which of two lanes with known whole costs is the cheaper: their lines meet at the difference of the fixed costs over
/// the difference of the costs of a byte, `T = (a_2 − a_1) / (b_1 − b_2)`.
///
/// With `b_1 = b_2`, or a negative `T`, they do not meet, and the lane with the smaller fixed cost has every length.
/// Otherwise it has those up to `T`, and the other one those above.
///
/// # Examples
///
/// ```
/// use ipc_core::router::{Cost, Crossover, between};
///
/// let small = Cost::new(100.0, 0.5)?;
/// let large = Cost::new(1100.0, 0.25)?;
/// assert_eq!(between(small, large), Crossover::FirstUpTo(4000));
/// assert_eq!(between(large, small), Crossover::SecondUpTo(4000));
/// assert_eq!(between(small, Cost::new(200.0, 0.5)?), Crossover::FirstAlways);
/// # Ok::<(), ipc_core::router::CostError>(())
/// ```
#[must_use]
pub fn between(first: Cost, second: Cost) -> Crossover {
    solve(second.fixed_ns() - first.fixed_ns(), second.per_byte_ns() - first.per_byte_ns())
}

/// Where the first lane is the cheaper one, if it leads by `lead` ns at zero bytes and by `per_byte` ns more each byte.
fn solve(lead: f64, per_byte: f64) -> Crossover {
    match (reach(lead, per_byte, u64::MAX), reach(-lead, -per_byte, u64::MAX)) {
        (Some(u64::MAX), _) => Crossover::FirstAlways,
        (Some(bytes), _) => Crossover::FirstUpTo(bytes),
        (None, None | Some(u64::MAX)) => Crossover::SecondAlways,
        (None, Some(bytes)) => Crossover::SecondUpTo(bytes),
    }
}

/// How far a lead lasts: the largest `x` from 0 to `room` with `lead + per_byte·x ≥ 0`. Nothing if there is no lead at 0.
pub(super) fn reach(lead: f64, per_byte: f64, room: u64) -> Option<u64> {
    /// A quotient this much (relatively) below a whole number is that number: people write decimal fractions, and
    /// (400 + 0.45·16) / (0.45 − 0.05) comes out below 1018. It is far more than rounding makes of it, and moves no crossing that
    /// is below a terabyte by a byte; costs so close to a crossing are equal for all purposes.
    const SNAP: f64 = 1e-12;
    if lead < 0.0 {
        return None;
    }
    if per_byte >= 0.0 {
        return Some(room);
    }
    // Above 2^64, infinity included, the conversion saturates.
    let bytes = (lead / -per_byte * (1.0 + SNAP)) as u64;
    Some(if bytes < room { bytes } else { room })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tests::{any_cost, cases, cost, exact_cost};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_textbook_example_crosses_at_2020_bytes() {
        assert_eq!(crossover(cost(1500.0, 0.25), cost(400.0, 0.05), 16), Crossover::FirstUpTo(2020));
    }

    #[test]
    fn decimal_fractions_cross_where_they_do_on_paper() {
        // (400 + 0.45·16) / 0.4 = 1018, and 1017.9999999999999 in binary.
        assert_eq!(crossover(cost(0.0, 0.45), cost(400.0, 0.05), 16), Crossover::FirstUpTo(1018));
    }

    #[test]
    fn a_longer_notification_moves_the_crossover_up() {
        // (400 + 0.25·64) / 0.2
        assert_eq!(crossover(cost(1500.0, 0.25), cost(400.0, 0.05), 64), Crossover::FirstUpTo(2080));
    }

    #[test]
    fn the_fixed_cost_of_the_queue_does_not_matter_for_it() {
        assert_eq!(crossover(cost(0.0, 0.25), cost(400.0, 0.05), 16), Crossover::FirstUpTo(2020));
    }

    #[test]
    fn the_queue_always_wins_where_shared_memory_saves_nothing_on_a_byte() {
        for per_byte in [0.25, 0.3, 1e6] {
            assert_eq!(crossover(cost(1e9, 0.25), cost(0.0, per_byte), 0), Crossover::FirstAlways);
        }
    }

    #[test]
    fn shared_memory_that_costs_nothing_takes_all_but_the_empty_message() {
        assert_eq!(crossover(cost(1500.0, 0.25), cost(0.0, 0.0), 0), Crossover::FirstUpTo(0));
    }

    #[test]
    fn lines_that_do_not_meet_have_one_winner() {
        assert_eq!(between(cost(1.0, 1.0), cost(2.0, 1.0)), Crossover::FirstAlways);
        assert_eq!(between(cost(2.0, 1.0), cost(1.0, 1.0)), Crossover::SecondAlways);
        assert_eq!(between(cost(1.0, 1.0), cost(2.0, 2.0)), Crossover::FirstAlways);
        assert_eq!(between(cost(2.0, 2.0), cost(1.0, 1.0)), Crossover::SecondAlways);
        assert_eq!(between(cost(1.0, 1.0), cost(1.0, 1.0)), Crossover::FirstAlways);
        // They meet beyond every length.
        assert_eq!(between(cost(0.0, 1e-12), cost(1e12, 0.0)), Crossover::FirstAlways);
    }

    #[test]
    fn a_crossing_between_two_lengths_belongs_to_the_lower_one() {
        assert_eq!(between(cost(0.0, 1.0), cost(10.75, 0.0)), Crossover::FirstUpTo(10));
        assert_eq!(between(cost(10.75, 0.0), cost(0.0, 1.0)), Crossover::SecondUpTo(10));
    }

    /// Checks an answer against costs that are computed without rounding.
    fn judge(answer: Crossover, first: impl Fn(u64) -> f64, second: impl Fn(u64) -> f64) -> Result<(), TestCaseError> {
        match answer {
            Crossover::FirstAlways => {
                prop_assert!(first(0) <= second(0));
                prop_assert!(first(1 << 40) <= second(1 << 40));
            }
            Crossover::SecondAlways => {
                prop_assert!(second(0) < first(0));
                prop_assert!(second(1 << 40) <= first(1 << 40));
            }
            Crossover::FirstUpTo(bytes) => {
                prop_assert!(first(bytes) <= second(bytes), "at {bytes}");
                prop_assert!(second(bytes + 1) < first(bytes + 1), "after {bytes}");
            }
            Crossover::SecondUpTo(bytes) => {
                prop_assert!(second(bytes) <= first(bytes), "at {bytes}");
                prop_assert!(first(bytes + 1) < second(bytes + 1), "after {bytes}");
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(cases(512))]

        #[test]
        fn each_side_of_the_crossover_has_the_cheaper_lane(
            queue in exact_cost(), shared in exact_cost(), notify_bytes in 0..256_u64,
        ) {
            let notification = queue.at(notify_bytes);
            judge(crossover(queue, shared, notify_bytes), |len| queue.at(len), |len| shared.at(len) + notification)?;
            judge(between(queue, shared), |len| queue.at(len), |len| shared.at(len))?;
        }

        #[test]
        fn costs_are_equal_at_the_crossover_to_rounding_and_a_byte(
            queue in any_cost(), shared in any_cost(), notify_bytes in 0..4096_u64,
        ) {
            if let Crossover::FirstUpTo(bytes) = crossover(queue, shared, notify_bytes) {
                let (ours, theirs) = (queue.at(bytes), shared.at(bytes) + queue.at(notify_bytes));
                let byte = queue.per_byte_ns() - shared.per_byte_ns();
                prop_assert!((ours - theirs).abs() <= byte + 1e-9 * ours, "{ours} {theirs} at {bytes}");
            }
        }

        #[test]
        fn a_notification_is_a_part_of_the_whole_cost(
            queue in exact_cost(), shared in exact_cost(), notify_bytes in 0..256_u64,
        ) {
            let whole = shared.with_notification(queue, notify_bytes).expect("far below the most");
            prop_assert_eq!(crossover(queue, shared, notify_bytes), between(queue, whole));
        }

        #[test]
        fn the_order_of_the_lanes_does_not_matter_but_for_ties(
            one in any_cost(), other in any_cost(), len in any::<u64>(),
        ) {
            if between(one, other).is_first(len) == between(other, one).is_first(len) {
                prop_assert!((one.at(len) - other.at(len)).abs() <= 1e-9 * one.at(len));
            }
        }
    }
}
