//! The examples in C, C++ and Python with each other and with their Rust sides, as they are, then under sanitizers and
//! valgrind.
//!
//! Promise: each is run as its reader would run it, and what it prints is checked. Refusal: how fast they are is printed,
//! and judged by nobody.

mod build;
mod program;

use build::Way::{Plain, Sanitized};
use build::{Way, compiled, examples, rust};
use ipc_core::{ConnectError, ConnectOptions, PayloadType};
use ipc_tests::{HangGuard, Random, Scratch};
use program::Program;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Begins a test that may take so many seconds once everything is built.
fn started(seconds: u64) -> HangGuard {
    build::artifacts();
    HangGuard::new(seconds)
}

/// Waits until somebody listens.
fn wait_for(path: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !Path::new(path).exists() {
        assert!(Instant::now() < until, "nobody listens at {path}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs both to their end.
fn pair(mut one: Program, mut other: Program) -> (String, String) {
    let text = other.succeed();
    (one.succeed(), text)
}

/// `ping_pong` in a language.
fn ping_pong(language: &str, side: &str, path: &str, way: Way) -> Program {
    match language {
        "C" => Program::start(compiled("ping_pong.c", way), &[side, path]),
        "C++" => Program::start(compiled("ping_pong.cpp", way), &[side, path]),
        "Rust" => Program::start(rust("ping_pong"), &[side, path]),
        _ => Program::start_as(python("ping_pong.py").args([side, path])),
    }
}

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(examples().join("python").join(script)).env("IPC_LIBRARY", build::artifacts().join("libipc.so"));
    command
}

#[test]
fn publishing_takes_less_than_25_lines() {
    let source = std::fs::read_to_string(examples().join("publish.c")).unwrap();
    assert!(source.lines().count() < 25, "{} lines", source.lines().count());
    let readme = std::fs::read_to_string(examples().join("README.md")).unwrap();
    assert!(readme.contains(&format!("in {} lines", source.lines().count())));
}

#[test]
fn the_readme_builds_every_example() {
    let _guard = started(300);
    let scratch = Scratch::new();
    let readme = std::fs::read_to_string(examples().join("README.md")).unwrap();
    let commands: Vec<_> =
        readme.lines().filter(|line| line.starts_with("    cc ") || line.starts_with("    c++ ")).collect();
    for entry in std::fs::read_dir(examples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".c") || name.ends_with(".cpp") {
            assert!(commands.iter().any(|line| line.contains(&format!("c-examples/{name} "))), "{name} is not built");
            assert!(readme.contains(&format!("({name})")), "{name} is not described");
        }
    }
    for line in commands {
        let here = line.replace("target/release", &build::artifacts().to_string_lossy());
        let here = here.replace(" -o ", &format!(" -o {}/", scratch.path().display()));
        Program::start_as(Command::new("sh").arg("-c").arg(here).current_dir(build::root())).succeed();
    }
}

fn published_text_is_printed(way: Way) {
    let scratch = Scratch::new();
    let mut receiver = Program::start(compiled("receive.c", way), &[&scratch.socket(), "3"]);
    wait_for(&scratch.socket());
    for text in ["21.5 degrees", "", "22 degrees"] {
        assert_eq!(Program::start(compiled("publish.c", way), &[&scratch.socket(), text]).succeed(), "");
    }
    assert_eq!(receiver.succeed(), "21.5 degrees\n\n22 degrees\n");
    let (status, text) = Program::start(compiled("publish.c", way), &[&scratch.socket(), "to nobody"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(text.starts_with("publish: nobody listens"), "{text}");
}

#[test]
fn what_is_published_is_printed() {
    let _guard = started(300);
    published_text_is_printed(Plain);
}

#[test]
fn ping_pong_is_played_between_all_languages() {
    let _guard = started(600);
    for server in ["C", "C++", "Rust", "Python"] {
        for client in ["C", "C++", "Rust", "Python"] {
            let scratch = Scratch::new();
            let waiting = ping_pong(server, "server", &scratch.socket(), Plain);
            let (_, text) = pair(waiting, ping_pong(client, "client", &scratch.socket(), Plain));
            assert!(text.starts_with("10000 round trips, "), "{server} and {client}: {text}");
            print!("{server} and {client}: {text}");
        }
    }
}

fn files_arrive(lengths: &[usize], way: Way) {
    let mut random = Random::new(11);
    for &length in lengths {
        let scratch = Scratch::new();
        let (original, copy) = (scratch.file("original"), scratch.file("copy"));
        let bytes: Vec<_> = (0..length).map(|_| random.next_u64() as u8).collect();
        std::fs::write(&original, &bytes).unwrap();
        let receiver = Program::start(compiled("stream.c", way), &["receive", &copy, &scratch.socket()]);
        let sender = Program::start(compiled("stream.c", way), &["send", &original, &scratch.socket()]);
        let (received, sent) = pair(receiver, sender);
        assert_eq!(sent, format!("sent {length} bytes: all there\n"));
        assert!(received.starts_with(&format!("received {length} bytes, checksum ")), "{received}");
        assert!(std::fs::read(&copy).unwrap() == bytes);
    }
}

#[test]
fn a_file_of_any_length_arrives() {
    let _guard = started(300);
    files_arrive(&[0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 40_000_000], Plain);
}

#[test]
fn a_file_that_is_not_what_was_sent_is_noticed() {
    let _guard = started(300);
    let scratch = Scratch::new();
    let receive = |text: &str, patience: &[&[u8]]| {
        let mut receiver =
            Program::start(compiled("stream.c", Plain), &["receive", &scratch.file("copy"), &scratch.socket()]);
        let options = ConnectOptions::new().wait_for_listener(true).timeout(Duration::from_secs(20));
        let mut sender = options.connect(scratch.socket()).unwrap();
        patience.iter().for_each(|message| sender.send(message).unwrap());
        drop(sender);
        let (status, said) = receiver.end();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(text), "{said}");
    };
    // A checksum that is not that of the bytes, a trailer that is none, and an end in the middle.
    receive("did not arrive as it was sent", &[b"bytes", b"", &[0; 16]]);
    receive("did not arrive as it was sent", &[b"bytes", b"", b"short"]);
    receive("the peer has closed", &[b"bytes"]);
}

#[test]
fn frames_from_cpp_are_seen_in_rust_where_they_were_drawn() {
    let _guard = started(300);
    let scratch = Scratch::new();
    let viewer = Program::start(rust("frames"), &[&scratch.socket()]);
    let (seen, _) = pair(viewer, Program::start(compiled("frames.cpp", Plain), &[&scratch.socket(), "30"]));
    let expected: String = (1..30).map(|number| format!("frame {number}, in arena: 1600 pixels moved\n")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_camera_with_other_frames_is_refused() {
    let _guard = started(300);
    let scratch = Scratch::new();
    let _viewer = Program::start(rust("frames"), &[&scratch.socket()]);
    let payload = PayloadType::named("example/frame", 1_228_808, 8).unwrap();
    let options = ConnectOptions::new().wait_for_listener(true).payload_type(payload);
    let error = options.connect(scratch.socket()).map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("1228816"), "{error}");
}

fn many_clients_are_served_on_one_thread(publishers: usize, way: Way) {
    let scratch = Scratch::new();
    let path = scratch.socket();
    let mut server = Program::start(compiled("epoll.c", way), &[&path, &(publishers + 1).to_string()]);
    wait_for(&path);
    // One that is there all the time, and silent now and then for longer than anybody polls.
    let own = std::process::id();
    let slow = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut client = ipc_core::connect(path).unwrap();
            for number in 0..50 {
                client.send(format!("number {number}").as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(if number % 10 == 0 { 20 } else { 0 }));
            }
            // All of them are taken while it is still there.
            let until = Instant::now() + Duration::from_secs(20);
            while !client.undelivered().unwrap().is_empty() {
                assert!(Instant::now() < until, "a client that stays is not served");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let text = |number: usize| format!("word {number}");
    let start = |number| Program::start(compiled("publish.c", way), &[&path, &text(number)]);
    let mut started: Vec<_> = (0..publishers).map(start).collect();
    let ids: Vec<_> = started.iter().map(Program::id).collect();
    started.iter_mut().for_each(|publisher| drop(publisher.succeed()));
    slow.join().unwrap();
    let said = server.succeed();
    for (number, id) in ids.into_iter().enumerate() {
        let expected = format!("process {id}: {}", text(number));
        assert_eq!(said.lines().filter(|line| *line == expected).count(), 1, "{expected} in\n{said}");
    }
    let of_slow: Vec<_> = said.lines().filter_map(|line| line.strip_prefix(&format!("process {own}: "))).collect();
    let expected =
        (0..50).map(|number| format!("number {number}")).chain(["the peer has closed the connection".to_owned()]);
    assert_eq!(of_slow, expected.collect::<Vec<_>>());
}

#[test]
fn an_event_loop_serves_many_clients() {
    let _guard = started(300);
    many_clients_are_served_on_one_thread(30, Plain);
}

/// The lengths of the messages and the lanes that were printed for them, behind the route.
fn lanes(text: &str) -> (String, Vec<(u64, String)>) {
    let (route, rest) = text.split_once('\n').expect("the route has a line of its own");
    let lanes = rest.lines().map(|line| line.trim().split_once(" bytes: ").expect("a length and a lane"));
    (route.to_owned(), lanes.map(|(len, lane)| (len.parse().expect("a number"), lane.to_owned())).collect())
}

fn lanes_are_printed(way: Way) {
    let scratch = Scratch::new();
    let lengths: Vec<u64> = (0..11).map(|step| 16 << (2 * step)).collect();
    let mut hybrid = Program::start(compiled("hybrid.c", way), &[&scratch.socket(), "1000"]);
    let (route, found) = lanes(&hybrid.succeed());
    assert!(route.starts_with("kernel up to 1000 B, then arena up to "), "{route}");
    let lane = |len: u64| if len <= 1000 { "kernel" } else { "arena" };
    assert_eq!(found, lengths.iter().map(|&len| (len, lane(len).to_owned())).collect::<Vec<_>>());

    let (route, found) = lanes(&Program::start(compiled("hybrid.c", way), &[&scratch.socket()]).succeed());
    assert!(route.starts_with("kernel up to ") && route.contains("then arena up to "), "{route}");
    assert_eq!(found.iter().map(|(len, _)| *len).collect::<Vec<_>>(), lengths);
    assert_eq!((found[0].1.as_str(), found[10].1.as_str()), ("kernel", "arena"));
}

#[test]
fn hybrid_says_which_lane_each_length_took() {
    let _guard = started(300);
    lanes_are_printed(Plain);
}

#[test]
fn a_hostile_c_peer_ends_its_own_connection_and_nothing_else() {
    let _guard = started(300);
    let scratch = Scratch::new();
    let mut survivor = Program::start(rust("survivor"), &[&scratch.socket(), "6"]);
    wait_for(&scratch.socket());
    for (attack, said) in [
        ("record", ""),
        ("descriptor", ""),
        ("scribble", ""),
        ("hello", "the server answers with 168 bytes\n"),
        ("packets", "sent 300 packets of nonsense\n"),
        ("silence", ""),
    ] {
        assert_eq!(Program::start(compiled("hostile.c", Plain), &[attack, &scratch.socket()]).succeed(), said);
    }
    // Who is honest is served as if nothing had been.
    ping_pong("C", "client", &scratch.socket(), Plain).succeed();
    let said = survivor.succeed();
    let complaint = |client: usize| said.lines().nth(client).unwrap_or_default();
    assert!(complaint(1).starts_with("client 1: the peer broke the protocol: record length is 268435455"), "{said}");
    assert!(complaint(2).starts_with("client 2: the peer broke the protocol: number of a region is 200"), "{said}");
    assert!(complaint(3).starts_with("client 3: the peer "), "{said}");
    assert!(complaint(4).starts_with("client 4: the peer "), "{said}");
    assert!(complaint(5).starts_with("client 5: the peer died"), "{said}");
    assert!(complaint(6).starts_with("client 6: the peer has closed; 10000 messages"), "{said}");
    assert_eq!(complaint(7), "survived, 1 turned away");
}

fn stencil(language: &str, half: &str, path: &str, way: Way) -> Program {
    let program = if language == "C" { compiled("stencil.c", way) } else { rust("stencil") };
    Program::start(program, &[half, path])
}

fn halves_make_a_whole(top: &str, bottom: &str, way: Way) {
    let scratch = Scratch::new();
    let (one, other) =
        pair(stencil(top, "top", &scratch.socket(), way), stencil(bottom, "bottom", &scratch.socket(), way));
    for text in [&one, &other] {
        assert!(text.ends_with(", equal to those of a single process\n"), "{text}");
        print!("{text}");
    }
}

#[test]
fn a_stencil_on_two_processes_is_equal_to_that_of_one() {
    let _guard = started(300);
    for (top, bottom) in [("C", "C"), ("C", "Rust"), ("Rust", "C")] {
        halves_make_a_whole(top, bottom, Plain);
    }
}

#[test]
fn two_containers_meet_in_a_folder() {
    let _guard = started(300);
    let (c, rust) = (compiled("ping_pong.c", Plain), rust("ping_pong"));
    for (server, client) in [(&c, &rust), (&rust, &c)] {
        let (status, text) =
            Program::start_as(Command::new(examples().join("namespaces.sh")).args([server, client])).end();
        if status.code() == Some(77) {
            print!("{text}");
            return;
        }
        assert!(status.success() && text.starts_with("10000 round trips, "), "{status}: {text}");
    }
}

#[test]
fn python_keeps_what_it_promises() {
    let _guard = started(300);
    let said = Program::start_as(&mut python("test_ipc.py")).succeed();
    assert!(said.trim_end().ends_with("OK"), "{said}");
}

#[test]
fn sanitizers_find_nothing() {
    let _guard = started(600);
    published_text_is_printed(Sanitized);
    files_arrive(&[0, 3_000_000], Sanitized);
    many_clients_are_served_on_one_thread(5, Sanitized);
    lanes_are_printed(Sanitized);
    halves_make_a_whole("C", "C", Sanitized);
    for (server, client) in [("C", "C++"), ("C++", "C")] {
        let scratch = Scratch::new();
        let waiting = ping_pong(server, "server", &scratch.socket(), Sanitized);
        pair(waiting, ping_pong(client, "client", &scratch.socket(), Sanitized));
    }
    let scratch = Scratch::new();
    let viewer = Program::start(rust("frames"), &[&scratch.socket()]);
    pair(viewer, Program::start(compiled("frames.cpp", Sanitized), &[&scratch.socket(), "3"]));
}

/// A program under valgrind, which makes it fail for what it finds, leaks included.
fn watched(program: PathBuf, arguments: &[&str]) -> Program {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    Program::start_as(valgrind.arg(program).args(arguments))
}

#[test]
fn valgrind_finds_nothing() {
    let _guard = started(600);
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind");
        return;
    }
    let scratch = Scratch::new();
    let path = &scratch.socket();
    let receiver = watched(compiled("receive.c", Plain), &[path, "1"]);
    wait_for(path);
    assert_eq!(pair(receiver, watched(compiled("publish.c", Plain), &[path, "hello"])).0, "hello\n");
    let copy = &scratch.file("copy");
    let original = &examples().join("README.md").to_string_lossy().into_owned();
    let receiver = watched(compiled("stream.c", Plain), &["receive", copy, path]);
    pair(receiver, watched(compiled("stream.c", Plain), &["send", original, path]));
    assert!(std::fs::read(copy).unwrap() == std::fs::read(original).unwrap());
    let (server, client) = (compiled("ping_pong.cpp", Plain), compiled("ping_pong.c", Plain));
    pair(watched(server, &["server", path]), watched(client, &["client", path]));
    watched(compiled("hybrid.c", Plain), &[path]).succeed();
}
