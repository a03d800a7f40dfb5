//! What the kernel says of a process, and a directory of one's own.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory for one test, gone with the value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// A new one.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ipc-tests-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a directory of our own");
        Self(path)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it, as text.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// The path of the test's socket.
    #[must_use]
    pub fn socket(&self) -> String {
        self.file("s.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Open descriptors of this process.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("proc is mounted").count()
}

/// Where this process has mapped memory of the library: lines of `/proc/self/maps` that name an `ipc:` memfd.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn segments() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").expect("proc is mounted");
    maps.lines().filter(|line| line.contains("memfd:ipc:")).map(str::to_owned).collect()
}

/// Shared memory in use on the machine, in bytes.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn shared_memory() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").expect("proc is mounted");
    let line = info.lines().find_map(|line| line.strip_prefix("Shmem:")).expect("the kernel counts it");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    kib << 10
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system, in clock ticks.
    pub ticks: u64,
    /// Times that its main thread gave the processor up: one for each time it was woken.
    pub switches: u64,
}

impl Usage {
    /// Of this process id.
    ///
    /// # Panics
    /// If there is no such process.
    #[must_use]
    pub fn of(process: u32) -> Self {
        let fields = stat(process);
        let number = |at: usize| -> u64 { fields[at].parse().expect("a number") };
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
        let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Self { ticks: number(11) + number(12), switches: switches.expect("counted").trim().parse().expect("a number") }
    }
}

/// Says whether a process sleeps.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn sleeps(process: u32) -> bool {
    stat(process)[0] == "S"
}

/// Says whether a process is stopped by a signal.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn is_stopped(process: u32) -> bool {
    stat(process)[0] == "T"
}

/// The fields of `/proc/PID/stat` behind the name: state first.
fn stat(process: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process lives");
    let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
    fields.split_whitespace().map(str::to_owned).collect()
}

/// Bytes of address space that this process has.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn address_space() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages: u64 = pages.split(' ').next().expect("a number").parse().expect("a number");
    pages * 4096
}

/// Bytes of the library's memory that a process maps.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn mapped_by(process: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("the process lives");
    let size = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        Some(u64::from_str_radix(end, 16).ok()? - u64::from_str_radix(start, 16).ok()?)
    };
    maps.lines().filter(|line| line.contains("memfd:ipc:")).filter_map(size).sum()
}

/// Page faults of this process so far that needed no disk.
#[must_use]
pub fn page_faults() -> u64 {
    // SAFETY: `rusage` is plain old data that the call fills.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_minflt as u64
    }
}

/// Has a thread of another process, or the calling one if none is named, run on one processor alone: the `nth` of those that the caller
/// may use, counted around. What it starts inherits that.
///
/// # Panics
/// If the system refuses.
pub fn pin(thread: Option<u32>, nth: usize, among: &CpuSet) {
    let mut only = CpuSet::new();
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&processor| among.is_set(processor)).collect();
    only.set(allowed[nth % allowed.len()]);
    let thread = thread.map(|thread| Pid::from_raw(thread as i32).expect("no process has the number 0"));
    sched_setaffinity(thread, &only).expect("a processor that may be used");
}

/// The processors that the calling thread may use.
///
/// # Panics
/// If the system does not say.
#[must_use]
pub fn processors() -> CpuSet {
    sched_getaffinity(None).expect("a set of processors")
}
