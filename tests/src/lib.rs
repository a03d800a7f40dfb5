//! The fixture of the tests that need a second process.
//!
//! Promise: every process, file and mapping of a test is the test's own and goes with it, and nothing waits without an end,
//! so tests run side by side and none can hang. Refusal: nothing here judges the library; the tests in `tests/` do, and the
//! roles that a second process can play ([`roles`]) report what they saw.

pub mod peer;
pub mod raw;
pub mod roles;
pub mod shared;
pub mod stream;
pub mod system;

pub use peer::{HangGuard, Peer};
pub use stream::{Random, Stream};
pub use system::Scratch;

/// Starts a [`Peer`] in a role: `peer!("echo", path = scratch.socket(), count = 10)`.
#[macro_export]
macro_rules! peer {
    ($role:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::Peer::start(
            env!("CARGO_BIN_EXE_peer").as_ref(),
            $role,
            &[$((stringify!($key), ::std::string::ToString::to_string(&$value))),*],
        )
    };
}
