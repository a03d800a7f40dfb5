//! The first bytes of loans, which travel in their records too, both ends in one process.
//!
//! Promise: whichever way they are read, they are those of the loan. Refusal: heads that no honest sender writes are tried elsewhere.

use ipc_core::ring::OutOfBounds;
use ipc_core::{ConnectOptions, Connection, ListenOptions, Mode, RecvError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Those with an arena.
const MODES: [Mode; 3] = [Mode::Hybrid, Mode::Shared, Mode::Auto];
const SOON: Duration = Duration::from_secs(10);
/// Around the bytes of a head, and of a block.
const LENGTHS: [usize; 12] = [0, 1, 7, 8, 39, 40, 41, 48, 64, 128, 129, 100_000];

/// Both ends of a connection of this mode, with rings of 4 KiB: the server's and the client's.
fn pair(mode: Mode) -> (Connection, Connection) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("ipc-heads-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path: PathBuf = std::env::temp_dir().join(name);
    let mut listener = ListenOptions::new().capacity(4096).bind(&path).unwrap();
    let connecting =
        std::thread::spawn(move || ConnectOptions::new().capacities(4096, 4096).mode(mode).connect(path).unwrap());
    let server = listener.accept_timeout(SOON).unwrap();
    (server, connecting.join().unwrap())
}

fn content(len: usize, seed: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seed.wrapping_mul(7) as u8)
        .collect()
}

/// Sends a loan; every other one detached.
fn send(client: &mut Connection, len: usize, seed: usize) {
    let mut loan = client.sender().loan(len).unwrap();
    loan.copy_from_slice(&content(len, seed));
    if seed.is_multiple_of(2) {
        return loan.send().unwrap();
    }
    let detached = loan.detach().map_err(drop).unwrap();
    client.sender().send_loan(detached).unwrap();
}

/// Reads the pieces that begin and end near the ends of head and message, and what is behind.
fn check(len: usize, due: &[u8], read: impl Fn(usize, &mut [u8]) -> Result<(), OutOfBounds>) {
    assert_eq!(len, due.len());
    let marks = [0, 1, 8, 16, 38, 39, 40, 41, 42, 64, len.saturating_sub(1), len];
    for from in marks {
        for to in marks.into_iter().filter(|to| from <= *to) {
            let mut target = vec![0xee; to - from];
            let read = read(from, &mut target);
            if to <= len {
                assert_eq!(read, Ok(()), "{from} to {to} of {len}");
                assert!(target == due[from..to], "{from} to {to} of {len}");
            } else {
                assert_eq!(read, Err(OutOfBounds { len: to - from, offset: from, message: len }));
                assert!(target.iter().all(|byte| *byte == 0xee), "{from} to {to} of {len}");
            }
        }
    }
}

/// Blocks are lent again and again, so what is behind a short loan is of an earlier one.
#[test]
fn the_first_bytes_of_a_loan_are_its_own_whichever_way_they_are_read() {
    for mode in MODES {
        let (mut server, mut client) = pair(mode);
        let mut target = vec![0; 100_000];
        for seed in 0..20 {
            for len in LENGTHS {
                let due = content(len, seed);
                send(&mut client, len, seed);
                match seed % 5 {
                    0 => {
                        let message = server.recv().unwrap();
                        check(message.len(), &due, |at, target| message.read_at(at, target));
                        assert!(message.to_vec() == due);
                        assert_eq!(message.value::<[u8; 40]>().ok().as_ref().map(|value| &value[..]), due.get(..40));
                    }
                    1 => {
                        let message = server.try_recv().unwrap().unwrap();
                        check(message.len(), &due, |at, target| message.read_at(at, target));
                    }
                    2 => {
                        let message = server.recv_timeout(SOON).unwrap();
                        assert_eq!(message.copy_to(&mut target).unwrap(), len);
                        assert!(target[..len] == due);
                    }
                    3 => {
                        let received = server.receiver().recv_into(&mut target).unwrap();
                        assert!(received == len && target[..len] == due);
                    }
                    _ => {
                        let mut batch = server.recv_batch(1).unwrap();
                        let message = batch.try_next().unwrap().unwrap();
                        check(message.len(), &due, |at, target| message.read_at(at, target));
                    }
                }
            }
        }
    }
}

/// The ring comes round several times while they are held: where their records were is something else.
#[test]
fn held_loans_keep_their_first_bytes_when_their_records_are_gone() {
    for mode in MODES {
        let (mut server, mut client) = pair(mode);
        let mut held = Vec::new();
        for (seed, len) in LENGTHS.into_iter().enumerate() {
            send(&mut client, len, seed);
            held.push((server.recv().unwrap().hold(), content(len, seed)));
        }
        for seed in 0..300 {
            client.send(&[0xdd; 50]).unwrap();
            send(&mut client, 64, seed);
            assert_eq!(server.recv().unwrap().to_vec(), [0xdd; 50]);
            drop(server.recv().unwrap());
        }
        for (held, due) in held {
            check(held.len(), &due, |at, target| held.read_at(at, target));
        }
    }
}

