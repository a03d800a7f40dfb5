//! Death on every lane: `kill -9` at any moment of a mix of all lanes, on either side, loses no committed message, shows none that was
//! half written, and leaves the survivor's arena empty.
//!
//! `IPC_KILL_ROUNDS` sets the number of rounds for each mode and side; see `ci/kill.sh`.

use ipc_tests::shared::Counters;
use ipc_tests::{HangGuard, Pair, Scratch, in_each_pair, peer};
use std::time::{Duration, Instant};

/// Lets a process of its own survive many victims, so that its descriptors and mappings are its own.
fn survive(pair: Pair, role: &str, mode: &str) {
    let rounds: u64 = std::env::var("IPC_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let rounds = pair.share(rounds, 4);
    let patience = 100 + rounds / 5;
    let _guard = HangGuard::new(patience);
    let scratch = Scratch::new();
    let (path, counters) = (scratch.socket(), Counters::new());
    let log = counters.path();
    let seed = std::env::var("IPC_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        time.expect("after 1970").as_nanos() as u64
    });
    println!("{role}, {mode}, {pair:?}: IPC_SEED={seed}");
    let victim = pair.1.program(env!("CARGO_BIN_EXE_peer").as_ref());
    let mut peer = peer!(
        in pair.0,
        role,
        victim = victim.display(),
        path = path,
        log = log,
        rounds = rounds,
        mode = mode,
        seed = seed,
        alarm = patience,
    );
    let start = Instant::now();
    let status = loop {
        match peer.next_line(Duration::from_secs(patience)) {
            Some(line) => println!("{role}, {mode}, {:.0} s: {line}", start.elapsed().as_secs_f64()),
            None => break peer.wait(),
        }
    };
    assert!(status.success(), "{role}, {mode}: {status}");
}

fn what_a_killed_sender_had_committed_arrives_on_all_lanes(pair: Pair) {
    survive(pair, "lanes-survive-sender", "auto");
}

fn what_a_killed_sender_had_committed_arrives_without_the_kernels_lane(pair: Pair) {
    survive(pair, "lanes-survive-sender", "shared");
}

fn what_a_killed_sender_had_committed_arrives_with_the_queue_in_the_socket(pair: Pair) {
    survive(pair, "lanes-survive-sender", "hybrid");
}

fn what_a_killed_sender_had_committed_arrives_without_shared_memory(pair: Pair) {
    survive(pair, "lanes-survive-sender", "kernel");
}

fn what_a_killed_receiver_had_not_consumed_is_taken_back_from_all_lanes(pair: Pair) {
    survive(pair, "lanes-survive-receiver", "auto");
}

fn what_a_killed_receiver_had_not_consumed_is_taken_back_without_the_kernels_lane(pair: Pair) {
    survive(pair, "lanes-survive-receiver", "shared");
}

fn what_a_killed_receiver_had_not_consumed_is_taken_back_with_the_queue_in_the_socket(pair: Pair) {
    survive(pair, "lanes-survive-receiver", "hybrid");
}

fn what_a_killed_receiver_had_not_consumed_is_taken_back_without_shared_memory(pair: Pair) {
    survive(pair, "lanes-survive-receiver", "kernel");
}

in_each_pair!(
    what_a_killed_sender_had_committed_arrives_on_all_lanes,
    what_a_killed_sender_had_committed_arrives_without_the_kernels_lane,
    what_a_killed_sender_had_committed_arrives_with_the_queue_in_the_socket,
    what_a_killed_sender_had_committed_arrives_without_shared_memory,
    what_a_killed_receiver_had_not_consumed_is_taken_back_from_all_lanes,
    what_a_killed_receiver_had_not_consumed_is_taken_back_without_the_kernels_lane,
    what_a_killed_receiver_had_not_consumed_is_taken_back_with_the_queue_in_the_socket,
    what_a_killed_receiver_had_not_consumed_is_taken_back_without_shared_memory,
);
