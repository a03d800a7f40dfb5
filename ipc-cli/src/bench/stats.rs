//! Sums up the rounds of a measurement, sets a floor against the measured system, and prints both.
//!
//! Medians and extremes only: no mean, since one round that lost its CPU would move it, and no estimate
//! of an error, since rounds that share a machine are not independent.

use std::fmt::Write as _;

use serde::Serialize;

use super::process::Fallible;

/// The middle and the edges of a set of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle sample, or halfway between the two middle ones.
    pub(crate) median: f64,
    /// The smallest sample.
    pub(crate) min: f64,
    /// The largest sample.
    pub(crate) max: f64,
    /// Samples taken.
    pub(crate) rounds: usize,
}

impl Summary {
    /// Sums up `samples`, in any order.
    ///
    /// # Errors
    ///
    /// There is no sample, or one that is no finite number.
    pub(crate) fn of(samples: &[f64]) -> Fallible<Self> {
        if let Some(odd) = samples.iter().find(|sample| !sample.is_finite()) {
            return Err(format!("a round measured {odd}, which is no finite number").into());
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rounds = sorted.len();
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Err("a summary needs one round at least".into());
        };
        let median = (sorted[(rounds - 1) / 2] + sorted[rounds / 2]) / 2.0;
        Ok(Self { median, min, max, rounds })
    }
}

/// Samples of the floor and of the measured system, taken in turns: entry `i` of both is round `i`.
pub(crate) struct Pairs {
    /// The floor's samples.
    floor: Vec<f64>,
    /// The measured system's samples, as many as the floor's.
    ours: Vec<f64>,
}

impl Pairs {
    /// Takes `rounds` samples of each, in turns, every second round in the opposite order.
    ///
    /// What disturbs the machine for longer than a round then falls on both alike, and neither always
    /// runs on what the other left in the caches.
    ///
    /// # Errors
    ///
    /// The first failure of either measurement.
    pub(crate) fn take(
        rounds: usize,
        mut floor: impl FnMut() -> Fallible<f64>,
        mut ours: impl FnMut() -> Fallible<f64>,
    ) -> Fallible<Self> {
        let mut pairs = Self { floor: Vec::with_capacity(rounds), ours: Vec::with_capacity(rounds) };
        for round in 0..rounds {
            if round.is_multiple_of(2) {
                pairs.floor.push(floor()?);
                pairs.ours.push(ours()?);
            } else {
                pairs.ours.push(ours()?);
                pairs.floor.push(floor()?);
            }
        }
        Ok(pairs)
    }

    /// The ratios ours/floor, round by round.
    fn ratios(&self) -> Vec<f64> {
        self.floor.iter().zip(&self.ours).map(|(floor, ours)| ours / floor).collect()
    }
}

/// What was measured: the columns that name a case.
pub(crate) struct Subject<'a> {
    /// The name of the case, such as `round trip`.
    pub(crate) case: &'a str,
    /// Payload of a message, bytes.
    pub(crate) size: u64,
    /// Messages published at a time.
    pub(crate) batch: u64,
    /// How a side waits, such as `spin` or `sleep`.
    pub(crate) wait: &'a str,
    /// The unit of every figure, such as `ns` or `GB/s`.
    pub(crate) unit: &'a str,
}

/// One line of the result: a measured system against its floor. Serialises to one flat JSON object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Case {
    /// The name of the case.
    pub(crate) case: String,
    /// Payload of a message, bytes.
    pub(crate) size: u64,
    /// Messages published at a time.
    pub(crate) batch: u64,
    /// How a side waits.
    pub(crate) wait: String,
    /// The unit of `floor`, `ours` and their edges.
    pub(crate) unit: String,
    /// The floor's median.
    pub(crate) floor: f64,
    /// The measured system's median.
    pub(crate) ours: f64,
    /// `ours / floor`: the ratio of the medians, in every unit.
    pub(crate) ratio: f64,
    /// The measured system's smallest round.
    pub(crate) min: f64,
    /// The measured system's largest round.
    pub(crate) max: f64,
    /// The floor's smallest round.
    pub(crate) floor_min: f64,
    /// The floor's largest round.
    pub(crate) floor_max: f64,
    /// The median of the ratios taken round by round. Steadier than `ratio` where the machine's pace
    /// changes between rounds.
    pub(crate) paired_ratio: f64,
    /// The smallest ratio of a round.
    pub(crate) paired_ratio_min: f64,
    /// The largest ratio of a round.
    pub(crate) paired_ratio_max: f64,
    /// Rounds of each.
    pub(crate) rounds: usize,
}

impl Case {
    /// Sums up the pairs under the names of their subject.
    ///
    /// # Errors
    ///
    /// There is no round, or a figure or a ratio is no finite number, as after a floor of 0.
    pub(crate) fn new(subject: &Subject<'_>, pairs: &Pairs) -> Fallible<Self> {
        let told = |error| format!("{}, {} bytes: {error}", subject.case, subject.size);
        let floor = Summary::of(&pairs.floor).map_err(told)?;
        let ours = Summary::of(&pairs.ours).map_err(told)?;
        let paired = Summary::of(&pairs.ratios()).map_err(told)?;
        Ok(Self {
            case: subject.case.into(),
            size: subject.size,
            batch: subject.batch,
            wait: subject.wait.into(),
            unit: subject.unit.into(),
            floor: floor.median,
            ours: ours.median,
            ratio: ours.median / floor.median,
            min: ours.min,
            max: ours.max,
            floor_min: floor.min,
            floor_max: floor.max,
            paired_ratio: paired.median,
            paired_ratio_min: paired.min,
            paired_ratio_max: paired.max,
            rounds: ours.rounds,
        })
    }
}

