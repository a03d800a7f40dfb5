//! Puts a chart on paper.
//!
//! Promise: axes, series in their order, markers above them, the legend below the axes. Refusal: no value is judged here
//! beyond whether its axis can show it.

use super::axis::Ruler;
use super::{Axis, Chart, Look, Point, Series};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

/// Width and height of a chart without its legend, pixels.
const SIZE: (u32, u32) = (960, 560);
/// Height of a line of the legend, pixels.
const LEGEND_LINE: u32 = 22;
/// Entries of the legend side by side.
const LEGEND_COLUMNS: usize = 2;
/// Where legend and vertical axis begin, pixels from the left.
const LEFT: u32 = 84;
/// Size of the letters, pixels.
const LETTERS: i32 = 14;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// Colours that people with any kind of colour vision can tell apart on white. Source: Okabe and Ito, "Color Universal
/// Design", 2008, without its yellow, which is too light for lines.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(90, 90, 90),
    RGBColor(230, 159, 0),
];

type Drawn<T> = Result<T, Box<dyn Error>>;
type Paper<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ruler, Ruler>>;

/// The chart as the text of an SVG file.
pub(super) fn svg(chart: &Chart) -> Drawn<String> {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let marks = chart.markers.iter().map(|marker| marker.x);
    let across = Ruler::over(&chart.x, points().map(|point| point.x).chain(marks));
    let up = Ruler::over(&chart.y, points().flat_map(|point| [point.y, point.spread.0, point.spread.1]));
    let (Some(across), Some(up)) = (across, up) else {
        return Err("there is no point that its axes can show".into());
    };

    let legend_height = LEGEND_LINE * legend_lines(chart) as u32 + LEGEND_LINE / 2;
    let mut text = String::new();
    {
        let paper = SVGBackend::with_string(&mut text, (SIZE.0, SIZE.1 + legend_height)).into_drawing_area();
        paper.fill(&WHITE)?;
        let (field, legend) = paper.split_vertically(SIZE.1);
        let mut axes = ChartBuilder::on(&field)
            .caption(&chart.title, (FONT, 20).into_font().color(&INK))
            .margin(12)
            .margin_right(28)
            .x_label_area_size(52)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(across, up)?;
        axes.configure_mesh()
            .x_desc(&chart.x.label)
            .y_desc(&chart.y.label)
            .label_style((FONT, LETTERS).into_font().color(&INK))
            .axis_desc_style((FONT, LETTERS + 1).into_font().color(&INK))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .draw()?;
        for series in &chart.series {
            draw_series(&mut axes, chart, series)?;
        }
        draw_markers(&mut axes, chart)?;
        draw_legend(&legend, chart)?;
        paper.present()?;
    }
    Ok(text)
}

fn legend_lines(chart: &Chart) -> usize {
    chart.series.len().div_ceil(LEGEND_COLUMNS)
}

fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

fn is_shown(x: &Axis, y: &Axis, point: &Point) -> bool {
    x.scale.shows(point.x) && y.scale.shows(point.y)
}

fn draw_series(axes: &mut Axes<'_, '_>, chart: &Chart, series: &Series) -> Drawn<()> {
    let colour = colour(series.colour);
    let shown: Vec<Point> = series.points.iter().filter(|point| is_shown(&chart.x, &chart.y, point)).copied().collect();
    let places = shown.iter().map(|point| (point.x, point.y));
    match series.look {
        Look::Line => drop(axes.draw_series(LineSeries::new(places, colour.stroke_width(2)))?),
        Look::Dashes => drop(axes.draw_series(DashedLineSeries::new(places, 6, 5, colour.stroke_width(2)))?),
        Look::Discs | Look::Rings => {
            let bars = shown.iter().filter(|point| {
                let (low, high) = point.spread;
                low < high && chart.y.scale.shows(low) && chart.y.scale.shows(high)
            });
            axes.draw_series(
                bars.map(|point| PathElement::new([(point.x, point.spread.0), (point.x, point.spread.1)], colour)),
            )?;
            axes.draw_series(places.map(|place| Circle::new(place, 4, disc(series)))).map(drop)?;
        }
    }
    Ok(())
}

fn disc(series: &Series) -> ShapeStyle {
    let colour = colour(series.colour);
    if series.look == Look::Discs { colour.filled() } else { colour.stroke_width(2) }
}

/// Lines across the chart, each with its label beside it, one below the other so that near ones do not meet.
fn draw_markers(axes: &mut Axes<'_, '_>, chart: &Chart) -> Drawn<()> {
    let area = axes.plotting_area().strip_coord_spec();
    let (width, height) = area.dim_in_pixel();
    let left = area.get_base_pixel().0;
    for (line, marker) in chart.markers.iter().filter(|marker| chart.x.scale.shows(marker.x)).enumerate() {
        let colour = colour(marker.colour);
        // Where the axis puts it, whatever the vertical place.
        let bottom = axes.plotting_area().get_y_range().start;
        let x = axes.backend_coord(&(marker.x, bottom)).0 - left;
        for start in (0..height as i32).step_by(7) {
            let ends = [(x, start), (x, (start + 3).min(height as i32))];
            area.draw(&PathElement::new(ends, colour))?;
        }
        let y = 14 + (line as i32 % 6) * (LETTERS + 4);
        // On the side of the line that has more room.
        let is_left_half = x < width as i32 / 2;
        let anchor = text_anchor(if is_left_half { 0 } else { 2 });
        let style = (FONT, LETTERS - 1).into_font().color(&colour).pos(anchor);
        // Letters are about half as wide as high; without a ground of its own a label would be crossed by lines.
        let wide = marker.label.chars().count() as i32 * LETTERS * 9 / 20 + 4;
        let ground = if is_left_half {
            [(x + 3, y - 9), (x + 3 + wide, y + 9)]
        } else {
            [(x - 3 - wide, y - 9), (x - 3, y + 9)]
        };
        area.draw(&Rectangle::new(ground, WHITE.filled()))?;
        area.draw(&Text::new(marker.label.clone(), (if is_left_half { x + 5 } else { x - 5 }, y), style))?;
    }
    Ok(())
}

fn text_anchor(horizontal: u8) -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(if horizontal == 0 { HPos::Left } else { HPos::Right }, VPos::Center)
}

fn draw_legend(paper: &Paper<'_>, chart: &Chart) -> Drawn<()> {
    let lines = legend_lines(chart);
    let column = (SIZE.0 - LEFT) as i32 / LEGEND_COLUMNS as i32;
    for (number, series) in chart.series.iter().enumerate() {
        let x = LEFT as i32 + (number / lines) as i32 * column;
        let y = LEGEND_LINE as i32 * (number % lines) as i32 + LEGEND_LINE as i32 / 2;
        let stroke = colour(series.colour).stroke_width(2);
        match series.look {
            Look::Line => paper.draw(&PathElement::new([(x, y), (x + 26, y)], stroke))?,
            Look::Dashes => {
                for start in [0, 10, 20] {
                    paper.draw(&PathElement::new([(x + start, y), (x + start + 6, y)], stroke))?;
                }
            }
            Look::Discs | Look::Rings => paper.draw(&Circle::new((x + 13, y), 4, disc(series)))?,
        }
        let hidden = series.points.iter().filter(|point| !is_shown(&chart.x, &chart.y, point)).count();
        let name = match hidden {
            0 => series.name.clone(),
            count => format!("{} ({count} not shown: 0 or less)", series.name),
        };
        let style = (FONT, LETTERS).into_font().color(&INK).pos(text_anchor(0));
        paper.draw(&Text::new(name, (x + 34, y), style))?;
    }
    Ok(())
}
