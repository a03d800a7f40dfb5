//! Carries records between rings that are not shared, in packets of the connection's sockets.
//!
//! ```text
//! messages:  position  next  bytes of the ring...      8 + 8 + n bytes; n = 0 is a goodbye
//! space:     head  messages  gone                      8 + 8 + 8 bytes; 1 byte is a ring of the doorbell
//! ```
//!
//! Promise: what the sender committed is in the kernel when its commit returns, so it is received even if the sender dies then. Refusal:
//! no packet is believed; the ring's checks are the same as for shared memory.

use super::bell::Deadline;
use super::packet;
use crate::link::Link;
use crate::ring::{Inlet, Outlet, Violation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use std::io;
use std::time::Duration;

/// The most bytes of a ring in one packet; a record is never more.
pub(crate) const MAX_SPAN: u64 = 64 << 10;
/// What the kernel counts for a packet beside its bytes, at most.
const OVERHEAD: u64 = 1280;
/// Packets taken at a time: a peer that sends without end must not keep a caller from its deadline.
const AT_A_TIME: usize = 64;

const HEAD: usize = 16;
const CREDIT: usize = 24;

/// Carries everything up to position `tail`; waits while the socket is full. False: the peer is gone.
pub(crate) fn carry(outlet: &mut Outlet<'_>, link: &Link, tail: u64, surely: &mut u64) -> bool {
    while let Some(span) = outlet.next(tail, MAX_SPAN) {
        let head = words([span.position, span.next]);
        // SAFETY: records that were published in a ring of this process, which stay until the peer gives credit.
        let bytes = unsafe { core::slice::from_raw_parts(span.start, span.len) };
        loop {
            match packet::send(&link.messages, &[IoSlice::new(&head), IoSlice::new(bytes)], &[]) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = wait_for_room(link, None);
                }
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => std::thread::yield_now(),
                Err(_) => return false,
            }
        }
        *surely = surely.saturating_sub(span.len as u64 + OVERHEAD);
        outlet.carried(&span);
    }
    outlet.arm();
    true
}

/// Tells the peer that nothing more comes.
pub(crate) fn say_goodbye(outlet: &Outlet<'_>, link: &Link) {
    let position = outlet.position();
    // A peer that does not hear it sees a death instead.
    let _ = packet::send(&link.messages, &[IoSlice::new(&words([position, position]))], &[]);
}

/// Waits until the socket surely takes a packet. The inner error: it does not yet; how long the call waited, if it did.
pub(crate) fn await_room(
    link: &Link,
    surely: &mut u64,
    deadline: Option<Deadline>,
) -> io::Result<Result<(), Option<Duration>>> {
    let needed = MAX_SPAN + OVERHEAD;
    while *surely < needed {
        let left = deadline.map_or(Some(Duration::ZERO), |deadline| deadline.left());
        if wait_for_room(link, left)? {
            // The kernel calls a packet socket writable while it is at most a quarter full.
            *surely = (sockopt::socket_send_buffer_size(&link.messages)? as u64 / 4 * 3).max(needed);
        } else {
            match deadline {
                None => return Ok(Err(None)),
                Some(deadline) if deadline.is_over() => return Ok(Err(Some(deadline.waited()))),
                Some(_) => {}
            }
        }
    }
    Ok(Ok(()))
}

