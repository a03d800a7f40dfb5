//! `ipc ls` as a process: what it sees of connections that live, and of those that do not.

mod common;

use common::{Scratch, eventually, ipc};
use ipc_core::{ConnectOptions, Listener};
use serde_json::Value;
use std::io::Write;

/// What `ipc ls` says of the connections of this test.
fn list(scratch: &Scratch) -> Vec<Value> {
    let listing = ipc(&["ls", "--json"]).exits_with(0).json();
    let segments = listing["segments"].as_array().unwrap();
    segments.iter().filter(|segment| segment["name"] == scratch.name().as_str()).cloned().collect()
}

#[test]
fn a_connection_that_waits_is_shown_with_its_counters_and_gone_with_its_processes() {
    let scratch = Scratch::new();
    let (mut recv, mut send) = (scratch.recv("--lines"), scratch.send("--lines"));
    let mut input = send.stdin();
    input.write_all(b"one\ntwo\nthree\n").unwrap();
    assert_eq!(recv.read(14).len(), 14);
    eventually("the receiver sleeps", || list(&scratch).iter().any(|row| row["to_server"]["consumer_sleeps"] == true));

    let rows = list(&scratch);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    let mut pids: Vec<u64> = row["processes"].as_array().unwrap().iter().filter_map(|p| p["pid"].as_u64()).collect();
    pids.sort_unstable();
    let mut expected = [recv.pid(), send.pid()].map(u64::from);
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert!(row["processes"].as_array().unwrap().iter().all(|process| process["command"] == "ipc"));
    let to_server = &row["to_server"];
    assert_eq!((&to_server["sent"], &to_server["received"]), (&3.into(), &3.into()));
    assert_eq!((&to_server["used"], &to_server["capacity"]), (&0.into(), &(1 << 20).into()));
    assert_eq!(to_server["producer_sleeps"], false);
    assert_eq!((&row["to_client"]["sent"], &row["to_client"]["capacity"]), (&0.into(), &4096.into()));
    let table = String::from_utf8(ipc(&["ls"]).exits_with(0).stdout().to_vec()).unwrap();
    let line = table.lines().find(|line| line.starts_with(&scratch.name())).unwrap();
    assert!(line.contains("1.00 MiB") && line.ends_with("consumer"), "{table}");

    drop(input);
    send.finish(b"").exits_with(0);
    recv.finish(b"").exits_with(0);
    assert!(list(&scratch).is_empty());
}

#[test]
fn what_waits_in_a_ring_is_counted() {
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let options = ConnectOptions::new().capacities(4096, 8192);
    let socket = scratch.socket();
    let client = std::thread::spawn(move || options.connect(socket).unwrap());
    let mut server = listener.accept().unwrap();
    let mut client = client.join().unwrap();
    while client.sender().try_send(&[1; 1000]).is_ok() {}
    server.send(b"x").unwrap();
    let sent = client.sender().sent();

    let rows = list(&scratch);
    assert_eq!(rows.len(), 1, "one process holds both ends: {rows:?}");
    assert_eq!(rows[0]["processes"].as_array().unwrap().len(), 1);
    let (to_server, to_client) = (&rows[0]["to_server"], &rows[0]["to_client"]);
    assert_eq!((&to_server["sent"], &to_server["received"]), (&sent.into(), &0.into()));
    assert!(to_server["fill_percent"].as_f64().unwrap() > 50.0, "{to_server}");
    assert_eq!((&to_client["sent"], &to_client["received"]), (&1.into(), &0.into()));
    assert!((1..=64).contains(&to_client["used"].as_u64().unwrap()), "{to_client}");
}

#[test]
fn memory_that_only_has_the_name_of_a_segment_is_left_out() {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    let scratch = Scratch::new();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create(format!("ipc:{}", scratch.name()), flags).unwrap();
    assert!(list(&scratch).is_empty());
    ftruncate(&memory, 1 << 20).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    assert!(list(&scratch).is_empty());
}
