//! The same work through `tokio::net::UnixStream`: the peer to beat.
//!
//! Promise: every message is checked for its number, whole; one `write_all` and one `read_exact` for each. Refusal: nothing is tuned
//! that a program would not do by itself: buffers are those of the system, and of the runtime.

use super::super::process::{Duo, Fallible, Side};
use super::{Form, Message, SIZE, Wait, check, in_runtime, message, trips};
use ::tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use ::tokio::net::UnixStream;
use ::tokio::task::yield_now;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream as Unregistered;
use std::time::Instant;

/// Two ends that fit a runtime.
fn pair() -> io::Result<(Unregistered, Unregistered)> {
    let (near, far) = Unregistered::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    Ok((near, far))
}

/// Nanoseconds of a round trip through a fresh stream: see [`trips`].
///
/// # Errors
/// A message that is not the one expected, or a pair of processes that could not be run.
pub(super) fn round_trip(duo: &Duo, wait: Wait, count: u64) -> Fallible<f64> {
    let warm_up = count / 8 + 8;
    let (near, far) = pair()?;
    let asking = |side: &Side<'_>| {
        in_runtime(async {
            let mut stream = UnixStream::from_std(near)?;
            side.meet()?;
            ask(&mut stream, wait, 0, warm_up).await?;
            ask(&mut stream, wait, warm_up, count).await
        })
    };
    let answering = |side: &Side<'_>| {
        in_runtime(async {
            let mut stream = UnixStream::from_std(far)?;
            side.meet()?;
            for _ in 0..warm_up + count {
                let message = receive(&mut stream, wait).await?;
                stream.write_all(&message).await?;
            }
            Ok(())
        })
    };
    duo.run(asking, answering)
}

async fn ask(stream: &mut UnixStream, wait: Wait, first: u64, count: u64) -> Fallible<f64> {
    let exchange = async |number| {
        stream.write_all(&message(number)).await?;
        check(&receive(stream, wait).await?, number)
    };
    trips(wait, first, count, exchange).await
}

async fn receive(stream: &mut UnixStream, wait: Wait) -> Fallible<Message> {
    let mut message = [0; SIZE];
    match wait {
        Wait::Asleep => {
            stream.read_exact(&mut message).await?;
        }
        Wait::Polling => {
            let mut done = 0;
            while done < SIZE {
                match stream.try_read(&mut message[done..]) {
                    Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                    Ok(len) => done += len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now().await,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(message)
}

/// Nanoseconds a message in one direction, through a fresh stream.
///
/// # Errors
/// As [`round_trip`].
pub(super) fn stream(duo: &Duo, form: Form, messages: u64) -> Fallible<f64> {
    let warm_up = messages / 8 + 8;
    let (near, far) = pair()?;
    let consume = |side: &Side<'_>| {
        in_runtime(async {
            let stream = UnixStream::from_std(near)?;
            side.meet()?;
            match form {
                Form::Bare => timed(stream, warm_up, messages).await,
                Form::Buffered => timed(BufReader::new(stream), warm_up, messages).await,
            }
        })
    };
    let produce = |side: &Side<'_>| {
        in_runtime(async {
            let mut stream = UnixStream::from_std(far)?;
            side.meet()?;
            let total = warm_up + messages;
            match form {
                Form::Bare => {
                    for number in 0..total {
                        stream.write_all(&message(number)).await?;
                    }
                }
                Form::Buffered => {
                    let mut buffer = BufWriter::new(stream);
                    for number in 0..total {
                        buffer.write_all(&message(number)).await?;
                    }
                    buffer.flush().await?;
                }
            }
            Ok(())
        })
    };
    duo.run(consume, produce)
}

/// Nanoseconds a message of those after the first `warm_up`.
async fn timed(mut stream: impl AsyncRead + Unpin, warm_up: u64, messages: u64) -> Fallible<f64> {
    let mut message = [0; SIZE];
    let mut start = Instant::now();
    for number in 0..warm_up + messages {
        if number == warm_up {
            start = Instant::now();
        }
        stream.read_exact(&mut message).await?;
        check(&message, number)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / messages as f64)
}
