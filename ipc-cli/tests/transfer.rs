//! `ipc send` and `ipc recv` as processes: what comes out, and how each end learns what became of the other.

mod common;

use common::{Scratch, eventually, ipc, random};
use ipc_core::{ConnectOptions, Listener};
use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

/// Sends `input` through a pipe with these arguments, and returns what the receiver put out.
#[track_caller]
fn round_trip(words: &str, input: &[u8]) -> Vec<u8> {
    let scratch = Scratch::new();
    let (recv, send) = (scratch.recv(words), scratch.send(words));
    let received = thread::scope(|scope| {
        let received = scope.spawn(|| recv.finish(b""));
        send.finish(input).exits_with(0);
        received.join().unwrap()
    });
    received.exits_with(0).stdout().to_vec()
}

/// `count` messages, each behind its length.
fn frames(count: u64, max: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    for seed in 0..count {
        let payload = random(seed, random(!seed, 8).iter().map(|&byte| usize::from(byte)).product::<usize>() % max);
        frames.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        frames.extend_from_slice(&payload);
    }
    frames
}

#[test]
fn raw_bytes_come_out_as_they_went_in() {
    for len in [0, 1, 32, 511, 512, 65536, 65537, 3_000_001] {
        let input = random(1, len);
        assert!(round_trip("", &input) == input, "{len} bytes");
    }
}

#[test]
fn lines_come_out_as_they_went_in() {
    for input in ["", "\n", "\n\n\n", "one\n", "\n\ntwo\n\nthree\n", "x\r\n\0\n"] {
        assert_eq!(round_trip("--lines", input.as_bytes()), input.as_bytes(), "{input:?}");
    }
    let mut input = random(2, 2_000_000);
    input.push(b'\n');
    assert!(round_trip("--lines", &input) == input);
}

#[test]
fn a_last_line_without_newline_gets_one() {
    assert_eq!(round_trip("--lines", b"one\n\ntwo"), b"one\n\ntwo\n");
}

#[test]
fn frames_come_out_as_they_went_in() {
    for input in [vec![], vec![0; 4], vec![0; 400], frames(300, 200_000)] {
        assert!(round_trip("--frame len32", &input) == input, "{} bytes", input.len());
    }
}

#[test]
fn data_that_looks_like_an_end_mark_is_data() {
    let mut mark = b"\0ipc-transfer\0\0E".to_vec();
    mark.resize(32, 0);
    for input in [mark.clone(), [&mark[..], b"\n"].concat().repeat(3)] {
        assert_eq!(round_trip("", &input), input);
    }
    let lines = [&mark[..], b"\n\n", &mark[..], b"\n"].concat();
    assert_eq!(round_trip("--lines", &lines), lines);
}

#[test]
fn a_file_of_64_mib_arrives_equal_in_either_order_of_start() {
    let input = random(3, 64 << 20);
    for receiver_first in [true, false] {
        let scratch = Scratch::new();
        let (from, to) = (scratch.write("from", &input), scratch.path("to"));
        let recv = || scratch.recv(&format!("{}", to.display()));
        let send = || scratch.send(&format!("{}", from.display()));
        let (recv, send) = if receiver_first {
            let recv = recv();
            eventually("the receiver listens", || scratch.path(&scratch.name()).exists());
            (recv, send())
        } else {
            let send = send();
            thread::sleep(Duration::from_millis(50));
            (recv(), send)
        };
        send.finish(b"").exits_with(0);
        recv.finish(b"").exits_with(0);
        assert!(fs::read(to).unwrap() == input, "the file differs");
    }
}

#[test]
fn lines_can_be_received_as_frames() {
    let scratch = Scratch::new();
    let (recv, send) = (scratch.recv("--frame len32"), scratch.send("--lines"));
    send.finish(b"ab\n\nc").exits_with(0);
    assert_eq!(recv.finish(b"").exits_with(0).stdout(), b"\x02\0\0\0ab\0\0\0\0\x01\0\0\0c");
}

