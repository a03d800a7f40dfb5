//! Connecting in a runtime: the steps of [`crate::ConnectOptions::connect`], with the waits in between given to the runtime.

use super::connection::Connection;
use super::reactor::{Registered, is_readable};
use crate::connect::{ConnectError, ConnectOptions, Handshake};
use ::tokio::time::{sleep, timeout};
use core::future::poll_fn;
use std::ffi::OsStr;
use std::io;

/// Connects to the listener of this name or absolute path, with the defaults.
///
/// # Errors
/// As [`crate::connect`]; [`ConnectError::Os`] too if the runtime does not take a descriptor or is shutting down.
///
/// # Panics
/// If the runtime was built without `enable_io` or without `enable_time`.
///
/// # Cancel safety
/// A future that is dropped hangs up; the server forgets it.
///
/// # Examples
/// ```no_run
/// # async fn hello() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = ipc_core::tokio::connect("sensors").await?;
/// client.send(b"hello").await?;
/// # Ok(())
/// # }
/// ```
pub async fn connect(name: impl AsRef<OsStr>) -> Result<Connection, ConnectError> {
    connect_with(&ConnectOptions::new(), name).await
}

/// Connects to the listener of this name or absolute path, with the options given.
///
/// No thread waits for the server: the socket of the handshake is watched by the runtime. What is done on the caller's thread are
/// short questions to the file system and the mapping of the segment.
///
/// # Errors
/// As [`connect`].
///
/// # Panics
/// As [`connect`].
///
/// # Cancel safety
/// As [`connect`].
pub async fn connect_with(options: &ConnectOptions, name: impl AsRef<OsStr>) -> Result<Connection, ConnectError> {
    let mut attempt = options.attempt(name)?;
    let socket = loop {
        match attempt.dial()? {
            Ok(socket) => break socket,
            Err(pause) => sleep(pause).await,
        }
    };
    let mut handshake =
        Registered::new(attempt.greet(socket)?).map_err(|refused| registering(refused.into_parts().1))?;
    let (welcome, answer) = loop {
        let left = handshake.get().left();
        let arm = |handshake: &mut Handshake<'_>| is_readable(handshake).map(|readable| !readable).map_err(registering);
        let answer = poll_fn(|cx| handshake.poll_until(cx, |handshake| handshake.answer(), arm, registering));
        let Some(left) = left else { break answer.await? };
        // If the time is over, the next look finds the answer all the same, or says so.
        if let Ok(answer) = timeout(left, answer).await {
            break answer?;
        }
    };
    let connection = handshake.into_inner().finish(&welcome, answer)?;
    Connection::from_sync(connection).map_err(|refused| registering(refused.into_parts().1))
}

fn registering(source: io::Error) -> ConnectError {
    ConnectError::Os { action: "watching the connection's sockets in the runtime", source }
}
