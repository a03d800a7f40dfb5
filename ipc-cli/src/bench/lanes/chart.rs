//! Round trips against the size, as a chart: every lane, the choice among them, and a socket.
//!
//! Promise: measured points with their spread, joined by lines. Refusal: cases other than `auto` are not drawn.

use super::Case;
use super::report::Report;
use crate::plot::{Axis, Chart, Look, Point, Scale, Series, Unit};

/// The chart of a report.
pub(super) fn lanes(report: &Report) -> Chart {
    let figures = || report.figures.iter().filter(|figure| figure.case == Case::Auto);
    let mut names: Vec<&str> = Vec::new();
    for figure in figures() {
        if !names.contains(&figure.subject.as_str()) {
            names.push(&figure.subject);
        }
    }
    let mut series = Vec::new();
    for (colour, name) in names.into_iter().enumerate() {
        let points: Vec<Point> = figures()
            .filter(|figure| figure.subject == name)
            .map(|figure| Point { x: figure.size as f64, y: figure.ns.median, spread: (figure.ns.min, figure.ns.max) })
            .collect();
        let line = points.iter().map(|point| Point::at(point.x, point.y)).collect();
        // The choice lies on the cheapest lane, and is drawn around it.
        let look = if name == "auto" { Look::Rings } else { Look::Discs };
        series.push(Series { name: name.into(), points, look, colour });
        if name != "auto" {
            series.push(Series { name: format!("{name}, joined"), points: line, look: Look::Line, colour });
        }
    }
    Chart {
        title: "Round trips of messages that are copied in and copied out".into(),
        x: Axis { label: "bytes in a message".into(), unit: Unit::Bytes, scale: Scale::Log },
        y: Axis { label: "time of a round trip".into(), unit: Unit::Nanoseconds, scale: Scale::Log },
        series,
        markers: Vec::new(),
    }
}
