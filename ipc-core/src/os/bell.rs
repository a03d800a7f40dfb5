//! One direction of waking: a socket that one side rings and the other sleeps on.
//!
//! Promise: ringing never waits, whatever the peer did to its end; a sleeper is woken by a ring and by the
//! peer's death alike, and it costs no processor time until then. Refusal: it does not know whether anything is there; the
//! ticket protocol of [`crate::doorbell`] does.

use crate::os::fork::GuardedFd;
use crate::os::socket;
use crate::os::timer::Timer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::io;
use std::time::{Duration, Instant};

/// When a blocking call gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    started: Instant,
    at: Option<Instant>,
}

impl Deadline {
    /// Never.
    pub(crate) fn never() -> Self {
        Self { started: Instant::now(), at: None }
    }

    /// After `timeout`; one too long for the clock to express counts as never.
    pub(crate) fn after(timeout: Duration) -> Self {
        let started = Instant::now();
        Self { started, at: started.checked_add(timeout) }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// Time left, or `None` if there is no end.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// How often a ring is tried that the kernel has no memory for.
const RING_ATTEMPTS: u32 = 1000;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// The peer rang, or a signal came: look again.
    Woken,
    /// The deadline has passed.
    TimedOut,
    /// The peer has closed its end, or died.
    PeerGone,
}

/// What taking old rings off a socket left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Nothing: the next ring makes the socket readable.
    All,
    /// More rings, perhaps. A socket full of them takes no other one, and whoever waits for edges would not hear it.
    Some,
    /// The peer has closed its end, or died.
    PeerGone,
}

/// A socket that carries rings both ways: ours to the peer and the peer's to us.
pub(crate) struct Bell {
    socket: GuardedFd,
    /// The socket carries data that somebody else reads: it wakes, but nothing is taken off it here.
    has_data: bool,
    /// What wakes the sleeper beside the socket, if the peer puts rings off.
    alarm: Option<Alarm>,
}

/// A timer that the peer sets instead of ringing.
struct Alarm {
    timer: Timer,
    /// An epoll of socket and timer, for the event loops of others.
    events: GuardedFd,
}

impl Bell {
    pub(crate) fn new(socket: GuardedFd) -> Self {
        Self { socket, has_data: false, alarm: None }
    }

    /// One whose socket carries more than rings.
    pub(crate) fn with_data(socket: GuardedFd) -> Self {
        Self { socket, has_data: true, alarm: None }
    }

    /// One that the peer also rings by a timer.
    pub(crate) fn with_timer(socket: GuardedFd, timer: Timer) -> io::Result<Self> {
        let events = GuardedFd::open(|| socket::watch(&socket))?;
        socket::watch_too(&events, &timer)?;
        Ok(Self { socket, has_data: false, alarm: Some(Alarm { timer, events }) })
    }

    /// Wakes the peer. False if the peer has gone.
    pub(crate) fn ring(&self) -> bool {
        for _ in 0..RING_ATTEMPTS {
            match send(&self.socket, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                // A full socket holds rings that the peer has not heard yet: one of them will wake it.
                Ok(_) | Err(Errno::AGAIN) => return true,
                Err(Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => std::thread::yield_now(),
                Err(_) => return false,
            }
        }
        true
    }

    /// Sleeps until the peer rings or goes, or the deadline passes.
    pub(crate) fn sleep(&self, deadline: Deadline) -> io::Result<Slept> {
        if self.has_data {
            return self.poll(deadline.left());
        }
        if let Some(alarm) = &self.alarm {
            let slept = self.poll(deadline.left()).map(|slept| self.hear(slept));
            // [T2] the sleep is over, so the timer is no longer needed for it; before the next ticket is raised. See sender/coalesce.rs.
            alarm.timer.clear();
            return slept;
        }
        let Some(left) = deadline.left() else {
            // Without a deadline one call does both: sleep, and take the ring off the socket.
            return match recv(&self.socket, &mut [0; 8], RecvFlags::empty()) {
                Err(Errno::AGAIN) => self.poll(None).map(|slept| self.hear(slept)),
                result => Self::received(result.map(|(_, len)| len)),
            };
        };
        self.poll(Some(left)).map(|slept| self.hear(slept))
    }

    /// Takes rings off the socket that were meant for an earlier sleep; a bounded number, as a hostile peer can send any number.
    pub(crate) fn drain(&self) -> Drained {
        if self.has_data {
            return Drained::All;
        }
        if let Some(alarm) = &self.alarm {
            // [T2] as in `sleep`.
            alarm.timer.clear();
        }
        for _ in 0..16 {
            match recv(&self.socket, &mut [0; 8], RecvFlags::DONTWAIT) {
                Ok((_, 1..)) => {}
                Ok((_, 0)) | Err(Errno::CONNRESET | Errno::PIPE) => return Drained::PeerGone,
                Err(_) => return Drained::All,
            }
        }
        Drained::Some
    }

    /// Sleeps until something comes here, there is room in another socket, or the deadline passes. For a socket with data.
    pub(crate) fn sleep_or_room(&self, other: &Self, deadline: Deadline) -> io::Result<Slept> {
        let timeout = deadline.left().and_then(|left| Timespec::try_from(left).ok());
        let fds = &mut [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&other.socket, PollFlags::OUT)];
        match poll(fds, timeout.as_ref()) {
            Ok(0) => Ok(Slept::TimedOut),
            Ok(_) | Err(Errno::INTR) => Ok(Slept::Woken),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Says, without sleeping, whether the peer has closed its end of this direction, or died.
    pub(crate) fn is_peer_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) && fds[0].revents().intersects(gone)
    }

