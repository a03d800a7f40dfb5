//! `ipc bench lanes` as a process: complete and consistent results, whatever the machine's pace.

mod common;

use common::{Scratch, ipc};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};

const ROUNDS: u64 = 2;

/// Two processes need two processors.
fn has_two_processors() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2)
}

/// One measurement at a time: two that poll would wait for each other's processors.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn measure(more: &[&str]) -> Value {
    let _turn = turn();
    let rounds = ROUNDS.to_string();
    let words = ["bench", "lanes", "--rounds", &rounds, "--effort", "1", "--json"];
    ipc(&[&words, more].concat()).exits_with(0).json()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn check_summary(summary: &Value, rounds: u64) {
    let [least, middle, most] = ["min", "median", "max"].map(|name| number(&summary[name]));
    assert!(0.0 < least && least <= middle && middle <= most, "{summary}");
    assert_eq!(summary["rounds"], rounds, "{summary}");
}

fn list<'r>(report: &'r Value, name: &str) -> &'r Vec<Value> {
    report[name].as_array().unwrap_or_else(|| panic!("{name} is no list: {report}"))
}

/// Checks what all cases have in common, and that each ratio's medians are those of its subjects.
#[track_caller]
fn check(report: &Value) {
    assert_eq!((report["rounds"].as_u64(), report["wait"].as_str()), (Some(ROUNDS), Some("spin")));
    let figures = list(report, "figures");
    figures.iter().for_each(|figure| check_summary(&figure["ns"], ROUNDS));
    assert!(!list(report, "ratios").is_empty());
    for ratio in list(report, "ratios") {
        check_summary(&ratio["ratio"], ROUNDS);
        for (subject, median) in [("ours", "ours_ns"), ("peer", "peer_ns")] {
            let known = figures.iter().any(|figure| {
                figure["case"] == ratio["case"]
                    && figure["subject"] == ratio[subject]
                    && figure["ns"]["median"] == ratio[median]
            });
            assert!(known, "{ratio}");
        }
    }
    let state = &report["state"];
    assert!(number(&state["line_round_trip_ns"]["median"]) > 0.0 && number(&state["streamed_line_ns"]["median"]) > 0.0);
}

fn targets(report: &Value) -> Vec<Option<f64>> {
    list(report, "ratios").iter().map(|ratio| ratio["target"].as_f64()).collect()
}

#[test]
fn loans_blocks_in_place_and_the_kernel_stand_beside_their_floors() {
    if !has_two_processors() {
        return;
    }
    let report = measure(&["--only", "loan,in-place,kernel", "--size", "65536"]);
    check(&report);
    let count = |case: &str| list(&report, "figures").iter().filter(|figure| figure["case"] == case).count();
    // A message and two loans; three rotations, with a reader that could write and one that could not, and three of ours, made and copied in;
    // both ways of both.
    assert_eq!((count("loan"), count("in-place"), count("kernel")), (3, 18, 4));
    let in_place = [[Some(0.95), None]; 6].concat();
    let expected = [vec![Some(1.3), None, None], in_place, vec![None; 2]].concat();
    assert_eq!(targets(&report), expected);
    let quantities: Vec<&Value> = list(&report, "ratios").iter().map(|ratio| &ratio["of"]).collect();
    assert!(quantities[..3].iter().all(|of| *of == "time") && quantities[3..15].iter().all(|of| *of == "throughput"));
}

#[test]
fn a_copied_message_stands_beside_the_fastest_socket_and_the_fastest_bare_memory() {
    if !has_two_processors() {
        return;
    }
    let report = measure(&["--only", "copied", "--size", "65536"]);
    check(&report);
    assert_eq!(targets(&report), [Some(0.7), None]);
    assert!(list(&report, "ratios")[0]["peer"].as_str().unwrap().starts_with("socket: "), "{report}");
    let report = measure(&["--only", "copied", "--size", "4096"]);
    assert_eq!(targets(&report), [Some(1.0), None]);
    // Against blocking sides no socket polls.
    let _turn = turn();
    let report = ipc(&"bench lanes --only copied --size 4096 --rounds 1 --effort 1 --wait block --json"
        .split(' ')
        .collect::<Vec<_>>())
    .exits_with(0)
    .json();
    assert_eq!(report["wait"], "block");
    let figures = list(&report, "figures");
    assert!(figures.iter().all(|figure| !figure["subject"].as_str().unwrap().contains("poll")), "{report}");
}

#[test]
fn the_choice_of_a_lane_stands_beside_every_lane_that_takes_the_size() {
    if !has_two_processors() {
        return;
    }
    let scratch = Scratch::new();
    let svg = scratch.path("lanes.svg");
    let report = measure(&["--only", "hybrid", "--size", "4096", "--svg", svg.to_str().unwrap()]);
    check(&report);
    let subjects = |case: &str| -> Vec<&str> {
        let own = list(&report, "figures").iter().filter(|figure| figure["case"] == case);
        own.map(|figure| figure["subject"].as_str().unwrap()).collect()
    };
    assert_eq!(subjects("auto"), ["auto", "kernel", "inline", "arena", "fd", "unix socket"]);
    assert_eq!(subjects("hybrid"), ["hybrid", "kernel", "arena", "fd"]);
    // The last one is the kernel's lane beside the arena's, whose costs cross somewhere.
    assert_eq!(targets(&report), [Some(1.05), Some(1.05), None]);
    assert!((list(&report, "ratios")[2]["ours"] == "kernel") && list(&report, "ratios")[2]["peer"] == "arena");
    assert!(list(&report, "ratios").iter().all(|ratio| ratio["peer"] != "unix socket"), "{report}");
    let routers: Vec<&Value> = list(&report, "routers").iter().map(|router| &router["case"]).collect();
    assert_eq!(routers, ["auto", "hybrid"]);
    // One size has no other beside it to cross at.
    assert!(report["crossover"]["measured"].is_null() && report["crossover"].is_object());
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.contains("unix socket"), "{drawn}");
}

#[test]
fn a_size_beyond_the_inline_lane_leaves_that_lane_out() {
    if !has_two_processors() {
        return;
    }
    let report = measure(&["--only", "auto", "--size", "1048576"]);
    check(&report);
    let subjects: Vec<&Value> = list(&report, "figures").iter().map(|figure| &figure["subject"]).collect();
    assert_eq!(subjects, ["auto", "arena", "fd", "unix socket"]);
    assert!(report["crossover"].is_null());
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for words in
        ["bench lanes --only floors", "bench lanes --size 7", "bench lanes --rounds 0", "bench lanes --wait sleep"]
    {
        ipc(&words.split(' ').collect::<Vec<_>>()).exits_with(2);
    }
}
