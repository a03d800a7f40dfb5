//! Runs two closures in two processes, each pinned to a CPU of its own, and brings the child's outcome home.
//!
//! Every run forks afresh, so nothing that one measurement warmed or spoiled reaches the next. The pair
//! meets at a spinning barrier, the child's figures and its failure come back through a shared page, and
//! the child never outlives the run.
//!
//! A run does not rescue a parent that spins, away from the barrier, on memory of a child that was killed
//! from outside: only [`Side::meet`] watches for that.

use std::error::Error;
use std::io;
use std::mem::{offset_of, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, getppid, kill_process, set_parent_process_death_signal,
    waitid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What a measurement returns: its value, or the sentence that says why there is none.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

/// Smallest page of the systems this runs on, bytes; the stride at which a buffer is touched.
const PAGE: usize = 4096;

/// Longest failure text that a child can send home, bytes; the rest is cut.
const REPORT_BYTES: usize = 1024;

/// Polls of the barrier between two looks at whether the child still lives, about 100 µs.
const POLLS_PER_LIFE_CHECK: u32 = 1 << 15;

/// Time a child has to end by itself once the parent's part is done.
const CHILD_GRACE: Duration = Duration::from_secs(10);

/// Shared anonymous memory, populated when it is made and inherited by every child forked afterwards.
pub(crate) struct SharedBuffer {
    /// First byte, page aligned, mapped until drop.
    start: NonNull<u8>,
    /// Length in bytes, a positive multiple of [`PAGE`].
    len: usize,
}

impl SharedBuffer {
    /// Maps at least `len` zeroed bytes, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// The system's refusal to map that much.
    pub(crate) fn new(len: usize) -> Fallible<Self> {
        let len = len.max(1).next_multiple_of(PAGE);
        // SAFETY: a null hint without MAP_FIXED lets the kernel choose unused addresses, so no live
        // object is replaced.
        let mapped = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
            )
        }
        .map_err(|errno| format!("cannot map {len} bytes of shared memory: {errno}"))?;
        let start = NonNull::new(mapped.cast()).ok_or("the system mapped shared memory at the null address")?;
        Ok(Self { start, len })
    }

    /// The first byte; the buffer is aligned to a page.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Enters every page of the buffer, writable, into the calling process's page table.
    ///
    /// A forked child starts without entries for shared memory, so each side calls this before it times
    /// anything. The bytes keep their values, whatever the other side does meanwhile.
    pub(crate) fn touch(&self) {
        for offset in (0..self.len).step_by(PAGE) {
            // SAFETY: offset < len and a multiple of the page, so the word lies inside the mapping and is
            // aligned; the mapping lives as long as self.
            let word = unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) };
            // Relaxed: nothing is read or published; the write access is the whole purpose.
            word.fetch_or(0, Ordering::Relaxed);
        }
    }

    /// Lets the calling process only read the buffer from now on.
    ///
    /// # Panics
    ///
    /// The system refuses to take a right from a mapping of our own.
    pub(crate) fn write_protect(&self) {
        // SAFETY: the whole of a live mapping. Nobody holds a reference into it; the caller writes to it no more.
        let protected = unsafe { mprotect(self.start.as_ptr().cast(), self.len, MprotectFlags::READ) };
        assert!(protected.is_ok(), "cannot write-protect {} bytes: {protected:?}", self.len);
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        // SAFETY: start and len are those of the mapping made in `new`, and the borrow rules let no
        // reference outlive self. A failure leaves the mapping in place, which is harmless.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A counter with a cache-line pair to itself, so that the neighbour-line prefetcher joins no two sides.
#[repr(C, align(128))]
struct Arrivals(AtomicU32);

/// The page through which the two sides of one run meet and report.
///
/// ```text
///    0  parent_arrivals  u32, 128 bytes to itself
///  128  child_arrivals   u32, 128 bytes to itself
///  256  report_len       u32
///  260  report           1024 bytes of UTF-8, report_len of them in use
/// ```
#[repr(C)]
struct ControlPage {
    /// Barriers the parent has arrived at. Written by the parent, read by the child.
    parent_arrivals: Arrivals,
    /// Barriers the child has arrived at. Written by the child, read by the parent.
    child_arrivals: Arrivals,
    /// Bytes of `report` in use. Written by the child, read by the parent once the child has ended.
    report_len: AtomicU32,
    /// Why the child failed. Written by the child, read by the parent once the child has ended.
    report: [AtomicU8; REPORT_BYTES],
}

const _: () = {
    assert!(offset_of!(ControlPage, child_arrivals) == 128);
    assert!(offset_of!(ControlPage, report_len) == 256);
    assert!(offset_of!(ControlPage, report) == 260);
    assert!(size_of::<ControlPage>() <= PAGE);
};

impl ControlPage {
    /// Leaves the text for the parent, cut to what fits.
    ///
    /// Relaxed throughout: the parent reads only after it has waited for the child's
    /// end, and the kernel orders a process's stores before the report of its exit.
    fn write_report(&self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(REPORT_BYTES)];
        for (slot, byte) in self.report.iter().zip(bytes) {
            slot.store(*byte, Ordering::Relaxed);
        }
        self.report_len.store(bytes.len() as u32, Ordering::Relaxed);
    }

    /// The text the child left, empty if it left none. Relaxed: see `write_report`.
    fn read_report(&self) -> String {
        let len = self.report_len.load(Ordering::Relaxed) as usize;
        let bytes: Vec<u8> = self.report.iter().take(len).map(|byte| byte.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The view that one of the two processes has of a run.
pub(crate) struct Side<'a> {
    page: &'a ControlPage,
    /// The child, in the parent; `None` in the child.
    child: Option<&'a Child>,
}

impl Side<'_> {
    /// Waits, spinning, until both sides have arrived here; both then leave within a cache-line transfer.
    ///
    /// What a side wrote before it arrived is visible to the other after it leaves. Both sides must meet
    /// equally often.
    ///
    /// # Errors
    ///
    /// In the parent: the child ended without arriving. The child of an ended parent is killed.
    pub(crate) fn meet(&self) -> Fallible<()> {
        let (own, other) = match self.child {
            Some(_) => (&self.page.parent_arrivals.0, &self.page.child_arrivals.0),
            None => (&self.page.child_arrivals.0, &self.page.parent_arrivals.0),
        };
        // [P1] publishes all that this side prepared; pairs with [P2] in the other process.
        let arrived = own.fetch_add(1, Ordering::Release).wrapping_add(1);
        let mut polls = 0u32;
        // [P2] takes over all that the other side prepared; pairs with [P1] in the other process. The
        // other side may be one barrier ahead already, never behind once it has arrived.
        while (other.load(Ordering::Acquire).wrapping_sub(arrived) as i32) < 0 {
            std::hint::spin_loop();
            polls = polls.wrapping_add(1);
            if let Some(child) = self.child
                && polls.is_multiple_of(POLLS_PER_LIFE_CHECK)
                && child.ended()?.is_some()
                && (other.load(Ordering::Acquire).wrapping_sub(arrived) as i32) < 0
            {
                return Err("the child process ended before it reached the barrier".into());
            }
        }
        Ok(())
    }
}

/// A pair of CPUs on which pairs of processes run, one pair at a time.
pub(crate) struct Duo {
    /// Where the calling thread runs during a run.
    parent_cpu: usize,
    /// Where the forked child runs.
    child_cpu: usize,
    /// Whether the system decides where both run, and neither of these counts.
    is_free: bool,
}

impl Duo {
    /// Picks two CPUs out of those allowed to the calling thread, on different cores if there are such.
    ///
    /// # Errors
    ///
    /// Fewer than two CPUs are allowed, or the system does not tell which are.
    pub(crate) fn new() -> Fallible<Self> {
        let allowed = sched_getaffinity(None).map_err(|errno| format!("cannot read the allowed CPUs: {errno}"))?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        let [parent_cpu, others @ ..] = cpus.as_slice() else {
            return Err("the system allows this process no CPU at all".into());
        };
        let siblings = siblings_of(*parent_cpu);
        let child_cpu = others
            .iter()
            .find(|cpu| !siblings.contains(cpu))
            .or(others.first())
            .ok_or("a pair needs two CPUs, and this process is allowed only one")?;
        Ok(Self { parent_cpu: *parent_cpu, child_cpu: *child_cpu, is_free: false })
    }

    /// The same pair, for runs whose processes the system moves as it likes.
    pub(crate) fn free(&self) -> Self {
        Self { is_free: true, ..*self }
    }

    /// The CPUs of the parent and of the child.
    pub(crate) fn cpus(&self) -> (usize, usize) {
        (self.parent_cpu, self.child_cpu)
    }

    /// A CPU for a third thread, on a core of its own if there is such; `None` if only two CPUs are allowed. Not to be called
    /// during a run, when only one is.
    ///
    /// # Errors
    ///
    /// The system does not tell which CPUs are allowed.
    pub(crate) fn spare_cpu(&self) -> Fallible<Option<usize>> {
        let allowed = sched_getaffinity(None).map_err(|errno| format!("cannot read the allowed CPUs: {errno}"))?;
        let taken = [self.parent_cpu, self.child_cpu];
        let spare: Vec<usize> =
            (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu) && !taken.contains(cpu)).collect();
        let siblings = taken.map(siblings_of).concat();
        Ok(spare.iter().find(|cpu| !siblings.contains(cpu)).or(spare.first()).copied())
    }

    /// Forks a child, pins both processes, runs `child` in it and `parent` here, and waits for its end.
    ///
    /// The calling thread must be the only one of the process: a child forked while another thread holds
    /// a lock inherits it locked for good. The caller's allowed CPUs are restored on return.
    ///
    /// # Errors
    ///
    /// The failure of either closure (the child's arrives as its text), a panic or a signal that ended the
    /// child, a child still running 10 s after the parent's part, or a refusal of the system. The child is
    /// gone in every case.
    pub(crate) fn run<T>(
        &self,
        parent: impl FnOnce(&Side<'_>) -> Fallible<T>,
        child: impl FnOnce(&Side<'_>) -> Fallible<()>,
    ) -> Fallible<T> {
        let memory = SharedBuffer::new(size_of::<ControlPage>())?;
        // SAFETY: the mapping is zeroed, a valid ControlPage, page aligned, large enough, and outlives
        // `page`; every field is atomic, so both processes may use it at once.
        let page = unsafe { &*memory.as_ptr().cast::<ControlPage>() };
        let _pin = if self.is_free { None } else { Some(Pin::to(self.parent_cpu)?) };
        let caller = getpid();
        // SAFETY: the caller is the only thread (see the contract above), so the child may run any code;
        // the child leaves through _exit in `child_main` and never returns into the caller's frames.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            child_main(page, caller, if self.is_free { None } else { Some(self.child_cpu) }, child);
        }
        let pid = Pid::from_raw(forked.max(0))
            .ok_or_else(|| format!("cannot fork the child process: {}", io::Error::last_os_error()))?;
        let process = Child { pid };
        match parent(&Side { page, child: Some(&process) }) {
            Ok(value) => {
                process.finish(page)?;
                Ok(value)
            }
            Err(cause) => match process.ended()? {
                Some(status) => match failure(&status, page) {
                    Some(text) => Err(format!("{cause}; {text}").into()),
                    None => Err(cause),
                },
                None => Err(cause),
            },
        }
    }
}

/// The child's whole life: pinned if there is a CPU to pin it to, dying with its parent, leaving a report if it fails.
fn child_main(page: &ControlPage, parent: Pid, cpu: Option<usize>, work: impl FnOnce(&Side<'_>) -> Fallible<()>) -> ! {
    let guarded = AssertUnwindSafe(|| -> Fallible<()> {
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|errno| format!("cannot tie its life to the parent's: {errno}"))?;
        if getppid() != Some(parent) {
            return Err("the parent ended before the child began".into());
        }
        cpu.map_or(Ok(()), pin_thread)?;
        work(&Side { page, child: None })
    });
    let code = match catch_unwind(guarded) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            page.write_report(&error.to_string());
            1
        }
        Err(_) => {
            page.write_report("it panicked");
            1
        }
    };
    // SAFETY: _exit takes any status; it skips the parent's exit handlers and buffered output, of which
    // this process holds copies.
    unsafe { libc::_exit(code) }
}

