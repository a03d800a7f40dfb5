//! `ipc bench batching` as a process: complete and consistent results, whatever the machine's pace.

mod common;

use common::{Scratch, ipc};
use serde_json::Value;

const ROUNDS: u64 = 2;

/// Two processes need two processors.
fn has_two_processors() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn check_summary(summary: &Value) {
    let [least, middle, most] = ["min", "median", "max"].map(|name| number(&summary[name]));
    assert!(least <= middle && middle <= most, "{summary}");
    assert_eq!(summary["rounds"].as_u64(), Some(ROUNDS), "{summary}");
}

#[test]
fn every_batch_and_every_delay_has_all_rounds_and_models_that_can_be_recomputed() {
    if !has_two_processors() {
        return;
    }
    let scratch = Scratch::new();
    let charts = ["costs.svg", "waits.svg"].map(|name| scratch.path(name));
    let [costs, waits] = charts.each_ref().map(|path| path.to_str().unwrap());
    let rounds = ROUNDS.to_string();
    let report = ipc(&[
        "bench",
        "batching",
        "--batches",
        "4,64",
        "--gaps",
        "50,400",
        "--delays",
        "200",
        "--limits",
        "3,1000",
        "--rounds",
        &rounds,
        "--effort",
        "5",
        "--json",
        "--svg",
        costs,
        "--wait-svg",
        waits,
    ])
    .exits_with(0)
    .json();

    let lanes = report["costs"].as_array().unwrap();
    assert_eq!(lanes.iter().map(|costs| costs["lane"].as_str().unwrap()).collect::<Vec<_>>(), ["kernel", "ring"]);
    for costs in lanes {
        let batches = costs["batches"].as_array().unwrap();
        // 1 and 20 are always there.
        let sizes: Vec<_> = batches.iter().map(|batch| batch["messages"].as_u64().unwrap()).collect();
        assert_eq!(sizes, [1, 4, 20, 64]);
        let (sync, each) = (number(&costs["sync_ns"]), number(&costs["per_message_ns"]));
        assert!(sync >= 0.0 && each >= 0.0, "{costs}");
        for batch in batches {
            check_summary(&batch["ns"]);
            assert!(number(&batch["ns"]["min"]) > 0.0, "{batch}");
            let model = sync / number(&batch["messages"]) + each;
            assert!((number(&batch["model_ns"]) - model).abs() <= 1e-9 * model, "{model}: {batch}");
        }
    }
    let gain = &report["gain"];
    check_summary(&gain["ratio"]);
    assert_eq!(gain["batch"], 20);
    assert_eq!(gain["kernel_ns"], lanes[0]["batches"][0]["ns"]["median"]);
    assert_eq!(gain["ring_ns"], lanes[1]["batches"][2]["ns"]["median"]);

    let waits = report["waits"].as_array().unwrap();
    let cases = waits.iter().map(|wait| [&wait["gap_ns"], &wait["limit"], &wait["delay_ns"]].map(number));
    let expected = [[50e3, 3.0, 200e3], [50e3, 1000.0, 200e3], [400e3, 3.0, 200e3], [400e3, 1000.0, 200e3]];
    assert_eq!(cases.collect::<Vec<_>>(), expected);
    // At 0, 50 and 100 µs; at 0 to 200 µs; alone.
    let models = waits.iter().map(|wait| number(&wait["paced_model_ns"]));
    assert_eq!(models.collect::<Vec<_>>(), [50e3, 100e3, 200e3, 200e3]);
    for wait in waits {
        for name in [
            "latency_ns",
            "plain_latency_ns",
            "added_ns",
            "added_median_ns",
            "messages_per_sleep",
            "send_ns",
            "plain_send_ns",
        ] {
            check_summary(&wait[name]);
        }
        assert_eq!(number(&wait["uniform_model_ns"]), 100e3);
        // However slow the machine is: a lone message waits for the timer.
        let alone = number(&wait["gap_ns"]) > 200e3;
        assert!(!alone || number(&wait["latency_ns"]["min"]) >= 100e3, "{wait}");
    }
    for chart in charts {
        let drawn = std::fs::read_to_string(chart).unwrap();
        assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
    }
}

#[test]
fn the_table_for_people_names_the_models() {
    if !has_two_processors() {
        return;
    }
    let words = "bench batching --batches 2 --gaps 200 --delays 100 --limits 9 --rounds 1 --effort 1";
    let finished = ipc(&words.split(' ').collect::<Vec<_>>()).exits_with(0);
    let text = String::from_utf8_lossy(finished.stdout());
    for part in ["sync / batch + per message", "τ/2", "paced", "times as long", "medians of 1 rounds"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for words in ["--batches 0", "--batches 5000", "--gaps 0", "--delays x", "--limits 1", "--rounds 0", "throughput"] {
        let words = format!("bench batching {words}");
        ipc(&words.split(' ').collect::<Vec<_>>()).exits_with(2);
    }
}
