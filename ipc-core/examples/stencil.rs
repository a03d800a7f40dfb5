//! Heat that spreads over a plate, computed by two processes, half each. In every step each sends the line at its edge to
//! the other, which reads it in place; either half can be `c-examples/stencil.c`. In the end each compares its half with a
//! run of its own over the whole plate: the results are equal to the bit.
//!
//!     cargo run --release -p ipc-core --example stencil -- top plate &
//!     cargo run --release -p ipc-core --example stencil -- bottom plate

use ipc_core::{ConnectOptions, Connection, Listener, Message};
use std::time::Instant;
use zerocopy::{FromBytes, IntoBytes};

const SIDE: usize = 256;
const HALF: usize = SIDE / 2;
const STEPS: usize = 1000;

/// With a cell at each end that belongs to the border, as the first and the last line of a plate do.
type Line = [f64; SIDE + 2];
const COLD: Line = [0.0; SIDE + 2];
type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let (is_top, other) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["top", name] => (true, Listener::bind(name)?.accept()?),
        ["bottom", name] => (false, ConnectOptions::new().wait_for_listener(true).connect(name)?),
        _ => return Err("usage: stencil top|bottom NAME".into()),
    };
    let start = Instant::now();
    let half = run_half(is_top, other)?;
    let rate = STEPS as f64 / start.elapsed().as_secs_f64();

    let whole = run_alone();
    let expected = if is_top { &whole[1..=HALF] } else { &whole[HALF + 1..=SIDE] };
    if half[1..=HALF].as_bytes() != expected.as_bytes() {
        return Err(format!("{}: the result is not that of a single process", words[0]).into());
    }
    println!(
        "{}: {STEPS} steps of {SIDE} x {SIDE} cells, {rate:.0} steps/s, equal to those of a single process",
        words[0]
    );
    Ok(())
}

/// One step of Jacobi's method for one line: each cell becomes the mean of its four neighbours.
fn relax(above: &Line, here: &Line, below: &Line, next: &mut Line) {
    for x in 1..=SIDE {
        next[x] = 0.25 * (above[x] + below[x] + here[x - 1] + here[x + 1]);
    }
}

/// A plate of so many lines, and its border. All is cold; in the top half is a hot spot.
fn plate(lines: usize, is_top: bool) -> Vec<Line> {
    let mut plate = vec![COLD; lines + 2];
    if is_top {
        plate[HALF - 40..HALF - 8].iter_mut().for_each(|line| line[HALF - 40..HALF - 8].fill(100.0));
    }
    plate
}

fn run_alone() -> Vec<Line> {
    let (mut now, mut next) = (plate(SIDE, true), plate(SIDE, false));
    for _ in 0..STEPS {
        for y in 1..=SIDE {
            relax(&now[y - 1], &now[y], &now[y + 1], &mut next[y]);
        }
        std::mem::swap(&mut now, &mut next);
    }
    now
}

fn run_half(is_top: bool, other: Connection) -> Result<Vec<Line>, Error> {
    // SAFETY: the other half is a program of ours, which writes to no line that it has sent.
    let (mut sender, mut receiver) = unsafe { other.trust_peer() }.split();
    let (mut now, mut next) = (plate(HALF, is_top), plate(HALF, false));
    let (edge, rest) = if is_top { (HALF, 1..=HALF - 1) } else { (1, 2..=HALF) };
    let mut message: Option<Message<'_, _>> = None;
    for _ in 0..STEPS {
        // The line at the other half's edge, where it lies in the ring.
        let beyond = match &message {
            Some(message) => Line::ref_from_bytes(message).map_err(|error| format!("no line came: {error}"))?,
            None => &COLD,
        };
        // Our edge first: it travels while the rest is computed.
        let (above, below) = if is_top { (&now[edge - 1], beyond) } else { (beyond, &now[edge + 1]) };
        relax(above, &now[edge], below, &mut next[edge]);
        let mut sent = sender.reserve(size_of::<Line>())?;
        sent.write_at(0, next[edge].as_bytes());
        sent.commit();
        for y in rest.clone() {
            relax(&now[y - 1], &now[y], &now[y + 1], &mut next[y]);
        }
        std::mem::swap(&mut now, &mut next);
        drop(message);
        message = Some(receiver.recv()?);
    }
    Ok(now)
}