/// Column titles of the table, in the order of its cells.
const TITLES: [&str; 8] = ["case", "size", "batch", "wait", "floor", "ours", "ratio", "spread"];

/// The columns that hold text and lean left; the others hold figures and lean right.
const TEXT_COLUMNS: [bool; 8] = [true, false, false, true, false, false, false, false];

/// Lays the cases out as aligned columns, one line each, the titles first. The spread is `min..max` of ours.
pub(crate) fn table(cases: &[Case]) -> String {
    let rows: Vec<[String; 8]> = std::iter::once(TITLES.map(String::from))
        .chain(cases.iter().map(|case| {
            [
                case.case.clone(),
                case.size.to_string(),
                case.batch.to_string(),
                case.wait.clone(),
                format!("{} {}", figure(case.floor), case.unit),
                format!("{} {}", figure(case.ours), case.unit),
                format!("{:.2}", case.ratio),
                format!("{}..{}", figure(case.min), figure(case.max)),
            ]
        }))
        .collect();
    let mut widths = [0usize; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), is_text) in row.iter().zip(widths).zip(TEXT_COLUMNS) {
            // Writing to a String cannot fail.
            let _ = match is_text {
                true => write!(line, "{cell:<width$}  "),
                false => write!(line, "{cell:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A figure with about three digits that matter.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case_of(floor: &[f64], ours: &[f64]) -> Case {
        let subject = Subject { case: "round trip", size: 56, batch: 1, wait: "spin", unit: "ns" };
        Case::new(&subject, &Pairs { floor: floor.into(), ours: ours.into() }).unwrap()
    }

    #[test]
    fn the_median_of_an_odd_count_is_the_middle_sample() {
        let summary = Summary::of(&[9.0, 1.0, 5.0]).unwrap();
        assert_eq!(summary, Summary { median: 5.0, min: 1.0, max: 9.0, rounds: 3 });
    }

    #[test]
    fn the_median_of_an_even_count_lies_halfway() {
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
        assert_eq!(Summary::of(&[7.0]).unwrap().median, 7.0);
    }

    #[test]
    fn no_sample_and_no_number_are_refused() {
        assert!(Summary::of(&[]).is_err());
        assert!(Summary::of(&[1.0, f64::NAN]).unwrap_err().to_string().contains("NaN"));
    }

    #[test]
    fn rounds_alternate_in_order_and_stay_paired() {
        let log = std::cell::RefCell::new(String::new());
        let pairs = Pairs::take(
            3,
            || {
                log.borrow_mut().push('f');
                Ok(log.borrow().len() as f64)
            },
            || {
                log.borrow_mut().push('o');
                Ok(log.borrow().len() as f64)
            },
        )
        .unwrap();
        assert_eq!(log.into_inner(), "fooffo");
        assert_eq!(pairs.floor, [1.0, 4.0, 5.0]);
        assert_eq!(pairs.ours, [2.0, 3.0, 6.0]);
    }

    #[test]
    fn a_failed_round_is_the_result() {
        let error = Pairs::take(2, || Ok(1.0), || Err("no peer".into())).err().unwrap();
        assert_eq!(error.to_string(), "no peer");
    }

    #[test]
    fn the_ratio_is_of_medians_and_the_paired_ratio_of_rounds() {
        let case = case_of(&[1.0, 10.0, 2.0], &[4.0, 10.0, 2.0]);
        assert_eq!(case.ratio, 2.0);
        assert_eq!(case.paired_ratio, 1.0);
        assert_eq!((case.paired_ratio_min, case.paired_ratio_max), (1.0, 4.0));
        assert_eq!((case.min, case.max), (2.0, 10.0));
        assert_eq!((case.floor_min, case.floor_max), (1.0, 10.0));
        assert_eq!(case.rounds, 3);
    }

    #[test]
    fn a_floor_of_zero_is_refused_with_the_case_named() {
        let subject = Subject { case: "stream", size: 8, batch: 1, wait: "spin", unit: "ns" };
        let pairs = Pairs { floor: vec![0.0], ours: vec![1.0] };
        let error = Case::new(&subject, &pairs).unwrap_err();
        assert!(error.to_string().starts_with("stream, 8 bytes: "), "{error}");
    }

    #[test]
    fn a_case_serialises_to_one_flat_object() {
        let json = serde_json::to_value(case_of(&[2.0], &[3.0])).unwrap();
        for (field, value) in [("floor", 2.0), ("ours", 3.0), ("ratio", 1.5), ("min", 3.0)] {
            assert_eq!(json[field], value, "{field}");
        }
        assert_eq!(json["case"], "round trip");
        assert_eq!(json["rounds"], 1);
        assert!(json.as_object().unwrap().values().all(|value| !value.is_object()));
    }

    #[test]
    fn columns_line_up_under_their_titles() {
        let mut wide = case_of(&[1.0], &[1234.5]);
        wide.case = "a case with a long name".into();
        let text = table(&[case_of(&[2.0], &[3.0]), wide]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].find("wait"), lines[1].find("spin"));
        assert_eq!(lines[1].find("spin"), lines[2].find("spin"));
        assert_eq!(lines[0].rfind("ours").map(|at| at + 4), lines[1].rfind("ns").map(|at| at + 2));
        assert!(lines[1].ends_with("1.50  3.00..3.00"), "{text}");
        assert!(lines[2].contains("1234 ns"), "{text}");
    }
}
