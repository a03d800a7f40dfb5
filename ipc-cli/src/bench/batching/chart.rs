//! Costs against batch sizes, and added waits against delays, as charts.
//!
//! Promise: measured points with their spread, and each model as a line of its own. Refusal: a wait that came out as zero or less has no
//! place on a logarithmic axis; the chart counts it.

use super::super::stats::Summary;
use super::report::{Report, cost, paced};
use crate::plot::{Axis, Chart, Look, Marker, Point, Scale, Series, Unit};

/// Points of a model's line.
const STEPS: u32 = 200;

/// Nanoseconds a message against messages in a batch.
pub(super) fn costs(report: &Report) -> Chart {
    let mut series = Vec::new();
    for (colour, costs) in report.costs.iter().enumerate() {
        let name = costs.lane.name();
        let measured = costs.batches.iter().map(|batch| point(batch.messages as f64, &batch.ns));
        let (sync, each) = (costs.sync_ns, costs.per_message_ns);
        let most = costs.batches.iter().map(|batch| batch.messages as f64).fold(1.0, f64::max);
        let model = steps(1.0, most).map(|n| Point::at(n, cost(sync, each, n)));
        let [sync, each] = [sync, each].map(|value| Unit::Nanoseconds.show(value));
        series.push(Series {
            name: format!("{name}, measured"),
            points: measured.collect(),
            look: Look::Discs,
            colour,
        });
        let name = format!("{name}, model {sync} / n + {each}");
        series.push(Series { name, points: model.collect(), look: Look::Line, colour });
    }
    let marker = Marker { x: report.gain.batch as f64, label: format!("{} together", report.gain.batch), colour: 1 };
    Chart {
        title: format!("Cost of a message of {} bytes", report.message_bytes),
        x: Axis { label: "messages published together (n)".into(), unit: Unit::Count, scale: Scale::Log },
        y: Axis { label: "a message".into(), unit: Unit::Nanoseconds, scale: Scale::Log },
        series,
        markers: vec![marker],
    }
}

/// Mean added wait against the delay, for each pace and limit.
pub(super) fn waits(report: &Report) -> Chart {
    let mut cases: Vec<(f64, u64)> = report.waits.iter().map(|wait| (wait.gap_ns, wait.limit)).collect();
    cases.dedup();
    let delays = report.waits.iter().map(|wait| wait.delay_ns);
    let (least, most) =
        delays.fold((f64::INFINITY, 0.0_f64), |(least, most), delay| (least.min(delay), most.max(delay)));
    let mut series = Vec::new();
    for (colour, &(gap_ns, limit)) in cases.iter().enumerate() {
        let rows = report.waits.iter().filter(|wait| (wait.gap_ns, wait.limit) == (gap_ns, limit));
        let measured = rows.map(|wait| point(wait.delay_ns, &wait.added_ns));
        let model = steps(least, most).map(|delay| Point::at(delay, paced(gap_ns, limit, delay)));
        let name = format!("a message each {}, N = {limit}", Unit::Nanoseconds.show(gap_ns));
        series.push(Series { name: name.clone(), points: measured.collect(), look: Look::Discs, colour });
        series.push(Series { name: format!("{name}, model"), points: model.collect(), look: Look::Line, colour });
    }
    let half = [least, most].map(|delay| Point::at(delay, delay / 2.0)).to_vec();
    series.push(Series { name: "τ/2".into(), points: half, look: Look::Dashes, colour: cases.len() });
    Chart {
        title: "What messages wait for a doorbell that is put off".into(),
        x: Axis { label: "put off for at most (τ)".into(), unit: Unit::Nanoseconds, scale: Scale::Log },
        y: Axis { label: "mean added wait".into(), unit: Unit::Nanoseconds, scale: Scale::Log },
        series,
        markers: Vec::new(),
    }
}

fn point(x: f64, summary: &Summary) -> Point {
    Point { x, y: summary.median, spread: (summary.min, summary.max) }
}

/// Places on a logarithmic axis.
fn steps(least: f64, most: f64) -> impl Iterator<Item = f64> {
    (0..=STEPS).map(move |step| least * (most / least).powf(f64::from(step) / f64::from(STEPS)))
}
