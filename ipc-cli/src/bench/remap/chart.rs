//! Throughput against remaps, as a chart.
//!
//! Promise: measured points with their spread, the control, the model, and where remaps cost one message in a hundred.
//! Refusal: what was measured without remaps has no place on a logarithmic axis; it is a line of its own.

use super::report::{Report, model};
use super::text::name;
use crate::plot::{Axis, Chart, Look, Marker, Point, Scale, Series, Unit};

/// Points of a model's line.
const STEPS: u32 = 200;

/// The chart of a report.
pub(super) fn throughput(report: &Report) -> Chart {
    let t_ns = &report.t_ns;
    let rates = report.remaps.iter().map(|row| row.remaps_per_second.median).filter(|rate| *rate > 0.0);
    let (least, most) = rates.fold((f64::INFINITY, 0.0_f64), |(least, most), rate| (least.min(rate), most.max(rate)));
    let mut series = Vec::new();
    let mut markers = Vec::new();
    for (colour, costs) in report.costs.iter().enumerate() {
        let rows = || report.remaps.iter().filter(|row| row.kind == costs.kind && row.remaps_per_second.median > 0.0);
        let name = name(costs.kind);
        let measured = rows().map(|row| Point {
            x: row.remaps_per_second.median,
            y: row.messages_per_second.median,
            spread: (row.messages_per_second.min, row.messages_per_second.max),
        });
        let control = rows().map(|row| Point {
            x: row.remaps_per_second.median,
            y: row.control_messages_per_second.median,
            spread: (row.control_messages_per_second.min, row.control_messages_per_second.max),
        });
        let fastest = rows().map(|row| row.remaps_per_second.median).fold(least, f64::max);
        let line = |c_ns: f64| {
            let rates = (0..=STEPS).map(|step| least * (fastest / least).powf(f64::from(step) / f64::from(STEPS)));
            let points = rates.map(|rate| Point::at(rate, model(t_ns.median, rate, c_ns)));
            points.filter(|point| point.y > 0.0).collect()
        };
        let c_ns = costs.loss_ns.median;
        let c = Unit::Nanoseconds.show(c_ns);
        series.push(Series {
            name: format!("{name}, measured"),
            points: measured.collect(),
            look: Look::Discs,
            colour,
        });
        series.push(Series { name: format!("{name}, control"), points: control.collect(), look: Look::Rings, colour });
        let model = format!("{name}, model with c = {c}");
        series.push(Series { name: model, points: line(c_ns), look: Look::Line, colour });
        let hundredth = 0.01e9 / c_ns;
        if (least..=most).contains(&hundredth) {
            let label = format!("1 % lost: {}", Unit::PerSecond.show(hundredth));
            markers.push(Marker { x: hundredth, label, colour });
        }
    }
    let undisturbed = [least, most].map(|rate| Point::at(rate, 1e9 / t_ns.median)).to_vec();
    series.push(Series { name: "no remaps".into(), points: undisturbed, look: Look::Dashes, colour: series.len() + 1 });
    Chart {
        title: "Messages of 64 bytes while a thread remaps".into(),
        x: Axis { label: "remaps a second (r)".into(), unit: Unit::PerSecond, scale: Scale::Log },
        y: Axis { label: "messages a second".into(), unit: Unit::PerSecond, scale: Scale::Linear },
        series,
        markers,
    }
}
