//! What the lanes cost on this machine, as far as it is known: measured thoroughly by `ipc calibrate`, quickly by this library
//! itself, or compiled in.
//!
//! Promise: a process uses costs that belong to this boot of this machine and that its own user wrote, or the ones compiled in, and it
//! can say which and why. Refusal: costs decide only how fast a message is; none of this can lose one, so nothing here is an
//! error for a sender.
//!
//! # What is measured
//!
//! The cost of a message is the time from the beginning of `send` until the receiver has copied every byte of it out with
//! `recv_into`: half of a round trip in which both messages have the same length and take the same lane. Both sides poll. (What it
//! costs to wake a side that sleeps is the same on every lane, so it moves no crossing.)
//!
//! # Where costs come from
//!
//! 1. The cache: a file in this user's own runtime directory, beside the sockets ([`Calibration::path`]). `ipc calibrate` writes it,
//!    and so does a process that measured by itself. It counts for one boot of one machine.
//! 2. Without one, a quick measurement of at most 40 ms ([`QUICK_BUDGET`]) within the process. It begins when the process has spent as much
//!    on messages that the costs had to decide about: so it never more than doubles what they took, and a process
//!    that sends small messages, or few, never measures. It happens in a call that may wait without a limit; calls that do not wait or that
//!    have a deadline never measure.
//! 3. [`Calibration::defaults`], until then, and where the measurement fails.
//!
//! The environment variable `IPC_CALIBRATION` says otherwise:
//!
//! | value | effect |
//! |---|---|
//! | empty or not set | as above |
//! | `off` | the cache if there is one, else the defaults; this process never measures by itself |
//! | `defaults` | the defaults; no file is read or written, nothing is measured |
//! | an absolute path | that file, of whatever boot and machine; it must belong to this user or to root, and be writable by its owner alone |
//!
//! # Examples
//!
//! ```
//! use ipc_core::calibration::{Calibration, Queue};
//! use ipc_core::router::{Lane, between};
//!
//! let costs = Calibration::defaults();
//! let (kernel, file) = (costs.model(Queue::Socket, Lane::Kernel), costs.model(Queue::Socket, Lane::File));
//! if let (Some(kernel), Some(file)) = (kernel, file) {
//!     // A file of its own costs calls to the system, however short the message is.
//!     assert!(between(kernel.below(), file.below()).is_first(64));
//! }
//! assert_eq!(costs.model(Queue::Socket, Lane::Inline), None); // what would be inline is the socket's packet
//! ```

mod cache;
mod format;
mod in_use;
mod quick;

pub use crate::os::machine::Machine;
pub use cache::{LoadError, StoreError};
pub use format::{FORMAT_VERSION, FormatError};
pub use in_use::{InUse, VARIABLE, in_use, measure_now};
pub use quick::QUICK_BUDGET;

pub(crate) use in_use::Refresh;
#[cfg(all(test, not(loom)))]
pub(crate) use quick::pair;

use crate::os::files;
use crate::router::{Cost, Costs, Lane, Model, Router};
use crate::terms::Mode;
use core::fmt;

/// How the records of a connection travel: what is the queue in the model of [`crate::router`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// In rings in shared memory: modes `Shared` and `Auto`.
    Shared,
    /// In packets of the socket: modes `Kernel` and `Hybrid`.
    Socket,
}

impl Queue {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Shared, Self::Socket];

    /// That of connections of this mode.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        if mode.queues_in_socket() { Self::Socket } else { Self::Shared }
    }

    /// The lanes beside and in this queue: all, but for [`Lane::Inline`] in a socket, where the packet is the record.
    #[must_use]
    pub const fn lanes(self) -> &'static [Lane] {
        match self {
            Self::Shared => &Lane::ALL,
            Self::Socket => &[Lane::Kernel, Lane::Arena, Lane::File],
        }
    }

    fn has(self, lane: Lane) -> bool {
        self.lanes().contains(&lane)
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Shared => "shared",
            Self::Socket => "socket",
        })
    }
}

/// Who measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody on this machine: the costs that are compiled in.
    Defaults,
    /// A process of this user, for 40 ms, between two threads.
    Quick,
    /// `ipc calibrate`, between two processes on a processor each.
    Full,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Defaults => "defaults",
            Self::Quick => "quick",
            Self::Full => "full",
        })
    }
}

/// What each lane costs, for either kind of queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    origin: Origin,
    /// By the place in [`Queue::ALL`] and in [`Lane::ALL`]. What a queue does not have is never read.
    models: [[Model; Lane::COUNT]; 2],
}

