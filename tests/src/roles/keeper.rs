//! Receives, holds and gives back as it is told, line by line; and a sender that is refused things by its system.

use super::{Settings, hear, say};
use crate::{Mix, system};
use ipc_core::router::Override;
use ipc_core::{Held, Lane, RecvError, Resource, SendError, Sender};
use rustix::process::{Resource as Limit, Rlimit, getrlimit, setrlimit};
use std::os::fd::OwnedFd;

/// Receives what it is told to:
///
/// | line | what it does | answer |
/// |---|---|---|
/// | `take N` | receives N messages and drops them | `took` and their lengths |
/// | `hold N` | receives N messages and holds them | `held` and how many it holds |
/// | `drop N` | gives back the held message at place N | `dropped` and how many it holds |
/// | `drop-all` | gives all back, the last one first | `dropped 0` |
/// | `mapped` | | `mapped`: bytes of the arena, by the library |
/// | `files N` | may have N descriptors, or as many as before | `limited` |
/// | `space N` | may have N bytes of address space more than it has, or as many as before | `limited` |
/// | `fail` | receives one message, and may not | `failed` and why |
pub(super) fn keep(settings: &Settings) {
    let mut connection = settings.connection();
    let mut held: Vec<Held> = Vec::new();
    let limits = [Limit::Nofile, Limit::As].map(getrlimit);
    say("connected");
    loop {
        let line = hear();
        let (word, number) = line.split_once(' ').map_or((line.as_str(), None), |(word, n)| (word, n.parse().ok()));
        match (word, number) {
            ("take", Some(count)) => {
                let mut lengths = Vec::new();
                for _ in 0..count {
                    lengths.push(connection.recv().expect("a message").len().to_string());
                }
                say(format_args!("took {}", lengths.join(" ")));
            }
            ("hold", Some(count)) => {
                for _ in 0..count {
                    held.push(connection.recv().expect("a message").hold());
                }
                say(format_args!("held {}", held.len()));
            }
            ("drop", Some(at)) => {
                drop(held.remove(at as usize));
                say(format_args!("dropped {}", held.len()));
            }
            ("drop-all", _) => {
                while held.pop().is_some() {}
                say("dropped 0");
            }
            ("mapped", _) => say(format_args!("mapped {}", connection.receiver().mapped())),
            ("files", number) => {
                limit(Limit::Nofile, number, limits[0]);
                say("limited");
            }
            ("space", number) => {
                limit(Limit::As, number.map(|bytes| system::address_space() + bytes), limits[1]);
                say("limited");
            }
            ("fail", _) => match connection.recv().map(drop) {
                Err(RecvError::Os(error)) => say(format_args!("failed {error}")),
                other => panic!("{other:?}"),
            },
            // The test has ended.
            ("", _) => return,
            _ => panic!("{line}?"),
        }
    }
}

/// Sets the soft limit, or the one that there was.
fn limit(what: Limit, number: Option<u64>, before: Rlimit) {
    setrlimit(what, Rlimit { current: number.or(before.current), maximum: before.maximum })
        .expect("below the hard limit");
}

/// Bytes of the messages of `limited` on the lane under test, and of the ones that need nothing.
pub const LIMITED: (usize, usize) = (100_000, 500);

/// Takes every descriptor that there can be; they come back with the value.
fn take_all_descriptors() -> Vec<OwnedFd> {
    let before = getrlimit(Limit::Nofile);
    limit(Limit::Nofile, Some(256), before);
    std::iter::from_fn(|| rustix::io::dup(std::io::stdin()).ok()).collect()
}

/// Sends under a limit of its system, `files` or `space`, on lane `lane`: one that is refused; a small one that goes all the same; and,
/// with the limit lifted, the refused one again.
pub(super) fn limited(settings: &Settings) {
    let mut connection = settings.connection();
    let sender = connection.sender();
    let lane = Lane::ALL.into_iter().find(|lane| lane.to_string() == settings.text("lane")).expect("a lane");
    let mix = Mix::new(settings.number("seed", 1), 0, 0);
    let mut number = 0;
    let [small, large] = [LIMITED.1, LIMITED.0].map(|len| {
        let mut message = vec![0; len];
        mix.fill(number, &mut message);
        number += 1;
        message
    });
    let send = |sender: &mut Sender, message: &[u8], lane: Lane| {
        sender.set_route(Override::Lane(lane)).expect("it has this lane");
        sender.send(message)
    };
    let before = (sender.sent(), sender.arena());
    let limits = [Limit::Nofile, Limit::As].map(getrlimit);
    let taken = match settings.text("limit") {
        "files" => take_all_descriptors(),
        "space" => {
            // Less than the message, or than a region of an arena.
            let more = if lane == Lane::Arena { 4 << 20 } else { 64 << 10 };
            limit(Limit::As, Some(system::address_space() + more), limits[1]);
            Vec::new()
        }
        other => panic!("there is no limit {other}"),
    };
    for _ in 0..3 {
        match send(sender, &large, lane) {
            Err(SendError::Memory { len, source }) => say(format_args!("refused {len} {source}")),
            other => panic!("{other:?}"),
        }
        let lent = sender.loan(large.len()).map(drop);
        // A loan is in the arena, whatever the lane.
        assert!(matches!(lent, Err(SendError::Memory { .. })), "{lent:?}");
    }
    assert_eq!((sender.sent(), sender.arena()), before, "what is refused leaves nothing behind");
    send(sender, &small, Lane::Inline).expect("it needs nothing");
    drop(taken);
    limit(Limit::Nofile, None, limits[0]);
    limit(Limit::As, None, limits[1]);
    send(sender, &large, lane).expect("there is no limit any more");
    say("sent");
    hear();
}

/// What a refused message needs, as text that a test can compare.
#[must_use]
pub fn shortage(error: &SendError) -> Option<(Resource, u64, u64)> {
    match *error {
        SendError::WouldBlock { resource, needed, free } | SendError::TimedOut { resource, needed, free, .. } => {
            Some((resource, needed, free))
        }
        _ => None,
    }
}