#[test]
fn a_line_is_not_held_back_while_the_input_pauses() {
    let scratch = Scratch::new();
    let (mut recv, mut send) = (scratch.recv("--lines"), scratch.send("--lines"));
    let mut input = send.stdin();
    for line in ["first\n", "second\nthird\n"] {
        input.write_all(line.as_bytes()).unwrap();
        assert_eq!(recv.read(line.len()), line.as_bytes());
    }
    input.write_all(b"unfinished").unwrap();
    drop(input);
    assert_eq!(recv.read(11), b"unfinished\n");
    send.finish(b"").exits_with(0);
    recv.finish(b"").exits_with(0);
}

#[test]
fn a_line_that_no_message_can_hold_is_named() {
    let scratch = Scratch::new();
    let (recv, send) = (scratch.recv("--lines --max-message 1016"), scratch.send("--lines --capacity 4096"));
    let input = [b"ok\n", &[b'x'; 1016][..], b"\n", &[b'y'; 300_000], b"\nnever\n"].concat();
    let expected = "line 3 has 300000 bytes; this connection takes messages of up to 1016";
    send.finish(&input).exits_with(1).says(expected);
    let received = recv.finish(b"").exits_with(4).says("mid-stream");
    assert_eq!(received.stdout(), &input[..3 + 1017]);
}

#[test]
fn lines_that_the_ring_does_not_hold_travel_beside_it() {
    let lines = [100, 1016, 1017, 5_000, 3_000_000, 0].map(|len| [&vec![b'x'; len][..], b"\n"].concat());
    assert!(round_trip("--lines --capacity 4096", &lines.concat()) == lines.concat());
    assert!(round_trip("--capacity 4096", &lines.concat()) == lines.concat());
}

#[test]
fn input_that_ends_inside_a_frame_fails_at_both_ends() {
    let scratch = Scratch::new();
    let (recv, send) = (scratch.recv("--frame len32"), scratch.send("--frame len32"));
    send.finish(b"\x01\0\0\0a\x05\0\0\0xy").exits_with(1).says("inside frame 2: 6 bytes are there, 3 are missing");
    assert_eq!(recv.finish(b"").exits_with(4).stdout(), b"\x01\0\0\0a");
}

#[test]
fn a_killed_sender_is_no_end_of_stream() {
    for framing in ["", "--lines", "--frame len32"] {
        let scratch = Scratch::new();
        let (mut recv, mut send) = (scratch.recv(framing), scratch.send(framing));
        let input = b"\x05\0\0\0abcd\n";
        let mut pipe = send.stdin();
        pipe.write_all(input).unwrap();
        assert_eq!(recv.read(input.len()), input);
        send.kill();
        recv.finish(b"").exits_with(4).says("the sender went away in mid-stream");
    }
}

#[test]
fn a_killed_receiver_ends_a_sender_whose_input_pauses() {
    let scratch = Scratch::new();
    let (mut recv, mut send) = (scratch.recv("--lines"), scratch.send("--lines"));
    let mut pipe = send.stdin();
    pipe.write_all(b"hello\n").unwrap();
    assert_eq!(recv.read(6), b"hello\n");
    recv.kill();
    send.finish(b"").exits_with(4).says("1 messages (5 bytes) were sent");
    drop(pipe);
}

#[test]
fn a_sender_whom_nobody_hears_exits_with_3() {
    let scratch = Scratch::new();
    ipc(&["send", &scratch.socket()]).exits_with(3).says("nobody listens");
    ipc(&["send", "--timeout", "0.1", &scratch.socket()]).exits_with(3).says("nobody listens");
}

#[test]
fn a_receiver_whom_nobody_calls_exits_with_3() {
    scratch_recv("--timeout 0.1").exits_with(3).says("no client connected");
}

#[track_caller]
fn scratch_recv(words: &str) -> common::Finished {
    Scratch::new().recv(words).finish(b"")
}

#[test]
fn wrong_arguments_exit_with_2() {
    for words in [&["send"][..], &["send", "x", "--count", "1"], &["recv", "x", "--lines", "--frame", "len32"], &["?"]]
    {
        ipc(words).exits_with(2);
    }
}

#[test]
fn a_name_that_is_taken_does_not_empty_the_file() {
    let scratch = Scratch::new();
    let file = scratch.write("precious", b"content");
    let _listener = Listener::bind(scratch.socket()).unwrap();
    scratch.recv(&file.display().to_string()).finish(b"").exits_with(1).says("in use");
    assert_eq!(fs::read(file).unwrap(), b"content");
}

