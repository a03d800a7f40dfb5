//! Receives while it has no file descriptors, or no address space, left.

use super::{Settings, hear, say};
use crate::system;
use ipc_core::{Connection, RecvError};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Opens files until every number below the highest one in use is taken, and returns the next number.
fn fill_gaps(ballast: &mut Vec<File>) -> u64 {
    loop {
        let file = File::open("/dev/null").expect("a number is left");
        let number = file.as_raw_fd() as usize;
        ballast.push(file);
        // All of them: this one, those below, and the directory that is read to count them.
        if system::open_descriptors() == number + 2 {
            return number as u64 + 1;
        }
    }
}

/// Leaves this process so many bytes of address space more than it has; `None`: as much as it wants.
fn leave_space(bytes: Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("the kernel counts it");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    let rlim_cur = bytes.map_or(libc::RLIM_INFINITY, |bytes| (kib << 10) + bytes);
    let limit = libc::rlimit { rlim_cur, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: plain old data that the call reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// Sets how many descriptors this process may have.
fn set_limit(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: LIMIT };
    // SAFETY: plain old data that the call reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

const LIMIT: u64 = 1000;

/// Receives one message: its length and the files beside it.
fn receive(connection: &mut Connection, call: &str) -> Result<(usize, usize), RecvError> {
    let timeout = Duration::from_secs(10);
    match call {
        "recv" => connection.recv().map(|mut message| (message.len(), message.take_files().len())),
        "recv_timeout" => {
            connection.recv_timeout(timeout).map(|mut message| (message.len(), message.take_files().len()))
        }
        // It drops the files beside a message.
        "recv_into" => connection.recv_into(&mut [0; 400_000]).map(|len| (len, usize::MAX)),
        "try_recv" => {
            let message = connection.try_recv()?.expect("it was sent before");
            let mut message = message;
            Ok((message.len(), message.take_files().len()))
        }
        "recv_batch" => {
            let mut batch = connection.recv_batch(1)?;
            let len = batch.try_next()?.expect("a batch has one at least").len();
            Ok((len, batch.take_files().len()))
        }
        other => panic!("there is no call {other}"),
    }
}

/// Receives messages, each first without and then with what it takes to receive it: descriptors, or (`of=memory`) address space.
pub(super) fn play(settings: &Settings) {
    let mut connection = settings.connection();
    let call = settings.text("call");
    say("connected");
    hear();
    let fails = |connection: &mut Connection, with: i32| {
        for _ in 0..3 {
            let error = receive(connection, call).expect_err("there is nothing left to receive it with");
            let expected = matches!(&error, RecvError::Os(error) if error.raw_os_error() == Some(with));
            assert!(expected, "{call}: {error}");
        }
    };
    let succeeds = |connection: &mut Connection, files: usize| {
        say("starved");
        let (len, found) = receive(connection, call).expect("nothing was lost");
        say(format_args!("received {len} {}", if found == usize::MAX { files } else { found }));
    };
    if settings.number("of", String::from("descriptors")) == "memory" {
        for _ in 0..2 {
            leave_space(Some(8 << 20));
            fails(&mut connection, libc::ENOMEM);
            leave_space(None);
            succeeds(&mut connection, 0);
        }
        return;
    }
    let mut ballast = Vec::new();
    for files in [3, 0, 1] {
        let open = fill_gaps(&mut ballast);
        // None left; then, if several are needed, one too few.
        for spare in [0, files.max(1) - 1] {
            set_limit(open + spare as u64);
            fails(&mut connection, libc::EMFILE);
        }
        set_limit(LIMIT);
        let before = system::open_descriptors();
        succeeds(&mut connection, files);
        // A region keeps its own.
        assert!(system::open_descriptors() <= before + 1, "descriptors stay behind");
    }
}
