//! Containers: the two sides live in different user, process, System V, mount and network namespaces and share nothing
//! but a directory.

use ipc_core::{ConnectOptions, Listener, RecvError, SendError};
use ipc_tests::{HangGuard, Language, Pair, Peer, Scratch, Stream, in_each_language, in_each_pair, peer};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// `unshare` and its arguments: a namespace of its own of every kind.
const APART: [&str; 9] =
    ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--ipc", "--mount", "--net"];

/// Starts a peer in namespaces of its own, or says why that cannot be.
fn start_apart(language: Language, role: &str, arguments: &[(&str, String)]) -> Option<Peer> {
    let [program, flags @ ..] = APART;
    let trial = std::process::Command::new(program).args(flags).arg("true").output();
    match trial {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            println!("skipped: unshare is not permitted: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Err(error) => {
            println!("skipped: there is no unshare: {error}");
            return None;
        }
    }
    let program = language.program(Path::new(env!("CARGO_BIN_EXE_peer")));
    Some(Peer::start_under(&APART, &program, role, arguments))
}

fn path_of(scratch: &Scratch) -> Vec<(&'static str, String)> {
    vec![("path", scratch.socket())]
}

fn a_client_in_namespaces_of_its_own_is_served(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let Some(mut peer) = start_apart(language, "echo", &path_of(&scratch)) else { return };
    let mut server = listener.accept_timeout(SOON).unwrap();
    peer.expect("connected");
    exchange(&mut server);
    // Blocked in mid-sleep when the other side dies.
    let waiting = std::thread::spawn(move || server.recv().map(drop).unwrap_err());
    std::thread::sleep(Duration::from_millis(100));
    peer.kill();
    let end = waiting.join().unwrap();
    assert!(matches!(end, RecvError::Disconnected { .. }), "{end}");
}

fn a_server_in_namespaces_of_its_own_serves(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut arguments = path_of(&scratch);
    arguments.push(("listen", "true".to_owned()));
    let Some(mut peer) = start_apart(language, "echo", &arguments) else { return };
    let options = ConnectOptions::new().wait_for_listener(true).timeout(SOON);
    let mut client = options.connect(scratch.socket()).unwrap();
    peer.expect("connected");
    exchange(&mut client);
    // Whom we talk to has a number of its own in there, and another one here.
    assert_ne!(client.peer().credentials().pid, Some(1));
    let process = client.peer().credentials().pid.unwrap();
    // SAFETY: integers only; the process is the peer's child and lives.
    unsafe { libc::kill(process as libc::pid_t, libc::SIGKILL) };
    let end = client.recv().map(drop).unwrap_err();
    assert!(matches!(end, RecvError::Disconnected { .. }), "{end}");
    peer.wait();
    // What it left is found to be stale, from another process namespace too.
    let _next = Listener::bind(scratch.socket()).unwrap();
}

fn a_sender_that_waits_for_room_is_woken_across_namespaces(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ipc_core::ListenOptions::new().capacity(4096).bind(scratch.socket()).unwrap();
    let mut arguments = path_of(&scratch);
    arguments.extend([("seed", "8".to_owned()), ("pause", "200".to_owned()), ("count", "2000".to_owned())]);
    let Some(mut peer) = start_apart(language, "receive", &arguments) else { return };
    let mut server = listener.accept_timeout(SOON).unwrap();
    let (stream, mut message) = (Stream::new(8, server.sender().max_reservation()), Vec::new());
    for number in 0..2000 {
        stream.write(number, &mut message);
        server.send(&message).unwrap();
    }
    assert!(server.sender().sleeps() > 0, "it had to wait");
    peer.expect("received");
    peer.finish();
    let end = loop {
        if let Err(end) = server.send(&[0; 1000]) {
            break end;
        }
    };
    assert!(matches!(end, SendError::Disconnected { .. }), "{end}");
}

/// Messages there and back, after pauses that are long enough to fall asleep in.
fn exchange(connection: &mut ipc_core::Connection) {
    let (stream, mut message) = (Stream::new(7, connection.sender().max_reservation()), Vec::new());
    for number in 0..500 {
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.write(number, &mut message);
        connection.send(&message).unwrap();
        let echo = connection.recv_timeout(SOON).unwrap().to_vec();
        assert!(echo == message, "message {number}");
    }
}

in_each_language!(
    a_client_in_namespaces_of_its_own_is_served,
    a_server_in_namespaces_of_its_own_serves,
    a_sender_that_waits_for_room_is_woken_across_namespaces,
);

/// A client out here and a server in there, each in a process of its own.
fn two_programs_meet_across_namespaces(Pair(server, client): Pair) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut arguments = path_of(&scratch);
    arguments.push(("listen", "true".to_owned()));
    let Some(mut server) = start_apart(server, "echo", &arguments) else { return };
    let mut client = peer!(in client, "ask", path = scratch.socket());
    client.expect("asked");
    client.finish();
    assert_eq!(server.expect("gone"), "500");
    server.finish();
}

in_each_pair!(two_programs_meet_across_namespaces);
