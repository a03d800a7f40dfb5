//! Charts of measurements, as SVG files: points with their spread, lines, marked places, and axes with units.
//!
//! Promise: what is drawn is what was given; what an axis cannot show is counted in the legend, which never covers a point.
//! Refusal: nothing is fitted or smoothed here, and no font of the system is needed to write the file.

mod axis;
mod draw;

pub(crate) use axis::{Axis, Scale, Unit};

use crate::failure::Failure;
use std::path::Path;

/// A chart with one horizontal and one vertical axis.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What is shown, in a few words.
    pub(crate) title: String,
    /// The horizontal axis.
    pub(crate) x: Axis,
    /// The vertical axis.
    pub(crate) y: Axis,
    /// What is drawn, in the order of the legend.
    pub(crate) series: Vec<Series>,
    /// Places on the horizontal axis that deserve a line.
    pub(crate) markers: Vec<Marker>,
}

/// Values that belong together: measured points, or a line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What the legend says.
    pub(crate) name: String,
    /// In any order for points, in the order of drawing for lines.
    pub(crate) points: Vec<Point>,
    /// How it is drawn.
    pub(crate) look: Look,
    /// Which colour. Series of the same number have the same one, such as points and the line fitted to them.
    pub(crate) colour: usize,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Filled discs, with a bar over their spread.
    Discs,
    /// Rings, with a bar over their spread.
    Rings,
    /// A line from point to point.
    Line,
    /// The same, dashed.
    Dashes,
}

/// A place in the chart, in the units of its axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Along the horizontal axis.
    pub(crate) x: f64,
    /// Along the vertical axis.
    pub(crate) y: f64,
    /// The smallest and the largest `y` that were measured; equal for a point without spread.
    pub(crate) spread: (f64, f64),
}

/// A vertical line across the chart.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    /// Where, in the unit of the horizontal axis.
    pub(crate) x: f64,
    /// What it says.
    pub(crate) label: String,
    /// Which colour, as in [`Series::colour`].
    pub(crate) colour: usize,
}

impl Point {
    /// A point without spread.
    pub(crate) fn at(x: f64, y: f64) -> Self {
        Self { x, y, spread: (y, y) }
    }
}

impl Chart {
    /// The chart as the text of an SVG file.
    ///
    /// # Errors
    /// There is not one point that the axes can show.
    pub(crate) fn svg(&self) -> Result<String, Failure> {
        draw::svg(self).map_err(|cause| Failure::runtime(format!("the chart {:?}: {cause}", self.title)))
    }

    /// Writes the chart to a file, replacing one that is there.
    ///
    /// # Errors
    /// As [`svg`](Self::svg), or the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        std::fs::write(path, self.svg()?).map_err(|error| Failure::writing(path.display(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: &[(f64, f64)]) -> Chart {
        let points = points.iter().map(|&(x, y)| Point { x, y, spread: (y * 0.9, y * 1.1) }).collect();
        let series = |name: &str, look, points| Series { name: name.into(), points, look, colour: 0 };
        Chart {
            title: "cost < size & more".into(),
            x: Axis { label: "size".into(), unit: Unit::Bytes, scale },
            y: Axis { label: "time".into(), unit: Unit::Nanoseconds, scale },
            series: vec![
                series("fitted", Look::Line, vec![Point::at(8.0, 10.0), Point::at(4096.0, 1000.0)]),
                series("measured", Look::Discs, points),
            ],
            markers: vec![Marker { x: 512.0, label: "here".into(), colour: 1 }],
        }
    }

    /// The numbers of an attribute of all circles, the legend's last.
    fn circles(svg: &str, attribute: &str) -> Vec<i32> {
        let value = |circle: &str| {
            let start = circle.find(&format!("{attribute}=\"")).unwrap() + attribute.len() + 2;
            circle[start..].split('"').next().unwrap().parse().unwrap()
        };
        svg.split("<circle ").skip(1).map(value).collect()
    }

    #[test]
    fn each_point_is_drawn_where_its_values_put_it() {
        for scale in [Scale::Linear, Scale::Log] {
            let svg = chart(scale, &[(8.0, 10.0), (64.0, 100.0), (4096.0, 1000.0)]).svg().unwrap();
            let (across, down) = (circles(&svg, "cx"), circles(&svg, "cy"));
            assert_eq!(across.len(), 4, "three points and the legend");
            assert!(across[0] < across[1] && across[1] < across[2], "{across:?}");
            assert!(down[0] > down[1] && down[1] > down[2], "{down:?}");
        }
    }

    #[test]
    fn title_axes_series_and_markers_are_named() {
        let svg = chart(Scale::Log, &[(8.0, 10.0)]).svg().unwrap();
        for text in ["cost &lt; size &amp; more", "size", "time", "fitted", "measured", "here", "2 KiB", "100 ns"] {
            assert!(svg.lines().any(|line| line.trim() == text), "{text} is missing: {svg}");
        }
    }

    #[test]
    fn points_that_an_axis_cannot_show_are_counted_in_the_legend() {
        let svg = chart(Scale::Log, &[(0.0, 10.0), (8.0, 0.0), (64.0, 10.0)]).svg().unwrap();
        assert!(svg.contains("measured (2 not shown: 0 or less)"), "{svg}");
        assert_eq!(circles(&svg, "cx").len(), 2);
    }

    #[test]
    fn a_chart_without_a_point_is_refused() {
        let mut empty = chart(Scale::Log, &[]);
        empty.series.clear();
        assert!(empty.svg().unwrap_err().to_string().contains("cost < size"));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let chart = chart(Scale::Linear, &[(1.0, 1.0)]);
        let error = chart.write(Path::new("/nowhere/chart.svg")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/chart.svg"), "{error}");
    }
}
