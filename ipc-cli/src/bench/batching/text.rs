//! The report of `ipc bench batching` for people: aligned tables, and what the columns mean.
//!
//! Promise: each model stands beside what was measured. Refusal: nothing is computed here that is not in the report for machines.

use super::super::columns::columns;
use super::super::stats::Summary;
use super::report::Report;
use crate::plot::Unit;
use std::fmt::Write as _;

impl Report {
    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = self.cost_table() + &self.wait_table();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "messages of {} bytes; receiver on processor {}, sender on {}; medians of {} rounds, taken in turns",
            self.message_bytes, self.processors.receiver, self.processors.sender, self.rounds
        );
        text
    }

    fn cost_table(&self) -> String {
        let titles = ["lane", "batch", "a message", "spread", "model"];
        let mut rows = vec![titles.map(String::from).to_vec()];
        for costs in &self.costs {
            rows.extend(costs.batches.iter().map(|batch| {
                let (lane, size) = (costs.lane.name().to_owned(), batch.messages.to_string());
                vec![lane, size, ns(batch.ns.median), spread(&batch.ns), ns(batch.model_ns)]
            }));
        }
        let mut text = columns(&rows, 1);
        text.push_str("model: sync / batch + per message, fitted to the lane:");
        for costs in &self.costs {
            let (sync, each) = (ns(costs.sync_ns), ns(costs.per_message_ns));
            let _ = write!(text, " {} {sync} / batch + {each};", costs.lane.name());
        }
        let gain = &self.gain;
        let _ = writeln!(
            text,
            "\nthe ring in batches of {} takes {} a message, the kernel one by one {}: {:.1} times as long ({:.1}..{:.1})\n",
            gain.batch,
            ns(gain.ring_ns),
            ns(gain.kernel_ns),
            gain.ratio.median,
            gain.ratio.min,
            gain.ratio.max
        );
        text
    }

    fn wait_table(&self) -> String {
        let titles = [
            "gap",
            "N",
            "τ",
            "added wait",
            "spread",
            "median",
            "τ/2",
            "paced",
            "plain latency",
            "a sleep",
            "plain",
            "a send",
            "plain",
        ];
        let mut rows = vec![titles.map(String::from).to_vec()];
        for wait in &self.waits {
            let each = |summary: &Summary| format!("{:.1}", summary.median);
            rows.push(vec![
                ns(wait.gap_ns),
                wait.limit.to_string(),
                ns(wait.delay_ns),
                ns(wait.added_ns.median),
                spread(&wait.added_ns),
                ns(wait.added_median_ns.median),
                ns(wait.uniform_model_ns),
                ns(wait.paced_model_ns),
                ns(wait.plain_latency_ns.median),
                each(&wait.messages_per_sleep),
                each(&wait.plain_messages_per_sleep),
                ns(wait.send_ns.median),
                ns(wait.plain_send_ns.median),
            ]);
        }
        let legend = "the doorbell is put off for N messages or τ; added wait: mean latency less that with the doorbell rung at once (plain), and\n\
                      the same of median latencies;\n\
                      τ/2: messages that come evenly over τ; paced: one each gap, of which the first waits the whole τ;\n\
                      a sleep: messages for each time that the receiver slept; a send: what the call took\n\n";
        columns(&rows, 0) + legend
    }
}

fn ns(value: f64) -> String {
    Unit::Nanoseconds.show(value)
}

fn spread(summary: &Summary) -> String {
    format!("{}..{}", ns(summary.min), ns(summary.max))
}