/// Loans among messages of all sorts, in batches, from everywhere in the ring.
#[test]
fn the_first_bytes_of_loans_in_batches_are_their_own() {
    for mode in MODES {
        let (mut server, mut client) = pair(mode);
        let (mut sent, mut received) = (0, 0);
        while sent < 2000 {
            for _ in 0..1 + sent % 9 {
                let len = LENGTHS[sent % 11];
                if sent % 3 == 0 {
                    client.send(&content(len, sent)).unwrap();
                } else {
                    send(&mut client, len, sent);
                }
                sent += 1;
            }
            while received < sent {
                let Some(mut batch) = server.receiver().try_recv_batch(8).unwrap() else { continue };
                while let Some(message) = batch.try_next().unwrap() {
                    let due = content(LENGTHS[received % 11], received);
                    check(message.len(), &due, |at, target| message.read_at(at, target));
                    received += 1;
                }
            }
        }
    }
}

/// The head is made when the loan is sent: of the bytes and the length that it has then.
#[test]
fn a_loan_that_is_shortened_or_lengthened_is_read_as_it_was_sent() {
    let (mut server, mut client) = pair(Mode::Auto);
    for (lent, sent) in [(100, 10), (100, 0), (100, 40), (30, 20)] {
        let mut loan = client.sender().loan(lent).unwrap();
        loan.fill(0xaa);
        loan.set_len(sent);
        loan.copy_from_slice(&content(sent, lent));
        loan.send().unwrap();
        let message = server.recv().unwrap();
        check(message.len(), &content(sent, lent), |at, target| message.read_at(at, target));
    }
    let mut loan = client.sender().loan(100).unwrap();
    loan.fill(3);
    loan.set_len(5);
    loan.set_len(60);
    loan.send().unwrap();
    let message = server.recv().unwrap();
    check(message.len(), &[3; 60], |at, target| message.read_at(at, target));
}

/// A head costs 40 bytes of the ring; where records travel in packets it would cost as many in each, and is left out.
#[test]
fn loans_carry_their_head_where_memory_is_shared_and_none_in_packets() {
    for (mode, record) in [(Mode::Shared, 64), (Mode::Auto, 64), (Mode::Hybrid, 24)] {
        let (server, mut client) = pair(mode);
        send(&mut client, 100, 0);
        let before = client.sender().status().used;
        send(&mut client, 100, 0);
        send(&mut client, 100, 1);
        assert_eq!(client.sender().status().used - before, 2 * record, "{mode}");
        drop(server);
    }
}

/// Heads fill the ring sooner than the arena: the caller waits, or is told, before anything is lent.
#[test]
fn a_ring_full_of_heads_refuses_the_next_loan_and_takes_it_when_there_is_room() {
    let (mut server, mut client) = pair(Mode::Auto);
    let mut sent = 0;
    let before = loop {
        let used = client.sender().arena().used;
        match client.sender().try_loan(128) {
            Ok(mut loan) => {
                loan.copy_from_slice(&content(128, sent));
                loan.send().unwrap();
                sent += 1;
            }
            Err(ipc_core::SendError::WouldBlock { .. }) => break used,
            Err(other) => panic!("{other}"),
        }
    };
    assert!((50..=64).contains(&sent), "{sent} records of 64 bytes in a ring of 4096");
    assert_eq!(client.sender().arena().used, before, "what was lent for it came back");
    for seed in 0..sent {
        let message = server.recv().unwrap();
        check(message.len(), &content(128, seed), |at, target| message.read_at(at, target));
    }
    assert!(matches!(server.recv_timeout(Duration::ZERO), Err(RecvError::TimedOut { .. })));
    send(&mut client, 128, 4);
    assert!(server.recv().unwrap().to_vec() == content(128, 4));
}

#[test]
fn loans_that_were_not_consumed_are_taken_back_whole() {
    for mode in MODES {
        let (mut server, mut client) = pair(mode);
        for (seed, len) in LENGTHS.into_iter().enumerate() {
            send(&mut client, len, seed);
        }
        drop(server.recv().unwrap());
        drop(server);
        let left = client.undelivered().unwrap();
        let due: Vec<_> = LENGTHS.into_iter().enumerate().map(|(seed, len)| content(len, seed)).collect();
        // Where the peer says in packets what it consumed, it may not have said it.
        assert!(left == due[1..] || mode != Mode::Auto && left == due, "{mode}: {} are left", left.len());
    }
}
