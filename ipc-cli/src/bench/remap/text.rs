//! The report of `ipc bench remap` for people: aligned tables, and what the columns mean.
//!
//! Promise: each ratio stands beside the numbers it comes from, and what shares a processor is said. Refusal: nothing is computed
//! here that is not in the report for machines.

use super::super::columns::columns;
use super::super::stats::Summary;
use super::report::{Meaning, Report};
use super::stream::End;
use super::thread::Kind;
use crate::plot::Unit;
use std::fmt::Write as _;

/// The ratio of the longest t to the shortest from which on a reader is warned.
const UNSTEADY: f64 = 1.3;

impl Report {
    /// The report for people.
    pub(super) fn text(&self) -> String {
        let cpus = &self.processors;
        let mut text = self.remap_table() + &self.cost_table() + &self.model_table();
        let side = match self.side {
            End::Receiver => "receiving",
            End::Sender => "sending",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{side} process remaps {}; receiver on processor {}, sender on {}, remapping thread on {}{}\n",
            Unit::Bytes.show(self.bytes as f64),
            cpus.receiver,
            cpus.sender,
            cpus.thread,
            match cpus.thread_shares_with {
                Some(End::Receiver) => ", which it shares with the receiver",
                Some(End::Sender) => ", which it shares with the sender",
                None => ", its own",
            }
        );
        text.push_str(&self.fault_table());
        text
    }

    fn cost_table(&self) -> String {
        let titles = ["c of a remap", "call", "thread", "interrupted", "spread", "loss", "spread", "alone", "spread"];
        let mut rows = vec![titles.map(String::from).to_vec()];
        let ns = |value| Unit::Nanoseconds.show(value);
        let spread = |summary: &Summary| format!("{}..{}", ns(summary.min), ns(summary.max));
        for costs in &self.costs {
            let mut cells = vec![name(costs.kind).into(), ns(costs.call_ns.median), ns(costs.thread_ns.median)];
            for summary in [costs.interrupted_ns.as_ref(), Some(&costs.loss_ns), Some(&costs.alone_ns)] {
                cells.extend([
                    summary.map_or("-".into(), |summary| ns(summary.median)),
                    summary.map_or("-".into(), spread),
                ]);
            }
            rows.push(cells);
        }
        let legend = "call: in munmap or mprotect; thread: all its processor time; interrupted: from another processor that runs \
                      the process;\nloss: from the loss of throughput; alone: from the loss against the control\n\n";
        columns(&rows, 1) + legend
    }

    fn remap_table(&self) -> String {
        let titles = ["remap", "asked", "r", "messages", "spread", "control", "spread", "thread", "control's"];
        let mut rows = vec![titles.map(String::from).to_vec()];
        let spread = |summary: &Summary| format!("{}..{}", per_second(summary.min), per_second(summary.max));
        for row in &self.remaps {
            rows.push(vec![
                name(row.kind).into(),
                row.asked.to_string(),
                per_second(row.remaps_per_second.median),
                per_second(row.messages_per_second.median),
                spread(&row.messages_per_second),
                per_second(row.control_messages_per_second.median),
                spread(&row.control_messages_per_second),
                format!("{:.0} %", row.thread_share.median * 100.0),
                format!("{:.0} %", row.control_thread_share.median * 100.0),
            ]);
        }
        let legend = "control: the thread takes as much processor time at the same rate and remaps nothing; \
                      thread, control's: that processor time\n\n";
        columns(&rows, 1) + legend
    }

    fn model_table(&self) -> String {
        let mut titles = ["model", "r", "c here", "measured"].map(String::from).to_vec();
        for model in self.remaps.iter().take(1).flat_map(|row| &row.models) {
            titles.extend([format!("c {}", meaning(model.c)), "model".into(), "ratio".into(), "spread".into()]);
        }
        let mut rows = vec![titles];
        for row in self.remaps.iter().filter(|row| row.c_loss_ns.is_some()) {
            let mut cells = vec![
                name(row.kind).into(),
                per_second(row.remaps_per_second.median),
                row.c_loss_ns.map_or("-".into(), |c| Unit::Nanoseconds.show(c.median)),
                per_second(row.messages_per_second.median),
            ];
            for model in &row.models {
                let (ratio, spread) = match &model.paired_ratio {
                    Some(ratio) => (format!("{:.2}", ratio.median), format!("{:.2}..{:.2}", ratio.min, ratio.max)),
                    None => ("-".into(), "-".into()),
                };
                let c = Unit::Nanoseconds.show(model.c_ns);
                cells.extend([c, per_second(model.messages_per_second), ratio, spread]);
            }
            rows.push(cells);
        }
        let t = &self.t_ns;
        let [middle, least, most] = [t.median, t.min, t.max].map(|value| Unit::Nanoseconds.show(value));
        let times =
            format!("t = {middle} [{least}..{most}], {} rounds in turns, {} s each", self.rounds, self.run_seconds);
        format!(
            "{}model: (1 − r·c) / t with {times}; ratio: measured / model, round by round;\n\
             c here: from the loss at this rate{}\n\n",
            columns(&rows, 1),
            if t.max > UNSTEADY * t.min {
                "\nthis machine changed its pace meanwhile, or was not left alone: see the spread of t"
            } else {
                ""
            }
        )
    }

    fn fault_table(&self) -> String {
        let titles = ["memory", "size", "before, a page", "first touch", "second touch", "total", "spread", "a byte"];
        let mut rows = vec![titles.map(String::from).to_vec()];
        let mut missing = String::new();
        let ns = |value| Unit::Nanoseconds.show(value);
        for fault in &self.faults {
            let mut cells = vec![fault.way.name().into(), Unit::Bytes.show(fault.bytes as f64)];
            match &fault.cost {
                Some(cost) => cells.extend([
                    ns(cost.prepare_ns_per_page.median),
                    ns(cost.first_touch_ns_per_page.median),
                    ns(cost.second_touch_ns_per_page.median),
                    ns(cost.total_ns_per_page.median),
                    format!("{}..{}", ns(cost.total_ns_per_page.min), ns(cost.total_ns_per_page.max)),
                    ns(cost.total_ns_per_byte),
                ]),
                None => {
                    let (way, size) = (fault.way.name(), Unit::Bytes.show(fault.bytes as f64));
                    let reason = fault.unavailable.as_deref().unwrap_or("not measured");
                    let _ = writeln!(missing, "{way}, {size}: {reason}");
                    continue;
                }
            }
            rows.push(cells);
        }
        format!(
            "{}each 4 KiB page of a fresh memfd; total: before and first touch, less the second touch\n{missing}",
            columns(&rows, 1)
        )
    }
}

fn per_second(value: f64) -> String {
    Unit::PerSecond.show(value)
}

/// What a kind is called in tables.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unrelated => "unrelated memory",
        Kind::Segment => "the segment again",
        Kind::Protect => "mprotect",
    }
}

fn meaning(c: Meaning) -> &'static str {
    match c {
        Meaning::Call => "call",
        Meaning::Thread => "thread",
        Meaning::Interrupted => "interrupted",
        Meaning::Loss => "loss",
    }
}
