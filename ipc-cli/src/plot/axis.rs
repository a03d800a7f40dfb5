//! Axes: which part of the numbers is shown, where it is ticked, and what a tick says.
//!
//! Promise: ticks are round numbers of the axis's unit, few enough to be read. Refusal: nothing is drawn here.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Ticks of an axis with labels, at most.
const MOST_TICKS: usize = 9;
/// Part of the shown range that stays free at each end.
const MARGIN: f64 = 0.04;

/// One axis of a chart. It shows all points that are given; a linear one begins at 0.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What is measured, without the unit.
    pub(crate) label: String,
    /// What its numbers count.
    pub(crate) unit: Unit,
    /// How they are spread.
    pub(crate) scale: Scale,
}

/// How an axis spreads its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Equal steps for equal differences.
    Linear,
    /// Equal steps for equal ratios. Shows no number that is 0 or less.
    Log,
}

/// What the numbers of an axis, or of a table, count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes, shown in steps of 1024.
    Bytes,
    /// Nanoseconds, shown as ns, µs, ms or s.
    Nanoseconds,
    /// Things, shown with k, M or G.
    Count,
    /// Events a second, shown with k, M or G.
    PerSecond,
}

impl Unit {
    /// The value with up to three digits that matter, in the unit that suits its size, such as `64 KiB` or `1.5 µs`.
    pub(crate) fn show(self, value: f64) -> String {
        let (step, names): (f64, &[&str]) = match self {
            Self::Bytes => (1024.0, &["B", "KiB", "MiB", "GiB"]),
            Self::Nanoseconds => (1000.0, &["ns", "µs", "ms", "s"]),
            Self::Count => (1000.0, &["", "k", "M", "G"]),
            Self::PerSecond => (1000.0, &["/s", "k/s", "M/s", "G/s"]),
        };
        let mut scaled = value;
        let mut names = names.iter();
        let mut name = names.next().copied().unwrap_or_default();
        // What would be rounded up to a whole step belongs to the next unit.
        while scaled.abs() >= step - 0.5
            && let Some(next) = names.next()
        {
            scaled /= step;
            name = next;
        }
        let decimals = match scaled.abs() {
            size if size >= 99.95 => 0,
            size if size >= 9.995 => 1,
            _ => 2,
        };
        let digits = format!("{scaled:.decimals$}");
        let digits = if decimals > 0 { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
        let digits = if digits == "-0" { "0" } else { digits };
        if name.is_empty() { digits.into() } else { format!("{digits} {name}") }
    }

    /// The number from one round number to the next on a logarithmic axis.
    fn base(self) -> f64 {
        match self {
            Self::Bytes | Self::Count => 2.0,
            Self::Nanoseconds | Self::PerSecond => 10.0,
        }
    }
}

impl Scale {
    /// Whether the axis can show the value at all.
    pub(super) fn shows(self, value: f64) -> bool {
        value.is_finite() && (self == Self::Linear || value > 0.0)
    }

    /// Where on the axis a value lies, in steps of equal length.
    fn position(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        }
    }

    /// The value at a position: the reverse of [`position`](Self::position).
    fn value(self, position: f64) -> f64 {
        match self {
            Self::Linear => position,
            Self::Log => 10_f64.powf(position),
        }
    }
}

/// An axis with its range: what the drawing crate asks for positions and ticks.
#[derive(Clone, Debug)]
pub(super) struct Ruler {
    scale: Scale,
    unit: Unit,
    shown: Range<f64>,
}

impl Ruler {
    /// A ruler over all of `values`; `None` if the axis can show none of them.
    pub(super) fn over(axis: &Axis, values: impl Iterator<Item = f64>) -> Option<Self> {
        let scale = axis.scale;
        let (least, most) = values
            .filter(|&value| scale.shows(value))
            .map(|value| scale.position(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), at| (least.min(at), most.max(at)));
        if least > most {
            return None;
        }
        let (least, most) = if scale == Scale::Linear { (least.min(0.0), most.max(0.0)) } else { (least, most) };
        let margin = match most - least {
            // One value alone: one decade, or as much as the value, on either side.
            0.0 => 1.0,
            width => width * MARGIN,
        };
        // A linear axis stands on its 0.
        let low = if scale == Scale::Linear && least == 0.0 { 0.0 } else { least - margin };
        Some(Self { scale, unit: axis.unit, shown: scale.value(low)..scale.value(most + margin) })
    }

