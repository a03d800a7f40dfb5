//! The socket for files: file descriptors beside messages, and the bytes of messages that travel through the kernel.
//!
//! Promise: what is beside a message is taken from the socket by that message and no other; a lack of descriptors in this process
//! leaves everything where it is, to be taken later. Refusal: which message has something beside it is said in the ring.

use super::bell::Deadline;
use super::fork::GuardedFd;
use super::packet::{self, Packet};
use crate::ring::Violation;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{RecvFlags, recv};
use std::io;
use std::vec::Vec;

/// First byte of a packet that carries files, and of one that carries bytes.
const FILES: u8 = 1;
const BYTES: u8 = 2;

/// The most bytes of a message that travels as one packet.
pub(crate) const MAX_BYTES: u64 = 64 << 10;

/// Why nothing was taken.
#[derive(Debug)]
pub(crate) enum Untaken {
    Violation(Violation),
    Os(io::Error),
}

impl From<Errno> for Untaken {
    fn from(errno: Errno) -> Self {
        Self::Os(errno.into())
    }
}

pub(crate) struct Files {
    socket: GuardedFd,
}

impl Files {
    pub(crate) fn new(socket: GuardedFd) -> Self {
        Self { socket }
    }

    /// Sends files. `WouldBlock` while the peer has not taken enough of what was sent before; see also [`is_too_many`].
    pub(crate) fn send(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        packet::send(&self.socket, &[IoSlice::new(&[FILES])], files)
    }

    /// Sends the bytes of a message, at most [`MAX_BYTES`].
    pub(crate) fn send_bytes(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut slices = Vec::with_capacity(parts.len() + 1);
        slices.push(IoSlice::new(&[BYTES]));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        packet::send(&self.socket, &slices, &[])
    }

    /// Waits until the socket has room again, the peer is gone or the deadline passes. False: it has passed.
    pub(crate) fn wait_for_room(&self, deadline: Deadline) -> io::Result<bool> {
        let timeout = deadline.left().and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], timeout.as_ref()) {
            Ok(0) => Ok(false),
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// `WouldBlock` unless there surely is room for some files and for the bytes of a message: the kernel calls a packet socket writable
    /// while it is at most a quarter full.
    pub(crate) fn check_room(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&Timespec::default())) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The files beside the message that is received: `expected` of them. They stay on the socket too, to be had again, until they are
    /// [finished](Self::finish) with.
    pub(crate) fn get(&self, expected: usize) -> Result<Vec<OwnedFd>, Untaken> {
        let mut tag = [0];
        let Packet { len, fds, too_many, too_long } = self.look(&mut [IoSliceMut::new(&mut tag)], RecvFlags::PEEK)?;
        if len == 0 || tag != [FILES] || too_long {
            return Err(self.wrong("packet with the files of a message", u64::from(tag[0]), FILES));
        }
        if fds.len() < expected && too_many {
            // The kernel had no numbers left for the rest.
            return Err(Errno::MFILE.into());
        }
        if fds.len() != expected {
            let (value, expected) = (fds.len() as u64, expected as u64);
            return Err(Untaken::Violation(Violation {
                field: "files that came with a message",
                value,
                min: expected,
                max: expected,
            }));
        }
        Ok(fds)
    }

    /// Takes the files that were got off the socket.
    pub(crate) fn finish(&self) -> Result<(), Untaken> {
        after_reset(|| Ok(recv(&self.socket, &mut [0; 1][..], RecvFlags::DONTWAIT)?)).map_err(Untaken::Os)?;
        Ok(())
    }

    /// Takes the bytes of a message into `target`, whose length is that of the message.
    pub(crate) fn take_bytes(&self, target: &mut [u8]) -> Result<(), Untaken> {
        let (mut tag, expected) = ([0], target.len());
        let packet = self.look(&mut [IoSliceMut::new(&mut tag), IoSliceMut::new(target)], RecvFlags::empty())?;
        if packet.len != expected + 1 || packet.too_long || tag != [BYTES] {
            return Err(self.wrong("packet with the bytes of a message", packet.len as u64, BYTES));
        }
        Ok(())
    }

    fn look(&self, buffers: &mut [IoSliceMut<'_>], flags: RecvFlags) -> Result<Packet, Untaken> {
        match after_reset(|| packet::receive_with(&self.socket, buffers, flags)) {
            Ok(packet) => Ok(packet),
            // The packet is sent before the message: it is not there, and never was.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(self.wrong("packets beside a message", 0, 1))
            }
            Err(error) => Err(Untaken::Os(error)),
        }
    }

    fn wrong(&self, field: &'static str, value: u64, expected: u8) -> Untaken {
        Untaken::Violation(Violation { field, value, min: expected.into(), max: expected.into() })
    }
}

/// A peer that goes without having read everything is told of once, before what it sent is received.
fn after_reset<T>(mut receive: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match receive() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive(),
        received => received,
    }
}

/// Says whether there are too many files on their way, in all sockets of this user: no room in a socket tells when there are fewer.
pub(crate) fn is_too_many(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error())
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::socket;
    use rustix::fs::{MemfdFlags, memfd_create};

    fn pair() -> [Files; 2] {
        let (one, other) = socket::pair().unwrap();
        [one, other].map(|fd| Files::new(GuardedFd::new(fd).unwrap()))
    }

    #[test]
    fn files_arrive_as_they_were_sent() {
        let [sender, receiver] = pair();
        let files: Vec<_> = (0..3).map(|_| memfd_create("test", MemfdFlags::CLOEXEC).unwrap()).collect();
        sender.send(&files.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        sender.send_bytes(&[IoSlice::new(b"ab"), IoSlice::new(b"c")]).unwrap();
        drop(receiver.get(3).unwrap());
        let taken = receiver.get(3).unwrap();
        receiver.finish().unwrap();
        for (sent, taken) in files.iter().zip(&taken) {
            let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
            assert_eq!(inode(sent), inode(taken));
        }
        let mut bytes = [0; 3];
        receiver.take_bytes(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abc");
    }

    #[test]
    fn files_of_a_sender_that_went_without_reading_its_own_arrive() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        for goes_late in [false, true] {
            let [sender, receiver] = pair();
            let mut sender = Some(sender);
            receiver.send(&[file.as_fd()]).unwrap();
            sender.as_ref().unwrap().send(&[file.as_fd()]).unwrap();
            sender.take_if(|_| !goes_late);
            assert_eq!(receiver.get(1).unwrap().len(), 1);
            drop(sender);
            receiver.finish().unwrap();
        }
    }

    #[test]
    fn what_is_not_beside_the_message_is_a_violation() {
        let [sender, receiver] = pair();
        assert!(matches!(receiver.get(1), Err(Untaken::Violation(_))));
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        sender.send(&[file.as_fd()]).unwrap();
        assert!(matches!(receiver.get(2), Err(Untaken::Violation(Violation { value: 1, min: 2, .. }))));
        assert!(matches!(receiver.take_bytes(&mut [0; 4]), Err(Untaken::Violation(_))));
    }
}
