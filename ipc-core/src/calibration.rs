//! What the lanes cost on this machine, as far as it is known.

use crate::os::files;
use crate::router::{Cost, Costs, Lane, Model, Router};
use crate::terms::Mode;

/// The largest messages that the lanes of a connection take, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A record of the ring.
    pub(crate) ring: u64,
    /// A block of the arena.
    pub(crate) arena: u64,
    /// A message at all.
    pub(crate) message: u64,
}

/// The router of a new connection.
pub(crate) fn router(mode: Mode, limits: Limits) -> Router {
    let line = |a, b| Model::line(Cost::new(a, b).unwrap_or_else(|_| unreachable!()));
    let mut costs = Costs::new();
    let Limits { ring, arena, message } = limits;
    if mode.queues_in_socket() {
        costs = costs.with(Lane::Kernel, line(1500.0, 0.25), message);
    } else {
        costs = costs.with(Lane::Inline, line(100.0, 0.12), ring.min(message));
        if mode == Mode::Auto {
            costs = costs.with(Lane::Kernel, line(1600.0, 0.25), files::MAX_BYTES.min(message));
        }
    }
    if mode.has_arena() {
        costs = costs.with(Lane::Arena, line(400.0, 0.06), arena.min(message));
        costs = costs.with(Lane::File, line(30_000.0, 0.3), message);
    }
    Router::new(costs).unwrap_or_else(|_| unreachable!())
}