#[test]
fn a_closed_output_ends_both_sides_with_a_sentence() {
    let scratch = Scratch::new();
    let (mut recv, send) = (scratch.recv(""), scratch.send("/dev/zero"));
    assert_eq!(recv.read(1000), [0; 1000]);
    recv.close_stdout();
    recv.finish(b"").exits_with(1).says("has closed it");
    send.finish(b"").exits_with(4).says("were sent");
}

#[test]
fn a_full_disk_is_told() {
    let scratch = Scratch::new();
    let (recv, send) = (scratch.recv("/dev/full"), scratch.send(""));
    let told = send.finish(b"some bytes").exits_with(4);
    drop(told);
    recv.finish(b"").exits_with(1).says("writing to /dev/full failed: No space left");
}

#[test]
fn count_ends_both_sides_after_as_many_messages() {
    let scratch = Scratch::new();
    let (recv, send) = (scratch.recv("--lines --count 2"), scratch.send("--lines --count 2"));
    send.finish(b"a\nb\nc\n").exits_with(0);
    assert_eq!(recv.finish(b"").exits_with(0).stdout(), b"a\nb\n");
}

#[test]
fn a_receiver_that_has_enough_says_so() {
    let scratch = Scratch::new();
    let (recv, send) = (scratch.recv("--lines --count 2"), scratch.send("--lines"));
    send.finish(b"a\nb\nc\n").exits_with(4).says("the receiver took 2 messages, all that it wanted");
    assert_eq!(recv.finish(b"").exits_with(0).stdout(), b"a\nb\n");
}

#[test]
fn a_receiver_can_serve_one_sender_after_the_other() {
    let scratch = Scratch::new();
    let recv = scratch.recv("--lines --keep --count 4");
    for input in [b"a\nb\n", b"c\nd\n"] {
        scratch.send("--lines").finish(input).exits_with(0);
    }
    assert_eq!(recv.finish(b"").exits_with(0).stdout(), b"a\nb\nc\nd\n");
}

#[test]
fn bare_streams_are_those_of_the_library() {
    let scratch = Scratch::new();
    let send = scratch.send("--lines --bare");
    let mut server = Listener::bind(scratch.socket()).unwrap().accept().unwrap();
    send.finish(b"one\n\ntwo\n").exits_with(0);
    for line in [&b"one"[..], b"", b"two"] {
        assert_eq!(server.recv().unwrap().to_vec(), line);
    }
    assert!(server.recv().is_err());
    drop(server);

    let recv = scratch.recv("--lines --bare");
    let options = ConnectOptions::new().wait_for_listener(true).timeout(Duration::from_secs(10));
    let mut client = options.connect(scratch.socket()).unwrap();
    client.send(b"three").unwrap();
    drop(client);
    assert_eq!(recv.finish(b"").exits_with(0).stdout(), b"three\n");
}

#[test]
fn a_library_sender_without_end_mark_is_not_taken_for_a_whole_stream() {
    let scratch = Scratch::new();
    let recv = scratch.recv("--lines");
    let options = ConnectOptions::new().wait_for_listener(true).timeout(Duration::from_secs(10));
    let mut client = options.connect(scratch.socket()).unwrap();
    client.send(b"three").unwrap();
    drop(client);
    assert_eq!(recv.finish(b"").exits_with(4).says("needs --bare").stdout(), b"three\n");
}

#[test]
fn an_end_mark_that_counts_wrong_is_corruption() {
    let scratch = Scratch::new();
    let recv = scratch.recv("--lines");
    let options = ConnectOptions::new().wait_for_listener(true).timeout(Duration::from_secs(10));
    let mut client = options.connect(scratch.socket()).unwrap();
    client.send(b"three").unwrap();
    let mark = [&b"\0ipc-transfer\0\0E"[..], &2_u64.to_le_bytes(), &10_u64.to_le_bytes()].concat();
    client.send(&mark).unwrap();
    let expected = "the sender counted 2 messages (10 bytes), but 1 messages (5 bytes) came";
    recv.finish(b"").exits_with(5).says(expected);
}
