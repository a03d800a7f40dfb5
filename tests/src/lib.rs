//! The fixture of the tests that need a second process.
//!
//! Promise: every process, file and mapping of a test is the test's own and goes with it, and nothing waits without an end,
//! so tests run side by side and none can hang. Refusal: nothing here judges the library; the tests in `tests/` do, and the
//! roles that a second process can play ([`roles`]) report what they saw.

pub mod flood;
pub mod language;
pub mod mix;
pub mod peer;
pub mod raw;
pub mod roles;
pub mod shared;
pub mod stream;
pub mod system;

pub use language::{Language, Pair};
pub use mix::Mix;
pub use peer::{HangGuard, Peer};
pub use stream::{Random, Stream};
pub use system::Scratch;

use ipc_core::{ConnectOptions, Connection, ListenOptions};
use std::time::Duration;

/// The two ends, server and client, of a connection of this process with itself over rings of 4 KiB.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn small_pair(scratch: &Scratch) -> (Connection, Connection) {
    let mut listener = ListenOptions::new().capacity(4096).bind(scratch.socket()).expect("a listener");
    let path = scratch.socket();
    let connecting = std::thread::spawn(move || ConnectOptions::new().connect(path).expect("a connection"));
    let server = listener.accept_timeout(Duration::from_secs(20)).expect("a client");
    (server, connecting.join().expect("the client's thread"))
}

/// Starts a [`Peer`] in a role: `peer!("echo", path = scratch.socket(), count = 10)`; `peer!(in Language::C, "echo", ...)` one in
/// that language.
#[macro_export]
macro_rules! peer {
    (in $language:expr, $role:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::Peer::start(
            &$crate::Language::program($language, env!("CARGO_BIN_EXE_peer").as_ref()),
            $role,
            &[$((stringify!($key), ::std::string::ToString::to_string(&$value))),*],
        )
    };
    ($role:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::Peer::start(
            env!("CARGO_BIN_EXE_peer").as_ref(),
            $role,
            &[$((stringify!($key), ::std::string::ToString::to_string(&$value))),*],
        )
    };
}
