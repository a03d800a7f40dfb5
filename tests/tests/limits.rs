//! Limits that the system sets to a process: what is beyond them is an error, and the process lives on.

use ipc_core::{ConnectError, ConnectOptions, Refusal};
use ipc_tests::{HangGuard, Peer, Scratch};
use std::path::Path;
use std::time::Duration;

#[test]
fn a_server_that_may_make_no_large_files_refuses_large_rings_and_is_not_killed() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let arguments = [("path", scratch.socket()), ("listen", "true".to_owned())];
    // Beyond this limit the kernel sends SIGXFSZ. Two rings of 4 KiB are below it, those of a client that asks for nothing are not.
    let limit = ["prlimit", "--fsize=100000"];
    let mut server = Peer::start_under(&limit, Path::new(env!("CARGO_BIN_EXE_peer")), "echo", &arguments);
    let options = ConnectOptions::new().wait_for_listener(true).timeout(Duration::from_secs(20));
    let error = options.clone().connect(scratch.socket()).map(drop).unwrap_err();
    assert!(
        matches!(error, ConnectError::Refused { refusal: Refusal::Resources { errno }, .. } if errno == libc::EFBIG as u64),
        "{error}"
    );
    let mut client = options.capacities(4096, 4096).connect(scratch.socket()).unwrap();
    server.expect("connected");
    client.send(b"still here").unwrap();
    assert_eq!(client.recv_timeout(Duration::from_secs(20)).unwrap().to_vec(), b"still here");
    drop(client);
    server.finish();
}
