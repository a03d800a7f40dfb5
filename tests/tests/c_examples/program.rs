//! A program that runs beside the test.
//!
//! Promise: it is killed with the test, and does not run for longer than [`PATIENCE`]. Refusal: nobody talks to it.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The longest that a program may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program and what it says.
#[derive(Debug)]
pub struct Program {
    child: Child,
    command: String,
}

impl Program {
    /// Starts it.
    pub fn start(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        Self::start_as(Command::new(program).args(arguments))
    }

    /// Starts a command.
    pub fn start_as(command: &mut Command) -> Self {
        // Costs that are compiled in, whatever was measured on this machine.
        command.env("IPC_CALIBRATION", "defaults").env("PYTHONDONTWRITEBYTECODE", "1");
        // SAFETY: one system call between fork and exec, which takes two integers.
        unsafe {
            command
                .pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?))
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), command: format!("{command:?}") }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; returns what it wrote, to both of its outputs one behind the other: less than a pipe holds.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(Instant::now() < until, "{} still runs after {PATIENCE:?}", self.command);
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut text = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
        (status, text)
    }

    /// Waits for its end, which must be success; returns what it wrote.
    pub fn succeed(&mut self) -> String {
        let (status, text) = self.end();
        assert!(status.success(), "{}: {status}\n{text}", self.command);
        text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
