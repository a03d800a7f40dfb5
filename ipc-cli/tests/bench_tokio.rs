//! `ipc bench tokio` as a process: complete and consistent results, whatever the machine's pace.
#![cfg(feature = "tokio")]

mod common;

use common::ipc;
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Two processes need two processors.
fn has_two_processors() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2)
}

/// One measurement at a time: two that poll would wait for each other's processors.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} is no number: {row}"))
}

#[track_caller]
fn check_spread(row: &Value, names: [&str; 3]) {
    let [least, middle, most] = names.map(|name| number(row, name));
    assert!(0.0 < least && least <= middle && middle <= most, "{names:?} of {row}");
}

#[test]
fn round_trips_and_streams_stand_beside_unix_streams_and_their_targets() {
    if !has_two_processors() {
        return;
    }
    let _turn = turn();
    let report = ipc(&["bench", "tokio", "--rounds", "3", "--effort", "1", "--json"]).exits_with(0).json();
    assert_eq!((report["rounds"].as_u64(), report["processors"].as_array().map(Vec::len)), (Some(3), Some(2)));
    let rows = report["rows"].as_array().unwrap();
    let names =
        |row: &Value| ["case", "wait", "unit", "beside", "of"].map(|name| row[name].as_str().unwrap().to_owned());
    let expected = [
        ["round trip", "asleep", "ns", "UnixStream", "time"],
        ["round trip", "polling", "ns", "UnixStream", "time"],
        ["stream", "asleep", "M/s", "UnixStream", "rate"],
        ["stream", "asleep", "M/s", "UnixStream, buffered", "rate"],
    ];
    assert_eq!(rows.iter().map(names).collect::<Vec<_>>(), expected);
    let targets: Vec<Option<f64>> = rows.iter().map(|row| row["target"].as_f64()).collect();
    assert_eq!(targets, [Some(1.25), None, Some(10.0), None]);
    for row in rows {
        assert_eq!((row["size"].as_u64(), row["rounds"].as_u64()), (Some(64), Some(3)), "{row}");
        check_spread(row, ["min", "ours", "max"]);
        check_spread(row, ["floor_min", "floor", "floor_max"]);
        check_spread(row, ["paired_ratio_min", "paired_ratio", "paired_ratio_max"]);
        let bounds = [number(row, "min") / number(row, "floor_max"), number(row, "max") / number(row, "floor_min")];
        let ratio = number(row, "paired_ratio");
        assert!((bounds[0]..=bounds[1]).contains(&ratio), "a ratio of {ratio} in {row}");
    }
    // The pauses are long enough for both sides to go to sleep, most of the time even on a machine that does other things.
    let asleep = number(&rows[0], "asleep");
    assert!((0.5..=1.0).contains(&asleep), "both sides slept in a share of {asleep}");
    assert!(rows[1..].iter().all(|row| row["asleep"].is_null()), "{report}");
}

#[test]
fn the_report_for_people_names_every_row_and_its_target() {
    if !has_two_processors() {
        return;
    }
    let _turn = turn();
    let finished = ipc(&["bench", "tokio", "--rounds", "1", "--effort", "1"]).exits_with(0);
    let text = String::from_utf8_lossy(finished.stdout());
    for word in ["round trip", "stream", "polling", "buffered", "≤ 1.25", "≥ 10", "M/s", "slept in"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for words in ["bench tokio --rounds 0", "bench tokio --effort 0", "bench tokio --size 64"] {
        ipc(&words.split(' ').collect::<Vec<_>>()).exits_with(2);
    }
}
