//! The thread that remaps, or takes as much processor time without remapping.
//!
//! Promise: the memory that is remapped is the thread's own mapping, made and unmapped by itself; what it did and how long it
//! took stands in a page that both processes see. Refusal: a mapping that a connection uses is never touched, and
//! memory of a connection is only read.

use super::super::process::{Fallible, SharedBuffer, pin_thread};
use super::rate::Rate;
use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{Mode, OFlags, open};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::hint::{black_box, spin_loop};
use std::io;
use std::mem::size_of;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Stride at which memory is touched, bytes.
const PAGE: usize = 4096;
/// Longest sleep, so that the thread sees soon that it shall end.
const NAP: Duration = Duration::from_millis(5);
/// What the link of a segment's descriptor starts with.
const SEGMENT: &[u8] = b"/memfd:ipc:";

/// What is remapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Anonymous memory: mapped, every page written, unmapped.
    Unrelated,
    /// The connection's segment: mapped once more, every page read, unmapped.
    Segment,
    /// Memory that stays: made read-only and writable again.
    Protect,
}

/// What the thread does each time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// A remap.
    Remap(Kind),
    /// Computes for so long, in processor time.
    Burn {
        /// How long.
        nanoseconds: f64,
    },
}

/// What a thread is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// What.
    pub(super) work: Work,
    /// How often.
    pub(super) rate: Rate,
    /// Bytes of a remap.
    pub(super) bytes: usize,
    /// On which processor.
    pub(super) cpu: usize,
}

/// What a thread has done so far. Written by the thread, read by the receiving process.
///
/// Relaxed throughout: the numbers publish nothing, and being one remap behind is within what is measured.
#[repr(C, align(128))]
pub(super) struct Numbers {
    /// Times done.
    done: AtomicU64,
    /// Processor time in calls that take away from the address space (munmap, or mprotect to read-only), ns.
    call_ns: AtomicU64,
    /// Processor time in whole remaps, ns.
    remap_ns: AtomicU64,
    /// Processor time of the thread, sleeping and waking included, ns.
    thread_ns: AtomicU64,
    /// Not 0 once the thread shall end. Written by the thread's own process.
    stop: AtomicU32,
}

/// The page with the numbers of a thread, in whichever process it runs.
pub(super) struct Tally(SharedBuffer);

/// The numbers at one moment; see [`Numbers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) done: u64,
    pub(super) call_ns: u64,
    pub(super) remap_ns: u64,
    pub(super) thread_ns: u64,
}

impl Tally {
    /// All numbers at 0.
    ///
    /// # Errors
    /// No memory.
    pub(super) fn new() -> Fallible<Self> {
        Ok(Self(SharedBuffer::new(size_of::<Numbers>())?))
    }

    /// The numbers themselves, which other threads may see.
    pub(super) fn numbers(&self) -> &Numbers {
        // SAFETY: the buffer is zeroed, page aligned, large enough and lives as long as self; every field is atomic.
        unsafe { &*self.0.as_ptr().cast() }
    }
}

impl Numbers {
    /// What has been done until now.
    pub(super) fn count(&self) -> Count {
        Count {
            done: self.done.load(Ordering::Relaxed),
            call_ns: self.call_ns.load(Ordering::Relaxed),
            remap_ns: self.remap_ns.load(Ordering::Relaxed),
            thread_ns: self.thread_ns.load(Ordering::Relaxed),
        }
    }

