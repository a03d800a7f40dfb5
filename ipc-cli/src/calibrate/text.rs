//! The result for people.
//!
//! Promise: what counts comes first, in units. Refusal: nothing is computed here; every figure is in the JSON, too.

use super::figures::{Check, Condition, Hybrid, Interruptions, LaneFigures, Lanes, Line, Pair, Report, Stored};
use crate::bench::columns::columns;
use crate::plot::Unit;
use ipc_core::Lane;
use std::fmt::Write as _;

pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let machine = &report.machine;
    let _ = writeln!(text, "{}, {} processors, Linux {}", machine.cpu, machine.cpus, machine.kernel);
    let _ = writeln!(
        text,
        "One message: from `send` until `recv_into` has copied every byte out; half of a round trip; the better ones of {} rounds.\n",
        report.rounds
    );
    for (number, condition) in report.conditions.iter().enumerate() {
        text += &match number {
            0 => counting(report, condition),
            _ => other(condition),
        };
    }
    text += &match &report.hybrid {
        Some(hybrid) => threshold(hybrid),
        None => "Hybrid: the lines of the socket and of the arena do not cross; one is always cheaper.\n".into(),
    };
    if let Some(check) = &report.check {
        text += &checked(check);
    }
    let Interruptions { count, seconds } = report.interruptions;
    if report.interruptions.are_many() {
        let _ = writeln!(
            text,
            "Other programs took the processor {count} times in {seconds:.1} s: better measured again when the machine is left alone."
        );
    }
    match &report.stored {
        Some(path) => drop(writeln!(text, "Kept in {} for this boot.", path.display())),
        None => text += "Nothing was kept.\n",
    }
    text
}

fn name(condition: &Condition) -> String {
    let place = if condition.pinned { "a processor each" } else { "not pinned" };
    let wait = if condition.wait == "poll" { "polling" } else { "sleeping" };
    format!("{place}, {wait}")
}

/// The condition that counts: points, lines, crossings.
fn counting(report: &Report, condition: &Condition) -> String {
    let (one, other) = report.processors;
    let mut text = format!("{} ({one} and {other}), which is what routers use:\n\n", name(condition));
    for lanes in &condition.queues {
        let _ = writeln!(text, "{} queue, ns a message", lanes.of);
        text += &points(lanes);
        text.push('\n');
        text += &costs(lanes);
        for pair in &lanes.pairs {
            text += &crossing(pair);
        }
        let _ = writeln!(text, "  router: {}\n", lanes.router);
    }
    text
}

fn other(condition: &Condition) -> String {
    let mut text = format!("{}:\n", name(condition));
    for lanes in &condition.queues {
        let _ = writeln!(text, "{} queue", lanes.of);
        text += &costs(lanes);
        let _ = writeln!(text, "  router would be: {}\n", lanes.router);
    }
    text
}

