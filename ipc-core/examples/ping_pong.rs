//! Messages there and back, and how long a round trip takes. Each side can be this program, or `c-examples/ping_pong.c`,
//! `.cpp` or `python/ping_pong.py` beside it.
//!
//!     cargo run --release -p ipc-core --example ping_pong -- server court &
//!     cargo run --release -p ipc-core --example ping_pong -- client court

use ipc_core::{ConnectOptions, Connection, Listener, RecvError};
use std::time::Instant;

const ROUNDS: u32 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", name] => serve(Listener::bind(name)?.accept()?),
        ["client", name] => play(ConnectOptions::new().wait_for_listener(true).connect(name)?),
        _ => Err("usage: ping_pong server|client NAME".into()),
    }
}

/// Sends everything back, until the client goes.
fn serve(client: Connection) -> Result<(), Box<dyn std::error::Error>> {
    let (mut sender, mut receiver) = client.split();
    let mut ball = [0; 4096];
    loop {
        match receiver.recv_into(&mut ball) {
            Ok(len) => sender.send(&ball[..len])?,
            Err(RecvError::Disconnected { closed: true, .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn play(mut server: Connection) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    for round in 0..u64::from(ROUNDS) {
        server.send(&round.to_ne_bytes())?;
        let mut back = [0; 8];
        if server.recv_into(&mut back)? != 8 || u64::from_ne_bytes(back) != round {
            return Err(format!("ball {round} came back as something else").into());
        }
    }
    println!("{ROUNDS} round trips, {:.2} us each", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    Ok(())
}
