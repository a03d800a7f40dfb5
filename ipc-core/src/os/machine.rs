//! Which machine this is, and since when it runs: what measured costs belong to.
//!
//! Promise: two processes on the same boot of the same machine get the same answer, whichever processors they may use. Refusal: it is no
//! proof of anything; whoever can write `/proc` can say what he likes.

use std::fs::File;
use std::io::Read;
use std::string::String;

/// The longest text that is kept of a fact, in characters.
const LONGEST: usize = 128;
/// Bytes that are read of `/proc/cpuinfo`: the first processor's part, and not that of hundreds.
const FIRST_PROCESSOR: u64 = 4096;

/// A boot of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// The kernel's random number for this boot.
    pub boot: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Processors that the machine has, whether or not this process may use them.
    pub cpus: u32,
    /// What the first processor calls itself.
    pub cpu: String,
}

impl Machine {
    /// This one. What the system does not tell is `unknown`.
    #[must_use]
    pub fn this() -> Self {
        // SAFETY: the call takes an integer and returns one.
        let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
        let info = read("/proc/cpuinfo");
        let line = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|both| both.1));
        Self {
            boot: clean(&read("/proc/sys/kernel/random/boot_id")),
            kernel: clean(&rustix::system::uname().release().to_string_lossy()),
            cpus: u32::try_from(cpus).unwrap_or(0),
            // x86 and others; then Arm, which numbers its cores.
            cpu: clean(line("model name").or_else(|| line("CPU part")).unwrap_or_default()),
        }
    }
}

fn read(path: &str) -> String {
    let mut text = std::vec::Vec::new();
    let read = File::open(path).and_then(|file| file.take(FIRST_PROCESSOR).read_to_end(&mut text));
    if read.is_ok() { String::from_utf8_lossy(&text).into_owned() } else { String::new() }
}

/// The text as one line.
fn clean(text: &str) -> String {
    match text.trim() {
        "" => "unknown".into(),
        text => text.chars().take(LONGEST).map(|char| if char.is_control() { ' ' } else { char }).collect(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_the_same_for_whoever_asks() {
        let machine = Machine::this();
        assert_eq!(machine, std::thread::spawn(Machine::this).join().unwrap());
        assert!(machine.cpus >= 1);
        assert_eq!(machine.boot.len(), 36, "{}", machine.boot);
    }

    #[test]
    fn a_fact_is_one_line_of_bounded_length() {
        assert_eq!(clean(" \t\n"), "unknown");
        assert_eq!(clean(" a\nb\u{7}c "), "a b c");
        assert_eq!(clean(&"x".repeat(1000)).len(), LONGEST);
    }
}
