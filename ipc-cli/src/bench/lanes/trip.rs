//! The measured work: messages through the library's public interface, on a lane or on the one that the router chooses.
//!
//! Promise: messages are made, numbered and checked by the same code as in the floors. Refusal: what a figure is compared
//! with is not known here.

use super::super::floor::Private;
use super::super::floor::copy::sum_words;
use super::super::floor::in_place::Source;
use super::super::ours::{connected_with, wait_for_end};
use super::super::process::{Duo, Fallible, Side};
use ipc_core::router::{Override, Router};
use ipc_core::{ConnectOptions, Connection, Credit, ListenOptions, Mode, Receiver, Trusted, WaitStrategy};
use std::hint::black_box;
use std::time::Instant;

/// Messages that go before the clock starts, at least: an arena grows, its pages are touched, and offers are learnt.
const LEAST_WARM_UP: u64 = 4;

/// Bytes of the arena that a stream may take, and the most blocks: all of it is lent before the clock starts, since a producer that
/// is faster than its consumer goes through all of it.
const ARENA: usize = 256 << 20;
const MOST_BLOCKS: usize = 1024;

/// Bytes that are written and read of a message whose size does not matter.
const HEADER: usize = 8;

/// What both sides of a connection ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) strategy: WaitStrategy,
    pub(super) mode: Mode,
    pub(super) credit: Credit,
}

fn connected<T>(
    duo: &Duo,
    setting: Setting,
    server: impl FnOnce(&Side<'_>, Connection) -> Fallible<T>,
    client: impl FnOnce(&Side<'_>, Connection) -> Fallible<()>,
) -> Fallible<T> {
    let Setting { strategy, mode, credit } = setting;
    let listen = ListenOptions::new().wait_strategy(strategy).mode(mode).credit(credit);
    let connect = ConnectOptions::new().wait_strategy(strategy).mode(mode).credit(credit);
    connected_with(duo, listen, connect, server, client)
}

/// A connection, and how its messages are routed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) setting: Setting,
    pub(super) route: Override,
}

fn warm_up(messages: u64) -> u64 {
    (messages / 8).max(LEAST_WARM_UP)
}

/// Asks `warm_up` and then `count` times, and answers as often; nanoseconds of each of the latter.
fn exchange(
    duo: &Duo,
    way: Way,
    count: u64,
    mut ask: impl FnMut(&mut Connection, u64) -> Fallible<()>,
    mut answer: impl FnMut(&mut Connection) -> Fallible<()>,
) -> Fallible<f64> {
    let warm_up = warm_up(count);
    let asking = |side: &Side<'_>, mut connection: Connection| {
        connection.sender().set_route(way.route)?;
        side.meet()?;
        (0..warm_up).try_for_each(|number| ask(&mut connection, number))?;
        let start = Instant::now();
        (warm_up..warm_up + count).try_for_each(|number| ask(&mut connection, number))?;
        Ok(start.elapsed().as_nanos() as f64 / count as f64)
    };
    let answering = |side: &Side<'_>, mut connection: Connection| {
        connection.sender().set_route(way.route)?;
        side.meet()?;
        (0..warm_up + count).try_for_each(|_| answer(&mut connection))
    };
    connected(duo, way.setting, asking, answering)
}

/// Nanoseconds of a round trip of `size` bytes each way, copied in by `send` and copied out by `recv_into`.
///
/// # Errors
/// An answer that is not the one expected, a message that the way does not take, or a pair of processes that could not be run.
pub(super) fn copied(duo: &Duo, way: Way, size: usize, trips: u64) -> Fallible<f64> {
    let mut question = Private::new(size)?;
    let mut answered = Private::new(size)?;
    let ask = |connection: &mut Connection, number| {
        question.stamp(number);
        connection.send(question.bytes())?;
        let len = connection.recv_into(question.bytes_mut())?;
        expect_len(len, size)?;
        question.expect(!number)
    };
    let answer = |connection: &mut Connection| {
        connection.recv_into(answered.bytes_mut())?;
        answered.answer();
        Ok(connection.send(answered.bytes())?)
    };
    exchange(duo, way, trips, ask, answer)
}

