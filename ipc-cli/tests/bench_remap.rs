//! `ipc bench remap` as a process: complete and consistent results, whatever the machine's pace.

mod common;

use common::{Scratch, ipc};
use serde_json::Value;

const RATES: [&str; 3] = ["0", "200", "max"];
const KINDS: [&str; 3] = ["unrelated", "segment", "protect"];
const ROUNDS: u64 = 2;

/// Two processes need two processors.
fn has_two_processors() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2)
}

fn measure(more: &[&str]) -> Value {
    let (rates, rounds) = (RATES.join(","), ROUNDS.to_string());
    let words = ["bench", "remap", "--rates", &rates, "--rounds", &rounds, "--effort", "2", "--json"];
    ipc(&[&words, more].concat()).exits_with(0).json()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn check_summary(summary: &Value) {
    let [least, middle, most] = ["min", "median", "max"].map(|name| number(&summary[name]));
    assert!(least <= middle && middle <= most, "{summary}");
    assert!(summary["rounds"].as_u64() >= Some(ROUNDS), "{summary}");
}

#[test]
fn every_kind_has_every_rate_with_all_rounds_and_a_model_that_can_be_recomputed() {
    if !has_two_processors() {
        return;
    }
    let scratch = Scratch::new();
    let svg = scratch.path("remaps.svg");
    let report = measure(&["--svg", svg.to_str().unwrap()]);
    check_summary(&report["t_ns"]);
    let t = number(&report["t_ns"]["median"]) / 1e9;

    let rows = report["remaps"].as_array().unwrap();
    let expected = KINDS.iter().flat_map(|kind| RATES.map(|rate| (*kind, rate)));
    let found = rows.iter().map(|row| (row["kind"].as_str().unwrap(), row["asked"].as_str().unwrap()));
    assert!(found.eq(expected), "{rows:?}");
    for row in rows {
        for name in ["remaps_per_second", "messages_per_second", "control_messages_per_second", "thread_share"] {
            check_summary(&row[name]);
        }
        let r = number(&row["remaps_per_second"]["median"]);
        let is_never = row["asked"] == "0";
        assert!(!is_never || r == 0.0, "{row}");
        assert!(r == 0.0 || !row["c_call_ns"].is_null() && !row["c_loss_ns"].is_null(), "{row}");
        assert!(!is_never || row["c_call_ns"].is_null() && row["c_loss_ns"].is_null(), "{row}");
        assert!(!row["models"].as_array().unwrap().is_empty(), "{row}");
        for model in row["models"].as_array().unwrap() {
            let expected = (1.0 - r * number(&model["c_ns"]) / 1e9) / t;
            let printed = number(&model["messages_per_second"]);
            assert!((printed - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{expected}: {model}");
            if printed > 0.0 {
                let ratio = number(&row["messages_per_second"]["median"]) / printed;
                assert!((number(&model["ratio"]) - ratio).abs() <= 1e-9 * ratio, "{ratio}: {model}");
            }
        }
    }
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
}

#[test]
fn each_way_to_get_memory_has_a_cost_or_a_reason() {
    if !has_two_processors() {
        return;
    }
    let report = measure(&["--kinds", "protect", "--side", "sender", "--thread-on", "same"]);
    let shared = &report["processors"];
    assert_eq!(shared["thread_shares_with"], "sender");
    assert_eq!(shared["thread"], shared["sender"]);
    let faults = report["faults"].as_array().unwrap();
    for size in [64 << 10, 1 << 20, 16 << 20] {
        let ways: Vec<&Value> = faults.iter().filter(|fault| fault["bytes"] == size).collect();
        assert_eq!(ways.len(), 7, "{size} bytes");
        for fault in ways {
            match &fault["cost"] {
                Value::Null => {
                    assert!(fault["unavailable"].as_str().is_some_and(|reason| !reason.is_empty()), "{fault}")
                }
                cost => {
                    check_summary(&cost["total_ns_per_page"]);
                    let byte = number(&cost["total_ns_per_page"]["median"]) / 4096.0;
                    assert!((number(&cost["total_ns_per_byte"]) - byte).abs() < 1e-9, "{fault}");
                }
            }
        }
    }
}

#[test]
fn the_comparison_takes_its_arguments_as_before() {
    if !has_two_processors() {
        return;
    }
    let words = ["bench", "throughput", "--size", "64", "--rounds", "1", "--effort", "1", "--json"];
    let cases = ipc(&words).exits_with(0).json();
    assert_eq!(cases.as_array().unwrap().len(), 1);
    assert_eq!(cases[0]["case"], "stream");
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    for words in [
        "bench nonsense",
        "bench latency remap",
        "bench --json remap",
        "bench remap --rates fast",
        "bench remap latency",
    ] {
        ipc(&words.split(' ').collect::<Vec<_>>()).exits_with(2);
    }
}
