//! Does nothing, or the same thing over and over, while the kernel counts.

use super::{ALLOCATIONS, Settings, say};
use crate::shared::Mapping;
use crate::system;
use ipc_core::{Connection, ListenOptions};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Blocks in one call until the other side goes.
pub(super) fn blocked(settings: &Settings) {
    let call = settings.text("call").to_owned();
    let path = settings.text("path");
    if call == "accept" {
        let mut listener = ListenOptions::new().bind(path).expect("a free path");
        say("blocking");
        let connection = listener.accept().expect("a client, at last");
        drop(connection);
        return say("released");
    }
    let mut connection = settings.connection();
    let timeout = Duration::from_secs(100);
    if call.starts_with("send") {
        while connection.try_send(&[0; 512]).is_ok() {}
    }
    say("blocking");
    let released = match call.as_str() {
        "recv" => connection.recv().map(drop).is_err(),
        "recv_batch" => connection.recv_batch(8).map(drop).is_err(),
        "recv_timeout" => connection.recv_timeout(timeout).map(drop).is_err(),
        "send" => connection.send(&[0; 512]).is_err(),
        "send_timeout" => connection.send_timeout(&[0; 512], timeout).is_err(),
        other => panic!("there is no call {other}"),
    };
    assert!(released, "nothing was to come");
    say("released");
}

/// Where the test says that it is enough, in the log of a steady exchange.
pub const STOP: usize = 0;
/// How many turns are done.
pub const TURNS: usize = 8;
/// Which turn is the last, once that is known.
pub(super) const LAST_TURN: usize = 16;
/// Turns, page faults and allocations: of the side that begins, and of the other.
pub const RESULTS: [usize; 2] = [64, 128];

/// How the messages of a steady exchange look.
#[derive(Clone, Copy, Debug)]
struct Shape {
    begins: bool,
    /// Messages of all lengths, so that laps end in padding; else each takes 256 bytes with its header, and none is needed.
    any_length: bool,
}

impl Shape {
    fn len(self, turn: u64) -> usize {
        if self.any_length { (turn * 13 % 250) as usize } else { 241 + (turn % 8) as usize }
    }
}

/// One exchange: a message out, a message in, each way of doing it in turn. Whoever begins sends first.
fn exchange(connection: &mut Connection, turn: u64, shape: Shape, buffer: &mut [u8; 256]) {
    let len = shape.len(turn);
    for sends in [shape.begins, !shape.begins] {
        if sends {
            send_one(connection, turn, &buffer[..len]);
        } else {
            assert_eq!(receive_one(connection, turn, shape, buffer), len);
        }
    }
}

fn send_one(connection: &mut Connection, turn: u64, message: &[u8]) {
    match turn % 4 {
        0 => connection.send(message).expect("room"),
        1 => connection.try_send(message).expect("room"),
        2 => {
            let mut reservation = connection.reserve(message.len()).expect("room");
            reservation.write_at(0, message);
            reservation.commit();
        }
        _ => {
            let mut batch = connection.batch();
            batch.push(message).expect("room");
            batch.publish().expect("a usable connection");
        }
    }
}

fn receive_one(connection: &mut Connection, turn: u64, shape: Shape, buffer: &mut [u8; 256]) -> usize {
    loop {
        // Polled here and not by the library: that would ask the kernel whether the peer lives if it took long.
        while !connection.receiver().is_ready() {
            std::hint::spin_loop();
        }
        return match turn % 4 {
            // Padding shows as ready for the moment until the message behind it comes.
            _ if shape.any_length => match connection.try_recv().expect("alive") {
                Some(message) => message.copy_to(buffer).expect("room"),
                None => continue,
            },
            0 => connection.recv_into(buffer).expect("ready"),
            1 => connection.try_recv().expect("alive").expect("ready").copy_to(buffer).expect("room"),
            2 => connection.recv_timeout(Duration::from_secs(1)).expect("ready").copy_to(buffer).expect("room"),
            _ => {
                let mut batch = connection.recv_batch(4).expect("ready");
                batch.try_next().expect("honest").expect("ready").copy_to(buffer).expect("room")
            }
        };
    }
}

/// Exchanges messages under a filter that kills the process at its first system call, and counts page faults and
/// allocations. The side that begins goes on until the test says so through the log.
pub(super) fn steady(settings: &Settings) {
    let mut connection = settings.connection();
    let log = Mapping::counters(settings.text("log").as_ref());
    let (stop, begins) = (log.word(STOP), settings.number("begins", false));
    let shape = Shape { begins, any_length: settings.number("any", false) };
    let results = if begins { RESULTS[0] } else { RESULTS[1] };
    let mut buffer = [7; 256];
    for turn in 0..2_000 {
        exchange(&mut connection, turn, shape, &mut buffer);
    }
    if settings.number("filter", true) {
        forbid_system_calls();
    }
    let cheats = settings.number("cheat", false);
    let before = (system::page_faults(), ALLOCATIONS.load(Ordering::Relaxed));
    let mut turn = 1;
    while log.word(LAST_TURN).load(Ordering::SeqCst) != turn {
        // The side that begins says which turn is the last before it begins it, so that both sides stop there.
        if begins && stop.load(Ordering::SeqCst) != 0 && log.word(LAST_TURN).load(Ordering::SeqCst) == 0 {
            log.word(LAST_TURN).store(turn + 1, Ordering::SeqCst);
        }
        if begins {
            log.word(TURNS).store(turn, Ordering::SeqCst);
        }
        if cheats {
            // SAFETY: a call without arguments. It proves that the filter works.
            unsafe { libc::getppid() };
        }
        exchange(&mut connection, turn, shape, &mut buffer);
        turn += 1;
    }
    let after = (system::page_faults(), ALLOCATIONS.load(Ordering::Relaxed));
    log.word(results).store(turn, Ordering::SeqCst);
    log.word(results + 8).store(after.0 - before.0, Ordering::SeqCst);
    log.word(results + 16).store(after.1 - before.1, Ordering::SeqCst);
    // SAFETY: leaves at once: everything else would be a system call. It is the one call left, with `getrusage`.
    unsafe { libc::_exit(0) };
}

/// From here on every system call but `getrusage` and `exit_group` kills the process.
fn forbid_system_calls() {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let allowed =
        |call: libc::c_long, skip: u8| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, 0, call as u32);
    let mut program = [
        // The number of the call is the first word of what the filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        allowed(libc::SYS_getrusage, 2),
        allowed(libc::SYS_exit_group, 1),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program is valid and is copied by the call; no pointer is kept.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}
