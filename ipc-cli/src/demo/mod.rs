//! `ipc demo`: two processes, a stream and a ping-pong, every byte checked.
//!
//! Promise: exit code 0 says that each message arrived once, in order and unchanged. The rates include making and checking the
//! messages. Refusal: no benchmark; nothing is pinned, warmed up or left out.

mod content;
mod order;
pub(crate) mod peer;
mod report;

use crate::failure::{Code, Failure};
use crate::transfer::seconds;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc_core::{Connection, Listener, RecvError, SendError};
use order::{Header, Load, Order};
use report::{Report, RoundTrips, Stream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long all parts together take unless told otherwise.
const DEFAULT_TIME: Duration = Duration::from_secs(3);
/// How long the other process may take to start.
const STARTING: Duration = Duration::from_secs(10);
/// Bytes in a message of the parts with messages of one size.
const SMALL: usize = 64;
/// Steps of the progress bar for each part.
const STEPS: u64 = 1000;

/// Shows two processes exchanging messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Messages in each part, instead of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Seconds for all parts together [default: 3]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// A part that measures one way: what it is called, and what is sent.
const STREAMS: [(&str, Load); 4] = [
    ("all sizes, one by one", Load { sizes: None, batched: false }),
    ("all sizes, in batches", Load { sizes: None, batched: true }),
    ("64 B, one by one", Load { sizes: Some(SMALL), batched: false }),
    ("64 B, in batches", Load { sizes: Some(SMALL), batched: true }),
];

/// When a part is over.
#[derive(Clone, Copy, Debug)]
struct Limit {
    messages: u64,
    time: Duration,
}

impl Limit {
    fn new(args: &Args) -> Self {
        let whole = args.seconds.or(args.messages.is_none().then_some(DEFAULT_TIME));
        let time = whole.map_or(Duration::MAX, |whole| whole / (STREAMS.len() as u32 + 1));
        Self { messages: args.messages.unwrap_or(u64::MAX), time }
    }

    /// How much of the part is over, in [`STEPS`].
    fn steps(&self, messages: u64, time: Duration) -> u64 {
        let share = (messages as f64 / self.messages as f64).max(time.as_secs_f64() / self.time.as_secs_f64());
        (share.min(1.0) * STEPS as f64) as u64
    }
}

/// Runs the demonstration.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let limit = Limit::new(&args);
    let name = format!("demo-{}", std::process::id());
    let mut listener = Listener::bind(&name)?;
    let mut peer = Peer::start(&name)?;
    let mut demo = Demo { connection: peer.accept(&mut listener)?, limit, bar: bar(args.json) };
    drop(listener);

    let segment = demo.connection.segment_size();
    let max_message = content::longest(demo.connection.sender().max_message()) as u64;
    let mut streams = Vec::new();
    for (at, (name, load)) in STREAMS.into_iter().enumerate() {
        demo.enter(at, name);
        streams.push(demo.stream(name, load).map_err(Failure::from)?);
    }
    demo.enter(STREAMS.len(), "64 B there and back");
    let round_trips = demo.ping_pong()?;
    demo.connection.send(&Order::Quit.encode())?;
    demo.bar.finish_and_clear();
    drop(demo);
    let peer = peer.join()?;

    let report = Report { processes: [std::process::id(), peer], segment, max_message, streams, round_trips };
    report.print(args.json)
}

