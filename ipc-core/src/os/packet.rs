//! Packets on a `SOCK_SEQPACKET` socket, with file descriptors beside the bytes.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io;
use std::mem::MaybeUninit;
use std::vec::Vec;

/// The most file descriptors that a packet of ours carries. What a peer attaches beyond is closed by the kernel.
const MAX_FDS: usize = crate::layout::descriptor::MAX_FILES;

/// A packet as it came from the socket.
pub(crate) struct Packet {
    /// Bytes of it that lie in the buffer.
    pub(crate) len: usize,
    /// The peer sent more bytes than there was room for.
    pub(crate) too_long: bool,
    /// The peer sent more file descriptors than any packet carries; the kernel has closed the rest.
    pub(crate) too_many: bool,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Sends one packet without waiting for room in the socket.
pub(crate) fn send(socket: impl AsFd, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(Errno::INVAL));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = sendmsg(socket, parts, &mut ancillary, flags)?;
    if sent == parts.iter().map(|part| part.len()).sum::<usize>() {
        Ok(())
    } else {
        Err(io::Error::from(Errno::MSGSIZE))
    }
}

/// Takes one packet if there is one. A length of 0 means that the peer has gone.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Packet> {
    receive_with(socket, &mut [IoSliceMut::new(buffer)], RecvFlags::empty())
}

/// The same into several buffers, and with flags.
pub(crate) fn receive_with(socket: impl AsFd, buffers: &mut [IoSliceMut<'_>], flags: RecvFlags) -> io::Result<Packet> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, buffers, &mut ancillary, flags)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Packet {
        len: message.bytes,
        too_long: message.flags.contains(ReturnFlags::TRUNC),
        too_many: message.flags.contains(ReturnFlags::CTRUNC),
        fds,
    })
}
