//! Which lane a payload takes: what each lane costs, where two costs cross, and a choice that does not flap.
//!
//! Promise: the chosen lane takes the length that it is chosen for, and is dearer than the cheapest lane by no more
//! than the bias, by the costs that were given; while lengths stay where they were, a choice is one comparison.
//! Refusal: nothing here measures, moves a byte or believes a cost to be right. Costs come from a caller who measured
//! them (with the `std` feature, `fit` makes them from points); wrong ones make messages slow, never lost.
//!
//! # The model
//!
//! A message of `s` bytes costs `a + b·s` ns on a lane: `a` ns however short it is, and `b` ns for each byte. Message
//! passing through a queue copies the bytes: small `a_q`, large `b_q`. Shared memory leaves them where they are: small
//! `b_s`, but the receiver has to be told, by a notification of `d` bytes that goes through the same queue. Set equal,
//!
//! ```text
//! a_q + b_q·s  =  a_s + b_s·s  +  a_q + b_q·d
//!
//!           T  =  (a_s + b_q·d) / (b_q − b_s)        s ≤ T: queue;  s > T: shared memory
//! ```
//!
//! The queue's fixed cost is paid both ways and drops out. This is [`crossover`]; [`between`] is the same for any two lanes
//! whose whole costs are known.
//!
//! # Examples
//!
//! ```
//! use ipc_core::router::{Cost, Costs, Crossover, Lane, Model, Router, between, crossover};
//!
//! let queue = Cost::new(1500.0, 0.25)?; // ns, ns a byte
//! let shared = Cost::new(400.0, 0.05)?;
//! // (400 + 0.25·16) / (0.25 − 0.05)
//! assert_eq!(crossover(queue, shared, 16), Crossover::FirstUpTo(2020));
//!
//! let told = shared.with_notification(queue, 16)?; // what the whole message costs: 1904 ns + 0.05 ns/B
//! assert_eq!(between(queue, told), Crossover::FirstUpTo(2020));
//!
//! let costs = Costs::new()
//!     .with(Lane::Kernel, Model::line(queue), 200 << 10) // the largest packet, in bytes
//!     .with(Lane::Arena, Model::line(told), 64 << 20)
//!     .with(Lane::File, Model::line(Cost::new(20_000.0, 0.4)?), u64::MAX);
//! let mut router = Router::new(costs)?;
//! assert_eq!(router.to_string(), "kernel up to 2020 B, then arena up to 67108864 B, then fd");
//! assert_eq!(router.route(64)?, Lane::Kernel);
//! assert_eq!(router.route(1 << 20)?, Lane::Arena);
//! // By the bare model 2000 bytes belong into the kernel's lane, but what they would gain is within the bias.
//! assert_eq!(router.route(2000)?, Lane::Arena);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod bands;
mod choice;
mod cost;
mod crossover;
#[cfg(feature = "std")]
pub mod fit;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;

pub use bands::{Band, Bands};
pub use choice::{DEFAULT_BIAS, Override, RouteError, Router, RouterError};
pub use cost::{Cost, CostError, MAX_FIXED_NS, MAX_PER_BYTE_NS, Model};
pub use crossover::{Crossover, between, crossover};
pub use table::Costs;

/// Where a payload travels. In this order, which decides between lanes that cost the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// In a packet of the connection's socket: the kernel carries a copy.
    Kernel,
    /// In the record in the ring.
    Inline,
    /// In a block of the shared arena; the record holds a descriptor of it.
    Arena,
    /// In a sealed memory file of its own, whose descriptor is passed: any size. Displayed as `fd`.
    File,
}

impl Lane {
    /// How many lanes there are.
    pub(crate) const COUNT: usize = 4;
    /// Every lane, in their order.
    pub const ALL: [Self; Self::COUNT] = [Self::Kernel, Self::Inline, Self::Arena, Self::File];

    /// Place in [`Lane::ALL`].
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Inline => "inline",
            Self::Arena => "arena",
            Self::File => "fd",
        })
    }
}