/// A child that is killed, if still running, and reaped on drop.
struct Child {
    pid: Pid,
}

impl Child {
    /// How the child ended, or `None` while it runs. Leaves it unreaped, so its id stays its own.
    fn ended(&self) -> Fallible<Option<WaitIdStatus>> {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid), peek)
            .map_err(|errno| format!("cannot ask after the child process: {errno}").into())
    }

    /// Waits for the child to end by itself, and turns a failure of its into an error.
    fn finish(self, page: &ControlPage) -> Fallible<()> {
        let deadline = Instant::now() + CHILD_GRACE;
        loop {
            if let Some(status) = self.ended()? {
                return failure(&status, page).map_or(Ok(()), |text| Err(text.into()));
            }
            if Instant::now() > deadline {
                let seconds = CHILD_GRACE.as_secs();
                return Err(format!("the child process still ran after {seconds} s").into());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Unreaped until here, so the id is still the child's; both calls fail only if it never was ours.
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
    }
}

/// The sentence for a child that did not end well, `None` for one that did.
fn failure(status: &WaitIdStatus, page: &ControlPage) -> Option<String> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => None,
        (Some(_), _) => Some(format!("the child process failed: {}", page.read_report())),
        (None, Some(signal)) => Some(format!("the child process was ended by signal {signal}")),
        (None, None) => Some("the child process ended in an unknown way".into()),
    }
}

