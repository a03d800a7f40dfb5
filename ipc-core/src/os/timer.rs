//! A timer of the kernel that two processes share: one sets it, the other sleeps on it.
//!
//! Promise: once it is set it fires, whatever becomes of the process that set it; no call here ever waits, whatever the peer did
//! to the timer. Refusal: it does not know what it is set for; [`crate::sender`] does.

use crate::os::fork::GuardedFd;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_gettime,
    timerfd_settime,
};
use std::io;
use std::time::Duration;

/// A `timerfd`, readable from the moment it fires until it is set or cleared. Both sides hold it.
#[derive(Debug)]
pub(crate) struct Timer(GuardedFd);

impl Timer {
    /// A new one, which is not set.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let create = || Ok(timerfd_create(TimerfdClockId::Monotonic, flags)?);
        Ok(Self(GuardedFd::open(create)?))
    }

    /// One that a peer sent, and that [is a timer](is_timer).
    pub(crate) fn attach(fd: OwnedFd) -> io::Result<Self> {
        GuardedFd::new(fd).map(Self)
    }

    /// Fires once, after `delay`, unless it is set again. A delay of zero counts as the shortest there is.
    pub(crate) fn set(&self, delay: Duration) -> io::Result<()> {
        // More than the kernel can express is as long as it can.
        let longest = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let it_value = Timespec::try_from(delay.max(Duration::from_nanos(1))).unwrap_or(longest);
        self.change(it_value)
    }

    /// Takes note of a firing, and takes back a setting.
    ///
    /// Not a `read`: the peer can make that wait (whether a descriptor waits is a flag of the open file, which both share), and a timer
    /// that the peer made fire over and over would go on doing so at no cost to it. This way each firing costs it a call, as each ring does.
    pub(crate) fn clear(&self) {
        // Fails for no timer. Were it to fail, the sleeper would only wake too often.
        let _ = self.change(Timespec::default());
    }

    fn change(&self, it_value: Timespec) -> io::Result<()> {
        let value = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &value)?;
        Ok(())
    }
}

/// Says whether a descriptor that a peer sent is a timer: the kernel answers this question for timers only. Which clock it runs by is not
/// asked. A peer that chose another one delays its own wake-ups.
pub(crate) fn is_timer(fd: impl AsFd) -> bool {
    timerfd_gettime(fd).is_ok()
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::socket::wait_readable;
    use rustix::fs::{OFlags, fcntl_setfl};
    use std::time::Instant;

    fn has_fired(timer: &Timer, patience: Duration) -> bool {
        wait_readable(std::iter::once(timer.as_fd()), Some(patience)).unwrap()[0]
    }

    #[test]
    fn a_timer_fires_no_sooner_than_it_was_set_for_and_once() {
        let timer = Timer::new().unwrap();
        assert!(!has_fired(&timer, Duration::ZERO));
        let (delay, start) = (Duration::from_millis(20), Instant::now());
        timer.set(delay).unwrap();
        assert!(has_fired(&timer, Duration::from_secs(10)));
        assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
        timer.clear();
        assert!(!has_fired(&timer, delay * 2));
    }

    #[test]
    fn a_timer_that_is_set_again_or_cleared_forgets_what_was_before() {
        let timer = Timer::new().unwrap();
        timer.set(Duration::ZERO).unwrap();
        assert!(has_fired(&timer, Duration::from_secs(10)));
        timer.set(Duration::MAX).unwrap();
        assert!(!has_fired(&timer, Duration::from_millis(20)));
        timer.set(Duration::from_millis(10)).unwrap();
        timer.clear();
        assert!(!has_fired(&timer, Duration::from_millis(40)));
    }

    #[test]
    fn clearing_ends_a_timer_that_fires_over_and_over_and_does_not_wait_when_reading_would() {
        let timer = Timer::new().unwrap();
        let often = Timespec { tv_sec: 0, tv_nsec: 1 };
        let value = Itimerspec { it_interval: often, it_value: often };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &value).unwrap();
        assert!(has_fired(&timer, Duration::from_secs(10)));
        fcntl_setfl(&timer, OFlags::empty()).unwrap();
        timer.clear();
        timer.clear();
        assert!(!has_fired(&timer, Duration::from_millis(20)));
    }

    #[test]
    fn only_timers_are_taken_for_timers_and_both_holders_see_them_fire() {
        let timer = Timer::new().unwrap();
        assert!(is_timer(&timer));
        let attached = Timer::attach(timer.as_fd().try_clone_to_owned().unwrap()).unwrap();
        timer.set(Duration::ZERO).unwrap();
        assert!(has_fired(&attached, Duration::from_secs(10)));
        let (socket, _other) = crate::os::socket::pair().unwrap();
        let file = rustix::fs::memfd_create("ipc", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        for other in [socket, file] {
            assert!(!is_timer(other));
        }
    }
}