fn bar(hidden: bool) -> ProgressBar {
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(STEPS * (STREAMS.len() as u64 + 1)), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// The other process. Dropping it ends the process.
struct Peer(Child);

impl Peer {
    fn start(name: &str) -> Result<Self, Failure> {
        let own = std::env::current_exe().map_err(|error| Failure::os("finding this program", error))?;
        let child = Command::new(own).args(["demo-peer", name]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(child.map_err(|error| Failure::os("starting the other process", error))?))
    }

    /// Waits until it has connected, as long as it lives.
    fn accept(&mut self, listener: &mut Listener) -> Result<Connection, Failure> {
        let start = Instant::now();
        while start.elapsed() < STARTING {
            match listener.accept_timeout(Duration::from_millis(20)) {
                Ok(connection) => return Ok(connection),
                Err(ipc_core::AcceptError::TimedOut { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(Failure::runtime(format!("the other process ended before it connected: {status}")));
            }
        }
        Err(Failure::new(Code::Nobody, format!("the other process did not connect within {STARTING:?}")))
    }

    /// Waits for its end, and says what its number was.
    fn join(mut self) -> Result<u32, Failure> {
        let status = self.0.wait().map_err(|error| Failure::os("waiting for the other process", error))?;
        if !status.success() {
            return Err(Failure::runtime(format!("the other process failed: {status}")));
        }
        Ok(self.0.id())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why a part failed.
enum Trouble {
    Recv(RecvError),
    Send(SendError),
    Check(String),
}

impl From<RecvError> for Trouble {
    fn from(error: RecvError) -> Self {
        Self::Recv(error)
    }
}

impl From<SendError> for Trouble {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Recv(error) => error.into(),
            Trouble::Send(error) => error.into(),
            Trouble::Check(what) => Self::new(Code::Corrupt, format!("a check failed: {what}")),
        }
    }
}

/// The checking side.
struct Demo {
    connection: Connection,
    limit: Limit,
    bar: ProgressBar,
}

impl Demo {
    fn enter(&self, part: usize, name: &'static str) {
        self.bar.set_position(part as u64 * STEPS);
        self.bar.set_message(name);
    }

    /// Has the other process send, and checks what comes.
    fn stream(&mut self, name: &'static str, load: Load) -> Result<Stream, Trouble> {
        let max = content::longest(self.connection.sender().max_message());
        let order = Order::Stream { load, messages: self.limit.messages, time: self.limit.time };
        let (begun, slept) = (self.bar.position(), self.connection.receiver().sleeps());
        let mut copy = vec![0; max];
        let (mut messages, mut bytes) = (0_u64, 0_u64);
        let start = Instant::now();
        self.connection.send(&order.encode())?;
        let report = loop {
            let header = Header::decode(&self.connection.recv()?.to_vec());
            let header = header.ok_or_else(|| Trouble::Check(format!("no block begins after message {messages}")))?;
            if header.first != messages {
                return Err(Trouble::Check(format!("message {} follows message {messages}", header.first)));
            }
            if header.messages == 0 {
                break header;
            }
            let mut left = header.messages;
            while left > 0 {
                let mut batch = self.connection.recv_batch(left)?;
                while let Some(message) = batch.try_next()? {
                    let len = message.copy_to(&mut copy).map_err(RecvError::from)?;
                    content::check(messages, load.len(messages, max), &copy[..len])
                        .map_err(|what| Trouble::Check(format!("message {messages} {what}")))?;
                    messages += 1;
                    bytes += len as u64;
                    left -= 1;
                }
            }
            self.bar.set_position(begun + self.limit.steps(messages, start.elapsed()));
        };
        let seconds = start.elapsed().as_secs_f64();
        let receiver_slept = self.connection.receiver().sleeps() - slept;
        Ok(Stream { name, messages, bytes, seconds, sender_slept: report.slept, receiver_slept })
    }

    /// Sends messages one after the other and checks that each comes back.
    fn ping_pong(&mut self) -> Result<RoundTrips, Trouble> {
        let no_histogram = |error| Trouble::Check(format!("no histogram could be made: {error}"));
        // 1 ns to a minute, to three digits.
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(no_histogram)?;
        let (begun, slept) = (self.bar.position(), self.connection.receiver().sleeps());
        let (mut ping, mut pong) = ([0; SMALL], [0; SMALL]);
        let mut messages = 0;
        self.connection.send(&Order::Echo.encode())?;
        let start = Instant::now();
        let mut now = start;
        while messages < self.limit.messages && now - start < self.limit.time {
            content::fill(messages, &mut ping);
            let sent = Instant::now();
            self.connection.send(&ping)?;
            let message = self.connection.recv()?;
            let len = message.len();
            if len == SMALL {
                message.copy_to(&mut pong).map_err(RecvError::from)?;
            }
            drop(message);
            now = Instant::now();
            if len != SMALL || pong != ping {
                return Err(Trouble::Check(format!("round trip {messages} brought back something else")));
            }
            histogram.saturating_record((now - sent).as_nanos() as u64);
            messages += 1;
            if messages.is_multiple_of(STEPS) {
                self.bar.set_position(begun + self.limit.steps(messages, now - start));
            }
        }
        // Anything but a ping ends the part.
        self.connection.send(&[])?;
        let slept = self.connection.receiver().sleeps() - slept;
        Ok(RoundTrips::new(&histogram, (now - start).as_secs_f64(), slept))
    }
}