    /// Tells the peer's end that this side is gone, in this direction.
    pub(crate) fn hang_up(&self, how: Shutdown) {
        // Fails only if the peer is gone already.
        let _ = shutdown(&self.socket, how);
    }

    fn poll(&self, left: Option<Duration>) -> io::Result<Slept> {
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let socket = PollFd::new(&self.socket, PollFlags::IN);
        let polled = match &self.alarm {
            None => poll(&mut [socket], timeout.as_ref()),
            Some(alarm) => poll(&mut [socket, PollFd::new(&alarm.timer, PollFlags::IN)], timeout.as_ref()),
        };
        match polled {
            Ok(0) => Ok(Slept::TimedOut),
            Ok(_) | Err(Errno::INTR) => Ok(Slept::Woken),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes one ring off the socket, if there is one.
    fn hear(&self, slept: Slept) -> Slept {
        if slept != Slept::Woken {
            return slept;
        }
        match recv(&self.socket, &mut [0; 8], RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => Slept::Woken,
            result => Self::received(result.map(|(_, len)| len)).unwrap_or(Slept::PeerGone),
        }
    }

    fn received(result: Result<usize, Errno>) -> io::Result<Slept> {
        match result {
            // SOCK_SEQPACKET: no bytes mean that the peer's end is closed.
            Ok(0) | Err(Errno::CONNRESET | Errno::PIPE) => Ok(Slept::PeerGone),
            Ok(_) | Err(Errno::INTR) => Ok(Slept::Woken),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Readable when the sleeper would wake. With a timer it is no socket.
impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_ref().map_or(self.socket.as_fd(), |alarm| alarm.events.as_fd())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_settime};

    /// A sleeper's bell, the timer of its peer, and the peer's end of the socket.
    fn alarmed() -> (Bell, Timer, Bell) {
        let (ours, theirs) = socket::pair().unwrap();
        let timer = Timer::new().unwrap();
        let peers = Timer::attach(timer.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let bell = Bell::with_timer(GuardedFd::new(ours).unwrap(), timer).unwrap();
        (bell, peers, Bell::new(GuardedFd::new(theirs).unwrap()))
    }

    fn shortly() -> Deadline {
        Deadline::after(Duration::from_millis(30))
    }

    fn is_readable(bell: &Bell) -> bool {
        socket::wait_readable(std::iter::once(bell.as_fd()), Some(Duration::ZERO)).unwrap()[0]
    }

    #[test]
    fn a_sleeper_wakes_for_a_ring_a_timer_and_the_peers_end_and_takes_each_once() {
        let (bell, timer, peer) = alarmed();
        for _ in 0..2 {
            assert_eq!(bell.sleep(shortly()).unwrap(), Slept::TimedOut);
            assert!(!is_readable(&bell));
            peer.ring();
            assert!(is_readable(&bell));
            assert_eq!(bell.sleep(Deadline::never()).unwrap(), Slept::Woken);
            timer.set(Duration::from_millis(5)).unwrap();
            assert_eq!(bell.sleep(Deadline::never()).unwrap(), Slept::Woken);
            assert!(!is_readable(&bell));
        }
        drop(peer);
        // A child that another test forks has the peer's socket too, for as long as it takes to close it.
        let soon = Some(Duration::from_secs(10));
        assert!(socket::wait_readable(std::iter::once(bell.as_fd()), soon).unwrap()[0]);
        assert_eq!(bell.sleep(Deadline::never()).unwrap(), Slept::PeerGone);
    }

    #[test]
    fn a_sleep_that_is_over_takes_the_timer_back() {
        let (bell, timer, peer) = alarmed();
        timer.set(Duration::from_millis(15)).unwrap();
        peer.ring();
        assert_eq!(bell.sleep(Deadline::never()).unwrap(), Slept::Woken);
        assert_eq!(bell.sleep(shortly()).unwrap(), Slept::TimedOut);
        timer.set(Duration::ZERO).unwrap();
        assert_eq!(bell.drain(), Drained::All);
        assert!(!is_readable(&bell));
    }

    #[test]
    fn a_timer_that_the_peer_lets_fire_for_ever_and_makes_readers_wait_for_wakes_once_a_setting() {
        let (bell, timer, _peer) = alarmed();
        let often = Timespec { tv_sec: 0, tv_nsec: 1 };
        let value = Itimerspec { it_interval: often, it_value: often };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &value).unwrap();
        fcntl_setfl(&timer, OFlags::empty()).unwrap();
        assert_eq!(bell.sleep(Deadline::never()).unwrap(), Slept::Woken);
        assert_eq!(bell.sleep(shortly()).unwrap(), Slept::TimedOut);
        assert_eq!(bell.drain(), Drained::All);
        assert!(!is_readable(&bell));
    }

    #[test]
    fn rings_that_are_left_on_the_socket_are_told_apart_from_none() {
        let (here, there) = socket::pair().unwrap();
        let (here, there) = (Bell::new(GuardedFd::new(here).unwrap()), Bell::new(GuardedFd::new(there).unwrap()));
        assert_eq!(here.drain(), Drained::All);
        for _ in 0..20 {
            assert!(there.ring());
        }
        assert_eq!([here.drain(), here.drain()], [Drained::Some, Drained::All]);
        there.ring();
        drop(there);
        assert_eq!(here.drain(), Drained::PeerGone);
    }
}