fn points(lanes: &Lanes) -> String {
    let mut sizes: Vec<u64> = lanes.lanes.iter().flat_map(|lane| &lane.points).map(|point| point.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let head = std::iter::once("  bytes".to_string()).chain(lanes.lanes.iter().map(|lane| lane.of.to_string()));
    let row = |size: &u64| {
        let at = |lane: &LaneFigures| {
            let point = lane.points.iter().find(|point| point.bytes == *size);
            point.map_or(String::from("-"), |point| format!("{:.0}", point.ns))
        };
        std::iter::once(format!("  {size}")).chain(lanes.lanes.iter().map(at)).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(head.collect()).chain(sizes.iter().map(row)).collect();
    columns(&rows, 1)
}

fn costs(lanes: &Lanes) -> String {
    let mut rows = vec![["  lane", "lengths", "a: ns", "b: ns/B", "off by", "at most"].map(String::from).to_vec()];
    for lane in &lanes.lanes {
        for (number, line) in lane.lines.iter().enumerate() {
            let (median, most) = match number {
                0 => (percent(lane.residual_median), percent(lane.residual_max)),
                _ => (String::new(), String::new()),
            };
            let (fixed, per_byte) = (format!("{:.1}", line.fixed_ns), format!("{:.4}", line.per_byte_ns));
            rows.push(vec![format!("  {}", lane.of), lengths(line), fixed, per_byte, median, most]);
        }
    }
    let mut text = columns(&rows, 2);
    for lane in lanes.lanes.iter().filter(|lane| lane.lines.len() > 1) {
        let _ = writeln!(text, "  {}: one line does not fit; there are two", lane.of);
    }
    text
}

fn lengths(line: &Line) -> String {
    match line.upto {
        None if line.from == 0 => "all".into(),
        None => "beyond".into(),
        Some(upto) => format!("up to {upto} B"),
    }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn crossing(pair: &Pair) -> String {
    let [one, other] = &pair.lanes;
    let mut text = format!("  {one} or {other}: ");
    let last = pair.bands.len().saturating_sub(1);
    for (number, band) in pair.bands.iter().enumerate() {
        text += &match number {
            _ if last == 0 => format!("always {}", band.lane),
            number if number == last => format!("then {}", band.lane),
            _ => format!("{} up to T = {} B, ", band.lane, band.upto),
        };
    }
    text.push('\n');
    text
}

fn threshold(hybrid: &Hybrid) -> String {
    let Hybrid { notice_bytes, notice_ns, queue, shared, threshold_bytes } = hybrid;
    let (a_q, b_q, a_s, b_s) = (queue.fixed_ns, queue.per_byte_ns, shared.fixed_ns, shared.per_byte_ns);
    let is_one_line = queue.from == 0;
    let lead = match is_one_line {
        true => format!("(a_s + b_q·d) / (b_q − b_s) = ({a_s:.1} + {b_q:.4}·{notice_bytes})"),
        // The notice is on the queue's first line, the threshold on its second.
        false => format!("(a_s + q(d) − a_q) / (b_q − b_s) = ({a_s:.1} + {notice_ns:.1} − {a_q:.1})"),
    };
    format!("Hybrid: T = {lead} / ({b_q:.4} − {b_s:.4}) = {threshold_bytes:.0} B\n")
}

fn checked(check: &Check) -> String {
    let mut rows = vec![["  bytes", "kernel, ns", "arena, ns", "kernel / arena"].map(String::from).to_vec()];
    rows.extend(check.sizes.iter().map(|size| {
        let ns = [size.kernel_ns, size.arena_ns].map(|ns| format!("{ns:.0}"));
        let [kernel, arena] = ns;
        vec![format!("  {}", size.bytes), kernel, arena, format!("{:.2}", size.kernel_to_arena)]
    }));
    let sentence = match check.measured_bytes {
        None => "measured with fixed lanes: one was cheaper at every size around T".into(),
        Some(bytes) => format!(
            "measured with fixed lanes: they cross at {bytes:.0} B, {:.2} of T: {} one power of two",
            bytes / check.threshold_bytes,
            if check.is_within_power_of_two { "within" } else { "NOT within" }
        ),
    };
    format!("{sentence}\n{}", columns(&rows, 1))
}

pub(super) fn stored(stored: &Stored) -> String {
    let mut text = match stored.origin.as_str() {
        "full" => "Measured by `ipc calibrate`.\n".to_string(),
        "quick" => "Measured by a process that found no file, in 40 ms.\n".to_string(),
        _ => "Compiled in: nobody measured this machine since it booted.\n".to_string(),
    };
    if let Some(path) = &stored.path {
        let _ = writeln!(text, "File: {}", path.display());
    }
    if let Some(value) = stored.variable.as_deref().filter(|value| !value.is_empty()) {
        let _ = writeln!(text, "IPC_CALIBRATION is {value:?}.");
    }
    if let Some(note) = &stored.note {
        let _ = writeln!(text, "Note: {note}");
    }
    let mut rows = vec![["queue", "lane", "lengths", "a: ns", "b: ns/B"].map(String::from).to_vec()];
    for lane in &stored.lanes {
        rows.extend(lane.lines.iter().map(|line| {
            let (fixed, per_byte) = (format!("{:.1}", line.fixed_ns), format!("{:.4}", line.per_byte_ns));
            vec![lane.queue.clone(), lane.lane.clone(), lengths(line), fixed, per_byte]
        }));
    }
    text + &columns(&rows, 3)
}

/// How a lane is called in a chart.
pub(super) fn legend(lanes: &Lanes, lane: Lane, line: &[Line]) -> String {
    let of = |line: &Line| format!("{} + {:.4} ns/B", Unit::Nanoseconds.show(line.fixed_ns), line.per_byte_ns);
    let lines: Vec<String> = line.iter().map(of).collect();
    format!("{} queue, {lane}: {}", lanes.of, lines.join("; "))
}
