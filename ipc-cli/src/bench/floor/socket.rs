//! Messages that are copied in and copied out through a Unix socket, there and back or one way: the peer to beat.
//!
//! Both kinds of socket that keep order and lose nothing, blocking or polling, with the system's buffers or larger ones:
//! the best of these forms at a size is what "the Unix socket" means there. Both ends own one buffer, and
//! an answer has its question's size. A side that waits for a peer killed from outside waits for good.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt};

use super::super::process::{Duo, Fallible, Side};
use super::{Private, nanoseconds_each};

/// One way to use a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// `SOCK_SEQPACKET` instead of `SOCK_STREAM`.
    pub(crate) packets: bool,
    /// Bytes given to one call at most; for packets, the system refuses more than its send buffer holds.
    pub(crate) piece: usize,
    /// Ask for send and receive buffers as large as the system allows (`net.core.wmem_max`).
    pub(crate) raised: bool,
    /// Poll with calls that do not block, instead of calls that sleep.
    pub(crate) polling: bool,
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.packets { "seqpacket" } else { "stream" };
        let wait = if self.polling { "poll" } else { "block" };
        write!(formatter, "{kind} {wait}")?;
        if self.piece < usize::MAX {
            write!(formatter, " {}K", self.piece >> 10)?;
        }
        formatter.write_str(if self.raised { ", raised" } else { "" })
    }
}

/// Nanoseconds of a round trip of `size` bytes each way.
///
/// # Errors
///
/// `size` is below 8, a piece is empty, the system refused a call, an answer was not the one expected, or the pair of
/// processes could not be run.
pub(crate) fn round_trip(duo: &Duo, form: Form, size: usize, rounds: u64) -> Fallible<f64> {
    if form.piece == 0 {
        return Err("a message cannot be sent in empty pieces".into());
    }
    let (client, server) = pair(form)?;
    let client = End { socket: client, form };
    let server = End { socket: server, form };
    let warm_up = rounds / 8 + 1;

    let ask = |side: &Side<'_>| {
        let mut buffer = Private::new(size)?;
        let mut exchange = |first: u64, count: u64| -> Fallible<()> {
            for number in first..first + count {
                buffer.stamp(number);
                client.send(buffer.bytes())?;
                client.receive(buffer.bytes_mut())?;
                buffer.expect(!number)?;
            }
            Ok(())
        };
        side.meet()?;
        exchange(0, warm_up)?;
        side.meet()?;
        let start = Instant::now();
        exchange(warm_up, rounds)?;
        Ok(nanoseconds_each(start, rounds))
    };
    let answer = |side: &Side<'_>| {
        let mut buffer = Private::new(size)?;
        let mut exchange = |count: u64| -> Fallible<()> {
            for _ in 0..count {
                server.receive(buffer.bytes_mut())?;
                buffer.answer();
                server.send(buffer.bytes())?;
            }
            Ok(())
        };
        side.meet()?;
        exchange(warm_up)?;
        side.meet()?;
        exchange(rounds)
    };
    duo.run(ask, answer)
}

/// Nanoseconds a message of `size` bytes in one direction: copied in and copied out.
///
/// # Errors
///
/// As [`round_trip`], with a message in place of the answer.
pub(crate) fn stream(duo: &Duo, form: Form, size: usize, messages: u64) -> Fallible<f64> {
    if form.piece == 0 {
        return Err("a message cannot be sent in empty pieces".into());
    }
    let (consumer, producer) = pair(form)?;
    let consumer = End { socket: consumer, form };
    let producer = End { socket: producer, form };
    let warm_up = messages / 8 + 1;

    let consume = |side: &Side<'_>| {
        let mut buffer = Private::new(size)?;
        let mut receive = |first: u64, count: u64| -> Fallible<()> {
            for number in first..first + count {
                consumer.receive(buffer.bytes_mut())?;
                buffer.expect(number)?;
            }
            Ok(())
        };
        side.meet()?;
        receive(0, warm_up)?;
        let start = Instant::now();
        receive(warm_up, messages)?;
        Ok(nanoseconds_each(start, messages))
    };
    let produce = |side: &Side<'_>| {
        let mut buffer = Private::new(size)?;
        side.meet()?;
        for number in 0..warm_up + messages {
            buffer.stamp(number);
            producer.send(buffer.bytes())?;
        }
        Ok(())
    };
    duo.run(consume, produce)
}