/// Nanoseconds of a round trip of loans of `size` bytes each way, of which a header is written and read in place.
///
/// # Errors
/// As [`copied`].
pub(super) fn lent(duo: &Duo, way: Way, size: usize, trips: u64) -> Fallible<f64> {
    let ask = |connection: &mut Connection, number: u64| {
        send_loan(connection, size, number)?;
        let back = receive_header(connection, size)?;
        if back != !number { Err(format!("loan {number} was answered with {back}").into()) } else { Ok(()) }
    };
    let answer = |connection: &mut Connection| {
        let number = receive_header(connection, size)?;
        send_loan(connection, size, !number)
    };
    exchange(duo, way, trips, ask, answer)
}

fn send_loan(connection: &mut Connection, size: usize, header: u64) -> Fallible<()> {
    let mut loan = connection.sender().loan(size)?;
    loan[..HEADER].copy_from_slice(&header.to_ne_bytes());
    Ok(loan.send()?)
}

fn receive_header(connection: &mut Connection, size: usize) -> Fallible<u64> {
    let message = connection.recv()?;
    expect_len(message.len(), size)?;
    let mut header = [0; HEADER];
    message.read_at(0, &mut header)?;
    Ok(u64::from_ne_bytes(header))
}

/// Nanoseconds a message of `size` bytes in one direction, of which every byte is written and read in place.
///
/// # Errors
/// As [`copied`].
pub(super) fn in_place(duo: &Duo, setting: Setting, source: Source, size: usize, messages: u64) -> Fallible<f64> {
    let warm_up = warm_up(messages) + (ARENA / size).clamp(1, MOST_BLOCKS) as u64;
    let consume = |side: &Side<'_>, connection: Connection| {
        // SAFETY: the peer is a fork of this process that writes to its loans and nowhere else.
        let (_sender, mut receiver) = unsafe { connection.trust_peer() }.split();
        side.meet()?;
        read_in_place(&mut receiver, source, size, 0, warm_up)?;
        let start = Instant::now();
        read_in_place(&mut receiver, source, size, warm_up, messages)?;
        Ok(start.elapsed().as_nanos() as f64 / messages as f64)
    };
    let produce = |side: &Side<'_>, connection: Connection| {
        // SAFETY: as above; the peer writes nowhere.
        let mut connection = unsafe { connection.trust_peer() };
        let private = Private::new(size)?;
        side.meet()?;
        for number in 0..warm_up + messages {
            let mut loan = connection.sender().loan(size)?;
            match source {
                Source::Made => loan.fill(number as u8),
                Source::Copied => loan.copy_from_slice(private.bytes()),
            }
            loan.send()?;
        }
        wait_for_end(&mut connection)
    };
    connected(duo, setting, consume, produce)
}

/// Reads `count` messages, the first of them numbered `first`.
fn read_in_place(
    receiver: &mut Receiver<Trusted>,
    source: Source,
    size: usize,
    first: u64,
    count: u64,
) -> Fallible<()> {
    let mut sum = 0_u64;
    for number in first..first + count {
        let message = receiver.recv()?;
        expect_len(message.len(), size)?;
        let bytes: &[u8] = &message;
        if source == Source::Made && bytes.last() != Some(&(number as u8)) {
            return Err(format!("message {number} does not carry its number").into());
        }
        // SAFETY: the slice is readable for its length while the message lives.
        sum = sum.wrapping_add(unsafe { sum_words(bytes.as_ptr(), bytes.len()) });
    }
    black_box(sum);
    Ok(())
}