fn wait_for_room(link: &Link, left: Option<Duration>) -> io::Result<bool> {
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut [PollFd::new(&link.messages.as_fd(), PollFlags::OUT)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// What came from the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Credit,
    Gone,
}

/// Takes in the credit that has come.
pub(crate) fn hear(outlet: &Outlet<'_>, link: &Link) -> Result<Heard, Violation> {
    let mut heard = Heard::Nothing;
    for _ in 0..AT_A_TIME {
        let mut packet = [0_u8; CREDIT + 1];
        match recv(&link.space, &mut packet, RecvFlags::DONTWAIT) {
            Ok((_, CREDIT)) => {
                let [head, messages, gone] = [0, 8, 16].map(|at| word(&packet, at));
                outlet.credit(head, messages);
                heard = Heard::Credit;
                if gone != 0 {
                    outlet.close();
                    return Ok(Heard::Gone);
                }
            }
            Ok((_, 1)) => heard = Heard::Credit,
            Ok((_, 0)) | Err(Errno::CONNRESET | Errno::PIPE) => return Ok(Heard::Gone),
            Ok((_, len)) => {
                let (value, max) = (len as u64, CREDIT as u64);
                return Err(Violation { field: "length of a credit packet", value, min: max, max });
            }
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    Ok(heard)
}

/// What came from the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Nothing,
    Some,
    /// The peer's end is closed, and everything it sent is here.
    Ended,
}

/// Takes in the next records that have come, as far as there is room for them: those of one packet.
pub(crate) fn fill(inlet: &mut Inlet<'_>, link: &Link) -> Result<Filled, Violation> {
    let mut filled = Filled::Nothing;
    for _ in 0..AT_A_TIME {
        let space = inlet.space();
        // SAFETY: room in a ring of this process that nobody reads.
        let room = unsafe { core::slice::from_raw_parts_mut(space.start, space.len) };
        let mut head = [0; HEAD];
        let max = (HEAD + space.len) as u64;
        let wrong = |value| Err(Violation { field: "length of a packet", value, min: HEAD as u64, max });
        let buffers = &mut [IoSliceMut::new(&mut head), IoSliceMut::new(room)];
        let packet = match packet::receive_with(&link.messages, buffers, RecvFlags::empty()) {
            Ok(packet) => packet,
            // A reset is told once, ahead of the packets that came before it.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset) => {
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return Ok(Filled::Ended),
        };
        match packet.len {
            // What came before the end is looked at first; the end is found again.
            0 if filled == Filled::Some => break,
            0 => return Ok(Filled::Ended),
            len if packet.too_long => return wrong(len as u64 + 1),
            HEAD => inlet.close(),
            len @ 0..HEAD => return wrong(len as u64),
            len => {
                inlet.accept((len - HEAD) as u64, word(&head, 0), word(&head, 8))?;
                // Whoever takes these looks again: another look now would mostly be one call in vain for each packet.
                return Ok(Filled::Some);
            }
        }
        filled = Filled::Some;
    }
    Ok(filled)
}

/// Tells the sender how far the receiver is. False: the socket is full; it has to be told later.
pub(crate) fn give_credit(inlet: &mut Inlet<'_>, link: &Link, gone: bool) -> bool {
    let (head, messages) = inlet.credit();
    inlet.arm();
    let mut packet = [0; CREDIT];
    for (at, value) in [head, messages, gone.into()].into_iter().enumerate() {
        packet[at * 8..][..8].copy_from_slice(&value.to_ne_bytes());
    }
    loop {
        match send(&link.space, &packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result != Err(Errno::AGAIN),
        }
    }
}

fn words(words: [u64; 2]) -> [u8; HEAD] {
    zerocopy::transmute!(words)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::calibration::pair;
    use crate::terms::Mode;

    /// A receiver that polls asked whether the peer was gone, then took the last packet and the end in one go, and reported the end.
    #[test]
    fn the_last_packet_is_told_before_the_end() {
        for leaves_unread in [false, true] {
            let (mut near, mut far) = pair(Mode::Kernel).expect("a pair");
            if leaves_unread {
                far.send(b"never read").expect("sent");
            }
            near.send(b"last").expect("sent");
            drop(near);
            let link = far.sender().link();
            let mut inlet = Inlet::new(link.incoming());
            // The message, the goodbye, the end.
            assert_eq!(fill(&mut inlet, link), Ok(Filled::Some));
            assert_eq!(fill(&mut inlet, link), Ok(Filled::Some));
            assert_eq!(fill(&mut inlet, link), Ok(Filled::Ended));
        }
    }
}