fn pair(form: Form) -> Fallible<(OwnedFd, OwnedFd)> {
    let kind = if form.packets { SocketType::SEQPACKET } else { SocketType::STREAM };
    let told = |errno: Errno| format!("cannot make a pair of Unix sockets: {errno}");
    let (one, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(told)?;
    if form.raised {
        for socket in [&one, &other] {
            // More than the system allows is cut to what it allows.
            sockopt::set_socket_send_buffer_size(socket, i32::MAX as usize / 2).map_err(told)?;
            sockopt::set_socket_recv_buffer_size(socket, i32::MAX as usize / 2).map_err(told)?;
        }
    }
    Ok((one, other))
}

/// One end of the pair of sockets.
struct End {
    socket: OwnedFd,
    form: Form,
}

impl End {
    /// Sends all of `message`, piece by piece.
    fn send(&self, message: &[u8]) -> Fallible<()> {
        let flags = SendFlags::NOSIGNAL | if self.form.polling { SendFlags::DONTWAIT } else { SendFlags::empty() };
        let mut rest = message;
        while !rest.is_empty() {
            let now = rest.len().min(self.form.piece);
            match send(self.socket.as_fd(), &rest[..now], flags) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.form.polling => std::hint::spin_loop(),
                Err(errno) => return Err(format!("cannot send through a Unix socket: {errno}").into()),
            }
        }
        Ok(())
    }

    /// Receives until `message` is full.
    fn receive(&self, message: &mut [u8]) -> Fallible<()> {
        let flags = if self.form.polling { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        let mut filled = 0;
        while filled < message.len() {
            match recv(self.socket.as_fd(), &mut message[filled..], flags) {
                Ok((0, _)) => return Err("the other end of a Unix socket was closed".into()),
                Ok((received, _)) => filled += received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.form.polling => std::hint::spin_loop(),
                Err(errno) => return Err(format!("cannot receive through a Unix socket: {errno}").into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_returns_its_message_whole() {
        let Ok(duo) = Duo::new() else { return };
        for (packets, piece) in [(false, usize::MAX), (false, 5000), (true, 5000), (true, 64 << 10)] {
            for (raised, polling) in [(false, false), (false, true), (true, false), (true, true)] {
                // The largest is larger than the system's buffers, so that a side meets a full one.
                for size in [8, 100, 1 << 20] {
                    let form = Form { packets, piece, raised, polling };
                    assert!(round_trip(&duo, form, size, 10).unwrap() > 0.0, "{form}, {size}");
                    assert!(stream(&duo, form, size, 10).unwrap() > 0.0, "{form}, {size}");
                }
            }
        }
    }

    #[test]
    fn a_packet_larger_than_the_buffer_is_refused() {
        let Ok(duo) = Duo::new() else { return };
        let form = Form { packets: true, piece: usize::MAX, raised: false, polling: true };
        assert!(round_trip(&duo, form, 16 << 20, 1).unwrap_err().to_string().contains("cannot send"));
    }

    #[test]
    fn empty_pieces_and_messages_without_room_for_their_number_are_refused() {
        let Ok(duo) = Duo::new() else { return };
        for (piece, size) in [(usize::MAX, 7), (0, 64)] {
            let form = Form { packets: false, piece, raised: false, polling: false };
            assert!(round_trip(&duo, form, size, 1).is_err());
            assert!(stream(&duo, form, size, 1).is_err());
        }
    }
}