impl Calibration {
    /// The costs that are compiled in.
    ///
    /// Measured by `ipc calibrate` on two cores of a virtual machine (AMD EPYC of family 26, Linux 6.18), from the better rounds because
    /// other programs ran beside it; lengths above 256 KiB were too disturbed there and count as the ones below. Arena and ring cross at
    /// 19 KiB: they are alike from 8 to 16 KiB where the two cores share a cache, and from 24 to 32 KiB where they do not. Other machines are slower or
    /// faster on all lanes more than on one, so that this is a fair guess of where lanes cross.
    #[must_use]
    pub const fn defaults() -> Self {
        let none = line(0.0, 0.0);
        Self {
            origin: Origin::Defaults,
            models: [
                // Kernel, inline, arena, fd.
                [
                    line(2600.0, 0.08),
                    Model::bent(cost(60.0, 0.043), 4 << 10, cost(236.0, 0.0235)),
                    Model::bent(cost(140.0, 0.0305), 8 << 10, cost(390.0, 0.0183)),
                    line(30_500.0, 1.0),
                ],
                [line(2500.0, 0.18), none, line(2620.0, 0.037), line(36_000.0, 1.0)],
            ],
        }
    }

    /// What a lane costs from `send` until the receiver has every byte; nothing if there is no such lane beside this queue.
    #[must_use]
    pub fn model(&self, queue: Queue, lane: Lane) -> Option<Model> {
        queue.has(lane).then_some(self.models[queue as usize][lane.index()])
    }

    /// The same with another cost of one lane. A lane that the queue does not have changes nothing.
    #[must_use]
    pub const fn with(mut self, queue: Queue, lane: Lane, model: Model) -> Self {
        self.models[queue as usize][lane.index()] = model;
        self
    }

    /// The same, measured by somebody else.
    #[must_use]
    pub const fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Who measured.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// The table for a connection.
    fn costs(&self, mode: Mode, limits: Limits) -> Costs {
        let queue = Queue::of(mode);
        let Limits { ring, pieces, arena, message } = limits;
        let mut costs = Costs::new();
        for &lane in queue.lanes() {
            let limit = match lane {
                Lane::Kernel if queue == Queue::Socket => pieces.min(message),
                Lane::Kernel if mode == Mode::Auto => files::MAX_BYTES.min(message),
                Lane::Inline => ring.min(message),
                Lane::Arena if mode.has_arena() => arena.min(message),
                Lane::File if mode.has_arena() => message,
                _ => continue,
            };
            costs = costs.with(lane, self.models[queue as usize][lane.index()], limit);
        }
        costs
    }
}

/// For numbers that are written here.
const fn cost(fixed_ns: f64, per_byte_ns: f64) -> Cost {
    match Cost::new(fixed_ns, per_byte_ns) {
        Ok(cost) => cost,
        Err(_) => panic!("a cost that is compiled in is out of range"),
    }
}

const fn line(fixed_ns: f64, per_byte_ns: f64) -> Model {
    Model::line(cost(fixed_ns, per_byte_ns))
}

/// The largest messages that the lanes of a connection take, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A record of the ring.
    pub(crate) ring: u64,
    /// A message in pieces through the socket.
    pub(crate) pieces: u64,
    /// A block of the arena.
    pub(crate) arena: u64,
    /// A message at all.
    pub(crate) message: u64,
}

/// The router of a new connection, and what keeps its costs fresh.
pub(crate) fn router(mode: Mode, limits: Limits) -> (Router, Refresh) {
    let costs = in_use().calibration().costs(mode, limits);
    // Each mode has a lane that takes the empty message.
    let router = Router::new(costs).unwrap_or_else(|_| unreachable!("the table has a lane"));
    (router, Refresh::new(mode, limits))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { ring: 60_000, pieces: 1 << 28, arena: 1 << 20, message: 1 << 40 };

    #[test]
    fn each_mode_has_its_lanes_with_their_limits() {
        let limits = |mode| {
            let costs = Calibration::defaults().costs(mode, LIMITS);
            Lane::ALL.map(|lane| costs.limit(lane))
        };
        assert_eq!(limits(Mode::Kernel), [Some(1 << 28), None, None, None]);
        assert_eq!(limits(Mode::Hybrid), [Some(1 << 28), None, Some(1 << 20), Some(1 << 40)]);
        assert_eq!(limits(Mode::Shared), [None, Some(60_000), Some(1 << 20), Some(1 << 40)]);
        assert_eq!(limits(Mode::Auto), [Some(files::MAX_BYTES), Some(60_000), Some(1 << 20), Some(1 << 40)]);
    }

    #[test]
    fn the_queue_decides_which_costs_count() {
        let other = line(7.0, 7.0);
        let costs = Calibration::defaults().with(Queue::Socket, Lane::Arena, other);
        assert_eq!(costs.costs(Mode::Hybrid, LIMITS).model(Lane::Arena), Some(other));
        assert_ne!(costs.costs(Mode::Auto, LIMITS).model(Lane::Arena), Some(other));
    }

    #[test]
    fn a_peer_that_takes_short_messages_only_bounds_every_lane() {
        let limits = Limits { message: 100, ..LIMITS };
        let costs = Calibration::defaults().costs(Mode::Auto, limits);
        assert!(Lane::ALL.iter().all(|lane| costs.limit(*lane) == Some(100)));
    }
}
