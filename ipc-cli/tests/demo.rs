//! `ipc demo` as a process.

mod common;

use common::ipc;

#[test]
fn the_demonstration_checks_everything_and_says_so() {
    let demo = ipc(&["demo", "--messages", "2000"]).exits_with(0);
    let text = String::from_utf8(demo.stdout().to_vec()).unwrap();
    assert!(text.contains("All 10,000 messages"), "{text}");
    assert!(text.contains("once, in order and unchanged"), "{text}");
}

#[test]
fn the_demonstration_ends_when_its_time_is_over() {
    let demo = ipc(&["demo", "--seconds", "0.2", "--json"]).exits_with(0).json();
    assert!(demo["there_and_back"]["seconds"].as_f64().unwrap() < 5.0);
}

#[test]
fn the_results_are_json() {
    let demo = ipc(&["demo", "--messages", "600", "--json"]).exits_with(0).json();
    assert_eq!(demo["verified"], true);
    for stream in demo["one_way"].as_array().unwrap() {
        assert_eq!(stream["messages"], 600);
        assert!(stream["messages_per_second"].as_f64().unwrap() > 0.0);
    }
    let trips = &demo["there_and_back"];
    assert_eq!(trips["round_trips"], 600);
    assert!(trips["p50_ns"].as_u64().unwrap() <= trips["max_ns"].as_u64().unwrap());
}
