//! How wide a version must be so that ABA cannot happen.
//!
//! Promise: [`min_bits`] never answers with too few bits for the rate and the pause it is given.
//! Refusal: it measures nothing. Rate and pause are the caller's worst case; a pause that turns out longer,
//! such as a stopped process, is not covered.

/// Smallest width of a version, in bits, that cannot come round while a reader pauses.
///
/// `rate_hz` is the number of version changes in a second, `pause_s` the longest pause in seconds between a
/// reader's two looks at the version. During the pause the version changes `rate_hz * pause_s` times. A
/// version of `b` bits repeats after `2^b` changes, and a reader that sees the same version again takes it
/// for "nothing happened" (the ABA problem). The answer is therefore the smallest `b` with
///
/// ```text
/// 2^b > rate_hz * pause_s
/// ```
///
/// The comparison is strict: at equality the version has come round exactly once. If one write changes the
/// version by two, as in [`VersionedCell`](crate::cell::VersionedCell), it counts as two changes.
///
/// Inputs outside the formula get a defined answer:
///
/// * A negative rate or pause counts as zero, and a product below one needs no bits: the answer is 0.
/// * No width suffices for NaN, nor for a product that is infinite or not a number: the answer is `u32::MAX`.
///
/// Rounding is on the safe side. The product is rounded to the nearest `f64`, and every power of two up to
/// `2^1023` is an `f64`, so a product of at least `2^k` is never rounded below it.
///
/// # Examples
///
/// ```
/// use ipc_core::version::min_bits;
///
/// // 50 million changes a second against a reader that is off the processor for a second.
/// assert_eq!(min_bits(50e6, 1.0), 26);
/// // A billion changes a second for two centuries: 64 bits are enough.
/// const TWO_CENTURIES_S: f64 = 200.0 * 365.25 * 86_400.0;
/// const _: () = assert!(min_bits(1e9, TWO_CENTURIES_S) <= 64);
/// ```
#[must_use]
pub const fn min_bits(rate_hz: f64, pause_s: f64) -> u32 {
    if rate_hz.is_nan() || pause_s.is_nan() {
        return u32::MAX;
    }
    let changes = rate_hz.max(0.0) * pause_s.max(0.0);
    if !changes.is_finite() {
        return u32::MAX;
    }
    if changes < 1.0 {
        return 0;
    }
    // `changes` is m * 2^e with 1 <= m < 2, so 2^(e+1) is the first power of two above it. The field holds
    // e + 1023 and the sign bit is clear. `core` has no logarithm, and this one is exact.
    let exponent_field = (changes.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as u32;
    exponent_field - (f64::MAX_EXP as u32 - 1) + 1
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::min_bits;
    use proptest::prelude::*;

    #[test]
    fn fifty_million_changes_in_a_second_need_26_bits() {
        assert_eq!(min_bits(50e6, 1.0), 26);
    }

    #[test]
    fn an_exact_power_of_two_needs_one_more_bit() {
        assert_eq!(min_bits(1.0, 1.0), 1);
        assert_eq!(min_bits(255.0, 1.0), 8);
        assert_eq!(min_bits(256.0, 1.0), 9);
        assert_eq!(min_bits(2f64.powi(64), 1.0), 65);
    }

    #[test]
    fn less_than_one_change_needs_no_bits() {
        assert_eq!(min_bits(0.0, 10.0), 0);
        assert_eq!(min_bits(0.999, 1.0), 0);
        assert_eq!(min_bits(f64::MIN_POSITIVE / 2.0, 1.0), 0);
    }

    #[test]
    fn a_negative_rate_or_pause_counts_as_zero() {
        assert_eq!(min_bits(-50e6, 1.0), 0);
        assert_eq!(min_bits(50e6, -1.0), 0);
        assert_eq!(min_bits(-50e6, -1.0), 0);
        assert_eq!(min_bits(f64::NEG_INFINITY, 1.0), 0);
    }

    #[test]
    fn no_width_suffices_without_a_finite_product() {
        assert_eq!(min_bits(f64::NAN, 1.0), u32::MAX);
        assert_eq!(min_bits(1.0, f64::NAN), u32::MAX);
        assert_eq!(min_bits(f64::INFINITY, 1.0), u32::MAX);
        assert_eq!(min_bits(f64::INFINITY, 0.0), u32::MAX);
        assert_eq!(min_bits(f64::MAX, 2.0), u32::MAX);
        assert_eq!(min_bits(f64::MAX, 1.0), 1024);
    }

    proptest! {
        #[test]
        fn the_answer_is_the_smallest_width_above_the_product(rate in 0.0..1e12, pause in 0.0..1e9) {
            let bits = min_bits(rate, pause);
            let changes = rate * pause;
            prop_assert!(2f64.powi(bits as i32) > changes);
            prop_assert!(bits == 0 || 2f64.powi(bits as i32 - 1) <= changes);
        }

        #[test]
        fn no_input_panics(rate in any::<f64>(), pause in any::<f64>()) {
            let _ = min_bits(rate, pause);
        }
    }
}
