//! The chart of a calibration: measured points, the lines through them, and where they cross.
//!
//! Promise: the points are the ones that were fitted, with the spread of their rounds; the lines are the ones that are kept. Refusal: lanes that are the
//! same beside either queue are drawn once.

use super::figures::{LaneFigures, Lanes, Report};
use super::text::legend;
use crate::plot::{Axis, Chart, Look, Marker, Point, Scale, Series, Unit};
use ipc_core::Lane;
use ipc_core::calibration::Queue;

/// Places on a line, from one power of two to the next.
const STEPS: i32 = 4;

/// What is drawn, each in a colour of its own: a file of its own costs the same beside either queue.
const DRAWN: [(Queue, Lane); 6] = [
    (Queue::Shared, Lane::Inline),
    (Queue::Shared, Lane::Arena),
    (Queue::Shared, Lane::Kernel),
    (Queue::Socket, Lane::Kernel),
    (Queue::Shared, Lane::File),
    (Queue::Socket, Lane::Arena),
];

/// The condition that counts.
pub(super) fn of(report: &Report) -> Chart {
    let mut series = Vec::new();
    let mut markers = Vec::new();
    for (colour, (queue, lane)) in DRAWN.into_iter().enumerate() {
        let lanes = report.conditions.first().and_then(|condition| condition.queue(queue));
        let Some((lanes, figures)) = lanes.and_then(|lanes| Some((lanes, lanes.lane(lane)?))) else { continue };
        series.push(line(lanes, figures, colour));
        series.push(points(figures, colour));
        if let (Queue::Shared, Lane::Arena) = (queue, lane) {
            markers.extend(crossing(lanes, colour));
        }
        if let (Some(hybrid), Queue::Socket, Lane::Arena) = (&report.hybrid, queue, lane) {
            let x = hybrid.threshold_bytes;
            markers.push(Marker { x, label: format!("Hybrid: T = {x:.0} B"), colour });
            if let Some(x) = report.check.as_ref().and_then(|check| check.measured_bytes) {
                markers.push(Marker { x, label: format!("measured: {x:.0} B"), colour: 4 });
            }
        }
    }
    Chart {
        title: format!("Cost of a message, {}", report.machine.cpu),
        x: Axis { label: "bytes in a message".into(), unit: Unit::Bytes, scale: Scale::Log },
        y: Axis { label: "until every byte is received".into(), unit: Unit::Nanoseconds, scale: Scale::Log },
        series,
        markers,
    }
}

/// Where a long message is cheaper in the arena than in the ring.
fn crossing(lanes: &Lanes, colour: usize) -> Option<Marker> {
    let pair =
        lanes.pairs.iter().find(|pair| pair.lanes == [Lane::Inline, Lane::Arena].map(|lane| lane.to_string()))?;
    let x = pair.crossings.last()?.bytes;
    Some(Marker { x, label: format!("inline, then arena: {x:.0} B"), colour })
}

fn points(figures: &LaneFigures, colour: usize) -> Series {
    let point = |point: &super::figures::PointFigures| Point {
        x: point.bytes as f64,
        y: point.ns,
        spread: (point.min_ns, point.max_ns),
    };
    let points = figures.points.iter().map(point).collect();
    Series { name: "measured, and range".into(), points, look: Look::Rings, colour }
}

fn line(lanes: &Lanes, figures: &LaneFigures, colour: usize) -> Series {
    let ends = figures.points.first().zip(figures.points.last());
    let (from, to) = ends.map_or((0.0, 0.0), |(from, to)| ((from.bytes as f64).log2(), (to.bytes as f64).log2()));
    let steps = ((to - from) * f64::from(STEPS)).ceil() as i32;
    let at = |step: i32| {
        let bytes = 2_f64.powf((from + f64::from(step) / f64::from(STEPS)).min(to));
        Point::at(bytes, figures.fitted.at(bytes as u64))
    };
    let name = legend(lanes, figures.of, &figures.lines);
    Series { name, points: (0..=steps).map(at).collect(), look: Look::Line, colour }
}
