//! Batches with deadlines, their bytes while they are open, and what code in other languages does with them; both ends in one process.

use ipc_core::ring::{BatchWindow, ReadWindow};
use ipc_core::router::Override;
use ipc_core::{
    ConnectError, ConnectOptions, Connection, Lane, ListenOptions, PayloadType, RecvError, Refusal, SendError,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

fn path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("ipc-batches-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

fn connected(connect: ConnectOptions) -> (Connection, Connection) {
    let path = path();
    let mut listener = ListenOptions::new().bind(&path).unwrap();
    let connecting = std::thread::spawn(move || connect.connect(path).unwrap());
    let server = listener.accept_timeout(Duration::from_secs(10)).unwrap();
    (server, connecting.join().unwrap())
}

fn content(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seed as u8).collect()
}

/// Pseudo-random numbers that are the same in every run.
struct Mix(u64);

impl Mix {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn a_batch_is_waited_for_as_long_as_is_said() {
    let (mut server, mut client) = connected(ConnectOptions::new());
    assert!(server.receiver().try_recv_batch(8).unwrap().is_none());
    let timed_out = server.receiver().recv_batch_timeout(8, Duration::from_millis(20)).map(drop);
    let Err(RecvError::TimedOut { waited }) = timed_out else { panic!("{timed_out:?}") };
    assert!(waited >= Duration::from_millis(20));
    client.send(b"one").unwrap();
    client.send(b"two").unwrap();
    let mut batch = server.receiver().try_recv_batch(1).unwrap().expect("two messages are there");
    assert_eq!(batch.try_next().unwrap().unwrap().to_vec(), b"one");
    assert!(batch.try_next().unwrap().is_none());
    drop(batch);
    let mut batch = server.receiver().recv_batch_timeout(8, Duration::from_secs(10)).unwrap();
    assert_eq!(batch.try_next().unwrap().unwrap().to_vec(), b"two");
}

/// Bytes of a message that is written in place, so large that it needs a region of its own.
const LENT: usize = 40 << 20;
/// Bytes of a message that is copied and offered before.
const OFFERED: usize = 4 << 20;

/// News and messages in other places than the ring and the arena begin a batch of their own: whatever a batch has shown stays.
#[test]
fn the_bytes_of_a_batch_stay_until_it_is_dropped() {
    let (mut server, mut client) = connected(ConnectOptions::new().capacities(1 << 16, 1 << 16));
    let mut mix = Mix(7);
    let plan: Vec<(Lane, usize)> = (0..3000)
        .map(|_| match mix.below(40) {
            0 => (Lane::File, mix.below(5000) as usize),
            1 => (Lane::Kernel, mix.below(5000) as usize),
            // Several regions are needed, each with news of it.
            2 => (Lane::Arena, LENT),
            // Offered first.
            3 if mix.below(4) == 0 => (Lane::Arena, OFFERED),
            3..10 => (Lane::Arena, mix.below(50_000) as usize),
            _ => (Lane::Inline, mix.below(2000) as usize),
        })
        .collect();
    let sent = plan.clone();
    let sending = std::thread::spawn(move || {
        for (seed, (lane, len)) in sent.into_iter().enumerate() {
            client.sender().set_route(Override::Lane(lane)).unwrap();
            if len != LENT {
                client.send(&content(len, seed as u64)).unwrap();
            } else {
                let mut loan = client.sender().loan(len).unwrap();
                loan[..1000].copy_from_slice(&content(1000, seed as u64));
                loan.send().unwrap();
            }
        }
        client
    });
    let (mut seed, mut longest) = (0, 0);
    while seed < plan.len() {
        let mut batch = server.recv_batch(100).unwrap();
        let mut views = Vec::new();
        while let Some(view) = batch.try_next().unwrap() {
            views.push((view.as_ptr(), view.len()));
        }
        // More would be written now if there were room.
        let is_offered = |ahead: &(Lane, usize)| ahead.1 == OFFERED;
        let offered = plan[seed..].iter().take(views.len() + 1).any(is_offered);
        std::thread::sleep(if offered { Duration::from_millis(10) } else { Duration::from_micros(200) });
        for (start, len) in &views {
            assert_eq!(*len, plan[seed].1, "message {seed}");
            // SAFETY: valid until the batch is dropped, and this process wrote it.
            let bytes = unsafe { std::slice::from_raw_parts(*start, (*len).min(50_000)) };
            let expected = content(bytes.len(), seed as u64);
            let compared = if *len == LENT { 1000 } else { bytes.len() };
            assert!(bytes[..compared] == expected[..compared], "message {seed} of {len} B");
            seed += 1;
        }
        longest = longest.max(views.len());
        drop(batch);
    }
    assert!(longest > 10, "the longest batch has {longest} messages");
    drop(sending.join().unwrap());
}

/// What inlined code of another language does, by the rules of the windows.
mod foreign {
    use super::*;

    pub(super) fn append(window: &mut BatchWindow, bytes: &[u8]) -> bool {
        let len = bytes.len() as u64;
        if len > window.longest || window.end + 8 + len > window.limit {
            return false;
        }
        // SAFETY: the rules say that there is room.
        unsafe {
            let record = window.base.add(window.end as usize);
            bytes.as_ptr().copy_to_nonoverlapping(record.add(8), bytes.len());
            AtomicU64::from_ptr(record.cast()).store(window.stamp | len, Ordering::Relaxed);
        }
        window.end = (window.end + 8 + len).next_multiple_of(8);
        window.records += 1;
        true
    }

    pub(super) fn next(window: &mut ReadWindow) -> Option<Vec<u8>> {
        // SAFETY: the rules say where words and records are.
        unsafe {
            let record = window.base.add(window.index as usize);
            let header = AtomicU64::from_ptr(record.cast_mut().cast()).load(Ordering::Acquire);
            let len = header & u64::from(u32::MAX);
            if (header ^ window.stamp) >> 32 != 0 || len > window.longest || window.index + 16 + len > window.capacity {
                return None;
            }
            window.index = (window.index + 8 + len).next_multiple_of(8);
            Some(std::slice::from_raw_parts(record.add(8), len as usize).to_vec())
        }
    }
}

/// Over many laps, with batches of any length and messages of any size, published or aborted, some of them appended and read by calls.
#[test]
fn messages_that_are_appended_and_read_through_windows_are_those_that_calls_would_have_sent() {
    let (mut server, mut client) = connected(ConnectOptions::new().capacities(1 << 14, 1 << 14));
    let (mut mix, mut sent, mut received) = (Mix(3), 0, 0);
    let (mut through_windows, mut read_through_windows) = (0, 0);
    for round in 0..20_000 {
        let mut batch = client.batch();
        let first = sent;
        for _ in 0..mix.below(12) {
            let message = content(if mix.below(20) == 0 { 3000 } else { mix.below(200) as usize }, sent);
            let mut window = batch.open_window();
            if mix.below(4) > 0 && foreign::append(&mut window, &message) {
                // SAFETY: what became of the window.
                unsafe { batch.close_window(window.end, window.records) };
                through_windows += 1;
            } else if batch.try_push(&message).is_err() {
                break;
            }
            sent += 1;
        }
        if round % 7 == 0 && batch.len() == sent - first {
            drop(batch);
            sent = first;
        } else {
            batch.publish().unwrap();
        }
        if mix.below(3) == 0 || round == 19_999 {
            while let Some(mut batch) = server.receiver().try_recv_batch(1 + mix.below(9)).unwrap() {
                loop {
                    let (mut window, left) = batch.open_window();
                    let found = (left > 0 && mix.below(4) > 0).then(|| foreign::next(&mut window)).flatten();
                    let message = match found {
                        Some(message) => {
                            // SAFETY: what became of the window.
                            unsafe { batch.close_window(window.index, 1) };
                            read_through_windows += 1;
                            message
                        }
                        None => match batch.try_next().unwrap() {
                            Some(view) => view.to_vec(),
                            None => break,
                        },
                    };
                    assert!(message == content(message.len(), received), "message {received}");
                    received += 1;
                }
            }
        }
    }
    assert_eq!((sent, server.receiver().received()), (received, received));
    assert_eq!(client.sender().sent(), received);
    assert!(through_windows > received / 4 && read_through_windows > received / 4);
}

#[test]
fn sends_of_every_form_end_at_their_deadline_and_leave_nothing_behind() {
    let (mut server, mut client) = connected(ConnectOptions::new().capacities(4096, 4096));
    let sender = client.sender();
    let detached = sender.loan(100_000).unwrap().detach().ok().expect("in the arena");
    while sender.try_send(&[0; 500]).is_ok() {}
    while sender.try_send(&[0; 1]).is_ok() {}
    let sent = sender.sent();
    let soon = Duration::from_millis(10);
    let file = std::fs::File::open("/dev/null").unwrap();
    use std::os::fd::AsFd;
    let files = [file.as_fd()];
    let is_late = |result| matches!(result, Err(SendError::TimedOut { waited, .. }) if waited >= soon);
    let is_refused = |result| matches!(result, Err(SendError::WouldBlock { .. }));
    assert!(is_refused(sender.try_send_vectored(&[&[1; 300], &[2; 300]])));
    assert!(is_late(sender.send_vectored_timeout(&[&[1; 300], &[2; 300]], soon)));
    assert!(is_late(sender.send_with_files_timeout(&[1; 600], &files, soon)));
    let unsent = sender.try_send_loan(detached).unwrap_err();
    assert!(is_refused(Err(unsent.error)));
    let unsent = sender.send_loan_timeout(unsent.loan, soon).unwrap_err();
    assert!(is_late(Err(unsent.error)));
    assert_eq!(sender.sent(), sent);
    for _ in 0..sent {
        assert_eq!(server.recv().unwrap().to_vec()[0], 0);
    }
    client.sender().send_loan_timeout(unsent.loan, Duration::from_secs(10)).unwrap();
    client.sender().send_vectored_timeout(&[b"a", b"b"], soon).unwrap();
    client.sender().send_with_files_timeout(b"c", &files, soon).unwrap();
    assert_eq!(server.recv().unwrap().len(), 100_000);
    assert_eq!(server.recv().unwrap().to_vec(), b"ab");
    let mut message = server.recv().unwrap();
    assert_eq!((message.file_count(), message.take_files().len(), message.file_count()), (1, 1, 0));
}

#[test]
fn a_copy_out_that_does_not_wait_leaves_a_message_that_does_not_fit() {
    let (mut server, mut client) = connected(ConnectOptions::new());
    let mut buffer = [0; 8];
    assert_eq!(server.receiver().try_recv_into(&mut buffer).unwrap(), None);
    for lane in [Lane::Inline, Lane::Arena] {
        client.sender().set_route(Override::Lane(lane)).unwrap();
        client.send(b"twelve bytes").unwrap();
        let too_short = server.receiver().try_recv_into(&mut buffer);
        assert!(matches!(too_short, Err(RecvError::TooShort(short)) if short.message == 12 && short.buffer == 8));
        let mut larger = [0; 20];
        assert_eq!(server.receiver().try_recv_into(&mut larger).unwrap(), Some(12));
        assert_eq!(&larger[..12], b"twelve bytes");
    }
}

#[test]
fn a_type_given_by_name_is_that_type_and_no_other() {
    let named = |name, size, align| PayloadType::named(name, size, align).unwrap();
    assert_eq!(named("u32", 4, 4), PayloadType::of::<u32>());
    assert!(PayloadType::named("u32", 4, 3).is_none());
    for (other, fits) in [(named("u32", 4, 4), true), (named("i32", 4, 4), false), (named("u32", 8, 4), false)] {
        let path = path();
        let mut listener = ListenOptions::new().payload::<u32>().bind(&path).unwrap();
        let connecting = std::thread::spawn(move || ConnectOptions::new().payload_type(other).connect(path));
        let accepted = listener.accept_timeout(Duration::from_millis(if fits { 10_000 } else { 300 }));
        assert_eq!(accepted.is_ok(), fits);
        match connecting.join().unwrap() {
            Ok(_) => assert!(fits),
            Err(ConnectError::Refused { refusal, .. }) => {
                let expected = matches!(refusal, Refusal::PayloadName { .. } | Refusal::PayloadLayout { .. });
                assert!(!fits && expected, "{refusal}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
