//! Sends as it is told, with the doorbell put off.

use super::{Settings, hear, say};
use crate::{Random, Stream};
use ipc_core::{ConnectOptions, Connection, ListenOptions, SendError, WaitStrategy};
use std::time::Duration;

fn connection(settings: &Settings) -> Connection {
    let path = settings.text("path");
    let (messages, delay) = (settings.number("messages", 0), Duration::from_micros(settings.number("delay", 0)));
    let patience = Duration::from_secs(20);
    if settings.number("listen", false) {
        let options = ListenOptions::new().wait_strategy(WaitStrategy::Sleep).coalesce(messages, delay);
        let mut listener = options.bind(path).expect("a free path");
        say("listening");
        return listener.accept_timeout(patience).expect("a client");
    }
    let options = ConnectOptions::new().timeout(patience).membarrier(settings.number("membarrier", true));
    options.wait_strategy(WaitStrategy::Sleep).coalesce(messages, delay).connect(path).expect("a server")
}

/// Follows orders, a line each, until it is told to `end`:
///
/// `send N`, `batch N`: so many messages of a few bytes, one by one or together. `try N`: the same, trying until there is room.
/// `stop N`, `kill N`: the same one by one, and then the process stops or kills itself, without a word. `flush`. `echo`: answers one message.
/// `stream N`: messages of a [`Stream`] at random moments.
pub(super) fn play(settings: &Settings) {
    let mut connection = connection(settings);
    say("connected");
    loop {
        let order = hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let count: u64 = number.parse().expect("a number");
        match verb {
            "batch" => {
                let mut batch = connection.batch();
                (0..count).for_each(|number| batch.push(&number.to_ne_bytes()).expect("room"));
                batch.publish().expect("a usable connection");
            }
            "flush" => connection.sender().flush().expect("a usable connection"),
            "echo" => {
                let message = connection.recv().expect("the test sends").to_vec();
                connection.send(&message).expect("room");
            }
            "stream" => stream(&mut connection, settings, count),
            "try" => {
                for number in 0..count {
                    while let Err(error) = connection.try_send(&number.to_ne_bytes()) {
                        assert!(matches!(error, SendError::WouldBlock { .. }), "{error}");
                    }
                }
            }
            "end" => return,
            _ => (0..count).for_each(|number| connection.send(&number.to_ne_bytes()).expect("the other side lives")),
        }
        let signal = match verb {
            "stop" => libc::SIGSTOP,
            "kill" => libc::SIGKILL,
            _ => {
                say("done");
                continue;
            }
        };
        // SAFETY: the call takes an integer.
        unsafe { libc::raise(signal) };
    }
}

fn stream(connection: &mut Connection, settings: &Settings, count: u64) {
    let stream = Stream::new(settings.number("seed", 1), connection.sender().max_reservation());
    let (mut random, mut message) = (Random::new(5), Vec::new());
    for number in 0..count {
        stream.write(number, &mut message);
        connection.send(&message).expect("the other side receives");
        if random.below(4) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(300)));
        }
    }
}
