//! What it costs to touch memory for the first time, and what can be paid beforehand.
//!
//! Promise: fresh shared memory for every sample; what is paid before the touch is told apart from the touch; what the
//! system has not is named with the reason. Refusal: no other process is involved.

use super::super::process::Fallible;
use super::super::stats::Summary;
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Sizes of the memory, bytes.
const SIZES: [usize; 3] = [64 << 10, 1 << 20, 16 << 20];
/// Stride of touching and unit of the result, bytes.
const PAGE: usize = 4096;
/// Size of a huge page, bytes.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes that are touched for a sample at an effort of 100.
const SAMPLE: usize = 32 << 20;

/// Ways to get memory, and whether anything is done before it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// Mapped, and no more.
    Plain,
    /// Mapped with `MAP_POPULATE`.
    MapPopulate,
    /// Mapped, then `madvise(MADV_POPULATE_WRITE)`.
    PopulateWrite,
    /// `fallocate`, then mapped.
    Fallocate,
    /// Both: what a connection does.
    FallocatePopulate,
    /// A memfd of huge pages.
    HugePages,
    /// Mapped, then `madvise(MADV_HUGEPAGE)`.
    HugeAdvice,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::Plain,
        Self::MapPopulate,
        Self::PopulateWrite,
        Self::Fallocate,
        Self::FallocatePopulate,
        Self::HugePages,
        Self::HugeAdvice,
    ];

    /// As in the manual pages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "mmap",
            Self::MapPopulate => "MAP_POPULATE",
            Self::PopulateWrite => "MADV_POPULATE_WRITE",
            Self::Fallocate => "fallocate",
            Self::FallocatePopulate => "fallocate, MAP_POPULATE",
            Self::HugePages => "MFD_HUGETLB",
            Self::HugeAdvice => "MADV_HUGEPAGE",
        }
    }
}

/// Measured cases: every way with every size.
pub(super) const CASES: usize = SIZES.len() * Way::ALL.len();

/// What one way costs for one size.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Fault {
    pub(super) way: Way,
    /// Size of the memory, bytes.
    pub(super) bytes: u64,
    /// Why there are no figures, if there are none.
    pub(super) unavailable: Option<String>,
    /// The figures.
    pub(super) cost: Option<Cost>,
}

/// Costs in nanoseconds for each 4 KiB.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cost {
    /// `mmap` and what is done before the first touch.
    pub(super) prepare_ns_per_page: Summary,
    /// Writing one byte of each 4 KiB for the first time.
    pub(super) first_touch_ns_per_page: Summary,
    /// The same again: the floor.
    pub(super) second_touch_ns_per_page: Summary,
    /// Preparation and first touch together, less the second touch.
    pub(super) total_ns_per_page: Summary,
    /// The median of that for each byte.
    pub(super) total_ns_per_byte: f64,
}

/// Times of one piece of memory.
#[derive(Clone, Copy, Default)]
struct Times {
    prepare: Duration,
    first: Duration,
    second: Duration,
}

/// Measures all cases in turns, `rounds` times. Calls `step` [`CASES`] times.
///
/// # Errors
/// The system has no ordinary memory to give.
pub(super) fn measure(rounds: usize, effort: u32, mut step: impl FnMut()) -> Fallible<Vec<Fault>> {
    let mut faults = Vec::with_capacity(CASES);
    for bytes in SIZES {
        let mut samples: Vec<(Way, Option<String>, Vec<Times>)> =
            Way::ALL.iter().map(|&way| (way, obstacle(way, bytes), Vec::new())).collect();
        let pieces = (SAMPLE / 100 * effort as usize / bytes).max(1);
        for _ in 0..rounds {
            for (way, obstacle, times) in samples.iter_mut().filter(|(_, obstacle, _)| obstacle.is_none()) {
                match sample(*way, bytes, pieces) {
                    Ok(sample) => times.push(sample),
                    Err(cause) if *way == Way::HugePages => *obstacle = Some(cause.to_string()),
                    Err(cause) => return Err(format!("{}, {bytes} bytes: {cause}", way.name()).into()),
                }
            }
        }
        for (way, unavailable, times) in samples {
            let cost = if unavailable.is_none() { Some(Cost::of(&times, pieces * bytes)?) } else { None };
            faults.push(Fault { way, bytes: bytes as u64, unavailable, cost });
            step();
        }
    }
    Ok(faults)
}

impl Cost {
    fn of(times: &[Times], bytes: usize) -> Fallible<Self> {
        let pages = (bytes / PAGE) as f64;
        let each = |part: fn(&Times) -> f64| -> Fallible<Summary> {
            Summary::of(&times.iter().map(|times| part(times) / pages).collect::<Vec<_>>())
        };
        let total = each(|times| (times.prepare + times.first).as_nanos() as f64 - times.second.as_nanos() as f64)?;
        Ok(Self {
            prepare_ns_per_page: each(|times| times.prepare.as_nanos() as f64)?,
            first_touch_ns_per_page: each(|times| times.first.as_nanos() as f64)?,
            second_touch_ns_per_page: each(|times| times.second.as_nanos() as f64)?,
            total_ns_per_byte: total.median / PAGE as f64,
            total_ns_per_page: total,
        })
    }
}

