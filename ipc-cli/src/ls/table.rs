//! The list for people.
//!
//! Promise: one connection is one block of lines; columns are as wide as their widest cell. Refusal: numbers are not rounded, apart
//! from percentages.

use super::{Ring, Row};
use indicatif::{BinaryBytes, HumanCount};
use std::fmt;

/// Some connections, in columns.
pub(super) struct Table<'r>(pub(super) &'r [Row]);

const TITLES: [&str; 9] = ["NAME", "PROCESSES", "MEMORY", "DIRECTION", "RING", "FILL", "SENT", "RECEIVED", "SLEEPS"];
/// Columns of numbers, which stand at the right.
const NUMBERS: [bool; TITLES.len()] = [false, false, true, false, true, true, true, true, false];

type Line = [String; TITLES.len()];

impl Table<'_> {
    fn lines(&self) -> Vec<Line> {
        let mut lines = vec![TITLES.map(String::from)];
        for row in self.0 {
            let mut head = [row.name.clone(), processes(row), BinaryBytes(row.size).to_string()];
            for (direction, ring) in [("to server", &row.to_server), ("to client", &row.to_client)] {
                let [name, processes, size] = std::mem::take(&mut head);
                let [ring, fill, sent, received, sleeps] = match ring {
                    Some(ring) => cells(ring),
                    // Made by a program with another layout of the memory.
                    None => ["unknown", "?", "?", "?", "?"].map(String::from),
                };
                lines.push([name, processes, size, direction.into(), ring, fill, sent, received, sleeps]);
            }
        }
        lines
    }
}

fn processes(row: &Row) -> String {
    let mut text = String::new();
    for process in &row.processes {
        let comma = if text.is_empty() { "" } else { ", " };
        text.push_str(&format!("{comma}{} {}", process.pid, process.command));
    }
    text
}

fn cells(ring: &Ring) -> [String; 5] {
    let sleeps = match (ring.producer_sleeps, ring.consumer_sleeps) {
        (false, false) => "-",
        (true, false) => "producer",
        (false, true) => "consumer",
        (true, true) => "both",
    };
    [
        BinaryBytes(ring.capacity).to_string(),
        format!("{:.0} %", ring.fill_percent),
        HumanCount(ring.sent).to_string(),
        HumanCount(ring.received).to_string(),
        sleeps.into(),
    ]
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let mut widths = [0; TITLES.len()];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in lines {
            let mut text = String::new();
            for ((cell, width), number) in line.iter().zip(widths).zip(NUMBERS) {
                let cell = if number { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
                text.push_str(&cell);
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}
