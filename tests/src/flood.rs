//! A peer that does the same thing as often as it can, on the processor that the test waits on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Puts the calling thread on the first processor, ahead of others there if `first` and if that is permitted.
pub fn share_a_processor(first: bool) {
    // SAFETY: plain old data of the sizes that the calls are given, for the calling thread only.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
        if first {
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &libc::sched_param { sched_priority: 1 });
        }
    }
}

/// Runs `wait` in a thread of its own while another one, which goes first on the same processor, does `more` over and over: as
/// often as it can each time. What came of it, if it came in time.
///
/// # Panics
/// If one of the threads does.
pub fn under_a_flood<T: Send + 'static>(
    mut more: impl FnMut() -> bool + Send + 'static,
    wait: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            share_a_processor(true);
            while !stop.load(Ordering::Relaxed) {
                while more() {}
                std::thread::sleep(Duration::from_micros(30));
            }
        })
    };
    std::thread::sleep(Duration::from_millis(20));
    let (sender, outcome) = channel();
    let waiting = std::thread::spawn(move || {
        share_a_processor(false);
        let _ = sender.send(wait());
    });
    let outcome = outcome.recv_timeout(Duration::from_secs(3)).ok();
    stop.store(true, Ordering::Relaxed);
    flood.join().expect("the flood");
    waiting.join().expect("the side that waits");
    outcome
}