/// Why a way cannot be measured here; `None` if it can.
fn obstacle(way: Way, bytes: usize) -> Option<String> {
    if !matches!(way, Way::HugePages | Way::HugeAdvice) {
        return None;
    }
    if bytes < HUGE_PAGE {
        return Some("smaller than a huge page".into());
    }
    // Advice is taken and ignored where the system has no huge pages for shared memory, so what came of it is looked up.
    if way == Way::HugeAdvice {
        return match advised_huge_bytes(bytes) {
            Ok(0) => Some(match std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled") {
                Ok(setting) => format!("not available here: shmem_enabled is {}", setting.trim()),
                Err(_) => "not available here".into(),
            }),
            Ok(_) => None,
            Err(cause) => Some(format!("not available here: {cause}")),
        };
    }
    sample(way, bytes, 1).err().map(|cause| format!("not available here: {cause}"))
}

/// How much of freshly touched memory lies in huge pages after the advice, bytes.
fn advised_huge_bytes(bytes: usize) -> Fallible<u64> {
    let memory = Memory::get(Way::HugeAdvice, file(Way::HugeAdvice, bytes)?, bytes)?;
    memory.touch();
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let start = format!("{:x}-", memory.map.as_mut_ptr() as usize);
    let own = maps.lines().skip_while(|line| !line.starts_with(&start));
    let kilobytes = own.filter_map(|line| line.strip_prefix("ShmemPmdMapped:")).next();
    Ok(kilobytes.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0) * 1024)
}

/// The times of `pieces` pieces of memory together.
fn sample(way: Way, bytes: usize, pieces: usize) -> Fallible<Times> {
    let mut total = Times::default();
    for _ in 0..pieces {
        let fd = file(way, bytes)?;
        let start = Instant::now();
        let memory = Memory::get(way, fd, bytes)?;
        let prepared = Instant::now();
        memory.touch();
        let touched = Instant::now();
        memory.touch();
        let again = Instant::now();
        total.prepare += prepared - start;
        total.first += touched - prepared;
        total.second += again - touched;
    }
    Ok(total)
}

/// Shared memory of this process alone.
struct Memory {
    map: MmapRaw,
    _fd: OwnedFd,
}

/// A file in memory, of which no page exists yet.
fn file(way: Way, bytes: usize) -> Fallible<OwnedFd> {
    let flags = if way == Way::HugePages { MemfdFlags::HUGETLB } else { MemfdFlags::empty() };
    let fd = memfd_create("ipc-bench", MemfdFlags::CLOEXEC | flags)?;
    ftruncate(&fd, bytes as u64)?;
    Ok(fd)
}

impl Memory {
    fn get(way: Way, fd: OwnedFd, bytes: usize) -> Fallible<Self> {
        if matches!(way, Way::Fallocate | Way::FallocatePopulate) {
            fallocate(&fd, FallocateFlags::empty(), 0, bytes as u64)?;
        }
        let mut options = MmapOptions::new();
        if matches!(way, Way::MapPopulate | Way::FallocatePopulate) {
            options.populate();
        }
        let map = options.len(bytes).map_raw(&fd)?;
        match way {
            Way::PopulateWrite => map.advise(Advice::PopulateWrite)?,
            Way::HugeAdvice => map.advise(Advice::HugePage)?,
            _ => {}
        }
        Ok(Self { map, _fd: fd })
    }

    /// Writes one byte of each page.
    fn touch(&self) {
        for offset in (0..self.map.len()).step_by(PAGE) {
            // SAFETY: the offset is inside the mapping, which nobody shrinks: its descriptor is this value's alone.
            unsafe { AtomicU8::from_ptr(self.map.as_mut_ptr().add(offset)) }.store(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_a_cost_or_a_reason_for_each_size() {
        let mut steps = 0;
        let faults = measure(1, 1, || steps += 1).unwrap();
        assert_eq!((faults.len(), steps), (CASES, CASES));
        for fault in faults {
            assert_ne!(fault.cost.is_some(), fault.unavailable.is_some(), "{fault:?}");
            let is_huge = matches!(fault.way, Way::HugePages | Way::HugeAdvice);
            assert!(fault.cost.is_some() || is_huge, "{fault:?}");
        }
    }

    #[test]
    fn the_cost_of_a_byte_is_that_of_a_page_shared_out() {
        let nanoseconds = Duration::from_nanos;
        let times = Times { prepare: nanoseconds(4096), first: nanoseconds(8192), second: nanoseconds(2048) };
        let cost = Cost::of(&[times], 2 * PAGE).unwrap();
        assert_eq!(cost.prepare_ns_per_page.median, 2048.0);
        assert_eq!(cost.total_ns_per_page.median, 5120.0);
        assert_eq!(cost.total_ns_per_byte, 1.25);
    }
}
