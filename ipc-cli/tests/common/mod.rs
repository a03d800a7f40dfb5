//! What the tests of the command share: a folder of their own, and processes that never outlive a test.
#![allow(dead_code, reason = "each test file uses its part")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes with the test. Sockets lie in it too, so tests do not meet.
pub struct Scratch {
    folder: PathBuf,
    number: u32,
}

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ipc-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder, number }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// What `ipc ls` calls the connections of this test.
    pub fn name(&self) -> String {
        format!("t{}-{}", std::process::id(), self.number)
    }

    pub fn socket(&self) -> String {
        self.path(&self.name()).display().to_string()
    }

    /// `ipc recv` for this test's socket; `words` are its other arguments.
    pub fn recv(&self, words: &str) -> Running {
        start(words.split_whitespace(), &["recv", &self.socket()])
    }

    /// `ipc send --timeout 10` for this test's socket.
    pub fn send(&self, words: &str) -> Running {
        start(words.split_whitespace(), &["send", "--timeout", "10", &self.socket()])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs `ipc` to its end.
pub fn ipc(words: &[&str]) -> Finished {
    start(words.iter().copied(), &[]).finish(b"")
}

/// Runs `ipc` to its end, with these variables in its environment.
pub fn ipc_with(words: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = command();
    command.args(words).envs(variables.iter().copied());
    Running(command.spawn().unwrap()).finish(b"")
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipc"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start<'w>(words: impl Iterator<Item = &'w str>, first: &[&str]) -> Running {
    let mut command = command();
    command.args(first).args(words);
    Running(command.spawn().unwrap())
}

/// A process of the test. Killed when the test ends before it.
pub struct Running(Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn stdin(&mut self) -> ChildStdin {
        self.0.stdin.take().unwrap()
    }

    /// Waits until standard output has given so many bytes.
    pub fn read(&mut self, len: usize) -> Vec<u8> {
        let (mut bytes, mut done) = (vec![0; len], 0);
        let stdout = self.0.stdout.as_mut().unwrap();
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        while done < len {
            let ready = poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&patience)).unwrap();
            let read = if ready > 0 { stdout.read(&mut bytes[done..]).unwrap() } else { 0 };
            assert!(read > 0, "standard output gave {done} of {len} bytes");
            done += read;
        }
        bytes
    }

    /// Closes the reading end of its standard output.
    pub fn close_stdout(&mut self) {
        drop(self.0.stdout.take());
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Gives it `input`, and takes what it says until its end.
    pub fn finish(mut self, input: &[u8]) -> Finished {
        let stdin = self.0.stdin.take();
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        thread::scope(|scope| {
            let out = scope.spawn(|| read_all(out));
            let err = scope.spawn(|| read_all(err));
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            let status = self.wait();
            Finished(Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() })
        })
    }

    fn wait(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            if start.elapsed() > PATIENCE {
                self.0.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_all(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes).unwrap();
    }
    bytes
}

/// A process that has ended.
pub struct Finished(Output);

impl Finished {
    /// Checks the exit code and that a failure is told in one line, a success in none.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        let told = String::from_utf8_lossy(&self.0.stderr);
        assert_eq!(self.0.status.code(), Some(code), "{told}");
        if code != 2 {
            assert_eq!(told.lines().count(), usize::from(code != 0), "{told}");
        }
        self
    }

    /// Checks what standard error holds.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        let told = String::from_utf8_lossy(&self.0.stderr);
        assert!(told.contains(part), "{told}");
        self
    }

    pub fn stdout(&self) -> &[u8] {
        &self.0.stdout
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.0.stdout).unwrap()
    }
}

/// Waits until `done` says so.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes without pattern, the same for the same seed (xorshift64).
pub fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}
