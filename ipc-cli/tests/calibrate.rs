//! `ipc calibrate` as a process: figures that follow from one another, and a file that the next process uses.

mod common;

use common::{Finished, Scratch, ipc_with};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Two processes need two processors.
fn has_two_processors() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2)
}

/// A runtime directory of this test's own.
struct Runtime(Scratch);

impl Runtime {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn file(&self) -> PathBuf {
        self.0.path("ipc/calibration")
    }

    /// Runs `ipc calibrate`; an empty variable stands for none.
    fn calibrate_with(&self, variable: &str, words: &[&str]) -> Finished {
        let folder = self.0.path("");
        ipc_with(
            &[&["calibrate", "--json"], words].concat(),
            &[("XDG_RUNTIME_DIR", folder.to_str().unwrap()), ("IPC_CALIBRATION", variable)],
        )
    }

    fn calibrate(&self, words: &[&str]) -> Value {
        self.calibrate_with("", words).exits_with(0).json()
    }

    fn show(&self, variable: &str) -> Value {
        self.calibrate_with(variable, &["--show"]).exits_with(0).json()
    }
}

const QUICK: [&str; 3] = ["--quick", "--rounds", "3"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn cost(line: &Value) -> (f64, f64) {
    (number(&line["fixed_ns"]), number(&line["per_byte_ns"]))
}

#[track_caller]
fn is_near(one: f64, other: f64) {
    assert!((one - other).abs() <= 1e-6 * other.abs().max(1.0), "{one} is not {other}");
}

/// What the printed lines say of a message.
fn at(lane: &Value, bytes: f64) -> f64 {
    let line = list(lane, "lines").iter().rfind(|line| number(&line["from"]) <= bytes).unwrap();
    let (a, b) = cost(line);
    a + b * bytes
}

#[test]
fn every_crossing_can_be_recomputed_from_the_lines_that_are_printed() {
    if !has_two_processors() {
        return;
    }
    let runtime = Runtime::new();
    let svg = runtime.0.path("chart.svg");
    let report = runtime.calibrate(&[&QUICK[..], &["--svg", svg.to_str().unwrap()]].concat());

    let counts = &report["conditions"][0];
    assert_eq!((&counts["pinned"], &counts["wait"]), (&Value::from(true), &Value::from("poll")));
    for (queue, lanes) in list(counts, "queues").iter().zip([4, 3]) {
        let found = list(queue, "lanes");
        assert_eq!(found.len(), lanes, "{queue}");
        assert_eq!(list(queue, "pairs").len(), lanes * (lanes - 1) / 2);
        for lane in found {
            let points = list(lane, "points");
            assert!(points.len() >= 8, "{lane}");
            assert_eq!(points[0]["bytes"], 8);
            let mut errors: Vec<f64> = points
                .iter()
                .map(|point| {
                    let (is, said) = (number(&point["ns"]), at(lane, number(&point["bytes"])));
                    assert!(number(&point["min_ns"]) <= is && is <= number(&point["max_ns"]), "{point}");
                    (is - said).abs() / is.max(said)
                })
                .collect();
            errors.sort_by(f64::total_cmp);
            assert!((errors[errors.len() - 1] - number(&lane["residual_max"])).abs() < 1e-6, "{lane}");
        }
        for pair in list(queue, "pairs") {
            for crossing in list(pair, "crossings") {
                let ((a1, b1), (a2, b2)) = (cost(&crossing["first"]), cost(&crossing["second"]));
                is_near(number(&crossing["bytes"]), (a2 - a1) / (b1 - b2));
            }
        }
    }
    // On a machine that does other things meanwhile the lines of Hybrid may not cross.
    let hybrid = &report["hybrid"];
    if !hybrid.is_null() {
        let ((a_q, b_q), (a_s, b_s)) = (cost(&hybrid["queue"]), cost(&hybrid["shared"]));
        let threshold = (a_s + number(&hybrid["notice_ns"]) - a_q) / (b_q - b_s);
        is_near(number(&hybrid["threshold_bytes"]), threshold);
        if hybrid["queue"]["from"] == 0 {
            is_near(threshold, (a_s + b_q * number(&hybrid["notice_bytes"])) / (b_q - b_s));
        }
        let check = &report["check"];
        assert!(list(check, "sizes").len() > 4, "{check}");
        if let Some(measured) = check["measured_bytes"].as_f64() {
            let is_within = (0.5..=2.0).contains(&(measured / threshold));
            assert_eq!(check["is_within_power_of_two"], is_within, "{check}");
        }
    }
    assert!(fs::read_to_string(svg).unwrap().contains("inline"));
}

#[test]
fn the_next_process_uses_what_was_kept() {
    if !has_two_processors() {
        return;
    }
    let runtime = Runtime::new();
    let before = runtime.show("");
    assert_eq!((&before["origin"], &before["may_measure"]), (&Value::from("defaults"), &Value::from(true)));
    assert!(before["note"].as_str().unwrap().contains("does not exist"), "{before}");

    let report = runtime.calibrate(&QUICK);
    assert_eq!(report["stored"], runtime.file().to_str().unwrap());
    assert_eq!(fs::metadata(runtime.file()).unwrap().permissions().mode() & 0o7777, 0o600);

    let after = runtime.show("");
    assert_eq!((&after["origin"], &after["note"]), (&Value::from("full"), &Value::Null));
    let printed = list(&report["conditions"][0], "queues").iter().flat_map(|queue| list(queue, "lanes"));
    for (kept, printed) in list(&after, "lanes").iter().zip(printed) {
        assert_eq!((&kept["lane"], &kept["lines"]), (&printed["lane"], &printed["lines"]));
    }
    assert_eq!(runtime.show("defaults")["origin"], "defaults");
}

#[test]
fn nothing_is_kept_if_the_user_says_so() {
    if !has_two_processors() {
        return;
    }
    let runtime = Runtime::new();
    let report = runtime.calibrate(&[&QUICK[..], &["--no-store"]].concat());
    assert_eq!(report["stored"], Value::Null);
    assert!(!runtime.file().exists());
}

#[test]
fn a_file_that_was_damaged_is_ignored_with_a_reason() {
    let runtime = Runtime::new();
    fs::create_dir(runtime.0.path("ipc")).unwrap();
    let mode = |name: &str, mode| {
        fs::set_permissions(runtime.0.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("ipc", 0o700);
    fs::write(runtime.file(), "ipc-calibration 1\nlayout soft\n").unwrap();
    mode("ipc/calibration", 0o600);
    let note = |shown: Value| {
        assert_eq!(shown["origin"], "defaults");
        shown["note"].as_str().unwrap().to_owned()
    };
    assert!(note(runtime.show("")).contains("line 2: layout is \"soft\""));
    mode("ipc/calibration", 0o666);
    assert!(note(runtime.show("")).contains("has mode 0666"));
    mode("ipc", 0o777);
    assert!(note(runtime.show("")).contains("has mode 0777"));
    assert!(note(runtime.show("fast")).contains("IPC_CALIBRATION is \"fast\"; allowed: off, defaults"));
    assert!(note(runtime.show("/nowhere/at/all")).contains("/nowhere/at/all"));
}