    /// Round numbers within the range, the first of them at `most` or fewer places.
    fn ticks(&self, most: usize) -> Vec<f64> {
        let Range { start, end } = self.shown;
        match self.scale {
            Scale::Linear => {
                let step = round_step((end - start) / most.max(1) as f64);
                let (first, last) = ((start / step).ceil() as i64, (end / step).floor() as i64);
                (first..=last).map(|number| number as f64 * step).collect()
            }
            Scale::Log => {
                let base = self.unit.base();
                let (first, last) = (start.log(base).ceil() as i32, end.log(base).floor() as i32);
                let stride = (last - first + 1).max(1) as usize;
                let stride = stride.div_ceil(most.max(1));
                let whole = (first..=last).step_by(stride).map(|power| base.powi(power));
                if base == 10.0 && last - first < 3 {
                    let between =
                        (first - 1..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * base.powi(power)));
                    return between.filter(|value| (start..=end).contains(value)).collect();
                }
                whole.collect()
            }
        }
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is no less than `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|&step| step >= least).unwrap_or(10.0 * power)
}

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let [at, start, end] = [*value, self.shown.start, self.shown.end].map(|value| self.scale.position(value));
        let part = (at - start) / (end - start);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.bold_points().min(MOST_TICKS))
    }

    fn range(&self) -> Range<f64> {
        self.shown.clone()
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format_ext(&self, value: &f64) -> String {
        self.unit.show(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruler(unit: Unit, scale: Scale, values: &[f64]) -> Ruler {
        let axis = Axis { label: "size".into(), unit, scale };
        Ruler::over(&axis, values.iter().copied()).unwrap()
    }

    #[test]
    fn values_are_shown_in_the_unit_that_suits_them() {
        for (unit, value, text) in [
            (Unit::Bytes, 8.0, "8 B"),
            (Unit::Bytes, 65536.0, "64 KiB"),
            (Unit::Bytes, 16.0 * 1024.0 * 1024.0, "16 MiB"),
            (Unit::Bytes, 1536.0, "1.5 KiB"),
            (Unit::Nanoseconds, 0.25, "0.25 ns"),
            (Unit::Nanoseconds, 999.7, "1 µs"),
            (Unit::Nanoseconds, 1500.0, "1.5 µs"),
            (Unit::Nanoseconds, -123_456.0, "-123 µs"),
            (Unit::Nanoseconds, 2e6, "2 ms"),
            (Unit::PerSecond, 100.0, "100 /s"),
            (Unit::PerSecond, 50e3, "50 k/s"),
            (Unit::PerSecond, 0.0, "0 /s"),
        ] {
            assert_eq!(unit.show(value), text);
        }
    }

    #[test]
    fn a_log_axis_of_bytes_is_ticked_at_powers_of_two() {
        let ticks = ruler(Unit::Bytes, Scale::Log, &[8.0, 16777216.0]).ticks(9);
        assert_eq!(ticks[0], 8.0);
        assert!(ticks.len() <= 9 && ticks.len() > 4, "{ticks:?}");
        assert!(ticks.iter().all(|tick| tick.log2().fract() == 0.0), "{ticks:?}");
    }

    #[test]
    fn a_log_axis_of_few_decades_is_ticked_between_them() {
        let ticks = ruler(Unit::PerSecond, Scale::Log, &[30.0, 300.0]).ticks(9);
        assert_eq!(ticks, [50.0, 100.0, 200.0]);
        let ticks = ruler(Unit::PerSecond, Scale::Log, &[1.0, 1e6]).ticks(9);
        assert_eq!(ticks, [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
    }

    #[test]
    fn a_linear_axis_begins_at_zero_with_round_steps() {
        let ruler = ruler(Unit::Nanoseconds, Scale::Linear, &[13.0, 47.0]);
        assert_eq!(ruler.shown.start, 0.0);
        assert_eq!(ruler.ticks(5), [0.0, 10.0, 20.0, 30.0, 40.0]);
    }

    #[test]
    fn positions_grow_with_the_value_and_stay_within_the_limits() {
        for scale in [Scale::Linear, Scale::Log] {
            let ruler = ruler(Unit::Bytes, scale, &[8.0, 64.0, 4096.0]);
            let at = [8.0, 64.0, 4096.0].map(|value| ruler.map(&value, (0, 1000)));
            assert!(0 <= at[0] && at[0] < at[1] && at[1] < at[2] && at[2] <= 1000, "{at:?}");
        }
        let log = ruler(Unit::Bytes, Scale::Log, &[1.0, 100.0]);
        assert_eq!(log.map(&10.0, (0, 1000)), 500);
    }

    #[test]
    fn an_axis_that_can_show_nothing_is_none() {
        let axis = Axis { label: "rate".into(), unit: Unit::PerSecond, scale: Scale::Log };
        assert!(Ruler::over(&axis, [0.0, -1.0, f64::NAN].into_iter()).is_none());
        assert!(Ruler::over(&axis, [5.0].into_iter()).is_some());
    }
}
