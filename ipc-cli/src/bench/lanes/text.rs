//! The report of `ipc bench lanes` for people: aligned tables, a case after the other.
//!
//! Promise: each ratio stands beside the numbers it comes from and its target. Refusal: nothing is computed here that is not in
//! the report for machines.

use super::super::columns::columns;
use super::Case;
use super::crossover::Crossing;
use super::group::{Figure, Quantity, Ratio};
use super::report::Report;
use crate::plot::Unit;
use std::fmt::Write as _;

impl Report {
    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = self.ratio_table();
        for (case, title) in [(Case::Auto, "lanes of mode auto"), (Case::Hybrid, "lanes of mode hybrid")] {
            text.push_str(&self.lane_table(case, title));
        }
        // Writing to a String cannot fail.
        for choice in &self.routers {
            let case = case_name(choice.case);
            let _ = writeln!(text, "router of mode {case}, with costs of origin {}: {}", self.costs, choice.bands);
            for known in &choice.lanes {
                let limit = Unit::Bytes.show(known.limit as f64);
                let _ = writeln!(text, "  {}: {}, up to {limit}", known.lane, known.cost);
            }
        }
        if let Some(crossing) = &self.crossover {
            text.push_str(&crossing_text(crossing));
        }
        let _ = writeln!(
            text,
            "wait: {}; medians of {} rounds in turns on processors {} and {}; ratios round by round",
            self.wait, self.rounds, self.processors.0, self.processors.1
        );
        if let (Some(trip), Some(line)) = (&self.state.line_round_trip_ns, &self.state.streamed_line_ns) {
            let ns = |value| Unit::Nanoseconds.show(value);
            let _ = writeln!(
                text,
                "meanwhile one line there and back took {} [{}..{}], a line in a stream {} [{}..{}]",
                ns(trip.median),
                ns(trip.min),
                ns(trip.max),
                ns(line.median),
                ns(line.min),
                ns(line.max)
            );
        }
        text
    }

    fn ratio_table(&self) -> String {
        let titles = ["case", "ours", "beside", "size", "ours", "beside", "ratio", "spread", "target"];
        let mut rows = vec![titles.map(String::from).to_vec()];
        rows.extend(self.ratios.iter().map(ratio_cells));
        columns(&rows, 3) + "ratio: of times, or of throughputs where the target is a least\n\n"
    }

    /// The medians of a case, a row for each size and a column for each subject.
    fn lane_table(&self, case: Case, title: &str) -> String {
        let figures: Vec<&Figure> = self.figures.iter().filter(|figure| figure.case == case).collect();
        let (mut sizes, mut names): (Vec<u64>, Vec<&str>) = (Vec::new(), Vec::new());
        for figure in &figures {
            if !sizes.contains(&figure.size) {
                sizes.push(figure.size);
            }
            if !names.contains(&figure.subject.as_str()) {
                names.push(&figure.subject);
            }
        }
        if sizes.is_empty() {
            return String::new();
        }
        let mut rows = vec![std::iter::once(title).chain(names.iter().copied()).map(String::from).collect()];
        for size in sizes {
            let mut cells: Vec<String> = vec![Unit::Bytes.show(size as f64)];
            for name in &names {
                let found = figures.iter().find(|figure| figure.size == size && figure.subject == *name);
                cells.push(found.map_or("-".into(), |figure| Unit::Nanoseconds.show(figure.ns.median)));
            }
            rows.push(cells);
        }
        columns(&rows, 1) + "\n"
    }
}

fn ratio_cells(ratio: &Ratio) -> Vec<String> {
    let ns = |value| Unit::Nanoseconds.show(value);
    let sign = match ratio.of {
        Quantity::Time => "≤",
        Quantity::Throughput => "≥",
    };
    vec![
        case_name(ratio.case),
        ratio.ours.clone(),
        ratio.peer.clone(),
        Unit::Bytes.show(ratio.size as f64),
        ns(ratio.ours_ns),
        ns(ratio.peer_ns),
        format!("{:.2}", ratio.ratio.median),
        format!("{:.2}..{:.2}", ratio.ratio.min, ratio.ratio.max),
        ratio.target.map_or("-".into(), |target| format!("{sign} {target}")),
    ]
}

/// As it is written on the command line.
fn case_name(case: Case) -> String {
    clap::ValueEnum::to_possible_value(&case).map(|value| value.get_name().into()).unwrap_or_default()
}

fn crossing_text(crossing: &Crossing) -> String {
    let bytes = |size: Option<f64>| size.map_or("nowhere".into(), |size| Unit::Bytes.show(size));
    let apart = |powers: Option<f64>| powers.map_or("-".into(), |powers| format!("{powers:+.2}"));
    let whole = |size: Option<u64>| bytes(size.map(|size| size as f64));
    format!(
        "kernel and arena of mode hybrid cost the same at: {} measured, {} by the costs of this run ({} powers of two from measured), \
         {} by the router ({}), {} by its formula; `ipc calibrate` measures it more closely\n",
        bytes(crossing.measured),
        whole(crossing.fitted),
        apart(crossing.fitted_powers_of_two),
        whole(crossing.router),
        apart(crossing.router_powers_of_two),
        whole(crossing.formula)
    )
}
