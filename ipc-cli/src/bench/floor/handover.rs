//! The round trip between two processes that both sleep in the kernel, an eventfd each.
//!
//! No data travels and nobody polls: it is the price of a sleep, a wake and a system call each way.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use super::super::process::{Duo, Fallible, Side};
use super::nanoseconds_each;

/// Nanoseconds of a round trip in which each side sleeps in read(2) until the other's write(2) wakes it.
///
/// # Errors
///
/// The system refused an eventfd, or the pair of processes could not be run.
pub(crate) fn eventfd_round_trip(duo: &Duo, rounds: u64) -> Fallible<f64> {
    let asked = doorbell()?;
    let answered = doorbell()?;
    let warm_up = rounds / 8 + 1;

    let ask = |side: &Side<'_>| {
        let exchange = |count: u64| -> Fallible<()> {
            for _ in 0..count {
                ring(&asked)?;
                sleep_until_rung(&answered)?;
            }
            Ok(())
        };
        side.meet()?;
        exchange(warm_up)?;
        side.meet()?;
        let start = Instant::now();
        exchange(rounds)?;
        Ok(nanoseconds_each(start, rounds))
    };
    let answer = |side: &Side<'_>| {
        let exchange = |count: u64| -> Fallible<()> {
            for _ in 0..count {
                sleep_until_rung(&asked)?;
                ring(&answered)?;
            }
            Ok(())
        };
        side.meet()?;
        exchange(warm_up)?;
        side.meet()?;
        exchange(rounds)
    };
    duo.run(ask, answer)
}

fn doorbell() -> Fallible<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| format!("cannot make an eventfd: {errno}").into())
}

/// Adds one to the doorbell's count, which wakes its sleeper.
fn ring(bell: impl AsFd) -> Fallible<()> {
    loop {
        match write(&bell, &1u64.to_ne_bytes()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(format!("cannot ring the eventfd: {errno}").into()),
        }
    }
}

/// Sleeps until the doorbell's count is above zero, and sets it to zero.
fn sleep_until_rung(bell: impl AsFd) -> Fallible<()> {
    let mut count = [0u8; 8];
    loop {
        match read(&bell, &mut count) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(format!("cannot sleep on the eventfd: {errno}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_through_two_sleeps_ends_and_takes_time() {
        let Ok(duo) = Duo::new() else { return };
        assert!(eventfd_round_trip(&duo, 50).unwrap() > 0.0);
    }
}
