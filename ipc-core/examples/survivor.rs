//! An echo server that bears hostile clients: what one of them does ends its own connection, and nothing else.
//!
//!     cargo run -p ipc-core --example survivor -- NAME CLIENTS     # ends after so many connections
//!
//! `c-examples/hostile.c` is such a client.

use ipc_core::{Connection, Listener, RecvError, SendError};
use std::time::Duration;

/// What ended a conversation.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Recv(#[from] RecvError),
    #[error(transparent)]
    Send(#[from] SendError),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(name), Some(clients)) = (words.next(), words.next()) else {
        return Err("usage: survivor NAME CLIENTS".into());
    };
    let mut listener = Listener::bind(name)?;
    println!("listening");
    for client in 1..=clients.parse::<u32>()? {
        let end = serve(listener.accept()?);
        println!("client {client}: {end}");
    }
    println!("survived, {} turned away", listener.refused());
    Ok(())
}

/// Sends everything back until the client goes, breaks the protocol, or keeps us waiting for too long.
fn serve(mut client: Connection) -> End {
    loop {
        let message = match client.recv_timeout(Duration::from_secs(5)) {
            // A copy: a hostile client may change the bytes while they are used.
            Ok(message) => message.to_vec(),
            Err(end) => return end.into(),
        };
        if let Err(end) = client.sender().send_timeout(&message, Duration::from_secs(5)) {
            return end.into();
        }
    }
}