/// Pins the calling thread until drop, which restores what it was allowed before.
struct Pin {
    before: CpuSet,
}

impl Pin {
    fn to(cpu: usize) -> Fallible<Self> {
        let before = sched_getaffinity(None).map_err(|errno| format!("cannot read the allowed CPUs: {errno}"))?;
        pin_thread(cpu)?;
        Ok(Self { before })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // A refusal leaves the thread pinned, which slows later work but spoils no result.
        let _ = set_cpus(&self.before);
    }
}

/// Has the calling thread run on `cpu` alone from now on.
///
/// # Errors
///
/// The system does not allow it.
pub(crate) fn pin_thread(cpu: usize) -> Fallible<()> {
    set_cpus(&only(cpu))
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

fn set_cpus(set: &CpuSet) -> Fallible<()> {
    sched_setaffinity(None, set).map_err(|errno| {
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
        format!("cannot move to the CPUs {cpus:?}: {errno}").into()
    })
}

/// The CPUs that share a core with `cpu`, itself among them; empty where the system does not tell.
fn siblings_of(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    parse_cpu_list(&std::fs::read_to_string(path).unwrap_or_default())
}

/// Reads a kernel CPU list such as `0-1,64`; parts that are not numbers are left out.
fn parse_cpu_list(list: &str) -> Vec<usize> {
    list.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair of CPUs, or `None` on a machine that has only one.
    ///
    /// The test harness runs threads, against the contract of `Duo::run`; the children here take no lock but
    /// the allocator's, which the C library keeps usable across a fork.
    fn duo() -> Option<Duo> {
        Duo::new().ok()
    }

    #[test]
    fn what_the_parent_returns_comes_out_of_the_run() {
        let Some(duo) = duo() else { return };
        let parent = |side: &Side<'_>| {
            side.meet()?;
            Ok(7)
        };
        assert_eq!(duo.run(parent, |side| side.meet()).unwrap(), 7);
    }

    #[test]
    fn what_is_written_before_a_barrier_is_seen_after_it() {
        let Some(duo) = duo() else { return };
        let memory = SharedBuffer::new(8).unwrap();
        // SAFETY: the mapping holds at least 8 aligned bytes and outlives the run.
        let word = unsafe { AtomicU64::from_ptr(memory.as_ptr().cast()) };
        duo.run(
            |side| {
                for round in 0..1000 {
                    side.meet()?;
                    if word.load(Ordering::Relaxed) != round + 1 {
                        return Err("the child's store is missing".into());
                    }
                    side.meet()?;
                }
                Ok(())
            },
            |side| {
                for round in 0..1000 {
                    word.store(round + 1, Ordering::Relaxed);
                    side.meet()?;
                    side.meet()?;
                }
                Ok(())
            },
        )
        .unwrap();
    }

    #[test]
    fn a_failure_of_the_child_is_told_in_its_words() {
        let Some(duo) = duo() else { return };
        let error = duo.run(|side| side.meet(), |_| Err("no paper".into())).err().unwrap();
        assert!(error.to_string().contains("the child process failed: no paper"), "{error}");
    }

    #[test]
    fn a_failure_of_the_parent_ends_a_child_that_waits() {
        let Some(duo) = duo() else { return };
        let error = duo.run::<()>(|_| Err("no ink".into()), |side| side.meet()).err().unwrap();
        assert_eq!(error.to_string(), "no ink");
    }

    #[test]
    fn a_child_killed_from_outside_is_an_error() {
        let Some(duo) = duo() else { return };
        let error = duo.run(|side| side.meet(), |_| Ok(kill_process(getpid(), Signal::KILL)?)).err().unwrap();
        assert!(error.to_string().contains("ended by signal 9"), "{error}");
    }

    #[test]
    fn the_allowed_cpus_are_restored_after_a_run() {
        let Some(duo) = duo() else { return };
        let before = sched_getaffinity(None).unwrap();
        duo.run(|side| side.meet(), |side| side.meet()).unwrap();
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }

    #[test]
    fn a_free_pair_may_run_wherever_the_caller_may() {
        let Some(duo) = duo() else { return };
        let before = sched_getaffinity(None).unwrap();
        let check = |_: &Side<'_>| match sched_getaffinity(None)? == before {
            true => Ok(()),
            false => Err("it is pinned".into()),
        };
        duo.free().run(check, check).unwrap();
        assert!(duo.run(check, |_| Ok(())).is_err(), "the other kind is pinned");
    }

    #[test]
    fn a_cpu_list_reads_ranges_and_single_cpus() {
        assert_eq!(parse_cpu_list("0-2,64\n"), [0, 1, 2, 64]);
        assert_eq!(parse_cpu_list(""), Vec::<usize>::new());
    }
}
