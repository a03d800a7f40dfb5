//! The victim of a hostile peer: uses a connection in every way and reports how it ended.

use super::{Settings, say};
use crate::Random;
use ipc_core::{RecvError, SendError};
use std::time::{Duration, Instant};

/// Uses its connection for `millis` milliseconds, or until it is closed for good, and says how it ended.
pub(super) fn victim(settings: &Settings) {
    let mut connection = settings.connection();
    say("connected");
    let until = Instant::now() + Duration::from_millis(settings.number("millis", 1000));
    let (mut random, mut buffer) = (Random::new(settings.number("seed", 0)), vec![0; 1 << 20]);
    let (mut calls, mut received) = (0_u64, 0_u64);
    let short = Duration::from_micros(300);
    let max = connection.sender().max_reservation();
    let mut ends = Vec::new();
    while Instant::now() < until && ends.len() < 40 {
        calls += 1;
        let len = random.below(max + 1) as usize;
        // Now and then one that the ring does not take.
        let any = if random.below(4) == 0 { random.below(buffer.len() as u64) as usize } else { len };
        let sent = match random.below(7) {
            0 => connection.try_send(&buffer[..any]),
            1 => connection.send_timeout(&buffer[..any], short),
            2 => connection.sender().try_reserve(len).map(|mut reservation| {
                reservation.write_at(0, &buffer[..len]);
                reservation.commit();
            }),
            3 => {
                let mut batch = connection.batch();
                let filled = (0..random.below(9)).try_for_each(|_| batch.try_push(&buffer[..len / 8]));
                let published = batch.publish();
                filled.and(published)
            }
            4 => connection.undelivered().map(|left| drop(std::hint::black_box(left))),
            5 => connection.sender().arm().map(drop),
            _ => {
                std::hint::black_box((connection.sender().status(), connection.receiver().status()));
                connection.sender().is_peer_gone();
                Ok(())
            }
        };
        match sent {
            Ok(()) | Err(SendError::WouldBlock { .. } | SendError::TimedOut { .. }) => {}
            Err(error @ (SendError::Violation(_) | SendError::Disconnected { .. })) => ends.push(error.to_string()),
            Err(error) => panic!("sending: {error}"),
        }
        let got = match random.below(4) {
            0 => connection
                .try_recv()
                .map(|message| message.map_or(0, |message| message.copy_to(&mut buffer).map_or(0, |len| len as u64))),
            1 => connection.recv_timeout(short).map(|message| message.copy_to(&mut buffer).map_or(0, |len| len as u64)),
            2 if connection.receiver().is_ready() => connection.recv_batch(8).and_then(|batch| {
                // Blocks if the hostile peer takes back what it showed; its end ends that.
                let mut bytes = 0;
                batch.for_each(|message| bytes += message.to_vec().len() as u64)?;
                Ok(bytes)
            }),
            2 => Ok(0),
            _ => connection.arm().map(u64::from),
        };
        match got {
            Ok(bytes) => received += bytes,
            Err(RecvError::TimedOut { .. }) => {}
            Err(error @ (RecvError::Violation(_) | RecvError::Disconnected { .. })) => ends.push(error.to_string()),
            Err(error) => panic!("receiving: {error}"),
        }
    }
    say(format_args!("calls {calls}, bytes {received}"));
    say(format_args!("end {}", ends.first().map_or("none", |end| end)));
}
