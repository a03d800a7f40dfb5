//! The second process of a test.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The longest that a test waits for a word from a peer, or for its end.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A process that plays a role ([`crate::roles`]). It is killed when the value is dropped, and it dies with the thread
/// that started it.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    lines: Receiver<String>,
    role: String,
}

impl Peer {
    /// Starts `program` in `role`; see [`crate::peer!`].
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(program: &Path, role: &str, arguments: &[(&str, String)]) -> Self {
        Self::start_under(&[], program, role, arguments)
    }

    /// Starts `program` through another command (`unshare`, for one) and its arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_under(under: &[&str], program: &Path, role: &str, arguments: &[(&str, String)]) -> Self {
        let mut command = match under {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.arg(role).args(arguments.iter().map(|(key, value)| format!("{key}={value}")));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, role: role.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins with `word` and returns what follows it. Other lines are skipped.
    ///
    /// # Panics
    /// If the peer ends, or is silent for too long, before it says so.
    pub fn expect(&mut self, word: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return rest.trim().to_owned();
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{}: no '{word}' within {PATIENCE:?}", self.role),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{}: ended ({:?}) before it said '{word}'", self.role, self.child.wait())
                }
            }
        }
    }

    /// The next line, or `None` once the peer has ended.
    ///
    /// # Panics
    /// If the peer is silent for longer than `patience`.
    pub fn next_line(&mut self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => panic!("{}: silent for {patience:?}", self.role),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Says a line to the peer.
    ///
    /// # Panics
    /// If the peer has ended.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe was asked for");
        writeln!(input, "{line}").expect("the peer listens");
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has been waited for already.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the call takes two integers; the child is not reaped while `self` lives, so the number is still its own.
        let answer = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(answer, 0, "{}: the peer is there to be signalled", self.role);
    }

    /// Kills it with SIGKILL, without waiting for its end.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// Never in practice: a child can be asked.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < until, "{}: still runs after {PATIENCE:?}", self.role);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end and checks that it found nothing to complain of.
    ///
    /// # Panics
    /// If it failed, crashed or takes too long.
    pub fn finish(&mut self) {
        let status = self.wait();
        assert!(status.success(), "{}: {status}", self.role);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends the whole test program, with a word about the culprit, if a test takes longer than it should.
#[derive(Debug)]
pub struct HangGuard {
    _done: Sender<()>,
}

impl HangGuard {
    /// Gives the test `seconds`, until the guard is dropped.
    #[must_use]
    pub fn new(seconds: u64) -> Self {
        let (sender, done) = channel::<()>();
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            if done.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} hangs: it has run for {seconds} s");
                std::process::abort();
            }
        });
        Self { _done: sender }
    }
}