/// Nanoseconds a message of `size` bytes in one direction, copied in by `send` and copied out by `recv_into`.
///
/// # Errors
/// As [`copied`].
pub(super) fn stream(duo: &Duo, way: Way, size: usize, messages: u64) -> Fallible<f64> {
    let warm_up = warm_up(messages);
    let consume = |side: &Side<'_>, mut connection: Connection| {
        let mut buffer = Private::new(size)?;
        let mut receive = |first: u64, count: u64| -> Fallible<()> {
            for number in first..first + count {
                let len = connection.recv_into(buffer.bytes_mut())?;
                expect_len(len, size)?;
                buffer.expect(number)?;
            }
            Ok(())
        };
        side.meet()?;
        receive(0, warm_up)?;
        let start = Instant::now();
        receive(warm_up, messages)?;
        Ok(start.elapsed().as_nanos() as f64 / messages as f64)
    };
    let produce = |side: &Side<'_>, mut connection: Connection| {
        connection.sender().set_route(way.route)?;
        let mut buffer = Private::new(size)?;
        side.meet()?;
        for number in 0..warm_up + messages {
            buffer.stamp(number);
            connection.send(buffer.bytes())?;
        }
        wait_for_end(&mut connection)
    };
    connected(duo, way.setting, consume, produce)
}

/// The router of a connection that has sent a few messages.
///
/// # Errors
/// As [`copied`].
pub(super) fn router(duo: &Duo, setting: Setting) -> Fallible<Router> {
    const MESSAGES: u64 = 1000;
    let asking = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        let mut answer = [0; HEADER];
        for number in 0..MESSAGES {
            connection.send(&number.to_ne_bytes())?;
            connection.recv_into(&mut answer)?;
        }
        Ok(connection.sender().router().clone())
    };
    let answering = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        let mut question = [0; HEADER];
        for _ in 0..MESSAGES {
            connection.recv_into(&mut question)?;
            connection.send(&question)?;
        }
        Ok(())
    };
    connected(duo, setting, asking, answering)
}

fn expect_len(len: usize, size: usize) -> Fallible<()> {
    if len == size { Ok(()) } else { Err(format!("{len} bytes came where {size} were due").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_core::Lane;

    fn setting(mode: Mode) -> Setting {
        Setting { strategy: WaitStrategy::Busy, mode, credit: Credit::default() }
    }

    #[test]
    fn every_lane_of_every_mode_returns_its_messages() {
        let Ok(duo) = Duo::new() else { return };
        for (mode, lanes) in [
            (Mode::Kernel, &[Lane::Kernel][..]),
            (Mode::Hybrid, &[Lane::Kernel, Lane::Arena]),
            (Mode::Shared, &[Lane::Inline, Lane::Arena, Lane::File]),
            (Mode::Auto, &Lane::ALL),
        ] {
            let routes = lanes.iter().map(|lane| Override::Lane(*lane)).chain([Override::Auto]);
            for route in routes {
                let way = Way { setting: setting(mode), route };
                for size in [8, 5000] {
                    assert!(copied(&duo, way, size, 3).unwrap() > 0.0, "{mode} {route:?} {size}");
                    assert!(stream(&duo, way, size, 3).unwrap() > 0.0, "{mode} {route:?} {size}");
                }
            }
        }
    }

    #[test]
    fn loans_travel_there_and_back_and_one_way() {
        let Ok(duo) = Duo::new() else { return };
        let setting = setting(Mode::Auto);
        for size in [64, 1 << 20] {
            let way = Way { setting, route: Override::Auto };
            assert!(lent(&duo, way, size, 3).unwrap() > 0.0);
            for source in [Source::Made, Source::Copied] {
                assert!(in_place(&duo, setting, source, size, 3).unwrap() > 0.0);
            }
        }
    }

    #[test]
    fn a_lane_that_a_message_does_not_fit_is_an_error() {
        let Ok(duo) = Duo::new() else { return };
        let way = Way { setting: setting(Mode::Auto), route: Override::Lane(Lane::Inline) };
        assert!(copied(&duo, way, 16 << 20, 1).is_err());
    }

    #[test]
    fn a_router_has_the_lanes_of_its_mode() {
        let Ok(duo) = Duo::new() else { return };
        let router = router(&duo, setting(Mode::Hybrid)).unwrap();
        assert!(router.costs().limit(Lane::Kernel).is_some() && router.costs().limit(Lane::Inline).is_none());
    }
}