    /// Has the thread end after what it does at the moment.
    pub(super) fn stop(&self) {
        self.stop.store(1, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }
}

/// The thread's life. Calls `ready` once it is about to begin.
///
/// # Errors
/// A sentence for what the system refused.
pub(super) fn live(order: &Order, numbers: &Numbers, ready: impl FnOnce()) -> Result<(), String> {
    pin_thread(order.cpu).map_err(|error| error.to_string())?;
    sleep_precisely()?;
    let mut worker = Worker::new(order)?;
    let add = |total: &AtomicU64, more: u64| total.store(total.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    let period = order.rate.period();
    ready();
    let mut due = Instant::now();
    while !numbers.is_stopped() {
        if let Some(period) = period {
            let Some(next) = due.checked_add(period) else { return Ok(()) };
            due = next;
            if !sleep_until(due, numbers) {
                break;
            }
        }
        let start = processor_time();
        let call = worker.work().map_err(|error| format!("a remap of {} bytes failed: {error}", order.bytes))?;
        let end = processor_time();
        add(&numbers.call_ns, call);
        add(&numbers.remap_ns, end - start);
        add(&numbers.done, 1);
        numbers.thread_ns.store(end, Ordering::Relaxed);
    }
    Ok(())
}

/// Sleeps until `due`, not at all if that has passed: a thread that is late catches up. `false` if it shall end.
fn sleep_until(due: Instant, numbers: &Numbers) -> bool {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() || numbers.is_stopped() {
            return !numbers.is_stopped();
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// Takes the slack of 50 µs out of the calling thread's sleeps.
fn sleep_precisely() -> Result<(), String> {
    // SAFETY: PR_SET_TIMERSLACK takes one number and changes nothing but the calling thread's timers.
    match unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize, 0_usize, 0_usize, 0_usize) } {
        0 => Ok(()),
        _ => Err(format!("cannot have precise sleeps: {}", io::Error::last_os_error())),
    }
}

/// Processor time of the calling thread, ns.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What a thread works with.
enum Worker {
    /// Maps so many anonymous bytes.
    Unrelated(usize),
    /// Maps so many bytes of the segment.
    Segment(OwnedFd, usize),
    /// Changes the protection of this; `None` only during a change.
    Protect(Option<MmapMut>),
    /// Burns so many nanoseconds.
    Burn(u64),
}

impl Worker {
    fn new(order: &Order) -> Result<Self, String> {
        Ok(match order.work {
            Work::Remap(Kind::Unrelated) => Self::Unrelated(order.bytes),
            Work::Remap(Kind::Segment) => {
                let (fd, size) = find_segment()?;
                Self::Segment(fd, order.bytes.min(size))
            }
            Work::Remap(Kind::Protect) => {
                let mut map = MmapOptions::new().len(order.bytes).map_anon().map_err(|error| error.to_string())?;
                write_pages(&mut map);
                Self::Protect(Some(map))
            }
            Work::Burn { nanoseconds } => Self::Burn(nanoseconds as u64),
        })
    }

    /// Does it once; processor time, in nanoseconds, of the call that takes away from the address space.
    fn work(&mut self) -> io::Result<u64> {
        match self {
            Self::Unrelated(bytes) => {
                let mut map = MmapOptions::new().len(*bytes).map_anon()?;
                write_pages(&mut map);
                Ok(time_drop(map))
            }
            Self::Segment(fd, bytes) => {
                let map = MmapOptions::new().len(*bytes).map_raw_read_only(&*fd)?;
                for offset in (0..map.len()).step_by(PAGE) {
                    // SAFETY: the offset is inside the mapping, whose segment is sealed against shrinking; an atomic load
                    // of a byte may race with the peers' stores and needs no alignment.
                    let byte = unsafe { AtomicU8::from_ptr(map.as_mut_ptr().add(offset)) };
                    black_box(byte.load(Ordering::Relaxed));
                }
                Ok(time_drop(map))
            }
            Self::Protect(slot) => {
                let Some(map) = slot.take() else { return Err(io::ErrorKind::NotFound.into()) };
                let start = processor_time();
                let map = map.make_read_only()?;
                let call = processor_time() - start;
                let mut map = map.make_mut()?;
                write_pages(&mut map);
                *slot = Some(map);
                Ok(call)
            }
            Self::Burn(nanoseconds) => {
                let start = processor_time();
                while processor_time() - start < *nanoseconds {
                    // Most of the time here, where computing takes place, and not in the system.
                    (0..64).for_each(|_| spin_loop());
                }
                Ok(0)
            }
        }
    }
}

/// Processor time of unmapping, ns.
fn time_drop(map: impl Sized) -> u64 {
    let start = processor_time();
    drop(map);
    processor_time() - start
}

fn write_pages(map: &mut MmapMut) {
    for page in map.chunks_mut(PAGE) {
        page[0] = black_box(1);
    }
}

/// A descriptor of the one segment that this process has, and its size in bytes.
fn find_segment() -> Result<(OwnedFd, usize), String> {
    let told = |error: io::Error| format!("cannot look for the connection's segment: {error}");
    let mut found = None;
    for entry in std::fs::read_dir("/proc/self/fd").map_err(told)?.flatten() {
        let path = entry.path();
        // The descriptor of the folder itself has gone when it is looked at.
        let Ok(link) = std::fs::read_link(&path) else { continue };
        if !link.as_os_str().as_bytes().starts_with(SEGMENT) {
            continue;
        }
        let fd = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| told(errno.into()))?;
        let size = rustix::fs::fstat(&fd).map_err(|errno| told(errno.into()))?.st_size;
        if found.replace((fd, usize::try_from(size).unwrap_or(usize::MAX))).is_some() {
            return Err("this process has more than one segment".into());
        }
    }
    found.ok_or_else(|| "this process has no segment".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity};

    fn some_cpu() -> usize {
        let allowed = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap()
    }

    /// What a thread has done when it has worked at least three times.
    fn worked(work: Work, rate: Rate) -> Count {
        let tally = Tally::new().unwrap();
        let order = Order { work, rate, bytes: 64 << 10, cpu: some_cpu() };
        let numbers = tally.numbers();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || live(&order, numbers, || ()));
            while numbers.count().done < 3 && !thread.is_finished() {
                std::thread::yield_now();
            }
            numbers.stop();
            thread.join().unwrap().unwrap();
        });
        numbers.count()
    }

    #[test]
    fn a_thread_counts_what_it_does_and_how_long_it_took() {
        for work in [Work::Remap(Kind::Unrelated), Work::Remap(Kind::Protect)] {
            for rate in [Rate::PerSecond(2000), Rate::Max] {
                let count = worked(work, rate);
                assert!(count.done >= 3, "{count:?}");
                assert!(0 < count.call_ns && count.call_ns < count.remap_ns, "{count:?}");
                assert!(count.remap_ns < count.thread_ns, "{count:?}");
            }
        }
    }

    #[test]
    fn a_burn_takes_the_time_it_was_told_to_and_unmaps_nothing() {
        let count = worked(Work::Burn { nanoseconds: 50e3 }, Rate::Max);
        assert!(count.remap_ns >= count.done * 50_000, "{count:?}");
        assert_eq!(count.call_ns, 0);
    }

    #[test]
    fn a_thread_that_shall_never_remap_ends_at_once() {
        let tally = Tally::new().unwrap();
        let order = Order { work: Work::Remap(Kind::Unrelated), rate: Rate::NONE, bytes: PAGE, cpu: some_cpu() };
        std::thread::scope(|scope| {
            let numbers = tally.numbers();
            scope.spawn(move || live(&order, numbers, || ())).join().unwrap().unwrap();
        });
        assert_eq!(tally.numbers().count(), Count::default());
    }
}
